//! A responder on all loopback addresses, served by a thread of its own, that knows who was asked.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime,
    time::{Instant, sleep},
};

use crate::Failure;

/// The network of those that are well, `127.64.0.0` and on.
pub(crate) const WELL: u8 = 64;

const ADDRESSES: usize = 1 << 18;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// The address of check `n` of a network.
pub(crate) fn address(network: u8, n: usize) -> Ipv4Addr {
    let octet = |n: usize| u8::try_from(n & 255).unwrap_or(0);
    Ipv4Addr::new(127, network + octet(n >> 16), octet(n >> 8), octet(n))
}

/// A responder under way, for as long as the process lives.
pub(crate) struct Responder {
    pub(crate) port: u16,
    log: Arc<Log>,
}

/// Who was asked.
struct Log {
    requests: AtomicU64,
    distinct: AtomicUsize,
    first: OnceLock<Instant>,
    asked: Vec<AtomicU64>,
}

impl Responder {
    pub(crate) fn start() -> Result<Self, Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let listener = {
            let _inside = runtime.enter();
            socket.listen(4096)?
        };
        let port = listener.local_addr()?.port();
        let log = Arc::new(Log {
            requests: AtomicU64::new(0),
            distinct: AtomicUsize::new(0),
            first: OnceLock::new(),
            asked: (0..ADDRESSES / 64).map(|_| AtomicU64::new(0)).collect(),
        });
        let seen = Arc::clone(&log);
        thread::spawn(move || {
            runtime.block_on(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    #[expect(clippy::disallowed_methods, reason = "it ends with its connection")]
                    tokio::spawn(answer(stream, Arc::clone(&seen)));
                }
            });
        });
        Ok(Self { port, log })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.log.requests.load(Relaxed)
    }

    /// When the first request came.
    pub(crate) async fn first(&self, patience: Duration) -> Result<Instant, Failure> {
        let started = Instant::now();
        while started.elapsed() < patience {
            if let Some(first) = self.log.first.get() {
                return Ok(*first);
            }
            sleep(Duration::from_millis(1)).await;
        }
        Err("nobody is asked".into())
    }

    /// When so many had been asked.
    pub(crate) async fn all(&self, count: usize, latest: Instant) -> Result<Instant, Failure> {
        while Instant::now() < latest {
            if self.log.distinct.load(Relaxed) >= count {
                return Ok(Instant::now());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Err(format!("only {} of {count} were asked", self.log.distinct.load(Relaxed)).into())
    }
}

async fn answer(mut stream: TcpStream, log: Arc<Log>) {
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(more) => length += more,
        }
    }
    log.note(&stream);
    if stream.write_all(ANSWER).await.is_ok() {
        // Whoever asked closes; what comes is let go.
        while matches!(stream.read(&mut request).await, Ok(1..)) {}
    }
}

impl Log {
    fn note(&self, stream: &TcpStream) {
        self.first.get_or_init(Instant::now);
        self.requests.fetch_add(1, Relaxed);
        let Ok(IpAddr::V4(ip)) = stream.local_addr().map(|address| address.ip()) else { return };
        let [_, network, high, low] = ip.octets().map(usize::from);
        let n = (network - usize::from(WELL)) << 16 | high << 8 | low;
        let Some(word) = self.asked.get(n / 64) else { return };
        if word.fetch_or(1 << (n % 64), Relaxed) & 1 << (n % 64) == 0 {
            self.distinct.fetch_add(1, Relaxed);
        }
    }
}
