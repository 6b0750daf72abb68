//! HTTP probes against scripted servers, kind and hostile.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    model::{Observation, Outcome, Phase},
    probe::{
        Spec as AnySpec, Target,
        testing::{
            self, Deaf, Server, ask, ask_within, closed_port, hold, read_request, say_and_close,
            target, verdict,
        },
    },
};

mod form;
mod frames;
mod h2;
mod hostile;
mod kept;
mod options;
mod redirects;

const SHORT: Duration = Duration::from_millis(150);

fn http(json: Value, endpoint: Endpoint) -> Target {
    target(&AnySpec::Http(testing::spec(json)), endpoint)
}

/// Probes a server that answers so, and closes the connection; tells the verdict.
async fn answer(spec: Value, answer: impl AsRef<[u8]>) -> String {
    let server = Server::answering(answer).await;
    verdict(&ask(&http(spec, server.endpoint())).await)
}

/// An answer that points elsewhere.
fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// As [`answer`], and tells the detail.
async fn detail(spec: Value, answer: impl AsRef<[u8]>) -> String {
    let server = Server::answering(answer).await;
    let observation = ask(&http(spec, server.endpoint())).await;
    let port = server.address.port().to_string();
    observation.detail.unwrap().replace(&port, "PORT")
}

#[tokio::test]
async fn a_status_decides_by_the_expected_set() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(answer(json!({}), OK).await, "success 200");
    assert_eq!(answer(json!({}), "HTTP/1.0 200 OK\r\n\r\nok").await, "success 200");
    assert_eq!(answer(json!({}), "HTTP/1.1 204\r\n\r\n").await, "success 204");
    assert_eq!(answer(json!({}), "HTTP/1.1 500 x\r\n\r\n").await, "failure status 500");
    assert_eq!(answer(json!({}), "HTTP/1.1 301 x\r\n\r\n").await, "failure status 301");
    assert_eq!(answer(json!({}), "HTTP/1.1 429 x\r\n\r\n").await, "warning status 429");
    let expected = |set: Value| json!({ "expected_status": set });
    assert_eq!(
        answer(expected(json!(["200-299", 429])), "HTTP/1.1 429 x\r\n\r\n").await,
        "success 429"
    );
    assert_eq!(answer(expected(json!("500")), "HTTP/1.1 500 x\r\n\r\n").await, "success 500");
    assert_eq!(answer(expected(json!("500")), OK).await, "failure status 200");
    assert_eq!(
        answer(json!({ "method": "HEAD" }), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await,
        "success 200"
    );
}

#[tokio::test]
async fn a_detail_says_what_was_seen_and_what_was_expected() {
    assert_eq!(
        detail(json!({ "path": "/healthz" }), "HTTP/1.1 500 Whatever\r\n\r\ndb down\x1b[31m\n")
            .await,
        "GET http://127.0.0.1:PORT/healthz: 500 Internal Server Error; expected 200-299; \
         body: \"db down?[31m\""
    );
    assert_eq!(
        detail(json!({ "body_contains": "ready" }), "HTTP/1.1 200 OK\r\n\r\nstarting").await,
        "GET http://127.0.0.1:PORT/: 200 OK; the body does not contain \"ready\"; \
         body: \"starting\""
    );
}

#[tokio::test]
async fn a_body_decides_when_something_is_expected_of_it() {
    const OK: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2;x=y\r\ndy\r\n0\r\n\r\n";
    assert_eq!(answer(json!({ "body_contains": "ready" }), OK).await, "success 200");
    assert_eq!(answer(json!({ "body_contains": "well" }), OK).await, "failure body 200");
    assert_eq!(answer(json!({ "body_matches": "^re.d[a-z]$" }), OK).await, "success 200");
    assert_eq!(answer(json!({ "body_matches": "^well" }), OK).await, "failure body 200");
    assert_eq!(
        answer(
            json!({ "body_contains": "x" }),
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx"
        )
        .await,
        "failure body 200"
    );
}

