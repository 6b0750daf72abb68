//! Registrations over another owner's, and how registrations are counted.

use super::*;

async fn put(rig: &Rig, uri: &str, token: &str, body: Value) -> Answered {
    let request = Request::builder().method(Method::PUT).uri(uri).header("x-consul-token", token);
    answered(rig.router(), request.body(Body::from(body.to_string())).unwrap()).await
}

/// An instance at a place, with an owner if there is one.
fn web(address: &str, port: u16, owner: &str) -> Value {
    let meta = if owner.is_empty() { Value::Null } else { serde_json::json!({ "owner": owner }) };
    serde_json::json!({"ID": "web-1", "Name": "web", "Address": address, "Port": port, "Meta": meta})
}

fn conflicts(rig: &Rig) -> u64 {
    rig.view.metrics.registration_conflicts.get()
}

#[tokio::test(start_paused = true)]
async fn another_owners_instance_is_left_alone_where_that_is_asked_for() {
    let rig = Rig::new(&[]).await;
    let ours = "/v1/rollcall/register";
    let place = || rig.view.registry.instance("web-1").unwrap().instance.endpoint.to_string();
    assert_eq!(put(&rig, ours, "", web("10.0.0.1", 80, "")).await.status, 200);
    let refused = put(&rig, ours, "", web("10.0.0.2", 80, "")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(
        refused.body,
        "the instance \"web-1\" is registered at 10.0.0.1:80 by another owner; deregister it \
         first, use another id, or give both the same meta key \"owner\""
    );
    assert_eq!((place().as_str(), conflicts(&rig)), ("10.0.0.1:80", 1), "it stays as it was");
    // The same place is the same owner, whoever it says it is.
    assert_eq!(put(&rig, ours, "x", web("10.0.0.1", 80, "shop")).await.status, 200);
    // The same token, or the same owner, may move it.
    assert_eq!(put(&rig, ours, "x", web("10.0.0.2", 80, "shop")).await.status, 200);
    assert_eq!(put(&rig, ours, "y", web("10.0.0.3", 80, "shop")).await.status, 200);
    assert_eq!(put(&rig, ours, "y", web("10.0.0.4", 80, "")).await.status, 200);
    assert_eq!(put(&rig, ours, "z", web("10.0.0.5", 80, "")).await.status, 409);
    assert_eq!(put(&rig, ours, "", web("10.0.0.5", 80, "")).await.status, 409);
    assert_eq!((place().as_str(), conflicts(&rig)), ("10.0.0.4:80", 3));
}

#[tokio::test(start_paused = true)]
async fn consuls_way_lets_it_happen_and_counts_it() {
    let rig = Rig::new(&[]).await;
    let consuls = "/v1/agent/service/register";
    for (address, counted) in [("10.0.0.1", 0), ("10.0.0.1", 0), ("10.0.0.2", 1), ("10.0.0.1", 2)] {
        assert_eq!(put(&rig, consuls, "", web(address, 80, "")).await.status, 200);
        assert_eq!(conflicts(&rig), counted, "{address}");
    }
    let deregister = "/v1/agent/service/deregister/web-1";
    assert_eq!(put(&rig, deregister, "", Value::Null).await.status, 200);
    assert_eq!(put(&rig, consuls, "", web("10.0.0.9", 80, "")).await.status, 200);
    assert_eq!(conflicts(&rig), 2, "what is gone has no owner");
    let metrics = rig.get("/metrics").await.body;
    for line in [
        "rollcall_registration_conflicts_total 2\n",
        "rollcall_registrations_total{action=\"register\"} 2\n",
        "rollcall_registrations_total{action=\"deregister\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_their_routes() {
    let rig = Rig::new(&[]).await;
    let check = serde_json::json!({"Name": "a/b", "TTL": "10s"});
    for (uri, body, route) in [
        ("/v1/agent/check/register", check, "/v1/agent/check/register"),
        ("/v1/agent/check/pass/a/b", Value::Null, "/v1/agent/check/pass/{id}"),
        ("/v1/agent/check/deregister/a/b", Value::Null, "/v1/agent/check/deregister/{id}"),
        ("/v1/rollcall/register", web("", 1, ""), "/v1/rollcall/register"),
        ("/v1/agent/service/deregister/web-1", Value::Null, "/v1/agent/service/deregister/{id}"),
    ] {
        let answer = put(&rig, uri, "", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.body);
        let labels = [route, "PUT", "200"];
        assert_eq!(rig.view.metrics.http_requests.with_label_values(&labels).get(), 1, "{route}");
    }
}
