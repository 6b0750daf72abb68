//! The TCP probe: success is a connection, with TLS from its beginning or after STARTTLS if asked for,
//! and then the answer expected if any is.
//!
//! An answer that is cut short is told apart by what came before: a target that closes the
//! connection without a word is `connection_reset`; one that said something else than expected, and
//! closed or went on past 64 KiB, is `body`. One that said something else and then kept silent is
//! `timeout_response`, for it might have gone on; the detail shows what it said.

mod bytes;

#[cfg(test)]
mod tests;

use ::url::Url;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

pub use self::bytes::{Bytes, BytesError};
use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::{Fault, printable},
    pattern::{Expectation, Pattern},
    resolve::{self, Acknowledge, Close},
    tls::{self, Starttls},
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::{Phase, Reason};

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// Most bytes of an answer that are shown.
const SHOWN: usize = 80;

/// A TCP check.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Tcp")]
pub struct Spec {
    /// Speak TLS, and check the target's certificate so. Default: plain TCP.
    pub tls: Option<tls::Spec>,
    /// Begin in plain text, and go over to TLS in the words of this protocol; implies `tls`. What is
    /// sent and expected comes after that. Default: none, TLS from the first byte if at all.
    pub starttls: Option<Starttls>,
    /// What to send once connected, with the escapes `\r` `\n` `\t` `\0` `\\` and `\x1f`.
    /// Default: nothing.
    pub send: Option<Bytes>,
    /// What the first 64 KiB of the answer must contain, with the escapes of `send`. Default:
    /// nothing, and no answer is read.
    pub expect: Option<Bytes>,
    /// Regular expression that the first 64 KiB of the answer must match somewhere. Default: none.
    pub expect_matches: Option<Pattern>,
    /// How to end the connection; after a `send` without an expectation always `fin`. Default:
    /// `reset`.
    pub close: Close,
}

/// A TCP check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
    tls: Option<tls::Client>,
}

impl Spec {
    /// What `tcp://host:port` and `tls://host:port` ask.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        let tls = (url.scheme() == "tls").then(tls::Spec::default);
        Ok((Self { tls, ..Self::default() }, url::endpoint(url)?))
    }

    /// How certificates are checked, to be changed; nothing without TLS.
    pub(super) fn tls_mut(&mut self) -> Option<&mut tls::Spec> {
        if self.starttls.is_some() {
            return Some(self.tls.get_or_insert_default());
        }
        self.tls.as_mut()
    }

    /// What a success reads like, in Consul's words.
    pub(super) fn success(&self, url: &str) -> String {
        let is_tls = self.tls.is_some() || self.starttls.is_some();
        let with = if is_tls { "TCP+TLS" } else { "TCP" };
        format!("{with} connect {url}: Success")
    }

    fn expects_answer(&self) -> bool {
        self.expect.is_some() || self.expect_matches.is_some()
    }

    fn expectation(&self) -> Expectation<'_> {
        Expectation { text: self.expect.as_ref(), pattern: self.expect_matches.as_ref() }
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        let asked = spec.clone().tls_mut().cloned();
        let tls = asked.map(|tls| tls::Client::prepare(&tls, None)).transpose()?;
        Ok(Self { spec: spec.clone(), tls })
    }

    pub(super) fn tls(&self) -> Option<&tls::Client> {
        self.tls.as_ref()
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether a connection is all that is asked for.
    pub(super) fn is_lone(&self) -> bool {
        self.tls.is_none() && self.spec.send.is_none() && !self.spec.expects_answer()
    }

    /// How the connection ends. A reset could overtake what was sent, and what nobody answers must
    /// at least arrive.
    pub(super) fn close(&self) -> Close {
        let is_heard = self.spec.expects_answer() || self.spec.send.is_none();
        if is_heard { self.spec.close } else { Close::Fin }
    }

    /// A fault with what was expected and what came.
    pub(super) fn describe(&self, mut fault: Fault, answer: &[u8]) -> Fault {
        if self.spec.expects_answer() && !answer.is_empty() {
            let got = printable(answer.trim_ascii(), SHOWN);
            let expected = printable(self.spec.expectation().to_string().as_bytes(), SHOWN);
            fault.detail = format!("{}; expected {expected}; got \"{got}\"", fault.detail);
        }
        fault
    }
}

/// Connects, and speaks as far as asked.
pub(super) async fn probe(
    probe: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let spec = &probe.spec;
    // Where we speak first, or not at all, the target need not be told early that it was heard.
    let waits = match spec.starttls {
        Some(starttls) => starttls.is_greeted(),
        None => spec.expects_answer() && spec.send.is_none() && spec.tls.is_none(),
    };
    let acknowledge = if waits { Acknowledge::AtOnce } else { Acknowledge::Late };
    let options = resolve::Options { close: probe.close(), acknowledge };
    let mut stream = resolve::connect(endpoint, options, trace).await?;
    match &probe.tls {
        None => converse(spec, &mut stream, trace).await,
        Some(tls) => {
            Box::pin(async move {
                if let Some(starttls) = spec.starttls {
                    starttls.prepare(&mut stream, trace).await?;
                }
                let mut stream = tls.connect(&endpoint.host, stream, trace).await?;
                converse(spec, &mut stream, trace).await
            })
            .await
        }
    }
}

async fn converse<S>(spec: &Spec, stream: &mut S, trace: &mut Trace) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if spec.send.is_none() && !spec.expects_answer() {
        return Ok(());
    }
    trace.enter(Phase::Exchange);
    if let Some(bytes) = &spec.send {
        stream.write_all(bytes.as_slice()).await.map_err(|error| Fault::exchange(&error))?;
        stream.flush().await.map_err(|error| Fault::exchange(&error))?;
    }
    if !spec.expects_answer() {
        return Ok(());
    }
    while !spec.expectation().is_met(&trace.buffer) {
        if trace.buffer.len() >= MAX_ANSWER {
            return Err(Fault::new(Reason::Body, "the first 64 KiB are not as expected"));
        }
        let read = trace.fill(stream).await?;
        trace.buffer.truncate(MAX_ANSWER);
        if read == 0 {
            return Err(if trace.buffer.is_empty() {
                let detail = "the target closed the connection without an answer";
                Fault::new(Reason::ConnectionReset, detail)
            } else {
                Fault::new(Reason::Body, "the answer is not as expected")
            });
        }
    }
    Ok(())
}
