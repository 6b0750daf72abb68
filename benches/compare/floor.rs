//! What nobody can do without: the same exchange on bare sockets and one epoll, and nothing else.
//!
//! Run as a program of its own. It makes the same connects, writes and reads with the same socket
//! options as rollcall, knows no timeout, keeps no result, and looks at an answer no further than
//! whether it is the one it expects.

use std::{io::Write as _, mem::MaybeUninit, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{Timespec, epoll},
    net::{self, AddressFamily, SocketFlags, SocketType, sockopt},
    time::{self, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags},
};
use tokio::time::Instant;

use super::{Failure, Kind, Pace, target};

/// Stands for the timer among the probes.
const TIMER: u64 = u64::MAX;

const EXPECTED: &[u8] = b"HTTP/1.1 200 ";

/// What the floor asks, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    pub(super) kind: Kind,
    pub(super) port: u16,
    pub(super) targets: u32,
    pub(super) pace: Pace,
}

struct Flight {
    socket: OwnedFd,
    target: u32,
    sent: bool,
}

struct Engine {
    floor: Floor,
    epoll: OwnedFd,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    under_way: usize,
    next: u32,
    request: Vec<u8>,
    /// Connections that are kept, by target.
    kept: Vec<Option<usize>>,
}

/// Probes until it is killed.
pub(super) fn run(floor: Floor) -> Result<(), Failure> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let kept = if floor.kind == Kind::Kept { floor.targets as usize } else { 0 };
    let mut engine = Engine {
        floor,
        epoll,
        flights: Vec::new(),
        free: Vec::new(),
        under_way: 0,
        next: 0,
        request: Vec::new(),
        kept: vec![None; kept],
    };
    match floor.pace {
        Pace::Rate { rate, tick } => engine.paced(rate, tick),
        Pace::Saturated { flights } => engine.saturated(flights),
    }
}

impl Engine {
    fn paced(&mut self, rate: u32, tick: Duration) -> Result<(), Failure> {
        let timer = time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(tick.subsec_nanos()) };
        let every = Itimerspec { it_interval: tick, it_value: tick };
        time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
        let data = epoll::EventData::new_u64(TIMER);
        epoll::add(&self.epoll, &timer, data, epoll::EventFlags::IN)?;
        let (start, mut made) = (Instant::now(), 0_u64);
        loop {
            if self.wait()? {
                rustix::io::read(&timer, &mut [0; 8])?;
                let due = start.elapsed().as_micros() * u128::from(rate) / 1_000_000;
                while u128::from(made) < due {
                    made += 1;
                    self.start()?;
                }
            }
        }
    }

    fn saturated(&mut self, flights: usize) -> Result<(), Failure> {
        loop {
            while self.under_way < flights {
                self.start()?;
            }
            self.wait()?;
        }
    }

    /// Takes in what has happened; says whether the timer has struck.
    fn wait(&mut self) -> Result<bool, Failure> {
        let mut events = [MaybeUninit::uninit(); 256];
        let (ready, _) = epoll::wait(&self.epoll, &mut events, None)?;
        let mut ticked = false;
        for event in ready.iter() {
            match event.data.u64() {
                TIMER => ticked = true,
                index => self.advance(usize::try_from(index)?)?,
            }
        }
        Ok(ticked)
    }

    fn start(&mut self) -> Result<(), Failure> {
        let target = self.next % self.floor.targets;
        self.next = self.next.wrapping_add(1);
        self.under_way += 1;
        if let Some(Some(index)) = self.kept.get(target as usize).copied() {
            return self.send(index);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        if self.floor.kind != Kind::Kept {
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
            sockopt::set_tcp_quickack(&socket, false)?;
        }
        let address = SocketAddr::from((target::address(target), self.floor.port));
        match net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(format!("connecting to {address}: {error}").into()),
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(index as u64), interest)?;
        self.flights[index] = Some(Flight { socket, target, sent: false });
        Ok(())
    }

    fn send(&mut self, index: usize) -> Result<(), Failure> {
        let Some(flight) = &mut self.flights[index] else { return Err("no such flight".into()) };
        self.request.clear();
        let host = target::address(flight.target);
        let close = if self.floor.kind == Kind::Kept { "" } else { "Connection: close\r\n" };
        write!(
            self.request,
            "GET /health HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: floor\r\nAccept: */*\r\n{close}\r\n",
            self.floor.port
        )?;
        net::send(&flight.socket, &self.request, net::SendFlags::NOSIGNAL)?;
        flight.sent = true;
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<(), Failure> {
        let Some(flight) = self.flights.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        if !flight.sent {
            return match self.floor.kind {
                Kind::Tcp => {
                    self.end(index);
                    Ok(())
                }
                Kind::Http | Kind::Kept => self.send(index),
            };
        }
        let mut answer = [0_u8; 512];
        let read = match net::recv(&flight.socket, &mut answer[..], net::RecvFlags::empty()) {
            Ok((read, _)) => read,
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(format!("reading an answer: {error}").into()),
        };
        if !answer[..read].starts_with(EXPECTED) {
            return Err("not the answer that was expected".into());
        }
        if self.floor.kind == Kind::Kept {
            self.kept[flight.target as usize] = Some(index);
            self.under_way -= 1;
            return Ok(());
        }
        self.end(index);
        Ok(())
    }

    fn end(&mut self, index: usize) {
        self.flights[index] = None;
        self.free.push(index);
        self.under_way -= 1;
    }
}
