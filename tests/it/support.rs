//! The real program, started by a test on free ports, and a target whose health the test sets.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// How long a test waits for what must happen, on a machine however slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP target that answers with a status the test sets, after a delay the test sets.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicU16>,
    delay: Arc<AtomicU64>,
}

impl Web {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let delay = Arc::new(AtomicU64::new(0));
        let settings = (Arc::clone(&status), Arc::clone(&delay));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (status, delay) = settings.clone();
                thread::spawn(move || answer(stream.unwrap(), &status, &delay));
            }
        });
        Self { address, status, delay }
    }

    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    pub(crate) fn takes(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap(), Relaxed);
    }
}

fn answer(mut stream: TcpStream, status: &AtomicU16, delay: &AtomicU64) {
    let mut request = [0; 2048];
    // A prober that goes away is no fault of the target.
    let Ok(_) = stream.read(&mut request) else { return };
    thread::sleep(Duration::from_millis(delay.load(Relaxed)));
    let status = status.load(Relaxed);
    drop(write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n"));
}

/// A running `rollcall`; killed when dropped.
pub(crate) struct Rollcall {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) dns: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Rollcall {
    /// Starts `rollcall run` in a folder, with a configuration if there is one, and waits until it
    /// is ready.
    pub(crate) fn start(folder: &Path, config: Option<&Path>) -> Self {
        Self::start_by(program(), folder, config)
    }

    /// The same by a command that becomes `rollcall`.
    pub(crate) fn start_by(mut command: Command, folder: &Path, config: Option<&Path>) -> Self {
        command.current_dir(folder).arg("run");
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--dns", "127.0.0.1:0"]);
        command.args(["--log-format", "json"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, copy) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let (said, said_addresses) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "Listening" {
                    let address = |key: &str| event[key].as_str().unwrap().parse().unwrap();
                    said.send((address("http"), address("dns"))).unwrap();
                }
                copy.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let (http, dns) = said_addresses.recv_timeout(PATIENCE).expect("it says where it listens");
        let daemon = Self { child, http, dns, log };
        wait_for("it is ready", || daemon.get("/-/ready").0 == 200);
        daemon
    }

    /// Starts `rollcall run` with a configuration, and never reads what it logs.
    pub(crate) fn start_unread(folder: &Path, config: &Path) -> Self {
        // Free a moment ago; nobody tells the port of a daemon whose log is not read.
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http, grpc, dns) = (port(), port(), port());
        let mut command = program();
        command.current_dir(folder).args(["run", "--config"]).arg(config);
        command.args(["--http", &http.to_string(), "--grpc", &grpc.to_string()]);
        command.args(["--dns", &dns.to_string()]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let daemon = Self { child, http, dns, log: Arc::default() };
        wait_for("it listens", || TcpStream::connect(http).is_ok());
        wait_for("it is ready", || daemon.get("/-/ready").0 == 200);
        daemon
    }

    /// Status code and body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: rollcall\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The transitions so far, as `instance:check from to reason`.
    pub(crate) fn transitions(&self) -> Vec<String> {
        let events = self.json("/v1/rollcall/events");
        let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
        let line = |event: &serde_json::Value| {
            let parts = ["instance", "check", "from", "to", "reason"].map(|key| text(event, key));
            parts.join(" ")
        };
        events.as_array().unwrap().iter().map(line).collect()
    }

    /// The value of a series, given with its labels as `/metrics` writes them.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Lets it open no further files than so many.
    pub(crate) fn limit_files(&self, files: u64) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let limit = rustix::process::Rlimit { current: Some(files), maximum: Some(files) };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit).unwrap();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Waits for it to end by itself.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_for("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), self.log())
    }
}

impl Drop for Rollcall {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.env_remove("NO_COLOR").env_remove("ROLLCALL_CONFIG").env_remove("ROLLCALL_LOG");
    command.stdin(Stdio::null());
    command
}

/// Polls until something is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a configuration of one service `web` with one check, `http`, every 200 ms.
pub(crate) fn write_config(folder: &Path, targets: &[(&str, SocketAddr)], more: &str) -> PathBuf {
    let path = folder.join("rollcall.yml");
    let mut text = String::from(
        "services:\n  - name: web\n    checks:\n      - { id: http, http: {}, interval: 200ms, \
         timeout: 150ms, failures_before_critical: 3, allow_fast_interval: true }\n    instances:\n",
    );
    for (id, address) in targets {
        let (host, port) = (address.ip(), address.port());
        writeln!(text, "      - {{ id: {id}, address: {host}, port: {port} }}").unwrap();
    }
    fs::write(&path, text + more).unwrap();
    path
}
