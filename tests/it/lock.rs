//! `rollcall lock`: the program and the processes it starts, against a daemon made by the test that
//! keeps one key.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::support::program;

const PATIENCE: Duration = Duration::from_secs(60);
const FLAGS: &str = "flags=3304740253564472344";

/// The key and the sessions.
#[derive(Default)]
struct Key {
    index: u64,
    holder: Option<String>,
    sessions: Vec<String>,
    created: usize,
    renewed: usize,
}

/// The part of a daemon that locks need.
struct Store {
    address: SocketAddr,
    key: Arc<(Mutex<Key>, Condvar)>,
}

impl Store {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let key = Arc::new((Mutex::new(Key { index: 10, ..Key::default() }), Condvar::new()));
        let shared = Arc::clone(&key);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let key = Arc::clone(&shared);
                thread::spawn(move || answer(stream.unwrap(), &key));
            }
        });
        Self { address, key }
    }

    fn lock(&self, options: &str, command: &[&str]) -> Command {
        let mut lock = program();
        lock.args(["lock", "web", "--http-addr", &self.address.to_string()]);
        lock.args(options.split_whitespace()).arg("--").args(command);
        lock
    }

    /// Changes the key by other hands.
    fn hold(&self, holder: Option<&str>) {
        let (key, changed) = &*self.key;
        let mut key = key.lock().unwrap();
        key.holder = holder.map(str::to_owned);
        key.index += 1;
        changed.notify_all();
    }

    fn holder(&self) -> Option<String> {
        self.key.0.lock().unwrap().holder.clone()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, so: impl Fn(&Key) -> bool) {
        let (key, changed) = &*self.key;
        let waited = changed.wait_timeout_while(key.lock().unwrap(), PATIENCE, |key| !so(key));
        assert!(!waited.unwrap().1.timed_out(), "waited in vain until {what}");
    }
}

