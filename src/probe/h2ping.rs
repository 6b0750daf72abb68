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
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    nonce::nonce,
    resolve::{self, Acknowledge, Close},
    tls,
    trace::Trace,
    url::{self, UrlError},
};
use crate::model::{Phase, Reason};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame before its payload.
const HEAD_LEN: usize = 9;

/// The longest payload a target may send to one whose SETTINGS do not allow more.
const MAX_PAYLOAD: usize = 16_384;

/// Most frames and bytes that are read for the sake of one answer. Servers send two to five frames
/// of less than 100 bytes.
const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 64 * 1024;

/// Types of frames.
const PRIORITY: u8 = 0x2;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const LAST_KNOWN: u8 = 0x9;

/// The flag of an acknowledgement.
const ACK: u8 = 0x1;

/// What a PING carries, and its answer repeats.
type Opaque = [u8; 8];

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
            agrees_on_h2(&stream)?;
            ping(stream, trace).await
        }
    }
}

fn agrees_on_h2(stream: &TlsStream<TcpStream>) -> Result<(), Fault> {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Ok(());
    }
    Err(Fault::new(Reason::TlsOther, "the target's TLS does not offer HTTP/2 (ALPN h2)"))
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
        if number == 0 && meaning != Meaning::Settings {
            return Err(protocol("the target's first frame is not SETTINGS"));
        }
        match meaning {
            Meaning::Nothing => {}
            Meaning::Settings => say(stream, &frame(SETTINGS, ACK, &[])).await?,
            Meaning::Ping(theirs) => say(stream, &frame(PING, ACK, &theirs)).await?,
            Meaning::Pong(answer) if answer == sent => return Ok(()),
            Meaning::Pong(_) => return Err(protocol("the target acknowledged another ping")),
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

fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}

/// A frame on stream 0, with a payload of a few bytes.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("only short frames are sent");
    [&[0, 0, length, kind, flags, 0, 0, 0, 0], payload].concat()
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// What a frame says, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Nothing,
    /// The target's settings, which want an acknowledgement.
    Settings,
    /// A ping of the target's own, which wants one too.
    Ping(Opaque),
    /// The acknowledgement of a ping.
    Pong(Opaque),
}

impl Head {
    fn parse(bytes: [u8; HEAD_LEN]) -> Result<Self, Fault> {
        if bytes.starts_with(b"HTTP/") {
            return Err(protocol("the target speaks HTTP/1, not HTTP/2"));
        }
        let [high, middle, low, kind, flags, stream @ ..] = bytes;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > MAX_PAYLOAD {
            return Err(protocol(format!(
                "a frame of {length} bytes; at most {MAX_PAYLOAD} may be"
            )));
        }
        // The first bit is reserved and means nothing.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Ok(Self { length, kind, flags, stream })
    }

    fn meaning(self, payload: &[u8]) -> Result<Meaning, Fault> {
        let is_ack = self.flags & ACK != 0;
        match (self.kind, self.stream) {
            (SETTINGS, 0) if is_ack && payload.is_empty() => Ok(Meaning::Nothing),
            (SETTINGS, 0) if !is_ack && payload.len().is_multiple_of(6) => Ok(Meaning::Settings),
            (PING, 0) => {
                let opaque =
                    payload.try_into().map_err(|_| protocol("a PING that is not of 8 bytes"))?;
                Ok(if is_ack { Meaning::Pong(opaque) } else { Meaning::Ping(opaque) })
            }
            (GOAWAY, 0) => Err(going_away(payload)),
            (WINDOW_UPDATE, 0) if payload.len() == 4 => Ok(Meaning::Nothing),
            // May name a stream that does not exist yet.
            (PRIORITY, 1..) if payload.len() == 5 => Ok(Meaning::Nothing),
            // Extensions: whoever does not know them passes them over.
            (kind, _) if kind > LAST_KNOWN => Ok(Meaning::Nothing),
            (kind, stream) => Err(protocol(format!(
                "a frame that cannot be here: type {kind:#x}, stream {stream}, {} bytes",
                payload.len()
            ))),
        }
    }
}

/// A refusal with its reason: the last stream, an error code, and perhaps a text.
fn going_away(payload: &[u8]) -> Fault {
    let Some(([_, _, _, _, code @ ..], text)) = payload.split_first_chunk::<8>() else {
        return protocol("a GOAWAY of less than 8 bytes");
    };
    let code = u32::from_be_bytes(*code);
    let text = String::from_utf8_lossy(text);
    let separator = if text.is_empty() { "" } else { ": " };
    protocol(format!("the target sent GOAWAY with the error code {code}{separator}{text}"))
}
