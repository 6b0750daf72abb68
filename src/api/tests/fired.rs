//! User events as Consul's clients see them.

use serde_json::json;

use super::*;
use crate::store::row;

/// What Go's client computes as the index of an event.
fn index_of(id: &str) -> u64 {
    let id = uuid::Uuid::parse_str(id).unwrap().into_bytes();
    let half = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    half(&id[..8]) ^ half(&id[8..])
}

async fn ask(router: &Router, method: Method, uri: &str, body: impl Into<Body>) -> Answered {
    let request = Request::builder().method(method).uri(uri).body(body.into()).unwrap();
    answered(router.clone(), request).await
}

#[tokio::test]
async fn an_event_is_fired_and_listed() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    let empty = ask(&router, Method::GET, "/v1/event/list", "").await;
    empty.says(200, "[]");
    assert_eq!(empty.header("x-consul-index"), "1");
    let fired = ask(&router, Method::PUT, "/v1/event/fire/deploy", "hi").await.json();
    let id = fired["ID"].as_str().unwrap();
    let mut event = json!({
        "ID": id, "Name": "deploy", "Payload": "aGk=", "NodeFilter": "", "ServiceFilter": "",
        "TagFilter": "", "Version": 1, "LTime": 0,
    });
    assert_eq!(fired, event);
    event["LTime"] = json!(1);
    let answer = ask(&router, Method::GET, "/v1/event/list?node=x&service=y&tag=z", "").await;
    assert_eq!(answer.header("x-consul-index"), index_of(id).to_string());
    assert_eq!(answer.json(), json!([event]));
    let posted = ask(&router, Method::POST, "/v1/event/fire/a%2Fb", "").await.json();
    assert_eq!((&posted["Name"], &posted["Payload"]), (&json!("a/b"), &Value::Null));
    let named = ask(&router, Method::GET, "/v1/event/list?name=a/b", "").await.json();
    assert_eq!((named.as_array().unwrap().len(), &named[0]["LTime"]), (1, &json!(2)));
}

#[tokio::test]
async fn only_the_latest_are_kept() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    for n in 0..300 {
        let answer = ask(&router, Method::PUT, &format!("/v1/event/fire/{n}"), "").await;
        assert_eq!(answer.status, 200);
    }
    let list = ask(&router, Method::GET, "/v1/event/list", "").await.json();
    let list = list.as_array().unwrap();
    assert_eq!(
        (list.len(), &list[0]["Name"], &list[255]["LTime"]),
        (256, &json!("44"), &json!(300))
    );
}

#[tokio::test]
async fn an_event_for_others_is_dropped_here() {
    let rig = Rig::with_node().await;
    let shape = row::ServiceShape {
        node: "node-1".into(),
        name: "web".into(),
        tags: ["blue".into()].into(),
        ..row::ServiceShape::default()
    };
    let web = row::Service { id: "web-1".into(), shape: shape.into(), ..row::Service::default() };
    rig.put_rows([row::Row::from(web)]).await;
    let router = rig.router();
    for (query, seen) in [
        ("node=^node-1$", true),
        ("node=other", false),
        ("service=w.b", true),
        ("service=db", false),
        ("service=web&tag=blue", true),
        ("service=web&tag=red", false),
        ("node=other&service=web", false),
    ] {
        let count = || async {
            ask(&router, Method::GET, "/v1/event/list", "").await.json().as_array().unwrap().len()
        };
        let before = count().await;
        let fired = ask(&router, Method::PUT, &format!("/v1/event/fire/x?{query}"), "").await;
        assert_eq!(fired.status, 200, "{query}");
        assert_eq!(count().await - before, usize::from(seen), "{query}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_is_refused() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    let fire = async |path: &str, body: Vec<u8>| {
        ask(&router, Method::PUT, &format!("/v1/event/fire/{path}"), body).await.status.as_u16()
    };
    assert_eq!(fire("", vec![]).await, 400);
    assert_eq!(fire("x?node=(", vec![]).await, 400);
    assert_eq!(fire("x?node=(%5Cw{1000}){1000}", vec![]).await, 400);
    assert_eq!(fire("x?tag=a", vec![]).await, 400);
    assert_eq!(fire("x", vec![0; 512]).await, 413);
    assert_eq!(fire("x?dc=dc2", vec![]).await, 500);
    assert_eq!(ask(&router, Method::GET, "/v1/event/list", "").await.body, "[]");
    assert_eq!(fire("x", vec![0; 511]).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_held_while_its_newest_event_is_the_one_known() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    let get =
        async |query: &str| ask(&router, Method::GET, &format!("/v1/event/list?{query}"), "").await;
    let fire = async |name: &str| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask(&router, Method::PUT, &format!("/v1/event/fire/{name}"), "").await.json()
    };
    let (answer, fired) = tokio::join!(get("index=1&wait=60s"), fire("a"));
    assert_eq!(answer.json()[0]["ID"], fired["ID"]);
    let known = answer.header("x-consul-index").to_owned();
    let started = tokio::time::Instant::now();
    let uri = format!("name=a&index={known}&wait=16s");
    let (answer, _) = tokio::join!(get(&uri), fire("b"));
    assert!(started.elapsed() >= Duration::from_secs(16), "woken by another event");
    assert_eq!(answer.header("x-consul-index"), known);
    assert_eq!(get(&format!("index={known}&wait=60s")).await.json()[1]["Name"], "b");
}
