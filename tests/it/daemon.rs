//! The whole daemon: start, reload, restart, stop.

use std::{
    collections::BTreeSet, fs, net::TcpListener, path::Path, process::Command, time::Duration,
};

use rollcall::metrics::catalogue;

use crate::support::{Rollcall, Web, program, wait_for, write_config};

const CRITICAL: &str = "web-1 http passing critical status";

#[test]
fn without_a_configuration_it_starts_with_an_empty_registry_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Rollcall::start(folder.path(), None);
    wait_for("it says so", || daemon.log().contains("Started with an empty registry"));
    assert!(daemon.log().contains("rollcall validate FILE"));
    assert!(folder.path().join("rollcall-data").is_dir());
    assert_eq!(daemon.json("/v1/agent/checks"), serde_json::json!({}));
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

#[test]
fn a_target_is_critical_after_exactly_the_threshold_and_passing_again() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let config = write_config(folder.path(), &[("web-1", web.address)], "");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    wait_for("it is passing", || daemon.transitions() == ["web-1 http unknown passing ok"]);
    web.answers(503);
    wait_for("it is critical", || daemon.transitions().last().is_some_and(|t| t == CRITICAL));
    let events = daemon.json("/v1/rollcall/events");
    assert_eq!(events[1]["consecutive"], 3, "{events}");
    let passing = daemon.json("/v1/health/service/web?passing");
    assert_eq!(passing, serde_json::json!([]));
    web.answers(200);
    wait_for("it recovers", || daemon.transitions().len() == 3);
    assert_eq!(daemon.json("/v1/health/service/web?passing").as_array().unwrap().len(), 1);
}

#[test]
fn a_target_that_probes_may_not_go_to_is_critical_and_never_contacted() {
    let folder = tempfile::tempdir().unwrap();
    let tripwire = TcpListener::bind("127.0.0.1:0").unwrap();
    tripwire.set_nonblocking(true).unwrap();
    let deny = "egress: { deny: [127.0.0.0/8, \"::1\"] }\n";
    let config = write_config(folder.path(), &[("web-1", tripwire.local_addr().unwrap())], deny);
    // The address itself would be refused with the file; what a name leads to shows only later.
    let text = fs::read_to_string(&config).unwrap().replace("127.0.0.1,", "localhost,");
    fs::write(&config, text).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    wait_for("it is critical", || daemon.transitions() == ["web-1 http unknown critical denied"]);
    let accepted = tripwire.accept().map_err(|error| error.kind());
    assert_eq!(accepted.unwrap_err(), std::io::ErrorKind::WouldBlock);
    let output = daemon.json("/v1/agent/checks")["web-1:http"]["Output"].to_string();
    assert!(output.contains("`egress.deny` has"), "{output}");

    fs::write(&config, fs::read_to_string(&config).unwrap().replace(deny, "")).unwrap();
    let (status, report) = daemon.request("POST", "/-/reload");
    assert_eq!(status, 200, "{report}");
    assert!(report.contains("only read at the start: egress; restart"), "{report}");
}

#[test]
fn programs_are_run_reaped_and_gone_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let config = folder.path().join("rollcall.yml");
    let text = format!(
        r#"checks: {{ exec: files }}
grace_period: 50ms
check_defaults: {{ interval: 800ms, timeout: 600ms, allow_fast_interval: true }}
services:
- name: job
  instances: [{{ id: job-1, address: 127.0.0.1, port: 1 }}]
  checks:
  - {{ id: well, exec: {{ args: [echo, disk 7%] }} }}
  - {{ id: hangs, exec: {{ args: [/bin/sh, -c, 'sleep 100 & echo $$ $! >> "$0"; wait', "{}"] }} }}
"#,
        pids.display()
    );
    fs::write(&config, text).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let critical = "job-1 hangs unknown critical timeout_response".to_owned();
    wait_for("it is critical", || daemon.transitions().contains(&critical));
    wait_for("its output is shown", || {
        daemon.json("/v1/agent/checks")["job-1:well"]["Output"] == "disk 7%"
    });
    let runs = || -> Vec<String> {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    wait_for("it has run", || !runs().is_empty());
    let first = runs()[0].clone();
    let (program, grandchild) = first.split_once(' ').unwrap();
    wait_for("it is reaped", || !Path::new("/proc").join(program).exists());
    wait_for("its child is dead", || !is_alive(grandchild));

    let before = runs().len();
    wait_for("the next one runs", || runs().len() > before);
    daemon.signal("TERM");
    assert!(daemon.ended().0.success());
    for pid in runs().iter().flat_map(|run| run.split(' ')) {
        wait_for("all are dead", || !is_alive(pid));
    }
}

