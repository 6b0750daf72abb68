//! The gRPC probe: one `grpc.health.v1.Health/Check` call; success is `SERVING`.
//!
//! | answer | outcome |
//! |---|---|
//! | `SERVING` | success |
//! | `NOT_SERVING`, `UNKNOWN`, `SERVICE_UNKNOWN`, status `NOT_FOUND` | `not_serving` |
//! | status `UNIMPLEMENTED` | `protocol`: the server has no health service |
//! | status `DEADLINE_EXCEEDED` | `timeout_response` |
//! | any other status | `status` |
//!
//! The connection is kept between probes, unless `keep_alive` is false, as long as there is a place for
//! it (`Places`). A kept connection that turns out to be broken says nothing about the target (it may
//! have restarted), so the call is then made once more on a new one, within the same deadline. None
//! is kept for ever: the name is looked up, the address judged and the certificate checked only when a
//! connection is made.
//!
//! The call is written and read here (`request`, `answer`, `call`), on a connection that nothing drives
//! between probes. A server may say how long its answer holds (`ttl_seconds` in the metadata of the
//! answer), and it may be listened to between probes (`watch`): then a connection is needed that is
//! driven all the time, and it is the library's (`channel`).

mod answer;
mod call;
mod channel;
mod kept;
mod request;
mod watch;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, str::FromStr};

use ::url::Url;
use tonic::{Code, metadata};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use self::{
    answer::{Reply, Said},
    call::Connection,
    channel::Channel,
    kept::Held,
    request::Request,
};
pub(super) use self::{
    call::Lone,
    kept::{Kept, Place, Places},
};
use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    form::Form,
    http::{Authority, HeaderValue},
    resolve::Close,
    tls,
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::{Answer, Outcome, Phase, Reason, Serving};

/// A gRPC check (`grpc.health.v1`).
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Grpc")]
pub struct Spec {
    /// The service to ask about, as `shop.v1.Cart`. Default: empty, the server as a whole.
    pub service: String,
    /// Speak TLS, and check the target's certificate so. Default: plaintext.
    pub tls: Option<tls::Spec>,
    /// Metadata to send with the call. Default: none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub metadata: BTreeMap<MetadataName, HeaderValue>,
    /// The `:authority` of the call. Default: the host and port that are probed.
    pub authority: Option<Authority>,
    /// Keep the connection from one probe to the next, ten minutes at most. Quicker and kinder to the
    /// target, but such a check does not see that new connections fail, nor that the name leads
    /// elsewhere by now. If the target has closed the connection meanwhile, the call is made again on a
    /// new one. Default: true.
    pub keep_alive: bool,
    /// Keep a `Watch` stream open on the connection that is kept between probes, and ask at once when
    /// the server tells of a change or the connection breaks. A server without `Watch` is asked at its
    /// intervals alone, and tried again after 10 minutes. Costs the server a stream. Default: false.
    pub watch: bool,
    /// In whose words it speaks.
    #[serde(skip)]
    pub form: Form,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            service: String::new(),
            tls: None,
            metadata: BTreeMap::new(),
            authority: None,
            keep_alive: true,
            watch: false,
            form: Form::Own,
        }
    }
}

/// The name of a piece of metadata: lower case, not binary.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct MetadataName(Box<str>);

/// A text that is not a [`MetadataName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataNameError {
    /// A character that has no place in a name.
    #[error("`{0}` is not a metadata name: use lower case letters, digits, `-`, `_` and `.`")]
    Syntax(String),
    /// Binary metadata.
    #[error("binary metadata (a name that ends in `-bin`) is not supported")]
    Binary,
    /// A name that gRPC uses itself.
    #[error("metadata that starts with `grpc-` is gRPC's own; leave it out")]
    Reserved,
}

/// A gRPC check made ready.
pub(super) struct Probe {
    spec: Spec,
    tls: Option<tls::Client>,
    request: Request,
    /// For the library.
    metadata: metadata::MetadataMap,
}

