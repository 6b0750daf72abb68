//! Transactions as Consul's clients see them.

use serde_json::json;

use super::*;

impl Rig {
    async fn txn(&self, ops: Value) -> Answered {
        self.put("/v1/txn", ops.to_string()).await
    }

    /// The error of the one operation that fails.
    async fn fails(&self, op: Value) -> String {
        let index = self.index();
        let set = json!({"KV": {"Verb": "set", "Key": "never", "Value": "eA=="}});
        let answer = self.txn(json!([set, op])).await;
        assert_eq!((answer.status.as_u16(), self.index()), (409, index), "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        let outcome: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(outcome["Results"], Value::Null);
        assert_eq!(outcome["Errors"].as_array().unwrap().len(), 1, "{outcome}");
        assert_eq!(outcome["Errors"][0]["OpIndex"], 1);
        outcome["Errors"][0]["What"].as_str().unwrap().to_owned()
    }
}

fn kv(verb: &str, key: &str) -> Value {
    json!({"KV": {"Verb": verb, "Key": key}})
}

#[tokio::test]
async fn all_operations_are_done_under_one_index() {
    let rig = Rig::with_node().await;
    let session = rig.session(json!({})).await;
    let set = |key: &str| json!({"KV": {"verb": "set", "key": key, "value": "aGk=", "flags": 7}});
    let lock = json!({"KV": {"Verb": "lock", "Key": "l", "Value": "eA==", "Session": session}});
    let index = rig.index() + 1;
    let answer =
        rig.txn(json!([set("a"), set("b"), lock, kv("get", "a"), kv("delete", "b")])).await;
    let pair = |key: &str, value: Value| {
        json!({"KV": {"LockIndex": 0, "Key": key, "Flags": 7, "Value": value,
                      "CreateIndex": index, "ModifyIndex": index}})
    };
    let mut locked = pair("l", Value::Null);
    locked["KV"]["Flags"] = json!(0);
    locked["KV"]["LockIndex"] = json!(1);
    locked["KV"]["Session"] = json!(session);
    let results =
        [pair("a", Value::Null), pair("b", Value::Null), locked, pair("a", json!("aGk="))];
    assert_eq!(answer.json(), json!({"Results": results, "Errors": null}));
    assert_eq!(rig.index(), index);
    assert_eq!(rig.get("/v1/kv/b").await.status, 404);
    let gone = rig.txn(json!([kv("delete-tree", "")])).await.json();
    assert_eq!(gone, json!({"Results": null, "Errors": null}));
}

#[tokio::test]
async fn one_failure_undoes_all() {
    let rig = Rig::with_node().await;
    let session = rig.session(json!({})).await;
    rig.put("/v1/kv/a", "x").await.says(200, "true");
    rig.put(&format!("/v1/kv/held?acquire={session}"), "").await.says(200, "true");
    let other = rig.session(json!({})).await;
    let of = |verb: &str, key: &str, field: &str, value: Value| json!({"KV": {"Verb": verb, "Key": key, field: value}});
    for (op, what) in [
        (kv("get", "b"), "key \"b\" doesn't exist".to_owned()),
        (kv("check-not-exists", "a"), "key \"a\" exists".to_owned()),
        (of("cas", "a", "Index", json!(1)), "failed to set key \"a\", index is stale".to_owned()),
        (
            of("delete-cas", "a", "Index", json!(1)),
            "failed to delete key \"a\", index is stale".to_owned(),
        ),
        (
            of("check-index", "a", "Index", json!(1)),
            "failed index check for key \"a\", current modify index 3 != 1".to_owned(),
        ),
        (
            of("check-session", "a", "Session", json!("x")),
            "failed session check for key \"a\", current session \"\" != \"x\"".to_owned(),
        ),
        (
            of("lock", "held", "Session", json!(other)),
            "failed to lock key \"held\", lock is already held".to_owned(),
        ),
        (of("lock", "l", "Session", json!("x")), "invalid session \"x\"".to_owned()),
        (
            of("unlock", "held", "Session", json!(other)),
            "failed to unlock key \"held\", lock isn't held, or is held by another session"
                .to_owned(),
        ),
        (kv("set", ""), "Must provide key".to_owned()),
        (kv("paint", "a"), "unknown KV verb \"paint\"".to_owned()),
        (json!({}), "no operation specified".to_owned()),
    ] {
        assert_eq!(rig.fails(op).await, what);
    }
    rig.put(&format!("/v1/session/destroy/{session}"), "").await.says(200, "true");
    let late = rig.fails(of("lock", "held", "Session", json!(other))).await;
    assert_eq!(late, "failed to lock key \"held\" due to lock delay");
    assert_eq!(rig.get("/v1/kv/never").await.status, 404);
}

#[tokio::test]
async fn reads_alone_carry_what_reads_carry() {
    let rig = Rig::bare();
    rig.put("/v1/kv/a/1", "x").await.says(200, "true");
    rig.put("/v1/kv/a/2", "y").await.says(200, "true");
    let answer = rig.txn(json!([kv("get-tree", "a/"), kv("get-or-empty", "b")])).await;
    assert_eq!(answer.header("x-consul-knownleader"), "true");
    assert_eq!(answer.header("x-consul-lastcontact"), "0");
    assert_eq!(answer.header("content-type"), "application/json");
    let outcome = answer.json();
    assert_eq!((&outcome["Index"], &outcome["KnownLeader"]), (&json!(2), &json!(true)));
    let values: Vec<_> =
        outcome["Results"].as_array().unwrap().iter().map(|r| r["KV"]["Value"].clone()).collect();
    assert_eq!(values, [json!("eA=="), json!("eQ=="), Value::Null]);
    assert_eq!(outcome["Results"][2]["KV"]["ModifyIndex"], 0);
    let checked = json!([
        {"KV": {"Verb": "check-index", "Key": "a/1", "Index": 1}},
        {"KV": {"Verb": "check-session", "Key": "a/1", "Session": ""}},
        kv("check-not-exists", "b"),
    ]);
    let results = rig.txn(checked).await.json()["Results"].clone();
    assert_eq!(results.as_array().unwrap().len(), 2);
    assert_eq!(results[0]["KV"]["Value"], Value::Null);
    assert_eq!(rig.index(), 2);
}

#[tokio::test]
async fn a_transaction_has_limits() {
    let rig = Rig::bare();
    let many = |n: usize| Value::from(vec![kv("set", "a"); n]);
    assert_eq!(rig.txn(many(128)).await.status, 200);
    let answer = rig.txn(many(129)).await;
    answer.says(413, "Transaction contains too many operations (129 > 128)");
    let big = json!([{"KV": {"Verb": "set", "Key": "a", "Value": "A".repeat(520 * 1024)}}]);
    assert_eq!(rig.txn(big).await.status, 413);
    for body in ["", "{}", "[1]", "[{\"KV\": {\"Value\": \"?\"}}]", "[{\"KV\": {\"Flags\": -1}}]"] {
        let answer = rig.put("/v1/txn", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.body.starts_with("Failed to parse body: "), "{}", answer.body);
    }
    assert_eq!(rig.put("/v1/txn?dc=dc2", "[]").await.status, 500);
    assert_eq!(rig.txn(json!([])).await.json()["Results"], Value::Null);
    assert_eq!(rig.index(), 1);
}

fn node(verb: &str, index: u64) -> Value {
    let meta = json!({"external-node": "true", "Key": "v"});
    json!({"Node": {"Verb": verb, "Node": {
        "ID": "B2ED5EF1-0000-4000-8000-000000000000", "Node": "n1", "Address": "10.0.0.1",
        "Datacenter": "dc1", "TaggedAddresses": {"lan": "10.0.0.1"}, "Meta": meta,
        "ModifyIndex": index,
    }}})
}

fn service(verb: &str, index: u64) -> Value {
    json!({"Service": {"Verb": verb, "Node": "n1", "Service": {
        "ID": "web-1", "Service": "web", "Tags": ["a"], "Port": 80, "ModifyIndex": index,
        "Weights": {"Passing": 0, "Warning": 0},
        "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 80}}, "Kind": "typical",
    }}})
}

fn check(verb: &str, status: &str, index: u64) -> Value {
    json!({"Check": {"Verb": verb, "Check": {
        "Node": "n1", "CheckID": "web-1:tcp", "Name": "tcp", "Status": status, "Output": "o",
        "ServiceID": "web-1", "ModifyIndex": index,
        "Definition": {"TCP": "10.0.0.1:80", "Interval": "10s", "HTTP": "", "TLSSkipVerify": false},
    }}})
}

#[tokio::test]
async fn nodes_instances_and_checks_are_written_and_shown() {
    let rig = Rig::bare();
    let ops = json!([node("set", 0), service("cas", 0), check("set", "passing", 0)]);
    let shown = rig.txn(ops).await.json();
    let expected = json!([
        {"Node": {
            "ID": "b2ed5ef1-0000-4000-8000-000000000000", "Node": "n1", "Address": "10.0.0.1",
            "Datacenter": "dc1", "TaggedAddresses": {"lan": "10.0.0.1"},
            "Meta": {"external-node": "true", "Key": "v"}, "CreateIndex": 1, "ModifyIndex": 1,
        }},
        {"Service": {
            "ID": "web-1", "Service": "web", "Tags": ["a"], "Address": "", "Meta": {}, "Port": 80,
            "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false, "Kind": "typical",
            "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 80}},
            "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}}, "Connect": {}, "PeerName": "",
            "CreateIndex": 1, "ModifyIndex": 1,
        }},
        {"Check": {
            "Node": "n1", "CheckID": "web-1:tcp", "Name": "tcp", "Status": "passing", "Notes": "",
            "Output": "o", "ServiceID": "web-1", "ServiceName": "web", "ServiceTags": ["a"],
            "Type": "tcp", "Interval": "10s", "Timeout": "", "ExposedPort": 0,
            "Definition": {"TCP": "10.0.0.1:80", "Interval": "10s"},
            "CreateIndex": 1, "ModifyIndex": 1,
        }},
    ]);
    assert_eq!(shown["Results"], expected);
    let read = json!([
        {"Node": {"Verb": "get", "Node": {"ID": "b2ed5ef1-0000-4000-8000-000000000000"}}},
        service("get", 0),
        check("get", "", 0),
    ]);
    assert_eq!(rig.txn(read).await.json()["Results"], expected);
    let changed = rig.txn(json!([check("cas", "critical", 1)])).await.json();
    assert_eq!(changed["Results"][0]["Check"]["ModifyIndex"], 2);
    let delete = json!([check("delete-cas", "", 2), service("delete", 0), node("delete", 0)]);
    assert_eq!(rig.txn(delete).await.json()["Results"], Value::Null);
    assert_eq!(rig.view.store.read().nodes().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_done_to_the_catalog_is_said() {
    let rig = Rig::bare();
    assert_eq!(rig.fails(service("set", 0)).await, "Missing node registration");
    assert_eq!(rig.fails(check("set", "passing", 0)).await, "Missing node registration");
    assert_eq!(rig.fails(node("get", 0)).await, "node \"n1\" doesn't exist");
    assert_eq!(rig.txn(json!([node("set", 0)])).await.status, 200);
    for (op, what) in [
        (check("set", "passing", 0), "Missing service registration"),
        (node("cas", 7), "failed to set node \"n1\", index is stale"),
        (node("delete-cas", 7), "failed to delete node \"n1\", index is stale"),
        (
            service("delete-cas", 0),
            "failed to delete service \"web-1\" on node \"n1\", index is stale",
        ),
        (node("paint", 0), "unknown Node verb \"paint\""),
        (json!({"Node": {"Verb": "set"}}), "Must provide node"),
        (json!({"Node": {"Verb": "set", "Node": {"Node": "x"}}}), "Must provide address"),
        (json!({"Service": {"Verb": "set"}}), "Must provide node and service ID"),
        (json!({"Check": {"Verb": "set"}}), "Must provide node and check ID"),
    ] {
        assert_eq!(rig.fails(op).await, what);
    }
}

/// An operation on what is on our own node.
fn own(verb: &str, kind: &str, body: &Value) -> Value {
    let mut op = json!({"Verb": verb, kind: body});
    if kind == "Service" {
        op["Node"] = json!("Node-1");
    }
    json!({kind: op})
}

#[tokio::test]
async fn what_the_agent_answers_for_stays_as_it_is() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1:8080/"]).await;
    rig.pass("web-1");
    let shown = async || {
        let node = rig.get("/v1/catalog/node/node-1").await.body;
        (node, rig.get("/v1/health/node/node-1").await.body, rig.index())
    };
    let before = shown().await;
    let kept = [
        ("Node", json!({"Node": "NODE-1", "Address": "1.2.3.4", "Meta": {"a": "b"}})),
        ("Service", json!({"ID": "web-1", "Service": "web", "Tags": ["other"], "Port": 1})),
        ("Service", json!({"ID": "consul", "Service": "consul", "Port": 1})),
        (
            "Check",
            json!({"Node": "node-1", "CheckID": "web-1:http", "Name": "x", "Status": "critical"}),
        ),
        ("Check", json!({"Node": "node-1", "CheckID": "serfHealth", "Status": "critical"})),
    ];
    for (kind, body) in kept {
        let gone = rig.txn(json!([own("delete", kind, &body)])).await.json();
        assert_eq!(gone, json!({"Results": null, "Errors": null}), "{body}");
        let given = rig.txn(json!([own("set", kind, &body)])).await.json();
        let read = rig.txn(json!([own("get", kind, &body)])).await.json();
        assert_eq!(given["Results"], read["Results"], "given back as it is: {body}");
        assert_eq!(shown().await, before, "{body}");
        let mut stale = body.clone();
        stale["ModifyIndex"] = json!(12_345);
        assert_eq!(rig.txn(json!([own("cas", kind, &stale)])).await.status, 409, "{body}");
    }
    let id = node_id().text.to_uppercase();
    let thief = json!({"ID": id, "Node": "thief", "Address": "1.2.3.4"});
    let refused = rig.fails(own("set", "Node", &thief)).await;
    assert_eq!(
        refused,
        format!("Node ID {id} for node \"thief\" aliases existing node \"node-1\"")
    );
    // What the agent does not know may be put there and taken away.
    let other = json!({"Node": "node-1", "CheckID": "disk", "Name": "disk", "Status": "passing"});
    let put = rig.txn(json!([own("set", "Check", &other)])).await.json();
    assert_eq!(put["Results"][0]["Check"]["Status"], "passing");
    assert_eq!(rig.txn(json!([own("delete", "Check", &other)])).await.status, 200);
    assert_eq!((shown().await.0, shown().await.1), (before.0, before.1));
}

#[tokio::test]
async fn of_an_instance_that_leaves_its_tags_to_the_catalog_these_are_set() {
    let rig = Rig::new(&[]).await;
    let web = json!({"ID": "web-1", "Name": "web", "Port": 80, "EnableTagOverride": true});
    rig.put("/v1/agent/service/register", web.to_string()).await.says(200, "");
    let body = json!({"ID": "web-1", "Service": "x", "Tags": ["other"], "Port": 1});
    let given = rig.txn(json!([own("set", "Service", &body)])).await.json();
    let service = &given["Results"][0]["Service"];
    assert_eq!((&service["Service"], &service["Port"]), (&json!("web"), &json!(80)));
    let shown = rig.get("/v1/agent/services").await.json();
    assert_eq!(shown["web-1"]["Tags"], json!(["other"]));
}