/// Whether a process is there and not merely waits to be reaped.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn a_kill_loses_no_status_and_a_restart_tells_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    web.answers(500);
    // Evidence counts for three intervals and a timeout; a restart must fit in.
    let config = write_config(folder.path(), &[("web-1", web.address)], "");
    let text = fs::read_to_string(&config).unwrap();
    let text =
        text.replace("200ms", "5s").replace("150ms", "2s").replace("critical: 3", "critical: 1");
    fs::write(&config, text).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    wait_for("it is critical", || daemon.transitions() == ["web-1 http unknown critical status"]);
    let state = folder.path().join("rollcall-data/state.json");
    wait_for("the state is saved", || {
        fs::read_to_string(&state).is_ok_and(|text| text.contains("critical"))
    });
    daemon.signal("KILL");
    daemon.ended();

    let daemon = Rollcall::start(folder.path(), Some(&config));
    assert_eq!(daemon.json("/v1/agent/checks")["web-1:http"]["Status"], "critical");
    let before = "web-1 http unknown critical status";
    assert_eq!(daemon.transitions(), [before], "what was before, and nothing new");
    daemon.request("PUT", "/v1/agent/service/maintenance/web-1?enable=true&reason=disk");
    wait_for("it is out", || {
        daemon.transitions() == [before, "web-1 http critical maintenance operator"]
    });
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0.code(), Some(0));

    let daemon = Rollcall::start(folder.path(), Some(&config));
    let services = daemon.json("/v1/rollcall/services").to_string();
    assert!(services.contains("\"status\":\"maintenance\""), "maintenance lasts: {services}");
}

#[test]
fn a_reload_takes_over_what_changed_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Web::start(), Web::start());
    let config = write_config(folder.path(), &[("web-1", one.address)], "");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    wait_for("web-1 is passing", || daemon.transitions() == ["web-1 http unknown passing ok"]);

    write_config(folder.path(), &[("web-1", one.address), ("web-2", two.address)], "");
    daemon.signal("HUP");
    wait_for("web-2 is passing", || daemon.transitions().len() == 2);
    assert_eq!(daemon.transitions()[1], "web-2 http unknown passing ok");

    write_config(folder.path(), &[("web-2", two.address)], "colour: red\n");
    let (status, problems) = daemon.request("POST", "/-/reload");
    assert_eq!(status, 500);
    assert!(problems.contains("unknown key `colour`"), "{problems}");
    assert!(problems.contains("rollcall.yml:7:1"), "{problems}");
    assert_eq!(daemon.metric("rollcall_config_last_reload_successful"), Some(0.0));
    assert_eq!(daemon.json("/v1/agent/services").as_object().unwrap().len(), 2);

    write_config(folder.path(), &[("web-2", two.address)], "grace_period: 1s\n");
    let (status, report) = daemon.request("POST", "/-/reload");
    assert_eq!(status, 200, "{report}");
    assert!(report.contains("instances registered: 0, deregistered: 1, changed: 0"), "{report}");
    assert!(report.contains("grace_period; restart"), "{report}");
    assert_eq!(daemon.metric("rollcall_config_last_reload_successful"), Some(1.0));
    let (_, metrics) = daemon.get("/metrics");
    assert!(!metrics.contains("web-1"), "series vanish with their instance");
}

