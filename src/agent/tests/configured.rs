//! The configuration's instances beside those registered through the API.

use std::num::NonZeroU32;

use super::*;
use crate::{
    judge::Thresholds,
    model::{Pace, Schedule},
    probe::{Endpoint, Probe, Spec},
    registry::{Definition, Instance},
};

/// An instance of the configuration with checks by TCP.
pub(super) fn registration(service: &str, id: &str, checks: &[&str]) -> Registration {
    Registration {
        instance: Instance {
            id: id.parse().unwrap(),
            service: service.parse().unwrap(),
            endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
            tags: Arc::default(),
            meta: Arc::default(),
        },
        checks: checks.iter().map(|check| assigned(check, &tcp())).collect(),
    }
}

fn tcp() -> Spec {
    Spec::Tcp(crate::probe::tcp::Spec::default())
}

/// A check every ten seconds, or told.
pub(super) fn assigned(id: &str, spec: &Spec) -> Assigned {
    let one = NonZeroU32::MIN;
    let definition = Definition {
        id: id.parse().unwrap(),
        name: None,
        notes: None,
        probe: Arc::new(Probe::prepare(spec).unwrap()),
        schedule: Schedule {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            jitter: 0.0,
            initial_delay: Duration::ZERO,
            pace: Pace::default(),
        },
        thresholds: Thresholds::new(one, one, one).unwrap(),
        slo_objective: 0.99,
    };
    Assigned {
        definition: Arc::new(definition),
        endpoint: None,
        consul_id: None,
        initial: crate::judge::Verdict::Unknown,
    }
}

/// `instance: its checks` in the registry.
fn listed(rig: &Rig) -> Vec<String> {
    let listed = rig.registry.list();
    let line = |listed: &crate::registry::Listed| {
        let checks: Vec<_> = listed.checks.iter().map(|check| check.key.check.as_str()).collect();
        format!("{}: {}", listed.instance.id, checks.join(" "))
    };
    listed.iter().map(line).collect()
}

/// The same in the rows.
fn in_store(rig: &Rig) -> Vec<String> {
    let tables = rig.store.read();
    let mut rows: Vec<_> =
        tables.instances_on("node-1").filter(|row| row.origin.is_local()).collect();
    rows.sort_by_key(|row| (&row.name, &row.id));
    rows.iter()
        .map(|row| {
            let checks = tables.instance_checks("node-1", &row.id);
            let mut checks: Vec<_> = checks.map(|check| &*check.run).collect();
            checks.sort_unstable();
            format!("{}: {}", row.id, checks.join(" "))
        })
        .collect()
}

#[track_caller]
fn is(rig: &Rig, expected: &[&str]) {
    assert_eq!(listed(rig), expected);
    assert_eq!(in_store(rig), expected);
}

#[tokio::test(start_paused = true)]
async fn a_reload_leaves_registrations_through_the_api_alone() {
    let rig = Rig::new().await;
    rig.agent.configure(vec![registration("db", "db-1", &["up"])]).await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "well").await;
    rig.observe("db-1", "up", &[Outcome::Success]).await;
    is(&rig, &["db-1: up", "web-1: ttl"]);
    let two = || vec![registration("db", "db-1", &["more", "up"]), registration("db", "db-2", &[])];
    rig.agent.configure(two()).await;
    is(&rig, &["db-1: more up", "db-2: ", "web-1: ttl"]);
    assert_eq!(rig.row("db-1:up").status, Health::Passing);
    let rig = rig.restarted().await;
    assert_eq!(listed(&rig), ["web-1: ttl"]);
    rig.agent.configure(two()).await;
    is(&rig, &["db-1: more up", "db-2: ", "web-1: ttl"]);
    rig.publish().await;
    assert_eq!(rig.row("db-1:up").status, Health::Passing);
    assert_eq!(rig.said(WEB), "passing well");
    rig.agent.configure(Vec::new()).await;
    is(&rig, &["web-1: ttl"]);
}

