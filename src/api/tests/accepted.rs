//! What Consul takes is taken, and shown as Consul shows it.

use serde_json::json;

use super::*;

const REGISTER: &str = "/v1/agent/service/register";

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
}
