//! One keep-alive connection to the daemon: asks, waits for the whole answer. A body that comes in
//! chunks is given as it came.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than the daemon may ever take; then it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What `X-Consul-Index` says.
    pub(crate) index: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request)?;
        self.read.clear();
        let head = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.read[..head]).to_ascii_lowercase();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let status = text.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        let index = field("x-consul-index: ").and_then(|index| index.trim().parse().ok());
        let length: usize = if let Some(length) = field("content-length: ") {
            length.trim().parse().map_err(|_| broken())?
        } else {
            while !self.read.ends_with(b"\r\n0\r\n\r\n") {
                self.more()?;
            }
            self.read.len() - head - 4
        };
        while self.read.len() < head + 4 + length {
            self.more()?;
        }
        Ok(Answer { status, index, body: self.read[head + 4..].to_vec() })
    }

    fn more(&mut self) -> io::Result<()> {
        let mut some = [0; 16 << 10];
        match self.stream.read(&mut some)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.read.extend_from_slice(&some[..read]);
                Ok(())
            }
        }
    }
}
