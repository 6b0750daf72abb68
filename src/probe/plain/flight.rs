//! One plain probe under way: how far it is, and what news of its socket it takes to go on.

use std::{io, net::SocketAddr};

use mio::{Interest, Registry, Token, net::TcpStream};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::SockRef;

use super::Ticket;
use crate::{
    clock::Timestamp,
    model::Phase,
    probe::{Kind, Target, fault::Fault, grpc, http, line::Line, resolve, trace::Trace},
};

/// One probe under way.
pub(super) struct Flight<T> {
    pub(super) ticket: T,
    pub(super) started: Timestamp,
    pub(super) trace: Trace,
    pub(super) address: SocketAddr,
    pub(super) wire: Wire,
    pub(super) stage: Stage,
    /// A call that is to be made, or is being made.
    pub(super) call: Option<Box<grpc::Lone>>,
    /// Whether the poller knows the socket.
    pub(super) is_known: bool,
    /// Whether the answer has left the connection as it must be for another request.
    pub(super) is_reusable: bool,
}

/// The connection of a probe.
#[derive(Debug)]
pub(super) enum Wire {
    /// For this one probe.
    Own(TcpStream, Token),
    /// To be kept if possible; if it was kept before, it has a place.
    Kept(Box<Line>, Option<grpc::Place>),
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Until the socket is writable; a request is in the trace's buffer already.
    Connecting,
    /// So many bytes of the request are sent.
    Asking(usize),
    /// The answer comes into the trace's buffer.
    Listening(Ear),
}

/// What understands an answer.
#[derive(Debug)]
pub(super) enum Ear {
    Http(http::Reader),
    Grpc(Box<grpc::Lone>),
}

/// What the poller says of a socket. It says so once.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    /// An error waits, or the socket can no longer be written to.
    pub(super) may_have_failed: bool,
    /// There is something to read, be it the end.
    pub(super) has_input: bool,
    /// No more will come from the target.
    pub(super) has_ended: bool,
}

/// Whether a probe has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for news.
    Waits,
    /// It has succeeded.
    Done,
    /// The target has ended the connection for its own reasons, and not looked at the request.
    Dismissed,
}

impl Wire {
    pub(super) fn token(&self) -> Token {
        match self {
            Self::Own(_, token) => *token,
            Self::Kept(line, _) => line.token,
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Own(socket, _) => socket,
            Self::Kept(line, _) => &line.socket,
        }
    }
}

impl Target {
    pub(super) fn plain_http(&self) -> Option<&http::Probe> {
        if let Kind::Http(probe) = &self.probe.0 { Some(probe) } else { None }
    }
}

impl<T: Ticket> Flight<T> {
    /// A probe with its connection: the kept one, or one that is sent for.
    pub(super) fn new(
        (ticket, started): (T, Timestamp),
        (trace, call): (Trace, Option<Box<grpc::Lone>>),
        address: SocketAddr,
        wire: Wire,
    ) -> Self {
        let (stage, is_known) = match &wire {
            Wire::Kept(_, Some(_)) => (Stage::Asking(0), true),
            Wire::Kept(_, None) | Wire::Own(..) => (Stage::Connecting, false),
        };
        let is_reusable = false;
        Self { ticket, started, trace, address, wire, stage, call, is_known, is_reusable }
    }

    /// Begins again with another connection, which is sent for; the request is in the trace's buffer.
    pub(super) fn change_to(&mut self, wire: Wire) {
        self.wire = wire;
        self.stage = Stage::Connecting;
        self.is_known = false;
        self.is_reusable = false;
    }

