//! What people read.

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::cli::testing;

fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_183_200)
}

/// What the API tells of a certificate.
fn certificate() -> serde_json::Value {
    json!({
        "subject": "CN=shop.example", "issuer": "CN=Example CA", "is_for_name": false,
        "start": "2026-11-01T14:00:00.000Z", "chain_expiry": "2026-12-01T14:00:00.000Z",
    })
}

fn attempt(started: &str, outcome: &str, reason: Option<&str>) -> serde_json::Value {
    let refused = reason.map(|_| "GET http://10.0.0.1:8080/healthz: Connection refused");
    json!({
        "outcome": outcome, "reason": reason, "detail": refused, "started": started,
        "duration_seconds": 0.000_208, "peer": "10.0.0.1:8080",
        "phases": {"resolve": 0.000_02, "connect": 0.000_184},
    })
}

/// A check that is critical, as the API tells of it.
fn critical() -> Explanation {
    let refused = Some("connection_refused");
    let told = json!({
        "id": "web-1:http", "service": "web", "instance": "web-1", "check": "http",
        "protocol": "http", "target": "http://10.0.0.1:8080/healthz",
        "interval_seconds": 10.0, "timeout_seconds": 2.0,
        "observed": {
            "status": "critical", "since": "2026-11-20T13:56:40.123Z", "verdict": "critical",
            "consecutive_successes": 0, "consecutive_failures": 5,
            "reason": refused, "detail": "GET http://10.0.0.1:8080/healthz: Connection refused",
            "stale": false, "probes": 120, "failures": 5, "inconclusive": 1, "changes": 2,
            "certificate_expiry": "2026-12-10T14:00:00.000Z",
        },
        "published": {"status": "critical", "since": "2026-11-20T13:56:41.000Z", "judged": true},
        "thresholds": {
            "success_before_passing": 2, "failures_before_warning": 3,
            "failures_before_critical": 3,
        },
        "ahead": [{"status": "passing", "result": "success", "more": 2}],
        "next_probe": "2026-11-20T14:00:01.200Z", "next_probe_seconds": 1.2,
        "next_probe_reason": "confirm",
        "holding": [],
        "attempts": [
            attempt("2026-11-20T13:59:38.000Z", "success", None),
            {
                "outcome": "warning", "reason": "status", "started": "2026-11-20T13:59:48.000Z",
                "detail": "GET http://10.0.0.1:8080/healthz: 429 Too Many Requests", "code": "429",
                "ask_again_seconds": 30.0, "duration_seconds": 1.2, "peer": "10.0.0.1:8080",
                "phases": {"resolve": 0.000_02, "connect": 0.000_184, "processing": 1.19},
            },
            attempt("2026-11-20T13:59:58.000Z", "failure", refused),
        ],
        "transitions": [{
            "sequence": 7, "at": "2026-11-19T13:56:40.123Z", "service": "web", "instance": "web-1",
            "check": "http", "from": "passing", "to": "critical", "reason": "connection_refused",
            "detail": "GET http://10.0.0.1:8080/healthz: Connection refused", "consecutive": 3,
        }],
    });
    serde_json::from_value(told).unwrap()
}

