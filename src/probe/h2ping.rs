//! The HTTP/2 ping: success is a connection, with TLS unless it is plaintext, on which the target
//! acknowledges a PING frame with the bytes that were sent.
//!
//! It asks less than a request: no stream is opened, so nothing behind the target's HTTP/2 layer is
//! touched. Written on the socket, since that is all there is to it (RFC 9113, sections 3.4, 4.1,
//! 6.5 and 6.7): the preface, our SETTINGS and the PING go out at once, and then frames are read
//! until the answer is among them. Frames that cannot come on a connection without streams, that
//! break their form, or that do not end, are `protocol`; so is GOAWAY.

#[cfg(test)]
mod tests;

use ::url::Url;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    http2::{
        self, ACK, GOAWAY, HEAD_LEN, Head, Meaning, Opaque, PING, PREFACE, SETTINGS, protocol,
    },
    nonce::nonce,
    resolve::{self, Acknowledge, Close},
    tls,
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::{Phase, Reason};

/// Most frames and bytes that are read for the sake of one answer. Servers send two to five frames
/// of less than 100 bytes.
const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 64 * 1024;

/// An HTTP/2 check: the target must acknowledge a PING frame.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "H2ping")]
pub struct Spec {
    /// How the target's certificate is checked. Default: the system's authorities
    /// must vouch for the host that is probed.
    pub tls: Option<tls::Spec>,
    /// Speak HTTP/2 without TLS (h2c, with prior knowledge). Default: false, TLS with the protocol
    /// `h2` agreed on (ALPN).
    pub plaintext: bool,
}

/// An HTTP/2 check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
    tls: Option<tls::Client>,
}

impl Spec {
    /// What `h2://host:port` and `h2c://host:port` ask.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        let plaintext = url.scheme() == "h2c";
        Ok((Self { plaintext, ..Self::default() }, url::endpoint(url)?))
    }

    /// How certificates are checked; nothing in plaintext.
    pub(super) fn tls_mut(&mut self) -> Option<&mut tls::Spec> {
        (!self.plaintext).then(|| self.tls.get_or_insert_default())
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        let tls = match (&spec.tls, spec.plaintext) {
            (Some(_), true) => {
                return Err(PrepareError::Conflict("`plaintext` leaves no place for `tls`"));
            }
            (None, true) => None,
            (Some(tls), false) => Some(tls::Client::prepare(tls, Some(b"h2"))?),
            (None, false) => Some(tls::Client::prepare(&tls::Spec::default(), Some(b"h2"))?),
        };
        Ok(Self { spec: spec.clone(), tls })
    }

    pub(super) fn tls(&self) -> Option<&tls::Client> {
        self.tls.as_ref()
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }
}

/// Connects, and pings.
pub(super) async fn probe(
    probe: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    // A reset could overtake the GOAWAY.
    let options = resolve::Options { close: Close::Fin, acknowledge: Acknowledge::Late };
    let stream = resolve::connect(endpoint, options, trace).await?;
    // Otherwise what we answer waits for what we sent to be acknowledged.
    stream.set_nodelay(true).map_err(|error| Fault::connect(&error))?;
    match &probe.tls {
        None => ping(stream, trace).await,
        Some(tls) => {
            let stream = tls.connect(&endpoint.host, stream, trace).await?;
            tls::agrees_on_h2(&stream)?;
            ping(stream, trace).await
        }
    }
}

async fn ping<S>(mut stream: S, trace: &mut Trace) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    trace.enter(Phase::Exchange);
    let opaque = nonce().to_be_bytes();
    exchange(&mut stream, opaque, trace).await?;
    let goodbye = async {
        stream.write_all(&frame(GOAWAY, 0, &[0; 8])).await?;
        stream.shutdown().await
    };
    // The verdict is there: a goodbye that does not leave at once does not leave at all.
    goodbye.now_or_never();
    Ok(())
}

/// Opens the conversation, and goes on until the ping is answered.
async fn exchange<S>(stream: &mut S, sent: Opaque, trace: &mut Trace) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opening = [PREFACE, &frame(SETTINGS, 0, &[]), &frame(PING, 0, &sent)].concat();
    say(stream, &opening).await?;
    let mut start = 0;
    for number in 0..MAX_FRAMES {
        let payload_start = start + HEAD_LEN;
        read_to(stream, start, payload_start, trace).await?;
        let head = trace.buffer[start..].first_chunk().expect("so much has been read");
        let head = Head::parse(*head)?;
        let end = payload_start + head.length;
        read_to(stream, start, end, trace).await?;
        let meaning = head.meaning(&trace.buffer[payload_start..end])?;
        if number == 0 && !matches!(meaning, Meaning::Settings(_)) {
            return Err(protocol("the target's first frame is not SETTINGS"));
        }
        match meaning {
            Meaning::Nothing | Meaning::Credit(_) => {}
            Meaning::Settings(_) => say(stream, &frame(SETTINGS, ACK, &[])).await?,
            Meaning::Ping(theirs) => say(stream, &frame(PING, ACK, &theirs)).await?,
            Meaning::Pong(answer) if answer == sent => return Ok(()),
            Meaning::Pong(_) => return Err(protocol("the target acknowledged another ping")),
            Meaning::GoAway(goaway) => return Err(goaway.fault()),
            Meaning::OfStream => return Err(head.misplaced()),
        }
        start = end;
    }
    Err(protocol(format!("no answer to the ping in {MAX_FRAMES} frames")))
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), Fault> {
    stream.write_all(bytes).await.map_err(|error| Fault::exchange(&error))?;
    stream.flush().await.map_err(|error| Fault::exchange(&error))
}

/// Reads until the buffer holds `end` bytes of what the target says, of which the frame under way
/// begins at `start`.
async fn read_to<S>(
    stream: &mut S,
    start: usize,
    end: usize,
    trace: &mut Trace,
) -> Result<(), Fault>
where
    S: AsyncRead + Unpin,
{
    if end > MAX_BYTES {
        return Err(protocol(format!("no answer to the ping in {MAX_BYTES} bytes")));
    }
    while trace.buffer.len() < end {
        if trace.fill(stream).await? == 0 {
            return Err(if trace.buffer.len() > start {
                protocol("the target closed the connection in the middle of a frame")
            } else {
                let detail = "the target closed the connection before it answered the ping";
                Fault::new(Reason::ConnectionReset, detail)
            });
        }
    }
    Ok(())
}

/// A frame on stream 0, with a payload of a few bytes.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_LEN + payload.len());
    http2::write(&mut frame, kind, flags, 0, payload);
    frame
}
