//! Indexes: what moves which, who is woken, and how often an answer is made.

use serde_json::json;

use super::*;

const SHOP: &[&str] = &["web web-1 http http://10.0.0.1:8080/", "db db-1 tcp tcp://10.0.0.3:5432"];

const QUERIES: &[&str] = &[
    "health/service/web",
    "health/service/db",
    "health/checks/web",
    "health/checks/db",
    "health/node/node-1",
    "health/node/foo",
    "health/state/any",
    "catalog/services",
    "catalog/service/web",
    "catalog/service/db",
    "catalog/nodes",
    "catalog/node/node-1",
    "catalog/node/foo",
];

async fn indexes(rig: &Rig) -> Vec<u64> {
    let mut indexes = Vec::new();
    for query in QUERIES {
        let answer = rig.get(&format!("/v1/{query}")).await;
        indexes.push(answer.header("x-consul-index").parse().unwrap());
    }
    indexes
}

/// Which queries' indexes a change moves; none may go back.
async fn moved(rig: &Rig, change: impl AsyncFnOnce()) -> Vec<&'static str> {
    let before = indexes(rig).await;
    change().await;
    let after = indexes(rig).await;
    let pairs = || before.iter().zip(&after);
    assert!(pairs().all(|(before, after)| after >= before), "{before:?} {after:?}");
    QUERIES.iter().zip(pairs()).filter(|(_, (a, b))| a != b).map(|(query, _)| *query).collect()
}

#[tokio::test]
async fn a_change_of_status_moves_what_shows_it_and_nothing_else() {
    let rig = Rig::new(SHOP).await;
    rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9"})).await;
    assert_eq!(
        moved(&rig, async || rig.pass("web-1")).await,
        [
            "health/service/web",
            "health/checks/web",
            "health/node/node-1",
            "health/state/any",
            "catalog/service/web",
        ]
    );
    assert_eq!(moved(&rig, async || rig.pass("web-1")).await, [""; 0], "nothing new");
}

#[tokio::test]
async fn no_index_goes_back_when_what_has_no_checks_comes_and_goes() {
    let rig = Rig::new(SHOP).await;
    let bar = json!({"Node": "bar", "Address": "10.0.0.9", "Service": {"Service": "cache"}});
    let queries = ["health/checks/cache", "health/node/bar", "health/service/cache"];
    let indexes = async || {
        let mut indexes = Vec::new();
        for query in queries {
            let answer = rig.get(&format!("/v1/{query}")).await;
            indexes.push(answer.header("x-consul-index").parse::<u64>().unwrap());
        }
        indexes
    };
    let mut before = indexes().await;
    for _ in 0..2 {
        for change in ["register", "deregister"] {
            let answer = rig.put(&format!("/v1/catalog/{change}"), bar.to_string()).await;
            answer.says(200, "true");
            let after = indexes().await;
            assert!(before.iter().zip(&after).all(|(a, b)| a <= b), "{before:?} {after:?}");
            before = after;
        }
    }
}

#[tokio::test]
async fn another_nodes_instance_moves_its_service_its_node_and_the_list() {
    let rig = Rig::new(SHOP).await;
    rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9"})).await;
    let instance = json!({"Node": "foo", "Address": "10.0.0.9", "Service": {"Service": "db"}});
    assert_eq!(
        moved(&rig, async || rig.catalog(instance).await).await,
        ["health/service/db", "catalog/services", "catalog/service/db", "catalog/node/foo"]
    );
}

#[tokio::test]
async fn a_nodes_record_moves_what_shows_it_and_the_services_on_it() {
    let rig = Rig::new(SHOP).await;
    rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9", "Service": {"Service": "db"}})).await;
    let changed = json!({"Node": "foo", "Address": "10.0.0.10"});
    assert_eq!(
        moved(&rig, async || rig.catalog(changed).await).await,
        ["health/service/db", "catalog/service/db", "catalog/nodes", "catalog/node/foo"]
    );
}

#[tokio::test]
async fn a_nodes_own_check_moves_the_services_on_it() {
    let rig = Rig::new(SHOP).await;
    rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9", "Service": {"Service": "db"}})).await;
    let check = json!({"Node": "foo", "SkipNodeUpdate": true, "Check": {"Name": "disk"}});
    assert_eq!(
        moved(&rig, async || rig.catalog(check).await).await,
        ["health/service/db", "health/node/foo", "health/state/any", "catalog/service/db"]
    );
}

#[tokio::test]
async fn our_own_nodes_record_never_changes() {
    let rig = Rig::new(SHOP).await;
    let nodes = rig.get("/v1/catalog/nodes").await;
    rig.pass("web-1");
    rig.fail("db-1");
    rig.ask(Method::PUT, "/v1/agent/maintenance?enable=true").await;
    rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9"})).await;
    rig.catalog(json!({"Node": "node-1", "Address": "10.0.0.10"})).await;
    rig.view.agent.start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    rig.register(&[]).await;
    let now = rig.get("/v1/catalog/nodes").await.json();
    assert_eq!(now[1], nodes.json()[0]);
}

