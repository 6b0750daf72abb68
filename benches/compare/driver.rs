//! Asks an exporter over kept connections, as quickly as it answers.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::Failure;

/// Connections with one request under way each.
const CONNECTIONS: usize = 16;

/// The load; ends when dropped.
pub(super) struct Driver {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Driver {
    /// Asks for `path` until dropped.
    pub(super) fn start(port: u16, path: &str) -> Self {
        let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let threads = (0..CONNECTIONS).map(|_| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            thread::spawn(move || {
                if let Err(error) = ask(port, request.as_bytes(), &done, &stop) {
                    eprintln!("asking blackbox_exporter: {error}");
                }
            })
        });
        Self { threads: threads.collect(), done, stop }
    }

    /// How many answers have come.
    pub(super) fn answers(&self) -> u64 {
        self.done.load(Relaxed)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // What ended it was printed.
            drop(thread.join());
        }
    }
}

fn ask(port: u16, request: &[u8], done: &AtomicU64, stop: &AtomicBool) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut answer = Vec::new();
    while !stop.load(Relaxed) {
        stream.write_all(request)?;
        read_answer(&mut stream, &mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        if !text.starts_with("HTTP/1.1 200") || text.contains("probe_success 0") {
            return Err(format!("it says: {text}").into());
        }
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Reads one answer that says how long it is, or comes in chunks.
fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), Failure> {
    answer.clear();
    let mut piece = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err("the connection was closed".into());
        }
        answer.extend_from_slice(&piece[..read]);
        if is_whole(answer)? {
            return Ok(());
        }
    }
}

fn is_whole(answer: &[u8]) -> Result<bool, Failure> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    Ok(match length {
        Some(length) => answer.len() >= end + 4 + length.trim().parse::<usize>()?,
        None => answer.ends_with(b"\r\n0\r\n\r\n"),
    })
}