#[tokio::test]
async fn a_header_decides_when_something_is_expected_of_it() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Role: replica\r\n\
                      x-role: primary\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok";
    let expecting = async |headers: Value| answer(json!({ "expected_headers": headers }), OK).await;
    for met in [
        json!({ "content-type": "application/json" }),
        json!({ "content-type": { "equals": "application/json" } }),
        json!({ "Content-Type": { "contains": "json" }, "content-length": "2" }),
        json!({ "Content-Type": { "matches": "^application/(.*[+])?json$" } }),
        json!({ "X-Debug": { "absent": true } }),
        json!({ "X-Role": "primary", "X-Empty": "" }),
    ] {
        assert_eq!(expecting(met.clone()).await, "success 200", "{met}");
    }
    for unmet in [
        json!({ "content-type": "Application/JSON" }),
        json!({ "content-type": { "contains": "xml" } }),
        json!({ "content-type": { "matches": "^json" } }),
        json!({ "content-type": "application/json", "x-none": { "matches": "" } }),
        json!({ "X-Role": { "absent": true } }),
    ] {
        assert_eq!(expecting(unmet.clone()).await, "failure header 200", "{unmet}");
    }
    let twice = json!({ "expected_headers": { "X-Role": "x" }, "expected_status": 204 });
    assert_eq!(answer(twice, OK).await, "failure status 200");
}

#[tokio::test]
async fn a_json_body_decides_by_its_paths() {
    let expecting = async |expected: Value, body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let server = Server::answering(head + body).await;
        let observation = ask(&http(json!({ "body_json": expected }), server.endpoint())).await;
        let detail = observation.detail.as_deref().unwrap_or_default();
        let (_, detail) = detail.split_once("200 OK; ").unwrap_or_default();
        format!("{} {detail}", verdict(&observation))
    };
    let status = json!([{ "path": "$.status", "equals": "ok" }]);
    let ok = "{\"status\": \"ok\", \"checks\": [{\"name\": \"db\"}]}";
    assert_eq!(expecting(status.clone(), ok).await, "success 200 ");
    let all = json!([{ "path": "$.checks[?@.name == 'db']" }, { "path": "$.x", "exists": false }]);
    assert_eq!(expecting(all, ok).await, "success 200 ");
    assert_eq!(
        expecting(status.clone(), "{\"status\":\"down\"}").await,
        "failure body 200 $.status is \"down\"; expected \"ok\"; body: \"{\"status\":\"down\"}\""
    );
    assert_eq!(
        expecting(status.clone(), "ok").await,
        "failure body 200 the body is not JSON: expected value at line 1 column 1; body: \"ok\""
    );
    assert!(expecting(status.clone(), "").await.starts_with("failure body 200 the body is not"));
    let deep = "[".repeat(60_000);
    assert!(expecting(status.clone(), &deep).await.contains("recursion limit"));
    let long = format!("{{\"status\": \"ok\", \"x\": \"{}\"}}", "x".repeat(70_000));
    assert!(expecting(status, &long).await.contains("longer than 64 KiB and not read as JSON"));
}

#[tokio::test]
async fn a_detail_says_which_header_was_seen_and_what_was_expected() {
    let detail = async |expected: Value, lines: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let detail = detail(json!({ "expected_headers": { "X-Role": expected } }), answer).await;
        detail.replace("GET http://127.0.0.1:PORT/: 200 OK; the header X-Role ", "")
    };
    let long = format!("X-Role: {}\r\n", "y".repeat(9000));
    assert_eq!(detail(json!("a"), "").await, "is missing; expected \"a\"");
    assert_eq!(
        detail(json!({ "contains": "a" }), "X-Role: b\u{fc}\u{202e}\r\nX-Role: c\r\n").await,
        "is \"b??\" (2 values); expected one with \"a\""
    );
    assert_eq!(
        detail(json!({ "matches": "^a" }), &long).await,
        format!("is \"{}...\"; expected /^a/", "y".repeat(57))
    );
    assert_eq!(detail(json!({ "absent": true }), "x-role: b\r\n").await, "is \"b\"; expected none");
}

#[test]
fn an_expectation_of_a_header_is_one_of_four() {
    let read = |expected: Value| {
        serde_json::from_value::<Spec>(json!({ "expected_headers": { "X-Role": expected } }))
    };
    for wrong in [json!({}), json!({ "equals": "a", "contains": "b" }), json!({ "absent": false })]
    {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.starts_with("exactly one of `equals`"), "{error}");
    }
    assert!(read(json!({ "starts": "a" })).is_err());
    assert!(read(json!({ "matches": "(" })).is_err());
    let name = json!({ "expected_headers": { "X Role": "a" } });
    let error = serde_json::from_value::<Spec>(name).unwrap_err().to_string();
    assert!(error.starts_with("`X Role` is not a header name"), "{error}");
}

