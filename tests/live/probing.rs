//! Statements on what the daemon finds out.

use std::process::Command;

use crate::{
    daemon::{Daemon, FAILURES, rollcall},
    rig::{Process, SOON, wait_for, wait_until},
    stage::Stage,
    targets::EXPIRED_AT,
};

/// Service, check, status, and the reason of the last failure.
const EXPECTED: &[(&str, &str, &str, Option<&str>)] = &[
    ("ok", "http", "passing", None),
    ("fail", "http", "critical", Some("status")),
    ("busy", "http", "warning", Some("status")),
    ("slow", "http", "critical", Some("timeout_response")),
    ("redirect", "judged", "critical", Some("status")),
    ("redirect", "followed", "passing", None),
    ("tls-good", "http", "passing", None),
    ("tls-expired", "http", "critical", Some("tls_expired")),
    ("tls-self-signed", "http", "critical", Some("tls_untrusted")),
    ("cache", "redis", "passing", None),
    ("shop", "server", "passing", None),
    ("shop", "cart", "passing", None),
    ("shop", "down", "critical", Some("not_serving")),
    ("shop", "other", "critical", Some("not_serving")),
    ("etcd", "grpc", "passing", None),
    ("closed", "tcp", "critical", Some("connection_refused")),
];

/// How many checks there are: one for each row, and the second Redis.
pub(crate) const CHECKS: usize = EXPECTED.len() + 1;

/// The labels of the target that is killed.
const REDIS: &[(&str, &str)] =
    &[("service_name", "cache"), ("check", "redis"), ("target", "redis-1")];

pub(crate) fn every_target_has_its_status(stage: &mut Stage) {
    wait_for("every check has its status", SOON, || {
        let all = stage.daemon.states();
        assert_eq!(all.len(), CHECKS, "{all:?}");
        let wrong = all.into_iter().find(|state| {
            let found = (state.service.as_str(), state.check.as_str());
            let row = EXPECTED.iter().find(|(service, check, ..)| (*service, *check) == found);
            let (_, _, status, reason) = row.unwrap();
            state.status != *status || state.reason.as_deref() != *reason
        });
        wrong.map_or(Ok(()), |state| Err(format!("{state:?}")))
    });
}

pub(crate) fn failures_have_reasons(stage: &mut Stage) {
    let metrics = stage.daemon.metrics();
    let family = "rollcall_probe_failures_by_reason_total";
    for (service, check, status, reason) in EXPECTED {
        let Some(reason) = reason else { continue };
        let labels = [("service_name", *service), ("check", *check), ("reason", *reason)];
        let counted = metrics.sum(family, &labels).unwrap();
        let all = metrics.sum(family, &labels[..2]).unwrap();
        if *status == "warning" {
            // A target that says it is struggling answers; that is no failure.
            assert!(counted < 0.5, "{service}/{check}: {counted} are failures");
            continue;
        }
        assert!(counted >= 1.0, "{service}/{check}: {reason} is not counted");
        // A busy machine may be the cause of a failure or two.
        assert!(counted > all / 2.0, "{service}/{check}: {counted} of {all} are {reason}");
    }
    for (service, code) in [("ok", "200"), ("fail", "500"), ("busy", "429"), ("redirect", "302")] {
        let labels = [("service_name", service), ("code", code)];
        let answers = metrics.sum("rollcall_probe_http_responses_total", &labels);
        assert!(answers.is_some_and(|n| n >= 1.0), "{service}: {code} is not counted");
    }
}

pub(crate) fn certificates_are_measured(stage: &mut Stage) {
    let metrics = stage.daemon.metrics();
    let expiry = |service| {
        metrics.sum("rollcall_target_cert_expiry_timestamp_seconds", &[("service_name", service)])
    };
    assert_eq!(expiry("tls-expired"), Some(EXPIRED_AT));
    assert!(expiry("tls-good").unwrap() > EXPIRED_AT);
    assert!(expiry("tls-self-signed").unwrap() > EXPIRED_AT);
    assert_eq!(expiry("ok"), None);
}

