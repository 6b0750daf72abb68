//! Plain probes, all of a thread in one place: an HTTP/1.1 request in plain text on a fresh
//! connection, or a connection alone, to an address that needs no look-up.
//!
//! Nearly all checks are of this kind, and what they cost is what a fleet costs. A task, a timer and
//! a boxed future for each would be two thirds of what we add to the work of the kernel. Here a
//! probe is a row with a socket and its [`Trace`]; one poller tells which sockets have news, and the
//! loop of the thread lets [`Plain::turn`] take them all in at once. What a probe asks and how an
//! answer is understood is written once, in `http` and `resolve`; this drives it, as the futures of
//! [`Network`] drive it for all other probes.
//!
//! The poller is itself a descriptor that the runtime waits on ([`Plain::ready`]), so nothing here
//! waits, and a thread without plain probes pays nothing.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::SockRef;
use tokio::{io::unix::AsyncFd, time::Instant};

use super::{
    Close, Host, Kind, Network, Target,
    fault::Fault,
    http, network,
    resolve::{self, Acknowledge, Options},
    trace::Trace,
};
use crate::{
    clock::{self, Timestamp},
    model::{Observation, Phase},
};

#[cfg(test)]
mod tests;

/// Sockets with news that are taken in at a time.
const BATCH: usize = 1024;

/// Buffers that are kept for the probes to come, and how large one may be to be kept.
const MAX_POOL: usize = 256;
const MAX_KEPT_BUFFER: usize = 4096;

/// A token is a row in the lower half and the generation of the probe in the upper: a socket that has
/// been closed here may live on for a moment in a process that is being started, and what is told of
/// it must not be taken for news of the next probe in its row.
const HALF: u32 = usize::BITS / 2;
const ROW: usize = (1 << HALF) - 1;

/// Who asks: what is given back with the result.
pub trait Ticket {
    /// Who is asked. The same every time.
    fn target(&self) -> &Target;
}

/// The plain probes under way on one thread.
pub struct Plain<T> {
    network: Network,
    poll: AsyncFd<Poll>,
    events: Events,
    flights: Vec<Option<Flight<T>>>,
    free: Vec<usize>,
    generation: usize,
    /// No deadline is earlier than this; nothing if there is none.
    earliest: Option<Instant>,
    pool: Vec<Vec<u8>>,
    landed: Vec<(T, Option<Observation>)>,
}

/// One probe under way.
struct Flight<T> {
    ticket: T,
    token: Token,
    started: Timestamp,
    trace: Trace,
    address: SocketAddr,
    socket: TcpStream,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Until the socket is writable; a request is in the trace's buffer already.
    Connecting,
    /// So many bytes of the request are sent.
    Asking(usize),
    /// The answer comes into the trace's buffer.
    Listening(http::Reader),
}

/// What the poller says of a socket. It says so once.
#[derive(Debug, Clone, Copy)]
struct News {
    /// An error waits, or the socket can no longer be written to.
    may_have_failed: bool,
    /// There is something to read, be it the end.
    has_input: bool,
}

impl Target {
    /// Where to connect to, and how to end the connection, if a probe of this target is a plain one.
    fn plain_way(&self) -> Option<(SocketAddr, Close)> {
        let close = if let Kind::Http(probe) = &self.probe.0 {
            probe.is_lone().then(|| probe.spec().close)
        } else if let Kind::Tcp(probe) = &self.probe.0 {
            probe.is_lone().then(|| probe.spec().close)
        } else {
            None
        };
        let (endpoint, close) = (self.destination()?, close?);
        match endpoint.host {
            Host::Ip(ip) => Some((SocketAddr::new(ip, endpoint.port), close)),
            Host::Name(_) => None,
        }
    }

    fn http(&self) -> Option<&http::Probe> {
        if let Kind::Http(probe) = &self.probe.0 { Some(probe) } else { None }
    }
}

