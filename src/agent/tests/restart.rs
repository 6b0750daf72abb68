//! What outlives the process.

use super::*;
use crate::store::row::{Node, Session};

fn several() -> Value {
    json!([
        {"CheckID": "beat", "TTL": "10s", "DeregisterCriticalServiceAfter": "2m", "Notes": "n"},
        {"Name": "page", "HTTP": "http://127.0.0.1:80/", "Method": "HEAD", "Interval": "10s",
         "FailuresBeforeCritical": 3, "SuccessBeforePassing": 2, "Header": {"A": ["b"]}},
        {"Name": "port", "TCP": "127.0.0.1:80", "Interval": "15s", "Timeout": "2s"},
        {"CheckID": "like", "AliasService": "db"},
    ])
}

/// The check of the page as the store has it.
const PAGE: &str = "service:web-1:2";

/// All rows without their stamps.
fn rows(rig: &Rig) -> (Vec<Service>, Vec<Check>) {
    let tables = rig.store.read();
    let services =
        tables.services().map(|row| Service { stamp: <_>::default(), ..Service::clone(row) });
    let checks = tables.checks().map(|row| Check { stamp: <_>::default(), ..Check::clone(row) });
    (services.collect(), checks.collect())
}

async fn filled(rig: &Rig) {
    rig.put(json!({"ID": "db", "Name": "db", "Meta": {"owner": "x"}, "Tags": ["t"]}))
        .await
        .unwrap();
    rig.put(json!({"ID": "web-1", "Name": "web", "Port": 80, "Checks": several()})).await.unwrap();
    rig.put_check(json!({"ID": "disk", "Name": "disk", "TTL": "1h"})).await.unwrap();
    rig.hear("beat", "warning", "hot").await;
    rig.hear("disk", "passing", "free").await;
    rig.observe("web-1", "page", &[Outcome::Success, FAILED, FAILED]).await;
}

/// Status and failures in a row on the way to another of each check in the registry.
fn known_of(rig: &Rig) -> Vec<String> {
    let checks = rig.registry.list().into_iter().flat_map(|listed| listed.checks);
    let mut known: Vec<_> = checks
        .map(|check| {
            let facts = check.slot.read();
            format!("{} {} {}", check.key, facts.status, facts.streak.failures())
        })
        .collect();
    known.sort();
    known
}

#[tokio::test(start_paused = true)]
async fn everything_is_found_again_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let (store, keeper) = opened(directory.path());
    let rig = still(Rig::over(store, "node-1")).await;
    still(filled(&rig)).await;
    let (before, registry, known) = (rows(&rig), rig.in_registry(), known_of(&rig));
    let index = rig.store.read().index();
    rig.end().await;
    drop(keeper);

    let (store, keeper) = opened(directory.path());
    let rig = still(Rig::over(store, "node-1")).await;
    assert_eq!(rows(&rig), before);
    assert_eq!(rig.in_registry(), registry);
    assert_eq!(known_of(&rig), known);
    rig.agrees();
    still(rig.publish()).await;
    assert_eq!(rows(&rig), before);
    assert_eq!(rig.store.read().index(), index, "nobody is woken by a restart");
    assert!(rig.transitions().is_empty());

    // Two failures of three were counted before.
    still(rig.observe("web-1", "page", &[FAILED])).await;
    assert_eq!(rig.said(PAGE), "critical connection_refused");
    assert_eq!(rig.transitions().len(), 1);
    rig.end().await;
    drop(keeper);
}

#[tokio::test(start_paused = true)]
async fn a_check_without_a_verdict_goes_on_counting_too() {
    let rig = Rig::new().await;
    rig.agent.configure(vec![counted()]).await;
    rig.observe("web-1", "page", &[FAILED, FAILED]).await;
    let rig = rig.restarted().await;
    rig.agent.configure(vec![counted()]).await;
    assert!(!rig.row("web-1:page").judged);
    rig.observe("web-1", "page", &[FAILED]).await;
    assert!(rig.row("web-1:page").judged);
    assert_eq!(rig.transitions().len(), 1);
}

/// A configured instance with a check that takes three failures and the first is no exception.
fn counted() -> Registration {
    let mut registration = configured::registration("web", "web-1", &["page"]);
    let three = std::num::NonZeroU32::new(3).unwrap();
    for assigned in &mut registration.checks {
        let definition = Arc::get_mut(&mut assigned.definition).unwrap();
        definition.thresholds = crate::judge::Thresholds::new(three, three, three).unwrap();
    }
    registration
}

