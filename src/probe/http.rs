//! The HTTP probe: one request, on a fresh connection unless it is to be kept; success is a status
//! that is expected, and headers and a body as expected.
//!
//! HTTP/1.1 is written and read here rather than by a client library: a plain probe is one write,
//! a few reads into one buffer and no other allocation, which is a third of the work (and a tenth
//! of the memory in flight) of a general client. What a hostile target can make us keep is bounded:
//! 32 KiB and 100 headers of head, 8 interim answers, 64 KiB of body.
//!
//! An answer that ends before it is whole is `connection_reset`, also if the connection was closed
//! in order. Encoded bodies are not decoded: the request says `Accept-Encoding: identity`.
//!
//! HTTP/2 (`h2`) is the library's, within the same bounds. What a task does beyond one request on a
//! fresh connection, in another version or on a kept one, is in `session`, so that other probes do not
//! carry its state.

mod auth;
mod body;
mod exchange;
mod expected;
mod field;
mod guard;
mod h2;
mod head;
mod json;
mod kept;
mod redirect;
mod request;
mod retry_after;
mod session;
mod status;
mod traceparent;
mod verdict;
mod version;

#[cfg(test)]
mod tests;

use std::{fmt, net::Ipv4Addr};

use ::url::Url;
use tracing::debug;

use self::{
    auth::Credentials,
    body::After,
    expected::ExpectedHeaders,
    head::{Body, Terms},
    request::{Headers, Place, Request},
    session::{Outgoing, Rendering},
};
pub use self::{
    auth::{Auth, AuthError, Basic, User},
    expected::{AnswerHeader, HeaderExpectation},
    field::{Authority, FieldError, HeaderName, HeaderValue, HeaderValues, Method, Path},
    json::{JsonExpectation, JsonPath, JsonPathError},
    status::{StatusSet, StatusSetError},
    traceparent::Traceparent,
    version::{Version, VersionError},
};
pub(super) use self::{
    exchange::{Reader, Received},
    guard::{Allowance, Guarded},
    kept::{Idle, Kept},
    traceparent::Ids,
};
use super::{
    PrepareError,
    egress::{self, Asked, Improper},
    endpoint::{Endpoint, Host},
    fault::Fault,
    form::Form,
    grpc::Places,
    pattern::Pattern,
    resolve::Close,
    tls,
    trace::Trace,
    url::{HttpUrl, Scheme, UrlError},
};
use crate::model::{Answer, Reason};

/// Most expectations of a JSON body: they hold up other probes while they are looked into.
const MAX_JSON: usize = 16;

/// An HTTP check.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Http")]
pub struct Spec {
    /// The request's method. Default: `GET`.
    pub method: Method,
    /// The path to ask for, with its query. Default: `/`.
    pub path: Path,
    /// A whole URL to ask for, instead of the instance's address and `path`. Default: none.
    #[schemars(with = "Option<HttpUrl>")]
    pub url: Option<HttpUrl>,
    /// Speak TLS; `tls` and an `https://` URL imply it. Default: false.
    pub https: bool,
    /// The `Host` header. Default: the host and port that are probed.
    pub host: Option<Authority>,
    /// Headers to send, each with one value or a list of values; not sent to another origin after a
    /// redirect. Default: none beyond `User-Agent` and `Accept`, which can be replaced here.
    #[schemars(with = "std::collections::BTreeMap<String, HeaderValues>")]
    pub headers: Headers,
    /// Credentials to send, from files; not sent to another origin after a redirect. Default: none.
    pub auth: Option<Auth>,
    /// The request's body; a redirect (307, 308) that would have it sent to another origin is not
    /// followed. Default: empty.
    pub body: String,
    /// The statuses that mean success: a status, a range, or a list of these. A 429 that is not
    /// among them is a warning, any other status a failure. Default: `200-299`.
    pub expected_status: StatusSet,
    /// What headers of the answer must be, by their names in any case: a text, which is the whole
    /// value, or a mapping with one of `equals`, `contains`, `matches` and `absent`. Default: none.
    #[schemars(with = "std::collections::BTreeMap<String, HeaderExpectation>")]
    pub expected_headers: ExpectedHeaders,
    /// Text that the first 64 KiB of the body must contain. Default: none.
    pub body_contains: Option<String>,
    /// Regular expression that the first 64 KiB of the body must match somewhere. Default: none.
    pub body_matches: Option<Pattern>,
    /// What the body must be as JSON, at the places that paths lead to; at most 16 expectations. A
    /// body of more than 64 KiB is not read as JSON, which is a failure. Default: none.
    #[schemars(with = "Vec<json::Written>")]
    pub body_json: Vec<JsonExpectation>,
    /// How many redirects to follow, within the same timeout; never from https to http. A redirect
    /// that is not followed is judged by its own status. Default: 0.
    pub follow_redirects: u8,
    /// How to check the target's certificate. Default: by the system's authorities.
    pub tls: Option<tls::Spec>,
    /// How to end the connection; one that was kept is always ended in order. Default: `reset`.
    pub close: Close,
    /// The version of HTTP: `1.1`, `2` (over TLS it must be agreed on by ALPN, without TLS the target
    /// must know: h2c), or `auto`: over TLS the target chooses, without TLS it is 1.1. Redirects are
    /// followed in the same version. Default: `1.1`.
    pub version: Version,
    /// Keep the connection from one probe to the next, ten minutes at most. Quicker and kinder to the
    /// target, but such a check does not see that new connections fail: neither a full accept queue
    /// nor a bad certificate, nor that the name leads elsewhere by now. If the target has closed the
    /// connection meanwhile, or nobody acknowledges for half the timeout (on Linux), the request is
    /// made again on a new one. It is the tripwire as well. Not with `dial: { addresses: each }`, of
    /// which each is asked on a new one. Default: false.
    pub keep_alive: bool,
    /// Send a `traceparent` header (W3C Trace Context) with ids of its own for each probe; a failure
    /// tells the trace's id. `sampled` also sets the flag that asks for the trace to be recorded. Not
    /// sent to another origin after a redirect. Default: false.
    pub traceparent: Traceparent,
    /// In whose words it speaks.
    #[serde(skip)]
    pub form: Form,
}