impl<T: Ticket> Plain<T> {
    /// Nothing under way yet. To be called on the thread, within its runtime.
    pub(super) fn new(network: Network) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "it trusts that the descriptor stays the same and open, as a poller's does; \
                      what takes its place asks for unsafe code"
        )]
        let poll = AsyncFd::new(Poll::new()?)?;
        Ok(Self {
            network,
            poll,
            events: Events::with_capacity(BATCH),
            flights: Vec::new(),
            free: Vec::new(),
            generation: 0,
            earliest: None,
            pool: Vec::new(),
            landed: Vec::new(),
        })
    }

    /// How many are under way, those that have ended and were not taken included.
    pub fn len(&self) -> usize {
        self.flights.len() - self.free.len() + self.landed.len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a probe of the ticket's target; gives the ticket back if that is no plain one.
    pub fn start(&mut self, ticket: T, timeout: Duration) -> Result<(), T> {
        let Some(way) = ticket.target().plain_way() else { return Err(ticket) };
        let started = clock::now();
        let mut trace = self.network.trace(ticket.target(), timeout);
        if let Some(buffer) = self.pool.pop() {
            trace.buffer = buffer;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        self.generation = (self.generation + 1) & ROW;
        let token = Token(self.generation << HALF | index);
        match contained(|| self.launch(token, ticket.target(), way, &mut trace)) {
            Some(Ok(socket)) => {
                let deadline = trace.deadline();
                self.earliest = Some(self.earliest.map_or(deadline, |then| then.min(deadline)));
                let (address, stage) = (way.0, Stage::Connecting);
                let flight = Flight { ticket, token, started, trace, address, socket, stage };
                self.flights[index] = Some(flight);
            }
            failed => {
                self.free.push(index);
                let result = failed.map(|failed| failed.map(drop));
                let found = observed(&ticket, &mut trace, started, result);
                self.landed.push((ticket, found));
            }
        }
        Ok(())
    }

    fn launch(
        &self,
        token: Token,
        target: &Target,
        (address, close): (SocketAddr, Close),
        trace: &mut Trace,
    ) -> Result<TcpStream, Fault> {
        if let Some(probe) = target.http() {
            http::begin(probe, target.endpoint(), trace)?;
        }
        trace.enter(Phase::Connect);
        let options = Options { close, acknowledge: Acknowledge::Late };
        let socket = resolve::send_for(address, options, trace)?;
        let mut socket = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.get_ref().registry();
        let registered = registry.register(&mut socket, token, interest);
        registered.map_err(|error| Fault::local(&error))?;
        Ok(socket)
    }

    /// Waits until there may be news of one of them. May be dropped at any time.
    pub async fn ready(&self) {
        match self.poll.readable().await {
            // What comes from here on is news again.
            Ok(mut guard) => guard.clear_ready(),
            // The runtime is ending.
            Err(_) => std::future::pending().await,
        }
    }

    /// When to call [`Plain::turn`] at the latest; nothing if none is under way.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.landed.is_empty() { self.earliest } else { Some(Instant::now()) }
    }

    /// Takes in all there is, without waiting, and gives back those that have ended: nothing in
    /// place of an observation if the probe panicked.
    pub fn turn(&mut self) -> std::vec::Drain<'_, (T, Option<Observation>)> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        loop {
            match self.poll.get_mut().poll(&mut events, Some(Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            let mut taken = 0;
            for event in &events {
                let news = News {
                    may_have_failed: event.is_error() || event.is_write_closed(),
                    has_input: event.is_readable() || event.is_read_closed(),
                };
                self.advance(event.token(), news);
                taken += 1;
            }
            if taken < BATCH {
                break;
            }
        }
        self.events = events;
        if self.earliest.is_some_and(|earliest| earliest <= Instant::now()) {
            self.expire();
        }
        self.landed.drain(..)
    }

    fn advance(&mut self, token: Token, news: News) {
        let index = token.0 & ROW;
        let flight = self.flights.get_mut(index).and_then(Option::as_mut);
        let Some(flight) = flight.filter(|flight| flight.token == token) else { return };
        match contained(|| flight.advance(news)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => self.land(index, Some(Ok(()))),
            Some(Err(fault)) => self.land(index, Some(Err(fault))),
            None => self.land(index, None),
        }
    }

    /// Ends those whose time is over, and looks for the next deadline.
    fn expire(&mut self) {
        let now = Instant::now();
        let mut earliest: Option<Instant> = None;
        for index in 0..self.flights.len() {
            let Some(flight) = &self.flights[index] else { continue };
            let deadline = flight.trace.deadline();
            if deadline <= now {
                let fault = contained(|| flight.ticket.target().expired(&flight.trace));
                self.land(index, fault.map(Err));
            } else {
                earliest = Some(earliest.map_or(deadline, |then| then.min(deadline)));
            }
        }
        self.earliest = earliest;
    }

    fn land(&mut self, index: usize, result: Option<Result<(), Fault>>) {
        let Some(flight) = self.flights[index].take() else { return };
        self.free.push(index);
        let Flight { ticket, started, mut trace, socket, .. } = flight;
        let found = observed(&ticket, &mut trace, started, result);
        drop(socket);
        let mut buffer = std::mem::take(&mut trace.buffer);
        if self.pool.len() < MAX_POOL && buffer.capacity() <= MAX_KEPT_BUFFER {
            buffer.clear();
            self.pool.push(buffer);
        }
        self.landed.push((ticket, found));
    }
}

