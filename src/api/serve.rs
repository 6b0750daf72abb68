//! The accept loop: connections in, answers out, within limits, until told to stop.
//!
//! A listener takes at most `max_connections` at once; further ones stay in the kernel's queue.
//! When told to stop it takes no more, lets idle connections go at once, and returns when the
//! requests under way have been answered. How long that may take is for the caller to bound:
//! dropping the future cuts off what is left.

use std::{
    convert::Infallible, error::Error as StdError, io, net::IpAddr, pin::pin, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};
use tracing::{debug, error, warn};

use super::{Limits, View, grpc, router};

/// How long a connection may idle before a request, and a client may take to send a request's head:
/// hyper bounds both by one time. Longer than clients keep connections for their next request (90 s
/// in Go): who is closed while he writes does not know whether he was heard, and a write is not sent
/// again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a client may leave what we send unread before the kernel ends the connection.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The wait after an accept that failed for want of file descriptors or memory: long enough not
/// to spin, short enough not to be noticed once there are some again.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How often an HTTP/2 client must show that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// Largest head of a request. Long filters and tokens fit; hyper's own bound is 400 KiB.
const MAX_HEAD: usize = 64 * 1024;

/// The address a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves the HTTP API and `/metrics` until `stop`, and then until the last request is answered.
pub async fn http(listener: TcpListener, view: View, limits: Limits, stop: CancellationToken) {
    let router = router::router(view, &limits, stop.clone());
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .half_close(false);
    run(listener, limits, stop, Arc::new(builder), router).await;
}

/// Serves the gRPC health service until `stop`, and then until the last call has ended.
pub async fn grpc(listener: TcpListener, view: View, limits: Limits, stop: CancellationToken) {
    let service = grpc::service(view, &limits, stop.clone());
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS);
    run(listener, limits, stop, Arc::new(builder), service).await;
}

type Builder = Arc<auto::Builder<TokioExecutor>>;

async fn run<S, B>(
    listener: TcpListener,
    limits: Limits,
    stop: CancellationToken,
    builder: Builder,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let room = limits.connections().min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(room));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let served = connection(stream, peer, Arc::clone(&builder), service.clone(), stop.clone());
        connections.spawn(async move {
            served.await;
            drop(place);
        });
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// Waits for room, then for a connection; nothing if one was lost on the way.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, address)) => {
            if let Err(error) = prepare(&stream) {
                debug!(%error, "Cannot set options of a connection");
                return None;
            }
            Some((stream, Peer(address.ip().to_canonical()), place))
        }
        Err(error) if is_one_connections(&error) => None,
        Err(error) => {
            warn!(%error, "Cannot accept connections");
            sleep(ACCEPT_BACKOFF).await;
            None
        }
    }
}

/// Whether only the connection to be accepted is lost: the next accept may well succeed.
fn is_one_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT))
}

/// Serves one connection to its end.
async fn connection<S, B>(
    stream: TcpStream,
    peer: Peer,
    builder: Builder,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    // HTTP/2 has no timeout of its own for a client that connects and says nothing.
    let spoke = tokio::select! {
        spoke = timeout(IDLE_TIMEOUT, stream.readable()) => matches!(spoke, Ok(Ok(()))),
        () = stop.cancelled() => false,
    };
    if !spoke {
        return;
    }
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.clone().oneshot(request)
    });
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(error = &*error, peer = %peer.0, "Connection ended early");
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "Serving a connection panicked");
    }
}
