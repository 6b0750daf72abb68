//! A very small HTTP client: one question, answered whole or not at all.
//!
//! It asks by HTTP/1.0, so that no server answers in chunks, and the answer ends with the
//! connection.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks a server on loopback; says why not if there is no answer.
pub(crate) fn try_get(port: u16, path: &str) -> Result<Answer, String> {
    ask(port, "GET", path, "").map_err(|error| format!("GET :{port}{path}: {error}"))
}

/// Asks a server on loopback that must answer.
#[track_caller]
pub(crate) fn get(port: u16, path: &str) -> Answer {
    try_get(port, path).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks for JSON with status 200.
#[track_caller]
pub(crate) fn get_json(port: u16, path: &str) -> Value {
    let answer = get(port, path);
    assert_eq!(answer.status, 200, "GET :{port}{path}: {}", answer.body);
    serde_json::from_str(&answer.body)
        .unwrap_or_else(|error| panic!("GET :{port}{path} is not JSON ({error}): {}", answer.body))
}

/// Sends JSON that must be taken.
#[track_caller]
pub(crate) fn put_json(port: u16, path: &str, body: &Value) -> Answer {
    let answer = ask(port, "PUT", path, &body.to_string());
    let answer = answer.unwrap_or_else(|error| panic!("PUT :{port}{path}: {error}"));
    assert_eq!(answer.status, 200, "PUT :{port}{path}: {}", answer.body);
    answer
}

/// Sends JSON to a server that must answer, whatever it says.
#[track_caller]
pub(crate) fn post_json(port: u16, path: &str, body: &Value) -> Answer {
    let answer = ask(port, "POST", path, &body.to_string());
    answer.unwrap_or_else(|error| panic!("POST :{port}{path}: {error}"))
}

/// Whether a server says that all is well.
pub(crate) fn answers_ok(port: u16, path: &str) -> bool {
    try_get(port, path).is_ok_and(|answer| answer.status == 200)
}

/// Whether a connection is accepted.
pub(crate) fn accepts(port: u16) -> bool {
    connect(port).is_ok()
}

/// A text as part of a query string.
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
        out
    })
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), TIMEOUT)
}

fn ask(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let broken = || std::io::Error::other(format!("not an answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    Ok(Answer { status, body: body.to_owned() })
}
