//! HTTP as the bench speaks it: HTTP/1.0, where an answer ends with its connection.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::Failure;

/// An answer with status 200.
pub(crate) struct Answer {
    /// What `X-Consul-Index` says; 0 without it.
    pub(crate) index: u64,
    pub(crate) body: String,
}

/// Reads `path`, where anything but success is a fault.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without an end of head")?;
    if head.get(8..13) != Some(" 200 ") {
        return Err(format!("{path}: {answer}").into());
    }
    let head = head.to_ascii_lowercase();
    let index = head.lines().find_map(|line| line.strip_prefix("x-consul-index:"));
    let index = index.map_or(Ok(0), |index| index.trim().parse())?;
    Ok(Answer { index, body: body.to_owned() })
}
