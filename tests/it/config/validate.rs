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
    // What the host has differs from one to the other.
    let of_host = |line: &&str| !line.starts_with("if all targets hang: ");
    let text = |bytes: &[u8]| {
        let text = folder.clean(&String::from_utf8_lossy(bytes));
        text.split_inclusive('\n').filter(of_host).collect::<String>()
    };
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_good_file_shows_what_would_run() {
    let (code, out, err) = validate(EXAMPLE, &["--strict"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    expect![[r#"
        SERVICE  CHECK  BY    INSTANCES  EVERY  WITHIN  FAILURES  NOTICED P50        P99  FALSE A YEAR
        web      http   http          2     5s      1s         3      4s500ms    7s100ms          12.5
        web      port   tcp           2    10s      2s         3           8s   13s200ms           6.2
        cart     grpc   grpc          1    10s      2s         3           8s   13s700ms           3.1
        cart     own    tcp           1     1m      1s         3          32s  1m2s900ms           0.5
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

/// The program knows all functions of a `JSONPath`, two of which are its own.
#[test]
fn every_function_of_a_json_path_is_there_and_no_other() {
    let config = |filter: &str| {
        format!(
            "services: [{{ name: web, instances: [{{ address: 10.0.0.1, port: 80 }}], checks: \
             [{{ id: a, http: {{ body_json: [{{ path: \"$[?{filter}]\" }}] }} }}] }}]\n"
        )
    };
    let filter = "length(@.a) > 1 && count(@.*) > 1 && value(@..a) == 1 && match(@.a, 'b') && search(@.a, 'c')";
    let (code, _, err) = validate(&config(filter), &["--strict"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let (code, _, err) = validate(&config("find(@.a, 'b')"), &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("not a JSONPath (RFC 9535): at"), "{err}");
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
check_defaults: { confirm_probes: 0 }
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
        SERVICE  CHECK    BY   INSTANCES  EVERY  WITHIN  FAILURES  NOTICED P50         P99  FALSE A YEAR
        web      default  tcp          1     1s   800ms         3      3s300ms     3s800ms          31.2
        web      short    tcp          1    10s      8s         3          33s    38s200ms           3.1
        web      jitter   tcp          1    10s      9s         3          34s    59s700ms           3.1
        web      equal    tcp          1    10s     10s         3          55s    59s900ms           3.1
        web      long     tcp          1    10s     25s         3        1m30s  1m35s200ms           3.1
        web      once     tcp          1    10s     25s         1          30s    35s200ms       31242.0
        1 service, 1 instance, 6 checks: 1.5 probes and 1.5 new connections a second
    "#]]
    .assert_eq(&out);
}

#[test]
fn json_holds_problems_checks_and_the_budget() {
    let (code, out, err) = validate(EXAMPLE, &["--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&plan["services"], &plan["instances"]), (&2.into(), &3.into()));
    let web = &plan["checks"][0];
    assert_eq!((&web["service"], &web["interval_seconds"]), (&"web".into(), &5.0.into()));
    let silent = &web["noticed_seconds"]["silent"];
    assert!(silent["p50"].as_f64().unwrap() < silent["p99"].as_f64().unwrap(), "{web}");
    assert!(plan["budget"]["max_in_flight"].as_u64().unwrap() >= 16, "{plan}");
    let (code, out, err) = validate("a: 1", &["--json"]);
    assert_eq!((code, err.as_str()), (Some(2), ""));
    let refused: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(refused["problems"][0]["severity"], "error");
    assert_eq!(refused["problems"][0]["line"], 1);
}

#[test]
fn what_cannot_be_on_any_host_is_refused_with_what_to_change() {
    let head =
        "services:\n- name: web\n  instances: [{ address: 10.0.0.1, port: 80 }]\n  checks:\n";
    let checks = (0..1200).map(|n| {
        format!("  - {{ id: c{n}, tcp: {{ close: fin }}, interval: 1s, timeout: 100ms }}\n")
    });
    let text = head.to_owned() + &checks.collect::<String>();
    let (code, out, err) = validate(&text, &[]);
    if out.is_empty() {
        assert_eq!(code, Some(2));
        assert!(err.contains("ports in TIME_WAIT, and there are"), "{err}");
        assert!(err.contains("leave `close: reset`"), "{err}");
    } else {
        // This host gives ports in TIME_WAIT away again.
        let reuse = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse").unwrap();
        assert_eq!(reuse.trim(), "1");
    }
}
