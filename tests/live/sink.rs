//! Where Alertmanager sends to: a server that keeps every notification with the receiver it was
//! for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// One notification about one alert.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    /// The last part of the URL, by which the shipped receivers differ.
    pub(crate) receiver: String,
    /// The alert as Alertmanager's webhook has it.
    pub(crate) alert: Value,
}

/// A webhook that remembers.
#[derive(Debug)]
pub(crate) struct Sink {
    heard: Arc<Mutex<Vec<Notification>>>,
}

impl Notification {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.alert["labels"][name].as_str().unwrap_or_default()
    }

    pub(crate) fn annotation(&self, name: &str) -> &str {
        self.alert["annotations"][name].as_str().unwrap_or_default()
    }

    /// `firing` or `resolved`.
    pub(crate) fn status(&self) -> &str {
        self.alert["status"].as_str().unwrap_or_default()
    }
}

impl Sink {
    /// Listens until the test ends.
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that goes away in the middle is its own affair: it will send again.
                thread::spawn(move || drop(take(&stream, &kept)));
            }
        });
        Self { heard }
    }

    /// All so far, oldest first.
    pub(crate) fn heard(&self) -> Vec<Notification> {
        self.heard.lock().unwrap().clone()
    }
}

/// Takes one request in.
fn take(mut stream: &TcpStream, kept: &Mutex<Vec<Notification>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    let path = request.split(' ').nth(1).unwrap_or_default();
    let receiver = path.rsplit('/').next().unwrap_or_default();
    let alerts = body["alerts"].as_array().into_iter().flatten();
    kept.lock().unwrap().extend(
        alerts.map(|alert| Notification { receiver: receiver.to_owned(), alert: alert.clone() }),
    );
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
