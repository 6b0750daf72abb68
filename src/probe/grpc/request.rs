//! What is sent for one call: rendered once, but for the stream's number and the authority.

use prost::Message as _;
use tonic_health::pb::HealthCheckRequest;

use super::Spec;
use crate::probe::http2::{
    self, DATA, ENABLE_PUSH, END_STREAM, MAX_HEADER_LIST_SIZE, MAX_PAYLOAD, PREFACE, SETTINGS,
    hpack::{self, Secrecy},
};

/// Metadata that HTTP/2 or gRPC has a meaning of its own for; not sent, as the libraries do not.
const NOT_SENT: [&str; 7] = [
    "te",
    "content-type",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// A call made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// The headers before the value of `:authority`, compressed, and those after it.
    before: Box<[u8]>,
    after: Box<[u8]>,
    /// The message with its prefix.
    message: Box<[u8]>,
}

impl Request {
    pub(super) fn new(spec: &Spec) -> Self {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        hpack::write_known(&mut before, ":method", "POST");
        let scheme = if spec.tls.is_some() { "https" } else { "http" };
        hpack::write_known(&mut before, ":scheme", scheme);
        hpack::write_known(&mut before, ":path", "/grpc.health.v1.Health/Check");
        let mut header = |name, value, secrecy| {
            hpack::write_header(&mut after, name, value, secrecy);
        };
        header("content-type", "application/grpc", Secrecy::Open);
        header("te", "trailers", Secrecy::Open);
        if !spec.metadata.keys().any(|name| name.as_str() == "user-agent") {
            let agent = concat!("rollcall/", env!("CARGO_PKG_VERSION"));
            header("user-agent", agent, Secrecy::Open);
        }
        for (name, value) in &spec.metadata {
            if !NOT_SENT.contains(&name.as_str()) {
                header(name.as_str(), value.as_str(), Secrecy::Secret);
            }
        }
        let message = HealthCheckRequest { service: spec.service.clone() };
        let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
        // Not compressed.
        let mut framed = vec![0];
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&message.encode_to_vec());
        Self { before: before.into(), after: after.into(), message: framed.into() }
    }

    /// Bytes of a call that its window must have room for.
    pub(super) fn size(&self) -> usize {
        self.message.len()
    }

    /// Writes what opens a connection.
    pub(super) fn open(max_headers: u32, out: &mut Vec<u8>) {
        /// Room for all of a request, and for most answers.
        const ROOM: usize = 512;
        out.reserve(ROOM);
        out.extend_from_slice(PREFACE);
        let mut settings = [0; 12];
        settings[..2].copy_from_slice(&ENABLE_PUSH.to_be_bytes());
        settings[6..8].copy_from_slice(&MAX_HEADER_LIST_SIZE.to_be_bytes());
        settings[8..].copy_from_slice(&max_headers.to_be_bytes());
        http2::write(out, SETTINGS, 0, 0, &settings);
    }

    /// Writes the call; `forgets` says that the target has made its header table smaller, which
    /// whoever uses none has to acknowledge all the same.
    pub(super) fn write(&self, stream: u32, authority: &str, forgets: bool, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(self.before.len() + self.after.len() + 64);
        if forgets {
            block.push(0x20);
        }
        block.extend_from_slice(&self.before);
        hpack::write_header(&mut block, ":authority", authority, Secrecy::Open);
        block.extend_from_slice(&self.after);
        http2::write_headers(out, stream, &block);
        let mut parts = self.message.chunks(MAX_PAYLOAD).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { END_STREAM } else { 0 };
            http2::write(out, DATA, flags, stream, part);
        }
    }
}
