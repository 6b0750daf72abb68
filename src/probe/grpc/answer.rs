//! What is answered to one call: headers, a message, trailers, in the frames of its stream.
//!
//! Nothing is read here and nothing waited for: frames come in, and the answer comes out once its
//! stream has ended. What is not as HTTP/2 has it is a fault of the connection; what is HTTP/2 but
//! not gRPC is [`Said::Broken`].

use std::time::Duration;

use prost::Message as _;
use tonic::Code;
use tonic_health::pb::HealthCheckResponse;

use crate::probe::{
    fault::Fault,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Head, RST_STREAM, WINDOW_UPDATE,
        hpack::Decoder, protocol,
    },
};

/// Most bytes of one message; a health answer has two.
pub(super) const MAX_MESSAGE: usize = 4096;

/// Most bytes of one set of headers.
pub(super) const MAX_HEADERS: u32 = 16 * 1024;

/// Most interim answers (1xx) before the real one.
const MAX_INTERIM: u8 = 8;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What a call was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) said: Said,
    /// How long the server says that it holds.
    pub(super) ttl: Option<Duration>,
}

/// What was said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The number of a serving status.
    Status(i32),
    /// A status that is not OK, with its text.
    Refused(Code, String),
    /// Nothing that gRPC knows.
    Broken(String),
}

/// An answer on its way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    stream: u32,
    /// Compressed headers that are not whole yet, and whether the stream ends with them.
    block: Option<(Vec<u8>, bool)>,
    interim: u8,
    head: Option<Fields>,
    /// The message, with what comes before it.
    message: Vec<u8>,
}

impl Answer {
    /// One to a call on this stream.
    pub(super) fn new(stream: u32) -> Self {
        Self { stream, ..Self::default() }
    }

    /// None: what may still come after the call on this stream, and before the next.
    pub(super) fn after(stream: u32) -> Self {
        // No stream of ours has an even number.
        Self::new(stream + 1)
    }

    /// Whether the next frame must go on with headers.
    pub(super) fn is_amid_headers(&self) -> bool {
        self.block.is_some()
    }

    /// Takes a frame that belongs to a stream. Returns the answer if nothing more can come of it.
    pub(super) fn take(
        &mut self,
        head: Head,
        payload: &[u8],
        decoder: &mut Decoder,
    ) -> Result<Option<Reply>, Fault> {
        if head.stream != self.stream || head.stream.is_multiple_of(2) {
            // What is left to say of a call that is over.
            let is_late = head.stream < self.stream
                && !head.stream.is_multiple_of(2)
                && matches!((head.kind, payload.len()), (WINDOW_UPDATE | RST_STREAM, 4));
            return if is_late { Ok(None) } else { Err(head.misplaced()) };
        }
        match (head.kind, &mut self.block) {
            (HEADERS, None) => {
                let content = head.content(payload)?;
                let is_last = head.has(END_STREAM);
                if head.has(END_HEADERS) {
                    return self.headers(content, is_last, decoder);
                }
                self.block = Some((content.to_vec(), is_last));
                Ok(None)
            }
            (CONTINUATION, Some((block, is_last))) => {
                block.extend_from_slice(payload);
                if block.len() > MAX_HEADERS as usize {
                    return Err(protocol(format!("headers of more than {MAX_HEADERS} bytes")));
                }
                if !head.has(END_HEADERS) {
                    return Ok(None);
                }
                let (block, is_last) = (std::mem::take(block), *is_last);
                self.block = None;
                self.headers(&block, is_last, decoder)
            }
            (DATA, None) => self.data(head.content(payload)?, head.has(END_STREAM)),
            (RST_STREAM, None) => {
                let code: [u8; 4] = payload.try_into().map_err(|_| head.misplaced())?;
                let code = u32::from_be_bytes(code);
                Err(protocol(format!("the target reset the call with the error code {code}")))
            }
            (WINDOW_UPDATE, None) if payload.len() == 4 => Ok(None),
            _ => Err(head.misplaced()),
        }
    }

    fn headers(
        &mut self,
        block: &[u8],
        is_last: bool,
        decoder: &mut Decoder,
    ) -> Result<Option<Reply>, Fault> {
        let mut fields = Fields::default();
        decoder
            .decode(block, MAX_HEADERS as usize, |name, value| fields.take(name, value))
            .map_err(|error| protocol(error.to_string()))?;
        if fields.is_malformed {
            return Err(protocol("headers that HTTP/2 forbids"));
        }
        match (&mut self.head, fields.status) {
            (None, Some(100..200)) => {
                self.interim += 1;
                if is_last || self.interim > MAX_INTERIM {
                    return Err(protocol("interim answers that do not end"));
                }
                return Ok(None);
            }
            (None, Some(_)) => self.head = Some(fields),
            (Some(head), None) if is_last => head.complete(fields),
            (None, None) => return Err(protocol("an answer without a status")),
            (Some(_), _) => return Err(protocol("headers in the middle of an answer")),
        }
        Ok(if is_last { Some(self.end()) } else { self.early() })
    }

