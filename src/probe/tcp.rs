//! The TCP probe: success is a connection, with TLS from its beginning or after STARTTLS if asked for,
//! and then the answers expected if any are.
//!
//! An answer that is cut short is told apart by what came before: a target that closes the
//! connection without a word is `connection_reset`; one that said something else than expected, and
//! closed or went on past 64 KiB, is `body`. One that said something else and then kept silent is
//! `timeout_response`, for it might have gone on; the detail shows what it said.

mod bytes;
mod dialogue;

#[cfg(test)]
mod tests;

use ::url::Url;
use tokio::io::{AsyncRead, AsyncWrite};

use self::dialogue::Dialogue;
pub use self::{
    bytes::{Bytes, BytesError},
    dialogue::Step,
};
use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    pattern::Pattern,
    resolve::{self, Acknowledge, Close},
    tls::{self, Starttls},
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::Phase;

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
    /// What to say and to hear in several steps, 16 at most, instead of `send`, `expect` and
    /// `expect_matches`. Default: none.
    pub dialogue: Vec<Step>,
    /// How to end the connection; after a `send` without an expectation always `fin`. Default:
    /// `reset`.
    pub close: Close,
}

/// A TCP check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
    tls: Option<tls::Client>,
    dialogue: Dialogue,
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
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        let asked = spec.clone().tls_mut().cloned();
        let tls = asked.map(|tls| tls::Client::prepare(&tls, None)).transpose()?;
        let Spec { send, expect, expect_matches, .. } = spec.clone();
        let dialogue = Dialogue::of(&spec.dialogue, Step { send, expect, expect_matches })?;
        Ok(Self { spec: spec.clone(), tls, dialogue })
    }

    pub(super) fn tls(&self) -> Option<&tls::Client> {
        self.tls.as_ref()
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether a connection is all that is asked for.
    pub(super) fn is_lone(&self) -> bool {
        self.tls.is_none() && self.dialogue.is_empty()
    }

    /// How the connection ends. A reset could overtake what was sent, and what nobody answers must
    /// at least arrive.
    pub(super) fn close(&self) -> Close {
        if self.dialogue.ends_heard() { self.spec.close } else { Close::Fin }
    }

    /// A fault with what was expected and what came.
    pub(super) fn describe(&self, fault: Fault, trace: &Trace) -> Fault {
        self.dialogue.describe(fault, trace)
    }

    async fn converse<S>(&self, stream: &mut S, trace: &mut Trace) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.dialogue.is_empty() {
            return Ok(());
        }
        trace.enter(Phase::Exchange);
        self.dialogue.hold(stream, trace).await
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
        None => probe.dialogue.is_greeted() && spec.tls.is_none(),
    };
    let acknowledge = if waits { Acknowledge::AtOnce } else { Acknowledge::Late };
    let options = resolve::Options { close: probe.close(), acknowledge };
    let mut stream = resolve::connect(endpoint, options, trace).await?;
    match &probe.tls {
        None => probe.converse(&mut stream, trace).await,
        Some(tls) => {
            Box::pin(async move {
                if let Some(starttls) = spec.starttls {
                    starttls.prepare(&mut stream, trace).await?;
                }
                let mut stream = tls.connect(&endpoint.host, stream, trace).await?;
                probe.converse(&mut stream, trace).await
            })
            .await
        }
    }
}
