//! What Consul takes is taken, and shown as Consul shows it.

use serde_json::json;

use super::*;

const REGISTER: &str = "/v1/agent/service/register";

/// A probe of the first check of an instance that succeeds and says this.
async fn say(rig: &Rig, instance: &str, text: &str) {
    let said = Some(text.into());
    let said = Observation { detail: said, ..observation(Outcome::Success, Answer::Http(200)) };
    let check = rig.check(instance);
    let facts = check.slot.read();
    let mut machine = Machine::restore(facts.verdict, facts.streak, Maintenance::Off);
    rig.monitor.observe(&check, &mut machine, said);
    rig.view.agent.tell(rig.view.registry.news().take_changed()).await.unwrap();
}

async fn put(rig: &Rig, uri: &str, body: Value) {
    let answer = rig.put(uri, body.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, ""), "{body}");
}

#[tokio::test(start_paused = true)]
async fn ids_and_names_are_as_long_as_others_make_them() {
    let rig = Rig::new(&[]).await;
    let (id, name) = (format!("_nomad-task-{}", "x".repeat(500)), "n".repeat(300));
    let checks = json!([{"TTL": "1m"}, {"TTL": "1m"}, {"CheckID": "c".repeat(512), "TTL": "1m"}]);
    put(&rig, REGISTER, json!({"ID": id, "Name": name, "Checks": checks})).await;
    let checks = rig.get(&format!("/v1/health/checks/{name}")).await.json();
    let shown: Vec<_> = (0..3).map(|n| checks[n]["CheckID"].as_str().unwrap()).collect();
    let expected = ["c".repeat(512), format!("service:{id}:1"), format!("service:{id}:2")];
    assert_eq!(shown, expected);
    assert!(rig.get("/metrics").await.body.contains(&id));
    put(&rig, &format!("/v1/agent/check/pass/{}", expected[1]), Value::Null).await;
    put(&rig, &format!("/v1/agent/service/deregister/{id}"), Value::Null).await;
    let refused = rig.put(REGISTER, json!({"ID": "x".repeat(513), "Name": "x"}).to_string()).await;
    assert_eq!(
        (refused.status.as_u16(), refused.body.as_str()),
        (
            400,
            "Request decode failed: id: this id cannot be used: it is 513 bytes long; at most 512 \
             are allowed"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn an_address_is_kept_as_it_is_written_and_what_has_its_own_is_asked() {
    let rig = Rig::new(&[]).await;
    for (port, address) in [(1, "fe80::1%eth0"), (2, "/run/web.sock"), (3, "10.0.0.1:80")] {
        let check = json!({"HTTP": "http://ops:sesame@10.0.0.1/#x", "Interval": "1s"});
        let body = json!({"Name": "web", "Address": address, "Port": port, "Check": check});
        put(&rig, REGISTER, body).await;
        let held = rig.view.registry.instance("web").unwrap();
        assert_eq!(held.checks[0].target.url(), "http://10.0.0.1/", "{address}");
        let shown = rig.get("/v1/health/service/web").await;
        assert_eq!(shown.json()[0]["Service"]["Address"], address);
        assert_eq!(rig.get("/v1/catalog/service/web").await.json()[0]["ServiceAddress"], address);
        let native = rig.get("/v1/rollcall/services").await.body;
        assert!(native.contains(address), "{native}");
        for answer in [shown.body, native, rig.get("/v1/agent/checks").await.body] {
            assert!(!answer.contains("sesame"), "{answer}");
        }
    }
    let refused = rig.put(REGISTER, json!({"Name": "web", "Address": "0.0.0.0"}).to_string()).await;
    assert_eq!((refused.status.as_u16(), refused.body.as_str()), (400, "Invalid service address"));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_shown_after_consuls_words_and_another_one_wakes_nobody_at_once() {
    let rig = Rig::new(&[]).await;
    let check = json!({"HTTP": "http://10.0.0.1/up", "Interval": "1s"});
    put(&rig, REGISTER, json!({"Name": "web", "Check": check})).await;
    say(&rig, "web", "ok 1").await;
    let output = "HTTP GET http://10.0.0.1/up: 200 OK Output: ok";
    let told = rig.get("/v1/health/checks/web").await.json();
    assert_eq!(told[0]["Output"], format!("{output} 1"));
    let before = rig.index();
    say(&rig, "web", "ok 2").await;
    assert_eq!(rig.index(), before, "no status has changed");
    let now = rig.get("/v1/agent/checks").await.json();
    assert_eq!(now["service:web"]["Output"], format!("{output} 2"));
    let left = rig.view.registry.news().take_said();
    rig.view.agent.tell(left).await.unwrap();
    let told = rig.get("/v1/health/checks/web").await.json();
    assert_eq!(told[0]["Output"], format!("{output} 2"));
}

#[tokio::test(start_paused = true)]
async fn times_of_a_check_are_shown_as_they_were_given() {
    let rig = Rig::new(&[]).await;
    let tcp = json!({"TCP": "10.0.0.1:80", "Interval": "500ms"});
    let full = json!({"TCP": "10.0.0.1:80", "Interval": "90s", "Timeout": "2s"});
    let checks = json!([tcp, full, {"TTL": "1m"}, {"AliasNode": "n"}]);
    put(&rig, REGISTER, json!({"Name": "web", "Checks": checks})).await;
    let alone = "/v1/agent/check/register";
    for (id, service, mut check) in [
        ("tcp", "", tcp),
        ("ttl", "web", json!({"TTL": "1m"})),
        ("of", "", json!({"AliasNode": "n"})),
    ] {
        check["Name"] = id.into();
        check["ServiceID"] = service.into();
        put(&rig, alone, check).await;
    }
    let shown = rig.get("/v1/agent/checks").await.json();
    for (id, interval, timeout) in [
        ("service:web:1", "500ms", ""),
        ("service:web:2", "1m30s", "2s"),
        ("service:web:3", "", ""),
        ("service:web:4", "", ""),
        ("tcp", "500ms", "0s"),
        ("ttl", "0s", "0s"),
        ("of", "0s", "0s"),
    ] {
        let shown = (&shown[id]["Interval"], &shown[id]["Timeout"]);
        assert_eq!(shown, (&json!(interval), &json!(timeout)), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_catalog_shows_may_be_put_back() {
    let rig = Rig::new(&[]).await;
    let check = json!({"Name": "up", "Definition": {
        "TCP": "10.0.0.1:80", "Interval": "10s", "IntervalDuration": 10_000_000_000_u64,
        "Timeout": "5s", "TimeoutDuration": "5s",
        "DeregisterCriticalServiceAfter": "1m0s",
        "DeregisterCriticalServiceAfterDuration": 60_000_000_000_u64}});
    let body = json!({"Node": "n", "Address": "10.0.0.1", "Check": check});
    let answer = rig.put("/v1/catalog/register", body.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "true"));
    let shown = rig.get("/v1/health/node/n").await.json();
    assert_eq!(shown[0]["Definition"]["Interval"], "10s");
    assert_eq!(shown[0]["Definition"]["DeregisterCriticalServiceAfter"], "1m0s");
    let operation = json!([{"Check": {"Verb": "set", "Check": {
        "Node": "n", "CheckID": "up", "Name": "up", "Definition": check["Definition"]}}}]);
    let answer = rig.put("/v1/txn", operation.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}