#[tokio::test(start_paused = true)]
async fn a_check_added_to_a_configured_instance_outlives_reload_and_restart() {
    let rig = Rig::new().await;
    let config = || vec![registration("db", "db-1", &["up"])];
    rig.agent.configure(config()).await;
    rig.put_check(json!({"ID": "beat", "Name": "beat", "ServiceID": "db-1", "TTL": "10s"}))
        .await
        .unwrap();
    rig.hear("beat", "passing", "well").await;
    is(&rig, &["db-1: beat up"]);
    wait(5.0).await;
    let difference = rig.agent.configure(config()).await;
    assert_eq!(difference, crate::registry::Difference::default());
    is(&rig, &["db-1: beat up"]);
    wait(5.1).await;
    rig.publish().await;
    assert_eq!(rig.row("beat").status, Health::Critical, "its time went on");
    rig.hear("beat", "warning", "so").await;
    let rig = rig.restarted().await;
    rig.agent.configure(config()).await;
    is(&rig, &["db-1: beat up"]);
    rig.hear("beat", "warning", "so").await;
    assert_eq!((rig.said("beat").as_str(), rig.transitions().len()), ("warning so", 0));
    // A name that the configuration needs is given up, and the check goes on under another.
    rig.agent.configure(vec![registration("db", "db-1", &["beat", "up"])]).await;
    is(&rig, &["db-1: beat beat-2 up"]);
    rig.hear("beat", "passing", "").await;
    assert_eq!(rig.said("beat"), "passing");
    // With the instance it goes.
    rig.agent.configure(Vec::new()).await;
    is(&rig, &[]);
    assert!(rig.checks("db-1").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_others_make_of_a_configured_instance_is_put_right_at_the_next_reload() {
    let rig = Rig::new().await;
    let config = || vec![registration("db", "db-1", &["up"])];
    rig.agent.configure(config()).await;
    rig.observe("db-1", "up", &[Outcome::Success]).await;
    rig.put(json!({"ID": "db-1", "Name": "base", "Port": 9, "Check": {"TTL": "10s"}}))
        .await
        .unwrap();
    is(&rig, &["db-1: ttl up"]);
    assert_eq!(rig.registry.services()[0].as_str(), "base");
    rig.agent.configure(config()).await;
    assert_eq!(rig.registry.services()[0].as_str(), "db");
    is(&rig, &["db-1: ttl up"]);
    assert_eq!(rig.row("db-1:up").status, Health::Passing);
    // Deregistered, it comes back.
    rig.agent.deregister_check("db-1:up").await.unwrap();
    is(&rig, &["db-1: ttl"]);
    rig.agent.deregister("db-1").await.unwrap();
    is(&rig, &[]);
    rig.agent.configure(config()).await;
    is(&rig, &["db-1: up"]);
    // However often others register it, it goes with the configuration.
    rig.put(json!({"ID": "db-1", "Name": "db", "Port": 9})).await.unwrap();
    rig.agent.configure(Vec::new()).await;
    is(&rig, &[]);
}

#[tokio::test(start_paused = true)]
async fn the_configuration_takes_an_id_over_and_leaves_nothing_behind() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.put_check(json!({"ID": "db-1:up", "Name": "x", "ServiceID": "web-1", "TTL": "1h"}))
        .await
        .unwrap();
    rig.agent.configure(vec![registration("db", "db-1", &["up"])]).await;
    // The check of that id is the configuration's now.
    is(&rig, &["db-1: up", "web-1: ttl"]);
    rig.agent.configure(vec![registration("web", "web-1", &["up"])]).await;
    is(&rig, &["web-1: ttl up"]);
    rig.agent.configure(Vec::new()).await;
    is(&rig, &[]);
    assert_eq!(rig.store.read().checks_on("node-1").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_alias_of_the_configuration_finds_what_it_mirrors_from_the_start() {
    let rig = Rig::new().await;
    let of = crate::probe::Alias { node: None, service: Some("db-1".parse().unwrap()) };
    let mut alias = registration("a", "a-1", &[]);
    alias.checks.push(assigned("like", &Spec::Alias(of)));
    rig.agent.configure(vec![alias, registration("db", "db-1", &[])]).await;
    rig.publish().await;
    assert_eq!(rig.said("a-1:like"), "passing No checks found.");
    let statuses: Vec<_> = rig.transitions().iter().map(|t| t.to.as_str()).collect();
    assert_eq!(statuses, ["passing"]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_at_a_reload_is_stored_as_soon_as_it_can_be() {
    let rig = Rig::new().await;
    rig.agent.configure(vec![registration("db", "db-1", &["up"])]).await;
    rig.observe("db-1", "up", &[Outcome::Success]).await;
    rig.store.fail(true);
    rig.agent.configure(vec![registration("web", "web-1", &["up"])]).await;
    assert_eq!((listed(&rig), in_store(&rig)), (vec!["web-1: up".into()], vec!["db-1: up".into()]));
    assert!(rig.agent.owes());
    rig.registry.news().take_changed();
    let key = CheckKey { instance: "web-1".parse().unwrap(), check: "up".parse().unwrap() };
    let check = rig.registry.check(&key).unwrap();
    let mut machine = Machine::default();
    rig.monitor.observe(&check, &mut machine, observation(Outcome::Success));
    rig.registry.news().take_changed();
    rig.agent.settle().await.unwrap_err();
    assert!(rig.agent.owes());

    rig.store.fail(false);
    rig.agent.settle().await.unwrap();
    assert!(!rig.agent.owes());
    is(&rig, &["web-1: up"]);
    rig.publish().await;
    assert_eq!(rig.row("web-1:up").status, Health::Passing, "what was found meanwhile is told");
}
