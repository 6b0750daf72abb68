//! STARTTLS: how a protocol that begins in plain text goes over to TLS.
//!
//! Each protocol has a preamble of its own: what is said on the plain connection until both sides
//! begin the handshake. It is kept as short as the protocol lets it be, and says nothing that a
//! server would not hear from any client.
//!
//! Whatever the target says in plain text is read only up to the end of its consent, and at most
//! 16 KiB of it. Bytes that came with the consent are refused (`protocol`): they may have been put
//! there by somebody between us, to be taken for what the target says over TLS (CVE-2011-0411,
//! CVE-2021-23222).
//!
//! | what the target does | reason |
//! |---|---|
//! | says that it cannot serve at all | `status` |
//! | does not offer TLS, or declines | `tls_other` |
//! | breaks its protocol, or says more than its consent | `protocol` |
//! | closes the connection | `connection_reset` |
//! | is silent | `timeout_response` |

mod binary;
mod text;

#[cfg(test)]
mod tests;

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    model::{Phase, Reason},
    probe::{
        fault::{Fault, printable},
        trace::Trace,
    },
};

/// Most bytes of a preamble that are read. Greetings and lists of capabilities are below 2 KiB.
const MAX_BYTES: usize = 16 * 1024;

/// Most bytes of what a target says that are shown.
const SHOWN: usize = 80;

/// The protocol in whose words a target is asked to go over to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Starttls {
    /// Mail transfer and submission: `EHLO`, `STARTTLS` (RFC 3207).
    Smtp,
    /// Mail access: `STARTTLS` (RFC 9051, section 6.2.1).
    Imap,
    /// Mail access: `STLS` (RFC 2595, section 4).
    Pop3,
    /// File transfer: `AUTH TLS` (RFC 4217).
    Ftp,
    /// `PostgreSQL`: the message `SSLRequest`.
    Postgres,
    /// Directories: the extended operation 1.3.6.1.4.1.1466.20037 (RFC 4511, section 4.14).
    Ldap,
    /// `MySQL` and `MariaDB`: the SSL request packet. The server counts an aborted connection.
    Mysql,
}

impl Starttls {
    /// Whether the target says something before it is spoken to.
    pub(in crate::probe) const fn is_greeted(self) -> bool {
        match self {
            Self::Smtp | Self::Imap | Self::Pop3 | Self::Ftp | Self::Mysql => true,
            Self::Postgres | Self::Ldap => false,
        }
    }

    /// Brings the target to begin a handshake.
    pub(in crate::probe) async fn prepare(
        self,
        stream: &mut TcpStream,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        trace.enter(Phase::Exchange);
        // Otherwise a handshake that follows our last word at once waits for its acknowledgement.
        stream.set_nodelay(true).map_err(|error| Fault::connect(&error))?;
        let mut dialogue = Dialogue { stream, trace, heard: Vec::new(), used: 0 };
        match self {
            Self::Smtp => text::smtp(&mut dialogue).await,
            Self::Imap => text::imap(&mut dialogue).await,
            Self::Pop3 => text::pop3(&mut dialogue).await,
            Self::Ftp => text::ftp(&mut dialogue).await,
            Self::Postgres => binary::postgres(&mut dialogue).await,
            Self::Ldap => binary::ldap(&mut dialogue).await,
            Self::Mysql => binary::mysql(&mut dialogue).await,
        }?;
        dialogue.end()
    }
}

/// What is said before the handshake.
struct Dialogue<'a> {
    stream: &'a mut TcpStream,
    trace: &'a mut Trace,
    /// All that the target has said.
    heard: Vec<u8>,
    /// How much of it has been read.
    used: usize,
}

impl Dialogue<'_> {
    async fn say(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).await.map_err(|error| Fault::exchange(&error))
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<String, Fault> {
        let mut seen = self.used;
        loop {
            if let Some(at) = self.heard[seen..].iter().position(|byte| *byte == b'\n') {
                let line = &self.heard[self.used..seen + at];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let line = String::from_utf8_lossy(line).into_owned();
                self.used = seen + at + 1;
                return Ok(line);
            }
            seen = self.heard.len();
            self.hear().await?;
        }
    }

    /// The next `length` bytes.
    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        let end = self.used.saturating_add(length);
        if end > MAX_BYTES {
            return Err(too_long());
        }
        while self.heard.len() < end {
            self.hear().await?;
        }
        let bytes = self.heard[self.used..end].to_vec();
        self.used = end;
        Ok(bytes)
    }

    async fn hear(&mut self) -> Result<(), Fault> {
        if self.heard.len() >= MAX_BYTES {
            return Err(too_long());
        }
        let read = self.trace.fill(self.stream).await?;
        // The trace's buffer is for the answer, which is still to come.
        self.heard.append(&mut self.trace.buffer);
        if read == 0 {
            let detail = "the target closed the connection before the TLS handshake";
            return Err(Fault::new(Reason::ConnectionReset, detail));
        }
        Ok(())
    }

    /// Nothing may have come after the consent.
    fn end(&self) -> Result<(), Fault> {
        if self.used == self.heard.len() {
            return Ok(());
        }
        let rest = printable(&self.heard[self.used..], SHOWN);
        Err(protocol(format!("plain text after the consent to TLS: \"{rest}\"")))
    }
}

fn too_long() -> Fault {
    protocol(format!("more than {MAX_BYTES} bytes before the TLS handshake"))
}

fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}

/// The target says that it cannot serve.
fn unwell(said: &str) -> Fault {
    let said = printable(said.as_bytes(), SHOWN);
    Fault::new(Reason::Status, format!("the target greets with \"{said}\""))
}

/// The target serves, but not over TLS.
fn declined(said: &str) -> Fault {
    let said = printable(said.as_bytes(), SHOWN);
    Fault::new(Reason::TlsOther, format!("the target declines STARTTLS: \"{said}\""))
}

fn unexpected(said: &str) -> Fault {
    let said = printable(said.as_bytes(), SHOWN);
    protocol(format!("not an answer of the protocol asked for: \"{said}\""))
}
