//! The real program on a data directory, killed at any moment.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::client::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running `rollcall`; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) http: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Daemon {
    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_by(&[], data)
    }

    /// The same by another program, to which ours is an argument.
    pub(crate) fn start_by(by: &[&str], data: &Path) -> Self {
        let binary = env!("CARGO_BIN_EXE_rollcall");
        let mut command = match by.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.args(["run", "--config"]).arg(config()).arg("--data-dir").arg(data);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let (said, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut log = String::new();
            for line in lines.lines().map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "Listening" {
                    said.send(event["http"].as_str().unwrap().parse().unwrap()).unwrap();
                }
                log.push_str(&line);
                log.push('\n');
            }
            if log.contains("panicked") || log.contains("damaged") {
                fs::write(std::env::temp_dir().join("rollcall-crash.log"), log).unwrap();
            }
        });
        let http = address.recv_timeout(PATIENCE).expect("it says where it listens");
        let daemon = Self { child, http };
        let asked = Instant::now();
        while !daemon.is_ready() {
            assert!(asked.elapsed() < PATIENCE, "it is ready");
            thread::sleep(Duration::from_millis(2));
        }
        daemon
    }

    fn is_ready(&self) -> bool {
        let answer = self.connect().ask("GET", "/-/ready", b"");
        answer.is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.http).unwrap()
    }

    /// Ends it as a power cut would, but for what the kernel holds.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A configuration without limits that the writers would meet.
fn config() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash.yml");
    let text = "listen: { http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", dns: off }\n\
                limits: { requests_per_second: 1000000, request_burst: 1000000 }\n\
                log: { format: json, filter: \"warn,rollcall::daemon=info\" }\n";
    if fs::read_to_string(&path).ok().as_deref() != Some(text) {
        fs::write(&path, text).unwrap();
    }
    path
}
