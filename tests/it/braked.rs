//! What consumers are told when all targets die at once, by the real program.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Rollcall, Web, wait_for, write_config};

fn count(daemon: &Rollcall, path: &str) -> usize {
    daemon.json(path).as_array().unwrap().len()
}

/// How many checks the agent shows as critical: what is observed.
fn observed(daemon: &Rollcall) -> usize {
    let checks = daemon.json("/v1/agent/checks");
    let checks = checks.as_object().unwrap().values();
    checks.filter(|check| check["Status"] == "critical").count()
}

fn reasons(daemon: &Rollcall, reason: &str) -> usize {
    let events = daemon.json("/v1/rollcall/events");
    events.as_array().unwrap().iter().filter(|event| event["reason"] == reason).count()
}

#[test]
fn when_all_targets_die_consumers_find_what_the_guard_leaves_them_until_it_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let webs = [Web::start(), Web::start(), Web::start(), Web::start()];
    let names = ["web-1", "web-2", "web-3", "web-4"];
    let targets: Vec<(&str, SocketAddr)> =
        names.iter().zip(&webs).map(|(name, web)| (*name, web.address)).collect();
    // Longer than the test waits: only a change of the configuration ends it.
    let guard = |release| format!("guard: {{ release_after: {release}, hold_at_most: 10m }}\n");
    let config = write_config(folder.path(), &targets, &guard("9m"));
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let passing = "/v1/health/service/web?passing";
    wait_for("all are passing", || count(&daemon, passing) == 4);

    for web in &webs {
        web.answers(500);
    }
    wait_for("all are observed to be critical", || observed(&daemon) == 4);
    wait_for("three are held", || reasons(&daemon, "held") == 3);
    assert_eq!(count(&daemon, passing), 3);
    let serving =
        |name: &&&str| daemon.get(&format!("/v1/agent/health/service/id/{name}")).0 == 200;
    assert_eq!(names.iter().filter(serving).count(), 3, "load balancers are told the same");
    assert_eq!(daemon.metric("rollcall_guard_active"), Some(1.0));
    assert_eq!(daemon.metric("rollcall_published_held{by=\"guard\"}"), Some(3.0));
    let critical = "rollcall_targets{check=\"http\",service_name=\"web\",protocol=\"http\",state=\"critical\"}";
    assert_eq!(daemon.metric(critical), Some(4.0));
    let rows = daemon.json("/v1/health/checks/web");
    let held: Vec<&Value> =
        rows.as_array().unwrap().iter().filter(|row| row["Status"] == "passing").collect();
    assert!(held.iter().all(|row| row["Output"].as_str().unwrap().contains("\n(held: ")), "{rows}");

    let listed = daemon.json("/v1/rollcall/services?service=web");
    let instances = listed[0]["instances"].as_array().unwrap();
    let told = instances.iter().map(|instance| &instance["checks"][0]["published"]);
    assert_eq!(told.filter(|told| *told == "passing").count(), 3, "{listed}");
    let held_id = held[0]["CheckID"].as_str().unwrap();
    let explained = daemon.json(&format!("/v1/rollcall/explain/{held_id}"));
    let who = &explained[0]["holding"][0];
    assert_eq!(who["source"], "guard", "{explained}");
    let said =
        "too many of all instances are out at once; consumers are still told passing: held since ";
    assert!(who["text"].as_str().unwrap().starts_with(said), "{who}");

    // They answer that they are not well: that is no fault of ours.
    write_config(folder.path(), &targets, &guard("1s"));
    daemon.signal("HUP");
    wait_for("all are published", || count(&daemon, passing) == 0);
    wait_for("three are released", || reasons(&daemon, "released") == 3);
    wait_for("the guard is done", || daemon.metric("rollcall_guard_active") == Some(0.0));

    for web in &webs {
        web.answers(200);
    }
    wait_for("all are back", || count(&daemon, passing) == 4);
}
