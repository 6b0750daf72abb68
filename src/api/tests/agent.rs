//! What the agent shows of itself and of what is registered with it, and the cluster of one.

use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::telemetry::{ALONE, Form};

const WEB: &[&str] = &["web web-1 http http://10.0.0.1:8080/", "web web-2 http http://10.0.0.2/"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_members_are_ourselves() {
    let rig = Rig::new(&[]).await;
    let members = rig.get("/v1/agent/members").await.json();
    let own = rig.get("/v1/agent/self").await.json();
    assert_eq!(members, json!([own["Member"]]));
    assert_eq!(members[0]["Name"], "node-1");
    assert_eq!(members[0]["Tags"]["id"], own["Config"]["NodeID"]);
    let nodes = rig.get("/v1/catalog/nodes").await.json();
    assert_eq!(nodes[0]["ID"], own["Config"]["NodeID"], "one id everywhere");
    let wan = rig.get("/v1/agent/members?wan=1").await.json();
    assert_eq!(wan[0]["Name"], "node-1.dc1");
    assert_eq!(rig.get("/v1/agent/members?filter=Name+==+x").await.body, "[]");
    assert_eq!(rig.get("/v1/agent/members?filter=x+==+x").await.status, 400);
    assert_eq!(rig.get("/v1/status/peers").await.body, "[\"127.0.0.1:8300\"]");
}

#[tokio::test]
async fn the_agent_counts_what_is_registered() {
    let rig = Rig::new(WEB).await;
    let stats = rig.get("/v1/agent/self").await.json()["Stats"]["agent"].clone();
    assert_eq!(
        stats,
        json!({"check_monitors": "2", "check_ttls": "0", "checks": "2", "services": "2"})
    );
    let metrics = rig.get("/v1/agent/metrics").await.json();
    assert_eq!(keys(&metrics), ["Counters", "Gauges", "Points", "Samples", "Timestamp"]);
    let moment = metrics["Timestamp"].as_str().unwrap();
    assert!(moment.ends_with(" +0000 UTC") && moment.len() == 29, "{moment}");
    assert_eq!(metrics["Gauges"][2]["Value"], 3);
    let text = rig.get("/v1/agent/metrics?format=prometheus").await;
    assert!(text.body.contains("rollcall_build_info"), "{}", text.body);
    assert_eq!(rig.get("/v1/agent/version").await.json()["HumanVersion"], "1.21.5");
    assert_eq!(rig.get("/v1/agent/host").await.json()["Host"]["hostname"], "node-1");
}

#[tokio::test]
async fn an_instance_has_a_hash_of_its_own() {
    let rig = Rig::new(WEB).await;
    let answer = rig.get("/v1/agent/service/web-1").await;
    let service = answer.json();
    assert_eq!(service["Address"], "10.0.0.1");
    assert_eq!(service["ContentHash"], answer.header("x-consul-contenthash"));
    assert_eq!(answer.header("x-consul-index"), "");
    for unknown in ["web", "consul"] {
        let answer = rig.get(&format!("/v1/agent/service/{unknown}")).await;
        let said = format!("unknown service ID: {unknown}");
        assert_eq!((answer.status.as_u16(), answer.body), (404, said));
    }
    assert_eq!(rig.get("/v1/agent/service/").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn who_knows_the_hash_waits_until_it_is_another() {
    let rig = Rig::new(WEB).await;
    let known = rig.get("/v1/agent/service/web-1").await.header("x-consul-contenthash").to_owned();
    let uri = format!("/v1/agent/service/web-1?hash={known}&wait=60s");
    let started = tokio::time::Instant::now();
    let same = rig.get(&uri).await;
    assert_eq!(same.header("x-consul-contenthash"), known);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(60) && waited < Duration::from_secs(64), "{waited:?}");
    let started = tokio::time::Instant::now();
    let (other, ()) = tokio::join!(rig.get(&uri), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.register(&["web web-1 http http://10.0.0.7:8080/"]).await;
    });
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(other.json()["Address"], "10.0.0.7");
}

#[tokio::test]
async fn the_agent_shows_the_last_result_before_it_is_published() {
    let rig = Rig::new(WEB).await;
    let check = rig.check("web-1");
    let mut machine = Machine::new(Maintenance::Off);
    let failed = observation(Outcome::Failure(Reason::ConnectionRefused), Answer::None);
    rig.monitor.observe(&check, &mut machine, failed);
    let shown = rig.get("/v1/agent/checks").await.json();
    assert_eq!(shown["web-1:http"]["Output"], "GET it: connection_refused");
    let told = rig.get("/v1/health/checks/web").await.json();
    assert_eq!(told[0]["Output"], "No probe has finished yet.");
}

#[tokio::test]
async fn health_is_told_by_the_status_of_the_answer() {
    let rig = Rig::new(WEB).await;
    let ask = async |path: &str| rig.get(&format!("/v1/agent/health/service/{path}")).await;
    let critical = ask("id/web-1").await;
    assert_eq!(critical.status, 503);
    rig.pass("web-1");
    let passing = ask("id/web-1").await;
    assert_eq!((passing.status.as_u16(), passing.header("x-consul-reason")), (200, "passing"));
    let body = passing.json();
    assert_eq!(keys(&body), ["AggregatedStatus", "Checks", "Service"]);
    assert_eq!(body["AggregatedStatus"], "passing");
    assert_eq!(body["Service"]["ID"], "web-1");
    assert_eq!(body["Checks"].as_array().unwrap().len(), 1);
    assert_eq!(body["Checks"][0]["ModifyIndex"], 0);
    assert_eq!(ask("name/web").await.status, 503, "the worst counts");
    rig.observe("web-2", Outcome::Warning(Reason::Status), Answer::Http(429));
    let all = ask("name/web").await;
    assert_eq!((all.status.as_u16(), all.header("x-consul-reason")), (429, "warning"));
    let body: Value = serde_json::from_str(&all.body).unwrap();
    assert_eq!(body.as_array().unwrap().len(), 2);
    let text = ask("id/web-2?format=text").await;
    assert_eq!((text.status.as_u16(), &*text.body), (429, "warning"));
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    rig.ask(Method::PUT, "/v1/agent/service/maintenance/web-1?enable=true").await;
    let out = ask("id/web-1?format=text").await;
    assert_eq!((out.status.as_u16(), &*out.body), (503, "maintenance"));
}

#[tokio::test]
async fn the_health_of_nobody_is_404() {
    let rig = Rig::new(WEB).await;
    let answer = rig.get("/v1/agent/health/service/id/none").await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(body, json!({"AggregatedStatus": "critical", "Service": null, "Checks": null}));
    let answer = rig.get("/v1/agent/health/service/name/none").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (404, "[]"));
    let request = Request::get("/v1/agent/health/service/id/x%0a").header("accept", "text/plain");
    let answer = answered(rig.router(), request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (404, "ServiceId x\n not found"));
}

