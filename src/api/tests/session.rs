//! Sessions as Consul's clients see them, and how they end.

use serde_json::json;

use super::*;
use crate::store::row;

impl Rig {
    /// Ends sessions that are not renewed, until the rig is stopped.
    pub(super) fn keep_sessions(&mut self) -> tokio::task::JoinSet<()> {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(self.keeper.take().unwrap().run(self.stop.clone()));
        tasks
    }

    async fn set_check(&self, id: &str, status: row::Health) {
        let (node, id) = ("node-1".into(), id.into());
        let check = row::Check { id, status, ..row::Check::default() }.on(&node);
        self.put_rows([row::Row::from(check)]).await;
    }
}

#[tokio::test]
async fn a_session_has_all_of_consuls_fields_and_defaults() {
    let rig = Rig::with_node().await;
    let made = rig.put("/v1/session/create", "").await.json();
    let id = made["ID"].as_str().unwrap();
    let shown = json!([{
        "ID": id, "Name": "", "Node": "node-1", "LockDelay": 15_000_000_000_u64,
        "Behavior": "release", "TTL": "", "NodeChecks": ["serfHealth"], "ServiceChecks": null,
        "CreateIndex": 2, "ModifyIndex": 2,
    }]);
    let answer = rig.get(&format!("/v1/session/info/{id}")).await;
    assert_eq!(answer.header("x-consul-index"), "2");
    assert_eq!(answer.json(), shown);
    assert_eq!(rig.get("/v1/session/list").await.json(), shown);
    assert_eq!(rig.get("/v1/session/node/NODE-1").await.json(), shown);
    rig.get("/v1/session/node/other").await.says(200, "[]");
    rig.get("/v1/session/info/other").await.says(200, "[]");
    rig.put(&format!("/v1/session/destroy/{id}"), "").await.says(200, "true");
    rig.put(&format!("/v1/session/destroy/{id}"), "").await.says(200, "true");
    rig.get("/v1/session/list").await.says(200, "[]");
}

#[tokio::test]
async fn a_session_is_made_as_asked() {
    let rig = Rig::with_node().await;
    let node = "node-1".into();
    let shape = row::ServiceShape { name: "web".into(), ..row::ServiceShape::default() };
    let web = row::Service { id: "web".into(), shape: shape.into(), ..row::Service::default() };
    let web = web.on(&node);
    let check = row::Check {
        id: "web:1".into(),
        service: "web".into(),
        status: row::Health::Warning,
        ..row::Check::default()
    };
    let check = check.on(&node);
    rig.put_rows([row::Row::from(web), check.into()]).await;
    let id = rig
        .session(json!({
            "name": "n", "node": "NODE-1", "lockdelay": 5, "behavior": "delete", "ttl": "90s",
            "checks": [], "ServiceChecks": [{"ID": "web:1"}], "Namespace": "x",
        }))
        .await;
    let shown = rig.get(&format!("/v1/session/info/{id}")).await.json()[0].clone();
    assert_eq!((&shown["Name"], &shown["Node"]), (&json!("n"), &json!("node-1")));
    assert_eq!((&shown["LockDelay"], &shown["TTL"]), (&json!(5_000_000_000_u64), &json!("90s")));
    assert_eq!((&shown["Behavior"], &shown["NodeChecks"]), (&json!("delete"), &json!([])));
    assert_eq!(shown["ServiceChecks"], json!([{"ID": "web:1", "Namespace": ""}]));
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_in_consuls_words() {
    let rig = Rig::with_node().await;
    rig.set_check("sick", row::Health::Critical).await;
    let index = rig.index();
    for (wanted, status, text) in [
        (json!({"Node": "other"}), 500, "Missing node registration"),
        (json!({"NodeChecks": ["x"]}), 500, "Missing check 'x' registration"),
        (json!({"Checks": ["sick"]}), 500, "Check 'sick' is in critical state"),
        (json!({"ServiceChecks": [{"ID": "y"}]}), 500, "Missing check 'y' registration"),
        (json!({"Behavior": "keep"}), 500, "Invalid Behavior setting 'keep'"),
        (
            json!({"TTL": "9s"}),
            500,
            "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]",
        ),
        (
            json!({"TTL": "25h"}),
            500,
            "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]",
        ),
    ] {
        rig.put("/v1/session/create", wanted.to_string()).await.says(status, text);
    }
    let of = async |wanted: Value| rig.put("/v1/session/create", wanted.to_string()).await;
    assert_eq!(of(json!({"TTL": "soon"})).await.status, 500);
    let answer = of(json!({"LockDelay": "x"})).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with("Request decode failed: "), "{}", answer.body);
    assert_eq!(rig.put("/v1/session/create", "{").await.status, 400);
    assert_eq!(rig.put("/v1/session/create?dc=dc2", "").await.status, 500);
    for path in ["destroy", "renew"] {
        rig.put(&format!("/v1/session/{path}/"), "").await.says(400, "Missing session");
    }
    rig.get("/v1/session/info/").await.says(400, "Missing session");
    rig.get("/v1/session/node/").await.says(400, "Missing node name");
    assert_eq!(rig.index(), index);
}