impl Spec {
    /// What `grpc://host:port/service` and `grpcs://…` ask.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        let service = url.path().trim_start_matches('/').to_owned();
        let tls = (url.scheme() == "grpcs").then(tls::Spec::default);
        Ok((Self { service, tls, ..Self::default() }, url::endpoint(url)?))
    }

    /// What is asked: `10.0.0.1:50051/shop.v1.Cart`.
    pub(super) fn url(&self, endpoint: &Endpoint) -> String {
        if self.service.is_empty() {
            endpoint.to_string()
        } else {
            format!("{endpoint}/{}", self.service)
        }
    }
}

impl MetadataName {
    /// The name as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MetadataName {
    type Err = MetadataNameError;

    fn from_str(text: &str) -> Result<Self, MetadataNameError> {
        let is_name_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_name_byte) {
            return Err(MetadataNameError::Syntax(text.chars().take(32).collect()));
        }
        if text.ends_with("-bin") {
            return Err(MetadataNameError::Binary);
        }
        if text.starts_with("grpc-") {
            return Err(MetadataNameError::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for MetadataName {
    type Error = MetadataNameError;

    fn try_from(text: String) -> Result<Self, MetadataNameError> {
        text.parse()
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        if spec.watch && !spec.keep_alive {
            let rule = "`watch` needs the connection that `keep_alive: false` does not keep";
            return Err(PrepareError::Conflict(rule));
        }
        let tls =
            spec.tls.as_ref().map(|tls| tls::Client::prepare(tls, Some(b"h2"))).transpose()?;
        let mut metadata = metadata::MetadataMap::new();
        for (name, value) in &spec.metadata {
            let unusable = || PrepareError::Metadata(name.as_str().to_owned());
            let key = metadata::AsciiMetadataKey::from_bytes(name.as_str().as_bytes())
                .map_err(|_| unusable())?;
            metadata.insert(key, value.as_str().parse().map_err(|_| unusable())?);
        }
        Ok(Self { spec: spec.clone(), tls, request: Request::new(spec), metadata })
    }

    pub(super) fn tls(&self) -> Option<&tls::Client> {
        self.tls.as_ref()
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether it is one call in plain text on a connection of its own.
    pub(super) fn is_lone(&self) -> bool {
        !self.spec.keep_alive && self.tls.is_none()
    }

    fn request(&self) -> tonic::Request<HealthCheckRequest> {
        let message = HealthCheckRequest { service: self.spec.service.clone() };
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.tls == other.tls
    }
}

/// Calls on a connection of its own, or on the one that is kept, if it is to be.
pub(super) async fn probe(
    probe: &Probe,
    endpoint: &Endpoint,
    kept: Option<(&Kept, &Places)>,
    trace: &mut Trace,
) -> Result<(), Fault> {
    match kept {
        // Boxed: rare, and far larger than the rest.
        Some(kept) if kept.0.watch().is_some() => {
            Box::pin(probe_watched(probe, endpoint, kept, trace)).await
        }
        Some(kept) => probe_kept(probe, endpoint, kept, trace).await,
        None => {
            let mut connection = Connection::open(probe, endpoint, Close::Reset, trace).await?;
            judge(connection.call(probe, endpoint, trace).await?, trace)
        }
    }
}

/// Calls on the kept connection, else on a new one, and keeps it if it still works afterwards and
/// one of `places` is free.
async fn probe_kept(
    probe: &Probe,
    endpoint: &Endpoint,
    (kept, places): (&Kept, &Places),
    trace: &mut Trace,
) -> Result<(), Fault> {
    if let Some(Held::Connection(mut held)) = kept.take()
        && held.0.is_fit(probe)
    {
        trace.certificate = held.0.certificate();
        // The connection's own failure is not the target's.
        if let Ok(reply) = held.0.call(probe, endpoint, trace).await {
            if is_whole(&reply) && held.0.settle() {
                kept.put(Held::Connection(held));
            }
            return judge(reply, trace);
        }
        trace.distrust();
    }
    let place = places.take();
    // A kept connection is closed in order: the target's log should not blame us.
    let close = if place.is_some() { Close::Fin } else { Close::Reset };
    let mut connection = Connection::open(probe, endpoint, close, trace).await?;
    let reply = connection.call(probe, endpoint, trace).await?;
    if let Some(place) = place
        && is_whole(&reply)
        && connection.settle()
    {
        kept.put(Held::Connection(Box::new((connection, place))));
    }
    judge(reply, trace)
}

/// The same, on a connection on which the target is also listened to.
async fn probe_watched(
    probe: &Probe,
    endpoint: &Endpoint,
    (kept, places): (&Kept, &Places),
    trace: &mut Trace,
) -> Result<(), Fault> {
    if let Some(Held::Channel(mut held)) = kept.take()
        && held.0.is_fit()
    {
        let channel = &mut held.0;
        trace.peer = Some(channel.peer());
        trace.certificate = channel.certificate();
        trace.enter(Phase::Exchange);
        // The connection's own failure is not the target's.
        if let Ok(reply) = channel.check(probe.request()).await {
            keep(probe, kept, held, &reply);
            return judge(reply, trace);
        }
        trace.distrust();
    }
    let mut channel = Channel::open(probe, endpoint, trace).await?;
    trace.enter(Phase::Exchange);
    let reply = channel.check(probe.request()).await?;
    if let Some(place) = places.take() {
        keep(probe, kept, Box::new((channel, place)), &reply);
    }
    judge(reply, trace)
}

/// Keeps a connection, and listens on it.
fn keep(probe: &Probe, kept: &Kept, mut held: Box<(Channel, Place)>, reply: &Reply) {
    if let Some(watch) = kept.watch() {
        held.0.watch(watch, probe.request(), watch::seen(reply));
    }
    kept.put(Held::Channel(held));
}

/// Whether nothing more can come of the call.
fn is_whole(reply: &Reply) -> bool {
    match reply.said {
        Said::Status(_) | Said::Refused(..) => true,
        Said::Broken(_) => false,
    }
}

/// What the server's answer means.
fn judge(reply: Reply, trace: &mut Trace) -> Result<(), Fault> {
    trace.ask_again = reply.ttl;
    let (serving, outcome, seen) = match reply.said {
        Said::Status(status) => serving(status),
        Said::Refused(code, message) => {
            let (serving, reason) = refusal(code);
            let text = if message.is_empty() {
                format!("gRPC status {code:?}")
            } else {
                format!("gRPC status {code:?}: {message}")
            };
            (serving, Outcome::Failure(reason), text)
        }
        Said::Broken(problem) => return Err(Fault::new(Reason::Protocol, problem)),
    };
    trace.answer = serving.map_or(Answer::None, Answer::Grpc);
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Warning(_) | Outcome::Failure(_) | Outcome::Inconclusive(_) => {
            Err(Fault { outcome, detail: format!("{seen}; expected SERVING") })
        }
    }
}

fn serving(status: i32) -> (Option<Serving>, Outcome, String) {
    let serving = match ServingStatus::try_from(status) {
        Ok(ServingStatus::Serving) => Serving::Serving,
        Ok(ServingStatus::NotServing) => Serving::NotServing,
        Ok(ServingStatus::Unknown) => Serving::Unknown,
        Ok(ServingStatus::ServiceUnknown) => Serving::ServiceUnknown,
        Err(_) => {
            let seen = format!("unknown serving status {status}");
            return (None, Outcome::Failure(Reason::Protocol), seen);
        }
    };
    let outcome = match serving {
        Serving::Serving => Outcome::Success,
        Serving::Unknown
        | Serving::NotServing
        | Serving::ServiceUnknown
        | Serving::Unimplemented => Outcome::Failure(Reason::NotServing),
    };
    (Some(serving), outcome, serving.to_string())
}

fn refusal(code: Code) -> (Option<Serving>, Reason) {
    match code {
        Code::NotFound => (Some(Serving::ServiceUnknown), Reason::NotServing),
        Code::Unimplemented => (Some(Serving::Unimplemented), Reason::Protocol),
        Code::DeadlineExceeded => (None, Reason::TimeoutResponse),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => (None, Reason::Status),
    }
}
