//! Preambles in bytes: `PostgreSQL`, LDAP, `MySQL`.

use super::{Dialogue, declined, protocol, unexpected, unwell};
use crate::{
    model::Reason,
    probe::fault::{Fault, printable},
};

/// `SSLRequest`: its length and the code 80877103 (`PostgreSQL`, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A message 1 that asks for the extended operation 1.3.6.1.4.1.1466.20037.
const EXTENDED_REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// `MySQL`: speak the protocol of 4.1, over TLS, with passwords in the form of 4.1.
const PROTOCOL_41: u32 = 0x0200;
const SSL: u32 = 0x0800;
const SECURE_CONNECTION: u32 = 0x8000;

/// `MySQL`: the collation `utf8mb4_general_ci`.
const UTF8MB4: u8 = 45;

/// The one byte of consent is all that a server may say.
pub(super) async fn postgres(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    dialogue.say(&SSL_REQUEST).await?;
    match dialogue.take(1).await?.as_slice() {
        b"S" => Ok(()),
        b"N" => Err(declined("N")),
        // An error before anything was asked for: no process to spare, or no PostgreSQL.
        other => Err(unexpected(&String::from_utf8_lossy(other))),
    }
}

pub(super) async fn ldap(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const ENUMERATED: u8 = 0x0a;
    const OCTET_STRING: u8 = 0x04;
    const EXTENDED_RESPONSE: u8 = 0x78;
    dialogue.say(EXTENDED_REQUEST).await?;
    let broken = || protocol("not an LDAP answer to a request for TLS");
    let message = element(dialogue, SEQUENCE).await?;
    let mut message = Ber(&message);
    let id = message.take(INTEGER).ok_or_else(broken)?;
    let mut response = Ber(message.take(EXTENDED_RESPONSE).ok_or_else(broken)?);
    let code = response.take(ENUMERATED).ok_or_else(broken)?;
    response.take(OCTET_STRING).ok_or_else(broken)?;
    let text = printable(response.take(OCTET_STRING).ok_or_else(broken)?, super::SHOWN);
    match (id, code) {
        ([1], [0]) => Ok(()),
        ([1], [code]) => Err(declined(&format!("result code {code} {text}"))),
        // Message 0 is the notice that the server is about to hang up.
        ([0], _) => Err(unwell(&format!("notice of disconnection {text}"))),
        _ => Err(broken()),
    }
}

/// The contents of an element of BER (X.690) that has this tag, from the connection.
async fn element(dialogue: &mut Dialogue<'_>, tag: u8) -> Result<Vec<u8>, Fault> {
    let head = dialogue.take(2).await?;
    let (found, short) = (head[0], head[1]);
    if found != tag {
        return Err(unexpected(&String::from_utf8_lossy(&head)));
    }
    let length = if short < 0x80 {
        usize::from(short)
    } else {
        // The form without an end has no place in LDAP (RFC 4511, section 5.1).
        let count = usize::from(short & 0x7f);
        if !(1..=4).contains(&count) {
            return Err(protocol("an element of BER without a usable length"));
        }
        dialogue.take(count).await?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    dialogue.take(length).await
}

/// Elements of BER, one after the other.
struct Ber<'a>(&'a [u8]);

impl<'a> Ber<'a> {
    /// The contents of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[found, short], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(short);
        if short >= 0x80 {
            let count = usize::from(short & 0x7f);
            if !(1..=4).contains(&count) {
                return None;
            }
            let (digits, after) = rest.split_at_checked(count)?;
            length = digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(contents)
    }
}

/// The server greets with its capabilities; what asks for TLS needs no consent.
pub(super) async fn mysql(dialogue: &mut Dialogue<'_>) -> Result<(), Fault> {
    let head = dialogue.take(4).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    let greeting = dialogue.take(length).await?;
    match greeting.first() {
        // Too many connections, this host is blocked.
        Some(0xff) => {
            // After the number of the error its text.
            let text = greeting.get(3..).unwrap_or_default();
            return Err(unwell(&String::from_utf8_lossy(text)));
        }
        Some(10) if head[3] == 0 => {}
        _ => return Err(unexpected(&String::from_utf8_lossy(&greeting))),
    }
    let capabilities = capabilities(&greeting)
        .ok_or_else(|| protocol("a MySQL greeting that ends before its capabilities"))?;
    if u32::from(capabilities) & SSL == 0 {
        return Err(Fault::new(Reason::TlsOther, "the target does not offer TLS"));
    }
    let mut request = vec![32, 0, 0, 1];
    request.extend((PROTOCOL_41 | SSL | SECURE_CONNECTION).to_le_bytes());
    request.extend((1_u32 << 24).to_le_bytes());
    request.push(UTF8MB4);
    request.resize(4 + 32, 0);
    // More than the greeting would be plain text; it must be seen before we speak.
    dialogue.end()?;
    dialogue.say(&request).await
}

/// The lower capabilities of a greeting: after its version, a text that ends with a zero, the
/// connection's number, 8 bytes of salt and a zero.
fn capabilities(greeting: &[u8]) -> Option<u16> {
    let version = greeting[1..].iter().position(|byte| *byte == 0)?;
    let rest = greeting.get(1 + version + 1 + 4 + 8 + 1..)?;
    rest.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}
