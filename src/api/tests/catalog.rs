//! The catalog: what is shown of it, and what others write into it.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const WEB: &[&str] = &["web web-1 http http://10.0.0.1:8080/", "web web-2 http http://10.0.0.2/"];

const REGISTER: &str = "/v1/catalog/register";
const DEREGISTER: &str = "/v1/catalog/deregister";

/// What stands under a pointer in each of a list.
#[track_caller]
fn each(value: &Value, pointer: &str) -> Vec<String> {
    let text = |item: &Value| item.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    value.as_array().unwrap().iter().map(text).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A node with an instance of a service and a check of it that passes.
fn foo() -> Value {
    json!({
        "Node": "foo", "Address": "10.1.10.11",
        "Service": {"ID": "redis-1", "Service": "redis", "Tags": ["v1", "Master"], "Port": 8000},
        "Check": {"CheckID": "service:redis-1", "Name": "Redis", "Status": "passing",
                  "ServiceID": "redis-1"},
    })
}

#[tokio::test]
async fn a_fresh_catalog_holds_our_node_with_consul_itself() {
    let rig = Rig::new(&[]).await;
    let nodes = rig.get("/v1/catalog/nodes").await.json();
    assert_eq!(each(&nodes, "/Node"), ["node-1"]);
    assert_eq!(rig.get("/v1/catalog/services").await.body, r#"{"consul":[]}"#);
    assert_eq!(rig.get("/v1/catalog/datacenters").await.body, r#"["dc1"]"#);
    let node = rig.get("/v1/catalog/node/NODE-1").await.json();
    assert_eq!(node["Node"], nodes[0]);
    assert_eq!(keys(&node["Services"]), ["consul"]);
    assert_eq!(node["Services"]["consul"]["Port"], 8300);
    let id = nodes[0]["ID"].as_str().unwrap();
    let by_id = format!("/v1/catalog/node/{}", id.to_uppercase());
    assert_eq!(rig.get(&by_id).await.json(), node);
}

#[tokio::test]
async fn services_are_listed_with_all_their_tags_sorted() {
    let rig = Rig::new(WEB).await;
    rig.catalog(foo()).await;
    let second = json!({"Node": "bar", "Address": "10.0.0.9",
                        "Service": {"Service": "redis", "Tags": ["v1", "b"]}});
    rig.catalog(second).await;
    let services = rig.get("/v1/catalog/services").await.body;
    assert_eq!(services, r#"{"consul":[],"redis":["Master","b","v1"],"web":["Blue"]}"#);
    let filtered = rig.get("/v1/catalog/services?filter=b+in+ServiceTags").await.body;
    assert_eq!(filtered, r#"{"redis":["b","v1"]}"#);
    assert_eq!(rig.get("/v1/catalog/services?node-meta=a:b").await.body, "{}");
}

#[tokio::test]
async fn an_instance_is_shown_with_consuls_fields() {
    let rig = Rig::new(WEB).await;
    let mut fields = [
        "ID",
        "Node",
        "Address",
        "Datacenter",
        "TaggedAddresses",
        "NodeMeta",
        "ServiceKind",
        "ServiceID",
        "ServiceName",
        "ServiceTags",
        "ServiceAddress",
        "ServiceTaggedAddresses",
        "ServiceWeights",
        "ServiceMeta",
        "ServicePort",
        "ServiceSocketPath",
        "ServiceEnableTagOverride",
        "ServiceProxy",
        "ServiceConnect",
        "ServiceLocality",
        "CreateIndex",
        "ModifyIndex",
    ];
    fields.sort_unstable();
    let web = rig.get("/v1/catalog/service/web").await.json();
    assert_eq!(keys(&web[0]), fields);
    assert_eq!(each(&web, "/ServiceID"), ["web-1", "web-2"]);
    assert_eq!(web[0]["ServiceAddress"], "10.0.0.1");
    assert_eq!(web[0]["Address"], "127.0.0.1");
    assert_eq!(web[0]["ServiceProxy"], json!({"Mode": "", "MeshGateway": {}, "Expose": {}}));
    rig.catalog(foo()).await;
    let redis = rig.get("/v1/catalog/service/redis").await.json();
    assert_eq!(redis[0]["TaggedAddresses"], json!(null));
    assert_eq!(redis[0]["NodeMeta"], json!(null));
    assert_eq!(redis[0]["ServiceMeta"], json!({}));
    assert_eq!(redis[0]["ServiceAddress"], "", "clients take the node's");
    assert!(redis[0].get("ServiceTaggedAddresses").is_none());
}

#[tokio::test]
async fn instances_come_by_node_and_id_in_catalog_and_health_alike() {
    let rig = Rig::new(WEB).await;
    for (node, id) in [("zeta", "web-0"), ("alpha", "web-9"), ("alpha", "web-3")] {
        rig.catalog(json!({"Node": node, "Address": "10.0.0.9",
                           "Service": {"ID": id, "Service": "web", "Tags": ["RED", "x"]}}))
            .await;
    }
    let order = ["web-3", "web-9", "web-1", "web-2", "web-0"];
    assert_eq!(each(&rig.get("/v1/catalog/service/web").await.json(), "/ServiceID"), order);
    assert_eq!(each(&rig.get("/v1/health/service/WEB").await.json(), "/Service/ID"), order);
    let near = rig.get("/v1/catalog/service/web?near=_agent").await.json();
    assert_eq!(each(&near, "/ServiceID"), ["web-1", "web-2", "web-3", "web-9", "web-0"]);
    let near = rig.get("/v1/health/service/web?near=ZETA").await.json();
    assert_eq!(each(&near, "/Service/ID")[0], "web-0");
    let near = rig.get("/v1/catalog/nodes?near=zeta").await.json();
    assert_eq!(each(&near, "/Node"), ["zeta", "alpha", "node-1"]);
    let red = rig.get("/v1/catalog/service/web?tag=red&tag=X").await.json();
    assert_eq!(each(&red, "/ServiceID"), ["web-3", "web-9", "web-0"]);
    assert_eq!(rig.get("/v1/catalog/service/web?tag=red&tag=blue").await.body, "[]");
    assert_eq!(rig.get("/v1/catalog/service/web?peer=far").await.body, "[]");
}

#[tokio::test]
async fn nodes_are_chosen_by_their_metadata() {
    let rig = Rig::new(&[]).await;
    for (node, zone) in [("a", "z:1"), ("b", "z2")] {
        rig.catalog(
            json!({"Node": node, "Address": "10.0.0.9", "NodeMeta": {"zone": zone, "k": "v"},
                           "Service": {"Service": "db"},
                           "Check": {"Name": "alive", "Status": "warning"}}),
        )
        .await;
    }
    let zone = "node-meta=zone:z:1&node-meta=k:v";
    for (path, pointer) in [
        ("catalog/nodes", "/Node"),
        ("catalog/service/db", "/Node"),
        ("health/service/db", "/Node/Node"),
        ("health/state/any", "/Node"),
        ("health/node/a", "/Node"),
    ] {
        let shown = rig.get(&format!("/v1/{path}?{zone}")).await.json();
        assert_eq!(each(&shown, pointer), ["a"], "{path}");
    }
    let filtered = rig.get("/v1/catalog/nodes?filter=Meta.zone==z2").await.json();
    assert_eq!(each(&filtered, "/Node"), ["b"]);
    assert_eq!(each(&rig.get("/v1/health/state/warning").await.json(), "/Node"), ["a", "b"]);
}

#[tokio::test]
async fn a_node_is_shown_with_its_services_as_map_and_as_list() {
    let rig = Rig::new(&[]).await;
    rig.catalog(foo()).await;
    let node = rig.get("/v1/catalog/node/foo").await.json();
    let redis = &node["Services"]["redis-1"];
    assert_eq!(redis["Service"], "redis");
    assert_eq!(redis["Weights"], json!({"Passing": 1, "Warning": 1}));
    let listed = rig.get("/v1/catalog/node-services/foo").await.json();
    assert_eq!(listed["Services"], json!([redis]));
    let filtered = rig.get("/v1/catalog/node/foo?filter=Service+==+none").await.json();
    assert_eq!(filtered["Services"], json!({}));
    for path in ["node", "node-services"] {
        let unknown = rig.get(&format!("/v1/catalog/{path}/nobody")).await;
        assert_eq!((unknown.status.as_u16(), &*unknown.body), (200, "null"));
        assert_ne!(unknown.header("x-consul-index"), "");
    }
}

#[tokio::test]
async fn a_registered_check_says_what_was_said_of_it() {
    let rig = Rig::new(&[]).await;
    let mut body = foo();
    body["Check"]["Definition"] = json!({
        "HTTP": "http://10.1.10.11/", "IntervalDuration": 10_000_000_000_u64, "Timeout": "1m30s",
        "Header": {"X": ["y"]}, "TLSSkipVerify": false, "Method": "", "unknown": 1,
    });
    body["Checks"] = json!([{"Name": "disk"}]);
    rig.catalog(body).await;
    let checks = rig.get("/v1/health/node/foo").await.json();
    assert_eq!(each(&checks, "/CheckID"), ["disk", "service:redis-1"]);
    assert_eq!(checks[0]["Status"], "critical", "unless it is said");
    assert_eq!(checks[0]["ServiceID"], "");
    let check = &checks[1];
    assert_eq!(check["ServiceName"], "redis");
    assert_eq!(check["ServiceTags"], json!(["v1", "Master"]));
    assert_eq!(check["Type"], "http");
    assert_eq!(
        check["Definition"],
        json!({"HTTP": "http://10.1.10.11/", "Interval": "10s", "Timeout": "1m30s",
               "Header": {"X": ["y"]}})
    );
    let entry = rig.get("/v1/health/service/redis").await.json();
    assert_eq!(each(&entry[0]["Checks"], "/CheckID"), ["disk", "service:redis-1"]);
    assert_eq!(rig.get("/v1/health/service/redis?passing").await.body, "[]");
    assert_eq!(rig.get("/v1/agent/checks").await.body, "{}", "not the agent's");
    assert_eq!(rig.get("/v1/agent/services").await.body, "{}");
}

#[tokio::test]
async fn what_the_catalog_cannot_take_is_refused_and_changes_nothing() {
    let rig = Rig::new(WEB).await;
    let before = rig.index();
    for (body, status, said) in [
        (json!({}), 500, "Must provide node"),
        (json!({"Node": "a"}), 500, "Must provide address if SkipNodeUpdate is not set"),
        (json!({"Node": "a", "Address": "b", "ID": "x"}), 500, "Bad node ID: \"x\" is not a UUID"),
        (
            json!({"Node": "a", "Address": "b", "Service": {"ID": "x"}}),
            500,
            "Must provide service name (Service.Service) when service ID is provided",
        ),
        (
            json!({"Node": "a", "Address": "b", "Service": {"Service": "x", "Address": "::"}}),
            500,
            "Invalid service address",
        ),
        (
            json!({"Node": "a", "Address": "b", "Check": {"Name": "c", "ServiceID": "none"}}),
            500,
            "Missing service registration",
        ),
        (json!({"Node": "a", "Address": "b", "Datacenter": "dc2"}), 500, "No path to datacenter"),
        (
            json!({"Node": "a", "Address": "b", "Service": {"Service": "x", "Port": 65536}}),
            400,
            "Request decode failed: Service.Port: ",
        ),
        (json!("x"), 400, "Request decode failed: "),
    ] {
        let answer = rig.put(REGISTER, &body.to_string()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.starts_with(said), "{body}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    let refused = rig.put(DEREGISTER, "{}").await;
    assert_eq!((refused.status.as_u16(), &*refused.body), (500, "Must provide node"));
    assert_eq!(rig.put(DEREGISTER, "{").await.status, 400);
    for path in [REGISTER, DEREGISTER] {
        let refused = rig.put(&format!("{path}?dc=dc2"), &foo().to_string()).await;
        assert_eq!((refused.status.as_u16(), &*refused.body), (500, "No path to datacenter"));
    }
    assert_eq!(rig.index(), before);
}

#[tokio::test]
async fn what_is_removed_goes_with_all_that_hangs_on_it() {
    let rig = Rig::new(&[]).await;
    let remove = async |body: Value| {
        let answer = rig.put(DEREGISTER, &body.to_string()).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, "true"), "{body}");
    };
    let mut node = foo();
    node["Checks"] = json!([{"Name": "disk"}, {"Name": "cpu"}]);
    rig.catalog(node).await;
    let checks = async || each(&rig.get("/v1/health/node/foo").await.json(), "/CheckID");
    remove(json!({"Node": "foo", "CheckID": "cpu"})).await;
    assert_eq!(checks().await, ["disk", "service:redis-1"]);
    remove(json!({"Node": "Foo", "ServiceID": "redis-1"})).await;
    assert_eq!(checks().await, ["disk"]);
    assert_eq!(rig.get("/v1/catalog/service/redis").await.body, "[]");
    remove(json!({"Node": "foo"})).await;
    assert_eq!(rig.get("/v1/catalog/node/foo").await.body, "null");
    let before = rig.index();
    remove(json!({"Node": "foo"})).await;
    assert_eq!(rig.index(), before, "there was nothing to remove");
}

#[tokio::test]
async fn the_same_registration_again_changes_nothing() {
    let rig = Rig::new(&[]).await;
    rig.catalog(foo()).await;
    let before = rig.index();
    let mut again = foo();
    again["Node"] = json!("FOO");
    rig.catalog(again).await;
    assert_eq!(rig.index(), before);
    let lower =
        foo().to_string().replace("\"Node\"", "\"node\"").replace("ServiceID", "service_id");
    assert_eq!(rig.put(REGISTER, &lower).await.body, "true");
    assert_eq!(rig.index(), before);
}

#[tokio::test]
async fn a_node_with_the_id_of_another_is_that_one_renamed() {
    let rig = Rig::new(&[]).await;
    let id = "5A3C0000-0000-4000-8000-000000000001";
    rig.catalog(json!({"ID": id, "Node": "old", "Address": "10.0.0.9"})).await;
    rig.catalog(json!({"ID": id, "Node": "new", "Address": "10.0.0.9"})).await;
    assert_eq!(each(&rig.get("/v1/catalog/nodes").await.json(), "/Node"), ["new", "node-1"]);
    let ours = rig.get("/v1/agent/self").await.json()["Config"]["NodeID"].clone();
    let body = json!({"ID": ours, "Node": "thief", "Address": "10.0.0.9"});
    assert_eq!(rig.put(REGISTER, &body.to_string()).await.status, 500);
}

#[tokio::test]
async fn what_the_agent_answers_for_stays_as_it_is() {
    let rig = Rig::new(WEB).await;
    rig.pass("web-1");
    let before = rig.index();
    for body in [
        json!({"Node": "node-1"}),
        json!({"Node": "NODE-1", "ServiceID": "web-1"}),
        json!({"Node": "node-1", "CheckID": "web-1:http"}),
        json!({"Node": "node-1", "ServiceID": "consul"}),
        json!({"Node": "node-1", "CheckID": "serfHealth"}),
    ] {
        assert_eq!(rig.put(DEREGISTER, &body.to_string()).await.body, "true", "{body}");
    }
    rig.catalog(json!({
        "Node": "Node-1", "Address": "1.2.3.4", "NodeMeta": {"a": "b"},
        "Service": {"ID": "web-1", "Service": "web", "Tags": ["other"], "Port": 1},
        "Checks": [{"CheckID": "web-1:http", "Status": "critical"},
                   {"CheckID": "serfHealth", "Status": "critical"}],
    }))
    .await;
    assert_eq!(rig.index(), before);
}

#[tokio::test]
async fn an_instance_may_leave_its_tags_to_the_catalog() {
    let rig = Rig::new(WEB).await;
    rig.view
        .store
        .write(|tx| {
            let mut row =
                crate::store::row::Service::clone(tx.instance("node-1", "web-1").unwrap());
            let extras =
                crate::store::row::Extras { enable_tag_override: true, ..Default::default() };
            row.extras = Some(extras.into());
            Ok::<_, Unwritten>(tx.put(row))
        })
        .await
        .unwrap();
    rig.catalog(json!({"Node": "node-1", "SkipNodeUpdate": true,
                       "Service": {"ID": "web-1", "Service": "x", "Tags": ["other"], "Port": 1}}))
        .await;
    let shown = rig.get("/v1/agent/services").await.json();
    assert_eq!(shown["web-1"]["Tags"], json!(["other"]));
    assert_eq!(
        (&shown["web-1"]["Service"], &shown["web-1"]["Port"]),
        (&json!("web"), &json!(8080))
    );
}

#[tokio::test]
async fn what_others_put_on_our_node_goes_with_the_next_sweep() {
    let rig = Rig::new(WEB).await;
    rig.catalog(foo()).await;
    let mut foreign = foo();
    foreign["Node"] = json!("node-1");
    foreign["Checks"] = json!([{"Name": "disk"}, {"Name": "more", "ServiceID": "web-1"}]);
    rig.catalog(foreign).await;
    let on = async |path: &str| rig.get(path).await.json();
    assert_eq!(each(&on("/v1/catalog/service/redis").await, "/Node"), ["foo", "node-1"]);
    assert_eq!(rig.view.agent.sweep_foreign().await.unwrap(), 3);
    assert_eq!(each(&on("/v1/catalog/service/redis").await, "/Node"), ["foo"]);
    let checks = each(&on("/v1/health/node/node-1").await, "/CheckID");
    assert_eq!(checks, ["serfHealth", "web-1:http", "web-2:http"]);
    let before = rig.index();
    assert_eq!(rig.view.agent.sweep_foreign().await.unwrap(), 0);
    assert_eq!(rig.index(), before);
    assert_eq!(keys(&on("/v1/catalog/services").await), ["consul", "redis", "web"]);
}

#[tokio::test(start_paused = true)]
async fn our_node_is_swept_every_minute() {
    let rig = Rig::new(&[]).await;
    let stop = CancellationToken::new();
    let shown = async || rig.get("/v1/catalog/service/x").await.body != "[]";
    tokio::join!(Arc::clone(&rig.view.agent).sweep(stop.clone()), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.catalog(json!({"Node": "node-1", "SkipNodeUpdate": true, "Service": {"Service": "x"}}))
            .await;
        tokio::time::sleep(Duration::from_secs(58)).await;
        assert!(shown().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!shown().await);
        stop.cancel();
    });
}

#[tokio::test]
async fn proxies_and_what_is_native_are_found_through_the_mesh() {
    let rig = Rig::new(WEB).await;
    for path in [
        "catalog/connect/web",
        "health/connect/web",
        "health/ingress/web",
        "catalog/gateway-services/web",
    ] {
        assert_eq!(rig.get(&format!("/v1/{path}")).await.body, "[]", "{path}");
    }
    for service in [
        json!({"Service": "web-proxy", "Kind": "connect-proxy",
               "Proxy": {"DestinationServiceName": "web"}}),
        json!({"ID": "native", "Service": "web", "Connect": {"Native": true}}),
    ] {
        rig.catalog(json!({"Node": "foo", "Address": "10.0.0.9", "Service": service})).await;
    }
    let shown = rig.get("/v1/catalog/connect/web").await.json();
    assert_eq!(each(&shown, "/ServiceID"), ["native", "web-proxy"]);
    assert_eq!(shown[1]["ServiceKind"], "connect-proxy");
    assert_eq!(
        shown[1]["ServiceProxy"],
        json!({"DestinationServiceName": "web", "Mode": "", "MeshGateway": {}, "Expose": {}})
    );
    let shown = rig.get("/v1/health/connect/web").await.json();
    assert_eq!(each(&shown, "/Service/ID"), ["native", "web-proxy"]);
}

const READS: &[&str] = &[
    "/v1/health/service/web",
    "/v1/health/checks/web",
    "/v1/health/node/node-1",
    "/v1/health/state/any",
    "/v1/health/connect/web",
    "/v1/health/ingress/web",
    "/v1/catalog/services",
    "/v1/catalog/service/web",
    "/v1/catalog/connect/web",
    "/v1/catalog/gateway-services/web",
    "/v1/catalog/nodes",
    "/v1/catalog/node/node-1",
    "/v1/catalog/node-services/node-1",
];

#[tokio::test]
async fn every_read_has_an_index_and_refuses_what_contradicts_itself() {
    let rig = Rig::new(WEB).await;
    for path in READS {
        let answer = rig.get(&format!("{path}?cached")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("x-consul-index").parse::<u64>().unwrap() > 0, "{path}");
        assert_eq!(answer.header("x-consul-knownleader"), "true", "{path}");
        assert_eq!(answer.header("x-cache"), "MISS", "{path}");
        for (query, status) in [
            ("stale&consistent", 400),
            ("cached&consistent", 400),
            ("max_stale=soon", 400),
            ("max_stale=10s", 200),
            ("index=-1", 400),
            ("wait=1", 400),
            ("dc=dc2", 500),
        ] {
            let answer = rig.get(&format!("{path}?{query}")).await;
            assert_eq!(answer.status, status, "{path}?{query}");
        }
        let request = Request::get(*path).header("cache-control", "max-age=x");
        let answer = answered(rig.router(), request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (400, "Invalid Cache-Control header."));
    }
}

#[tokio::test]
async fn methods_are_as_consul_has_them() {
    let rig = Rig::new(WEB).await;
    for path in READS {
        let head = rig.ask(Method::HEAD, path).await;
        assert_eq!((head.status.as_u16(), &*head.body), (200, ""), "{path}");
        assert_ne!(head.header("x-consul-index"), "", "{path}");
        let answer = rig.ask(Method::DELETE, path).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "OPTIONS,GET"));
        let answer = rig.ask(Method::OPTIONS, path).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (200, "OPTIONS,GET"));
        let Some((prefix, _)) = path.rsplit_once('/').filter(|_| path.matches('/').count() == 4)
        else {
            continue;
        };
        let answer = rig.get(&format!("{prefix}/")).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.starts_with("Missing "), "{path}: {}", answer.body);
    }
    for path in [REGISTER, DEREGISTER] {
        let answer = rig.ask(Method::POST, path).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "OPTIONS,PUT"));
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["(node-1|foo|web|web-1|redis|)", "\\PC{0,8}"]
}

