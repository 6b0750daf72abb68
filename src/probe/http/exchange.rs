//! One request and its answer over HTTP/1.1: on a fresh connection, or on any stream.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    Probe,
    body::{After, Decoder, Progress},
    head::{self, Body, Head, Scan, Terms},
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
pub(in crate::probe) struct Received {
    pub(super) head: Head,
    /// Whether the body is longer than what was read.
    pub(super) cut: bool,
    /// Whether the connection can carry another request.
    pub(super) is_reusable: bool,
}

impl Received {
    /// Whether the connection can carry another request.
    pub(in crate::probe) fn is_reusable(&self) -> bool {
        self.is_reusable
    }

    /// The same on a connection that cannot carry another request.
    pub(in crate::probe) fn last_of_its_connection(self) -> Self {
        Self { is_reusable: false, ..self }
    }

    /// Whether the target has said only that the connection was idle for too long, and may have said
    /// so before it was asked anything (RFC 9110, 15.5.9).
    pub(in crate::probe) fn is_farewell(&self) -> bool {
        self.head.status == 408 && !self.is_reusable
    }
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
    let mut reader = Reader::default();
    loop {
        if trace.fill(stream).await? == 0 {
            return reader.end(trace);
        }
        if let Some(received) = reader.advance(terms, trace)? {
            return Ok(received);
        }
    }
}

/// Makes an answer of what is read, piece by piece as it comes in. Does no I/O itself.
#[derive(Debug, Default)]
pub(in crate::probe) struct Reader {
    part: Part,
    interim: u8,
}

#[derive(Debug)]
enum Part {
    /// Looking for the end of a head, an interim one or the real one.
    Head(Scan),
    /// After the real head.
    Body(Head, Decoder),
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(Scan::default())
    }
}

impl Reader {
    /// Takes in what has come into the trace's buffer. The answer, once it is whole or as much of it
    /// as is of interest; its body is in the buffer then.
    pub(super) fn advance(
        &mut self,
        terms: Terms<'_>,
        trace: &mut Trace,
    ) -> Result<Option<Received>, Fault> {
        if trace.phase() == Phase::Exchange {
            trace.enter(Phase::Transfer);
        }
        loop {
            match &mut self.part {
                Part::Head(scan) => {
                    let Some(end) = scan.find_end(&trace.buffer)? else { return Ok(None) };
                    let head = head::parse(&trace.buffer[..end], terms)?;
                    trace.buffer.drain(..end);
                    self.take(head, terms, trace)?;
                }
                Part::Body(_, decoder) => {
                    return match decoder.advance(&mut trace.buffer).map_err(protocol)? {
                        Progress::Whole => Ok(self.finish(false)),
                        Progress::Cut => Ok(self.finish(true)),
                        Progress::More => Ok(None),
                    };
                }
            }
        }
    }

    /// Goes past an interim head, or on from the real one.
    fn take(&mut self, head: Head, terms: Terms<'_>, trace: &mut Trace) -> Result<(), Fault> {
        self.part = match head.status {
            101 => return Err(protocol("101 Switching Protocols was not asked for")),
            0..200 if self.interim == MAX_INTERIM => {
                return Err(protocol(format!("more than {MAX_INTERIM} interim answers")));
            }
            0..200 => {
                self.interim += 1;
                Part::default()
            }
            200.. => {
                trace.answer = Answer::Http(head.status);
                let decoder = Decoder::new(head.framing, terms.after);
                Part::Body(head, decoder)
            }
        };
        Ok(())
    }

    /// What it means that the connection has ended.
    pub(in crate::probe) fn end(&mut self, trace: &Trace) -> Result<Received, Fault> {
        let read = match &self.part {
            Part::Body(_, decoder) if decoder.ends_with_connection() => None,
            Part::Body(_, decoder) => Some(format!("{} bytes into the body", decoder.decoded())),
            Part::Head(_) if trace.buffer.is_empty() => Some("without an answer".to_owned()),
            Part::Head(_) => Some(format!("{} bytes into the head", trace.buffer.len())),
        };
        match (read, self.finish(false)) {
            (None, Some(received)) => Ok(received),
            (place, _) => {
                let place = place.unwrap_or_default();
                let detail = format!("the target closed the connection {place}");
                Err(Fault::new(Reason::ConnectionReset, detail))
            }
        }
    }

    fn finish(&mut self, cut: bool) -> Option<Received> {
        let Part::Body(head, decoder) = std::mem::take(&mut self.part) else { return None };
        let is_reusable = !(cut || head.closes || decoder.has_surplus());
        Some(Received { head, cut, is_reusable })
    }
}

fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}
