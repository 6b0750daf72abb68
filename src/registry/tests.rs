//! The registry against lists that change, and over restarts.

use std::num::NonZeroU32;

use super::*;
use tokio::sync::mpsc;

use crate::{
    clock::{self, Timestamp},
    judge::Streak,
    metrics::Facts,
    model::Outcome,
    probe::Spec,
};

fn definition(id: &str, seconds: u64) -> Arc<Definition> {
    let one = NonZeroU32::MIN;
    let interval = std::time::Duration::from_secs(seconds);
    Arc::new(Definition {
        id: id.parse().unwrap(),
        name: None,
        notes: None,
        probe: Arc::new(Probe::prepare(&Spec::Tcp(crate::probe::tcp::Spec::default())).unwrap()),
        schedule: Schedule {
            interval,
            timeout: interval,
            jitter: 0.05,
            initial_delay: std::time::Duration::ZERO,
            pace: crate::model::Pace::default(),
        },
        thresholds: Thresholds::new(one, one, one).unwrap(),
        slo_objective: 0.99,
    })
}

fn registration(service: &str, id: &str, checks: &[&Arc<Definition>]) -> Registration {
    let assigned = |definition: &&Arc<Definition>| Assigned {
        definition: Arc::clone(definition),
        endpoint: None,
        consul_id: None,
        initial: Verdict::Unknown,
    };
    Registration {
        instance: Instance {
            id: id.parse().unwrap(),
            service: service.parse().unwrap(),
            endpoint: Endpoint { host: "127.0.0.1".parse().unwrap(), port: 80 },
            tags: Arc::default(),
            meta: Arc::default(),
        },
        checks: checks.iter().map(assigned).collect(),
    }
}

struct Rig {
    registry: Registry,
    orders: mpsc::Receiver<Vec<Order>>,
}

impl Rig {
    fn new(remembered: Snapshot) -> Self {
        let (sender, orders) = mpsc::channel(10);
        Self { registry: Registry::new(remembered, Orders::probed(sender)), orders }
    }

    /// What was ordered since the last call.
    fn ordered(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(batch) = self.orders.try_recv() {
            lines.extend(batch.iter().map(|order| match order {
                Order::Run(check, Start::Afresh(machine)) => {
                    format!("run {} {}", check.key, machine.status())
                }
                Order::Run(check, Start::InPlace) => format!("run {} in place", check.key),
                Order::Stop(key) => format!("stop {key}"),
                Order::Maintain { key, maintenance, reason } => {
                    format!("maintain {key} {maintenance:?} {reason}")
                }
                Order::Recheck(key) => format!("recheck {key}"),
            }));
        }
        lines.sort();
        lines
    }
}

#[tokio::test]
async fn only_what_changed_is_ordered() {
    let mut rig = Rig::new(Snapshot::default());
    let (up, port) = (definition("up", 10), definition("port", 10));
    let both = registration("web", "web-1", &[&up, &port]);
    let first =
        rig.registry.replace(vec![both.clone(), registration("web", "web-2", &[&up])]).await;
    assert_eq!(first, Difference { registered: 2, ..Difference::default() });
    assert_eq!(
        rig.ordered(),
        ["run web-1:port unknown", "run web-1:up unknown", "run web-2:up unknown"]
    );

    let slower = definition("up", 20);
    let second = rig
        .registry
        .replace(vec![
            registration("web", "web-1", &[&slower, &port]),
            registration("api", "api-1", &[]),
        ])
        .await;
    assert_eq!(second, Difference { registered: 1, deregistered: 1, changed: 1 });
    assert_eq!(rig.ordered(), ["run web-1:up in place", "stop web-2:up"]);

    let third = rig.registry.replace(vec![registration("web", "web-1", &[&port])]).await;
    assert_eq!(third, Difference { deregistered: 1, changed: 1, ..Difference::default() });
    assert_eq!(rig.ordered(), ["stop web-1:up"]);
}

#[tokio::test]
async fn services_and_instances_are_listed_in_order() {
    let rig = Rig::new(Snapshot::default());
    let up = definition("up", 10);
    let ids = [("web", "web-2"), ("api", "z"), ("web", "web-1")];
    rig.registry.replace(ids.iter().map(|(s, i)| registration(s, i, &[&up])).collect()).await;
    let listed: Vec<_> = rig.registry.list().iter().map(|l| l.instance.id.to_string()).collect();
    assert_eq!(listed, ["z", "web-1", "web-2"]);
    assert_eq!(rig.registry.service("web").len(), 2);
    assert!(rig.registry.service("nope").is_empty());
    let names: Vec<_> = rig.registry.services().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["api", "web"]);
}

#[tokio::test]
async fn checks_of_one_id_in_a_service_are_counted_together() {
    let rig = Rig::new(Snapshot::default());
    let up = definition("up", 10);
    let web = |id| registration("web", id, &[&up]);
    rig.registry.replace(vec![web("a"), web("b"), registration("api", "c", &[&up])]).await;
    let class = |id: &str| Arc::as_ptr(&rig.registry.instance(id).unwrap().checks[0].class);
    assert_eq!(class("a"), class("b"));
    assert_ne!(class("a"), class("c"));
}

