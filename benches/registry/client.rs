//! A connection that costs little: a request written before, an answer read to its end and not
//! looked at any closer than that.

use std::{io, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::Failure;

/// One keep-alive HTTP/1.1 connection.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A request as it goes over the wire.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

/// An answer.
pub(crate) struct Answer<'a> {
    head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> u16 {
        let code = self.head.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// A header's value as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        number(self.head, name)
    }
}

fn number(head: &[u8], name: &str) -> Option<u64> {
    let lines = head.split(|byte| *byte == b'\n');
    let mut named = lines.filter_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    });
    std::str::from_utf8(named.next()?.strip_prefix(b":")?).ok()?.trim().parse().ok()
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(4096) })
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let mut seen = 0;
        let head = loop {
            let from = seen;
            let found = self.read[from..].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = found {
                break from + end + 4;
            }
            seen = self.read.len().saturating_sub(3);
            self.more().await?;
        };
        let length = number(&self.read[..head], "content-length").unwrap_or(0);
        let end = head + usize::try_from(length).unwrap_or(usize::MAX);
        self.read.reserve(end.saturating_sub(self.read.len()));
        while self.read.len() < end {
            self.more().await?;
        }
        let (head, body) = self.read.split_at(head);
        Ok(Answer { head, body })
    }

    /// The same, where anything but success is a fault.
    pub(crate) async fn demand(&mut self, request: &[u8]) -> Result<Answer<'_>, Failure> {
        let answer = self.ask(request).await?;
        match answer.status() {
            200 => Ok(answer),
            status => Err(format!("{status} {}", String::from_utf8_lossy(answer.body)).into()),
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A gRPC connection to etcd.
pub(crate) struct Etcd {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: SocketAddr,
    connection: JoinHandle<()>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The bytes of etcd's `PutRequest` with gRPC's five before them.
pub(crate) fn put(key: &str, value: &str) -> Bytes {
    let mut message = Vec::new();
    for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, value.as_bytes())] {
        message.push(tag);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(bytes);
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The same as etcd's JSON gateway takes it.
pub(crate) fn json_put(key: &str, value: &str) -> String {
    let text = |text: &str| STANDARD.encode(text);
    format!("{{\"key\":\"{}\",\"value\":\"{}\"}}", text(key), text(value))
}

impl Etcd {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        #[expect(clippy::disallowed_methods, reason = "nothing supervises tasks of a benchmark")]
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, authority: address, connection })
    }

    pub(crate) async fn put(&mut self, message: Bytes) -> Result<(), Failure> {
        let request = http::Request::post(format!("http://{}/etcdserverpb.KV/Put", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(message))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        let status = body.trailers().and_then(|fields| fields.get("grpc-status"));
        match status.or_else(|| head.headers.get("grpc-status")) {
            Some(status) if status == "0" => Ok(()),
            status => Err(format!("etcd answered {status:?}").into()),
        }
    }
}