    /// Has the poller tell of the socket, unless it does already.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        if self.is_known {
            return Ok(());
        }
        let token = self.wire.token();
        let socket = match &mut self.wire {
            Wire::Own(socket, _) => socket,
            Wire::Kept(line, _) => &mut line.socket,
        };
        registry.register(socket, token, Interest::READABLE | Interest::WRITABLE)?;
        self.is_known = true;
        Ok(())
    }

    /// Whether what has failed is a connection that was kept, and nothing is known of the target: as
    /// long as it has not begun to answer.
    pub(super) fn may_try_again(&self) -> bool {
        matches!(self.wire, Wire::Kept(_, Some(_))) && !self.trace.has_answer_begun()
    }

    /// Goes on as far as it can. Without news it has just begun.
    pub(super) fn advance(&mut self, news: Option<News>) -> Result<Progress, Fault> {
        if let Stage::Connecting = self.stage {
            let is_made = match news {
                Some(news) => self.settle(news).map(|()| true),
                None => self.is_there_at_once(),
            };
            if !is_made.map_err(|error| Fault::connect(&error))? {
                return Ok(Progress::Waits);
            }
            if let Wire::Kept(line, _) = &self.wire {
                resolve::give_up_after(self.trace.timeout() / 2, &line.socket);
            }
        }
        if self.asks_nothing() {
            return Ok(Progress::Done);
        }
        let Self { ticket, trace, wire, stage, call, is_reusable, .. } = self;
        if trace.phase() == Phase::Connect {
            trace.enter(Phase::Exchange);
        }
        let socket = wire.socket();
        if let Stage::Asking(sent) = stage {
            if !tell(socket, &trace.buffer, sent).map_err(|error| Fault::exchange(&error))? {
                return Ok(Progress::Waits);
            }
            trace.buffer.clear();
            let http = || Ear::Http(http::Reader::default());
            *stage = Stage::Listening(call.take().map_or_else(http, Ear::Grpc));
            // An answer that is not there yet will be news.
            if !news.is_some_and(|news| news.has_input) {
                return Ok(Progress::Waits);
            }
        }
        let (reader, probe) = match (stage, ticket.target().plain_http()) {
            (Stage::Listening(Ear::Http(reader)), Some(probe)) => (reader, probe),
            (Stage::Listening(Ear::Grpc(call)), _) => return converse(socket, call, trace),
            _ => return Ok(Progress::Waits),
        };
        let received = match hear(socket, reader, probe, trace) {
            Ok(None) => return Ok(Progress::Waits),
            Ok(Some(received)) => Ok(received),
            Err(fault) => Err(fault),
        };
        if let (Ok(answer), Wire::Kept(_, place)) = (&received, &*wire) {
            if place.is_some() && answer.is_farewell() {
                return Ok(Progress::Dismissed);
            }
            let has_failed = news.is_some_and(|news| news.has_ended || news.may_have_failed);
            *is_reusable = answer.is_reusable() && !has_failed;
        }
        http::conclude(probe, received, trace).map(|()| Progress::Done)
    }

    /// Whether all that is asked is that there is a connection.
    fn asks_nothing(&self) -> bool {
        matches!(self.ticket.target().probe.0, Kind::Tcp(_))
    }

    /// Sees what became of the connection that there is news of.
    fn settle(&mut self, news: News) -> io::Result<()> {
        let socket = SockRef::from(self.wire.socket());
        if news.may_have_failed {
            resolve::settle(&socket, self.address)?;
        } else {
            resolve::settle_made(&socket, self.address)?;
        }
        self.stage = Stage::Asking(0);
        Ok(())
    }

    /// Whether a connection alone is asked for, and is there already. To this very host it is there
    /// when the call returns that has sent for it: asking spares telling the poller, and being told. A
    /// request that is sent as early gets in the way of a target that is taking the connection.
    fn is_there_at_once(&self) -> io::Result<bool> {
        if !self.address.ip().is_loopback() || !self.asks_nothing() {
            return Ok(false);
        }
        let socket = SockRef::from(self.wire.socket());
        resolve::settle_made(&socket, self.address)?;
        resolve::is_made(&socket, self.address)
    }
}

/// Sends what is left of a request; says whether that was all.
fn tell(socket: &TcpStream, request: &[u8], sent: &mut usize) -> io::Result<bool> {
    while *sent < request.len() {
        match send(socket, &request[*sent..], SendFlags::NOSIGNAL) {
            Ok(more) => *sent += more,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
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
        let (read, room) = match receive(socket, trace)? {
            None => return Ok(None),
            Some((0, _)) => return reader.end(trace).map(Some),
            Some(read) => read,
        };
        if let Some(received) = probe.take_in(reader, trace)? {
            // What has come and had no room was news, and will not be again.
            let is_all = read < room || is_silent(socket);
            return Ok(Some(if is_all { received } else { received.last_of_its_connection() }));
        }
    }
}

/// Reads what there is of the answer to a call, and says what the target waits for before it answers.
fn converse(
    socket: &TcpStream,
    call: &mut grpc::Lone,
    trace: &mut Trace,
) -> Result<Progress, Fault> {
    loop {
        match receive(socket, trace)? {
            None => break,
            Some((0, _)) => return Err(grpc::Lone::closed(trace)),
            Some(_) if call.take_in(trace)? => return Ok(Progress::Done),
            Some(_) => {}
        }
    }
    let mut said = 0;
    let result = tell(socket, call.owed(), &mut said);
    call.owed().drain(..said);
    result.map(|_| Progress::Waits).map_err(|error| Fault::exchange(&error))
}

/// Reads once into the trace's buffer: how much was read, and how much there was room for; nothing if
/// there is nothing yet.
fn receive(socket: &TcpStream, trace: &mut Trace) -> Result<Option<(usize, usize)>, Fault> {
    loop {
        trace.make_room();
        let room = trace.buffer.capacity() - trace.buffer.len();
        return match recv(socket, spare_capacity(&mut trace.buffer), RecvFlags::empty()) {
            Ok((_, read)) => {
                if read > 0 {
                    trace.answer_begins();
                }
                Ok(Some((read, room)))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => Err(Fault::exchange(&error.into())),
        };
    }
}

/// Whether there is nothing to read, not even the end.
fn is_silent(socket: &TcpStream) -> bool {
    matches!(recv(socket, &mut [0_u8], RecvFlags::PEEK), Err(Errno::AGAIN))
}
