//! What is read leniently and what is refused.

use std::collections::BTreeMap;

use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: Option<String>,
    name: String,
    port: u16,
    enable_tag_override: bool,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    tagged_addresses: BTreeMap<String, Address>,
    check: Option<Box<Check>>,
    checks: Vec<Check>,
    proxy: Value,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Address {
    address: String,
    port: u16,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "ServiceID")]
    service_id: String,
    #[serde(rename = "TTL")]
    ttl: String,
    #[serde(rename = "H2PING")]
    h2ping: String,
    #[serde(alias = "Args")]
    script_args: Vec<String>,
    header: BTreeMap<String, Vec<String>>,
    status: Option<Status>,
    output_max_size: i32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Passing,
    Critical,
}

#[track_caller]
fn read<T: DeserializeOwned>(body: &str) -> T {
    decode(body.as_bytes()).unwrap()
}

async fn refused(body: &str) -> (u16, String) {
    let response = decode::<Service>(body.as_bytes()).unwrap_err().into_response();
    let (head, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(text.to_vec()).unwrap())
}

#[test]
fn a_field_is_found_in_any_case_and_with_underscores() {
    for key in ["ServiceID", "serviceid", "service_id", "SERVICE_ID", "serviceId"] {
        let check: Check = read(&format!("{{{key:?}: \"web-1\"}}"));
        assert_eq!(check.service_id, "web-1", "{key}");
    }
    let check: Check = read(r#"{"ttl": "10s", "H2Ping": "a:1", "args": ["true"]}"#);
    assert_eq!((&*check.ttl, &*check.h2ping, check.script_args.len()), ("10s", "a:1", 1));
    assert_eq!(read::<Check>(r#"{"script_args": ["a"]}"#).script_args, ["a"]);
}

#[test]
fn a_struct_within_is_read_like_one_outside() {
    let body = r#"{"check": {"Ttl": "1s"}, "CHECKS": [{"status": "passing"}, {"ttl": "2s"}],
        "tagged_addresses": {"lan_ipv4": {"address": "::1", "PORT": 80}}}"#;
    let service: Service = read(body);
    assert_eq!(service.check.unwrap().ttl, "1s");
    assert_eq!(service.checks[0].status, Some(Status::Passing));
    assert_eq!(service.checks[1].ttl, "2s");
    assert_eq!(service.tagged_addresses["lan_ipv4"].port, 80);
}

#[test]
fn the_clients_own_keys_stay_as_they_are() {
    let body =
        r#"{"Meta": {"Team_A": "x", "team_a": "y"}, "proxy": {"Mode_X": [null, {"a": 1.5}]}}"#;
    let service: Service = read(body);
    let keys: Vec<_> = service.meta.keys().map(String::as_str).collect();
    assert_eq!(keys, ["Team_A", "team_a"]);
    assert_eq!(service.proxy, json!({ "Mode_X": [{ "a": 1.5 }] }));
    let check: Check = read(r#"{"header": {"x_Y": ["1"]}}"#);
    assert_eq!(check.header["x_Y"], ["1"]);
}

#[test]
fn null_is_as_if_it_were_not_there() {
    let nulls = r#"{"ID": null, "Name": null, "Port": null, "Tags": [null], "Meta": {"a": null},
        "TaggedAddresses": null, "Check": null, "Checks": null, "EnableTagOverride": null}"#;
    assert_eq!(read::<Service>(nulls), Service::default());
    assert_eq!(read::<Service>("null"), Service::default());
    assert_eq!(read::<Service>("{}"), Service::default());
}

#[test]
fn the_last_value_of_a_field_counts_and_a_null_is_none() {
    for (body, expected) in [
        (r#"{"Name": "a", "Name": "b"}"#, "b"),
        (r#"{"Name": "a", "name": "b"}"#, "b"),
        (r#"{"name": "a", "Name": "b", "NAME": null}"#, "b"),
        (r#"{"name": null, "Name": "b"}"#, "b"),
    ] {
        assert_eq!(read::<Service>(body).name, expected, "{body}");
    }
    assert_eq!(read::<Service>(r#"{"Meta": {"a": "1", "a": "2"}}"#).meta["a"], "2");
}

#[test]
fn keys_that_no_field_has_are_passed_over() {
    let service: Service = read(r#"{"Locality": {"Region": 1}, "Ports": [], "name": "web"}"#);
    assert_eq!(service, Service { name: "web".to_owned(), ..Service::default() });
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_the_field_named() {
    let check = async |body: &str, text: &str| {
        let expected = (400, format!("Request decode failed: {text}"));
        assert_eq!(refused(body).await, expected, "{body}");
    };
    check("", "EOF while parsing a value at line 1 column 0").await;
    check("{", "EOF while parsing an object at line 1 column 1").await;
    check("{} x", "trailing characters at line 1 column 4").await;
    check("[]", "invalid type: sequence, expected struct Service").await;
    check(r#"{"port": "80"}"#, "Port: invalid type: string \"80\", expected u16").await;
    check(r#"{"port": 70000}"#, "Port: invalid value: integer `70000`, expected u16").await;
    check(
        r#"{"checks": [{"output_max_size": 1.5}]}"#,
        "Checks: OutputMaxSize: invalid type: floating point `1.5`, expected i32",
    )
    .await;
    check(
        r#"{"check": {"status": "good"}}"#,
        "Check: Status: unknown variant `good`, expected `passing` or `critical`",
    )
    .await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    check(&deep, "recursion limit exceeded at line 1 column 128").await;
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        drop(decode::<Service>(&bytes));
    }

    #[test]
    fn no_texts_that_look_like_json_make_it_panic(
        text in r#"\{("(name|Port|checks|meta)":(1|-9e99|"a"|null|\[\{\}\]|\{"a":1\}),?){0,4}\}"#,
    ) {
        match decode::<Service>(text.as_bytes()) {
            Ok(service) => prop_assert!(service.check.is_none()),
            Err(refusal) => {
                let text = format!("{refusal:?}");
                prop_assert!(text.contains("Request decode failed: "), "{}", text);
            }
        }
    }
}
