//! A daemon that is held up, short of something or cut off takes no target for dead.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use crate::support::{Rollcall, Web, wait_for};

/// Writes a configuration of so many instances, all at one address, of which every single failure
/// is critical.
fn write_strict(folder: &Path, address: SocketAddr, instances: usize, more: &str) -> PathBuf {
    let mut text = String::from(
        "services:\n- name: web\n  checks:\n  - { id: http, http: {}, interval: 1s, timeout: 800ms, \
         failures_before_warning: 1, failures_before_critical: 1 }\n  instances:\n",
    );
    let (host, port) = (address.ip(), address.port());
    for id in 0..instances {
        writeln!(text, "  - {{ id: web-{id}, address: {host}, port: {port} }}").unwrap();
    }
    let path = folder.join("rollcall.yml");
    fs::write(&path, text + more).unwrap();
    path
}

fn critical(daemon: &Rollcall) -> Vec<String> {
    let mut lost = daemon.transitions();
    lost.retain(|line| line.contains("passing critical"));
    lost
}

fn all_pass(daemon: &Rollcall, instances: usize) {
    wait_for("all are passing", || daemon.transitions().len() == instances);
    assert_eq!(critical(daemon), [""; 0]);
}

fn stalled(daemon: &Rollcall) -> f64 {
    daemon.metric("rollcall_probe_failures_void_total{cause=\"stalled\"}").unwrap()
}

#[test]
fn a_daemon_that_was_stopped_takes_no_target_for_dead() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let config = write_strict(folder.path(), web.address, 30, "");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    all_pass(&daemon, 30);
    for _ in 0..2 {
        // What is asked now has no answer before the daemon is stopped, and none when it goes on.
        web.takes(Duration::from_secs(10));
        sleep(Duration::from_millis(300));
        daemon.signal("STOP");
        web.takes(Duration::ZERO);
        sleep(Duration::from_secs(2));
        daemon.signal("CONT");
        sleep(Duration::from_secs(1));
    }
    assert_eq!(critical(&daemon), [""; 0]);
    assert!(stalled(&daemon) > 0.0, "{}", stalled(&daemon));
    web.answers(503);
    wait_for("dead ones are found as ever", || critical(&daemon).len() == 30);
}

#[test]
fn a_daemon_out_of_descriptors_takes_no_target_for_dead() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let more = "scheduler: { max_in_flight: 1000, max_in_flight_per_host: 1000 }\n";
    let config = write_strict(folder.path(), web.address, 300, more);
    let daemon = Rollcall::start(folder.path(), Some(&config));
    all_pass(&daemon, 300);
    // Not before: with so few it would not start.
    daemon.limit_files(96);
    let series = "rollcall_probe_inconclusive_total{check=\"http\",service_name=\"web\",\
                  protocol=\"http\",reason=\"internal\"}";
    let inconclusive = || daemon.metric(series).unwrap_or_default();
    web.takes(Duration::from_millis(400));
    wait_for("descriptors run out", || inconclusive() > 100.0);
    assert_eq!(critical(&daemon), [""; 0]);
    let lacks = || daemon.metric("rollcall_self_symptom{symptom=\"descriptors\"}");
    wait_for("it knows what it lacks", || lacks() == Some(1.0));
    web.takes(Duration::ZERO);
    wait_for("it is well again", || daemon.metric("rollcall_local_health_score") == Some(0.0));
    web.answers(503);
    wait_for("dead ones are found as ever", || critical(&daemon).len() == 300);
}

#[test]
fn a_daemon_without_its_anchors_abstains_and_with_them_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (web, anchor) = (Web::start(), Web::start());
    let more = format!(
        "self_health: {{ anchors: [\"http://{}/\"], interval: 500ms, timeout: 300ms }}\n",
        anchor.address
    );
    let config = write_strict(folder.path(), web.address, 5, &more);
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let own = || daemon.json("/v1/rollcall/self");
    all_pass(&daemon, 5);
    wait_for("the anchor confirms it", || own()["confidence"] == "confirmed");
    assert_eq!((&own()["score"], &own()["abstaining"]), (&0.into(), &false.into()));

    anchor.takes(Duration::from_secs(2));
    wait_for("it abstains", || own()["abstaining"] == true);
    web.answers(503);
    sleep(Duration::from_secs(3));
    assert_eq!(critical(&daemon), [""; 0]);
    let seen = own();
    assert_eq!(
        (&seen["confidence"], &seen["anchors"][0]["state"]),
        (&"doubtful".into(), &"fails".into())
    );
    assert!(seen["symptoms"].as_array().unwrap().contains(&"all_anchors".into()), "{seen}");
    assert_eq!(daemon.metric("rollcall_abstaining"), Some(1.0));
    assert!(daemon.log().contains("Abstaining"), "{}", daemon.log());
    assert_eq!(daemon.get("/-/ready").0, 200);

    anchor.takes(Duration::ZERO);
    wait_for("it trusts itself again", || own()["abstaining"] == false);
    wait_for("dead ones are found", || critical(&daemon).len() == 5);
}
