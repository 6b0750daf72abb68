//! A daemon that answers as a test has told it, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use clap::Parser as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Cli, Exit, client::Client};

/// Hang up instead of answering.
pub(super) const HANG_UP: (u16, &str) = (0, "");

/// The daemon; it answers each request with the next of its answers, over a connection of its own.
pub(super) struct Daemon {
    pub(super) address: String,
    requests: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Daemon {
    pub(super) async fn answering(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answers: Vec<_> =
            answers.iter().map(|(code, text)| (*code, text.to_string())).collect();
        let mut task = JoinSet::new();
        task.spawn(async move {
            for (code, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                seen.lock().unwrap().push(request);
                if code == 0 {
                    continue;
                }
                let answer = format!(
                    "HTTP/1.1 {code} So\r\nx-consul-index: 42\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, requests, _task: task }
    }

    pub(super) fn client(&self) -> Client {
        #[derive(Debug, clap::Parser)]
        struct Command {
            #[command(flatten)]
            client: Client,
        }
        Command::parse_from(["test", "--http-addr", &self.address]).client
    }

    /// The requests so far: head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The first lines of the requests, without the version, and the bodies.
    pub(super) fn asked(&self) -> Vec<String> {
        let short = |request: &String| {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let line = head.split(" HTTP/1.1").next().unwrap();
            format!("{line} {body}").trim_end().to_owned()
        };
        self.requests().iter().map(short).collect()
    }
}

/// Runs a command line against a daemon with these answers: how it ended, what it printed, and
/// what it asked.
pub(super) async fn run(
    arguments: &[&str],
    answers: &[(u16, &str)],
) -> (Result<Exit, String>, String, Vec<String>) {
    let daemon = Daemon::answering(answers).await;
    let cli =
        Cli::try_parse_from([&["rollcall"], arguments, &["--http-addr", &daemon.address]].concat())
            .unwrap();
    let mut out = Vec::new();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are not for this")]
    let exit = match cli.command {
        super::Command::Explain(args) => super::explain::run(args, &mut out).await,
        super::Command::Probe(args) => super::probe::run(args, &mut out).await,
        super::Command::Register(args) => super::register::run(args, &mut out).await,
        super::Command::Deregister(args) => super::register::deregister(args, &mut out).await,
        super::Command::Undo(args) => super::register::undo(args, &mut out).await,
        super::Command::Recheck(args) => super::recheck::run(args, &mut out).await,
        super::Command::Maint(args) => super::maint::run(args, &mut out).await,
        super::Command::Kv(args) => super::kv::run(args, &mut out).await,
        other => panic!("{other:?} is not run here"),
    };
    let exit = exit.map_err(|error| format!("{error:#}").replace(&daemon.address, "ADDRESS"));
    (exit, String::from_utf8(out).unwrap(), daemon.asked())
}

async fn read(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= wanted.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}
