//! The daemon's own routes, and what all routes have in common.

use super::*;

#[tokio::test]
async fn the_daemon_is_healthy_always_and_ready_when_it_says_so() {
    let rig = Rig::new(&[]).await;
    for (readiness, status) in
        [(Readiness::Starting, 503), (Readiness::Ready, 200), (Readiness::Stopping, 503)]
    {
        rig.readiness.send_replace(readiness);
        let ready = rig.get("/-/ready").await;
        assert_eq!(ready.status, status, "{readiness:?}");
        assert_eq!(ready.body.lines().count(), 1);
        assert_eq!(rig.get("/-/healthy").await.status, 200);
    }
    let index = rig.get("/").await;
    assert_eq!(index.status, 200);
    assert!(index.body.contains("/v1/rollcall/events"), "{}", index.body);
}

#[tokio::test]
async fn a_reload_answers_with_its_report() {
    let mut rig = Rig::new(&[]).await;
    for (method, report, status) in [
        (Method::PUT, Ok("1 instance registered\n".to_owned()), 200),
        (Method::POST, Err("line 3: no such field\n".to_owned()), 500),
    ] {
        let router = rig.router();
        let request =
            Request::builder().method(method).uri("/-/reload").body(Body::empty()).unwrap();
        let text = report.clone().unwrap_or_else(|text| text);
        let (answer, ()) = tokio::join!(answered(router, request), async {
            rig.reloads.next().await.unwrap().answer(report);
        });
        assert_eq!((answer.status.as_u16(), answer.body), (status, text));
    }
    drop(rig.reloads);
    let router = router::router(rig.view, &rig.limits, rig.stop);
    let request = Request::put("/-/reload").body(Body::empty()).unwrap();
    let answer = answered(router, request).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (500, "the daemon is stopping"));
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let rig = Rig::new(&[]).await;
    let answer = rig.ask(Method::POST, "/v1/health/state/any").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (405, "method POST not allowed"));
    assert_eq!(answer.header("allow"), "OPTIONS,GET");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    let answer = rig.ask(Method::OPTIONS, "/v1/agent/maintenance").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, ""));
    assert_eq!(answer.header("allow"), "OPTIONS,PUT");
    assert_eq!(rig.ask(Method::GET, "/-/reload").await.header("allow"), "OPTIONS,PUT,POST");
}

