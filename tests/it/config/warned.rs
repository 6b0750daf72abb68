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
              |                                       ^^ 5s is not less than the interval of 5s
              |
              = help: while a target hangs, as few as one run in 2 is made; the others are skipped

            warning: 0 errors, 1 warning
        "#]],
    );
    check(
        "{ tcp: {}, interval: 5s, timeout: 15s }",
        &expect![[r#"
            warning: the timeout should be shorter than the interval
             --> rollcall.yaml:5:39
              |
            5 |   - { tcp: {}, interval: 5s, timeout: 15s }
              |                                       ^^^ 15s is not less than the interval of 5s
              |
              = help: while a target hangs, as few as one run in 4 is made; the others are skipped

            warning: 0 errors, 1 warning
        "#]],
    );
    check("{ tcp: {}, interval: 1s }", &expect![[""]]);
}

#[test]
fn certificates_may_be_asked_for_seldom() {
    check("{ certificate: {}, interval: 1h, success_before_passing: 2 }", &expect![[""]]);
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
        (1..=50).map(|n| format!("  - {{ address: 10.0.0.1, port: {n} }}\n")).collect();
    let instances = instances.concat();
    let text = format!(
        "services:\n- name: web\n  instances:\n{instances}  checks: [{{ tcp: {{}}, interval: 1s }}, {{ http: {{}}, interval: 1s }}]\n"
    );
    expect![[r#"
        warning: 100 checks ask the host `10.0.0.1`
         --> rollcall.yaml:4:16
          |
        4 |   - { address: 10.0.0.1, port: 1 }
          |                ^^^^^^^^ the first is a check of this instance
          |
          = help: if it hangs, 80 probes at once would wait for it; `scheduler.max_in_flight_per_host` lets 64 and skips the rest
          = help: raise the limit, lengthen intervals or shorten timeouts

        warning: 0 errors, 1 warning
    "#]].assert_eq(&report(&[("rollcall.yaml", &text)]));
}

#[test]
fn the_host_of_a_url_is_the_one_that_is_asked() {
    let instances: Vec<_> =
        (1..=40).map(|n| format!("  - {{ address: 10.0.0.{n}, port: 80 }}\n")).collect();
    let text = |http: &str| {
        format!(
            "services:\n- name: web\n  instances:\n{}  check_defaults: {{ interval: 1s }}\n  checks:\n  \
             - {{ id: a, http: {http} }}\n  - {{ id: b, http: {http} }}\n  - {{ id: c, http: {http} }}\n",
            instances.concat()
        )
    };
    let by_url = text("{ url: \"http://proxy.example/a\" }");
    expect![[r#"
        warning: 120 checks ask the host `proxy.example`
         --> rollcall.yaml:4:16
          |
        4 |   - { address: 10.0.0.1, port: 80 }
          |                ^^^^^^^^ the first is a check of this instance
          |
          = help: if it hangs, 96 probes at once would wait for it; `scheduler.max_in_flight_per_host` lets 64 and skips the rest
          = help: raise the limit, lengthen intervals or shorten timeouts

        warning: 0 errors, 1 warning
    "#]].assert_eq(&report(&[("rollcall.yaml", &by_url)]));
    assert_eq!(report(&[("rollcall.yaml", &text("{ path: /a }"))]), "");
}

#[test]
fn more_checks_on_one_host_than_are_meant() {
    let text = |count: usize| {
        let instances: Vec<_> =
            (1..=count).map(|n| format!("  - {{ address: 10.0.0.1, port: {n} }}\n")).collect();
        format!(
            "services:\n- name: web\n  instances:\n{}  checks: [{{ tcp: {{}}, interval: 1m }}]\n",
            instances.concat()
        )
    };
    expect![[r#"
        warning: 501 checks ask the host `10.0.0.1`
         --> rollcall.yaml:4:16
          |
        4 |   - { address: 10.0.0.1, port: 1 }
          |                ^^^^^^^^ the first is a check of this instance
          |
          = help: more than 500 are seldom meant: it bears 8.3 probes a second, and if it fails they fail together
          = help: ask the instances themselves, or lengthen intervals, or leave checks out

        warning: 0 errors, 1 warning
    "#]].assert_eq(&report(&[("rollcall.yaml", &text(501))]));
    assert_eq!(report(&[("rollcall.yaml", &text(500))]), "");
}

/// What is said of a check in a Consul definition.
fn said_of_consul(check: &str) -> String {
    let json = format!("{{\"service\": {{\"name\": \"a\", \"port\": 1, \"check\":\n{check}\n}}}}");
    report(&[("rollcall.yaml", "service_files: [a.json]\n"), ("a.json", &json)])
}

#[track_caller]
fn check_consul(check: &str, expected: &Expect) {
    expected.assert_eq(&said_of_consul(check));
}

#[test]
fn what_a_consul_check_says() {
    check_consul(
        r#"{"tcp": "h:1", "interval": "5s", "Timeout": "10s"}"#,
        &expect![[r#"
            warning: the timeout should be shorter than the interval
             --> a.json:2:45
              |
            2 | {"tcp": "h:1", "interval": "5s", "Timeout": "10s"}
              |                                             ^^^^^ 10s is not less than the interval of 5s
              |
              = help: while a target hangs, as few as one run in 3 is made; the others are skipped

            warning: 0 errors, 1 warning
        "#]],
    );
    check_consul(
        r#"{"http": "https://h/", "interval": "5s", "timeout": "99ms"}"#,
        &expect![[r#"
        warning: a timeout below 100ms is short for TLS
         --> a.json:2:53
          |
        2 | {"http": "https://h/", "interval": "5s", "timeout": "99ms"}
          |                                                     ^^^^^^ 99ms for name, connection, handshake and answer
          |
          = help: a full handshake takes two to three round trips and a signature

        warning: 0 errors, 1 warning
    "#]],
    );
    check_consul(
        r#"{"tcp": "h:1", "interval": "1m", "FailuresBeforeCritical": 6, "success_before_passing": 7}"#,
        &expect![[r#"
            warning: a failure is noticed only after more than 5 minutes
             --> a.json:2:60
              |
            2 | {"tcp": "h:1", "interval": "1m", "FailuresBeforeCritical": 6, "success_before_passing": 7}
              |                                                            ^ 6 × 1m = 6m
              |
              = help: shorten `interval` or lower `failures_before_critical`

            warning: a recovery is noticed only after more than 5 minutes
             --> a.json:2:89
              |
            2 | {"tcp": "h:1", "interval": "1m", "FailuresBeforeCritical": 6, "success_before_passing": 7}
              |                                                                                         ^ takes 7m
              |
              = help: shorten `interval` or lower `success_before_passing`

            warning: 0 errors, 2 warnings
        "#]],
    );
    check_consul(
        r#"{"tcp": "h:1", "interval": "10m"}"#,
        &expect![[r#"
        warning: a failure is noticed only after more than 5 minutes
         --> a.json:2:28
          |
        2 | {"tcp": "h:1", "interval": "10m"}
          |                            ^^^^^ 1 × 10m = 10m
          |
          = help: shorten `interval` or lower `failures_before_critical`

        warning: 0 errors, 1 warning
    "#]],
    );
    for written in [0, 1] {
        let said = said_of_consul(&format!(
            r#"{{"tcp": "h:1", "interval": "5s", "failures_before_critical": {written}}}"#
        ));
        assert!(said.contains("warning: one failure is enough"), "{said}");
        assert!(said.contains("^ a single lost packet"), "{said}");
        assert!(said.contains("0 errors, 1 warning"), "{said}");
    }
}

#[test]
fn what_a_consul_check_leaves_to_the_defaults() {
    check_consul(r#"{"tcp": "h:1", "interval": "5s"}"#, &expect![[""]]);
    check_consul(
        r#"{"http": "https://h/", "interval": "5s", "timeout": null, "failures_before_critical": null}"#,
        &expect![[""]],
    );
}

#[test]
fn series_that_alerts_need() {
    let text = "metrics: { per_target: state }\n";
    expect![[r#"
        warning: without series for every target some alerts cannot fire
         --> rollcall.yaml:1:24
          |
        1 | metrics: { per_target: state }
          |                        ^^^^^ leaves out all but health and state changes
          |
          = help: silent are RollcallErrorBudgetBurn, RollcallCertificateExpiry, RollcallProbesStalled
          = help: leave it `full` unless Prometheus cannot bear it, or do without these alerts

        warning: 0 errors, 1 warning
    "#]].assert_eq(&report(&[("rollcall.yaml", text)]));
    let text = "metrics: { per_target: off }\n";
    expect![[r#"
        warning: without series for every target some alerts cannot fire
         --> rollcall.yaml:1:24
          |
        1 | metrics: { per_target: off }
          |                        ^^^ leaves them all out
          |
          = help: silent are RollcallErrorBudgetBurn, RollcallCertificateExpiry, RollcallProbesStalled, RollcallTargetDown, RollcallTargetFlapping
          = help: leave it `full` unless Prometheus cannot bear it, or do without these alerts

        warning: 0 errors, 1 warning
    "#]].assert_eq(&report(&[("rollcall.yaml", text)]));
    assert_eq!(report(&[("rollcall.yaml", "metrics: { per_target: full }\n")]), "");
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

#[test]
fn what_nothing_is_asked_of() {
    let text = "services:\n- { name: api, instances: [{ address: 10.0.0.1, port: 80 }] }\n- { name: web, checks: [{ tcp: {} }] }\n";
    let expected = expect![[r#"
        warning: no check asks an instance of the service `api`
         --> rollcall.yaml:2:39
          |
        2 | - { name: api, instances: [{ address: 10.0.0.1, port: 80 }] }
          |                                       ^^^^^^^^ always passes
          |
          = help: give the service `checks`, or leave the instance out

        warning: the service `web` has no instance
         --> rollcall.yaml:3:11
          |
        3 | - { name: web, checks: [{ tcp: {} }] }
          |           ^^^ nothing is asked of it
          |
          = help: list its `instances`, or leave it out

        warning: 0 errors, 2 warnings
    "#]];
    expected.assert_eq(&report(&[("rollcall.yaml", text)]));
}
