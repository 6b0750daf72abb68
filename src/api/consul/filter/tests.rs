//! The language of filters: what holds, what binds how, what is refused and where.

use proptest::prelude::*;
use serde_json::json;

use super::{
    field::{CHECK, MEMBER, NODE, SERVICE, SERVICE_ENTRY, SERVICE_NODE},
    *,
};

fn service_node() -> Value {
    json!({
        "ID": "e696ecc2",
        "Node": "node-1",
        "Address": "10.0.0.1",
        "Datacenter": "dc1",
        "NodeMeta": {},
        "ServiceID": "foo:1",
        "ServiceName": "foo",
        "ServiceTags": ["keep-me", "v=1", "say \"hi\""],
        "ServiceTaggedAddresses": { "lan": { "Address": "10.0.0.1", "Port": 80 } },
        "ServiceMeta": { "k-x": "1", "team": "shop", "a.b": "dot", "empty": "", "0": "zero" },
        "ServicePort": 80,
        "ServiceWeights": { "Passing": 10, "Warning": 1 },
        "ServiceEnableTagOverride": true,
    })
}

fn entry() -> Value {
    let check = |id, status| json!({ "CheckID": id, "Status": status, "ServiceTags": ["t"] });
    json!({
        "Node": { "Node": "node-1", "Meta": { "rack": "1" } },
        "Service": { "ID": "foo:1", "Tags": ["tag:foo:1"], "Port": 80 },
        "Checks": [check("a", "passing"), check("b", "critical")],
    })
}

fn holds(filter: &str, object: &Value, fields: Fields) -> Option<bool> {
    Filter::parse(filter, fields).ok().map(|filter| filter.matches(object))
}

#[track_caller]
fn check(object: &Value, fields: Fields, cases: &[(&str, bool)]) {
    for (filter, expected) in cases {
        match Filter::parse(filter, fields) {
            Ok(read) => assert_eq!(read.matches(object), *expected, "{filter}"),
            Err(error) => panic!("{filter}: {error}"),
        }
    }
}