#[tokio::test]
async fn maintenance_is_a_row_and_is_restored_from_it() {
    let rig = Rig::new(WEB).await;
    rig.ask(Method::PUT, "/v1/agent/service/maintenance/web-1?enable=true&reason=disk").await;
    rig.ask(Method::PUT, "/v1/agent/maintenance?enable=true&reason=kernel").await;
    let before = rig.index();
    rig.ask(Method::PUT, "/v1/agent/maintenance?enable=true&reason=kernel").await;
    rig.register(WEB).await;
    assert_eq!(rig.index(), before, "what is out already is not taken out again");
    let (sender, _orders) = mpsc::channel(1000);
    let registry = Arc::new(Registry::new(Snapshot::default(), Orders::probed(sender)));
    let store = Arc::clone(&rig.view.store);
    let metrics = crate::metrics::Daemon::new();
    let (again, _heard) =
        Agent::new("node-1".into(), store, Arc::clone(&registry), (metrics, event::Log::new(1)));
    again.start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    assert_eq!(registry.node_maintenance().as_deref(), Some("kernel"));
    assert_eq!(registry.maintenance(&"web-1".parse().unwrap()).as_deref(), Some("disk"));
    again.configure(WEB.iter().map(|text| registration(text)).collect()).await;
    assert_eq!(rig.index(), before);
    again.maintain("web-1", None).await.unwrap();
    again.maintain_node(None).await.unwrap();
    let tables = rig.view.store.read();
    assert!(tables.checks().all(|check| &*check.kind != "maintenance"));
    assert_eq!(registry.node_maintenance(), None);
}