#[test]
fn a_signal_stops_it_in_order_with_readiness_first() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    web.takes(Duration::from_secs(2));
    let config = write_config(folder.path(), &[("web-1", web.address)], "");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("150ms", "10s")).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let flying = "rollcall_probes_in_flight{protocol=\"http\"}";
    wait_for("a probe is under way", || daemon.metric(flying) == Some(1.0));
    daemon.signal("TERM");
    wait_for("readiness says no", || daemon.get("/-/ready").0 == 503);
    assert_eq!(daemon.get("/-/healthy").0, 200);
    let (status, log) = daemon.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"to\":\"passing\""), "the probe under way finished: {log}");
    let state = fs::read_to_string(folder.path().join("rollcall-data/state.json")).unwrap();
    assert!(state.contains("\"verdict\":\"passing\""), "{state}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    web.takes(Duration::from_secs(3600));
    let config = write_config(folder.path(), &[("web-1", web.address)], "grace_period: 1h\n");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("150ms", "1h")).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let flying = "rollcall_probes_in_flight{protocol=\"http\"}";
    wait_for("a probe is under way", || daemon.metric(flying) == Some(1.0));
    daemon.signal("INT");
    wait_for("readiness says no", || daemon.get("/-/ready").0 == 503);
    daemon.signal("INT");
    assert_eq!(daemon.ended().0.code(), Some(130));
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bad.yml");
    fs::write(&config, "services:\n  - name: web\n    checks: [{ htp: {} }]\nservices: []\n")
        .unwrap();
    for command in [["run", "--config"].as_slice(), &["validate"]] {
        let output = program().args(command).arg(&config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("htp") && said.contains("bad.yml:3:"), "{said}");
        assert!(said.contains("bad.yml:4:1"), "all problems at once: {said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program()
        .current_dir(folder.path())
        .args(["run", "--http", &address, "--grpc", "127.0.0.1:0", "--dns", "off"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address} for the HTTP API")), "{said}");
}

#[test]
fn a_signal_is_obeyed_while_a_reload_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let config = write_config(folder.path(), &[("web-1", web.address)], "");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    fs::remove_file(&config).unwrap();
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    daemon.signal("HUP");
    wait_for("it still answers", || daemon.get("/-/ready").0 == 200);
    daemon.signal("TERM");
    let (status, log) = daemon.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Whoever logs must not wait for whoever reads the log.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let ids: Vec<String> = (0..100).map(|n| format!("web-{n}")).collect();
    let targets: Vec<_> = ids.iter().map(|id| (id.as_str(), web.address)).collect();
    let config = write_config(folder.path(), &targets, "log: { filter: debug, format: json }\n");
    let daemon = Rollcall::start_unread(folder.path(), &config);
    let probed = |daemon: &Rollcall| {
        let series = "rollcall_probes_total{check=\"http\",service_name=\"web\",protocol=\"http\",target=\"web-7\"}";
        daemon.metric(series).unwrap_or(0.0)
    };
    // By then the lines of some ten thousand probes have long filled the pipe.
    wait_for("many probes are made", || probed(&daemon) > 30.0);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0.code(), Some(0));
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Rollcall::start(folder.path(), None);
    let output = program()
        .current_dir(folder.path())
        .args(["run", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--dns", "off"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("./rollcall-data is in use by another rollcall"), "{said}");
}

/// Families that are only there when there is something to show.
const WHEN_KNOWN: &[&str] = &[
    "rollcall_target_cert_expiry_timestamp_seconds",
    "rollcall_target_cert_chain_expiry_timestamp_seconds",
    "rollcall_probe_grpc_responses_total",
];

#[test]
fn what_is_exported_is_what_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let config = write_config(folder.path(), &[("web-1", web.address)], "");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    wait_for("it is passing", || daemon.transitions().len() == 1);
    let (_, text) = daemon.get("/metrics");
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let documented: BTreeSet<&str> = catalogue::ALL.iter().map(|family| family.name).collect();
    let extra: Vec<_> = shown.difference(&documented).collect();
    assert!(extra.is_empty(), "exported and not documented: {extra:?}");
    let missing: Vec<_> =
        documented.difference(&shown).filter(|name| !WHEN_KNOWN.contains(name)).collect();
    assert!(missing.is_empty(), "documented and not exported: {missing:?}");
}
