//! One connection that carries one call at a time: HTTP/2 as far as a unary call needs it.
//!
//! The connection is driven by whoever waits for an answer, and by nobody between two probes: pings
//! and settings that come meanwhile are answered with the next call. What one call may take from a
//! target is bounded in frames and bytes, so every flood ends, whatever its frames are called.

use std::{net::SocketAddr, sync::Arc};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{
    Probe,
    answer::{Answer, MAX_HEADERS, Reply},
    request::Request,
};
use crate::{
    model::{Certificate, Phase, Reason},
    probe::{
        endpoint::Endpoint,
        fault::Fault,
        http2::{
            self, ACK, HEAD_LEN, HEADER_TABLE_SIZE, Head, INITIAL_WINDOW_SIZE, Meaning, PING,
            SETTINGS, WINDOW_UPDATE, hpack::Decoder, protocol,
        },
        resolve::{self, Acknowledge, Close},
        tls,
        trace::Trace,
    },
};

/// Most frames and bytes that are read for the sake of one answer. Servers send three to eight frames
/// of less than 300 bytes.
const MAX_FRAMES: usize = 128;
const MAX_BYTES: usize = 64 * 1024;

/// What either side may send before the other says more.
const WINDOW: i64 = 65_535;

/// The header table a target begins with.
const TABLE: u32 = 4096;

/// What is given back of the target's window once this much of it is used.
const GIVE_BACK: u32 = 16 * 1024;

/// The last stream of a connection; numbers end a good deal later.
const LAST_STREAM: u32 = 1 << 30;

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    peer: Option<SocketAddr>,
    certificate: Option<Arc<Certificate>>,
    fit_until: Instant,
    state: State,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

/// What both sides know of a connection.
#[derive(Debug, Default)]
struct State {
    decoder: Decoder,
    /// How many calls were made.
    calls: u32,
    /// How many bytes of calls may be sent on the connection, and on each new stream; from the window
    /// that is there if nothing is said.
    credit: i64,
    stream_credit: i64,
    /// Bytes of answers that were not given back yet.
    taken: u32,
    has_settings: bool,
    /// The target wants a smaller header table than there is at first.
    forgets: bool,
    is_ending: bool,
    /// What is to be said, as soon as there is time.
    owed: Vec<u8>,
}

impl Connection {
    /// Connects; `close` is how the connection will be closed.
    pub(super) async fn open(
        probe: &Probe,
        endpoint: &Endpoint,
        close: Close,
        trace: &mut Trace,
    ) -> Result<Self, Fault> {
        let options = resolve::Options { close, acknowledge: Acknowledge::Late };
        let stream = resolve::connect(endpoint, options, trace).await?;
        if close == Close::Fin {
            resolve::give_up_after(trace.timeout() / 2, &stream);
        }
        let stream: Stream = match &probe.tls {
            None => Either::Left(stream),
            Some(tls) => {
                // Otherwise the kernel holds back the call until the handshake is acknowledged.
                stream.set_nodelay(true).map_err(|error| Fault::connect(&error))?;
                let stream = tls.connect(&endpoint.host, stream, trace).await?;
                tls::agrees_on_h2(&stream)?;
                Either::Right(Box::new(stream))
            }
        };
        Ok(Self {
            stream,
            peer: trace.peer,
            certificate: trace.certificate(),
            fit_until: trace.fit_until(),
            state: State::default(),
            rest: Vec::new(),
        })
    }

    /// Makes the call.
    pub(super) async fn call(
        &mut self,
        probe: &Probe,
        endpoint: &Endpoint,
        trace: &mut Trace,
    ) -> Result<Reply, Fault> {
        trace.peer = self.peer;
        trace.enter(Phase::Exchange);
        trace.buffer.clear();
        let Self { stream, state, rest, .. } = self;
        let mut pending = Pending::of(state.begin(probe, endpoint, &mut trace.buffer));
        stream.write_all(&trace.buffer).await.map_err(|error| Fault::exchange(&error))?;
        stream.flush().await.map_err(|error| Fault::exchange(&error))?;
        trace.buffer.clear();
        trace.buffer.append(rest);
        loop {
            if let Some(reply) = pending.take_in(state, &mut trace.buffer)? {
                rest.extend_from_slice(&trace.buffer);
                return Ok(reply);
            }
            read(stream, state, trace).await?;
        }
    }