#[test]
fn the_verdict_comes_first_and_the_evidence_last() {
    expect![[r"
        web-1:http is CRITICAL since 13:56:40Z (3m19s): 5 failures in a row (threshold 3), last: Connection refused (10.0.0.1:8080)

          asked        http http://10.0.0.1:8080/healthz, every 10s, timeout 2s; service web
          published    critical since 13:56:41Z (3m19s)
          next         passing after 2 more successes in a row; next probe in 1.2s to confirm the failure
          certificate  expires 2026-12-10T14:00:00.000Z, in 20 days
          counted      120 probes, 5 failed, 1 inconclusive; 2 changes of status

          last 3 attempts
          AGO  RESULT                TOOK  RESOLVE  CONNECT  PROCESSING  CODE  ADDRESS        DETAIL
          22s  ok                  0.21ms   0.02ms   0.18ms           -  -     10.0.0.1:8080
          12s  status              1200ms   0.02ms   0.18ms      1190ms  429   10.0.0.1:8080  429 Too Many Requests; asks to be left for 30s
          2s   connection_refused  0.21ms   0.02ms   0.18ms           -  -     10.0.0.1:8080  Connection refused

          last change of status
          AT                    AGO  FROM     TO        REASON              DETAIL
          2026-11-19 13:56:40Z  1d   passing  critical  connection_refused  Connection refused
    "]].assert_eq(&show(&critical(), now(), false));
}

#[test]
fn a_check_of_which_little_is_known_is_shown_short() {
    let mut fresh = critical();
    fresh.observed.status = "unknown".into();
    fresh.observed.since = None;
    fresh.observed.reason = None;
    fresh.observed.consecutive_failures = 0;
    fresh.observed.certificate_expiry = None;
    fresh.published = None;
    fresh.next_probe_seconds = None;
    fresh.ahead = vec![
        native::Ahead { status: "critical".into(), result: "failure".into(), more: 3 },
        native::Ahead { status: "passing".into(), result: "success".into(), more: 1 },
    ];
    fresh.holding = vec![
        native::Holding { source: "stale".into(), text: "it is old".into() },
        native::Holding { source: "first_result".into(), text: "there is none".into() },
    ];
    fresh.attempts.clear();
    fresh.transitions.clear();
    expect![[r"
        web-1:http is UNKNOWN: it has no result yet

          asked        http http://10.0.0.1:8080/healthz, every 10s, timeout 2s; service web
          published    nothing
          held by      stale: it is old
                       first_result: there is none
          next         critical after 3 more failures in a row, passing after 1 more success
          counted      120 probes, 5 failed, 1 inconclusive; 2 changes of status
    "]]
    .assert_eq(&show(&fresh, now(), false));
}

#[test]
fn the_arithmetic_of_thresholds_is_in_the_first_line() {
    let says = |(status, successes, failures): (&str, u32, u32)| {
        let mut check = critical();
        check.observed.status = status.into();
        check.observed.since = None;
        check.observed.consecutive_successes = successes;
        check.observed.consecutive_failures = failures;
        if failures == 0 {
            check.observed.reason = None;
        }
        verdict(&check, now(), false) + "\n"
    };
    let cases = [
        ("passing", 7, 0),
        ("passing", 0, 2),
        ("critical", 1, 0),
        ("critical", 0, 1),
        ("unknown", 0, 1),
        ("unknown", 1, 0),
        ("warning", 1, 0),
        ("warning", 0, 4),
        ("maintenance", 0, 4),
    ];
    expect![[r"
        web-1:http is PASSING: 7 successes in a row, the last in 0.21ms
        web-1:http is PASSING: 2 of 3 failures in a row, last: Connection refused (10.0.0.1:8080)
        web-1:http is CRITICAL: 1 of 2 successes in a row
        web-1:http is CRITICAL: 1 failure in a row, last: Connection refused (10.0.0.1:8080)
        web-1:http is UNKNOWN: 1 of 3 failures in a row, last: Connection refused (10.0.0.1:8080)
        web-1:http is UNKNOWN: 1 of 2 successes in a row
        web-1:http is WARNING: 1 of 2 successes in a row
        web-1:http is WARNING: 4 failures in a row (threshold 3), last: Connection refused (10.0.0.1:8080)
        web-1:http is MAINTENANCE: an operator has taken it out; its probes say critical
    "]].assert_eq(&cases.map(says).concat());
}

#[test]
fn a_terminal_gets_the_status_in_colour() {
    let mut check = critical();
    check.observed.stale = true;
    let text = show(&check, now(), true);
    assert!(text.starts_with("web-1:http is \u{1b}[31mCRITICAL\u{1b}[0m (stale) since "), "{text}");
}

#[tokio::test]
async fn an_id_is_escaped_and_an_unknown_one_told_as_the_daemon_does() {
    let (exit, _, asked) = testing::run(&["explain", "a/b:c"], &[(404, "there is none\n")]).await;
    assert_eq!(exit, Err("there is none".to_owned()));
    assert_eq!(asked, ["GET /v1/rollcall/explain/a%2Fb%3Ac"]);
    let (exit, out, _) = testing::run(&["explain", "web-3"], &[(200, "[]")]).await;
    assert_eq!((exit, &*out), (Ok(Exit::Ok), "web-3 has no checks: it counts as passing\n"));
    let both = serde_json::to_string(&[critical(), critical()]).unwrap();
    let (_, out, _) = testing::run(&["explain", "web-1"], &[(200, &both)]).await;
    assert_eq!(out.matches("\n\nweb-1:http is CRITICAL").count(), 1, "{out}");
    let (_, out, _) = testing::run(&["explain", "web-1", "--json"], &[(200, &both)]).await;
    let read: Vec<Explanation> = serde_json::from_str(&out).unwrap();
    assert_eq!(read, [critical(), critical()]);
}

#[test]
fn the_certificate_of_the_last_attempt_is_told_whole() {
    let mut explained = critical();
    let seen = &mut explained.attempts[2].probe;
    seen.certificate_expiry = Some("2026-12-10T14:00:00.000Z".to_owned());
    seen.certificate = Some(serde_json::from_value(certificate()).unwrap());
    let told = show(&explained, now(), false);
    let (_, told) = told.split_once("certificate  ").unwrap();
    let told: Vec<_> = told.lines().take(4).map(str::trim).collect();
    assert_eq!(
        told,
        [
            "expires 2026-12-10T14:00:00.000Z, in 20 days",
            "of CN=shop.example, signed by CN=Example CA",
            "another of its chain expires 2026-12-01T14:00:00.000Z, in 11 days",
            "not for the name that was asked for",
        ]
    );
}