pub(crate) fn a_killed_target_is_critical_after_the_threshold(stage: &mut Stage) {
    let daemon = &stage.daemon;
    let watch = start_watch(stage);
    let before = wait_for("the last probe found the target well", SOON, || {
        let (failures, in_a_row) = failures(daemon);
        if in_a_row > 0.0 { Err(format!("{in_a_row} failures in a row")) } else { Ok(failures) }
    });
    let told = daemon.events("redis-1").len();

    stage.targets.kill_redis(0);
    wait_for("the target is critical", SOON, || {
        let (status, in_a_row) = redis(&stage.daemon);
        let below = in_a_row < u64::from(FAILURES);
        assert_eq!(status == "passing", below, "{status} after {in_a_row} failures in a row");
        if below { Err(format!("{in_a_row} failures in a row")) } else { Ok(()) }
    });

    let events = stage.daemon.events("redis-1");
    let [event] = &events[told..] else { panic!("one event is due: {:?}", &events[told..]) };
    assert_eq!(event["from"], "passing", "{event}");
    assert_eq!(event["to"], "critical", "{event}");
    assert_eq!(event["reason"], "connection_refused", "{event}");
    assert_eq!(event["consecutive"], FAILURES, "{event}");

    // Every failure since is counted, and once.
    wait_for("the counter agrees with the failures in a row", SOON, || {
        let (failures, in_a_row) = failures(&stage.daemon);
        let agrees = (failures - before - in_a_row).abs() < 0.5 && in_a_row >= f64::from(FAILURES);
        if agrees {
            Ok(())
        } else {
            Err(format!("{before} + {in_a_row} in a row is not {failures}"))
        }
    });
    let line = wait_for("`rollcall watch` tells of it", SOON, || {
        let said = watch.said();
        let line = said.lines().find(|line| line.contains("redis-1") && line.contains("critical"));
        line.map(ToOwned::to_owned).ok_or(said)
    });
    println!("     watch: {line}");
}

pub(crate) fn a_target_that_comes_back_is_passing(stage: &mut Stage) {
    let told = stage.daemon.events("redis-1").len();
    stage.targets.restart_redis(0);
    wait_until("the target is passing", SOON, || redis(&stage.daemon).0 == "passing");
    let events = stage.daemon.events("redis-1");
    let [event] = &events[told..] else { panic!("one event is due: {:?}", &events[told..]) };
    assert_eq!(event["to"], "passing", "{event}");
    assert_eq!(event["reason"], "ok", "{event}");
    assert_eq!(event["consecutive"], 2, "the check wants two successes: {event}");
}

fn start_watch(stage: &Stage) -> Process {
    let mut command = Command::new(rollcall().get_program());
    command.arg("watch").args(stage.daemon.address());
    let watch = Process::start(&stage.folder, "watch", &command);
    // It says nothing until something happens; the daemon knows when it has come.
    wait_until("the watch has connected", SOON, || {
        let metrics = stage.daemon.metrics();
        metrics
            .sum("rollcall_http_requests_total", &[("handler", "/v1/rollcall/events")])
            .is_some_and(|requests| requests > 0.0)
    });
    watch
}

/// How many probes of the target have failed, and how many of these in a row up to now.
fn failures(daemon: &Daemon) -> (f64, f64) {
    let metrics = daemon.metrics();
    let failures = metrics.sum("rollcall_probe_failures_total", REDIS).unwrap();
    let in_a_row = metrics.sum("rollcall_target_consecutive_failures", REDIS).unwrap();
    (failures, in_a_row)
}

/// The status of the target, and its failures in a row at that moment.
fn redis(daemon: &Daemon) -> (String, u64) {
    let states = daemon.states();
    let state = states.into_iter().find(|state| state.instance == "redis-1").unwrap();
    (state.status, state.consecutive_failures)
}