#[tokio::test]
async fn an_answer_cut_short_is_a_reset() {
    for cut in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"] {
        assert_eq!(answer(json!({}), cut).await, "failure connection_reset", "{cut:?}");
    }
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        assert_eq!(answer(json!({}), cut).await, "failure connection_reset 200", "{cut:?}");
    }
}

#[tokio::test]
async fn a_malformed_head_breaks_the_protocol() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    let huge = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(40_000));
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9) + "HTTP/1.1 200 OK\r\n\r\n";
    for head in [
        "garbage",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "<html>HTTP/0.9</html>",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\u{12}\u{4}\0\0\0\0\0\0",
        "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{a}",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\na: b\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        &many,
        &huge,
        &flood,
    ] {
        let shown = head.get(..60).unwrap_or(head);
        assert_eq!(answer(json!({}), head).await, "failure protocol", "{shown:?}");
    }
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(answer(json!({}), chunk).await, "failure protocol 200");
}

#[tokio::test]
async fn a_head_at_the_limits_is_read() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(100));
    let interim = "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n".repeat(8);
    assert_eq!(answer(json!({}), &many).await, "success 200");
    assert_eq!(answer(json!({}), interim + "HTTP/1.1 200 OK\r\n\r\n").await, "success 200");
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(answer(json!({}), twice).await, "success 200");
}

