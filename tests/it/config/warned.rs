//! Settings that work and are seldom meant.

use expect_test::{Expect, expect};

use super::report;

#[track_caller]
fn check(checks: &str, expected: &Expect) {
    let text = format!(
        "services:\n- name: web\n  instances: [{{ address: 10.0.0.1, port: 80 }}]\n  checks:\n  - {checks}\n"
    );
    expected.assert_eq(&report(&[("rollcall.yaml", &text)]));
}

#[test]
fn a_timeout_as_long_as_the_interval() {
    check(
        "{ tcp: {}, interval: 5s, timeout: 5s }",
        &expect![[r#"
        warning: the timeout should be shorter than the interval
         --> rollcall.yaml:5:39
          |
        5 |   - { tcp: {}, interval: 5s, timeout: 5s }
          |                                       ^^ not less than the interval of 5s
          |
          = help: while a target hangs, every second probe is skipped

        warning: 0 errors, 1 warning
    "#]],
    );
    check("{ tcp: {}, interval: 1s }", &expect![[""]]);
}

#[test]
fn an_interval_below_a_second_unless_it_is_meant() {
    check(
        "{ tcp: {}, interval: 100ms }",
        &expect![[r#"
        warning: an interval below 1s is much load for a target
         --> rollcall.yaml:5:26
          |
        5 |   - { tcp: {}, interval: 100ms }
          |                          ^^^^^ 10 probes a second
          |
          = help: if it is meant, say `allow_fast_interval: true`

        warning: 0 errors, 1 warning
    "#]],
    );
    check("{ tcp: {}, interval: 100ms, allow_fast_interval: true }", &expect![[""]]);
}

#[test]
fn one_failure_that_decides() {
    check(
        "{ tcp: {}, failures_before_critical: 1 }",
        &expect![[r#"
        warning: one failure is enough to make the check critical
         --> rollcall.yaml:5:42
          |
        5 |   - { tcp: {}, failures_before_critical: 1 }
          |                                          ^ a single lost packet takes the instance out
          |
          = help: 2 or 3 failures in a row tell trouble from chance

        warning: 0 errors, 1 warning
    "#]],
    );
}

#[test]
fn a_failure_or_recovery_noticed_too_late() {
    check(
        "{ tcp: {}, interval: 2m }",
        &expect![[r#"
        warning: a failure is noticed only after more than 5 minutes
         --> rollcall.yaml:5:26
          |
        5 |   - { tcp: {}, interval: 2m }
          |                          ^^ 3 × 2m = 6m
          |
          = help: shorten `interval` or lower `failures_before_critical`

        warning: 0 errors, 1 warning
    "#]],
    );
    check(
        "{ tcp: {}, interval: 1m, success_before_passing: 6 }",
        &expect![[r#"
        warning: a recovery is noticed only after more than 5 minutes
         --> rollcall.yaml:5:54
          |
        5 |   - { tcp: {}, interval: 1m, success_before_passing: 6 }
          |                                                      ^ takes 6m
          |
          = help: shorten `interval` or lower `success_before_passing`

        warning: 0 errors, 1 warning
    "#]],
    );
}

#[test]
fn a_timeout_too_short_for_tls() {
    check(
        "{ http: { https: true }, timeout: 99ms }",
        &expect![[r#"
        warning: a timeout below 100ms is short for TLS
         --> rollcall.yaml:5:39
          |
        5 |   - { http: { https: true }, timeout: 99ms }
          |                                       ^^^^ 99ms for name, connection, handshake and answer
          |
          = help: a full handshake takes two to three round trips and a signature

        warning: 0 errors, 1 warning
    "#]],
    );
    check("{ http: {}, timeout: 99ms }", &expect![[""]]);
}

#[test]
fn many_checks_on_one_host() {
    let instances: Vec<_> =
        (1..=40).map(|n| format!("  - {{ address: 10.0.0.1, port: {n} }}\n")).collect();
    let instances = instances.concat();
    let text = format!(
        "services:\n- name: web\n  instances:\n{instances}  checks: [{{ tcp: {{}}, interval: 1s }}, {{ http: {{}}, interval: 1s }}]\n"
    );
    expect![[r#"
        warning: 80 checks ask the host `10.0.0.1`
         --> rollcall.yaml:4:16
          |
        4 |   - { address: 10.0.0.1, port: 1 }
          |                ^^^^^^^^ the first of its instances
          |
          = help: if it hangs, 80 probes at once would wait for it; `scheduler.max_in_flight_per_host` lets 64 and skips the rest
          = help: raise the limit, lengthen intervals or shorten timeouts

        warning: 0 errors, 1 warning
    "#]].assert_eq(&report(&[("rollcall.yaml", &text)]));
}

#[test]
fn a_pattern_that_matches_no_file() {
    let folder = super::Folder::new(&[("rollcall.yaml", "service_files: [\"x/*.json\"]\n")]);
    let loaded = folder.load().unwrap();
    expect![[r#"
        warning: no file matches the pattern
         --> rollcall.yaml:1:17
          |
        1 | service_files: ["x/*.json"]
          |                 ^^^^^^^^^^ looked for `x/*.json`

        warning: 0 errors, 1 warning
    "#]]
    .assert_eq(&folder.clean(&loaded.warnings.to_string()));
}