/// An HTTP check made ready.
#[derive(PartialEq)]
pub(super) struct Probe {
    /// Boxed: far larger than those of the other types.
    spec: Box<Spec>,
    scheme: Scheme,
    before_host: Box<[u8]>,
    after_host: Box<[u8]>,
    credentials: Option<Credentials>,
    tls: Option<tls::Client>,
}

impl Spec {
    pub(super) fn scheme(&self) -> Scheme {
        match &self.url {
            Some(url) => url.scheme,
            None if self.https || self.tls.is_some() => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// Which endpoint is asked.
    pub(super) fn endpoint<'a>(&'a self, instance: &'a Endpoint) -> &'a Endpoint {
        self.url_endpoint().unwrap_or(instance)
    }

    /// Which endpoint is asked, whatever the instance.
    pub(super) fn url_endpoint(&self) -> Option<&Endpoint> {
        self.url.as_ref().map(|url| &url.endpoint)
    }

    /// What `http://host:port/path` and `https://…` ask.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        let HttpUrl { scheme, endpoint, path } = HttpUrl::try_from(url)?;
        Ok((Self { path, https: scheme == Scheme::Https, ..Self::default() }, endpoint))
    }

    /// How certificates are checked, to be changed; nothing without TLS.
    pub(super) fn tls_mut(&mut self) -> Option<&mut tls::Spec> {
        (self.scheme() == Scheme::Https).then(|| self.tls.get_or_insert_default())
    }

    /// What a success reads like, in Consul's words, with what the target said if that is shown.
    pub(super) fn success(&self, url: &str, answer: Answer, said: &str) -> String {
        let status = match answer {
            Answer::Http(code) => verdict::name(code),
            Answer::None | Answer::Grpc(_) => "OK".to_owned(),
        };
        let shown = if self.form.is_consuls() { " Output: " } else { "" };
        format!("HTTP {} {url}: {status}{shown}{said}", self.method.as_str())
    }

    /// What is asked, as a URL.
    pub(super) fn url(&self, instance: &Endpoint) -> String {
        if let Some(url) = &self.url {
            return url.to_string();
        }
        let scheme = self.scheme();
        format!("{}://{}{}", scheme.as_str(), scheme.authority(instance), self.path.as_str())
    }

    /// Whether it may be asked under this policy.
    pub(super) fn is_proper(&self, policy: &egress::Policy) -> Result<(), Improper> {
        let host = self.host.as_ref().map(Authority::as_str);
        let names = self.headers.keys().map(HeaderName::as_str);
        policy.vet_request(Asked { method: &self.method, host }, names)
    }

    /// What is asked of the configured origin.
    fn request<'a>(&'a self, credentials: Option<&'a Credentials>) -> Request<'a> {
        Request {
            method: self.method.as_str(),
            path: self.path().as_str(),
            host: self.host.as_ref(),
            headers: Some(&self.headers),
            credentials,
            body: &self.body,
            after: self.after(),
            form: self.form,
        }
    }

    fn after(&self) -> After {
        if self.keep_alive { After::Keep } else { After::Close }
    }

    fn path(&self) -> &Path {
        self.url.as_ref().map_or(&self.path, |url| &url.path)
    }

    fn expects_body(&self) -> bool {
        self.body_contains.is_some() || self.body_matches.is_some() || !self.body_json.is_empty()
    }

    fn vet(&self) -> Result<(), PrepareError> {
        let conflict = |text| Err(PrepareError::Conflict(text));
        match &self.url {
            // A redirect may lead to TLS.
            Some(url)
                if url.scheme == Scheme::Http
                    && self.tls.is_some()
                    && self.follow_redirects == 0 =>
            {
                return conflict("`tls` is set, but the url starts with http://; use https://");
            }
            Some(url) if url.scheme == Scheme::Http && self.https => {
                return conflict("`https` is set, but the url starts with http://; use https://");
            }
            Some(_) if self.path != Path::default() => {
                return conflict("`url` has a path of its own; remove `path`");
            }
            Some(_) | None => {}
        }
        if self.method.is_head() && self.expects_body() {
            return conflict("the answer to HEAD has no body to match; use GET");
        }
        if self.auth.is_some() && request::is_given(&self.headers, "Authorization") {
            return conflict("both `auth` and `headers` set Authorization; remove one");
        }
        if self.traceparent != Traceparent::Off && request::is_given(&self.headers, "traceparent") {
            return conflict("both `traceparent` and `headers` set traceparent; remove one");
        }
        if self.body_json.len() > MAX_JSON {
            return conflict("`body_json` has more than 16 expectations; make two checks of it");
        }
        Ok(())
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        spec.vet()?;
        let credentials = spec.auth.as_ref().map(Credentials::read).transpose()?;
        let request = spec.request(credentials.as_ref());
        let scheme = spec.scheme();
        let needs_tls = scheme == Scheme::Https || spec.follow_redirects > 0;
        let tls = needs_tls
            .then(|| tls::Client::prepare(&spec.tls.clone().unwrap_or_default(), None))
            .transpose()?
            .map(|tls| match spec.version.protocols() {
                [] => tls,
                protocols => tls.offering(protocols),
            });
        if spec.version != Version::Http1 {
            // Nothing of it depends on who is asked, but for the host.
            let endpoint = Endpoint::new(Host::Ip(Ipv4Addr::LOCALHOST.into()), 1);
            let place = Place { scheme, endpoint: &endpoint, ids: None };
            if request.fields(place).is_err() {
                return Err(PrepareError::Conflict("this path cannot be sent over HTTP/2"));
            }
        }
        Ok(Self {
            scheme,
            before_host: request.before_host().into(),
            after_host: request.after_host().into(),
            credentials,
            tls,
            spec: Box::new(spec.clone()),
        })
    }

    /// Whether one write on a fresh connection is all it takes.
    fn is_plain(&self) -> bool {
        self.spec.version == Version::Http1 && !self.spec.keep_alive
    }

    /// Whether it is one request in plain text.
    pub(super) fn is_lone(&self) -> bool {
        self.spec.version == Version::Http1
            && self.scheme == Scheme::Http
            && self.spec.follow_redirects == 0
    }

    /// Takes in what has come of the answer to a plain request; the answer, once it is whole.
    pub(super) fn take_in(
        &self,
        reader: &mut Reader,
        trace: &mut Trace,
    ) -> Result<Option<Received>, Fault> {
        reader.advance(self.terms(), trace)
    }

    /// What is known of the answer to a plain request before it comes.
    fn terms(&self) -> Terms<'_> {
        let expected = &self.spec.expected_headers;
        Terms { body: self.body(), after: self.spec.after(), expected }
    }

