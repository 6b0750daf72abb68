//! The Consul API's shapes, field by field.

use expect_test::expect;
use serde_json::json;

use super::*;

const WEB: &[&str] =
    &["web web-1 http http://10.0.0.1:8080/healthz", "web web-2 http http://10.0.0.2/"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn ids(value: &Value) -> Vec<&str> {
    let entries = value.as_array().unwrap();
    entries.iter().map(|entry| entry["Service"]["ID"].as_str().unwrap()).collect()
}

#[track_caller]
fn shown(value: &Value, expected: &expect_test::Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

async fn first_entry() -> Value {
    let rig = Rig::new(WEB).await;
    rig.pass("web-1");
    let answer = rig.get("/v1/health/service/web").await;
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()[0].clone()
}

#[tokio::test]
async fn an_entry_has_the_node() {
    shown(
        &first_entry().await["Node"],
        &expect![[r#"
        {
          "Address": "127.0.0.1",
          "CreateIndex": 1,
          "Datacenter": "dc1",
          "ID": "e696ecc2-2078-89c3-9b08-af0eece84688",
          "Meta": {
            "consul-network-segment": "",
            "consul-version": "1.21.5"
          },
          "ModifyIndex": 1,
          "Node": "node-1",
          "TaggedAddresses": {
            "lan": "127.0.0.1",
            "lan_ipv4": "127.0.0.1",
            "wan": "127.0.0.1",
            "wan_ipv4": "127.0.0.1"
          }
        }"#]],
    );
}

#[tokio::test]
async fn an_entry_has_the_instance() {
    shown(
        &first_entry().await["Service"],
        &expect![[r#"
        {
          "Address": "10.0.0.1",
          "Connect": {},
          "CreateIndex": 2,
          "EnableTagOverride": false,
          "ID": "web-1",
          "Meta": {
            "team": "shop"
          },
          "ModifyIndex": 2,
          "PeerName": "",
          "Port": 8080,
          "Proxy": {
            "Expose": {},
            "MeshGateway": {},
            "Mode": ""
          },
          "Service": "web",
          "TaggedAddresses": {
            "lan_ipv4": {
              "Address": "10.0.0.1",
              "Port": 8080
            },
            "wan_ipv4": {
              "Address": "10.0.0.1",
              "Port": 8080
            }
          },
          "Tags": [
            "Blue"
          ],
          "Weights": {
            "Passing": 1,
            "Warning": 1
          }
        }"#]],
    );
}

#[tokio::test]
async fn an_entry_has_the_nodes_checks_and_then_the_instances() {
    shown(
        &first_entry().await["Checks"],
        &expect![[r#"
        [
          {
            "CheckID": "serfHealth",
            "CreateIndex": 1,
            "Definition": {},
            "ExposedPort": 0,
            "Interval": "",
            "ModifyIndex": 1,
            "Name": "Serf Health Status",
            "Node": "node-1",
            "Notes": "",
            "Output": "Agent alive and reachable",
            "ServiceID": "",
            "ServiceName": "",
            "ServiceTags": [],
            "Status": "passing",
            "Timeout": "",
            "Type": ""
          },
          {
            "CheckID": "web-1:http",
            "CreateIndex": 2,
            "Definition": {},
            "ExposedPort": 0,
            "Interval": "1m30s",
            "ModifyIndex": 3,
            "Name": "Service 'web' check",
            "Node": "node-1",
            "Notes": "a note",
            "Output": "HTTP GET http://10.0.0.1:8080/healthz: 200 OK",
            "ServiceID": "web-1",
            "ServiceName": "web",
            "ServiceTags": [
              "Blue"
            ],
            "Status": "passing",
            "Timeout": "500ms",
            "Type": "http"
          }
        ]"#]],
    );
}

#[tokio::test]
async fn passing_leaves_only_instances_with_no_other_check() {
    let rig = Rig::new(WEB).await;
    let passing = "/v1/health/service/web?passing";
    assert_eq!(rig.get(passing).await.body, "[]");
    rig.pass("web-1");
    rig.observe("web-2", Outcome::Warning(Reason::Status), Answer::Http(429));
    assert_eq!(ids(&rig.get(passing).await.json()), ["web-1"]);
    assert_eq!(ids(&rig.get("/v1/health/service/web?passing=false").await.json()).len(), 2);
    let refused = rig.get("/v1/health/service/web?passing=perhaps").await;
    assert_eq!((refused.status.as_u16(), &*refused.body), (400, "Invalid value for ?passing"));
    assert_eq!(refused.header("content-type"), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn tags_are_compared_in_any_case_and_all_must_be_there() {
    let rig = Rig::new(WEB).await;
    assert_eq!(ids(&rig.get("/v1/health/service/web?tag=blue").await.json()).len(), 2);
    assert_eq!(rig.get("/v1/health/service/web?tag=blue&tag=red").await.body, "[]");
}

#[tokio::test]
async fn an_unknown_service_is_an_empty_list_and_consul_is_always_there() {
    let rig = Rig::new(WEB).await;
    assert_eq!(rig.get("/v1/health/service/nothing").await.body, "[]");
    assert_eq!(ids(&rig.get("/v1/health/service/consul?passing").await.json()), ["consul"]);
    assert_eq!(keys(&rig.get("/v1/agent/services").await.json()), ["web-1", "web-2"]);
    assert_eq!(rig.get("/v1/health/service/web?peer=other").await.body, "[]");
}

#[tokio::test]
async fn a_check_without_a_verdict_is_shown_critical() {
    let rig = Rig::new(WEB).await;
    let checks = rig.get("/v1/health/checks/web").await.json();
    assert_eq!(checks[0]["Status"], "critical");
    assert_eq!(checks[0]["Output"], "No probe has finished yet.");
    rig.fail("web-1");
    let checks = rig.get("/v1/health/checks/web").await.json();
    assert_eq!(checks[0]["Output"], "GET it: connection_refused");
}

#[tokio::test]
async fn the_nodes_own_check_is_in_the_health_views_and_not_in_the_agents() {
    let rig = Rig::new(&[]).await;
    let any = rig.get("/v1/health/state/any").await.json();
    assert_eq!(any.as_array().unwrap().len(), 1);
    assert_eq!(any[0]["CheckID"], "serfHealth");
    assert_eq!(rig.get("/v1/agent/checks").await.body, "{}");
    assert_eq!(rig.get("/v1/agent/services").await.body, "{}");
    assert_eq!(rig.get("/v1/health/state/strange").await.body, "[]");
}

#[tokio::test]
async fn checks_are_listed_by_state() {
    let rig = Rig::new(WEB).await;
    rig.pass("web-1");
    let of = async |state: &str| {
        let checks = rig.get(&format!("/v1/health/state/{state}")).await.json();
        checks.as_array().unwrap().iter().map(|c| c["CheckID"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("passing").await, ["serfHealth", "web-1:http"]);
    assert_eq!(of("critical").await, ["web-2:http"]);
    assert_eq!(of("any").await, ["serfHealth", "web-1:http", "web-2:http"]);
}

#[tokio::test]
async fn the_agents_objects_have_exactly_consuls_fields() {
    let rig = Rig::new(WEB).await;
    let services = rig.get("/v1/agent/services").await.json();
    let mut fields = [
        "ID",
        "Service",
        "Tags",
        "Meta",
        "Port",
        "Address",
        "TaggedAddresses",
        "Weights",
        "EnableTagOverride",
        "Datacenter",
    ];
    fields.sort_unstable();
    assert_eq!(keys(&services["web-1"]), fields);
    let checks = rig.get("/v1/agent/checks").await.json();
    assert_eq!(keys(&checks), ["web-1:http", "web-2:http"]);
    assert_eq!(checks["web-1:http"]["ModifyIndex"], 0);
    let own = rig.get("/v1/agent/self").await.json();
    assert_eq!(keys(&own), ["Config", "Coord", "DebugConfig", "Member", "Meta", "Stats", "xDS"]);
    assert!(own.as_object().unwrap().values().all(Value::is_object));
    assert_eq!(own["Stats"]["consul"]["leader_addr"], "127.0.0.1:8300");
    assert_eq!(rig.get("/v1/status/leader").await.body, "\"127.0.0.1:8300\"");
}

#[tokio::test]
async fn an_instance_in_maintenance_drops_out_and_says_why() {
    let mut rig = Rig::new(WEB).await;
    rig.pass("web-1");
    rig.pass("web-2");
    let put = "/v1/agent/service/maintenance/web-1?enable=true&reason=moving%20house%07";
    let answer = rig.ask(Method::PUT, put).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, ""));
    rig.obey();
    let entries = rig.get("/v1/health/service/web").await.json();
    let checks = entries[0]["Checks"].as_array().unwrap();
    assert_eq!(checks[2]["CheckID"], "web-1:http");
    assert_eq!(checks[2]["Status"], "passing", "what is probed goes on to be shown");
    let shown = &checks[1];
    assert_eq!(shown["CheckID"], "_service_maintenance:web-1");
    assert_eq!(shown["Status"], "critical");
    assert_eq!(shown["Notes"], "moving house");
    assert_eq!(shown["ServiceID"], "web-1");
    assert_eq!(ids(&rig.get("/v1/health/service/web?passing").await.json()), ["web-2"]);
    assert!(rig.get("/v1/agent/checks").await.body.contains("_service_maintenance:web-1"));
    rig.ask(Method::PUT, "/v1/agent/service/maintenance/web-1?enable=False").await;
    assert_eq!(ids(&rig.get("/v1/health/service/web?passing").await.json()).len(), 2);
}

#[tokio::test]
async fn what_a_success_says_is_shown() {
    let rig = Rig::new(WEB).await;
    let said = Some("disk 7%\nwell".into());
    let said = Observation { detail: said, ..observation(Outcome::Success, Answer::None) };
    rig.monitor.observe(&rig.check("web-1"), &mut Machine::default(), said);
    rig.view.agent.tell(rig.view.registry.news().take_changed()).await.unwrap();
    let checks = rig.get("/v1/health/checks/web").await.json();
    assert_eq!(checks[0]["Output"], "disk 7%\nwell");
}

#[tokio::test]
async fn a_node_in_maintenance_takes_all_instances_out() {
    let rig = Rig::new(WEB).await;
    rig.pass("web-1");
    assert_eq!(rig.ask(Method::PUT, "/v1/agent/maintenance?enable=1").await.status, 200);
    assert_eq!(rig.get("/v1/health/service/web?passing").await.body, "[]");
    let checks = rig.get("/v1/agent/checks").await.json();
    let node = &checks["_node_maintenance"];
    assert_eq!(node["ServiceID"], "");
    assert!(node["Notes"].as_str().unwrap().contains("for this node"), "{node}");
}

#[tokio::test]
async fn maintenance_of_nobody_or_without_a_word_is_refused() {
    let rig = Rig::new(WEB).await;
    let put = async |uri: &str| {
        let answer = rig.ask(Method::PUT, uri).await;
        (answer.status.as_u16(), answer.body)
    };
    let path = "/v1/agent/service/maintenance";
    let said = |status, text: &str| (status, text.to_owned());
    assert_eq!(put(&format!("{path}/web-1")).await, said(400, "Missing value for enable"));
    assert_eq!(
        put(&format!("{path}/web-1?enable=on")).await,
        said(400, "Invalid value for enable: \"on\"")
    );
    assert_eq!(put(&format!("{path}/?enable=true")).await, said(400, "Missing service ID"));
    assert_eq!(
        put(&format!("{path}/web?enable=true")).await,
        said(
            404,
            "Unknown service ID \"web\". Ensure that the service ID is passed, not the service name."
        )
    );
}

#[tokio::test]
async fn an_id_is_all_that_follows_the_prefix_decoded() {
    let rig = Rig::new(&["a/b host:1/x#y http tcp://10.0.0.1:1"]).await;
    for path in ["host:1/x%23y", "host%3A1%2Fx%23y"] {
        let uri = format!("/v1/agent/service/maintenance/{path}?enable=true");
        assert_eq!(rig.ask(Method::PUT, &uri).await.status, 200, "{path}");
    }
    for name in ["a/b", "a%2Fb"] {
        let entries = rig.get(&format!("/v1/health/service/{name}")).await.json();
        assert_eq!(ids(&entries), ["host:1/x#y"]);
    }
}

#[tokio::test]
async fn reads_carry_consuls_headers() {
    let rig = Rig::new(WEB).await;
    let answer = rig.get("/v1/health/service/nothing?stale").await;
    assert_eq!(answer.header("x-consul-index"), "1");
    let answer = rig.get("/v1/health/service/web?stale").await;
    assert_eq!(answer.header("x-consul-index"), rig.index().to_string());
    assert_eq!(answer.header("x-consul-knownleader"), "true");
    assert_eq!(answer.header("x-consul-lastcontact"), "0");
    assert_eq!(answer.header("x-consul-effective-consistency"), "stale");
    assert_eq!(answer.header("x-consul-default-acl-policy"), "allow");
}

#[tokio::test]
async fn what_contradicts_itself_is_refused() {
    let rig = Rig::new(WEB).await;
    let status = async |query: &str| {
        rig.get(&format!("/v1/health/service/web?{query}")).await.status.as_u16()
    };
    assert_eq!(status("stale&consistent").await, 400);
    assert_eq!(status("dc=dc2").await, 500);
    assert_eq!(status("dc=dc1").await, 200);
    assert_eq!(status("index=x").await, 400);
    assert_eq!(status("index=1&wait=5").await, 400);
    assert_eq!(rig.get("/v1/health/service/web?node-meta=a:b").await.json(), json!([]));
}

#[tokio::test]
async fn pretty_indents_by_four() {
    let rig = Rig::new(&[]).await;
    let body = rig.get("/v1/health/state/any?pretty").await.body;
    assert!(body.starts_with("[\n    {\n        \"Node\": \"node-1\",\n"), "{body}");
    assert!(body.ends_with("]\n"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_waits_for_a_change() {
    let rig = Rig::new(WEB).await;
    let known = rig.index();
    let uri = format!("/v1/health/service/web?passing&index={known}&wait=60s");
    let (answer, ()) = tokio::join!(rig.get(&uri), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.pass("web-1");
    });
    assert_eq!(ids(&answer.json()), ["web-1"]);
    assert_eq!(answer.header("x-consul-index"), (known + 1).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_ends_when_the_daemon_stops() {
    let rig = Rig::new(WEB).await;
    let known = rig.index();
    let uri = format!("/v1/health/service/web?index={known}");
    let (answer, ()) = tokio::join!(rig.get(&uri), async { rig.stop.cancel() });
    assert_eq!(ids(&answer.json()).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_without_a_change_ends_with_the_same_index() {
    let rig = Rig::new(WEB).await;
    let known = rig.index().to_string();
    let started = tokio::time::Instant::now();
    let answer = rig.get(&format!("/v1/health/state/any?index={known}&wait=16s")).await;
    assert_eq!(answer.header("x-consul-index"), known);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(16) && waited < Duration::from_secs(17), "{waited:?}");
    let answer = rig.get("/v1/health/state/any?index=99999&wait=1h").await;
    assert_eq!(answer.header("x-consul-index"), known, "an index of the future does not wait");
}
