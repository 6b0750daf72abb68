//! The registry of a whole daemon on a disk that does not take everything.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use crate::support::{Rollcall, program};

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