#[tokio::test]
async fn a_new_store_takes_over_what_the_state_file_says_is_out() {
    let rig = Rig::bare();
    let new = |tx: &mut crate::store::Tx<'_>| {
        Ok::<_, Unwritten>(tx.delete(crate::store::Row::from(node_id()).key()))
    };
    rig.view.store.write(new).await.unwrap();
    rig.view.registry.take_out(Some("kernel".into()), [("web-2".parse().unwrap(), "disk".into())]);
    rig.view.agent.start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    rig.register(WEB).await;
    let checks = rig.get("/v1/agent/checks").await.json();
    assert_eq!(checks["_node_maintenance"]["Notes"], "kernel");
    assert_eq!(checks["_service_maintenance:web-2"]["Notes"], "disk");
    assert_eq!(checks["_service_maintenance:web-2"]["Type"], "maintenance");
    assert_eq!(rig.get("/v1/health/state/critical").await.json().as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn the_daemon_stops_when_it_is_told_to_leave() {
    let rig = Rig::new(&[]).await;
    assert_eq!(rig.ask(Method::GET, "/v1/agent/leave").await.status, 405);
    assert!(!rig.view.leave.is_cancelled());
    let answer = rig.ask(Method::PUT, "/v1/agent/leave").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, ""));
    assert!(rig.view.leave.is_cancelled());
}

#[tokio::test]
async fn a_reload_through_the_agent_says_nothing_or_what_is_wrong() {
    let mut rig = Rig::new(&[]).await;
    for (report, status, body) in [
        (Ok("reloaded".to_owned()), 200, ""),
        (Err("line 3: no such field".to_owned()), 500, "line 3: no such field"),
    ] {
        let request = Request::put("/v1/agent/reload").body(Body::empty()).unwrap();
        let (answer, ()) = tokio::join!(answered(rig.router(), request), async {
            rig.reloads.next().await.unwrap().answer(report);
        });
        assert_eq!((answer.status.as_u16(), &*answer.body), (status, body));
    }
}

#[tokio::test]
async fn nodes_are_joined_and_left_as_far_as_there_are_any() {
    let rig = Rig::new(WEB).await;
    let put = async |path: &str| {
        let answer = rig.ask(Method::PUT, &format!("/v1/agent/{path}")).await;
        (answer.status.as_u16(), answer.body)
    };
    assert_eq!(put("join/127.0.0.1").await, (200, String::new()));
    assert_eq!(put("join/127.0.0.1:8301").await, (200, String::new()));
    assert_eq!(put("join/10.0.0.1").await, (500, "join is not supported".to_owned()));
    rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9", "Service": {"Service": "x"}})).await;
    let before = rig.index();
    let said = "agent: No node found with name 'nobody'".to_owned();
    assert_eq!(put("force-leave/nobody").await, (500, said));
    assert_eq!(put("force-leave/node-1").await, (200, String::new()));
    assert_eq!(rig.index(), before);
    assert_eq!(put("force-leave/Foo?prune").await, (200, String::new()));
    assert_eq!(rig.get("/v1/catalog/service/x").await.body, "[]");
}

