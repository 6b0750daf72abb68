//! One request and its answer over HTTP/1.1: on a fresh connection, or on any stream.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    Probe,
    body::{After, Decoder, Progress},
    head::{self, Body, Head, Terms},
};
use crate::{
    model::{Answer, Phase, Reason},
    probe::{
        endpoint::Endpoint,
        fault::Fault,
        resolve::{self, Acknowledge},
        trace::Trace,
        url::Scheme,
    },
};

/// Most interim answers (1xx) before the real one.
pub(super) const MAX_INTERIM: u8 = 8;

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) scheme: Scheme,
    pub(super) origin: Origin,
    pub(super) body: Body,
}

/// Whether a request goes where the configuration sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// To the configured scheme, host and port.
    Own,
    /// To where a redirect pointed.
    Foreign,
}

/// An answer; its body is in the trace's buffer.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) head: Head,
    /// Whether the body is longer than what was read.
    pub(super) cut: bool,
    /// Whether the connection can carry another request.
    pub(super) is_reusable: bool,
}

/// Sends the request in the trace's buffer and leaves the answer's body there.
pub(super) async fn ask(
    probe: &Probe,
    route: Route<'_>,
    trace: &mut Trace,
) -> Result<Received, Fault> {
    let options = resolve::Options { close: probe.spec.close, acknowledge: Acknowledge::Late };
    let mut stream = resolve::connect(route.endpoint, options, trace).await?;
    let terms =
        Terms { body: route.body, after: After::Close, expected: &probe.spec.expected_headers };
    match (route.scheme, &probe.tls) {
        (Scheme::Http, _) => exchange(&mut stream, terms, trace).await,
        // Boxed, so that plain probes do not carry the state of a TLS session.
        (Scheme::Https, Some(tls)) => {
            Box::pin(async move {
                let host = &route.endpoint.host;
                let mut stream = match route.origin {
                    Origin::Own => tls.connect(host, stream, trace).await?,
                    Origin::Foreign => tls.connect_as(host, stream, trace).await?,
                };
                exchange(&mut stream, terms, trace).await
            })
            .await
        }
        (Scheme::Https, None) => Err(Fault::ours("TLS was not made ready")),
    }
}

pub(super) async fn exchange<S>(
    stream: &mut S,
    terms: Terms<'_>,
    trace: &mut Trace,
) -> Result<Received, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    trace.enter(Phase::Exchange);
    stream.write_all(&trace.buffer).await.map_err(|error| Fault::exchange(&error))?;
    stream.flush().await.map_err(|error| Fault::exchange(&error))?;
    trace.buffer.clear();
    let head = read_head(stream, terms, trace).await?;
    trace.answer = Answer::Http(head.status);
    let mut decoder = Decoder::new(head.framing, terms.after);
    let cut = read_body(stream, &mut decoder, trace).await?;
    let is_reusable = !(cut || head.closes || decoder.has_surplus());
    Ok(Received { head, cut, is_reusable })
}

/// Reads past interim answers to the real one; leaves in the buffer what came after its head.
async fn read_head<S>(stream: &mut S, terms: Terms<'_>, trace: &mut Trace) -> Result<Head, Fault>
where
    S: AsyncRead + Unpin,
{
    let mut interim = 0;
    let mut scan = head::Scan::default();
    loop {
        if let Some(end) = scan.find_end(&trace.buffer)? {
            let head = head::parse(&trace.buffer[..end], terms)?;
            trace.buffer.drain(..end);
            match head.status {
                101 => return Err(protocol("101 Switching Protocols was not asked for")),
                0..200 if interim == MAX_INTERIM => {
                    return Err(protocol(format!("more than {MAX_INTERIM} interim answers")));
                }
                0..200 => interim += 1,
                200.. => return Ok(head),
            }
            scan = head::Scan::default();
            continue;
        }
        if trace.fill(stream).await? == 0 {
            let detail = match trace.buffer.len() {
                0 => "the target closed the connection without an answer".to_owned(),
                read => format!("the target closed the connection {read} bytes into the head"),
            };
            return Err(Fault::new(Reason::ConnectionReset, detail));
        }
        if trace.phase() == Phase::Exchange {
            trace.enter(Phase::Transfer);
        }
    }
}

/// Reads the body into the buffer, as far as it is of interest; says whether there is more.
async fn read_body<S>(
    stream: &mut S,
    decoder: &mut Decoder,
    trace: &mut Trace,
) -> Result<bool, Fault>
where
    S: AsyncRead + Unpin,
{
    loop {
        match decoder.advance(&mut trace.buffer).map_err(protocol)? {
            Progress::Whole => return Ok(false),
            Progress::Cut => return Ok(true),
            Progress::More => {}
        }
        if trace.fill(stream).await? == 0 {
            if decoder.ends_with_connection() {
                return Ok(false);
            }
            let read = decoder.decoded();
            let detail = format!("the target closed the connection {read} bytes into the body");
            return Err(Fault::new(Reason::ConnectionReset, detail));
        }
    }
}

fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}