/// What a probe has found; nothing if it has panicked, or does so now.
fn observed(
    ticket: &impl Ticket,
    trace: &mut Trace,
    started: Timestamp,
    result: Option<Result<(), Fault>>,
) -> Option<Observation> {
    let result = result?;
    contained(|| network::observe(ticket.target(), trace, started, result))
}

/// Does something for one probe that must not take others with it if it panics.
fn contained<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

impl<T: Ticket> Flight<T> {
    /// Goes on as far as it can. Says whether it waits for more; otherwise it has succeeded.
    fn advance(&mut self, news: News) -> Result<bool, Fault> {
        let Self { ticket, trace, address, socket, stage, .. } = self;
        let probe = ticket.target().http();
        if let Stage::Connecting = stage {
            let socket = SockRef::from(&*socket);
            let settled = if news.may_have_failed {
                resolve::settle(&socket, *address)
            } else {
                resolve::settle_made(&socket, *address)
            };
            settled.map_err(|error| Fault::connect(&error))?;
            if probe.is_none() {
                return Ok(false);
            }
            trace.enter(Phase::Exchange);
            *stage = Stage::Asking(0);
        }
        // A connection alone has ended by now.
        let Some(probe) = probe else { return Err(Fault::ours("a plain probe went astray")) };
        if let Stage::Asking(sent) = stage {
            if !tell(socket, &trace.buffer, sent).map_err(|error| Fault::exchange(&error))? {
                return Ok(true);
            }
            trace.buffer.clear();
            *stage = Stage::Listening(http::Reader::default());
            // An answer that is not there yet will be news.
            if !news.has_input {
                return Ok(true);
            }
        }
        let Stage::Listening(reader) = stage else { return Ok(true) };
        let received = match hear(socket, reader, probe, trace) {
            Ok(None) => return Ok(true),
            Ok(Some(received)) => Ok(received),
            Err(fault) => Err(fault),
        };
        http::conclude(probe, received, trace).map(|()| false)
    }
}

/// Sends what is left of a request; says whether that was all.
fn tell(socket: &TcpStream, request: &[u8], sent: &mut usize) -> io::Result<bool> {
    while *sent < request.len() {
        match send(socket, &request[*sent..], SendFlags::NOSIGNAL) {
            Ok(more) => *sent += more,
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Reads what there is of an answer; the answer, once it is whole. Until it is, it reads to the very
/// end of what there is: the end of the connection that has come already will not be news again.
fn hear(
    socket: &TcpStream,
    reader: &mut http::Reader,
    probe: &http::Probe,
    trace: &mut Trace,
) -> Result<Option<http::Received>, Fault> {
    loop {
        trace.make_room();
        let read = match recv(socket, spare_capacity(&mut trace.buffer), RecvFlags::empty()) {
            Ok((_, read)) => read,
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Fault::exchange(&error.into())),
        };
        if read == 0 {
            return reader.end(trace).map(Some);
        }
        trace.answer_begins();
        if let Some(received) = probe.take_in(reader, trace)? {
            return Ok(Some(received));
        }
    }
}

impl<T> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under_way = self.flights.len() - self.free.len();
        f.debug_struct("Plain").field("under_way", &under_way).finish_non_exhaustive()
    }
}
