//! The UDP probe: one datagram out; success is any answer, the answer expected, or silence.
//!
//! UDP cannot tell silence from success: most servers say nothing to what they do not understand, a
//! firewall drops without a word, and a host that is gone answers nothing either. What there is to
//! see without an answer is the refusal (ICMP port unreachable) of a host that is up and where
//! nobody listens; so silence is a success, as in Consul, and the probe listens for nearly the whole
//! timeout before it says so. Where an answer is expected or required, the first datagram decides,
//! and silence is `timeout_response`.
//!
//! Of a name with several addresses the first is asked: silence is no reason to try the next.

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ::url::Url;
use socket2::Type;
use tokio::{
    io::Interest,
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::{Fault, printable},
    pattern::{Expectation, Pattern},
    resolve,
    tcp::Bytes,
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::{Phase, Reason};

/// Most bytes that one datagram carries over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// Room for an answer of which nobody asks what it says.
const GLANCE: usize = 64;

/// Most bytes of an answer that are shown.
const SHOWN: usize = 80;

/// Silence is a success this long before the deadline: enough for the verdict to be told before the
/// probe expires, or a twentieth of the time left if that is less.
const MARGIN: Duration = Duration::from_millis(50);

/// A UDP check. Without an expectation, silence is a success, for UDP cannot tell more: only a
/// refusal is a failure, and each probe of a silent target takes nearly its whole timeout.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Udp")]
pub struct Spec {
    /// What to send, with the escapes `\r` `\n` `\t` `\0` `\\` and `\x1f`, at most 65507 bytes.
    /// Default: an empty datagram.
    pub send: Option<Bytes>,
    /// What the answer, one datagram, must contain, with the escapes of `send`. Default: nothing.
    pub expect: Option<Bytes>,
    /// Regular expression that the answer must match somewhere. Default: none.
    pub expect_matches: Option<Pattern>,
    /// Whether silence is a failure although nothing is expected of the answer; with `expect` or
    /// `expect_matches` it always is. Default: false.
    pub require_answer: bool,
}

/// A UDP check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
}

impl Spec {
    /// What `udp://host:port` asks.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        Ok((Self::default(), url::endpoint(url)?))
    }

    fn looks_at_answer(&self) -> bool {
        self.expect.is_some() || self.expect_matches.is_some()
    }

    fn expectation(&self) -> Expectation<'_> {
        Expectation { text: self.expect.as_ref(), pattern: self.expect_matches.as_ref() }
    }

    fn judge(&self, answer: &[u8]) -> Result<(), Fault> {
        if self.expectation().is_met(answer) {
            return Ok(());
        }
        let expected = printable(self.expectation().to_string().as_bytes(), SHOWN);
        let got = printable(answer.trim_ascii(), SHOWN);
        let detail = format!("the answer is not as expected; expected {expected}; got \"{got}\"");
        Err(Fault::new(Reason::Body, detail))
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        if spec.send.as_ref().is_some_and(|bytes| bytes.as_slice().len() > MAX_DATAGRAM) {
            return Err(PrepareError::Conflict("`send` does not fit into one datagram"));
        }
        Ok(Self { spec: spec.clone() })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }
}

/// Sends, and listens as long as it must.
pub(super) async fn probe(
    Probe { spec }: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let address = resolve::first(endpoint, trace).await?;
    trace.peer = Some(address);
    trace.enter(Phase::Exchange);
    let socket = open(address, trace.source())?;
    let datagram = spec.send.as_ref().map_or(&[][..], Bytes::as_slice);
    socket.send(datagram).await.map_err(|error| Fault::exchange(&error))?;
    if spec.looks_at_answer() {
        receive(&socket, MAX_DATAGRAM, trace).await?;
        return spec.judge(&trace.buffer);
    }
    if spec.require_answer {
        return receive(&socket, GLANCE, trace).await;
    }
    let until = silent_after(Instant::now(), trace.deadline());
    // What has not come by then need not come.
    timeout_at(until, receive(&socket, GLANCE, trace)).await.unwrap_or(Ok(()))
}

/// When silence is a success.
pub(super) fn silent_after(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    deadline.checked_sub(MARGIN.min(left / 20)).unwrap_or(deadline)
}

/// A socket that takes datagrams from this address only, and is told of its refusals.
pub(super) fn open(address: SocketAddr, source: Option<IpAddr>) -> Result<UdpSocket, Fault> {
    let socket = resolve::socket(address, Type::DGRAM).map_err(|error| Fault::local(&error))?;
    if let Some(source) = source {
        resolve::bind(&socket, source, address)?;
    }
    socket.connect(&address.into()).map_err(|error| Fault::at_once(&error))?;
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| Fault::local(&error))?;
    // On this very host the kernel may choose the target's own port as the source port where nobody
    // listens, and the probe would answer itself.
    if socket.local_addr().map_err(|error| Fault::local(&error))? == address {
        return Err(Fault::connect(&io::ErrorKind::ConnectionRefused.into()));
    }
    Ok(socket)
}

/// The error that is pending on a socket, if there is one.
fn refusal(socket: &UdpSocket) -> io::Result<()> {
    let pending = || Err(socket.take_error()?.unwrap_or(io::ErrorKind::WouldBlock.into()));
    match socket.try_io(Interest::ERROR, pending) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

/// Receives one datagram, which may be empty. Room is made for it only once it is there.
pub(super) async fn receive(
    socket: &UdpSocket,
    room: usize,
    trace: &mut Trace,
) -> Result<(), Fault> {
    loop {
        // A refusal alone does not make a socket readable.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await;
        if ready.map_err(|error| Fault::exchange(&error))?.is_error() {
            refusal(socket).map_err(|error| Fault::exchange(&error))?;
        }
        trace.buffer.reserve(room);
        match socket.try_recv_buf(&mut trace.buffer) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Fault::exchange(&error)),
        }
    }
}