    fn body(&self) -> Body {
        if self.spec.method.is_head() { Body::Forbidden } else { Body::Allowed }
    }

    /// The result without what may not be shown.
    fn redacted(&self, result: Result<(), Fault>) -> Result<(), Fault> {
        result.map_err(|fault| match &self.credentials {
            Some(credentials) => credentials.redact(fault),
            None => fault,
        })
    }

    /// TLS to the configured origin, if that is reached so.
    pub(super) fn tls(&self) -> Option<&tls::Client> {
        self.tls.as_ref().filter(|_| self.scheme == Scheme::Https)
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    fn render(&self, place: Place<'_>, out: &mut Vec<u8>) {
        /// Room for a host, and for most answers.
        const ROOM: usize = 512;
        out.reserve(self.before_host.len() + self.after_host.len() + ROOM);
        out.extend_from_slice(&self.before_host);
        request::write_host(self.spec.host.as_ref(), place, out);
        out.extend_from_slice(&self.after_host);
    }
}

/// The rendered request holds credentials.
impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Asks once, or as often as redirects are to be followed. `kept` is where the connection is kept,
/// if it is.
pub(super) async fn probe(
    probe: &Probe,
    instance: &Endpoint,
    kept: Option<(&Kept, &Places)>,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let result = ask(probe, instance, kept, trace).await;
    probe.redacted(result)
}

/// Sees whether a plain probe may be made, and writes its request.
pub(super) fn begin(probe: &Probe, instance: &Endpoint, trace: &mut Trace) -> Result<(), Fault> {
    announce(&probe.spec, instance, trace)?;
    write(probe, instance, trace);
    Ok(())
}

/// Puts the request of a plain probe into the trace's buffer.
pub(super) fn write(probe: &Probe, instance: &Endpoint, trace: &mut Trace) {
    trace.buffer.clear();
    let endpoint = probe.spec.endpoint(instance);
    let place = Place { scheme: probe.scheme, endpoint, ids: trace.ids.as_deref() };
    probe.render(place, &mut trace.buffer);
}

/// What a plain probe has come to.
pub(super) fn conclude(
    probe: &Probe,
    received: Result<Received, Fault>,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let result = received.and_then(|answer| verdict::judge(&probe.spec, &answer, trace));
    probe.redacted(result)
}

/// Sees whether this may be asked, and gives the probe the ids of a trace of its own, if the target
/// is to be told any.
fn announce(spec: &Spec, instance: &Endpoint, trace: &mut Trace) -> Result<(), Fault> {
    let is_proper = spec.is_proper(&trace.gate.egress);
    is_proper.map_err(|improper| Fault::new(Reason::Denied, improper.to_string()))?;
    if let Some(ids) = spec.traceparent.begin() {
        debug!(trace_id = ids.trace(), url = spec.url(instance), "Probe");
        trace.ids = Some(Box::new(ids));
    }
    Ok(())
}

/// Asks an endpoint once, for a probe of several requests, and leaves the body of the answer in the
/// trace's buffer, its first 64 KiB at most. An answer with another status than expected is a fault;
/// redirects are not followed.
pub(super) async fn fetch(
    probe: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    trace.buffer.clear();
    let answer = request(probe, endpoint, None, trace).await?;
    verdict::judge(&probe.spec, &answer, trace)
}

async fn ask(
    probe: &Probe,
    instance: &Endpoint,
    kept: Option<(&Kept, &Places)>,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let spec = &probe.spec;
    announce(spec, instance, trace)?;
    let answer = request(probe, spec.endpoint(instance), kept, trace).await?;
    if spec.follow_redirects > 0 && answer.head.location.is_some() {
        return Box::pin(redirect::follow(probe, instance, answer, trace)).await;
    }
    verdict::judge(spec, &answer, trace)
}

async fn request(
    probe: &Probe,
    endpoint: &Endpoint,
    kept: Option<(&Kept, &Places)>,
    trace: &mut Trace,
) -> Result<Received, Fault> {
    let spec = &probe.spec;
    let route = exchange::Route {
        endpoint,
        scheme: probe.scheme,
        origin: exchange::Origin::Own,
        body: probe.body(),
    };
    if probe.is_plain() {
        let place = Place { scheme: probe.scheme, endpoint, ids: trace.ids.as_deref() };
        probe.render(place, &mut trace.buffer);
        return exchange::ask(probe, route, trace).await;
    }
    let request = spec.request(probe.credentials.as_ref());
    let outgoing = Outgoing { request, route, rendering: Rendering::Ready };
    // Boxed, as are redirects, so that plain probes do not carry their state.
    match kept {
        Some(kept) => Box::pin(session::ask_kept(probe, outgoing, kept, trace)).await,
        None => Box::pin(session::ask(probe, outgoing, trace)).await,
    }
}
