//! Definitions as clients send them, what they mean, and that they survive being written down.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    judge::Machine,
    model::{InstanceId, Outcome, Pace, Reason, Status as Shown, Tripwire},
    probe::{Alias, Pushed, exec},
};

mod ask;

fn naming() -> Naming {
    Naming { id: "service:web".to_owned(), name: "Service 'web' check".to_owned() }
}

fn service(json: &str) -> ServiceDefinition {
    decode_json(json.as_bytes()).unwrap()
}

fn check(json: &str) -> CheckDefinition {
    decode_json(json.as_bytes()).unwrap()
}

#[track_caller]
fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str, text: &str) {
    assert_eq!(decode_json::<T>(json.as_bytes()).unwrap_err().to_string(), text);
}

#[test]
fn what_gos_client_sends() {
    let service = service(
        r#"{"ID":"web-1","Name":"web","Tags":["a"],"Port":80,"Address":"::1","EnableTagOverride":false,
            "TaggedAddresses":{"Lan_X":{"Address":"10.0.0.1","Port":81}},"Meta":{"Key_One":"v"},
            "Weights":{"Passing":10,"Warning":1},"Check":null,
            "Checks":[{"CheckID":"c","ScriptArgs":["df","-h"],"Interval":"10s","Timeout":"5s"},
                      {"HTTP":"http://10.0.0.1/","Header":{"X-A_b":["1"]},"TLSSkipVerify":true,
                       "DeregisterCriticalServiceAfter":"1m30s","Interval":"5s"}],
            "Connect":{"SidecarService":{"Port":1,"Name":null}},"Namespace":"default","Ports":[]}"#,
    );
    let written = serde_json::to_string(&service).unwrap();
    assert_eq!(
        written,
        r#"{"id":"web-1","name":"web","tags":["a"],"meta":{"Key_One":"v"},"address":"::1","tagged_addresses":{"Lan_X":{"address":"10.0.0.1","port":81}},"port":80,"checks":[{"id":"c","args":["df","-h"],"interval":"10s","timeout":"5s"},{"http":"http://10.0.0.1/","header":{"X-A_b":["1"]},"tls_skip_verify":true,"interval":"5s","deregister_critical_service_after":"1m30s"}],"weights":{"passing":10,"warning":1},"connect":{"SidecarService":{"Port":1}}}"#
    );
    let kinds: Vec<_> = service.all_checks().map(CheckDefinition::kind).collect();
    assert_eq!(kinds, [Some(Kind::Script), Some(Kind::Http)]);
}

#[test]
fn what_pythons_client_sends() {
    let service = service(
        r#"{"name":"foo","id":"foo","address":"10.10.10.1","tags":[],"meta":null,"weights":null,
            "check":{"args":["ls"],"interval":10,"ttl":null},"enabletagoverride":true,"token":"x"}"#,
    );
    let check = service.check.as_ref().unwrap();
    assert_eq!(check.interval, Some(Time(Duration::from_nanos(10))));
    assert_eq!((check.kind(), check.validate()), (Some(Kind::Script), Ok(())));
    assert!(service.enable_tag_override);
}

#[test]
fn what_nodes_client_sends() {
    let check = check(
        r#"{"id":"c","name":"c","serviceid":"web-1","H2Ping":"10.0.0.1:80","h2pingusetls":false,
            "interval":"1s","status":"passing","notes":""}"#,
    );
    assert_eq!(check.service_id.as_ref().map(InstanceId::as_str), Some("web-1"));
    assert_eq!((check.kind(), check.h2ping_use_tls), (Some(Kind::H2ping), Some(false)));
    assert_eq!((check.initial_status(), check.notes), (Status::Passing, None));
}