#[tokio::test(start_paused = true)]
async fn counts_that_have_ended_do_not_come_back() {
    let rig = Rig::new().await;
    filled(&rig).await;
    let snapshot = rig.registry.snapshot();
    rig.observe("web-1", "page", &[Outcome::Success]).await;
    let store = Arc::clone(&rig.store);
    rig.end().await;
    // The file of states is older than the store.
    let rig = Rig::remembering(store, "node-1", snapshot).await;
    rig.observe("web-1", "page", &[FAILED]).await;
    assert_eq!(rig.said(PAGE).split(' ').next(), Some("passing"));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_row_any_more_is_not_remembered() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "well").await;
    let snapshot = rig.registry.snapshot();
    rig.agent.deregister("web-1").await.unwrap();
    let store = Arc::clone(&rig.store);
    rig.end().await;
    let rig = Rig::remembering(store, "node-1", snapshot).await;
    assert!(rig.registry.list().is_empty());
    rig.put(web()).await.unwrap();
    assert_eq!(rig.registry.instance("web-1").unwrap().status().as_str(), "unknown");
    assert_eq!(rig.said(WEB), "critical");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_from_before_there_were_rows_is_published() {
    let rig = Rig::new().await;
    let registration = || vec![configured::registration("web", "web-1", &["up"])];
    rig.agent.configure(registration()).await;
    rig.observe("web-1", "up", &[Outcome::Success]).await;
    let snapshot = rig.registry.snapshot();
    let rig = Rig::remembering(Arc::new(Store::in_memory()), "node-1", snapshot).await;
    rig.agent.configure(registration()).await;
    rig.publish().await;
    assert_eq!(rig.row("web-1:up").status, Health::Passing);
    assert!(rig.transitions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn marks_go_with_their_checks() {
    let rig = Rig::new().await;
    filled(&rig).await;
    let marks = |rig: &Rig| rig.store.read().notes(rows::MARK).count();
    assert_eq!(marks(&rig), 1);
    // Not by the agent, but as the catalog does it.
    let key = Key::Service("node-1".into(), "web-1".into());
    rig.store.write(|tx| Ok::<_, Unwritten>(tx.delete(key.clone()))).await.unwrap();
    let rig = rig.restarted().await;
    assert_eq!(marks(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_renamed_takes_its_registrations_along() {
    let rig = Rig::new().await;
    filled(&rig).await;
    let session = Session { id: "s".into(), node: "node-1".into(), ..Session::default() };
    rig.store.write(|tx| Ok::<_, Unwritten>(tx.put(session.clone()))).await.unwrap();
    let (before, known) = (rows(&rig), known_of(&rig));
    for name in ["other", "Other", "node-1"] {
        let store = Arc::clone(&rig.store);
        let renamed = Rig::over(store, name).await;
        let (services, checks) = rows(&renamed);
        let named = |node: &Arc<str>| assert_eq!(&**node, name);
        for row in &services {
            named(&row.node);
        }
        for row in &checks {
            named(&row.node);
        }
        let back: Vec<_> = checks.into_iter().map(|row| row.on(&"node-1".into())).collect();
        assert_eq!(back, before.1);
        assert_eq!(services.len(), before.0.len());
        let mut now = known_of(&renamed);
        now.sort();
        assert_eq!(now, known);
        renamed.agrees();
        let tables = renamed.store.read();
        assert_eq!(tables.nodes().map(|node| &*node.name).collect::<Vec<_>>(), [name]);
        assert_eq!(tables.session("s").map(|s| &*s.node), Some(name));
    }
}

#[tokio::test(start_paused = true)]
async fn the_nodes_of_others_stay() {
    let store = Arc::new(Store::in_memory());
    let other = Node { name: "far".into(), id: "x".into(), ..Node::default() };
    store.write(|tx| Ok::<_, Unwritten>(tx.put(other))).await.unwrap();
    let rig = Rig::over(store, "node-1").await.restarted_as("node-2").await;
    let names: Vec<_> = rig.store.read().nodes().map(|node| node.name.to_string()).collect();
    assert_eq!(names, ["far", "node-2"]);
}

#[tokio::test(start_paused = true)]
async fn maintenance_that_has_ended_does_not_come_back_with_an_old_state_file() {
    let rig = Rig::new().await;
    filled(&rig).await;
    rig.agent.maintain("web-1", Some("disk".into())).await.unwrap();
    rig.agent.maintain_node(Some("kernel".into())).await.unwrap();
    let old = rig.registry.snapshot();
    rig.agent.maintain("web-1", None).await.unwrap();
    rig.agent.maintain_node(None).await.unwrap();
    let store = Arc::clone(&rig.store);
    rig.end().await;
    let rig = Rig::remembering(store, "node-1", old).await;
    assert_eq!(rig.registry.node_maintenance(), None);
    assert_eq!(rig.registry.instance("web-1").unwrap().maintenance, None);
    assert!(rig.store.read().check("node-1", "_service_maintenance:web-1").is_none());
    assert!(rig.store.read().check("node-1", "_node_maintenance").is_none());
}