#[tokio::test]
async fn an_unknown_path_is_404_in_plain_text() {
    let rig = Rig::new(&[]).await;
    let answer = rig.get("/v1/kv/x").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let rig = Rig::new(&[]).await;
    rig.get("/v1/health/service/one").await;
    rig.get("/v1/health/service/two/three").await;
    rig.get("/nothing").await;
    rig.ask(Method::from_bytes(b"BREW").unwrap(), "/").await;
    let text = rig.get("/metrics").await.body;
    for line in [
        "rollcall_http_requests_total{code=\"200\",handler=\"/v1/health/service/{name}\",method=\"GET\"} 2\n",
        "rollcall_http_requests_total{code=\"404\",handler=\"unmatched\",method=\"GET\"} 1\n",
        "rollcall_http_requests_total{code=\"405\",handler=\"/\",method=\"other\"} 1\n",
        "rollcall_http_request_duration_seconds_count{handler=\"unmatched\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_client_that_asks_too_much_is_told_when_to_come_back() {
    let mut rig = Rig::new(&[]).await;
    rig.limits.requests_per_second = NonZeroU32::MIN;
    rig.limits.request_burst = NonZeroU32::MIN;
    let router = rig.router();
    let ask = async |uri: &str, ip: [u8; 4]| {
        let mut request = Request::get(uri).body(Body::empty()).unwrap();
        request.extensions_mut().insert(super::super::serve::Peer(ip.into()));
        answered(router.clone(), request).await
    };
    assert_eq!(ask("/", [10, 0, 0, 1]).await.status, 200);
    let refused = ask("/", [10, 0, 0, 1]).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(ask("/", [10, 0, 0, 2]).await.status, 200, "another client is not meant");
    for exempt in ["/-/healthy", "/-/ready", "/metrics"] {
        assert_eq!(ask(exempt, [10, 0, 0, 1]).await.status, 200, "{exempt}");
    }
}

#[tokio::test]
async fn signs_of_life_are_taken_also_from_a_client_that_asks_too_much() {
    let mut rig = Rig::new(&[]).await;
    let _keeper = rig.keep_sessions();
    let web = r#"{"ID": "w", "Name": "web", "Check": {"TTL": "10s"}}"#;
    assert_eq!(rig.put("/v1/agent/service/register", web).await.status, 200);
    let made = rig.put("/v1/session/create", "").await.json();
    let session = made["ID"].as_str().unwrap();
    rig.limits.requests_per_second = NonZeroU32::MIN;
    rig.limits.request_burst = NonZeroU32::MIN;
    let router = rig.router();
    let put = async |uri: &str, body: &'static str| {
        let mut request = Request::put(uri).body(Body::from(body)).unwrap();
        request.extensions_mut().insert(super::super::serve::Peer([127, 0, 0, 1].into()));
        answered(router.clone(), request).await.status.as_u16()
    };
    assert_eq!(put("/v1/kv/a", "x").await, 200);
    assert_eq!(put("/v1/kv/a", "x").await, 429);
    for said in ["pass", "warn", "fail"] {
        assert_eq!(put(&format!("/v1/agent/check/{said}/service:w"), "").await, 200, "{said}");
    }
    let update = put("/v1/agent/check/update/service:w", r#"{"Status": "passing"}"#).await;
    let renewed = put(&format!("/v1/session/renew/{session}"), "").await;
    assert_eq!((update, renewed), (200, 200));
    assert_eq!(put("/v1/agent/check/deregister/service:w", "").await, 429);
}

#[tokio::test]
async fn definitions_and_outputs_may_be_as_large_as_values() {
    let rig = Rig::new(&[]).await;
    let long = "x".repeat(400_000);
    let web = format!(r#"{{"Name": "web", "Check": {{"TTL": "10s", "Notes": "{long}"}}}}"#);
    let check = format!(r#"{{"Name": "c", "TTL": "10s", "Notes": "{long}"}}"#);
    let node = format!(
        r#"{{"Node": "n", "Address": "10.0.0.9", "Check": {{"Name": "d", "Output": "{long}"}}}}"#
    );
    let said = format!(r#"{{"Status": "passing", "Output": "{long}"}}"#);
    for (uri, body) in [
        ("/v1/agent/service/register", &web),
        ("/v1/rollcall/register", &web),
        ("/v1/agent/check/register", &check),
        ("/v1/catalog/register", &node),
        ("/v1/agent/check/update/service:web", &said),
    ] {
        for length in [None, Some(body.len())] {
            let request = length.into_iter().fold(Request::put(uri), |request, length| {
                request.header("content-length", length)
            });
            let answer = answered(rig.router(), request.body(Body::from(body.clone())).unwrap());
            assert_eq!(answer.await.status, 200, "{uri}");
        }
        let over = Request::put(uri).header("content-length", 512 * 1024 + 1);
        let answer = answered(rig.router(), over.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 413, "{uri}");
    }
    let output = rig.get("/v1/agent/checks").await.json()["service:web"]["Output"].clone();
    let output = output.as_str().unwrap();
    assert!(output.ends_with("x ... (captured 4096 of 400000 bytes)"), "{}", output.len());
    // Elsewhere also a body of unknown length is not read on and on.
    assert_eq!(rig.put("/v1/session/create", &long).await.status, 413);
}

#[tokio::test]
async fn a_path_that_ends_before_its_id_says_what_is_missing() {
    let rig = Rig::new(&[]).await;
    for said in ["pass", "warn", "fail", "update"] {
        let answer = rig.put(&format!("/v1/agent/check/{said}/"), "").await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (400, "Missing check ID"), "{said}");
    }
    let answer = rig.put("/v1/agent/force-leave/", "").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (400, "Missing node name"));
    let answer = rig.get("/v1/coordinate/node/").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (400, "Missing node name"));
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read() {
    let rig = Rig::new(&[]).await;
    let request = Request::put("/v1/agent/maintenance?enable=true")
        .header("content-length", "65537")
        .body(Body::empty())
        .unwrap();
    assert_eq!(answered(rig.router(), request).await.status, 413);
    assert!(rig.view.registry.node_maintenance().is_none());
}

#[tokio::test]
async fn services_are_listed_with_all_that_is_known() {
    let rig =
        Rig::new(&["web web-1 http http://10.0.0.1:8080/a", "web web-2 http http://10.0.0.2/"])
            .await;
    rig.pass("web-1");
    rig.fail("web-2");
    let answer = rig.get("/v1/rollcall/services").await;
    let services: Vec<native::Service> = serde_json::from_str(&answer.body).unwrap();
    let [service] = &services[..] else { panic!("{services:?}") };
    assert_eq!((&*service.name, &*service.status), ("web", "passing"));
    let [first, second] = &service.instances[..] else { panic!("{service:?}") };
    assert_eq!((&*first.address, &*first.status), ("10.0.0.1:8080", "passing"));
    let check = &first.checks[0];
    assert_eq!(check.target, "http://10.0.0.1:8080/a");
    assert_eq!(check.code.as_deref(), Some("200"));
    assert_eq!(check.latency_seconds, Some(0.012));
    assert_eq!(check.last_probe.as_deref(), Some("2026-11-20T14:00:01.000Z"));
    assert_eq!((check.reason.as_ref(), check.consecutive_failures), (None, 0));
    let check = &second.checks[0];
    assert_eq!(check.reason.as_deref(), Some("connection_refused"));
    assert_eq!((&*check.status, check.consecutive_failures), ("critical", 1));
    assert_eq!(rig.get("/v1/rollcall/services?service=none").await.body, "[]");
}
