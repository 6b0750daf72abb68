//! Requests that need more than a fresh HTTP/1.1 connection: another version of HTTP, or a
//! connection that is kept between probes.
//!
//! A kept connection that turns out to be broken before an answer has begun says nothing about the
//! target, which may close an idle connection at any time: the request is then made once more on a
//! new one, within the same deadline. A check may so be asked twice, whatever its method.
//!
//! A firewall may have forgotten it without a word to anybody. What is sent then is acknowledged by
//! nobody, which a busy target never does: its kernel acknowledges before it has read a byte. So the
//! kernel gives such a connection up after half the deadline (`TCP_USER_TIMEOUT`), and the other half
//! is left for a new one.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{
    Probe, Version,
    body::After,
    exchange::{self, Origin, Received, Route},
    h2,
    head::Terms,
    kept::{Idle, Kept},
    request::{Place, Request},
};
use crate::{
    model::{Certificate, Phase, Reason},
    probe::{
        fault::Fault,
        grpc::Places,
        resolve::{self, Acknowledge, Close},
        trace::Trace,
        url::Scheme,
    },
};

/// What bytes come from and go to.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A request and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) request: Request<'a>,
    pub(super) route: Route<'a>,
    pub(super) rendering: Rendering,
}

/// Where the bytes of a request over HTTP/1.1 come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rendering {
    /// They were made ready with the probe, but for the host.
    Ready,
    /// They are made now.
    Made,
}

/// An open connection.
#[derive(Debug)]
pub(in crate::probe) struct Connection {
    speech: Speech,
    peer: Option<SocketAddr>,
    certificate: Option<Arc<Certificate>>,
    fit_until: Instant,
}

#[derive(Debug)]
enum Speech {
    Http1(Stream),
    Http2(Box<h2::Session>),
}

/// Asks on a connection of its own.
pub(super) async fn ask(
    probe: &Probe,
    outgoing: Outgoing<'_>,
    trace: &mut Trace,
) -> Result<Received, Fault> {
    let mut connection = Connection::open(probe, outgoing, trace).await?;
    let result = connection.exchange(probe, outgoing, trace).await;
    connection.close();
    result
}

/// Asks on the kept connection, else on a new one, and keeps it if it can be used again and one of
/// `places` is free.
pub(super) async fn ask_kept(
    probe: &Probe,
    outgoing: Outgoing<'_>,
    (kept, places): (&Kept, &Places),
    trace: &mut Trace,
) -> Result<Received, Fault> {
    if let Some((Idle::Session(mut connection), place)) = kept.take()
        && connection.is_fit()
    {
        trace.peer = connection.peer;
        trace.certificate.clone_from(&connection.certificate);
        match connection.exchange(probe, outgoing, trace).await {
            Ok(received) if received.is_farewell() => trace.begin_again(),
            Ok(received) => {
                if received.is_reusable {
                    kept.put(Idle::Session(connection), place);
                } else {
                    kept.let_go();
                }
                return Ok(received);
            }
            Err(fault) if trace.has_answer_begun() => return Err(fault),
            // The connection's own failure is not the target's.
            Err(_) => trace.begin_again(),
        }
    }
    let mut connection = Box::new(Connection::open(probe, outgoing, trace).await?);
    let received = connection.exchange(probe, outgoing, trace).await?;
    match places.take() {
        Some(place) if received.is_reusable => kept.put(Idle::Session(connection), place),
        Some(_) | None => {
            kept.let_go();
            connection.close();
        }
    }
    Ok(received)
}

