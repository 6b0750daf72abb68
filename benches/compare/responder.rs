//! Who is probed: answers, counts and checks requests, on a thread of its own.
//!
//! One thread, one epoll, one answer prepared once. It spins instead of sleeping, on a CPU of its
//! own: waking a thread that sleeps is charged to whoever sends to it, which no target on another
//! machine would cost. It listens on the wildcard address, so that each of the 16 million loopback
//! addresses is a target, and counts by the `Host` header whom a request was meant for. It closes a
//! connection when the other side has.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use rustix::{
    event::{Timespec, epoll},
    net::{self, AddressFamily, SocketFlags, SocketType},
    thread::CpuSet,
};

use super::{Failure, target};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REQUEST_LINE: &[u8] = b"GET /health HTTP/1.1\r\n";

/// As of a service: not one of those that the kernel chooses for clients.
const PORT: u16 = 18_080;

/// The longest request that is understood.
const LONGEST: usize = 512;

/// Stands for the listener among the connections.
const LISTENER: u64 = u64::MAX;

/// The responder, from outside.
pub(super) struct Responder {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    spins: AtomicBool,
    requests: AtomicU64,
    malformed: AtomicU64,
    by_target: Box<[AtomicU32]>,
}

struct Connection {
    socket: OwnedFd,
    request: [u8; LONGEST],
    length: usize,
}

impl Responder {
    /// Listens, and answers on `cpu`; counts the requests of so many targets one by one.
    pub(super) fn start(cpu: usize, targets: usize) -> Result<Self, Failure> {
        let listener = net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        net::sockopt::set_socket_reuseaddr(&listener, true)?;
        net::bind(&listener, &std::net::SocketAddr::from(([0, 0, 0, 0], PORT)))?;
        net::listen(&listener, 65_535)?;
        let port = std::net::SocketAddr::try_from(net::getsockname(&listener)?)?.port();
        let shared = Arc::new(Shared {
            spins: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            by_target: (0..targets).map(|_| AtomicU32::new(0)).collect(),
        });
        let inside = Arc::clone(&shared);
        thread::spawn(move || {
            if let Err(error) = serve(&listener, cpu, &inside) {
                eprintln!("the responder has ended: {error}");
                std::process::exit(1);
            }
        });
        Ok(Self { port, shared })
    }

    /// Whether to spin, or to sleep while there is nothing to do.
    pub(super) fn spin(&self, spins: bool) {
        self.shared.spins.store(spins, Relaxed);
    }

    /// How many requests were answered.
    pub(super) fn requests(&self) -> u64 {
        self.shared.requests.load(Relaxed)
    }

    /// How many requests were not the one to be asked.
    pub(super) fn malformed(&self) -> u64 {
        self.shared.malformed.load(Relaxed)
    }

    /// How many requests each target has had.
    pub(super) fn by_target(&self) -> Vec<u32> {
        self.shared.by_target.iter().map(|count| count.load(Relaxed)).collect()
    }
}

fn serve(listener: &OwnedFd, cpu: usize, shared: &Shared) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(None, &cpus)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = [MaybeUninit::uninit(); 512];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    let nap = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    loop {
        let patience = if shared.spins.load(Relaxed) { &none } else { &nap };
        let (ready, _) = epoll::wait(&epoll, &mut events, Some(patience))?;
        for event in ready.iter() {
            if event.data.u64() == LISTENER {
                accept_all(&epoll, listener, &mut connections, &mut free)?;
                continue;
            }
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(slot) = connections.get_mut(index) else { continue };
            let lives = slot.as_mut().is_some_and(|connection| connection.answer(shared));
            if !lives && slot.take().is_some() {
                free.push(index);
            }
        }
    }
}

fn accept_all(
    epoll: &OwnedFd,
    listener: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match net::accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            // A connection that was reset before it was accepted.
            Err(rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let data = epoll::EventData::new_u64(index as u64);
        let interest = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(epoll, &socket, data, interest)?;
        connections[index] = Some(Connection { socket, request: [0; LONGEST], length: 0 });
    }
}

impl Connection {
    /// Reads what there is, and answers if it is a request. Says whether the connection lives on.
    fn answer(&mut self, shared: &Shared) -> bool {
        loop {
            let room = &mut self.request[self.length..];
            let read = match net::recv(&self.socket, room, net::RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((read, _)) => read,
                Err(error) => return error == rustix::io::Errno::AGAIN,
            };
            self.length += read;
            let request = &self.request[..self.length];
            if !request.ends_with(b"\r\n\r\n") && self.length < LONGEST {
                continue;
            }
            match whose(request) {
                Some(index) => {
                    if let Some(count) = shared.by_target.get(index) {
                        count.fetch_add(1, Relaxed);
                    }
                    shared.requests.fetch_add(1, Relaxed);
                }
                None => _ = shared.malformed.fetch_add(1, Relaxed),
            }
            self.length = 0;
            if net::send(&self.socket, ANSWER, net::SendFlags::NOSIGNAL).is_err() {
                return false;
            }
        }
    }
}

/// The target that a request is meant for; nothing if it is not the request to be asked.
fn whose(request: &[u8]) -> Option<usize> {
    const HOST: &[u8] = b"\r\nHost: ";
    request.strip_prefix(REQUEST_LINE)?;
    let at = request.windows(HOST.len()).position(|bytes| bytes.eq_ignore_ascii_case(HOST))?;
    let host = &request[at + HOST.len()..];
    let end = host.iter().position(|byte| matches!(byte, b':' | b'\r'))?;
    let address = std::str::from_utf8(&host[..end]).ok()?.parse().ok()?;
    target::index(address)
}
