//! Whatever clients send to what they write with: no panic, no failure that is ours, and nothing
//! changes when they are refused.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;

use super::*;

const PATHS: &[&str] = &[
    "/v1/kv/",
    "/v1/kv/",
    "/v1/session/create",
    "/v1/session/destroy/",
    "/v1/session/renew/",
    "/v1/session/info/",
    "/v1/session/node/",
    "/v1/session/list",
    "/v1/event/fire/",
    "/v1/event/list",
    "/v1/txn",
    "/v1/agent/service/register",
    "/v1/agent/service/register",
    "/v1/agent/service/deregister/",
    "/v1/agent/service/maintenance/",
    "/v1/agent/check/register",
    "/v1/agent/check/register",
    "/v1/agent/check/deregister/",
    "/v1/agent/check/pass/",
    "/v1/agent/check/update/",
    "/v1/agent/maintenance",
    "/v1/rollcall/register",
    "/v1/rollcall/undo/",
];

const NAMES: &[&str] = &[
    "cas",
    "flags",
    "acquire",
    "release",
    "recurse",
    "keys",
    "separator",
    "raw",
    "index",
    "wait",
    "stale",
    "consistent",
    "dc",
    "node",
    "service",
    "tag",
    "name",
    "pretty",
    "cached",
    "enable",
    "reason",
    "note",
    "replace-existing-checks",
];

const WORDS: &[&str] = &[
    "",
    "a",
    "a/b",
    "node-1",
    "serfHealth",
    "0",
    "1",
    "7",
    "18446744073709551616",
    "-1",
    "10s",
    "1e9h",
    "dc1",
    "(",
    "web",
    "aGk=",
    "true",
];

const VERBS: &[&str] = &[
    "set",
    "cas",
    "lock",
    "unlock",
    "get",
    "get-or-empty",
    "get-tree",
    "check-index",
    "check-session",
    "check-not-exists",
    "delete",
    "delete-tree",
    "delete-cas",
    "",
];

const FIELDS: &[&str] = &[
    "Name",
    "Node",
    "LockDelay",
    "Checks",
    "NodeChecks",
    "ServiceChecks",
    "Behavior",
    "TTL",
    "ID",
    "KV",
    "Service",
    "Check",
    "Verb",
    "Key",
    "Value",
    "Flags",
    "Index",
    "Session",
    "Meta",
    "Definition",
    "Port",
    "Address",
    "CheckID",
    "ModifyIndex",
    "Interval",
    "Timeout",
    "HTTP",
    "TCP",
    "Args",
    "AliasService",
    "Status",
    "Output",
    "Tags",
    "Weights",
    "ServiceID",
    "Connect",
];

/// What Consul answers with 500 though it is the client's fault.
const EXPECTED: &[&str] = &[
    "No path to datacenter",
    "invalid session ",
    "Missing node registration",
    "Missing check ",
    "Check '",
    "Invalid Behavior setting ",
    "Invalid Session TTL ",
    "Session TTL ",
    "Scripts are disabled on this agent",
    "CheckID ",
    "Invalid value for ?cas",
    "Invalid value for ?flags",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| ["%".to_owned(), format!("{byte:02X}")]).collect()
}

fn uri() -> impl Strategy<Value = String> {
    let rest = prop_oneof![
        3 => "[a-c/%.~]{0,4}".prop_map(|rest: String| rest.replace('%', "%2F")),
        1 => vec(any::<u8>(), 0..6)
            .prop_map(|bytes| encoded(&bytes)),
    ];
    let parameter = (select(NAMES), option::of(text())).prop_map(|(name, value)| match value {
        None => name.to_owned(),
        Some(value) => format!("{name}={}", encoded(value.as_bytes())),
    });
    (select(PATHS), rest, vec(parameter, 0..3)).prop_map(|(path, rest, query)| {
        let rest = if path.ends_with('/') { rest } else { String::new() };
        format!("{path}{rest}?{}", query.join("&"))
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let verb = || select(VERBS);
    prop_oneof![
        3 => (verb(), text(), text(), 0..4_u64).prop_map(|(verb, key, value, index)| {
            json!({"KV": {"Verb": verb, "Key": key, "Value": value, "Index": index}})
        }),
        1 => (verb(), text(), text()).prop_map(|(verb, node, address)| {
            json!({"Node": {"Verb": verb, "Node": {"Node": node, "Address": address}}})
        }),
        1 => (verb(), text(), text()).prop_map(|(verb, node, id)| {
            json!({"Service": {"Verb": verb, "Node": node, "Service": {"Service": id}}})
        }),
        1 => (verb(), text(), text(), text()).prop_map(|(verb, node, id, status)| {
            json!({"Check": {"Verb": verb, "Check": {"Node": node, "Name": id, "Status": status}}})
        }),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let field = (select(FIELDS), inner.clone()).prop_map(|(name, value)| (name.into(), value));
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(field, 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What is nearly a registration of a service or of a check.
fn registration() -> impl Strategy<Value = Value> {
    let check = (text(), text(), anything()).prop_map(|(interval, ttl, http)| {
        json!({"Name": "c", "Interval": interval, "TTL": ttl, "HTTP": http})
    });
    (text(), text(), check, any::<i32>(), anything()).prop_map(|(name, id, check, port, meta)| {
        json!({"Name": name, "ID": id, "Check": check, "Port": port, "Meta": meta, "TTL": "10s"})
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        registration().prop_map(|value| value.to_string().into_bytes()),
        vec(any::<u8>(), 0..64),
        anything().prop_map(|value| value.to_string().into_bytes()),
        vec(operation(), 0..4).prop_map(|ops| Value::from(ops).to_string().into_bytes()),
    ]
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![Method::GET, Method::PUT, Method::PUT, Method::PUT, Method::DELETE, Method::POST])
}

async fn send_all(requests: Vec<(Method, String, Vec<u8>)>) {
    let mut rig = Rig::with_node().await;
    let _keeper = rig.keep_sessions();
    let router = rig.router();
    for (method, uri, body) in requests {
        let before = rig.index();
        // While a read is held, sessions may expire.
        let is_held = method == Method::GET;
        let request = Request::builder().method(method).uri(&uri).body(Body::from(body)).unwrap();
        let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        if head.status.is_server_error() {
            assert!(EXPECTED.iter().any(|text| body.starts_with(text)), "{uri}: {body}");
        }
        if !head.status.is_success() && !is_held {
            assert_eq!(rig.index(), before, "{uri}: {} {body}", head.status);
        }
    }
}

proptest! {
    #[test]
    fn no_request_does_harm(requests in vec((method(), uri(), body()), 1..12)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(send_all(requests));
    }
}