    /// For a connection that is to be kept: says what is owed, so that the target need not wait for it
    /// until the next call. Tells whether it can be kept.
    pub(super) fn settle(&mut self) -> bool {
        self.rest.shrink_to_fit();
        if self.state.is_ending || self.state.owed.is_empty() {
            return !self.state.is_ending;
        }
        let Self { stream, state, .. } = self;
        let owed = std::mem::take(&mut state.owed);
        let said = async {
            stream.write_all(&owed).await?;
            stream.flush().await
        };
        matches!(said.now_or_never(), Some(Ok(())))
    }

    /// Whether another call may be made on it: it is open, it has room, and it is not too old.
    pub(super) fn is_fit(&mut self, probe: &Probe) -> bool {
        Instant::now() < self.fit_until
            && self.catch_up().is_ok()
            && self.state.has_room(probe.request.size())
    }

    /// The certificate that was presented when it was made.
    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Takes in what the target has said meanwhile.
    fn catch_up(&mut self) -> Result<(), Fault> {
        let mut frames = 0;
        let mut none = Answer::after(self.state.stream());
        loop {
            let (used, _) = self.state.take_all(&self.rest, &mut none, &mut frames)?;
            self.rest.drain(..used);
            if self.rest.len() > MAX_BYTES {
                return Err(protocol("too much was said unasked"));
            }
            match self.stream.read_buf(&mut self.rest).now_or_never() {
                None => return Ok(()),
                Some(Ok(1..)) => {}
                Some(Ok(0)) => return Err(closed(&[])),
                Some(Err(error)) => return Err(Fault::exchange(&error)),
            }
        }
    }
}

/// Reads on. If that takes time, the target is told before what it is owed.
async fn read(stream: &mut Stream, state: &mut State, trace: &mut Trace) -> Result<(), Fault> {
    let at_once = if state.owed.is_empty() { None } else { trace.fill(stream).now_or_never() };
    let read = if let Some(read) = at_once {
        read?
    } else {
        if !state.owed.is_empty() {
            stream.write_all(&state.owed).await.map_err(|error| Fault::exchange(&error))?;
            stream.flush().await.map_err(|error| Fault::exchange(&error))?;
            state.owed.clear();
        }
        trace.fill(stream).await?
    };
    if read == 0 { Err(closed(&trace.buffer)) } else { Ok(()) }
}

/// A call that was made and is not answered yet.
#[derive(Debug)]
struct Pending {
    answer: Answer,
    frames: usize,
    bytes: usize,
}

impl Pending {
    const fn of(answer: Answer) -> Self {
        Self { answer, frames: 0, bytes: 0 }
    }

    /// Takes what is whole from what was read; the answer, once it is there.
    fn take_in(&mut self, state: &mut State, read: &mut Vec<u8>) -> Result<Option<Reply>, Fault> {
        let (used, reply) = state.take_all(read, &mut self.answer, &mut self.frames)?;
        read.drain(..used);
        self.bytes += used;
        if reply.is_none() && self.bytes + read.len() > MAX_BYTES {
            return Err(protocol(format!("no answer to the call in {MAX_BYTES} bytes")));
        }
        Ok(reply)
    }
}

/// A call on a connection of its own, in plain text, that somebody else drives.
#[derive(Debug)]
pub(in crate::probe) struct Lone {
    state: State,
    pending: Pending,
}

impl Lone {
    /// Writes the call, with what opens a connection, into the trace's buffer.
    pub(in crate::probe) fn begin(probe: &Probe, endpoint: &Endpoint, trace: &mut Trace) -> Self {
        let mut state = State::default();
        trace.buffer.clear();
        let answer = state.begin(probe, endpoint, &mut trace.buffer);
        Self { state, pending: Pending::of(answer) }
    }

    /// Takes in what has come into the trace's buffer. Says whether the call is answered, and well.
    pub(in crate::probe) fn take_in(&mut self, trace: &mut Trace) -> Result<bool, Fault> {
        match self.pending.take_in(&mut self.state, &mut trace.buffer)? {
            Some(reply) => super::judge(reply, trace).map(|()| true),
            None => Ok(false),
        }
    }

    /// What is to be said to the target if it has no answer yet; what was said is to be taken away.
    pub(in crate::probe) const fn owed(&mut self) -> &mut Vec<u8> {
        &mut self.state.owed
    }

