//! The tests that clients come with, run against the daemon instead of Consul.
//!
//! Each test there starts a server of its own, by the program `consul`, which is a script here. A
//! test of something that the daemon does not have is listed with the reason.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::Clients;

/// How many tests run at once: most of them sleep.
const AT_ONCE: &str = "8";

/// A test that hangs should not hang everything.
const LIMIT_SECONDS: &str = "120s";

pub(super) fn python(clients: &Clients) {
    let folder = clients.folder.join("py-consul");
    copy(&clients.installed.join("py_consul/tests"), &folder.join("tests"));
    fs::copy(Clients::source("pyconsul/conftest.py"), folder.join("conftest.py")).unwrap();
    let pytest = |more: &[&str]| {
        let mut command = Command::new(&clients.python);
        command
            .args(["-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-rfEsxX", "--tb=short"])
            .args(more)
            .arg("tests")
            .env("ROLLCALL", env!("CARGO_BIN_EXE_rollcall"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&folder);
        command
    };
    let (output, said) = clients.try_run("py-consul-tests", &mut pytest(&["-n", AT_ONCE]));
    if !output.status.success() {
        // Some of them race with 20 ms of their own, which a busy machine loses: what has failed
        // must pass when it is alone.
        clients.run("py-consul-tests-again", &mut pytest(&["-n", "0", "--last-failed"]));
    }
    let summary = said.lines().rev().find(|line| line.contains(" passed")).unwrap();
    println!("     py-consul: {summary}");
    tell("py-consul", said.lines().filter_map(left_out));
}

/// What a line of pytest's summary tells of a test that did not pass.
fn left_out(line: &str) -> Option<(String, usize)> {
    if let Some(rest) = line.strip_prefix("SKIPPED [") {
        let (count, rest) = rest.split_once("] ")?;
        let (_, reason) = rest.split_once(": ")?;
        return Some((reason.to_owned(), count.parse().ok()?));
    }
    let (_, reason) = line.strip_prefix("XFAIL ")?.rsplit_once(" - ")?;
    Some((reason.to_owned(), 1))
}

pub(super) fn go(clients: &Clients) {
    go_tests(clients, "api");
}

pub(super) fn go_watches(clients: &Clients) {
    go_tests(clients, "watch");
}

#[track_caller]
fn go_tests(clients: &Clients, name: &str) {
    let absent = absent(name);
    let skip = absent.keys().map(String::as_str).collect::<Vec<_>>().join("|");
    let mut paths = vec![Clients::source("")];
    paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let folder = clients.folder.join(format!("go-{name}"));
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(clients.installed.join(format!("go/{name}.test")));
    command
        .args(["-test.v", "-test.parallel", AT_ONCE, "-test.timeout", LIMIT_SECONDS])
        .args(["-test.skip", &format!("^({skip})$")])
        .env("PATH", env::join_paths(paths).unwrap())
        .env("ROLLCALL", env!("CARGO_BIN_EXE_rollcall"))
        .env("TMPDIR", &folder)
        .current_dir(&folder);
    let said = clients.run(&format!("go-{name}-tests"), &mut command);
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    let (passed, skipped) = (count("--- PASS"), count("--- SKIP"));
    assert!(passed > 0, "no test of {name} ran");
    println!("     Go {name}: {passed} passed, {skipped} skip themselves");
    tell(&format!("Go {name}"), absent.into_values().map(|reason| (reason, 1)));
}

/// The tests of what is not there, with the reasons.
fn absent(name: &str) -> BTreeMap<String, String> {
    let list = fs::read_to_string(Clients::source(&format!("absent-{name}.txt"))).unwrap();
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (test, reason) = line.split_once(": ").expect("a test and its reason");
            (test.to_owned(), reason.to_owned())
        })
        .collect()
}

/// Tells how many tests were left out for which reason.
fn tell(suite: &str, reasons: impl Iterator<Item = (String, usize)>) {
    let mut sums = BTreeMap::new();
    for (reason, count) in reasons {
        *sums.entry(reason).or_insert(0) += count;
    }
    for (reason, count) in sums {
        println!("     {suite}: {count} left out: {reason}");
    }
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).unwrap();
        }
    }
}
