//! A connection on which a target is also listened to: the library's, driven all the time by tasks of
//! its own, made in phases that are measured like any other probe's.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, combinators::MapFrame};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Code,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use super::{
    Probe,
    answer::{MAX_HEADERS, MAX_MESSAGE, Reply, Said},
    watch::{Stream, Watch},
};
use crate::{
    model::{Certificate, Outcome, Phase, Reason},
    probe::{
        endpoint::Endpoint,
        fault::{self, Fault},
        http::{Allowance, Guarded},
        resolve::{self, Acknowledge, Close},
        tls,
        trace::Trace,
    },
};

/// How long a connection may take to end in order. A target that reads lets it end at once; one
/// that never does would hold our descriptor for ever.
const MAX_GOODBYE: Duration = Duration::from_secs(1);

/// The details of a status, which say nothing to us. The library panics if they are not base64.
const DETAILS: &str = "grpc-status-details-bin";

/// An open connection.
#[derive(Debug)]
pub(super) struct Channel {
    caller: Caller,
    driver: Driver,
    origin: http::Uri,
    peer: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    fit_until: Instant,
    /// The stream of changes on this connection.
    stream: Option<Stream>,
}

/// Calls the health service on a connection.
pub(super) type Client = HealthClient<Caller>;

/// A connection as the generated client wants it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    sender: SendRequest<tonic::body::Body>,
    allowance: Allowance,
}

/// The body of an answer, without what the library cannot bear in its trailers.
type Body = MapFrame<Incoming, fn(Frame<Bytes>) -> Frame<Bytes>>;

impl tower::Service<http::Request<tonic::body::Body>> for Caller {
    type Response = http::Response<Body>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let sent = self.sender.send_request(request);
        Box::pin(async move {
            let mut response = sent.await?;
            response.headers_mut().remove(DETAILS);
            Ok(response.map(|body| body.map_frame(without_details as fn(_) -> _)))
        })
    }
}

fn without_details(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        trailers.remove(DETAILS);
    }
    frame
}

/// The task that knows how a connection ended; it ends with its channel, and the connection's
/// other tasks soon after.
#[derive(Debug)]
struct Driver {
    task: JoinHandle<hyper::Result<()>>,
    _others: DropGuard,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs a connection's other tasks, one of which moves its bytes. Once cancelled, they have
/// [`MAX_GOODBYE`] left.
#[derive(Debug, Clone)]
struct Executor(CancellationToken);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "the task belongs to a channel, which ends it; nobody waits for its result"
    )]
    fn execute(&self, task: F) {
        let cancelled = self.0.clone().cancelled_owned();
        tokio::spawn(async move {
            let overdue = async {
                cancelled.await;
                sleep(MAX_GOODBYE).await;
            };
            tokio::select! {
                () = task => {}
                () = overdue => {}
            }
        });
    }
}

