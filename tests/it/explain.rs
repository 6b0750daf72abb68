//! Asking the daemon why a check is as it is, and having it ask a target.

use std::{fs, net::TcpListener};

use crate::support::{Rollcall, Web, program, wait_for, write_config};

/// Runs a command against a daemon: how it ended, and what it printed.
fn ran(daemon: &Rollcall, arguments: &[&str]) -> (Option<i32>, String) {
    let address = daemon.http.to_string();
    let output = program().args(arguments).args(["--http-addr", &address]).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_failing_target_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = write_config(folder.path(), &[("web-1", refuses)], "explain_attempts: 4\n");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let id = "/v1/rollcall/explain/web-1:http";
    wait_for("it is critical and told to be", || {
        let explained = &daemon.json(id)[0];
        explained["observed"]["consecutive_failures"].as_u64() > Some(4)
            && explained["published"]["judged"] == true
    });
    let (code, said) = ran(&daemon, &["explain", "web-1:http"]);
    assert_eq!(code, Some(0), "{said}");
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("web-1:http is CRITICAL since "), "{said}");
    assert!(first.contains(" failures in a row (threshold 3), last: Connection refused"), "{said}");
    assert!(first.ends_with(&format!(" ({refuses})")), "{said}");
    for line in ["  published    critical since ", "  next         passing after "] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("\n  last 4 attempts\n"), "{said}");
    assert!(said.contains("\n  last change of status\n"), "{said}");
    let (code, said) = ran(&daemon, &["explain", "web-1:htp"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("did you mean web-1:http"), "{said}");
}

#[test]
fn a_probe_that_is_asked_for_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let config = write_config(folder.path(), &[("web-1", web.address)], "");
    // So that it does not come to be asked by itself.
    let text = fs::read_to_string(&config).unwrap().replace("interval: 200ms", "interval: 7d");
    fs::write(&config, text).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let known = || {
        let mut explained = daemon.json("/v1/rollcall/explain/web-1:http")[0].clone();
        explained.as_object_mut().unwrap().remove("next_probe_seconds");
        explained
    };
    let before = known();
    assert_eq!(before["observed"]["probes"], 0);
    let (code, said) = ran(&daemon, &["probe", "--check", "web-1:http"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("({})", web.address)) && said.contains("success (200)"),
        "{said}"
    );
    web.answers(503);
    let (code, said) = ran(&daemon, &["probe", "--check", "web-1:http", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, report["reason"].as_str()), (Some(2), Some("status")), "{said}");
    assert_eq!(known(), before);
    assert_eq!(daemon.transitions(), [""; 0]);
}

#[test]
fn a_probe_that_is_asked_for_goes_only_where_the_daemon_may() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let deny = "egress: { deny: [127.0.0.0/8, \"::1\"] }\n";
    let config = write_config(folder.path(), &[("web-1", web.address)], deny);
    // The address itself would be refused with the file.
    let text = fs::read_to_string(&config).unwrap().replace("127.0.0.1,", "localhost,");
    fs::write(&config, text).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let (code, said) = ran(&daemon, &["probe", "--check", "web-1:http"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("failure: denied"), "{said}");
}