#[tokio::test]
async fn maintenance_of_the_node_and_of_an_instance_are_separate() {
    let mut rig = Rig::new(Snapshot::default());
    let up = definition("up", 10);
    rig.registry
        .replace(vec![registration("web", "a", &[&up]), registration("web", "b", &[&up])])
        .await;
    rig.ordered();
    rig.registry.maintain("a", Some("disk".into())).await.unwrap();
    rig.registry.maintain_node(Some("kernel".into())).await;
    rig.registry.maintain_node(None).await;
    assert_eq!(
        rig.ordered(),
        [
            "maintain a:up On disk",
            "maintain a:up On kernel",
            "maintain a:up On maintenance ended",
            "maintain b:up Off maintenance ended",
            "maintain b:up On kernel",
        ]
    );
    assert_eq!(
        rig.registry.maintain("c", None).await.unwrap_err().to_string(),
        "unknown instance \"c\""
    );
}

#[tokio::test]
async fn maintenance_of_what_is_not_listed_any_more_ends() {
    let mut rig = Rig::new(Snapshot::default());
    let up = definition("up", 10);
    let list = |ids: &[&str]| ids.iter().map(|id| registration("web", id, &[&up])).collect();
    rig.registry.replace(list(&["a", "b"])).await;
    for id in ["a", "b"] {
        rig.registry.maintain(id, Some("disk".into())).await.unwrap();
    }
    rig.registry.replace(list(&["b"])).await;
    rig.ordered();
    rig.registry.replace(list(&["a", "b"])).await;
    assert_eq!(rig.ordered(), ["run a:up unknown"]);
    let maintained = |id: &str| rig.registry.instance(id).unwrap().maintenance.is_some();
    assert_eq!((maintained("a"), maintained("b")), (false, true));
}

fn seen(rig: &Rig, id: &str, verdict: Verdict, last: Timestamp) {
    let facts = Facts {
        probes: 7,
        failures: 3,
        changes: 1,
        verdict,
        streak: Streak::Failures(3),
        last_started: Some(last),
        last_conclusive: Some(last),
        last_outcome: Some(Outcome::Failure(crate::model::Reason::Status)),
        answer: crate::model::Answer::Http(503),
        changed: Some(last),
        detail: Some("refused".into()),
        ..Facts::default()
    };
    let listed = rig.registry.instance(id).unwrap();
    let check = &listed.checks[0];
    // What a prober thread would have written, in two steps.
    check.slot.overwrite(&facts);
}

#[tokio::test]
async fn a_check_goes_on_where_a_restart_left_it() {
    let directory = tempfile::tempdir().unwrap();
    let up = definition("up", 10);
    let list = || ["a", "b"].map(|id| registration("web", id, &[&up])).to_vec();
    let rig = Rig::new(Snapshot::default());
    rig.registry.replace(list()).await;
    seen(&rig, "a", Verdict::Critical, clock::now());
    seen(&rig, "b", Verdict::Critical, Timestamp::from_seconds(1));
    rig.registry.maintain("b", Some("disk".into())).await.unwrap();
    rig.registry.save(directory.path(), || {}).unwrap();

    let mut rig = Rig::new(Snapshot::load(directory.path()).unwrap());
    rig.registry.replace(list()).await;
    assert_eq!(
        rig.ordered(),
        ["run a:up critical", "run b:up maintenance"],
        "fresh evidence counts, maintenance lasts"
    );
    let facts = |id: &str| rig.registry.instance(id).unwrap().checks[0].slot.read();
    assert_eq!((facts("a").probes, facts("a").streak), (0, Streak::Failures(3)));
    assert_eq!(facts("a").detail.as_deref(), Some("refused"));
    assert_eq!(facts("a").last_outcome, Some(Outcome::Failure(crate::model::Reason::Status)));
    assert_eq!(facts("a").answer, crate::model::Answer::Http(503));
    assert_eq!(
        (facts("b").changed, facts("b").streak),
        (Some(Timestamp::from_seconds(1)), Streak::None),
        "old results stand, and do not add up with new ones"
    );
    assert_eq!(facts("b").verdict, Verdict::Critical);
}