#[tokio::test]
async fn the_log_is_streamed_until_the_daemon_stops() {
    let rig = Rig::new(&[]).await;
    let wrong = rig.get("/v1/agent/monitor?loglevel=foo").await;
    assert_eq!((wrong.status.as_u16(), &*wrong.body), (400, "Unknown log level: foo"));
    let _alone = ALONE.lock().await;
    let layers = vec![rig.view.log.layer(Form::Text), rig.view.log.layer(Form::Json)];
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layers));
    let listen = async |query: &str| {
        let request = Request::get(format!("/v1/agent/monitor?{query}")).body(Body::empty());
        rig.router().oneshot(request.unwrap()).await.unwrap()
    };
    let text = listen("loglevel=DEBUG").await;
    assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
    let (mut text, mut json) = (text.into_body(), listen("logjson").await.into_body());
    tracing::debug!(n = 1, "one");
    tracing::info!(n = 2, "two");
    let next = async |body: &mut Body| {
        let frame = body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    };
    assert!(next(&mut text).await.unwrap().ends_with(": one n=1\n"));
    assert!(next(&mut text).await.unwrap().ends_with(": two n=2\n"));
    assert!(next(&mut json).await.unwrap().contains(r#""message":"two","n":2"#));
    let mut others = Vec::new();
    while others.len() < 100 && listen("").await.status() == 200 {
        others.push(listen("").await);
    }
    assert_eq!(listen("").await.status(), 429);
    rig.stop.cancel();
    assert_eq!((next(&mut text).await, next(&mut json).await), (None, None));
}

#[tokio::test]
async fn acls_are_off() {
    let rig = Rig::new(&[]).await;
    for (method, path) in [
        (Method::GET, "/v1/acl/tokens"),
        (Method::PUT, "/v1/acl/bootstrap"),
        (Method::DELETE, "/v1/acl/token/x"),
        (Method::PUT, "/v1/agent/token/default"),
    ] {
        let answer = rig.ask(method, path).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.body),
            (401, "ACL support disabled"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_cluster_is_one_server() {
    let rig = Rig::new(WEB).await;
    let raft = rig.get("/v1/operator/raft/configuration").await.json();
    assert_eq!(raft["Index"], 0);
    assert_eq!(
        keys(&raft["Servers"][0]),
        ["Address", "ID", "LastIndex", "Leader", "Node", "ProtocolVersion", "Voter"]
    );
    assert_eq!(raft["Servers"][0]["Address"], "127.0.0.1:8300");
    let health = rig.get("/v1/operator/autopilot/health").await.json();
    assert_eq!((&health["Healthy"], &health["FailureTolerance"]), (&json!(true), &json!(0)));
    let usage = rig.get("/v1/operator/usage").await.json();
    assert_eq!(
        usage["Usage"]["dc1"],
        json!({"Nodes": 1, "Services": 2, "ServiceInstances": 3, "ConnectServiceInstances": {},
               "BillableServiceInstances": 2})
    );
    for (method, path) in [
        (Method::DELETE, "raft/peer?address=x"),
        (Method::POST, "raft/transfer-leader"),
        (Method::GET, "keyring"),
        (Method::DELETE, "keyring"),
    ] {
        assert_eq!(rig.ask(method, &format!("/v1/operator/{path}")).await.status, 500, "{path}");
    }
    for path in ["config", "query", "connect/ca/roots", "snapshot", "peerings", "agent/connect/x"] {
        assert_eq!(rig.get(&format!("/v1/{path}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn autopilots_configuration_is_kept() {
    let rig = Rig::new(&[]).await;
    let path = "/v1/operator/autopilot/configuration";
    let before = rig.get(path).await.json();
    assert_eq!(before["LastContactThreshold"], "200ms");
    let mut wanted = before.clone();
    wanted["MaxTrailingLogs"] = json!(100);
    let put =
        async |query: &str| rig.put(&format!("{path}{query}"), &wanted.to_string()).await.body;
    assert_eq!(put("?cas=99").await, "false");
    assert_eq!(rig.get(path).await.json(), before);
    let cas = before["ModifyIndex"].to_string();
    assert_eq!(put(&format!("?cas={cas}")).await, "true");
    let after = rig.get(path).await.json();
    assert_eq!(after["MaxTrailingLogs"], 100);
    assert_ne!(after["ModifyIndex"], before["ModifyIndex"]);
    assert_eq!(put(&format!("?cas={cas}")).await, "false");
    assert_eq!(put("?cas=x").await, "Invalid cas");
}

#[tokio::test]
async fn our_node_is_at_the_origin() {
    let rig = Rig::new(&[]).await;
    let nodes = rig.get("/v1/coordinate/nodes").await.json();
    let zero = json!({"Vec": [0, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0,
                      "Height": 1e-5});
    assert_eq!(nodes, json!([{"Node": "node-1", "Segment": "", "Coord": zero}]));
    let centres = rig.get("/v1/coordinate/datacenters").await.json();
    assert_eq!(centres, json!([{"Datacenter": "dc1", "AreaID": "wan", "Coordinates": nodes}]));
    assert_eq!(rig.get("/v1/coordinate/node/node-1").await.json(), nodes);
    let unknown = rig.get("/v1/coordinate/node/nobody").await;
    assert_eq!(unknown.status, 404);
    assert_ne!(unknown.header("x-consul-index"), "");
    let update = async |node: &str| {
        let body = json!({"Node": node, "Coord": zero}).to_string();
        rig.put("/v1/coordinate/update", &body).await.status.as_u16()
    };
    assert_eq!((update("node-1").await, update("nobody").await), (200, 500));
    assert_eq!(rig.get("/v1/coordinate/nodes").await.json(), nodes);
    let short = json!({"Node": "node-1", "Coord": {"Vec": [1, 2]}}).to_string();
    let short = rig.put("/v1/coordinate/update", &short).await;
    assert_eq!(short.status, 400);
    assert!(short.body.contains("8 numbers"), "{}", short.body);
}

#[tokio::test]
async fn nodes_are_where_they_say_until_they_go() {
    let rig = Rig::new(&[]).await;
    rig.catalog(json!({"Node": "Zeta", "Address": "10.0.0.9"})).await;
    let index = rig.index();
    let place = json!({"Vec": [0.5, -1, 0, 0, 0, 0, 0, 0], "Error": 0.25, "Adjustment": 1e-3,
                       "Height": 2});
    let update = json!({"Node": "zeta", "Segment": "", "Coord": place}).to_string();
    assert_eq!(rig.put("/v1/coordinate/update", &update).await.status, 200);
    assert_eq!(rig.index(), index + 1);
    let shown = json!([{"Node": "Zeta", "Segment": "", "Coord": place}]);
    let answer = rig.get("/v1/coordinate/node/ZETA").await;
    assert_eq!(answer.json(), shown);
    assert_eq!(answer.header("x-consul-index"), (index + 1).to_string());
    let nodes = rig.get("/v1/coordinate/nodes").await.json();
    assert_eq!((&nodes[0]["Node"], &nodes[1]), (&"node-1".into(), &shown[0]));
    assert_eq!(rig.get("/v1/coordinate/nodes?segment=a").await.json(), json!([]));
    let own = update.replace("zeta", "node-1");
    assert_eq!(rig.put("/v1/coordinate/update", &own).await.status, 200);
    assert_eq!(rig.get("/v1/agent/self").await.json()["Coord"], place);
    // Said again it is no news.
    let index = rig.index();
    assert_eq!(rig.put("/v1/coordinate/update", &update).await.status, 200);
    assert_eq!(rig.index(), index);
    let gone = json!({"Node": "Zeta"}).to_string();
    rig.put("/v1/catalog/deregister", &gone).await;
    assert_eq!(rig.get("/v1/coordinate/node/Zeta").await.status, 404);
    rig.catalog(json!({"Node": "Zeta", "Address": "10.0.0.9"})).await;
    assert_eq!(rig.get("/v1/coordinate/node/Zeta").await.status, 404);
}
