//! What paths select, and what they may cost.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;

/// The example of RFC 9535, 1.5, as its tables use it.
fn bookstore() -> Value {
    json!({ "store": {
        "book": [
            { "category": "reference", "author": "Nigel Rees", "title": "Sayings of the Century",
              "price": 8.95 },
            { "category": "fiction", "author": "Evelyn Waugh", "title": "Sword of Honour",
              "price": 12.99 },
            { "category": "fiction", "author": "Herman Melville", "title": "Moby Dick",
              "isbn": "0-553-21311-3", "price": 8.99 },
            { "category": "fiction", "author": "J. R. R. Tolkien", "title": "The Lord of the Rings",
              "isbn": "0-395-19395-8", "price": 22.99 },
        ],
        "bicycle": { "color": "red", "price": 399 },
    } })
}

fn select(path: &str, body: &Value) -> Result<Vec<Value>, String> {
    let body = Document::read(body.to_string().as_bytes()).unwrap();
    let path: JsonPath = path.parse().unwrap();
    path.select(&body, false).map(|selected| selected.into_iter().cloned().collect())
}

#[track_caller]
fn check(path: &str, body: &Value, expected: &Value) {
    assert_eq!(Value::Array(select(path, body).unwrap()), *expected, "{path}");
}

#[test]
fn paths_select_what_the_rfc_says() {
    let store = bookstore();
    let prices = json!([399, 8.95, 12.99, 8.99, 22.99]);
    for (path, selected) in [
        ("$..book[2].author", json!(["Herman Melville"])),
        ("$..book[-1].price", json!([22.99])),
        ("$..book[0,1].price", json!([8.95, 12.99])),
        ("$..book[:2].price", json!([8.95, 12.99])),
        ("$..book[?@.isbn].price", json!([8.99, 22.99])),
        ("$..book[?@.price<10].title", json!(["Sayings of the Century", "Moby Dick"])),
        ("$.store..price", prices.clone()),
        ("$..store..price", prices),
        ("$..book[?@.price > $.store.book[1].price].price", json!([22.99])),
        ("$..book[?match(@.author, '[JH].*')].price", json!([8.99, 22.99])),
        ("$..book[?search(@.author, '^J|Ev')].price", json!([12.99, 22.99])),
        ("$.store[?count(@.*) > 2]..price", json!([8.95, 12.99, 8.99, 22.99])),
        ("$.store.book[?value(@..isbn) == '0-553-21311-3'].title", json!(["Moby Dick"])),
        ("$..*[?@[?@.isbn]]..isbn", json!(["0-553-21311-3", "0-395-19395-8"])),
    ] {
        check(path, &store, &selected);
    }
}

/// RFC 9485, and what RFC 9535 says of it.
#[test]
fn regular_expressions_are_those_of_the_rfc() {
    let body = json!(["ab", "b", "a\u{2028}b", "a\rb", "a\nb", "Äb", 1]);
    check("$[?match(@, 'a.*')]", &body, &json!(["ab", "a\u{2028}b"]));
    check("$[?match(@, 'b|ab')]", &body, &json!(["ab", "b"]));
    check("$[?search(@, 'a.b')]", &body, &json!(["a\u{2028}b"]));
    check(r"$[?match(@, '\\p{Lu}b')]", &body, &json!(["Äb"]));
    check("$[?match(@, '[')]", &body, &json!([]));
    check("$[?match(@, 'a)|(?:b')]", &body, &json!([]));
    check("$[?!match(@, 'a.*')]", &json!([1, "b"]), &json!([1, "b"]));
    let pairs = json!([{ "t": "ab", "r": "a." }, { "t": "ab", "r": "a" }, { "t": "ab", "r": "(" }]);
    check("$[?match(@.t, @.r)].r", &pairs, &json!(["a."]));
    check("$[?search(@.t, @.r)].r", &pairs, &json!(["a.", "a"]));
}

#[test]
fn a_body_does_not_have_many_expressions_compiled() {
    let pairs = |count: usize| Value::Array(vec![json!({ "t": "ab", "r": "a." }); count]);
    assert_eq!(select("$[?match(@.t, @.r)]", &pairs(4)).unwrap().len(), 4);
    let refused = select("$[?match(@.t, @.r)]", &pairs(5)).unwrap_err();
    assert!(refused.starts_with("would have too much text looked at"), "{refused}");
    assert_eq!(select("$[?match(@.t, 'a.')]", &pairs(5)).unwrap().len(), 5, "its own is one");
    let of = |expression: &str| json!([{ "t": "ab", "r": expression }]);
    assert!(select("$[?search(@.t, @.r)]", &of("a(.{1000}){1000}")).unwrap().is_empty());
    // Each class is some KiB before it is known how large the whole is.
    assert!(select("$[?search(@.t, @.r)]", &of(&r"\w".repeat(20_000))).is_err());
}

#[test]
fn large_expressions_do_not_look_at_long_texts() {
    let texts = |length: usize| json!(["a".repeat(length)]);
    assert_eq!(select("$[?search(@, 'a$')]", &texts(60_000)).unwrap().len(), 1);
    assert_eq!(select("$[?search(@, '[ab]*a[ab]{1000}$')]", &texts(2000)).unwrap().len(), 1);
    assert!(select("$[?search(@, '[ab]*a[ab]{5000}$')]", &texts(60_000)).is_err());
}

