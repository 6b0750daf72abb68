//! Statements on running the daemon: its command line, its gRPC health, reloading and stopping.

use std::{process::Command, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    daemon::{self, Daemon, items, rollcall, service},
    http::try_get,
    rig::{Process, SOON, run, wait_for, wait_until, words},
    stage::Stage,
    targets::{ask_health, health_program},
};

/// How long after its grace period a daemon may still take to end.
const WIND_UP: Duration = Duration::from_secs(5);

const RELOADED: &str = "rollcall_config_last_reload_successful";

pub(crate) fn grpc_tells_the_health_of_services(stage: &mut Stage) {
    let names = ["", "ok", "busy", "fail", "cache", "cache/redis-1", "fail/fail", "nobody"];
    let health = ask_health(&stage.python, stage.daemon.grpc, &names);
    let expected = json!({
        "": "SERVING",
        "ok": "SERVING",
        "busy": "SERVING",
        "fail": "NOT_SERVING",
        "cache": "SERVING",
        "cache/redis-1": "SERVING",
        "fail/fail": "NOT_SERVING",
        "nobody": "NOT_FOUND",
    });
    assert_eq!(health, expected);
}

pub(crate) fn ls_lists_every_service(stage: &mut Stage) {
    let daemon = &stage.daemon;
    let table = daemon.client(&["ls"]);
    assert_eq!(table.status.code(), Some(0), "{}", words(&table));
    let json = daemon.client(&["ls", "--json"]);
    assert_eq!(json.status.code(), Some(0), "{}", words(&json));
    let listed: Value = serde_json::from_slice(&json.stdout).unwrap();
    let names: Vec<&str> = items(&listed).iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, daemon.services());
    let shown = words(&table);
    for name in names {
        assert!(shown.contains(name), "{name} is not in the table:\n{shown}");
    }
    for word in ["passing", "warning", "critical", "redis-1", "127.0.0.1"] {
        assert!(shown.contains(word), "{word} is not in the table:\n{shown}");
    }
}

pub(crate) fn probe_tells_by_its_exit_code(stage: &mut Stage) {
    let ports = &stage.targets.ports;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", ports.web);
    let cases = [
        (url("/ok"), 0),
        (url("/busy"), 1),
        (url("/fail"), 2),
        (format!("http://127.0.0.1:{}/", ports.closed), 2),
        (format!("https://127.0.0.1:{}/", ports.tls_good), 2),
        (format!("tcp://127.0.0.1:{}", ports.redis[0]), 0),
        (format!("tcp://127.0.0.1:{}", ports.closed), 2),
        (format!("grpc://127.0.0.1:{}/shop.Cart", ports.grpc), 0),
        (format!("grpc://127.0.0.1:{}/shop.Down", ports.grpc), 2),
        (format!("grpc://127.0.0.1:{}", ports.etcd), 0),
    ];
    for (url, code) in cases {
        let output = run(rollcall().args(["probe", &url]));
        assert_eq!(output.status.code(), Some(code), "{url}: {}", words(&output));
    }
}

pub(crate) fn reload_takes_changes_over(stage: &mut Stage) {
    let daemon = &stage.daemon;
    let watch = watch_health(stage, "added");
    wait_told(&watch, &["SERVICE_UNKNOWN"]);
    let probes_before = probes_of_ok(daemon);

    let added = service("added", &[("added", stage.targets.ports.web)], "{ http: { path: /ok } }");
    let all = daemon::services(&stage.targets);
    let changed: String = without(&all, "closed") + &added;
    daemon.rewrite(&changed);
    daemon.process.signal(Signal::HUP);
    wait_until("the new service is there and the old one gone", SOON, || {
        let services = daemon.services();
        services.iter().any(|s| s == "added") && !services.iter().any(|s| s == "closed")
    });
    wait_told(&watch, &["SERVICE_UNKNOWN", "SERVING"]);
    let metrics = daemon.metrics();
    assert_eq!(metrics.sum("rollcall_probes_total", &[("target", "closed")]), None);
    assert_eq!(metrics.sum(RELOADED, &[]), Some(1.0));
    assert!(probes_of_ok(daemon) >= probes_before, "an unchanged check counts on");

    daemon.rewrite(&all);
    daemon.process.signal(Signal::HUP);
    wait_until("all is as before", SOON, || {
        let services = daemon.services();
        !services.iter().any(|s| s == "added") && services.iter().any(|s| s == "closed")
    });
    wait_told(&watch, &["SERVICE_UNKNOWN", "SERVING", "SERVICE_UNKNOWN"]);
}