#[tokio::test]
async fn what_stays_is_seen_once_by_who_goes_through_all_in_parts() {
    let up = definition("up", 10);
    let id = |n: usize| format!("i{n:04}");
    let rig = Rig::new(Snapshot::default());
    let service = |n: usize| ["api", "web", "zoo"][n % 3];
    rig.registry
        .replace((0..3000).map(|n| registration(service(n), &id(n), &[&up])).collect())
        .await;
    let everyone: Vec<_> = rig.registry.checks().iter().map(|check| check.key.clone()).collect();

    let mut walk = rig.registry.walk();
    let mut seen: Vec<_> = walk.by_ref().take(2).flatten().map(|check| check.key.clone()).collect();
    assert!(seen.len() < 2000, "in parts: {}", seen.len());
    assert_eq!(seen, everyone[..seen.len()], "by service name and id");
    // The one seen last goes with its whole service; others come before and after.
    let last = seen.last().unwrap().instance.clone();
    assert_eq!(rig.registry.instance(last.as_str()).unwrap().instance.service.as_str(), "web");
    for n in (1..3000).step_by(3) {
        rig.registry.remove(&id(n).parse().unwrap());
    }
    rig.registry.put(registration("abc", "early", &[&up]), Source::Api);
    rig.registry.put(registration("zoo", "i0001x", &[&up]), Source::Api);
    seen.extend(walk.flatten().map(|check| check.key.clone()));

    let stays = |n: usize| n % 3 != 1;
    let stayed = |key: &&CheckKey| everyone.contains(key) && rig.registry.check(key).is_some();
    assert_eq!(seen.iter().filter(stayed).count(), (0..3000).filter(|n| stays(*n)).count());
    assert!(seen.iter().any(|key| key.instance.as_str() == "i0001x"));
    assert!(!seen.iter().any(|key| key.instance.as_str() == "early"), "it is not gone back to");
    assert_eq!(seen.iter().collect::<std::collections::HashSet<_>>().len(), seen.len());
}

#[test]
fn a_damaged_state_is_set_aside_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    for text in [
        "{\"version\": 1,",
        "{\"version\":99,\"saved\":0,\"node_maintenance\":null,\"maintenance\":{},\"checks\":[]}",
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Snapshot::load(directory.path()).unwrap_err();
        let snapshot::Error::Damaged { aside, .. } = error else { panic!("{error}") };
        assert!(!path.exists());
        assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
    }
    assert!(Snapshot::load(directory.path()).is_ok(), "none at all is a fresh start");
}

#[tokio::test]
async fn an_instance_out_of_service_is_so_whatever_its_checks_say() {
    let rig = Rig::new(Snapshot::default());
    rig.registry.replace(vec![registration("web", "a", &[])]).await;
    let status = || rig.registry.service("web")[0].status();
    assert_eq!(status(), Status::Passing, "no check, no complaint");
    rig.registry.maintain("a", Some("disk".into())).await.unwrap();
    assert_eq!(status(), Status::Maintenance);
    rig.registry.maintain("a", None).await.unwrap();
    rig.registry.maintain_node(Some("kernel".into())).await;
    assert_eq!(rig.registry.instance("a").unwrap().maintenance.as_deref(), Some("kernel"));
    rig.registry.maintain_node(None).await;
    assert_eq!(status(), Status::Passing);
}

#[tokio::test]
async fn checks_that_are_registered_one_by_one_and_ask_the_same_share_one_definition() {
    let Rig { registry, orders } = Rig::new(Snapshot::default());
    let put = async |id: &str, seconds| {
        let own = definition("up", seconds);
        registry.put(registration("web", id, &[&own]), Source::Api);
        registry.flush().await;
        Arc::downgrade(&own)
    };
    let held = |id: &str| Arc::clone(&registry.instance(id).unwrap().checks[0]);
    let first = put("a", 10).await;
    assert_eq!(put("b", 10).await.strong_count(), 0);
    assert!(Arc::ptr_eq(&held("a").definition, &held("b").definition));
    assert!(Arc::ptr_eq(held("b").target.probe(), &held("a").definition.probe));

    put("c", 20).await;
    assert!(!Arc::ptr_eq(&held("c").definition, &held("a").definition));
    assert_eq!(held("c").definition.schedule.interval.as_secs(), 20);
    put("b", 20).await;
    assert!(Arc::ptr_eq(&held("b").definition, &held("c").definition));

    let before = held("a");
    put("a", 10).await;
    assert!(Arc::ptr_eq(&before, &held("a")), "what is the same goes on undisturbed");
    drop(before);
    registry.remove(&"a".parse().unwrap());
    registry.flush().await;
    drop(orders);
    assert_eq!(first.strong_count(), 0, "nothing is held for what may come");
}

#[test]
fn a_check_and_its_instance_stay_small() {
    assert_eq!((size_of::<Check>(), size_of::<Instance>()), (288, 88));
}

#[tokio::test]
async fn a_check_of_another_id_under_the_same_name_takes_the_place_of_the_one_before() {
    let mut rig = Rig::new(Snapshot::default());
    let up = definition("up", 10);
    let named = |id: &str| {
        let mut registration = registration("web", "web-1", &[&up]);
        registration.checks[0].consul_id = Some(id.into());
        registration
    };
    rig.registry.replace(vec![named("one")]).await;
    assert_eq!(rig.ordered(), ["run web-1:up unknown"]);
    rig.registry.replace(vec![named("two")]).await;
    // It may be asked by another engine: the one before must be stopped wherever it is.
    assert_eq!(rig.ordered(), ["run web-1:up unknown", "stop web-1:up"]);
}
