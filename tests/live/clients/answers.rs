//! What curl is told: status, headers and words, question by question.

use std::{process::Command, thread, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::Clients;
use crate::rig::run;

/// A question, its body (`-` for none), the status and the text of the answer. A text that ends in
/// `…` is the beginning of what is said.
type Row = (&'static str, &'static str, u16, &'static str);

const OK: u16 = 200;

/// In order: later rows know what earlier ones have registered.
const ROWS: &[Row] = &[
    // Registration.
    ("PUT /v1/agent/service/register", "{}", 400, "Missing service name"),
    ("PUT /v1/agent/service/register", "{", 400, "Request decode failed: …"),
    ("PUT /v1/agent/service/register", r#"{"Name":1}"#, 400, "Request decode failed: …"),
    (
        "PUT /v1/agent/service/register",
        r#"{"Name":"x","Address":"0.0.0.0"}"#,
        400,
        "Invalid service address",
    ),
    (
        "PUT /v1/agent/service/register",
        r#"{"Name":"x","Weights":{"Passing":-1,"Warning":0}}"#,
        400,
        "Invalid Weights: …",
    ),
    (
        "PUT /v1/agent/service/register",
        r#"{"Name":"x","Meta":{"no spaces":"x"}}"#,
        400,
        "Invalid Service Meta: …",
    ),
    (
        "PUT /v1/agent/service/register",
        r#"{"Name":"x","Check":{"TTL":"10s","Status":"well"}}"#,
        400,
        "Status for checks must 'passing', 'warning', 'critical'",
    ),
    (
        "PUT /v1/agent/service/register",
        r#"{"Name":"x","Check":{"TTL":"10s","Interval":"10s"}}"#,
        400,
        "Invalid check: Interval and TTL cannot both be specified",
    ),
    (
        "PUT /v1/agent/service/register",
        r#"{"Name":"x","Check":{"TCP":"localhost:1"}}"#,
        400,
        "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
    ),
    (
        "PUT /v1/agent/service/register",
        r#"{"name":"web","check":{"ttl":"10m"},"Locality":null,"Novelty":1}"#,
        OK,
        "",
    ),
    ("GET /v1/agent/service/register", "-", 405, "method GET not allowed"),
    ("PUT /v1/agent/service/deregister/", "-", 400, "Missing service ID"),
    (
        "PUT /v1/agent/service/deregister/none",
        "-",
        404,
        "Unknown service ID \"none\". Ensure that the service ID is passed, not the service name.",
    ),
    ("PUT /v1/agent/service/maintenance/web", "-", 400, "Missing value for enable"),
    (
        "PUT /v1/agent/service/maintenance/web?enable=perhaps",
        "-",
        400,
        "Invalid value for enable: \"perhaps\"",
    ),
    (
        "PUT /v1/agent/service/maintenance/none?enable=true",
        "-",
        404,
        "Unknown service ID \"none\". Ensure that the service ID is passed, not the service name.",
    ),
    ("GET /v1/agent/service/none", "-", 404, "unknown service ID: none"),
    ("GET /v1/agent/health/service/name/none", "-", 404, "[]"),
    ("GET /v1/agent/health/service/id/web?format=text", "-", 503, "critical"),
    ("PUT /v1/agent/check/pass/service:web", "-", OK, ""),
    ("GET /v1/agent/health/service/id/web?format=text", "-", OK, "passing"),
    ("PUT /v1/agent/check/warn/service%3Aweb?note=slow", "-", OK, ""),
    ("GET /v1/agent/health/service/name/web?format=text", "-", 429, "warning"),
    // Checks.
    ("PUT /v1/agent/check/register", "{}", 400, "Missing check name"),
    (
        "PUT /v1/agent/check/register",
        r#"{"Name":"x","Status":"well","TTL":"1s"}"#,
        400,
        "Bad check status",
    ),
    (
        "PUT /v1/agent/check/register",
        r#"{"Name":"x"}"#,
        400,
        "Invalid check: TTL must be > 0 for TTL checks",
    ),
    (
        "PUT /v1/agent/check/register",
        r#"{"Name":"x","AliasService":"web","TCP":"localhost:1","Interval":"1s"}"#,
        400,
        "Invalid check: Interval cannot be set for Alias checks",
    ),
    (
        "PUT /v1/agent/check/register",
        r#"{"Name":"x","TTL":"1s","ServiceID":"none"}"#,
        404,
        "ServiceID \"none\" does not exist",
    ),
    (
        "PUT /v1/agent/check/deregister/none",
        "-",
        404,
        "Unknown check ID \"none\". Ensure that the check ID is passed, not the check name.",
    ),
    (
        "PUT /v1/agent/check/pass/none",
        "-",
        404,
        "Unknown check ID \"none\". Ensure that the check ID is passed, not the check name.",
    ),
    (
        "PUT /v1/agent/check/update/service:web",
        r#"{"Status":"well"}"#,
        400,
        "Invalid check status: 'well'",
    ),
    (
        "PUT /v1/agent/check/register",
        r#"{"Name":"port","TCP":"127.0.0.1:1","Interval":"10s"}"#,
        OK,
        "",
    ),
    ("PUT /v1/agent/check/pass/port", "-", 500, "CheckID \"port\" does not have associated TTL"),
    // Reads.
    ("GET /v1/health/service/web?passing=perhaps", "-", 400, "Invalid value for ?passing…"),
    ("GET /v1/health/service/web?index=x", "-", 400, "Invalid index"),
    ("GET /v1/health/service/web?index=1&wait=10", "-", 400, "Invalid wait time"),
    (
        "GET /v1/health/service/web?stale&consistent",
        "-",
        400,
        "Cannot specify ?stale with ?consistent, conflicting semantics.",
    ),
    ("GET /v1/health/service/", "-", 400, "Missing service name"),
    ("GET /v1/health/service/none", "-", OK, "[]"),
    ("GET /v1/health/service/web?dc=dc9", "-", 500, "No path to datacenter"),
    ("GET /v1/health/state/perhaps", "-", OK, "[]"),
    ("GET /v1/catalog/service/none", "-", OK, "[]"),
    ("GET /v1/catalog/node/none", "-", OK, "null"),
    ("GET /v1/catalog/datacenters", "-", OK, "[\"dc1\"]"),
    ("GET /v1/catalog/services", "-", OK, r#"{"consul":[],"web":[]}"#),
    ("PUT /v1/catalog/register", "{}", 500, "Must provide node"),
    (
        "PUT /v1/catalog/register",
        r#"{"Node":"n"}"#,
        500,
        "Must provide address if SkipNodeUpdate is not set",
    ),
    ("PUT /v1/catalog/register", r#"{"Node":"n","Address":"10.0.0.1"}"#, OK, "true"),
    ("PUT /v1/catalog/deregister", "{}", 500, "Must provide node"),
    ("PUT /v1/catalog/deregister", r#"{"Node":"n"}"#, OK, "true"),
    // Keys.
    ("GET /v1/kv/none", "-", 404, ""),
    ("GET /v1/kv/none?recurse", "-", 404, ""),
    ("GET /v1/kv/?keys", "-", OK, "[]"),
    ("PUT /v1/kv/a%2Fb", "worth", OK, "true"),
    ("GET /v1/kv/a/b?raw", "-", OK, "worth"),
    ("GET /v1/kv/?keys&separator=/", "-", OK, "[\"a/\"]"),
    ("PUT /v1/kv/a/b?cas=1", "other", OK, "false"),
    ("PUT /v1/kv/a/b?cas=1&acquire=x", "other", 400, "Conflicting flags: …"),
    ("PUT /v1/kv/a/b?acquire=x", "other", 500, "invalid session \"x\""),
    ("PUT /v1/kv/a/b?release=x", "other", OK, "false"),
    ("PUT /v1/kv/", "other", 400, "Missing key name"),
    ("DELETE /v1/kv/none", "-", OK, "true"),
    ("DELETE /v1/kv/a/b?cas=0", "-", OK, "false"),
    ("POST /v1/kv/a/b", "-", 405, "method POST not allowed"),
    ("DELETE /v1/kv/a?recurse", "-", OK, "true"),
    // Sessions, transactions, events.
    ("PUT /v1/session/create", r#"{"Node":"none"}"#, 500, "Missing node registration"),
    (
        "PUT /v1/session/create",
        r#"{"TTL":"1s"}"#,
        500,
        "Invalid Session TTL '1000000000', must be between [10s=24h0m0s]",
    ),
    ("PUT /v1/session/create", r#"{"NodeChecks":["x"]}"#, 500, "Missing check 'x' registration"),
    ("PUT /v1/session/destroy/none", "-", OK, "true"),
    ("PUT /v1/session/renew/none", "-", 404, "Session id 'none' not found"),
    ("GET /v1/session/list", "-", OK, "[]"),
    ("PUT /v1/txn", "{", 400, "Failed to parse body: …"),
    (
        "PUT /v1/txn",
        r#"[{"KV":{"Verb":"get","Key":"none"}}]"#,
        409,
        r#"{"Results":null,"Errors":[…"#,
    ),
    ("GET /v1/event/list", "-", OK, "[]"),
    // The rest.
    ("GET /v1/acl/tokens", "-", 401, "ACL support disabled"),
    ("PUT /v1/agent/token/default", "{}", 401, "ACL support disabled"),
    ("PUT /v1/agent/force-leave/none", "-", 500, "…"),
    ("GET /v1/agent/monitor?loglevel=x", "-", 400, "Unknown log level: x"),
    ("DELETE /v1/operator/raft/peer?address=x", "-", 500, "…"),
    ("GET /v1/operator/keyring", "-", 500, "…"),
    ("GET /v1/no/such/thing", "-", 404, "…"),
];

/// What every read with an index has.
const READ_HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("x-consul-knownleader", "true"),
    ("x-consul-lastcontact", "0"),
    ("x-consul-default-acl-policy", "allow"),
    ("x-consul-effective-consistency", "leader"),
];

/// All reads with an index.
const READS: &[&str] = &[
    "/v1/catalog/nodes",
    "/v1/catalog/services",
    "/v1/catalog/service/web",
    "/v1/catalog/node/none",
    "/v1/catalog/node-services/none",
    "/v1/catalog/connect/web",
    "/v1/health/service/web",
    "/v1/health/checks/web",
    "/v1/health/node/none",
    "/v1/health/state/any",
    "/v1/health/connect/web",
    "/v1/session/list",
    "/v1/session/node/none",
    "/v1/session/info/none",
    "/v1/event/list",
];

/// What curl has heard.
struct Heard {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    fn index(&self) -> u64 {
        self.header("x-consul-index").expect("an index").parse().unwrap()
    }
}

/// Asks with curl.
#[track_caller]
fn curl(port: u16, question: &str, body: &str) -> Heard {
    let (method, path) = question.split_once(' ').unwrap();
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--path-as-is", "--max-time", "20", "-X", method]);
    if body != "-" {
        command.args(["--data-binary", body]);
    }
    let output = run(command.arg(format!("http://127.0.0.1:{port}{path}")));
    assert!(output.status.success(), "{question}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Heard { status, headers: lines.map(header).collect(), body: body.trim_end().to_owned() }
}

pub(super) fn errors_are_word_for_word(clients: &Clients) {
    let daemon = clients.fresh_daemon("answers-daemon");
    let mut wrong = Vec::new();
    for (question, body, status, text) in ROWS {
        let heard = curl(daemon.http, question, body);
        let fits = text.strip_suffix('…').map_or(heard.body == *text, |start| {
            heard.body.starts_with(start) && (status == &OK || !heard.body.is_empty())
        });
        let is_text = heard
            .header("content-type")
            .is_none_or(|kind| kind == "text/plain; charset=utf-8" || *status == 409);
        let is_error = *status >= 400 && !heard.body.is_empty() && *text != "[]";
        if heard.status != *status || !fits || is_error && !is_text {
            let kind = heard.header("content-type").unwrap_or("none");
            wrong.push(format!(
                "{question} {body}\n    wanted {status} {text:?}\n    got    {} {:?} ({kind})",
                heard.status, heard.body
            ));
        }
    }
    let (all, bad) = (ROWS.len(), wrong.len());
    assert!(wrong.is_empty(), "{bad} of {all} are wrong:\n{}", wrong.join("\n"));
    println!("     {all} questions");
}

pub(super) fn reads_have_headers(clients: &Clients) {
    let daemon = clients.fresh_daemon("headers-daemon");
    let get = |path: &str| curl(daemon.http, &format!("GET {path}"), "-");
    for path in READS {
        let heard = get(path);
        assert_eq!(heard.status, OK, "{path}: {}", heard.body);
        for (name, value) in READ_HEADERS {
            assert_eq!(heard.header(name), Some(*value), "{path}: {name}");
        }
        assert!(heard.index() > 0, "{path}");
        let stale = get(&format!("{path}?stale"));
        assert_eq!(stale.header("x-consul-effective-consistency"), Some("stale"), "{path}");
        // The same index waits for the time asked for, and tells the same again.
        let began = Instant::now();
        let waited = get(&format!("{path}?index={}&wait=200ms", heard.index()));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(200) || waited.index() == 1, "{path}: {took:?}");
        assert_eq!((waited.status, waited.index()), (OK, heard.index()), "{path}");
    }
    odd_questions(daemon.http);
    a_change_wakes(daemon.http);
}

/// What is not there, `?pretty`, other methods, and values as they are.
fn odd_questions(port: u16) {
    let get = |path: &str| curl(port, &format!("GET {path}"), "-");
    let missing = get("/v1/kv/none");
    assert!(missing.index() > 0, "also what is not there has an index");
    let pretty = get("/v1/catalog/datacenters?pretty");
    assert_eq!(pretty.body, "[\n    \"dc1\"\n]");
    let options = curl(port, "OPTIONS /v1/agent/self", "-");
    assert_eq!((options.status, options.header("allow")), (OK, Some("OPTIONS,GET")));
    let refused = curl(port, "POST /v1/agent/self", "-");
    assert_eq!(refused.header("allow"), Some("OPTIONS,GET"));
    let raw = curl(port, "PUT /v1/kv/page", "<script>");
    assert_eq!(raw.status, OK);
    let raw = get("/v1/kv/page?raw");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(raw.header(name), Some(value), "{name}");
    }
}

/// A blocked reader is told of a change when it comes, and not when its time is over.
fn a_change_wakes(port: u16) {
    let index = curl(port, "GET /v1/health/service/woken", "-").index();
    let reader = thread::spawn(move || {
        let began = Instant::now();
        let question = format!("GET /v1/health/service/woken?index={index}&wait=15s");
        (curl(port, &question, "-"), began.elapsed())
    });
    thread::sleep(Duration::from_millis(200));
    assert_eq!(curl(port, "PUT /v1/agent/service/register", r#"{"Name":"woken"}"#).status, OK);
    let (heard, took) = reader.join().unwrap();
    let entries: Value = serde_json::from_str(&heard.body).unwrap();
    assert_eq!(entries[0]["Service"]["ID"], "woken");
    assert!(took < Duration::from_secs(5), "woken after {took:?}");
    assert!(heard.index() > index);
}
