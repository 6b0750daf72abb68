//! What is expected, and what is said of it.

use serde_json::json;

use super::*;

fn read(expectation: Value) -> Result<JsonExpectation, serde_json::Error> {
    serde_json::from_value(expectation)
}

#[track_caller]
fn check(expectation: Value, body: &Value) -> Option<String> {
    unmet(&[read(expectation).unwrap()], body.to_string().as_bytes())
}

#[test]
fn every_selected_value_must_be_as_expected() {
    let body = json!({ "up": [{ "n": "a", "s": 1 }, { "n": "b", "s": 1.0 }], "none": null });
    for met in [
        json!({ "path": "$.up[*].s", "equals": 1 }),
        json!({ "path": "$.up[?@.n == 'b'].s", "equals": 1 }),
        json!({ "path": "$.none", "equals": null }),
        json!({ "path": "$.up[0]", "equals": { "s": 1, "n": "a" } }),
        json!({ "path": "$..n", "matches": "^[ab]$" }),
        json!({ "path": "$.up[0]", "matches": "\"s\":1" }),
        json!({ "path": "$.up[?length(@.n) == 1]" }),
        json!({ "path": "$.up[?match(@.n, '[ab]')].s", "equals": 1 }),
        json!({ "path": "$..up[?@.s == $.up[0].s]..n", "matches": "^[ab]$" }),
        json!({ "path": "$.none", "exists": true }),
        json!({ "path": "$.down", "exists": false }),
    ] {
        assert_eq!(check(met.clone(), &body), None, "{met}");
    }
    for (unmet, said) in [
        (json!({ "path": "$.up[*].n", "equals": "a" }), "$.up[*].n is \"b\"; expected \"a\""),
        (json!({ "path": "$.down", "equals": "a" }), "$.down is missing; expected \"a\""),
        (json!({ "path": "$..n", "matches": "^a" }), "$..n is \"b\"; expected /^a/"),
        (json!({ "path": "$.down" }), "$.down is missing; expected a value"),
        (json!({ "path": "$.none", "exists": false }), "$.none is null; expected none"),
    ] {
        assert_eq!(check(unmet, &body).unwrap(), said);
    }
    let long = json!({ "a": "x".repeat(9000) });
    assert!(check(json!({ "path": "$.a", "equals": 1 }), &long).unwrap().len() < 100);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let error = |expectation| read(expectation).unwrap_err().to_string();
    let both = json!({ "path": "$", "equals": 1, "exists": true });
    assert!(error(both).starts_with("only one of"));
    assert!(error(json!({ "path": "status" })).starts_with("not a JSONPath (RFC 9535): at"));
    assert!(
        error(json!({ "path": "$[?match(@.a)]" })).starts_with("not a JSONPath (RFC 9535): at")
    );
    assert!(error(json!({ "equals": 1 })).starts_with("missing field `path`"));
}

#[test]
fn a_path_that_costs_too_much_on_a_body_is_not_evaluated_and_says_so() {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let expectation = read(json!({ "path": "$..*..*..*..*", "exists": false })).unwrap();
    let said = unmet(&[expectation], deep.as_bytes()).unwrap();
    assert!(said.starts_with("$..*..*..*..* would take up to"), "{said}");
    assert!(
        said.ends_with("(101 values, 101 deep); at most 4000000 are allowed for all paths"),
        "{said}"
    );
}

#[test]
fn paths_share_what_they_may_cost() {
    let values = format!("[{}]", vec!["1"; 32_000].join(","));
    let one = || read(json!({ "path": "$[?@ && @ && @ && @ && @ && @ && @ && @ == 1]" })).unwrap();
    let expected: Vec<_> = std::iter::repeat_with(one).take(16).collect();
    assert_eq!(unmet(&expected[..4], values.as_bytes()), None);
    let said = unmet(&expected, values.as_bytes()).unwrap();
    assert!(said.contains("are allowed for all paths"), "{said}");
}

#[test]
fn an_expression_does_not_look_at_a_text_again_and_again() {
    let deep = |levels: usize| {
        format!("{}\"{}\"{}", "[".repeat(levels), "a".repeat(50_000), "]".repeat(levels))
    };
    let all = || [read(json!({ "path": "$..*", "matches": "a" })).unwrap()];
    assert_eq!(unmet(&all(), deep(4).as_bytes()), None);
    let said = unmet(&all(), deep(6).as_bytes()).unwrap();
    assert_eq!(said, "$..* selects more than 262144 bytes");
}