#[tokio::test]
async fn a_lock_delay_is_read_as_consul_reads_it() {
    let rig = Rig::with_node().await;
    for (given, seconds) in [
        (json!("15s"), 15),
        (json!(20), 20),
        (json!(2_000_000_000_u64), 2),
        (json!("0s"), 0),
        (json!(0), 0),
        (Value::Null, 15),
    ] {
        let id = rig.session(json!({"LockDelay": given})).await;
        let shown = rig.get(&format!("/v1/session/info/{id}")).await.json();
        assert_eq!(shown[0]["LockDelay"], seconds * 1_000_000_000_u64, "{given}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_renewed_ends_after_twice_its_time() {
    let mut rig = Rig::with_node().await;
    let _keeper = rig.keep_sessions();
    let brief = rig.session(json!({"TTL": "10s", "Name": "brief"})).await;
    let lasting = rig.session(json!({"Name": "lasting"})).await;
    rig.put(&format!("/v1/kv/k?acquire={brief}"), "").await.says(200, "true");
    let started = tokio::time::Instant::now();
    let index = rig.get("/v1/kv/k").await.header("x-consul-index").to_owned();
    let released = rig.get(&format!("/v1/kv/k?index={index}&wait=10m")).await.json();
    assert_eq!(released[0]["Session"], Value::Null);
    assert_eq!(started.elapsed().as_secs(), 20);
    let left = rig.get("/v1/session/list").await.json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["ID"], json!(lasting));
    let answer = rig.put(&format!("/v1/session/renew/{brief}"), "").await;
    answer.says(404, &format!("Session id '{brief}' not found"));
    assert_eq!(rig.view.metrics.sessions_expired.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_renewed_lives_on() {
    let mut rig = Rig::with_node().await;
    let _keeper = rig.keep_sessions();
    let id = rig.session(json!({"TTL": "10s"})).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let renewed = rig.put(&format!("/v1/session/renew/{id}"), "").await.json();
        assert_eq!((&renewed[0]["ID"], &renewed[0]["TTL"]), (&json!(id), &json!("10s")));
    }
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_ne!(rig.get("/v1/session/list").await.body, "[]");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.get("/v1/session/list").await.body, "[]");
    let lasting = rig.session(json!({})).await;
    assert_eq!(rig.put(&format!("/v1/session/renew/{lasting}"), "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn sessions_from_before_a_restart_have_their_full_time_again() {
    let mut rig = Rig::with_node().await;
    let id = rig.session(json!({"TTL": "10s"})).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let _keeper = rig.keep_sessions();
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_eq!(rig.get("/v1/session/list").await.json()[0]["ID"], json!(id));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.get("/v1/session/list").await.body, "[]");
}

#[tokio::test]
async fn locks_of_a_session_that_has_ended_are_delayed() {
    let rig = Rig::with_node().await;
    let (keeping, deleting) =
        (rig.session(json!({})).await, rig.session(json!({"Behavior": "delete"})).await);
    let quick = rig.session(json!({"LockDelay": "0s"})).await;
    for (key, session) in [("keep", &keeping), ("delete", &deleting), ("quick", &quick)] {
        rig.put(&format!("/v1/kv/{key}?acquire={session}"), "x").await.says(200, "true");
        rig.put(&format!("/v1/session/destroy/{session}"), "").await.says(200, "true");
    }
    let kept = rig.get("/v1/kv/keep").await.json();
    assert_eq!((&kept[0]["Session"], &kept[0]["LockIndex"]), (&Value::Null, &json!(1)));
    assert_eq!(rig.get("/v1/kv/delete").await.status, 404);
    let next = rig.session(json!({})).await;
    for (key, acquired) in [("keep", "false"), ("delete", "false"), ("quick", "true")] {
        rig.put(&format!("/v1/kv/{key}?acquire={next}"), "y").await.says(200, acquired);
    }
    rig.put("/v1/kv/keep", "not a lock").await.says(200, "true");
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_checks_and_its_node() {
    let rig = Rig::with_node().await;
    rig.set_check("own", row::Health::Passing).await;
    let id = rig.session(json!({"NodeChecks": ["own"], "LockDelay": "0s"})).await;
    rig.put(&format!("/v1/kv/k?acquire={id}"), "").await.says(200, "true");
    rig.set_check("own", row::Health::Warning).await;
    let index = rig.get("/v1/session/list").await.header("x-consul-index").to_owned();
    let uri = format!("/v1/session/list?index={index}&wait=60s");
    let (answer, ()) = tokio::join!(rig.get(&uri), rig.set_check("own", row::Health::Critical));
    answer.says(200, "[]");
    assert_eq!(rig.get("/v1/kv/k").await.json()[0]["Session"], Value::Null);
}

#[tokio::test]
async fn a_renewal_while_the_daemon_stops_does_not_say_that_the_locks_are_lost() {
    let mut rig = Rig::with_node().await;
    let id = rig.session(json!({"TTL": "10s"})).await;
    drop(rig.keeper.take());
    let answer = rig.put(&format!("/v1/session/renew/{id}"), "").await;
    answer.says(503, "the daemon is stopping");
}

#[tokio::test(start_paused = true)]
async fn sessions_whose_time_is_up_together_end_in_one_change() {
    let mut rig = Rig::with_node().await;
    let _keeper = rig.keep_sessions();
    for _ in 0..50 {
        rig.session(json!({"TTL": "10s"})).await;
    }
    let index = rig.index();
    tokio::time::sleep(Duration::from_secs(21)).await;
    rig.get("/v1/session/list").await.says(200, "[]");
    assert_eq!(rig.index(), index + 1);
}