fn answer(mut stream: TcpStream, key: &(Mutex<Key>, Condvar)) {
    let mut request = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    request.read_line(&mut head).unwrap();
    loop {
        let mut line = String::new();
        request.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    request.read_exact(&mut vec![0; length]).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let (status, index, body) = decide(target, key);
    // The program may have been killed.
    drop(write!(
        stream,
        "HTTP/1.1 {status} So\r\nX-Consul-Index: {index}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
}

fn decide(target: &str, key: &(Mutex<Key>, Condvar)) -> (u16, u64, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (mutex, changed) = key;
    let mut key = mutex.lock().unwrap();
    let session = path.rsplit('/').next().unwrap().to_owned();
    let body = if path == "/v1/session/create" {
        key.created += 1;
        let id = format!("s-{}", key.created);
        key.sessions.push(id.clone());
        format!(r#"{{"ID":"{id}"}}"#)
    } else if path.starts_with("/v1/session/destroy/") {
        key.sessions.retain(|known| *known != session);
        "true".to_owned()
    } else if path.starts_with("/v1/session/renew/") {
        key.renewed += 1;
        changed.notify_all();
        if !key.sessions.contains(&session) {
            return (404, key.index, "Session id not found".to_owned());
        }
        "[]".to_owned()
    } else if let Some(session) = parameter("acquire") {
        assert!(query.contains(FLAGS));
        let free = key.holder.as_deref().is_none_or(|holder| holder == session);
        if free {
            key.holder = Some(session.to_owned());
            key.index += 1;
        }
        free.to_string()
    } else if let Some(session) = parameter("release") {
        let held = key.holder.as_deref() == Some(session);
        if held {
            key.holder = None;
            key.index += 1;
        }
        held.to_string()
    } else {
        let since = parameter("index").map_or(0, |index| index.parse().unwrap());
        let wait = parameter("wait").map_or("0", |wait| wait.strip_suffix("ms").unwrap());
        let wait = Duration::from_millis(wait.parse().unwrap());
        key = changed.wait_timeout_while(key, wait, |key| key.index <= since).unwrap().0;
        let holder = key.holder.as_deref().map(|id| format!(r#""Session":"{id}","#));
        format!(
            r#"[{{"LockIndex":1,"Key":"web","Flags":3304740253564472344,"Value":null,{}"CreateIndex":10,"ModifyIndex":{}}}]"#,
            holder.unwrap_or_default(),
            key.index
        )
    };
    changed.notify_all();
    (200, key.index, body)
}

/// A program that is under way; killed when dropped.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// All that is still said: ends when nobody is left who could say anything.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        rest
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_command_runs_under_the_lock_and_its_exit_code_is_ours() {
    let store = Store::start();
    let script = "echo $ROLLCALL_LOCK_KEY $ROLLCALL_LOCK_SESSION $ROLLCALL_LOCK_INDEX; exit 7";
    let output = store.lock("", &["sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "web s-1 11\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let key = store.key.0.lock().unwrap();
    assert_eq!((&key.holder, key.sessions.len()), (&None, 0));
}

#[test]
fn a_command_that_cannot_be_run_is_named() {
    let store = Store::start();
    for (command, code) in [("/does/not/exist", 127), ("/etc/passwd", 126)] {
        let output = store.lock("", &[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("rollcall: cannot run {command}: ")), "{said}");
    }
    assert_eq!(store.holder(), None);
}

#[test]
fn a_lock_that_is_not_free_is_not_waited_for_longer_than_asked() {
    let store = Store::start();
    store.hold(Some("somebody"));
    for options in ["--no-wait", "--timeout 200ms"] {
        let output = store.lock(options, &["echo", "ran"]).output().unwrap();
        assert_eq!(output.status.code(), Some(69));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "rollcall: \"web\" was not to be had: session somebody holds it\n");
    }
    assert!(store.key.0.lock().unwrap().sessions.is_empty());
}

#[test]
fn who_waits_gets_the_lock_when_it_is_free() {
    let store = Store::start();
    store.hold(Some("somebody"));
    let mut waiting = Running::start(store.lock("", &["echo", "ran"]));
    store.wait_for("it has a session", |key| key.created == 1);
    store.hold(None);
    assert_eq!((waiting.rest().as_str(), waiting.code()), ("ran\n", Some(0)));
}

#[test]
fn signals_are_passed_on_and_end_the_waiting() {
    let store = Store::start();
    let script = "trap 'echo hup' HUP; trap 'echo term; exit 3' TERM; echo up; \
                  while :; do sleep 0.02; done";
    let mut running = Running::start(store.lock("", &["sh", "-c", script]));
    assert_eq!(running.line(), "up");
    running.signal("HUP");
    assert_eq!(running.line(), "hup");
    running.signal("TSTP");
    running.signal("TERM");
    assert_eq!(running.line(), "term");
    assert_eq!((running.code(), store.holder()), (Some(3), None));

    store.hold(Some("somebody"));
    let mut waiting = Running::start(store.lock("", &["echo", "ran"]));
    store.wait_for("it has a session", |key| key.sessions.len() == 1);
    waiting.signal("INT");
    assert_eq!((waiting.rest().as_str(), waiting.code()), ("", Some(130)));
}

#[test]
fn a_command_that_has_lost_its_lock_is_stopped_with_all_it_has_started() {
    let store = Store::start();
    let script = "trap '' TERM; sleep 600 & echo up; while :; do sleep 0.02; done";
    let options = "--shutdown-grace 300ms";
    let mut running = Running::start(store.lock(options, &["sh", "-c", script]));
    assert_eq!(running.line(), "up");
    store.hold(Some("somebody"));
    // The pipe is closed when the last of them is gone.
    assert_eq!((running.rest().as_str(), running.code()), ("", Some(75)));
    assert_eq!(store.holder().as_deref(), Some("somebody"));
}

#[test]
fn a_session_that_is_gone_stops_the_command() {
    let store = Store::start();
    let mut running = Running::start(store.lock("--ttl 3s", &["sh", "-c", "echo up; sleep 600"]));
    assert_eq!(running.line(), "up");
    store.wait_for("it was renewed", |key| key.renewed >= 1);
    store.key.0.lock().unwrap().sessions.clear();
    assert_eq!((running.rest().as_str(), running.code()), ("", Some(75)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_does_not_outlive_the_holder_of_its_lock() {
    let store = Store::start();
    let mut running = Running::start(store.lock("", &["sh", "-c", "echo $$; exec sleep 90"]));
    let command: u32 = running.line().parse().unwrap();
    let start = Instant::now();
    running.signal("KILL");
    assert_eq!(running.rest(), "");
    assert!(start.elapsed() < PATIENCE, "{command} is still there");
}
