//! Preambles in lines of text: SMTP, IMAP, POP3, FTP.

use std::net::IpAddr;

use super::{Dialogue, declined, unexpected, unwell};
use crate::{model::Reason, probe::fault::Fault};

/// RFC 3207: the greeting, `EHLO` with its list, `STARTTLS`.
pub(super) async fn smtp(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    let greeting = reply(dialogue, Lines::Coded).await?;
    if greeting.code != 220 {
        return Err(unwell(&greeting.text));
    }
    let own = dialogue.stream.local_addr().map_err(|error| Fault::exchange(&error))?;
    dialogue.say(format!("EHLO {}\r\n", address_literal(own.ip())).as_bytes()).await?;
    let extensions = reply(dialogue, Lines::Coded).await?;
    if extensions.code != 250 {
        return Err(unwell(&extensions.text));
    }
    if !extensions.keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case("STARTTLS")) {
        return Err(Fault::new(Reason::TlsOther, "the target does not offer STARTTLS"));
    }
    dialogue.say(b"STARTTLS\r\n").await?;
    let consent = reply(dialogue, Lines::Coded).await?;
    if consent.code == 220 { Ok(()) } else { Err(declined(&consent.text)) }
}

/// RFC 4217: the greeting, `AUTH TLS`.
pub(super) async fn ftp(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    // 120 says that the service will be ready in some minutes.
    let greeting = reply(dialogue, Lines::Free).await?;
    if greeting.code != 220 {
        return Err(unwell(&greeting.text));
    }
    dialogue.say(b"AUTH TLS\r\n").await?;
    let consent = reply(dialogue, Lines::Free).await?;
    if consent.code == 234 { Ok(()) } else { Err(declined(&consent.text)) }
}

/// RFC 9051: the greeting, `STARTTLS`. Untagged lines may come at any time.
pub(super) async fn imap(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    let greeting = dialogue.line().await?;
    let upper = greeting.to_ascii_uppercase();
    if upper.starts_with("* BYE") {
        return Err(unwell(&greeting));
    }
    // Who is let in at once can no longer go over to TLS.
    if upper.starts_with("* PREAUTH") {
        return Err(declined(&greeting));
    }
    if !upper.starts_with("* OK") {
        return Err(unexpected(&greeting));
    }
    dialogue.say(b"a1 STARTTLS\r\n").await?;
    loop {
        let line = dialogue.line().await?;
        if line.starts_with("* ") {
            continue;
        }
        let Some(answer) = line.strip_prefix("a1 ") else { return Err(unexpected(&line)) };
        let word = answer.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        return match word.as_str() {
            "OK" => Ok(()),
            "NO" | "BAD" => Err(declined(&line)),
            _ => Err(unexpected(&line)),
        };
    }
}

/// RFC 2595: the greeting, `STLS`.
pub(super) async fn pop3(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    let greeting = dialogue.line().await?;
    if greeting.starts_with("-ERR") {
        return Err(unwell(&greeting));
    }
    if !greeting.starts_with("+OK") {
        return Err(unexpected(&greeting));
    }
    dialogue.say(b"STLS\r\n").await?;
    let consent = dialogue.line().await?;
    if consent.starts_with("+OK") {
        Ok(())
    } else if consent.starts_with("-ERR") {
        Err(declined(&consent))
    } else {
        Err(unexpected(&consent))
    }
}

/// How we call ourselves: without a name of our own, by our address (RFC 5321, section 4.1.3).
fn address_literal(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// What the lines between the first and the last of an answer look like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// Each begins with the code (RFC 5321, section 4.2.1).
    Coded,
    /// As they like (RFC 959, section 4.2).
    Free,
}

/// An answer of SMTP or FTP.
struct Reply {
    code: u16,
    /// The last line.
    text: String,
    /// The first word of each line.
    keywords: Vec<String>,
}

async fn reply(dialogue: &mut Dialogue<'_>, lines: Lines) -> Result<Reply, Fault> {
    let first = dialogue.line().await?;
    let (code, mut is_last, text) = parse(&first).ok_or_else(|| unexpected(&first))?;
    let mut keywords = vec![first_word(text)];
    let mut line = first.clone();
    while !is_last {
        line = dialogue.line().await?;
        match parse(&line).filter(|(other, _, _)| *other == code) {
            Some((_, last, text)) => {
                is_last = last;
                keywords.push(first_word(text));
            }
            None if lines == Lines::Free => {}
            None => return Err(unexpected(&line)),
        }
    }
    Ok(Reply { code, text: line, keywords })
}

fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A line's code, whether it is the answer's last, and its text.
fn parse(line: &str) -> Option<(u16, bool, &str)> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let code = digits.parse().ok()?;
    match rest.bytes().next() {
        None => Some((code, true, "")),
        Some(b' ') => Some((code, true, &rest[1..])),
        Some(b'-') => Some((code, false, &rest[1..])),
        Some(_) => None,
    }
}