#[test]
fn every_operator_on_every_kind_of_field() {
    check(
        &service_node(),
        SERVICE_NODE,
        &[
            ("", true),
            (r#"ServiceID == "foo:1""#, true),
            ("ServiceID==`foo:1`", true),
            ("ServiceID != `foo:1`", false),
            ("ServiceName == foo", true),
            ("ServiceName == Foo", false),
            ("ServiceName contains `o`", true),
            ("`oo` in ServiceName", true),
            ("x not in ServiceName", true),
            ("ServiceName is empty", false),
            ("ServiceName is not empty", true),
            ("ServiceName matches `^f.o$`", true),
            ("ServiceName matches `o`", true),
            ("ServiceName not matches `^o`", true),
            ("\"keep-me\" in ServiceTags", true),
            ("\"keep\" in ServiceTags", false),
            ("ServiceTags contains `v=1`", true),
            ("ServiceTags not contains `v=1`", false),
            ("`v=1` not in ServiceTags", false),
            ("ServiceTags is empty", false),
            ("ServicePort == 80", true),
            ("ServicePort == `80`", true),
            ("ServicePort != 80", false),
            ("ServicePort == -80", false),
            ("ServiceWeights.Passing == 10", true),
            ("ServiceEnableTagOverride == true", true),
            ("ServiceEnableTagOverride == 1", true),
            ("ServiceEnableTagOverride != T", false),
            ("team in ServiceMeta", true),
            ("shop in ServiceMeta", false),
            ("ServiceMeta contains `k-x`", true),
            ("ServiceMeta is not empty", true),
            ("NodeMeta is empty", true),
        ],
    );
}

#[test]
fn a_field_is_named_with_dots_brackets_or_a_json_pointer() {
    check(
        &service_node(),
        SERVICE_NODE,
        &[
            ("ServiceMeta.team == shop", true),
            (r#"ServiceMeta["k-x"] == 1"#, true),
            ("ServiceMeta[ `a.b` ] == dot", true),
            ("ServiceMeta.0 == zero", true),
            ("ServiceTaggedAddresses.lan.Port == 80", true),
            (r#"ServiceTaggedAddresses["lan"].Address == "10.0.0.1""#, true),
            (r#""/ServiceMeta/k-x" == 1"#, true),
            (r#"team in "/ServiceMeta""#, true),
            (r#""/ServiceMeta" in ServiceName"#, false),
        ],
    );
}

#[test]
fn a_key_that_is_not_there_equals_nothing_and_is_empty() {
    check(
        &service_node(),
        SERVICE_NODE,
        &[
            ("ServiceMeta.no == ``", false),
            ("ServiceMeta.no != x", true),
            ("x in ServiceMeta.no", false),
            ("x not in ServiceMeta.no", true),
            ("ServiceMeta.no matches `.*`", false),
            ("ServiceMeta.no not matches `.*`", true),
            ("ServiceMeta.no is empty", true),
            ("ServiceMeta.no is not empty", false),
            ("ServiceMeta.empty == ``", true),
            ("ServiceMeta.empty is empty", true),
            ("ServiceTaggedAddresses.wan.Port != 80", true),
            ("ServiceTaggedAddresses.wan.Port == 0", false),
        ],
    );
}

#[test]
fn a_field_that_is_left_out_or_null_is_empty() {
    check(
        &json!({ "ServiceTags": null }),
        SERVICE_NODE,
        &[
            ("ServiceKind == ``", true),
            ("ServiceKind != `connect-proxy`", true),
            ("ServiceKind matches `^$`", true),
            ("ServicePort == 0", true),
            ("ServicePort != 0", false),
            ("ServiceConnect.Native == false", true),
            ("ServiceTags is empty", true),
            ("x in ServiceTags", false),
            ("ServiceMeta.x == ``", false),
        ],
    );
}

#[test]
fn one_of_a_lists_objects_is_enough() {
    check(
        &entry(),
        SERVICE_ENTRY,
        &[
            ("\"tag:foo:1\" in Service.Tags", true),
            ("Node.Node != `` ", true),
            ("Node.Meta.rack == 1 and Service.Port == 80", true),
            ("Checks is not empty", true),
            ("Checks.Status == critical", true),
            ("Checks.Status != passing", true),
            ("Checks.Status == warning", false),
            ("not Checks.Status == critical", false),
            ("t in Checks.ServiceTags", true),
        ],
    );
    check(&json!({ "Checks": [] }), SERVICE_ENTRY, &[("Checks.Status != passing", false)]);
}

#[test]
fn nodes_services_checks_and_members_have_their_fields() {
    let node = json!({ "Node": "n", "TaggedAddresses": { "lan": "::1" } });
    check(&node, NODE, &[("TaggedAddresses.lan == `::1`", true)]);
    let service = json!({ "Tags": ["keep-me"], "Weights": { "Passing": 1 } });
    check(&service, SERVICE, &[("\"keep-me\" in Tags and Weights.Passing == 1", true)]);
    check(&json!({ "Status": "passing" }), CHECK, &[("Status == `passing`", true)]);
    check(&json!({ "Tags": { "role": "consul" } }), MEMBER, &[("Tags.role == consul", true)]);
}

#[test]
fn or_binds_weaker_than_and_and_that_weaker_than_not() {
    let (t, f) = ("ServicePort == 80", "ServicePort == 81");
    let cases = [
        (format!("{t} or {t} and {f}"), true),
        (format!("({t} or {t}) and {f}"), false),
        (format!("{f} and {f} or {t}"), true),
        (format!("{f} and ({f} or {t})"), false),
        (format!("not {f} and {t}"), true),
        (format!("not {t} or {t}"), true),
        (format!("not ({t} or {t})"), false),
        (format!("not not {t}"), true),
        (format!("not not not {t}"), false),
        (format!("not not not({f})"), true),
        (format!(" ( ({t}) )\n"), true),
        (format!("{f} or {f} or {t}"), true),
        (format!("{t}\tand\r\n{t} and {f}"), false),
    ];
    for (filter, expected) in &cases {
        check(&service_node(), SERVICE_NODE, &[(filter, *expected)]);
    }
}

#[test]
fn quoted_texts_have_escapes_and_raw_ones_none() {
    let object = json!({ "ServiceTags": ["say \"hi\"", r"a\n", "a\nb\té\u{1F600}A"] });
    check(
        &object,
        SERVICE_NODE,
        &[
            (r#""say \"hi\"" in ServiceTags"#, true),
            (r#"`say "hi"` in ServiceTags"#, true),
            (r"`a\n` in ServiceTags", true),
            (r#""a\\n" in ServiceTags"#, true),
            (r#""a\nb\t\u00e9\U0001F600\x41" in ServiceTags"#, true),
        ],
    );
}

#[test]
fn a_bare_word_is_a_text_even_if_it_looks_like_a_field_or_an_operator() {
    let object = json!({ "ServiceName": "Service.Name", "ServiceTags": ["in", "not.x"] });
    check(
        &object,
        SERVICE_NODE,
        &[
            ("ServiceName == Service.Name", true),
            ("in in ServiceTags", true),
            ("ServiceTags contains in", true),
            ("ServiceName == not", false),
        ],
    );
}

#[test]
fn a_refusal_says_what_is_wrong_and_where() {
    let refused = |filter: &str, expected: &str| {
        let error = Filter::parse(filter, SERVICE_NODE).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, format!("at character {expected}"), "{filter}");
    };
    refused(" ", "2: expected a field or a value, found the end");
    refused("ServicePort == ", "16: expected a field or a value, found the end");
    refused("é == 1", "1: expected a field or a value, found 'é'");
    refused("`é` in 1", "8: expected a field, found the value \"1\"");
    refused("`x` == 1", "1: expected a field, found the value \"x\"");
    refused("ServiceName is not", "19: expected empty, found the end");
    refused("ServiceName not x", "17: expected in, contains or matches, found 'x'");
    refused(
        "web-1 in ServiceTags",
        "4: expected ==, !=, in, contains, matches, is empty or one of these with not, found '-'",
    );
    refused("ServiceID == web-1", "17: '-' right after a value; put the whole value in quotes");
    refused("ServiceAddress == 10.0.0.1", "19: \"10.0.0.1\" is no number; put texts in quotes");
    refused("ServicePort == 007", "16: \"007\" is no number; put texts in quotes");
    refused("ServiceName == \"a", "16: a text whose quotes are not closed");
    refused(r#"ServiceName == "a\q""#, "18: an escape that stands for no character");
    refused(r#"ServiceName == "\xff""#, "17: an escape that stands for no character");
    refused(r#"ServiceName == "\u+041""#, "17: an escape that stands for no character");
    refused("ServiceMeta[x] == 1", "13: expected a text in quotes, found 'x'");
    refused("ServiceMeta[`x` == 1", "17: expected ], found '='");
    refused("(ServicePort == 1", "18: expected and, or or ), found the end");
    refused("ServicePort == 1)", "17: expected and, or or the end, found ')'");
    refused("ServicePort == 1 ServicePort == 2", "18: expected and, or or the end, found 'S'");
    refused("ServicePort == x", "1: \"x\" is no whole number, which \"ServicePort\" is");
    refused("ServicePort == 1.5", "1: \"1.5\" is no whole number, which \"ServicePort\" is");
    refused(
        "ServicePort is empty",
        "1: is empty cannot be asked of \"ServicePort\", which is a number",
    );
    refused(
        "1 in ServicePort",
        "6: in and contains cannot be asked of \"ServicePort\", which is a number",
    );
    refused(
        "ServiceTags == x",
        "1: equality cannot be asked of \"ServiceTags\", which is a list of texts",
    );
    refused(
        "ServiceEnableTagOverride == yes",
        "1: \"yes\" is no true or false, which \"ServiceEnableTagOverride\" is",
    );
    refused(
        "ServiceName matches `a(b`",
        "1: Failed to compile regular expression \"a(b\": unclosed group",
    );
    refused("ServiceName.x == 1", "1: Selector \"ServiceName.x\" is not valid");
    refused(
        "ServiceWeights.No == 1",
        "1: Selector \"ServiceWeights.No\" is not valid; there are Passing, Warning",
    );
}

#[test]
fn what_costs_much_is_bounded() {
    let term = "ServicePort == 80";
    let nested = |depth| format!("{}{term}{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(holds(&nested(64), &service_node(), SERVICE_NODE), Some(true));
    assert_eq!(holds(&nested(65), &service_node(), SERVICE_NODE), None);
    let row = |count| vec![term; count].join(" or ");
    assert_eq!(holds(&row(390), &service_node(), SERVICE_NODE), Some(true));
    assert_eq!(holds(&row(400), &service_node(), SERVICE_NODE), None);
    let nots = "not ".repeat(2000) + term;
    assert_eq!(holds(&nots, &service_node(), SERVICE_NODE), Some(true));
    let patterns = |count| vec!["ServiceName matches foo"; count].join(" and ");
    assert_eq!(holds(&patterns(16), &service_node(), SERVICE_NODE), Some(true));
    assert_eq!(holds(&patterns(17), &service_node(), SERVICE_NODE), None);
    assert_eq!(holds("ServiceName matches `(a{500}){500}`", &service_node(), SERVICE_NODE), None);
}

/// What filters are made of.
const PIECES: &str = r#"ServiceID ServiceMeta ServiceTags ServicePort . x [ ] "k-x" ` " \ == !=
is not empty in contains matches and or
( ) 80 -1 true é /"#;

/// Texts that come near to being filters.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(PIECES.split_whitespace().collect::<Vec<_>>());
    let blank = prop::sample::select(&["", " "][..]);
    prop::collection::vec((word, blank), 0..40)
        .prop_map(|words| words.into_iter().flat_map(|(word, blank)| [word, blank]).collect())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        holds(&text, &service_node(), SERVICE_NODE);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        holds(&String::from_utf8_lossy(&bytes), &entry(), SERVICE_ENTRY);
    }

    #[test]
    fn nothing_near_a_filter_makes_it_panic(text in nearly()) {
        holds(&text, &service_node(), SERVICE_NODE);
    }

    /// Any text can be asked for in quotes.
    #[test]
    fn a_quoted_text_is_found_again(text in "[^\\p{Cc}]{0,30}") {
        let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let object = json!({ "ServiceTags": [text.as_str()] });
        let filter = format!("{quoted} in ServiceTags");
        prop_assert_eq!(holds(&filter, &object, SERVICE_NODE), Some(true));
        let other = json!({ "ServiceTags": [format!("{text}.")] });
        prop_assert_eq!(holds(&filter, &other, SERVICE_NODE), Some(false));
    }

    /// `not` turns every comparison round, and so does the operator's own `not`.
    #[test]
    fn not_in_front_is_not_inside(key in "[a-z]{1,3}", value in "[a-z]{1,3}") {
        let object = json!({ "ServiceMeta": { "a": "b" }, "ServiceName": "abc" });
        for (plain, inside) in [
            (format!("ServiceMeta.{key} == {value}"), format!("ServiceMeta.{key} != {value}")),
            (format!("{value} in ServiceName"), format!("{value} not in ServiceName")),
            (format!("ServiceName matches {key}"), format!("ServiceName not matches {key}")),
        ] {
            let front = holds(&format!("not {plain}"), &object, SERVICE_NODE);
            prop_assert!(front.is_some());
            prop_assert_eq!(front, holds(&inside, &object, SERVICE_NODE));
            prop_assert_ne!(front, holds(&plain, &object, SERVICE_NODE));
        }
    }
}
