//! Reads the head of an answer: strictly, and once it is whole.
//!
//! What a proxy and a server could read differently is refused rather than guessed at: two lengths,
//! a length beside chunks, folded lines, bare line feeds.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::{
    body::After,
    expected::{self, ExpectedHeaders},
};
use crate::{
    model::Reason,
    probe::fault::{Fault, printable},
};

/// Most bytes of one head.
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// Most headers of one head.
const MAX_HEADERS: usize = 100;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// What an answer's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// Where a redirect points.
    pub(super) location: Option<Box<str>>,
    /// The body's encoding, unless it is none.
    pub(super) encoding: Option<Box<str>>,
    /// The first header that is not as expected.
    pub(super) unmet: Option<Box<str>>,
    /// When a busy target wants to be asked again, in its own words.
    pub(super) retry_after: Option<Box<str>>,
    /// Whether the target takes no further request on this connection.
    pub(super) closes: bool,
}

/// What is known of an answer before it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) body: Body,
    pub(super) after: After,
    pub(super) expected: &'a ExpectedHeaders,
}

/// Whether the request allows a body in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Allowed,
    /// As after HEAD.
    Forbidden,
}

/// How far the search for the end of a head has come.
#[derive(Debug, Default)]
pub(super) struct Scan {
    seen: usize,
}

impl Scan {
    /// The length of the head at the start of `buffer`, if it is whole. Looks at each byte once,
    /// however slowly they come in.
    pub(super) fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Fault> {
        const START: &[u8] = b"HTTP/1.";
        let known = buffer.len().min(START.len());
        if buffer[..known] != START[..known] {
            return Err(not_http(buffer));
        }
        while let Some(offset) = memchr(b'\n', &buffer[self.seen..]) {
            let at = self.seen + offset;
            self.seen = at + 1;
            if at == 0 || buffer[at - 1] != b'\r' {
                return Err(malformed("a line of the head ends without a carriage return"));
            }
            if at >= 3 && buffer[at - 3..at] == *b"\r\n\r" {
                return if self.seen > MAX_HEAD { Err(too_large()) } else { Ok(Some(self.seen)) };
            }
        }
        self.seen = buffer.len();
        if buffer.len() > MAX_HEAD { Err(too_large()) } else { Ok(None) }
    }
}

/// Reads a whole head.
pub(super) fn parse(bytes: &[u8], terms: Terms<'_>) -> Result<Head, Fault> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut headers,
    );
    match parsed {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the head is incomplete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(malformed(format!("the head has more than {MAX_HEADERS} headers")));
        }
        Err(error) => return Err(malformed(format!("the head is malformed: {error}"))),
    }
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(malformed(format!("{status:03} is not an HTTP status")));
    }
    let version = response.version.unwrap_or_default();
    interpret(status, version, response.headers, terms)
}

/// What the head of an answer over HTTP/2 says; its frames tell where the body ends.
pub(super) fn of_http2(
    status: u16,
    fields: &http::HeaderMap,
    terms: Terms<'_>,
) -> Result<Head, Fault> {
    if fields.len() > MAX_HEADERS {
        return Err(malformed(format!("the head has more than {MAX_HEADERS} headers")));
    }
    let headers: Vec<_> = fields
        .iter()
        .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() })
        .collect();
    Ok(facts(status, &headers, terms))
}

fn interpret(
    status: u16,
    version: u8,
    headers: &[httparse::Header<'_>],
    terms: Terms<'_>,
) -> Result<Head, Fault> {
    let mut length = None;
    let mut chunked = false;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let value = parse_length(header.value)?;
            if length.is_some_and(|other| other != value) {
                return Err(malformed("two Content-Length headers disagree"));
            }
            length = Some(value);
        } else if is("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                let value = printable(header.value, 32);
                return Err(malformed(format!("unknown Transfer-Encoding \"{value}\"")));
            }
            chunked = true;
        }
    }
    let framing = match (chunked, length) {
        (true, Some(_)) => {
            return Err(malformed("both Content-Length and Transfer-Encoding are given"));
        }
        (true, None) if version == 0 => {
            return Err(malformed("HTTP/1.0 has no Transfer-Encoding"));
        }
        _ if terms.body == Body::Forbidden || matches!(status, 204 | 304) => Framing::Length(0),
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Close,
    };
    let head = facts(status, headers, terms);
    // HTTP/1.0 can be asked to keep a connection, which we do not do.
    let closes = head.closes || version == 0 || framing == Framing::Close;
    Ok(Head { framing, closes, ..head })
}

/// What headers say in every version of HTTP.
fn facts(status: u16, headers: &[httparse::Header<'_>], terms: Terms<'_>) -> Head {
    let mut head = Head {
        status,
        framing: Framing::Close,
        location: None,
        encoding: None,
        unmet: expected::unmet(terms.expected, headers),
        retry_after: None,
        closes: false,
    };
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("location") {
            head.location = is_redirect(status).then(|| text(header.value)).flatten();
        } else if is("content-encoding") && !header.value.eq_ignore_ascii_case(b"identity") {
            head.encoding = Some(printable(header.value, 32).into());
        } else if is("retry-after") {
            head.retry_after = is_busy(status).then(|| text(header.value)).flatten();
        } else if is("connection") {
            let mut options = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            head.closes |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
    }
    head
}

fn text(value: &[u8]) -> Option<Box<str>> {
    std::str::from_utf8(value).ok().map(Box::from)
}

/// Digits only: neither sign nor list, which some implementations accept and others do not.
fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        malformed(format!("Content-Length is \"{}\", not a number", printable(value, 32)))
    })
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The statuses whose `Retry-After` is a wish to be left alone for a while; with others it is about
/// what was asked for.
fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 503)
}

fn malformed(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}

fn too_large() -> Fault {
    malformed(format!("the head is larger than {} KiB", MAX_HEAD / 1024))
}

fn not_http(buffer: &[u8]) -> Fault {
    let hint = match buffer {
        // A TLS alert, with which a TLS server answers plain text.
        [0x15, 3, ..] => "; it seems to speak TLS: set https",
        // The length of an HTTP/2 SETTINGS frame, which is its first.
        [0, 0, _, 4, ..] => "; it seems to speak HTTP/2 without HTTP/1.1",
        _ => "",
    };
    malformed(format!("the answer is not HTTP/1: \"{}\"{hint}", printable(buffer, 48)))
}
