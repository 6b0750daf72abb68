//! Checks that follow others.

use super::*;
use crate::store::row::{Check, CheckShape};

const ALIAS: &str = "service:lb";

fn alias() -> Value {
    json!({"ID": "lb", "Name": "lb", "Check": {"AliasService": "web-1"}})
}

#[tokio::test(start_paused = true)]
async fn an_alias_mirrors_at_once() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.put(alias()).await.unwrap();
    rig.publish().await;
    assert_eq!(rig.said(ALIAS), "critical Aliased check \"Service 'web' check\" failing:");
    for (status, mirrored) in [
        ("passing", "passing All checks passing."),
        ("warning", "warning Aliased check \"Service 'web' check\" failing: so"),
        ("critical", "critical Aliased check \"Service 'web' check\" failing: so"),
        ("passing", "passing All checks passing."),
    ] {
        rig.hear(WEB, status, "so").await;
        rig.publish().await;
        assert_eq!(rig.said(ALIAS), mirrored);
    }
    wait(10.01).await;
    rig.publish().await;
    let expired = "TTL expired (last output before timeout follows): so";
    assert_eq!(
        rig.said(ALIAS),
        format!("critical Aliased check \"Service 'web' check\" failing: {expired}")
    );
}

#[tokio::test(start_paused = true)]
async fn an_alias_says_if_there_is_nothing_to_mirror() {
    let rig = Rig::new().await;
    rig.put(alias()).await.unwrap();
    rig.publish().await;
    assert_eq!(rig.said(ALIAS), "critical Service web-1 could not be found on node node-1");
    rig.put(json!({"ID": "web-1", "Name": "web"})).await.unwrap();
    rig.publish().await;
    assert_eq!(rig.said(ALIAS), "passing No checks found.");
    rig.agent.deregister("web-1").await.unwrap();
    rig.publish().await;
    assert_eq!(rig.said(ALIAS), "critical Service web-1 could not be found on node node-1");
}

#[tokio::test(start_paused = true)]
async fn the_worst_of_the_instance_and_of_the_node_counts_and_not_the_alias() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    // Beside the checks that it mirrors.
    rig.put_check(json!({"ID": "me", "Name": "me", "ServiceID": "web-1", "AliasService": "web-1"}))
        .await
        .unwrap();
    rig.put_check(json!({"ID": "disk", "Name": "disk", "TTL": "1h"})).await.unwrap();
    rig.hear(WEB, "passing", "").await;
    rig.hear("disk", "warning", "90 %").await;
    rig.publish().await;
    assert_eq!(rig.said("me"), "warning Aliased check \"disk\" failing: 90 %");
    rig.hear("disk", "passing", "").await;
    rig.publish().await;
    assert_eq!(rig.said("me"), "passing All checks passing.");
}

#[tokio::test(start_paused = true)]
async fn an_alias_of_an_alias_follows_too() {
    let rig = Rig::new().await;
    rig.put(json!({"ID": "front", "Name": "front", "Check": {"AliasService": "lb"}}))
        .await
        .unwrap();
    rig.put(alias()).await.unwrap();
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "").await;
    rig.publish().await;
    assert_eq!(rig.said("service:front"), "passing All checks passing.");
    rig.hear(WEB, "critical", "out").await;
    rig.publish().await;
    assert_eq!(
        rig.said("service:front"),
        "critical Aliased check \"Service 'lb' check\" failing: \
         Aliased check \"Service 'web' check\" failing: out"
    );
}

#[tokio::test(start_paused = true)]
async fn aliases_of_each_other_come_to_rest() {
    let rig = Rig::new().await;
    for (id, of) in [("a", "b"), ("b", "a")] {
        rig.put(json!({"ID": id, "Name": id, "Check": {"AliasService": of}})).await.unwrap();
    }
    let said = |rig: &Rig| (rig.said("service:a"), rig.said("service:b"));
    for _ in 0..300 {
        rig.publish().await;
    }
    let before = said(&rig);
    assert!(before.0.len() < 2 * pushed::MAX_OUTPUT, "{}", before.0.len());
    rig.publish().await;
    assert_eq!(said(&rig), before);
}

#[tokio::test(start_paused = true)]
async fn an_alias_of_a_node_mirrors_the_checks_of_the_node_alone() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.put(json!({"ID": "lb", "Name": "lb", "Check": {"AliasNode": "NODE-1"}})).await.unwrap();
    rig.publish().await;
    assert_eq!(rig.said(ALIAS), "passing No checks found.");
    rig.put_check(json!({"ID": "disk", "Name": "disk", "TTL": "1h"})).await.unwrap();
    rig.hear("disk", "critical", "full").await;
    rig.publish().await;
    assert_eq!(rig.said(ALIAS), "critical Aliased check \"disk\" failing: full");
    // Another node, by the catalog.
    rig.put(json!({"ID": "far", "Name": "far", "Check": {"AliasNode": "node-2"}})).await.unwrap();
    let put = |status: Health| {
        let (node, store) = (Arc::<str>::from("node-2"), Arc::clone(&rig.store));
        async move {
            let row = crate::store::row::Node { name: Arc::clone(&node), ..Default::default() };
            let shape = CheckShape { node, name: "c".into(), ..CheckShape::default() };
            let shape = shape.into();
            let check = Check { id: "c".into(), status, shape, ..Check::default() };
            store.write(|tx| Ok::<_, Unwritten>((tx.put(row), tx.put(check)))).await.unwrap();
        }
    };
    for (status, said) in [
        (Health::Passing, "passing All checks passing."),
        (Health::Warning, "warning Aliased check \"c\" failing:"),
    ] {
        put(status).await;
        rig.publish().await;
        assert_eq!(rig.said("service:far"), said);
    }
}
