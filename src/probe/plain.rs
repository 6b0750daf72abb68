//! Plain probes, all of a thread in one place: an HTTP/1.1 request in plain text, a gRPC call in plain
//! text on a connection of its own, or a connection alone, to an address that needs no look-up.
//!
//! Nearly all checks are of this kind, and what they cost is what a fleet costs. A task, a timer and
//! a boxed future for each would be two thirds of what we add to the work of the kernel. Here a
//! probe is a row with a socket and its [`Trace`]; one poller tells which sockets have news, and the
//! loop of the thread lets [`Plain::turn`] take them all in at once. What a probe asks and how an
//! answer is understood is written once, in `http` and `resolve`; this drives it, as the futures of
//! [`Network`] drive it for all other probes. A connection that is kept stays with the poller.
//!
//! The poller is itself a descriptor that the runtime waits on ([`Plain::ready`]), so nothing here
//! waits, and a thread without plain probes pays nothing.

mod flight;

use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use mio::{Events, Poll, Token, net::TcpStream};
use tokio::{io::unix::AsyncFd, time::Instant};

use self::flight::{Flight, News, Progress, Wire};
use super::{
    Close, Host, Kind, Network, Target,
    fault::Fault,
    grpc, http,
    line::{Line, Lines},
    network,
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

/// In a row: it is that of a connection that is kept, not of a probe.
const KEPT: usize = 1 << (HALF - 1);

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
    lines: Lines,
    generation: usize,
    /// No deadline is earlier than this; nothing if there is none.
    earliest: Option<Instant>,
    pool: Vec<Vec<u8>>,
    landed: Vec<(T, Option<Observation>)>,
}

/// Where a probe goes.
#[derive(Debug, Clone, Copy)]
struct Way {
    address: SocketAddr,
    close: Close,
    is_kept: bool,
}