    /// What it means that the target ends the connection now.
    pub(in crate::probe) fn closed(trace: &Trace) -> Fault {
        closed(&trace.buffer)
    }
}

fn closed(unread: &[u8]) -> Fault {
    let detail = if unread.is_empty() {
        "the target closed the connection without an answer"
    } else {
        "the target closed the connection within a frame"
    };
    Fault::new(Reason::ConnectionReset, detail)
}

impl State {
    /// The stream of the last call.
    fn stream(&self) -> u32 {
        (2 * self.calls).saturating_sub(1)
    }

    /// Whether a call of so many bytes may be made now.
    fn has_room(&self, size: usize) -> bool {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let is_open = !self.is_ending && self.stream() < LAST_STREAM;
        is_open && size <= WINDOW + self.credit && size <= WINDOW + self.stream_credit
    }

    /// Writes the next call, and what is owed before it.
    fn begin(&mut self, probe: &Probe, endpoint: &Endpoint, out: &mut Vec<u8>) -> Answer {
        if self.calls == 0 {
            Request::open(MAX_HEADERS, out);
        }
        out.append(&mut self.owed);
        if self.taken >= GIVE_BACK {
            http2::write(out, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        self.calls += 1;
        let (request, stream) = (&probe.request, self.stream());
        match &probe.spec.authority {
            Some(authority) => request.write(stream, authority.as_str(), self.forgets, out),
            None => request.write(stream, &endpoint.to_string(), self.forgets, out),
        }
        self.credit -= i64::try_from(request.size()).unwrap_or(i64::MAX);
        Answer::new(stream)
    }

    /// Takes all frames that are whole; returns how many bytes they had, and the answer once it is
    /// there.
    fn take_all(
        &mut self,
        bytes: &[u8],
        answer: &mut Answer,
        frames: &mut usize,
    ) -> Result<(usize, Option<Reply>), Fault> {
        let mut used = 0;
        while let Some((head, payload)) = http2::first(&bytes[used..])? {
            used += HEAD_LEN + payload.len();
            *frames += 1;
            if *frames > MAX_FRAMES {
                return Err(protocol(format!("no answer to the call in {MAX_FRAMES} frames")));
            }
            if let Some(reply) = self.take(head, payload, answer)? {
                return Ok((used, Some(reply)));
            }
        }
        Ok((used, None))
    }

    fn take(
        &mut self,
        head: Head,
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Option<Reply>, Fault> {
        let meaning = head.meaning(payload)?;
        if !self.has_settings && !matches!(meaning, Meaning::Settings(_)) {
            return Err(protocol("the target's first frame is not SETTINGS"));
        }
        if answer.is_amid_headers() && meaning != Meaning::OfStream {
            return Err(head.misplaced());
        }
        match meaning {
            Meaning::Nothing => {}
            Meaning::Settings(payload) => self.settle_on(payload)?,
            Meaning::Ping(theirs) => http2::write(&mut self.owed, PING, ACK, 0, &theirs),
            Meaning::Pong(_) => return Err(protocol("a ping acknowledged that was not sent")),
            Meaning::Credit(more) => {
                self.credit += i64::from(more);
                if self.credit > i64::from(i32::MAX) - WINDOW {
                    return Err(protocol("a window that is too large"));
                }
            }
            Meaning::GoAway(goaway) => {
                // In order, and this call is still answered.
                let is_answered = goaway.code == 0 && goaway.last >= self.stream();
                if !is_answered {
                    return Err(goaway.fault());
                }
                self.is_ending = true;
            }
            Meaning::OfStream => {
                if head.kind == http2::DATA {
                    self.taken += u32::try_from(payload.len()).unwrap_or(u32::MAX);
                }
                return answer.take(head, payload, &mut self.decoder);
            }
        }
        Ok(None)
    }

    fn settle_on(&mut self, payload: &[u8]) -> Result<(), Fault> {
        self.has_settings = true;
        for (setting, value) in http2::settings(payload) {
            match setting {
                HEADER_TABLE_SIZE => self.forgets |= value < TABLE,
                INITIAL_WINDOW_SIZE if value > i32::MAX.unsigned_abs() => {
                    return Err(protocol("a window that is too large"));
                }
                INITIAL_WINDOW_SIZE => self.stream_credit = i64::from(value) - WINDOW,
                _ => {}
            }
        }
        http2::write(&mut self.owed, SETTINGS, ACK, 0, &[]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