impl Connection {
    async fn open(probe: &Probe, outgoing: Outgoing<'_>, trace: &mut Trace) -> Result<Self, Fault> {
        let route = outgoing.route;
        let close = match outgoing.request.after {
            After::Close => probe.spec.close,
            // The target's log should not blame us.
            After::Keep => Close::Fin,
        };
        let options = resolve::Options { close, acknowledge: Acknowledge::Late };
        let stream = resolve::connect(route.endpoint, options, trace).await?;
        // Otherwise the kernel holds back what follows a first write until that is acknowledged.
        stream.set_nodelay(true).map_err(|error| Fault::connect(&error))?;
        if outgoing.request.after == After::Keep {
            resolve::give_up_after(trace.timeout() / 2, &stream);
        }
        let host = &route.endpoint.host;
        let stream: Stream = match (route.scheme, &probe.tls, route.origin) {
            (Scheme::Http, _, _) => Either::Left(stream),
            (Scheme::Https, Some(tls), Origin::Own) => {
                Either::Right(Box::new(tls.connect(host, stream, trace).await?))
            }
            (Scheme::Https, Some(tls), Origin::Foreign) => {
                Either::Right(Box::new(tls.connect_as(host, stream, trace).await?))
            }
            (Scheme::Https, None, _) => return Err(Fault::ours("TLS was not made ready")),
        };
        let speech = speak(probe.spec.version, stream, trace).await?;
        let fit_until = trace.fit_until();
        let certificate = trace.certificate();
        Ok(Self { speech, peer: trace.peer, certificate, fit_until })
    }

    async fn exchange(
        &mut self,
        probe: &Probe,
        Outgoing { request, route, rendering }: Outgoing<'_>,
        trace: &mut Trace,
    ) -> Result<Received, Fault> {
        let expected = &probe.spec.expected_headers;
        let terms = Terms { body: route.body, after: request.after, expected };
        let ids = trace.ids.as_deref().copied().filter(|_| route.origin == Origin::Own);
        let place = Place { scheme: route.scheme, endpoint: route.endpoint, ids: ids.as_ref() };
        match &mut self.speech {
            Speech::Http1(stream) => {
                trace.buffer.clear();
                match rendering {
                    Rendering::Ready => probe.render(place, &mut trace.buffer),
                    Rendering::Made => request.write(place, &mut trace.buffer),
                }
                exchange::exchange(stream, terms, trace).await
            }
            Speech::Http2(session) => {
                let fields = request.fields(place).map_err(|error| {
                    Fault::ours(format!("the request cannot be sent over HTTP/2: {error}"))
                })?;
                let body = Bytes::copy_from_slice(request.body.as_bytes());
                session.exchange(fields, body, terms, trace).await
            }
        }
    }

    /// Whether another request may be made on it: it is open and silent, and not too old.
    fn is_fit(&mut self) -> bool {
        let is_open = match &mut self.speech {
            // Whatever there is to read was not asked for; most often it is the end.
            Speech::Http1(stream) => stream.read(&mut [0]).now_or_never().is_none(),
            Speech::Http2(session) => session.is_fit(),
        };
        is_open && Instant::now() < self.fit_until
    }

    /// Whether no other request may be made on it, while nobody asks: most often because it has
    /// ended. To be woken, else.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.speech {
            Speech::Http1(stream) => {
                let mut byte = [0];
                Pin::new(stream).poll_read(context, &mut ReadBuf::new(&mut byte)).map(drop)
            }
            Speech::Http2(session) => session.poll_end(context),
        }
    }

    fn close(self) {
        match self.speech {
            Speech::Http1(_) => {}
            Speech::Http2(session) => session.close(),
        }
    }
}

/// Begins to speak what is configured, or what the target has chosen.
async fn speak(version: Version, stream: Stream, trace: &mut Trace) -> Result<Speech, Fault> {
    let is_agreed = match &stream {
        Either::Left(_) => None,
        Either::Right(tls) => Some(tls.get_ref().1.alpn_protocol() == Some(b"h2")),
    };
    match (version, is_agreed) {
        (Version::Http1, _) | (Version::Auto, None | Some(false)) => Ok(Speech::Http1(stream)),
        (Version::Http2, None | Some(true)) | (Version::Auto, Some(true)) => {
            trace.enter(Phase::Exchange);
            Ok(Speech::Http2(Box::new(h2::Session::open(stream).await?)))
        }
        (Version::Http2, Some(false)) => {
            let detail = "the target's TLS does not offer HTTP/2 (ALPN h2)";
            Err(Fault::new(Reason::TlsOther, detail))
        }
    }
}