#[test]
fn an_alias_of_a_key_counts_where_the_key_is_absent() {
    let both = check(r#"{"CheckID":"alias","ID":"own","ScriptArgs":["b"],"Args":["a"]}"#);
    assert_eq!((both.id.unwrap().as_str(), both.args), ("own", vec!["a".to_owned()]));
    let null = check(r#"{"CheckID":"alias","ID":null,"ScriptArgs":["b"],"Args":null}"#);
    assert_eq!((null.id.unwrap().as_str(), null.args), ("alias", vec!["b".to_owned()]));
}

#[test]
fn no_check_is_no_check_and_an_empty_text_is_absent() {
    let service =
        service(r#"{"Name":"a","ID":"","Address":"","Check":{},"Kind":"","Checks":[null]}"#);
    assert_eq!(serde_json::to_string(&service).unwrap(), r#"{"name":"a"}"#);
    assert_eq!(service.instance_id().unwrap().as_str(), "a");
    assert_eq!(service.endpoint().to_string(), "127.0.0.1:0");
    assert_eq!(service.assigned(Programs::Refused), Ok(Vec::new()));
    let texts = check(r#"{"HTTP":"","AliasService":"","Status":"","ServiceID":"","CheckID":""}"#);
    assert!(texts.is_empty());
    assert_eq!(texts.kind(), None);
}

#[test]
fn what_cannot_be_read_names_its_field() {
    type Service = ServiceDefinition;
    refused::<Service>(
        r#"{"Name":1}"#,
        "Request decode failed: name: invalid type: integer `1`, expected a string",
    );
    refused::<Service>(
        r#"{"Checks":[{"TTL":"1s"},{"Interval":"often"}]}"#,
        "Request decode failed: checks[1].interval: invalid duration `often`; write for example \
         `250ms`, `5s` or `1m30s`",
    );
    refused::<Service>(
        r#"{"Port":70000}"#,
        "Request decode failed: port: invalid value: integer `70000`, expected u16",
    );
    refused::<Service>(
        r#"{"ID":"a\u0007"}"#,
        "Request decode failed: id: this id cannot be used: it holds the control character '\\u{7}'",
    );
    refused::<Service>(
        r#"{"Check":[]}"#,
        "Request decode failed: check: invalid type: sequence, expected struct CheckDefinition",
    );
    refused::<Service>("", "Request decode failed: EOF while parsing a value at line 1 column 0");
    refused::<CheckDefinition>(
        r#"{"Status":"fine"}"#,
        "Request decode failed: status: unknown variant `fine`, expected one of `passing`, \
         `warning`, `critical`, ``",
    );
    let deep = format!("{{\"Proxy\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let error = decode_json::<Service>(deep.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("Request decode failed: recursion limit exceeded"), "{error}");
    let error = decode_json::<Service>(br#"{"Checks":[{"Status":"x"}]}"#).unwrap_err();
    assert_eq!(error.field(), "checks[0].status");
}

#[test]
fn the_kind_is_the_one_consul_prefers_and_shows() {
    let all = r#""ttl":"1s","http":"a","tcp":"a","udp":"a","grpc":"a","docker_container_id":"a",
                 "os_service":"a","h2ping":"a","alias_node":"a""#;
    let mut fields: Vec<&str> = all.split(',').map(str::trim).collect();
    let mut seen = Vec::new();
    while !fields.is_empty() {
        let check = check(&format!("{{\"args\":[\"x\"],{}}}", fields.join(",")));
        seen.push(format!("{} {}", check.kind().unwrap().as_str(), check.type_word()));
        fields.remove(0);
    }
    assert_eq!(
        seen,
        [
            "ttl grpc",
            "http grpc",
            "tcp grpc",
            "udp grpc",
            "grpc grpc",
            "docker alias",
            "os_service alias",
            "script alias",
            "script alias"
        ]
    );
    assert_eq!(check("{}").type_word(), "");
    assert_eq!(check(r#"{"docker_container_id":"a"}"#).kind(), None);
}

#[test]
fn checks_are_refused_in_consuls_words() {
    let said = |json: &str| check(json).validate().map_err(|error| error.to_string());
    let rules = [
        (r#"{"ttl":"1s","interval":"1s"}"#, "Interval and TTL cannot both be specified"),
        (
            r#"{"tcp":"a:1"}"#,
            "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            r#"{"args":["a"],"interval":"0s"}"#,
            "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            r#"{"alias_node":"a","tcp":"a:1","interval":"1s"}"#,
            "Interval cannot be set for Alias checks",
        ),
        (r#"{"alias_service":"a","ttl":"1s"}"#, "TTL must be not be set for Alias checks"),
        ("{}", "TTL must be > 0 for TTL checks"),
        (r#"{"interval":"1s"}"#, "TTL must be > 0 for TTL checks"),
        (r#"{"ttl":"1s","output_max_size":-1}"#, "MaxOutputMaxSize must be positive"),
        (
            r#"{"ttl":"1s","failures_before_warning":1}"#,
            "FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
    ];
    for (json, rule) in rules {
        assert_eq!(said(json), Err(rule.to_owned()), "{json}");
    }
    for json in [
        r#"{"ttl":"1s"}"#,
        r#"{"alias_service":"a"}"#,
        r#"{"alias_service":"a","interval":"1s"}"#,
        r#"{"tcp":"a:1","interval":"1s"}"#,
        r#"{"docker_container_id":"x","args":["a"],"interval":"1s"}"#,
        r#"{"http":"http://a/","interval":10,"failures_before_critical":2,"failures_before_warning":2}"#,
    ] {
        assert_eq!(said(json), Ok(()), "{json}");
    }
}

#[test]
fn an_active_check_has_consuls_defaults_and_its_first_result_counts_at_once() {
    let check = check(r#"{"tcp":"10.0.0.1:80","interval":10,"failures_before_critical":3}"#);
    let assigned = check.assigned(&naming(), Programs::Refused).unwrap();
    let definition = &assigned.definition;
    assert_eq!(definition.schedule.interval, Duration::from_secs(1));
    assert_eq!(definition.schedule.timeout, Duration::from_secs(10));
    // So that three failures are three runs.
    assert_eq!(definition.schedule.pace, Pace::STEADY);
    assert_eq!(definition.thresholds.failures_before_warning(), 3);
    assert_eq!(
        (definition.id.as_str(), definition.name.as_deref()),
        ("tcp", Some("Service 'web' check"))
    );
    assert_eq!(assigned.consul_id.as_deref(), Some("service:web"));
    assert_eq!(assigned.endpoint.unwrap().to_string(), "10.0.0.1:80");
    let mut machine = Machine::default();
    machine.observe(&definition.thresholds, Outcome::Failure(Reason::Dns));
    assert_eq!(machine.status(), Shown::Critical);
}

#[test]
fn a_check_in_consuls_form_may_ask_for_confirmation_and_a_tripwire() {
    let pace = |more: &str| {
        let check = check(&format!(r#"{{"HTTP":"http://10.0.0.1/","Interval":"10s"{more}}}"#));
        let assigned = check.assigned(&naming(), Programs::Refused);
        assigned.map(|a| a.definition.schedule.pace).map_err(|invalid| invalid.message)
    };
    assert_eq!(pace(""), Ok(Pace::STEADY));
    let confirmed = Pace { confirm_probes: 3, ..Pace::STEADY };
    assert_eq!(pace(r#","ConfirmProbes":3"#), Ok(confirmed));
    assert_eq!(pace(r#","confirm_probes":3,"tripwire":false"#), Ok(confirmed));
    let held = Pace { tripwire: Tripwire::On, ..Pace::STEADY };
    assert_eq!(pace(r#","Tripwire":true"#), Ok(held));
    let too_many = Err("`confirm_probes` must be at most 10".to_owned());
    assert_eq!(pace(r#","ConfirmProbes":11"#), too_many);
    assert_eq!(pace(r#","ConfirmProbes":300"#), too_many);
}

#[test]
fn checks_that_are_told_are_assigned_without_an_address() {
    let ttl =
        check(r#"{"TTL":"720h","Notes":"n"}"#).assigned(&naming(), Programs::Refused).unwrap();
    let month = Duration::from_secs(720 * 3600);
    assert_eq!(ttl.definition.probe.pushed(), Some(Pushed::Ttl(month)));
    assert_eq!((ttl.definition.schedule.interval, &ttl.endpoint), (month, &None));
    assert_eq!(ttl.definition.id.as_str(), "ttl");
    let alias = check(r#"{"AliasNode":"n","AliasService":"db-1"}"#)
        .assigned(&naming(), Programs::Refused)
        .unwrap();
    let expected = Alias { node: Some("n".into()), service: Some("db-1".parse().unwrap()) };
    assert_eq!(alias.definition.probe.pushed(), Some(Pushed::Alias(&expected)));
    assert_eq!(alias.definition.id.as_str(), "alias");
}

#[test]
fn a_program_is_assigned_only_where_programs_are_allowed() {
    let check = check(r#"{"args":["df","-h"],"h2ping":"10.0.0.1:1","interval":"1m"}"#);
    let refused = check.assigned(&naming(), Programs::Refused).unwrap_err();
    assert_eq!((refused.field, &*refused.message), ("args", "programs may not be run as checks"));
    let assigned = check.assigned(&naming(), Programs::Allowed).unwrap();
    let definition = &assigned.definition;
    let args = vec!["df".to_owned(), "-h".to_owned()];
    assert_eq!(definition.probe.spec(), exec::Spec { args }.into());
    assert_eq!(definition.schedule.timeout, Duration::from_secs(30));
    assert_eq!((definition.id.as_str(), &assigned.endpoint), ("exec", &None));
    assert_eq!((type_word(definition.probe.protocol()), check.type_word()), ("script", "script"));
}

#[test]
fn what_cannot_be_assigned_names_the_field() {
    let field = |json: &str| check(json).assigned(&naming(), Programs::Refused).unwrap_err().field;
    assert_eq!(field("{}"), "");
    assert_eq!(field(r#"{"tcp":"a:1"}"#), "interval");
    assert_eq!(field(r#"{"tcp":"a:1","interval":"200h"}"#), "interval");
    assert_eq!(field(r#"{"tcp":"a:1","interval":"1s","timeout":"200h"}"#), "timeout");
    assert_eq!(field(r#"{"tcp":"a","interval":"1s"}"#), "tcp");
    assert_eq!(field(r#"{"http":"http://a/","interval":"1s","method":"a b"}"#), "method");
    assert_eq!(field(r#"{"args":["a"],"interval":"1s"}"#), "args");
    assert_eq!(field(r#"{"docker_container_id":"c","args":["a"]}"#), "docker_container_id");
    assert_eq!(field(r#"{"os_service":"s","interval":"1s"}"#), "os_service");
    assert_eq!(field(r#"{"ttl":"999999999h"}"#), "ttl");
}

#[test]
fn the_checks_of_a_service_have_ids_of_their_own() {
    let service = service(
        r#"{"Name":"web","Check":{"TTL":"1s"},"Checks":[{"TTL":"2s"},{"CheckID":"x","TTL":"3s"}]}"#,
    );
    let ids: Vec<_> = service
        .assigned(Programs::Refused)
        .unwrap()
        .iter()
        .map(|assigned| {
            format!("{} {}", assigned.definition.id, assigned.consul_id.as_ref().unwrap())
        })
        .collect();
    assert_eq!(ids, ["ttl service:web:1", "ttl-2 service:web:2", "x x"]);
}

#[test]
fn a_service_is_deregistered_after_a_minute_at_the_earliest() {
    let after = |text: &str| {
        let json = format!("{{\"deregister_critical_service_after\":\"{text}\"}}");
        check(&json).deregister_after()
    };
    assert_eq!(after("0s"), None);
    assert_eq!(after("1s"), Some(Duration::from_secs(60)));
    assert_eq!(after("2m"), Some(Duration::from_secs(120)));
}

fn word() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-zA-Z0-9:/ _ü]{1,12}")
}

fn time() -> impl Strategy<Value = Option<Time>> {
    let most = 100 * 365 * 86_400 * 1_000_000_000_u64;
    prop::option::of(prop_oneof![0..2_000_000_000_u64, 0..most])
        .prop_map(|nanos| nanos.map(|nanos| Time(Duration::from_nanos(nanos))))
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-zA-Z_-]{0,5}", 0..3)
}

prop_compose! {
    fn checks()(
        texts in prop::collection::vec(word(), 14),
        times in prop::collection::vec(time(), 4),
        flags in prop::collection::vec(any::<bool>(), 5),
        counts in any::<[u32; 4]>(),
        args in words(),
        header in prop::collection::btree_map("[a-zA-Z_-]{1,5}", words(), 0..3),
        h2ping_use_tls in any::<Option<bool>>(),
        status in prop::option::of(prop_oneof![
            Just(Status::Passing), Just(Status::Warning), Just(Status::Critical),
        ]),
        output_max_size in any::<i64>(),
    ) -> CheckDefinition {
        let text = |index: usize| texts[index].clone();
        CheckDefinition {
            id: text(0).and_then(|text| text.parse().ok()),
            name: text(1),
            notes: text(2),
            service_id: text(3).and_then(|text| text.parse().ok()),
            status,
            ttl: times[0],
            http: text(4),
            method: text(5),
            header,
            body: text(6),
            disable_redirects: flags[0],
            tcp: text(7),
            tcp_use_tls: flags[1],
            udp: text(8),
            grpc: text(9),
            grpc_use_tls: flags[2],
            h2ping: text(10),
            h2ping_use_tls,
            docker_container_id: text(11),
            shell: text(0),
            args,
            os_service: text(12),
            alias_node: text(13),
            alias_service: text(1).and_then(|text| text.parse().ok()),
            tls_server_name: text(2),
            tls_skip_verify: flags[3],
            interval: times[1],
            timeout: times[2],
            success_before_passing: counts[0],
            failures_before_warning: counts[1],
            failures_before_critical: counts[2],
            deregister_critical_service_after: times[3],
            output_max_size,
            confirm_probes: counts[3],
            tripwire: flags[4],
        }
    }
}

prop_compose! {
    fn services()(
        texts in prop::collection::vec(word(), 4),
        tags in words(),
        address in prop::option::of(prop_oneof![
            any::<std::net::IpAddr>().prop_map(crate::probe::Host::Ip),
            Just(crate::probe::Host::Name("db.example".into())),
        ]),
        check in prop::option::of(checks()),
        checks in prop::collection::vec(checks(), 0..3),
        port in any::<u16>(),
        tagged in words(),
        weights in prop::option::of(any::<(i64, i64)>()),
        enable_tag_override in any::<bool>(),
    ) -> ServiceDefinition {
        let meta: BTreeMap<_, _> = tagged.iter().map(|key| (key.clone(), String::new())).collect();
        ServiceDefinition {
            id: texts[0].clone().and_then(|text| text.parse().ok()),
            name: texts[1].clone().and_then(|text| text.parse().ok()),
            kind: texts[2].clone(),
            tags,
            tagged_addresses: tagged
                .into_iter()
                .map(|key| (key, ServiceAddress { address: String::new(), port }))
                .collect(),
            meta,
            address,
            port,
            socket_path: texts[3].clone(),
            check: check.filter(|check| !check.is_empty()),
            checks,
            weights: weights.map(|(passing, warning)| Weights { passing, warning }),
            enable_tag_override,
            proxy: texts[0].as_ref().map(|text| serde_json::json!({ "A_b": [text, 1.5] })),
            connect: texts[1].as_ref().map(|text| serde_json::json!({ "Native": true, "x": text })),
            locality: None,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(service in services()) {
        let written = serde_json::to_vec(&service).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<ServiceDefinition>(&written).unwrap(), &service);
        prop_assert_eq!(&decode_json::<ServiceDefinition>(&written).unwrap(), &service);
    }

    #[test]
    fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode_json::<ServiceDefinition>(&body));
    }
}
