//! Queries in, answers out, by UDP and TCP, until told to stop.
//!
//! Answering is a look-up in memory, so [`udp`] answers where it reads: there is never more than
//! one query in hand, and what comes faster is dropped by the kernel. [`tcp`] serves a bounded
//! number of connections, each of which may ask any number of questions one after the other, and
//! is closed when it is silent or slow.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    Directory, Zone,
    answer::{self, Answered, Asking, MAX_UDP, Transport},
};
use crate::{clock, metrics};

/// How long a connection may say nothing: RFC 7766 asks for a few seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a message may take that has begun, in either direction.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait after a failure that is not one client's: for want of file descriptors or memory.
const BACKOFF: Duration = Duration::from_millis(100);

/// Who answers: shared by all sockets.
#[derive(Clone)]
pub struct Responder {
    zone: Arc<Zone>,
    directory: Arc<dyn Directory>,
    metrics: metrics::Daemon,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("zone", &self.zone).finish_non_exhaustive()
    }
}

impl Responder {
    /// Answers for a zone from a directory.
    pub fn new(zone: Zone, directory: Arc<dyn Directory>, metrics: metrics::Daemon) -> Self {
        Self { zone: Arc::new(zone), directory, metrics }
    }

    /// Answers one query and counts it.
    fn respond(&self, query: &[u8], transport: Transport, seed: &mut u64) -> Option<Vec<u8>> {
        *seed = answer::next(*seed);
        let began = Instant::now();
        let now = u32::try_from(clock::now().millis() / 1000).unwrap_or(0);
        let asking = Asking { query, transport, seed: answer::mix(*seed), now };
        let Answered { message, query_type, code } =
            answer::answer(&self.zone, &*self.directory, asking)?;
        self.metrics.dns_answered([query_type, code, transport.as_str()], began.elapsed());
        Some(message)
    }
}

/// A seed that nobody can guess.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Answers by UDP until `stop`.
pub async fn udp(socket: UdpSocket, responder: Responder, stop: CancellationToken) {
    let mut seed = seed();
    // One byte more than is taken, so that a longer query is seen to be too long.
    let mut buffer = vec![0; usize::from(MAX_UDP) + 1];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((size, client)) if size <= usize::from(MAX_UDP) && client.port() != 0 => {
                if let Some(message) = responder.respond(&buffer[..size], Transport::Udp, &mut seed)
                {
                    // A full buffer loses the answer, as the network may.
                    send(&socket, &message, client);
                }
            }
            Ok(_) => {}
            // What the network says of answers to others.
            Err(error) if is_one_clients(&error) => {}
            Err(error) => {
                warn!(%error, "Cannot receive DNS queries");
                sleep(BACKOFF).await;
            }
        }
    }
}

fn send(socket: &UdpSocket, message: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(message, client) {
        debug!(%error, %client, "A DNS answer is lost");
    }
}

fn is_one_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

/// Answers by TCP on at most this many connections at once until `stop`.
pub async fn tcp(
    listener: TcpListener,
    responder: Responder,
    connections: usize,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    let mut served = JoinSet::new();
    loop {
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = served.join_next() => {
                if let Err(error) = ended {
                    error!(%error, "Serving a DNS connection panicked");
                }
                continue;
            }
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                let (responder, stop) = (responder.clone(), stop.clone());
                served.spawn(async move {
                    tokio::select! {
                        ended = connection(stream, &responder) => if let Err(error) = ended {
                            debug!(%error, %client, "A DNS connection ended early");
                        },
                        () = stop.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) if is_one_clients(&error) => {}
            Err(error) => {
                warn!(%error, "Cannot accept DNS connections");
                sleep(BACKOFF).await;
            }
        }
    }
}

/// Waits for room, then for a connection.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let place = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    (place, listener.accept().await)
}

/// Serves one connection until the client ends it, is silent or slow, or asks what cannot be
/// answered.
async fn connection(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut seed = seed();
    let mut query = Vec::new();
    loop {
        let Ok(Ok(size)) = timeout(IDLE_TIMEOUT, stream.read_u16()).await else { return Ok(()) };
        query.resize(usize::from(size), 0);
        timeout(MESSAGE_TIMEOUT, stream.read_exact(&mut query)).await??;
        let Some(answer) = responder.respond(&query, Transport::Tcp, &mut seed) else {
            return Ok(());
        };
        let size = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(answer.len() + 2);
        message.extend(size.to_be_bytes());
        message.extend(answer);
        timeout(MESSAGE_TIMEOUT, stream.write_all(&message)).await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Config, tests::Fixed};

    fn responder() -> Responder {
        let zone = Zone::new(Config::default(), "dc1", "node-1".into());
        Responder::new(zone, Arc::new(Fixed::default()), metrics::Daemon::new())
    }

    const SOA: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06consul\0\0\x06\0\x01";

    fn framed(query: &[u8]) -> Vec<u8> {
        let size = u16::try_from(query.len()).unwrap().to_be_bytes();
        [&size[..], query].concat()
    }

    #[tokio::test]
    async fn udp_goes_on_after_what_is_no_query() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = udp(server, responder(), stop.clone());
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asking = async {
            let mut response = SOA.to_vec();
            response[2] |= 0x80;
            for query in [&b"?"[..], &response, &[0; 5000], SOA] {
                client.send_to(query, address).await.unwrap();
            }
            let mut buffer = [0; 600];
            let size = client.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..4], [0x12, 0x34, 0x85, 0x00], "{:?}", &buffer[..size]);
            stop.cancel();
        };
        tokio::join!(serving, asking);
    }

    #[tokio::test]
    async fn a_connection_asks_several_questions_and_ends_with_garbage() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tcp(listener, responder(), 1, stop.clone());
        let asking = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&[framed(SOA), framed(SOA), framed(b"x")].concat()).await.unwrap();
            for _ in 0..2 {
                let size = usize::from(stream.read_u16().await.unwrap());
                let mut answer = vec![0; size];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer[..2], SOA[..2]);
            }
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            stop.cancel();
        };
        tokio::join!(serving, asking);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_those_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tcp(listener, responder(), 1, stop.clone());
        let asking = async {
            let mut first = TcpStream::connect(address).await.unwrap();
            first.write_all(&framed(SOA)).await.unwrap();
            first.read_u16().await.unwrap();
            let mut second = TcpStream::connect(address).await.unwrap();
            second.write_all(&framed(SOA)).await.unwrap();
            let soon = Duration::from_millis(50);
            assert!(timeout(soon, second.read_u16()).await.is_err(), "there is room for one");
            drop(first);
            second.read_u16().await.unwrap();
            stop.cancel();
        };
        tokio::join!(serving, asking);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_silent_or_stops_midway_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (said, limit) in [(&b""[..], IDLE_TIMEOUT), (b"\0\x20\x12", MESSAGE_TIMEOUT)] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(said).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            if !said.is_empty() {
                stream.readable().await.unwrap();
            }
            let start = Instant::now();
            drop(connection(stream, &responder()).await);
            assert!(start.elapsed() >= limit && start.elapsed() < limit * 2);
        }
    }
}