    fn data(&mut self, content: &[u8], is_last: bool) -> Result<Option<Reply>, Fault> {
        let Some(head) = &self.head else {
            return Err(protocol("a body before the headers of the answer"));
        };
        // The page that a proxy shows says nothing; its status does.
        if head.status == Some(200) {
            self.message.extend_from_slice(content);
        }
        Ok(if is_last { Some(self.end()) } else { self.early() })
    }

    /// An answer that is no good whatever comes next.
    fn early(&self) -> Option<Reply> {
        let head = self.head.as_ref()?;
        let is_open = head.status == Some(200) && head.code.is_none_or(|code| code == Code::Ok);
        if !is_open {
            return None;
        }
        let problem = head.foreign().or_else(|| match self.message.first_chunk::<PREFIX>() {
            None => None,
            Some([0, length @ ..]) => match u32::from_be_bytes(*length) as usize {
                length @ 0..=MAX_MESSAGE if self.message.len() <= PREFIX + length => None,
                0..=MAX_MESSAGE => Some("more than one message".to_owned()),
                length => Some(format!("a message of {length} bytes; at most {MAX_MESSAGE}")),
            },
            Some(_) => Some("a message that is compressed, or none".to_owned()),
        });
        problem.map(|problem| Reply { said: Said::Broken(problem), ttl: head.ttl() })
    }

    /// The answer, once its stream has ended.
    fn end(&self) -> Reply {
        let Some(head) = &self.head else {
            return Reply { said: Said::Broken("no headers".to_owned()), ttl: None };
        };
        let said = match (head.code, head.status) {
            (Some(Code::Ok), _) => match self.early() {
                Some(reply) => reply.said,
                None => self.status(),
            },
            (Some(code), _) => Said::Refused(code, head.message.clone()),
            (None, Some(200) | None) => Said::Broken("an answer without grpc-status".to_owned()),
            (None, Some(status)) => {
                Said::Refused(code_of(status), format!("no grpc-status; HTTP status {status}"))
            }
        };
        Reply { said, ttl: head.ttl() }
    }

    /// What the message says.
    fn status(&self) -> Said {
        let Some(([_, length @ ..], message)) = self.message.split_first_chunk::<PREFIX>() else {
            return Said::Broken("an answer without a message".to_owned());
        };
        if message.len() != u32::from_be_bytes(*length) as usize {
            return Said::Broken("a message that is cut short".to_owned());
        }
        match HealthCheckResponse::decode(message) {
            Ok(HealthCheckResponse { status }) => Said::Status(status),
            Err(error) => Said::Broken(format!("a message that cannot be read: {error}")),
        }
    }
}

/// What headers and trailers say that matters here.
#[derive(Debug, Default)]
struct Fields {
    status: Option<u16>,
    code: Option<Code>,
    message: String,
    /// Whether the content type is gRPC's, if there is one.
    is_grpc: Option<bool>,
    /// `ttl_seconds` and `ttl-seconds`; 0 for what is no number.
    ttl: [Option<u32>; 2],
    has_regular: bool,
    is_malformed: bool,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        let is_pseudo = name.first() == Some(&b':');
        self.is_malformed |= name.is_empty()
            || name.iter().any(|byte| !(b'!'..=b'~').contains(byte) || byte.is_ascii_uppercase())
            || value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
            || (is_pseudo && (self.has_regular || name != b":status" || self.status.is_some()));
        self.has_regular |= !is_pseudo;
        match name {
            b":status" => {
                self.status = number(value).and_then(|n| u16::try_from(n).ok());
                self.is_malformed |= value.len() != 3 || self.status.is_none_or(|n| n < 100);
            }
            b"content-type" => {
                self.is_grpc.get_or_insert(value.starts_with(b"application/grpc"));
            }
            b"grpc-status" => {
                self.code.get_or_insert(Code::from_bytes(value));
            }
            b"grpc-message" if self.message.is_empty() => {
                self.message = String::from_utf8_lossy(&unescaped(value)).into_owned();
            }
            b"ttl_seconds" => {
                self.ttl[0].get_or_insert(number(value).unwrap_or(0));
            }
            b"ttl-seconds" => {
                self.ttl[1].get_or_insert(number(value).unwrap_or(0));
            }
            _ => {}
        }
    }

    /// Takes up the trailers. What the headers said first counts.
    fn complete(&mut self, trailers: Self) {
        if self.code.is_none() {
            (self.code, self.message) = (trailers.code, trailers.message);
        }
        self.is_grpc = self.is_grpc.or(trailers.is_grpc);
        for (ours, theirs) in self.ttl.iter_mut().zip(trailers.ttl) {
            *ours = ours.or(theirs);
        }
    }

    /// What is not called gRPC is none, whatever it looks like ("gRPC over HTTP2", Responses).
    fn foreign(&self) -> Option<String> {
        (self.is_grpc == Some(false))
            .then(|| "the answer's content type is not application/grpc".to_owned())
    }

    /// There is no standard; what is no number of seconds is passed over.
    fn ttl(&self) -> Option<Duration> {
        let seconds = self.ttl[0].or(self.ttl[1])?;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A text in which bytes may be written as `%` and two digits ("gRPC over HTTP2", Responses).
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let byte = byte.filter(|_| *first == b'%');
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    plain
}

/// What an HTTP status stands for where gRPC has not said anything ("HTTP to gRPC Status Code
/// Mapping").
fn code_of(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests;
