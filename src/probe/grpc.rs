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
//! The connection is kept between probes, as long as there is a place for it (`Places`). A kept
//! connection that turns out to be broken says nothing about the target (it may have restarted), so
//! the call is then made once more on a new one, within the same deadline. One with TLS is not kept
//! for ever: the target's certificate is checked only when a connection is made.
//!
//! A server may say how long its answer holds (`ttl_seconds` in the metadata of the answer), and it may
//! be listened to between probes (`watch`).

mod channel;
mod kept;
mod watch;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use ::url::Url;
use tonic::{Code, metadata};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use self::channel::Channel;
pub(super) use self::kept::{Kept, Place, Places};
use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    http::{Authority, HeaderValue},
    tls,
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::{Answer, Outcome, Phase, Reason, Serving};

/// A gRPC check (`grpc.health.v1`).
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
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
    /// Keep a `Watch` stream open on the connection that is kept between probes, and ask at once when
    /// the server tells of a change or the connection breaks. A server without `Watch` is asked at its
    /// intervals alone, and tried again after 10 minutes. Costs the server a stream. Default: false.
    pub watch: bool,
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
        let tls =
            spec.tls.as_ref().map(|tls| tls::Client::prepare(tls, Some(b"h2"))).transpose()?;
        let mut metadata = metadata::MetadataMap::new();
        for (name, value) in &spec.metadata {
            let unusable = || PrepareError::Metadata(name.as_str().to_owned());
            let key = metadata::AsciiMetadataKey::from_bytes(name.as_str().as_bytes())
                .map_err(|_| unusable())?;
            metadata.insert(key, value.as_str().parse().map_err(|_| unusable())?);
        }
        Ok(Self { spec: spec.clone(), tls, metadata })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
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

/// Calls on the kept connection, else on a new one, and keeps it if it still works afterwards and
/// one of `places` is free.
pub(super) async fn probe(
    probe: &Probe,
    endpoint: &Endpoint,
    (kept, places): (&Kept, &Places),
    trace: &mut Trace,
) -> Result<(), Fault> {
    if let Some(mut held) = kept.take()
        && held.0.is_fit()
    {
        let channel = &mut held.0;
        trace.peer = Some(channel.peer());
        trace.certificate = channel.certificate();
        trace.enter(Phase::Exchange);
        // The connection's own failure is not the target's.
        if let Ok(answer) = channel.check(probe.request()).await {
            keep(probe, kept, held, &answer);
            return judge(answer, trace);
        }
    }
    let mut channel = Channel::open(probe, endpoint, trace).await?;
    trace.enter(Phase::Exchange);
    let answer = channel.check(probe.request()).await?;
    if let Some(place) = places.take() {
        keep(probe, kept, Box::new((channel, place)), &answer);
    }
    judge(answer, trace)
}

/// What a call was answered.
type Reply = Result<tonic::Response<HealthCheckResponse>, tonic::Status>;

/// Keeps a connection, and listens on it if that is wanted.
fn keep(probe: &Probe, kept: &Kept, mut held: Box<(Channel, Place)>, answer: &Reply) {
    if let Some(watch) = kept.watch() {
        held.0.watch(watch, probe.request(), watch::seen(answer));
    }
    kept.put(held);
}

/// What is not called gRPC is none, whatever it looks like ("gRPC over HTTP2", Responses).
fn is_grpc(metadata: &metadata::MetadataMap) -> Result<(), Fault> {
    let content_type = metadata.get("content-type").map(metadata::MetadataValue::as_bytes);
    if content_type.is_none_or(|content_type| content_type.starts_with(b"application/grpc")) {
        return Ok(());
    }
    Err(Fault::new(Reason::Protocol, "the answer's content type is not application/grpc"))
}

/// How long a server says that its answer holds, in whole seconds: the metadata `ttl_seconds` or
/// `ttl-seconds`. There is no standard; what is no such number is passed over.
fn ttl(metadata: &metadata::MetadataMap) -> Option<Duration> {
    let value = ["ttl_seconds", "ttl-seconds"].iter().find_map(|name| metadata.get(*name))?;
    let seconds: u32 = value.to_str().ok()?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// What the server's answer means.
fn judge(answer: Reply, trace: &mut Trace) -> Result<(), Fault> {
    let (serving, outcome, seen) = match answer {
        Ok(response) => {
            trace.ask_again = ttl(response.metadata());
            is_grpc(response.metadata())?;
            serving(response.into_inner())
        }
        Err(status) => {
            trace.ask_again = ttl(status.metadata());
            let (serving, reason) = refusal(&status);
            let code = format!("{:?}", status.code());
            let text = if status.message().is_empty() {
                format!("gRPC status {code}")
            } else {
                format!("gRPC status {code}: {}", status.message())
            };
            (serving, Outcome::Failure(reason), text)
        }
    };
    trace.answer = serving.map_or(Answer::None, Answer::Grpc);
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Warning(_) | Outcome::Failure(_) | Outcome::Inconclusive(_) => {
            Err(Fault { outcome, detail: format!("{seen}; expected SERVING") })
        }
    }
}

fn serving(response: HealthCheckResponse) -> (Option<Serving>, Outcome, String) {
    let serving = match ServingStatus::try_from(response.status) {
        Ok(ServingStatus::Serving) => Serving::Serving,
        Ok(ServingStatus::NotServing) => Serving::NotServing,
        Ok(ServingStatus::Unknown) => Serving::Unknown,
        Ok(ServingStatus::ServiceUnknown) => Serving::ServiceUnknown,
        Err(_) => {
            let seen = format!("unknown serving status {}", response.status);
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

fn refusal(status: &tonic::Status) -> (Option<Serving>, Reason) {
    match status.code() {
        Code::NotFound => (Some(Serving::ServiceUnknown), Reason::NotServing),
        Code::Unimplemented => (Some(Serving::Unimplemented), Reason::Protocol),
        Code::DeadlineExceeded => (None, Reason::TimeoutResponse),
        // What the client library says of a message that is too large.
        Code::OutOfRange => (None, Reason::Protocol),
        // What it says of a message that breaks the protocol.
        Code::Internal | Code::Unknown if is_our_own_word(status.message()) => {
            (None, Reason::Protocol)
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => (None, Reason::Status),
    }
}

fn is_our_own_word(message: &str) -> bool {
    ["protocol error", "Unexpected EOF", "Missing response message", "failed to decode"]
        .iter()
        .any(|start| message.starts_with(start))
}
