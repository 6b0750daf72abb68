//! The registry of a whole daemon: on a disk that does not take everything, and beside instances that
//! die.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::json;

use crate::support::{Rollcall, program, wait_for};

const FAILURES: &str = "rollcall_registry_commit_failures_total";

fn kv(daemon: &Rollcall, args: &[&str]) -> Output {
    let address = daemon.http.to_string();
    program().arg("kv").args(args).args(["--http-addr", &address]).output().unwrap()
}

#[test]
fn what_cannot_be_written_is_refused_with_its_cause_and_counted_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs::write(&large, vec![b'a'; 200_000]).unwrap();
    let large = format!("@{}", large.display());
    // No file of the daemon's may have more than 64 blocks of 512 or 1024 bytes; without the trap
    // it would be killed for trying.
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#]);
    limited.arg(env!("CARGO_BIN_EXE_rollcall")).stdin(Stdio::null());
    let daemon = Rollcall::start_by(limited, folder.path(), None);
    assert!(kv(&daemon, &["put", "before", "1"]).status.success());
    assert_eq!(daemon.metric(FAILURES), Some(0.0));

    let refused = kv(&daemon, &["put", "large", &large]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(daemon.metric(FAILURES), Some(1.0));
    assert!(daemon.log().contains("File too large"), "{}", daemon.log());
    assert_eq!(daemon.get("/v1/kv/large").0, 404);

    assert!(kv(&daemon, &["put", "after", "2"]).status.success());
    daemon.signal("KILL");
    let _ = daemon.ended();
    let daemon = Rollcall::start(folder.path(), None);
    let kept: Vec<_> = ["before", "after", "large"]
        .iter()
        .map(|key| daemon.get(&format!("/v1/kv/{key}?raw")))
        .collect();
    assert_eq!(kept, [(200, "1".into()), (200, "2".into()), (404, String::new())]);
}

#[test]
fn a_crash_behind_a_check_in_consuls_form_is_told_at_once_if_that_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ended by one connection more than those it holds, as a process that dies ends them all.
    let (die, dies) = std::sync::mpsc::channel::<()>();
    let process = thread::spawn(move || {
        let mut held = Vec::new();
        while dies.try_recv().is_err() {
            held.push(listener.accept().unwrap());
        }
    });
    let definition = folder.path().join("web.json");
    // Three runs in a row would take ten seconds and more.
    let service = json!({ "Name": "web", "Port": port, "Check": {
        "TCP": format!("127.0.0.1:{port}"), "Interval": "5s", "Timeout": "1s",
        "FailuresBeforeCritical": 3, "ConfirmProbes": 3, "Tripwire": true } });
    fs::write(&definition, service.to_string()).unwrap();
    let daemon = Rollcall::start(folder.path(), None);
    let address = daemon.http.to_string();
    let mut register = program();
    register.arg("register").arg(&definition).args(["--http-addr", &address]);
    assert!(register.output().unwrap().status.success());
    wait_for("a connection is held", || daemon.metric("rollcall_tripwires") == Some(1.0));

    die.send(()).unwrap();
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    process.join().unwrap();
    wait_for("it is critical", || {
        daemon.json("/v1/health/service/web")[0]["Checks"][1]["Status"] == "critical"
    });
    let extra = |reason: &str| {
        let series = format!("rollcall_scheduler_extra_probes_total{{reason=\"{reason}\"}}");
        daemon.metric(&series).unwrap()
    };
    assert!(extra("tripwire") >= 1.0, "the end of the connection was heard");
    assert!(extra("confirm") >= 1.0, "and what it told confirmed");
}
