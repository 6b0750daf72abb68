//! The certificate probe: success is a certificate that is trusted, is for the name asked for, and
//! lives long enough.
//!
//! | certificate | outcome |
//! |---|---|
//! | has expired, is not valid yet, or lives shorter than `critical_before` | `tls_expired` |
//! | is for another name | `tls_name` |
//! | is signed by nobody trusted, unless `trust` is false | `tls_untrusted` |
//! | lives shorter than `warning_before` | a warning, `tls_expired` |
//!
//! What counts is the certificate of the presented chain that expires first: a server whose
//! intermediate certificate runs out is as unreachable as one whose own does. Nothing is asked of
//! the target beyond the handshake.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ::url::Url;

use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    resolve::{self, Acknowledge, Close},
    tls::{self, Starttls},
    trace::Trace,
    url::{self, UrlError},
};
use crate::{
    clock::{self, Timestamp},
    duration::Period,
    model::{Certificate, Reason},
};

/// A check of the certificate that a target presents: whether it is trusted, for the right name, and
/// how long it lives. Once an hour is enough: `interval: 1h`.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Certificate")]
pub struct Spec {
    /// A certificate that lives shorter than this is a warning. Default: 30d.
    pub warning_before: Period,
    /// One that lives shorter than this is a failure; at most `warning_before`. Default: 7d.
    pub critical_before: Period,
    /// Whether it must be signed by an authority that is trusted. Its name and dates count either
    /// way. Default: true.
    pub trust: bool,
    /// How it is checked; with `insecure_skip_verify` its dates alone count. Default: the system's
    /// authorities must vouch for the host that is probed.
    pub tls: Option<tls::Spec>,
    /// Begin in plain text, and go over to TLS in the words of this protocol. Default: none, TLS from
    /// the first byte.
    pub starttls: Option<Starttls>,
}

impl Default for Spec {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            warning_before: Period::from_secs(30 * DAY),
            critical_before: Period::from_secs(7 * DAY),
            trust: true,
            tls: None,
            starttls: None,
        }
    }
}

/// A certificate check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
    tls: tls::Client,
}

impl Spec {
    /// What `certificate://host:port` asks.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        Ok((Self::default(), url::endpoint(url)?))
    }

    /// How certificates are checked, to be changed.
    pub(super) fn tls_mut(&mut self) -> &mut tls::Spec {
        self.tls.get_or_insert_default()
    }

    /// Whether the certificate must be for the name that is asked for.
    fn is_named(&self) -> bool {
        !self.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify)
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        if spec.critical_before.get() > spec.warning_before.get() {
            let rule = "`critical_before` must not be longer than `warning_before`";
            return Err(PrepareError::Conflict(rule));
        }
        let mut tls = spec.tls.clone().unwrap_or_default();
        tls.insecure_skip_verify |= !spec.trust;
        Ok(Self { spec: spec.clone(), tls: tls::Client::prepare(&tls, None)? })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }
}

/// Connects, makes the handshake, and judges what was presented.
pub(super) async fn probe(
    probe: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let is_greeted = probe.spec.starttls.is_some_and(Starttls::is_greeted);
    let acknowledge = if is_greeted { Acknowledge::AtOnce } else { Acknowledge::Late };
    // A reset could overtake the end of the handshake, which a server logs.
    let options = resolve::Options { close: Close::Fin, acknowledge };
    let mut stream = resolve::connect(endpoint, options, trace).await?;
    if let Some(starttls) = probe.spec.starttls {
        starttls.prepare(&mut stream, trace).await?;
    }
    probe.tls.connect(&endpoint.host, stream, trace).await?;
    match trace.certificate() {
        Some(certificate) => judge(&probe.spec, &certificate, clock::now()),
        None => Err(Fault::new(Reason::TlsOther, "the certificate presented cannot be read")),
    }
}

/// What is to be said of a certificate that was accepted so far.
fn judge(spec: &Spec, certificate: &Certificate, now: Timestamp) -> Result<(), Fault> {
    if spec.is_named() && !certificate.is_for_name {
        let detail = format!("the certificate of {} is for another name", certificate.subject);
        return Err(Fault::new(Reason::TlsName, detail));
    }
    if certificate.start > now {
        let detail = format!("the certificate is not valid before {}", certificate.start);
        return Err(Fault::new(Reason::TlsExpired, detail));
    }
    let which = if certificate.chain_expiry < certificate.expiry {
        "a certificate of the chain"
    } else {
        "the certificate"
    };
    let expiry = certificate.chain_expiry;
    if expiry <= now {
        let detail = format!("{which} expired at {expiry}");
        return Err(Fault::new(Reason::TlsExpired, detail));
    }
    let left = expiry.since(now);
    let below = |bound: Period| {
        let days = days(left);
        (left < bound.get())
            .then(|| format!("{which} expires at {expiry}, in {days} days; less than {bound}"))
    };
    if let Some(detail) = below(spec.critical_before) {
        return Err(Fault::new(Reason::TlsExpired, detail));
    }
    below(spec.warning_before)
        .map_or(Ok(()), |detail| Err(Fault::warning(Reason::TlsExpired, detail)))
}

fn days(time: Duration) -> u64 {
    time.as_secs() / 86_400
}
