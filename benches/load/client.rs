//! HTTP as the bench speaks it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::Instant,
};

use crate::Failure;

/// Reads `path` to its end, with headers of one's own. The connection ends with the answer.
pub(crate) async fn get(
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> Result<Vec<u8>, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: a\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.get(8..13) != Some(b" 200 ") {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&answer)).into());
    }
    Ok(answer)
}

/// Asks again and again over one connection. Says how many answers there were.
pub(crate) async fn ask_until(
    address: SocketAddr,
    path: &str,
    end: Instant,
) -> Result<u32, Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut answers, mut line, mut body) = (0, String::new(), Vec::new());
    while Instant::now() < end {
        stream.get_mut().write_all(request.as_bytes()).await?;
        let mut length = 0;
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        answers += 1;
    }
    Ok(answers)
}