fn body() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        name().prop_map(Value::from),
    ];
    let keys = "(Node|Address|ID|Service|Check|Checks|CheckID|ServiceID|Tags|Port|Definition|\
                TaggedAddresses|NodeMeta|SkipNodeUpdate|Datacenter|Interval|Weights|Name)";
    let tree = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(keys, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop_oneof![tree.prop_map(|tree| tree.to_string()), "\\PC{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn strange_queries_are_answered_or_refused(
        query in prop::collection::vec(
            ("(index|wait|filter|near|node-meta|tag|passing|dc|peer|stale|pretty|max_stale|hash)",
             name()), 0..4),
        path in prop::sample::select(READS),
    ) {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        now(async {
            let rig = Rig::new(WEB).await;
            let before = rig.index();
            let answer = rig.get(&format!("{path}?{query}")).await;
            let is_expected = matches!(answer.status.as_u16(), 200 | 400)
                || answer.body == "No path to datacenter";
            assert!(is_expected, "{path}?{query}: {} {}", answer.status, answer.body);
            assert_eq!(rig.index(), before);
        });
    }

    #[test]
    fn strange_bodies_are_taken_or_refused_whole(
        body in body(),
        path in prop::sample::select(vec![REGISTER, DEREGISTER]),
    ) {
        const SAID: &[&str] = &[
            "Must provide", "Missing", "Bad node ID", "Invalid service address", "No path",
            "Node ID", "check node",
        ];
        now(async {
            let rig = Rig::new(WEB).await;
            let before = rig.index();
            let answer = rig.put(path, &body).await;
            if answer.status == 200 {
                assert_eq!(answer.body, "true");
                return;
            }
            let is_expected = answer.status == 400
                || SAID.iter().any(|said| answer.body.starts_with(said));
            assert!(is_expected, "{path} {body}: {} {}", answer.status, answer.body);
            assert_eq!(rig.index(), before);
        });
    }
}
