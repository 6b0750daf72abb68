//! `rollcall validate`, as a person meets it.

use std::process::Command;

use expect_test::expect;
use rollcall::config::reference::EXAMPLE;

use super::Folder;

/// Exit code, standard output and standard error.
fn validate(text: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    let folder = Folder::new(&[("rollcall.yaml", text)]);
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .arg("validate")
        .args(flags)
        .arg(folder.path("rollcall.yaml"))
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| folder.clean(&String::from_utf8_lossy(bytes));
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_good_file_shows_what_would_run() {
    let (code, out, err) = validate(EXAMPLE, &["--strict"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    expect![[r#"
        SERVICE  CHECK  BY    INSTANCES  EVERY  WITHIN  FAILURES  NOTICED AFTER
        web      http   http          2     5s      1s         3          ≤ 16s
        web      port   tcp           2    10s      2s         3          ≤ 32s
        cart     grpc   grpc          1    10s      2s         3          ≤ 32s
        cart     own    tcp           1     1m      1s         3         ≤ 3m1s
        2 services, 3 instances, 6 checks: 0.7 probes and 0.6 new connections a second
    "#]]
    .assert_eq(&out);
}

#[test]
fn an_empty_file_runs_nothing() {
    let (code, out, _) = validate("", &[]);
    assert_eq!(code, Some(0));
    expect![[r#"
        0 services, 0 instances, 0 checks: 0.0 probes and 0.0 new connections a second
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_bad_file_shows_its_problems_and_fails() {
    let (code, out, err) = validate("a: 1", &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error: unknown key `a`"), "{err}");
}

#[test]
fn warnings_fail_only_if_asked_to() {
    let text = "service_files: [\"*.json\"]";
    let (code, out, err) = validate(text, &[]);
    assert_eq!(code, Some(0));
    assert!(err.starts_with("warning: no file matches"), "{err}");
    assert!(!out.is_empty());
    assert_eq!(validate(text, &["--strict"]).0, Some(2));
}

/// Runs that are skipped while a target hangs are counted, and the default timeout avoids them.
#[test]
fn runs_that_are_skipped_delay_the_notice() {
    let text = "\
services:
- name: web
  instances: [{ address: 10.0.0.1, port: 80 }]
  checks:
  - { id: default, tcp: {}, interval: 1s }
  - { id: short, tcp: {}, interval: 10s, timeout: 8s }
  - { id: jitter, tcp: {}, interval: 10s, timeout: 9s, jitter: 10% }
  - { id: equal, tcp: {}, interval: 10s, timeout: 10s, jitter: 0 }
  - { id: long, tcp: {}, interval: 10s, timeout: 25s }
  - { id: once, tcp: {}, interval: 10s, timeout: 25s, failures_before_critical: 1 }
";
    let (code, out, _) = validate(text, &[]);
    assert_eq!(code, Some(0));
    expect![[r#"
        SERVICE  CHECK    BY   INSTANCES  EVERY  WITHIN  FAILURES  NOTICED AFTER
        web      default  tcp          1     1s   800ms         3      ≤ 3s800ms
        web      short    tcp          1    10s      8s         3          ≤ 38s
        web      jitter   tcp          1    10s      9s         3          ≤ 59s
        web      equal    tcp          1    10s     10s         3           ≤ 1m
        web      long     tcp          1    10s     25s         3        ≤ 1m35s
        web      once     tcp          1    10s     25s         1          ≤ 35s
        1 service, 1 instance, 6 checks: 1.5 probes and 1.5 new connections a second
    "#]]
    .assert_eq(&out);
}
