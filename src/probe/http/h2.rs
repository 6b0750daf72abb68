//! One request and its answer over HTTP/2.
//!
//! The connection is driven by whoever waits for an answer, and between two probes by whoever waits for
//! its end (`kept`), if anybody does: a target cannot have us work for ever while we ask nothing.
//! What it can make us keep is bounded by the library's flow control (64 KiB), by the size of a head
//! (32 KiB, 100 headers) and of the header table (4 KiB), and what it can make us read by a
//! [`Guarded`] stream. Trailers are not read: nothing is asked of them.

use std::{
    future::poll_fn,
    io::ErrorKind,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use ::h2::{
    Reason as Code, RecvStream,
    client::{self, ResponseFuture, SendRequest},
};
use bytes::Bytes;
use futures_util::{FutureExt, future::Either, future::select};

use super::{
    body::MAX_BODY,
    exchange::{MAX_INTERIM, Received},
    guard::{Allowance, Guarded},
    head::{self, Body, MAX_HEAD, Terms},
    session::Stream,
};
use crate::{
    model::{Answer, Phase, Reason},
    probe::{fault::Fault, trace::Trace},
};

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    connection: client::Connection<Guarded<Stream>, Bytes>,
    allowance: Allowance,
}

impl Session {
    /// Sends what opens a connection; the target's own settings come with the first answer.
    pub(super) async fn open(stream: Stream) -> Result<Self, Fault> {
        let allowance = Allowance::new();
        let stream = Guarded::new(stream, allowance.clone());
        let (sender, connection) = client::Builder::new()
            .enable_push(false)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .handshake(stream)
            .await
            .map_err(|error| fault(&error))?;
        Ok(Self { sender, connection, allowance })
    }

    /// Whether another request may be made: nothing came meanwhile that ended the connection.
    pub(super) fn is_fit(&mut self) -> bool {
        self.allowance.renew();
        (&mut self.connection).now_or_never().is_none()
    }

    /// Whether it has ended, while nobody asks. To be woken, else.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.connection).poll(context).map(drop)
    }

    /// Asks, and leaves the answer's body in the trace's buffer.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<()>,
        body: Bytes,
        terms: Terms<'_>,
        trace: &mut Trace,
    ) -> Result<Received, Fault> {
        trace.enter(Phase::Exchange);
        trace.buffer.clear();
        self.allowance.renew();
        let sender = self.sender.clone();
        let talk = pin!(converse(sender, (request, body), &self.allowance, terms, trace));
        match select(talk, &mut self.connection).await {
            Either::Left((result, _)) => result,
            // The connection has ended. The answer may have come before, else the talk knows that
            // it does not come; only the connection knows why.
            Either::Right((end, talk)) => match (talk.now_or_never(), end) {
                (Some(Ok(received)), _) => Ok(Received { is_reusable: false, ..received }),
                (_, Err(error)) => Err(fault(&error)),
                (Some(Err(fault)), Ok(())) => Err(fault),
                (None, Ok(())) => Err(closed()),
            },
        }
    }

    /// Says good-bye as far as that can be done at once; the connection is closed anyway.
    pub(super) fn close(self) {
        let Self { sender, connection, .. } = self;
        drop(sender);
        drop(connection.now_or_never());
    }
}

async fn converse(
    sender: SendRequest<Bytes>,
    (request, body): (http::Request<()>, Bytes),
    allowance: &Allowance,
    terms: Terms<'_>,
    trace: &mut Trace,
) -> Result<Received, Fault> {
    let mut sender = sender.ready().await.map_err(|error| fault(&error))?;
    let is_whole = body.is_empty();
    let (mut response, mut stream) =
        sender.send_request(request, is_whole).map_err(|error| fault(&error))?;
    if !is_whole {
        stream.send_data(body, true).map_err(|error| fault(&error))?;
    }
    pass_interim(&mut response).await?;
    let (parts, mut body) = response.await.map_err(|error| fault(&error))?.into_parts();
    trace.answer_begins();
    trace.enter(Phase::Transfer);
    let head = head::of_http2(parts.status.as_u16(), &parts.headers, terms)?;
    trace.answer = Answer::Http(head.status);
    if terms.body == Body::Forbidden {
        // One that is sent all the same is passed over, as in HTTP/1.1.
        return Ok(Received { is_reusable: body.is_end_stream(), head, cut: false });
    }
    let cut = read_body(&mut body, allowance, trace).await?;
    Ok(Received { is_reusable: !cut, head, cut })
}

/// Waits until there are no more interim answers.
async fn pass_interim(response: &mut ResponseFuture) -> Result<(), Fault> {
    for _ in 0..=MAX_INTERIM {
        match poll_fn(|context| response.poll_informational(context)).await {
            None => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(fault(&error)),
        }
    }
    Err(Fault::new(Reason::Protocol, format!("more than {MAX_INTERIM} interim answers")))
}

/// Reads as much as is of interest; says whether there is more.
async fn read_body(
    body: &mut RecvStream,
    allowance: &Allowance,
    trace: &mut Trace,
) -> Result<bool, Fault> {
    while let Some(part) = body.data().await {
        let part = part.map_err(|error| fault(&error))?;
        allowance.credit(part.len());
        let room = MAX_BODY - trace.buffer.len();
        trace.buffer.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room || (part.len() == room && !body.is_end_stream()) {
            return Ok(true);
        }
        // It can fail only for a stream that has ended, which the next read tells.
        drop(body.flow_control().release_capacity(part.len()));
    }
    Ok(false)
}

/// What an error of the library means.
fn fault(error: &::h2::Error) -> Fault {
    if let Some(io) = error.get_io() {
        // Of a TLS alert, the library keeps no more than this kind and the text.
        return if io.kind() == ErrorKind::InvalidData {
            Fault::new(Reason::TlsOther, io.to_string())
        } else if io.kind() == ErrorKind::QuotaExceeded {
            Fault::new(Reason::Protocol, io.to_string())
        } else if io.kind() == ErrorKind::Other {
            // The library's own word for an end within a frame.
            Fault::new(Reason::ConnectionReset, format!("the target closed within a frame: {io}"))
        } else {
            Fault::exchange(io)
        };
    }
    // A target may end what it has begun to answer, and does so in order when it is stopped.
    let is_cut = error.is_reset() || error.reason() == Some(Code::NO_ERROR);
    let is_cut = is_cut && error.is_remote();
    let reason = if is_cut { Reason::ConnectionReset } else { Reason::Protocol };
    Fault::new(reason, error.to_string())
}

fn closed() -> Fault {
    Fault::new(Reason::ConnectionReset, "the target closed the connection without an answer")
}