impl Channel {
    /// Connects.
    pub(super) async fn open(
        probe: &Probe,
        endpoint: &Endpoint,
        trace: &mut Trace,
    ) -> Result<Self, Fault> {
        let origin = origin(probe, endpoint)?;
        // A kept connection is closed in order: the target's log should not blame us.
        let options = resolve::Options { close: Close::Fin, acknowledge: Acknowledge::Late };
        let stream = resolve::connect(endpoint, options, trace).await?;
        // Otherwise the kernel holds back the request until the preface is acknowledged: 40 ms.
        stream.set_nodelay(true).map_err(|error| Fault::connect(&error))?;
        resolve::give_up_after(trace.timeout() / 2, &stream);
        let peer = stream.peer_addr().map_err(|error| Fault::connect(&error))?;
        let (caller, driver) = match &probe.tls {
            None => handshake(stream, trace).await?,
            Some(tls) => {
                let stream = tls.connect(&endpoint.host, stream, trace).await?;
                tls::agrees_on_h2(&stream)?;
                handshake(stream, trace).await?
            }
        };
        let certificate = trace.certificate();
        let fit_until = trace.fit_until();
        Ok(Self { caller, driver, origin, peer, certificate, fit_until, stream: None })
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Whether another call may be made on it: it is open, and not too old.
    pub(super) fn is_fit(&self) -> bool {
        !self.caller.sender.is_closed() && Instant::now() < self.fit_until
    }

    /// Makes the call. The error is the connection's, not the server's answer.
    pub(super) async fn check(
        &mut self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<Reply, Fault> {
        self.caller.allowance.renew();
        if let Err(error) = self.caller.sender.ready().await {
            return Err(self.broken(connection_fault(&error)).await);
        }
        match self.client().check(request).await {
            Ok(response) => Ok(answered(&response)),
            // A status that was received has no cause; one made up for a broken connection has.
            Err(status) if std::error::Error::source(&status).is_some() => {
                Err(self.broken(connection_fault(&status)).await)
            }
            Err(status) => Ok(refused(&status)),
        }
    }

    /// Opens a stream of changes, if there is none and it is time.
    pub(super) fn watch(
        &mut self,
        watch: &Arc<Watch>,
        request: tonic::Request<HealthCheckRequest>,
        seen: Option<i32>,
    ) {
        if !self.stream.as_ref().is_some_and(Stream::is_open) {
            let allowance = self.caller.allowance.clone();
            self.stream = watch.open((self.client(), allowance), request, seen);
        }
    }

    fn client(&self) -> Client {
        HealthClient::with_origin(self.caller.clone(), self.origin.clone())
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// Why the connection broke. The call often knows only that it is gone; its driver, which ends
    /// with it, knows why.
    async fn broken(&mut self, fault: Fault) -> Fault {
        let is_gone = fault.outcome == Outcome::Failure(Reason::ConnectionReset);
        if is_gone && let Ok(Err(cause)) = (&mut self.driver.task).await {
            return connection_fault(&cause);
        }
        fault
    }
}

/// How long a server says that its answer holds.
fn ttl(metadata: &MetadataMap) -> Option<Duration> {
    let value = ["ttl_seconds", "ttl-seconds"].iter().find_map(|name| metadata.get(*name))?;
    let seconds: u32 = value.to_str().ok()?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

fn answered(response: &tonic::Response<HealthCheckResponse>) -> Reply {
    let content_type = response.metadata().get("content-type").map(MetadataValue::as_bytes);
    let is_grpc = content_type.is_none_or(|kind| kind.starts_with(b"application/grpc"));
    let said = if is_grpc {
        Said::Status(response.get_ref().status)
    } else {
        Said::Broken("the answer's content type is not application/grpc".to_owned())
    };
    Reply { said, ttl: ttl(response.metadata()) }
}

fn refused(status: &tonic::Status) -> Reply {
    let (code, message) = (status.code(), status.message().to_owned());
    // What the library says of a message that is too large, or that breaks the protocol.
    let is_its_own = match code {
        Code::OutOfRange => true,
        Code::Internal | Code::Unknown => {
            ["protocol error", "Unexpected EOF", "Missing response message", "failed to decode"]
                .iter()
                .any(|start| message.starts_with(start))
        }
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    };
    let said = if is_its_own { Said::Broken(message) } else { Said::Refused(code, message) };
    Reply { said, ttl: ttl(status.metadata()) }
}

fn connection_fault(error: &(dyn std::error::Error + 'static)) -> Fault {
    if let Some(io) = fault::find_cause::<std::io::Error>(error) {
        // Of a TLS alert, the HTTP/2 library keeps no more than this kind and the text.
        if io.kind() == std::io::ErrorKind::InvalidData {
            return Fault::new(Reason::TlsOther, io.to_string());
        }
        if io.kind() == std::io::ErrorKind::QuotaExceeded {
            return Fault::new(Reason::Protocol, io.to_string());
        }
        return Fault::exchange(io);
    }
    let is_cut = fault::find_cause::<hyper::Error>(error).is_some_and(|error| {
        error.is_canceled() || error.is_closed() || error.is_incomplete_message()
    });
    let reason = if is_cut { Reason::ConnectionReset } else { Reason::Protocol };
    Fault::new(reason, fault::chain(error))
}

async fn handshake<S>(stream: S, trace: &mut Trace) -> Result<(Caller, Driver), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    trace.enter(Phase::Exchange);
    let others = CancellationToken::new();
    let guard = others.clone().drop_guard();
    let allowance = Allowance::new();
    let stream = Guarded::new(stream, allowance.clone());
    let (sender, connection) = Builder::new(Executor(others))
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(u32::from(u16::MAX))
        .initial_connection_window_size(u32::from(u16::MAX))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| connection_fault(&error))?;
    Ok((Caller { sender, allowance }, Driver { task: drive(connection), _others: guard }))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task belongs to its channel, which aborts it; its end is a failed probe"
)]
fn drive<S>(
    connection: hyper::client::conn::http2::Connection<TokioIo<S>, tonic::body::Body, Executor>,
) -> JoinHandle<hyper::Result<()>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(connection)
}

fn origin(probe: &Probe, endpoint: &Endpoint) -> Result<http::Uri, Fault> {
    let authority = match &probe.spec.authority {
        Some(authority) => authority.as_str().to_owned(),
        None => endpoint.to_string(),
    };
    http::Uri::builder()
        .scheme(if probe.tls.is_some() { "https" } else { "http" })
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|error| Fault::ours(format!("no valid authority: {error}")))
}