pub(crate) fn reload_refuses_a_bad_configuration(stage: &mut Stage) {
    let daemon = &stage.daemon;
    let all = daemon::services(&stage.targets);
    let before = daemon.services();
    let when = "rollcall_config_last_reload_success_timestamp_seconds";
    let reloaded_at = daemon.metrics().sum(when, &[]);

    daemon.rewrite(&all.replace("path: /ok", "pathh: /ok"));
    daemon.process.signal(Signal::HUP);
    wait_until("the gauge is 0", SOON, || daemon.metrics().sum(RELOADED, &[]) == Some(0.0));
    assert_eq!(daemon.services(), before);
    assert_eq!(daemon.metrics().sum(when, &[]), reloaded_at);
    assert!(daemon.process.said().contains("pathh"), "the log does not name the fault");

    daemon.rewrite(&all);
    daemon.process.signal(Signal::HUP);
    wait_until("the gauge is 1", SOON, || daemon.metrics().sum(RELOADED, &[]) == Some(1.0));
}

pub(crate) fn stop_lets_probes_finish(stage: &mut Stage) {
    // The page takes five seconds, which is less than the probe waits and the daemon grants.
    let mut daemon = start_with_one_slow_probe(stage, "patient", "grace_period: 20s");
    let stopped = Instant::now();
    daemon.process.signal(Signal::TERM);
    wait_for("readiness is refused", SOON, || match try_get(daemon.http, "/-/ready") {
        Ok(answer) if answer.status == 503 => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
        // The probe is still under way, so the listener must be there.
        Err(error) => panic!("not seen: {error}"),
    });
    let status = daemon.process.wait_end(Duration::from_secs(20) + WIND_UP);
    assert_eq!(status.code(), Some(0), "{status:?}: {}", daemon.process.said());
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(12), "it waited {took:?} although the probe had finished");
}

pub(crate) fn stop_cuts_probes_after_the_grace_period(stage: &mut Stage) {
    let mut daemon = start_with_one_slow_probe(stage, "hasty", "grace_period: 1s");
    daemon.process.signal(Signal::TERM);
    let status = daemon.process.wait_end(Duration::from_secs(1) + WIND_UP);
    assert_eq!(status.code(), Some(0), "{status:?}: {}", daemon.process.said());
}

/// A daemon whose only probe has just begun and will take seconds.
fn start_with_one_slow_probe(stage: &Stage, name: &str, settings: &str) -> Daemon {
    let check = "{ http: { path: /slow }, interval: 10s, timeout: 9s }";
    let services = service("slow", &[("slow", stage.targets.ports.web)], check);
    let services = format!("services:\n{services}");
    let daemon = Daemon::start(&stage.folder, name, settings, &services);
    // Its place in the interval is anywhere.
    wait_until("the probe is under way", 2 * SOON, || {
        daemon.metrics().sum("rollcall_probes_in_flight", &[("protocol", "http")]) == Some(1.0)
    });
    daemon
}

/// The configuration without one service.
fn without(services: &str, name: &str) -> String {
    let head = format!("  - name: {name}\n");
    let (before, rest) = services.split_once(&head).unwrap();
    let after = rest.find("  - name: ").map_or("", |next| &rest[next..]);
    format!("{before}{after}")
}

fn probes_of_ok(daemon: &Daemon) -> f64 {
    daemon.metrics().sum("rollcall_probes_total", &[("target", "ok")]).unwrap()
}

/// Watches a service by the reference gRPC client.
fn watch_health(stage: &Stage, service: &str) -> Process {
    let address = format!("127.0.0.1:{}", stage.daemon.grpc);
    let mut command = Command::new(&stage.python);
    command.args([health_program(), "watch", &address, service]);
    Process::start(&stage.folder, "grpc-watch", &command)
}

/// Waits until a watch has told these statuses. `UNKNOWN`, which a service is until it has been
/// probed once, may be too short to be told.
fn wait_told(watch: &Process, statuses: &[&str]) {
    wait_for(&format!("the watch has told {statuses:?}"), SOON, || {
        let said = watch.said();
        let told = said.lines().filter(|line| *line != "UNKNOWN");
        if told.eq(statuses.iter().copied()) { Ok(()) } else { Err(said) }
    });
}