impl Target {
    /// Where to connect to, and how, if a probe of this target is a plain one.
    fn plain_way(&self) -> Option<Way> {
        let (close, is_kept) = if let Kind::Http(probe) = &self.probe.0 {
            let http::Spec { close, keep_alive, .. } = *probe.spec();
            // The target's log should not blame us for a connection that was kept.
            let close = if keep_alive { Close::Fin } else { close };
            probe.is_lone().then_some((close, keep_alive))
        } else if let Kind::Tcp(probe) = &self.probe.0 {
            probe.is_lone().then_some((probe.spec().close, false))
        } else if let Kind::Grpc(probe) = &self.probe.0 {
            probe.is_lone().then_some((Close::Reset, false))
        } else {
            None
        }?;
        let endpoint = self.destination()?;
        match endpoint.host {
            Host::Ip(ip) => {
                let address = SocketAddr::new(ip, endpoint.port);
                Some(Way { address, close, is_kept })
            }
            Host::Name(_) => None,
        }
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
            lines: Lines::default(),
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
        match contained(|| self.board(index, ticket.target(), way, &mut trace)) {
            Some(Ok((wire, call))) => {
                let deadline = trace.deadline();
                self.earliest = Some(self.earliest.map_or(deadline, |then| then.min(deadline)));
                let flight = Flight::new((ticket, started), (trace, call), way.address, wire);
                self.flights[index] = Some(flight);
                self.depart(index);
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

    /// Writes the request, and finds the connection for it: the kept one if it is fit, else a new one.
    fn board(
        &mut self,
        index: usize,
        target: &Target,
        way: Way,
        trace: &mut Trace,
    ) -> Result<(Wire, Option<Box<grpc::Lone>>), Fault> {
        if let Some(probe) = target.plain_http() {
            http::begin(probe, target.endpoint(), trace)?;
        }
        if let Kind::Grpc(probe) = &target.probe.0 {
            let call = grpc::Lone::begin(probe, target.endpoint(), trace);
            return Ok((self.dial(index, way, trace)?, Some(Box::new(call))));
        }
        if let Some(kept) = target.kept()
            && let Some((http::Idle::Plain(line), place)) = kept.take()
            && line.is_fit()
            && self.lines.lend(&line, index)
        {
            trace.peer = Some(line.peer);
            trace.enter(Phase::Exchange);
            return Ok((Wire::Kept(line, Some(place)), None));
        }
        Ok((self.dial(index, way, trace)?, None))
    }

    /// Sends for a new connection.
    fn dial(&mut self, index: usize, way: Way, trace: &mut Trace) -> Result<Wire, Fault> {
        trace.enter(Phase::Connect);
        let options = Options { close: way.close, acknowledge: Acknowledge::Late };
        let socket = resolve::send_for(way.address, options, trace)?;
        if !way.is_kept {
            let token = self.token(index);
            return Ok(Wire::Own(TcpStream::from_std(socket.into()), token));
        }
        // Otherwise the kernel holds back what follows a first write until that is acknowledged.
        socket.set_tcp_nodelay(true).map_err(|error| Fault::local(&error))?;
        let socket = TcpStream::from_std(socket.into());
        let row = self.lines.room();
        let name = (row, self.token(KEPT | row));
        let fit_until = Instant::now() + resolve::MAX_AGE;
        let line = self.lines.open(name, (socket, way.address), fit_until, index);
        Ok(Wire::Kept(Box::new(line), None))
    }

    /// A name for the poller that was not used lately.
    fn token(&mut self, row: usize) -> Token {
        self.generation = (self.generation + 1) & ROW;
        Token(self.generation << HALF | row)
    }

    /// Lets a probe that has a connection, or has sent for one, go as far as it can, and has the poller
    /// tell when it can go on.
    fn depart(&mut self, index: usize) {
        self.step(index, None);
        if let Some(flight) = &mut self.flights[index]
            && let Err(error) = flight.register(self.poll.get_ref().registry())
        {
            self.land(index, Some(Err(Fault::local(&error))));
        }
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

    /// Whether to call [`Plain::turn`] now, news or not, before others are started: a deadline has come,
    /// or there are kept connections, of which it must be known which have ended.
    pub fn wants_a_turn(&self) -> bool {
        let is_due = |deadline| deadline <= Instant::now();
        self.lines.len() > 0 || self.next_deadline().is_some_and(is_due)
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
                    has_ended: event.is_read_closed(),
                };
                self.hear(event.token(), news);
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

    /// Takes in news of a socket, if a probe is still interested in it.
    fn hear(&mut self, token: Token, news: News) {
        let row = token.0 & ROW;
        let index = if row & KEPT == 0 { Some(row) } else { self.lines.user(row & !KEPT, token) };
        let Some(index) = index else {
            // Of a connection that nobody uses. That it can be written to is no news.
            if news.has_input || news.may_have_failed {
                self.lines.ended(row & !KEPT, token);
            }
            return;
        };
        let flight = self.flights.get(index).and_then(Option::as_ref);
        if flight.is_some_and(|flight| flight.wire.token() == token) {
            self.step(index, Some(news));
        }
    }

    /// Lets a probe go as far as it can.
    fn step(&mut self, index: usize, news: Option<News>) {
        let Some(flight) = &mut self.flights[index] else { return };
        match contained(|| flight.advance(news)) {
            Some(Ok(Progress::Waits)) => {}
            Some(Ok(Progress::Dismissed)) => self.try_again(index),
            Some(Err(_)) if flight.may_try_again() => self.try_again(index),
            ended => self.land(index, ended.map(|ended| ended.map(drop))),
        }
    }

    /// Has a probe whose kept connection has failed go on with a new one: the connection's own failure
    /// is not the target's.
    fn try_again(&mut self, index: usize) {
        let Some(mut flight) = self.flights[index].take() else { return };
        let result = contained(|| self.dial_again(index, &mut flight));
        self.flights[index] = Some(flight);
        if let Some(Ok(())) = result {
            self.depart(index);
        } else {
            self.land(index, result);
        }
    }

    fn dial_again(&mut self, index: usize, flight: &mut Flight<T>) -> Result<(), Fault> {
        let target = flight.ticket.target();
        let (Some(probe), Some(way)) = (target.plain_http(), target.plain_way()) else {
            return Err(Fault::ours("a plain probe went astray"));
        };
        flight.trace.begin_again();
        http::write(probe, target.endpoint(), &mut flight.trace);
        let wire = self.dial(index, way, &mut flight.trace)?;
        flight.change_to(wire);
        Ok(())
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
        let Flight { ticket, started, mut trace, wire, is_reusable, .. } = flight;
        let found = observed(&ticket, &mut trace, started, result);
        if let Wire::Kept(line, place) = wire {
            contained(|| self.put_away(ticket.target(), (line, place), is_reusable));
        }
        let mut buffer = std::mem::take(&mut trace.buffer);
        if self.pool.len() < MAX_POOL && buffer.capacity() <= MAX_KEPT_BUFFER {
            buffer.clear();
            self.pool.push(buffer);
        }
        self.landed.push((ticket, found));
    }

    /// Keeps the connection of a probe that has ended, if it can be used again and there is a place.
    fn put_away(
        &mut self,
        target: &Target,
        (line, place): (Box<Line>, Option<grpc::Place>),
        is_reusable: bool,
    ) {
        let Some(kept) = target.kept() else { return };
        let place = place.or_else(|| self.network.places.take());
        match place.filter(|_| is_reusable) {
            Some(place) => {
                self.lines.rest(&line);
                kept.put(http::Idle::Plain(line), place);
            }
            None => kept.let_go(),
        }
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

impl<T> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under_way = self.flights.len() - self.free.len();
        f.debug_struct("Plain").field("under_way", &under_way).finish_non_exhaustive()
    }
}