/// Sends a head, then the same piece again and again, until the probe hangs up.
async fn endless(head: &'static str, piece: &'static str) -> Server {
    Server::start(move |mut stream| async move {
        read_request(&mut stream).await;
        let mut sent = stream.write_all(head.as_bytes()).await;
        while sent.is_ok() {
            sent = stream.write_all(piece.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_judged_by_its_start() {
    const PIECE: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    const CHUNK: &str = "3f\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\n\r\n", PIECE),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n", PIECE),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK),
    ] {
        let server = endless(head, piece).await;
        assert_eq!(verdict(&ask(&http(json!({}), server.endpoint())).await), "success 200");
        let observation = ask(&http(json!({ "body_contains": "y" }), server.endpoint())).await;
        assert_eq!(verdict(&observation), "failure body 200");
        let detail = observation.detail.unwrap();
        assert!(detail.contains("the first 64 KiB of the body do not contain"), "{detail}");
    }
    let server = endless("HTTP/1.1 200 OK\r\n", "a: b\r\n").await;
    assert_eq!(verdict(&ask(&http(json!({}), server.endpoint())).await), "failure protocol");
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;";
    let server = endless(chunks, "extension").await;
    assert_eq!(verdict(&ask(&http(json!({}), server.endpoint())).await), "failure protocol 200");
}

#[tokio::test]
async fn each_phase_has_its_timeout() {
    let deaf = Deaf::new();
    let observation = ask_within(&http(json!({}), testing::endpoint(deaf.address)), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_connect");
    assert!(observation.phases.get(Phase::Connect) >= SHORT / 2, "{observation:?}");

    let silent = Server::start(|mut stream| async move { hold(&mut stream).await }).await;
    let observation = ask_within(&http(json!({ "https": true }), silent.endpoint()), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_tls");
    let observation = ask_within(&http(json!({}), silent.endpoint()), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
    assert!(observation.phases.get(Phase::Exchange) >= SHORT / 2, "{observation:?}");
    assert!(observation.detail.unwrap().ends_with("no answer within 150ms"));

    for head in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"] {
        let stalling = Server::start(move |mut stream| async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            hold(&mut stream).await;
        })
        .await;
        let observation = ask_within(&http(json!({}), stalling.endpoint()), SHORT).await;
        assert!(verdict(&observation).starts_with("failure timeout_response"), "{observation:?}");
        assert!(observation.detail.unwrap().ends_with("answer not complete within 150ms"));
    }
}

#[tokio::test]
async fn progress_does_not_move_the_deadline() {
    let dripping = Server::start(|mut stream| async move {
        let text = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(10_000));
        for byte in text.as_bytes() {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let observation = ask_within(&http(json!({}), dripping.endpoint()), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
}

#[tokio::test]
async fn a_broken_connection_has_its_reason() {
    let observation = ask(&http(json!({}), testing::endpoint(closed_port()))).await;
    assert_eq!(verdict(&observation), "failure connection_refused");
    let resetting = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let observation = ask(&http(json!({}), resetting.endpoint())).await;
    assert_eq!(verdict(&observation), "failure connection_reset");
    assert_eq!(observation.peer, Some(resetting.address));
}

#[tokio::test]
async fn a_request_is_sent_as_configured() {
    let (server, requests) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = server.address.port().to_string();
    ask(&http(json!({}), server.endpoint())).await;
    ask(&http(
        json!({
            "method": "post", "path": "/check?full=1", "host": "shop.example", "body": "hi",
            "headers": { "X-One": "1", "X-Many": ["a", "b"], "user-agent": "me" },
        }),
        server.endpoint(),
    ))
    .await;
    let requests = requests.lock().unwrap().join("").replace(&port, "PORT");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        requests,
        format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nUser-Agent: rollcall/{version}\r\n\
             Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n\
             POST /check?full=1 HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n\
             Accept-Encoding: identity\r\nConnection: close\r\nX-Many: a\r\nX-Many: b\r\n\
             X-One: 1\r\nuser-agent: me\r\nContent-Length: 2\r\n\r\nhi"
        )
    );
}

#[tokio::test]
async fn a_url_of_its_own_replaces_the_instance() {
    let (server, requests) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let spec = json!({ "url": format!("http://{}/up", server.address) });
    let target = http(spec, testing::endpoint(closed_port()));
    assert_eq!(verdict(&ask(&target).await), "success 200");
    assert_eq!(target.url(), format!("http://{}/up", server.address));
    assert!(requests.lock().unwrap()[0].starts_with("GET /up HTTP/1.1\r\n"));
}

#[test]
fn contradictions_are_refused() {
    let conflict = |json: Value| Probe::prepare(&testing::spec(json)).unwrap_err().to_string();
    assert_eq!(
        conflict(json!({ "url": "http://a/", "tls": {} })),
        "`tls` is set, but the url starts with http://; use https://"
    );
    assert_eq!(
        conflict(json!({ "url": "http://a/", "path": "/b" })),
        "`url` has a path of its own; remove `path`"
    );
    assert_eq!(
        conflict(json!({ "method": "HEAD", "body_contains": "x" })),
        "the answer to HEAD has no body to match; use GET"
    );
}

#[test]
fn unknown_fields_are_refused() {
    let error = serde_json::from_value::<Spec>(json!({ "paht": "/" })).unwrap_err();
    assert!(error.to_string().starts_with("unknown field `paht`"), "{error}");
}

#[test]
fn equal_checks_are_equal_when_prepared() {
    let prepare = |json: Value| Probe::prepare(&testing::spec(json)).unwrap();
    assert_eq!(prepare(json!({ "https": true })), prepare(json!({ "https": true })));
    assert_ne!(prepare(json!({})), prepare(json!({ "https": true })));
    assert_ne!(prepare(json!({ "body_matches": "a" })), prepare(json!({ "body_matches": "b" })));
}

/// Runs the exchange on bytes that came over no network.
fn exchange_of(bytes: Vec<u8>) -> Result<Received, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut stream = tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink());
        let mut trace = Trace::new(testing::PATIENCE, Arc::default());
        let expected = ExpectedHeaders::default();
        let terms = Terms { body: Body::Allowed, after: After::Close, expected: &expected };
        let received = exchange::exchange(&mut stream, terms, &mut trace).await;
        assert!(trace.buffer.len() <= 2 * body::MAX_BODY);
        received
    })
}

proptest! {
    #[test]
    fn any_bytes_give_a_verdict(
        start in prop_oneof![
            Just(""),
            Just("HTTP/1.1 200 OK\r\n"),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Just("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "),
        ],
        rest in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..9),
                prop::sample::select(vec![
                    "\r\n", "\r\n\r\n", "Content-Length: ", "Location: ", "0", "9", "HTTP/1.1 ",
                    "200", "Transfer-Encoding: chunked\r\n", ":", ";",
                ]).prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..40,
        ),
    ) {
        let bytes = [start.as_bytes(), &rest.concat()].concat();
        match exchange_of(bytes) {
            Ok(received) => prop_assert!((200..=999).contains(&received.head.status)),
            Err(fault) => prop_assert!(!fault.detail.is_empty()),
        }
    }
}

#[test]
fn a_plain_request_is_known_beforehand() {
    let address: SocketAddr = "[::1]:80".parse().unwrap();
    let probe = Probe::prepare(&Spec::default()).unwrap();
    let mut request = Vec::new();
    let endpoint = testing::endpoint(address);
    let place = Place { scheme: Scheme::Http, endpoint: &endpoint, ids: None };
    probe.render(place, &mut request);
    assert!(request.starts_with(b"GET / HTTP/1.1\r\nHost: [::1]\r\n"));
}
