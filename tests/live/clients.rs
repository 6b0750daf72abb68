//! The second stage: Consul clients that others wrote, as they are, against the real daemon.
//!
//! Every client goes through a round of its own, written here in its own language, and those that
//! publish tests of their own have them run as well: py-consul and the official client for Go. What
//! these tests want and the daemon does not have is listed beside them with the reason.
//!
//! `clients/install.sh` gets the clients. One that cannot be had is skipped, with the reason and
//! counted at the end.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    daemon::Daemon,
    rig::{Proofs, empty_folder, missing, own_python, run, words},
};

mod answers;
mod discovery;
mod rounds;
mod suites;

/// A statement, the client it needs, and what proves it.
type Statement = (&'static str, Client, fn(&Clients));

/// A client as `clients/install.sh` names it; nothing if it is among the programs of the stage.
type Client = Option<&'static str>;

const STATEMENTS: &[Statement] = &[
    ("curl is told what is wrong, word for word", None, answers::errors_are_word_for_word),
    ("curl sees the headers of reads, also of blocking ones", None, answers::reads_have_headers),
    ("py-consul goes its round", Some("python"), rounds::python),
    ("the client for Node.js goes its round", Some("node"), rounds::node),
    ("the official client for Go goes its round", Some("go"), rounds::go),
    ("py-consul's own tests pass", Some("python"), suites::python),
    ("the own tests of the client for Go pass", Some("go"), suites::go),
    ("the own tests of Go's watches pass", Some("go"), suites::go_watches),
    (
        "Prometheus finds services as they come and go",
        Some("prometheus"),
        discovery::prometheus_finds_services,
    ),
];

/// What is needed besides the clients.
const PROGRAMS: &[&str] = &["curl", "setpriv"];

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Configurations, data and logs of this run.
    folder: PathBuf,
    /// What `clients/install.sh` got.
    installed: PathBuf,
    python: PathBuf,
}

impl Clients {
    fn find() -> Self {
        let missing = missing(PROGRAMS);
        assert!(
            missing.is_empty(),
            "the stage lacks {}; tests/run.sh installs what it needs and runs it",
            missing.join(", ")
        );
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let own = target.with_file_name("live-clients");
        Self {
            folder: empty_folder("clients"),
            installed: env::var_os("LIVE_CLIENTS").map_or(own, PathBuf::from),
            python: own_python(),
        }
    }

    /// Why there is no such client; nothing if there is.
    fn lacks(&self, client: Client) -> Option<String> {
        let client = client?;
        let file = |end: &str| self.installed.join(format!("{client}.{end}"));
        let reason = fs::read_to_string(file("missing"));
        assert!(
            reason.is_ok() || file("ready").exists(),
            "nobody tried to get the client {client}; tests/run.sh does"
        );
        reason.ok().map(|reason| reason.trim().to_owned())
    }

    /// A daemon that knows nothing yet.
    fn fresh_daemon(&self, name: &str) -> Daemon {
        Daemon::start(&self.folder, name, "", "")
    }

    /// A file beside this one.
    fn source(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/clients").join(name)
    }

    /// Runs a program whose words are kept.
    fn try_run(&self, name: &str, command: &mut Command) -> (Output, String) {
        let output: Output = run(command);
        let said = words(&output);
        fs::write(self.log(name), &said).unwrap();
        (output, said)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Runs a program whose words are kept, and which must end well.
    #[track_caller]
    fn run(&self, name: &str, command: &mut Command) -> String {
        let (output, said) = self.try_run(name, command);
        let log = self.log(name);
        let told: Vec<&str> = said.lines().filter(|line| tells_of_failure(line)).collect();
        assert!(
            output.status.success(),
            "{name} ends with {}; all it said is in {}:\n{}",
            output.status,
            log.display(),
            told.join("\n")
        );
        said
    }
}

fn tells_of_failure(line: &str) -> bool {
    ["FAIL", "ERROR", "XPASS", "panic:", "Error:"].iter().any(|word| line.contains(word))
}

/// The stages are about times of milliseconds, too: one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static STAGE: Mutex<()> = Mutex::new(());
    STAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn clients_of_consul_work_as_they_are() {
    let _alone = alone();
    let clients = Clients::find();
    let mut proofs = Proofs::new();
    for (statement, client, step) in STATEMENTS {
        match clients.lacks(*client) {
            Some(reason) => proofs.skip(statement, &reason),
            None => proofs.add(statement, || step(&clients)),
        }
    }
    proofs.conclude(&clients.folder);
}