/// Asks, lets a change be made after five seconds, and says when the answer came.
async fn held(rig: &Rig, path: &str, change: impl AsyncFnOnce()) -> (Answered, Duration) {
    let uri = format!(
        "{path}{}index={}&wait=60s",
        if path.contains('?') { '&' } else { '?' },
        rig.index()
    );
    let started = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(
        async {
            let answer = rig.get(&uri).await;
            (answer, started.elapsed())
        },
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            change().await;
        }
    );
    answer
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_service_does_not_wake_who_waits_for_another() {
    let rig = Rig::new(SHOP).await;
    for path in [
        "/v1/health/service/db",
        "/v1/catalog/services",
        "/v1/catalog/nodes",
        "/v1/health/node/foo",
        "/v1/health/checks/db",
        "/v1/catalog/node/node-1",
    ] {
        let known = rig.index();
        let (answer, took) = held(&rig, path, async || {
            rig.fail("web-1");
            rig.pass("web-1");
        })
        .await;
        assert!(took >= Duration::from_secs(60), "{path}: woken after {took:?}");
        assert!(answer.header("x-consul-index").parse::<u64>().unwrap() <= known, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_read_is_woken_by_what_it_shows() {
    let rig = Rig::new(SHOP).await;
    for path in [
        "/v1/health/service/db?passing",
        "/v1/health/checks/db",
        "/v1/health/state/any",
        "/v1/health/node/node-1",
        "/v1/catalog/service/db",
    ] {
        rig.fail("db-1");
        let (_, took) = held(&rig, path, async || rig.pass("db-1")).await;
        assert_eq!(took, Duration::from_secs(5), "{path}");
    }
    for (path, service) in [
        ("/v1/catalog/services", "a"),
        ("/v1/catalog/services?filter=ServicePort==7", "b"),
        ("/v1/catalog/services?node-meta=k:v", "c"),
        ("/v1/catalog/node/foo", "d"),
        ("/v1/catalog/node-services/foo", "e"),
        ("/v1/health/service/f", "f"),
        ("/v1/catalog/service/g", "g"),
    ] {
        let body = json!({"Node": "foo", "Address": "10.0.0.9", "NodeMeta": {"k": "v"},
                          "Service": {"Service": service, "Port": 7}});
        let (answer, took) = held(&rig, path, async || rig.catalog(body).await).await;
        assert_eq!(took, Duration::from_secs(5), "{path}");
        assert!(answer.body.contains(&format!("\"{service}\"")), "{path}: {}", answer.body);
    }
    let node = json!({"Node": "late", "Address": "10.0.0.9",
                      "ID": "5a3c0000-0000-4000-8000-000000000001"});
    let (answer, took) =
        held(&rig, "/v1/catalog/node/5a3c0000-0000-4000-8000-000000000001", async || {
            rig.catalog(node).await;
        })
        .await;
    assert_eq!((took, &answer.json()["Node"]["Node"]), (Duration::from_secs(5), &json!("late")));
}

#[tokio::test(start_paused = true)]
async fn what_stays_absent_wakes_nobody() {
    let rig = Rig::new(SHOP).await;
    for path in [
        "/v1/health/service/none",
        "/v1/catalog/service/none",
        "/v1/health/connect/none",
        "/v1/catalog/node/none",
        "/v1/health/node/none",
        "/v1/catalog/connect/none",
    ] {
        let (_, took) = held(&rig, path, async || {
            let body = json!({"Node": "foo", "Address": "10.0.0.9", "Service": {"Service": "x"}});
            rig.catalog(body).await;
            rig.put("/v1/catalog/deregister", r#"{"Node": "foo"}"#).await;
        })
        .await;
        assert!(took >= Duration::from_secs(60), "{path}: woken after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_instance_of_a_service_is_missed() {
    let rig = Rig::new(SHOP).await;
    let body = json!({"Node": "foo", "Address": "10.0.0.9", "Service": {"Service": "x"}});
    rig.catalog(body).await;
    let (answer, took) = held(&rig, "/v1/health/service/x", async || {
        rig.put("/v1/catalog/deregister", r#"{"Node": "foo", "ServiceID": "x"}"#).await;
    })
    .await;
    assert_eq!((took, &*answer.body), (Duration::from_secs(5), "[]"));
    assert_eq!(answer.header("x-consul-index"), rig.index().to_string());
}

#[tokio::test]
async fn two_thousand_who_wait_for_a_service_are_given_one_and_the_same_answer() {
    let rig = Rig::new(SHOP).await;
    let router = rig.router();
    let uri = format!("/v1/health/service/web?passing&index={}&wait=60s", rig.index());
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..2000 {
        // Tokens and waits are each client's own.
        let request = Request::get(format!("{uri}&token={n}")).body(Body::empty()).unwrap();
        let router = router.clone();
        waiting.spawn(async move {
            let response = router.oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        });
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    rig.pass("web-1");
    let bodies = waiting.join_all().await;
    assert!(bodies[0].starts_with(b"[{\"Node\""), "{:?}", bodies[0]);
    let first = bodies[0].as_ptr();
    assert!(bodies.iter().all(|body| body.as_ptr() == first), "encoded more than once");
}