#[test]
fn what_takes_long_to_read_is_refused() {
    let nested =
        |filters: usize| (0..filters).fold("@.a".to_owned(), |inner, _| format!("@[?{inner}]"));
    for path in [
        format!("$.{}", "a".repeat(300)),
        format!("$[?{}@.a{}]", "(".repeat(9), ")".repeat(9)),
        format!("$[?{}]", nested(8)),
    ] {
        assert_eq!(path.parse::<JsonPath>(), Err(JsonPathError::TooLong), "{path}");
    }
    let function = (0..8).fold("@.a".to_owned(), |inner, _| format!("value({inner})"));
    // The library's parser panics at the end of such a text.
    for path in [r"$['\u", r#"$["\uD83D\u"#, "$['"] {
        assert_eq!(path.parse::<JsonPath>(), Err(JsonPathError::Open), "{path}");
    }
    for path in [format!("$[?{}]", nested(7)), format!("$[?{function}==1]")] {
        let started = Instant::now();
        let read = path.parse::<JsonPath>();
        assert_ne!(read, Err(JsonPathError::TooLong), "{path}");
        // Some milliseconds in a release build.
        assert!(started.elapsed() < Duration::from_secs(3), "{path}");
    }
}

#[test]
fn costs_are_of_what_the_path_can_reach() {
    let of = |path: &str| {
        let Cost { ways, descents, roots, .. } = Cost::of(&without_strings(path).unwrap());
        (ways, descents, roots)
    };
    assert_eq!(of("$.a['..', '\\'..?$']['$?', 1]"), (4, 0, 0));
    assert_eq!(of("$..a..b"), (1, 2, 0));
    assert_eq!(of("$..[?@.a == 1]"), (1, 1, 0));
    assert_eq!(of("$[?@.a == $.b]"), (1, 0, 0), "leads to one value");
    assert_eq!(of("$[?@.a == $ .b [ 'c' ] [-1]]"), (1, 0, 0));
    assert_eq!(of("$[?@.a == $ && $..b || $.* || $[?@] || $[0,1]]"), (2, 1, 1));
    assert_eq!(of("$[?count($.a[?count($.b.*) > 1]) > 1]"), (1, 0, 2), "within one another");
    assert_eq!(of("$[?match(@.a, $.b)]"), (1, 0, 1), "the text may be long");
    assert_eq!(of("$[?($.b == @.a) && length( $.b) > 1]"), (1, 0, 1));
    assert_eq!(of("$[?$.a  != $.b]"), (1, 0, 1), "all of both is compared");
    assert_eq!(of("$[?@.a > $.low && @.a < $.high]"), (1, 0, 0));
    assert_eq!(of("$[0,1,2][?@[1,2] && match(@, 'a,b')]"), (6, 0, 0));
}

#[test]
fn usual_paths_are_evaluated_on_usual_bodies() {
    let parts: Vec<_> = (0..300).map(|n| json!({ "name": n, "is": { "up": [true] } })).collect();
    let body = json!({ "least": 7, "parts": parts });
    for path in [
        "$..parts..is..up",
        "$.parts[?@.name > $.least && @.is.up[0] == true]",
        "$..[?@.up[?@ == true]]",
        "$.parts[?match(@.name, 'a.*') || search(@.name, 'b')]",
        "$.parts[0,1,2,3,4,5,6,7]['name','is']",
    ] {
        assert!(select(path, &body).is_ok(), "{path}: {:?}", select(path, &body));
    }
}

/// Each of these is quick, or is refused, on the worst bodies that can be thought of.
#[test]
fn no_path_takes_long_on_any_body() {
    let deep = |leaves: &str| format!("{}{leaves}{}", "[".repeat(120), "]".repeat(120));
    let flat = deep(&vec!["1"; 32_000].join(","));
    let nested = deep(&vec!["[[[[1]]]]"; 6_000].join(","));
    let text = format!("[{},\"{}\"]", vec!["1"; 16_000].join(","), "a".repeat(30_000));
    let bodies = [flat, nested, text].map(|body| Document::read(body.as_bytes()).unwrap());
    let paths = [
        "$..[*,*,*]",
        "$..*..*",
        "$..*..*..*..*",
        "$..[?@ == @ || @ == @ || @ == @]",
        "$..[?@ == $]",
        "$[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]\
         [?match('','a')||match('','a')||match('','a')||match('','a')||match('','a')]",
        "$[?$ == $]",
        "$..[?$[0] == $[0]]",
        "$..[?@[?@[?@ == $]]]",
        "$..[?@.*.*.*.*.*.*.*]",
        "$[*,*][*,*][*,*]",
        "$[*,*,*,*,*,*,*,*][*,*,*,*,*,*,*,*][*,*,*,*,*,*,*,*][*,*,*,*,*,*,*,*]",
        "$..[?count(@.*) > 1 && count(@.*.*) > 1]",
        "$..[?count(@..*) > 1 && count(@..*..*) > 1]",
        "$..[?count($..*) > 1]",
        "$..[?length($[16000]) == 1]",
        "$..[?search($[16000], 'a*b')]",
        "$..[?search(@, '(a*)*b(a?){20}c')]",
        "$..[?search(@, '[ab]*a[ab]{5000}c')]",
        "$..[?match(@, @)]",
    ];
    let mut evaluated = 0;
    for path in paths {
        let path: JsonPath = path.parse().unwrap();
        for body in &bodies {
            let started = Instant::now();
            evaluated += u32::from(path.select(body, false).is_ok());
            // Some milliseconds in a release build.
            assert!(started.elapsed() < Duration::from_secs(3), "{path:?}");
        }
    }
    assert!(evaluated > 10, "most are refused: {evaluated} evaluated");
}
