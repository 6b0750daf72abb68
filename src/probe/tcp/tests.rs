//! TCP probes: connecting, dialogues, and what breaks them.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    model::Observation,
    probe::{
        Spec as AnySpec, Target,
        testing::{
            self, Deaf, Server, ask, ask_within, closed_port, hold, say_and_close, target, verdict,
        },
    },
};

const SHORT: Duration = Duration::from_millis(150);

fn tcp(json: Value, endpoint: Endpoint) -> Target {
    target(&AnySpec::Tcp(testing::spec(json)), endpoint)
}

/// A target that says so at once, and closes the connection.
async fn greeting(text: impl AsRef<[u8]>) -> Server {
    let text: Arc<[u8]> = text.as_ref().into();
    Server::start(move |mut stream| {
        let text = Arc::clone(&text);
        async move { say_and_close(&mut stream, &text).await }
    })
    .await
}

/// A target that says `+PONG` to `PING`, and nothing to anything else.
async fn redis() -> Server {
    Server::start(|mut stream| async move {
        let mut request = [0; 6];
        stream.read_exact(&mut request).await.unwrap();
        let answer: &[u8] = if &request == b"PING\r\n" { b"+PONG\r\n" } else { b"-ERR\r\n" };
        stream.write_all(answer).await.unwrap();
        hold(&mut stream).await;
    })
    .await
}

async fn ask_greeting(spec: Value, text: &str) -> Observation {
    let server = greeting(text).await;
    ask(&tcp(spec, server.endpoint())).await
}

#[tokio::test]
async fn a_connection_is_enough_if_nothing_is_expected() {
    let server = greeting("").await;
    let observation = ask(&tcp(json!({}), server.endpoint())).await;
    assert_eq!(verdict(&observation), "success");
    assert_eq!(observation.peer, Some(server.address));
    for close in ["reset", "fin"] {
        let target = tcp(json!({ "close": close }), server.endpoint());
        assert_eq!(verdict(&ask(&target).await), "success");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_made_has_its_reason() {
    let observation = ask(&tcp(json!({}), testing::endpoint(closed_port()))).await;
    assert_eq!(verdict(&observation), "failure connection_refused");
    let deaf = Deaf::new();
    let observation = ask_within(&tcp(json!({}), testing::endpoint(deaf.address)), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_connect");
    let detail = observation.detail.unwrap();
    let expected = format!("TCP {0}: no connection to {0} within 150ms", deaf.address);
    assert_eq!(*detail, *expected);
}

#[tokio::test]
async fn a_dialogue_ends_when_the_expectation_is_met() {
    let server = redis().await;
    let spec = json!({ "send": "PING\\r\\n", "expect": "+PONG\\r\\n" });
    assert_eq!(verdict(&ask(&tcp(spec, server.endpoint())).await), "success");
    let spec = json!({ "send": "PING\\r\\n", "expect_matches": r"^\+P[A-Z]+NG" , "expect": "PO" });
    assert_eq!(verdict(&ask(&tcp(spec, server.endpoint())).await), "success");
    assert_eq!(
        verdict(&ask_greeting(json!({ "expect": "220" }), "220 mail ESMTP\r\n").await),
        "success"
    );
}

#[tokio::test]
async fn a_wrong_answer_is_told_apart_by_how_it_ends() {
    let expect = json!({ "expect": "220" });
    assert_eq!(verdict(&ask_greeting(expect.clone(), "").await), "failure connection_reset");
    let observation = ask_greeting(expect.clone(), "554 go\x07 away\r\n").await;
    assert_eq!(verdict(&observation), "failure body");
    let detail = observation.detail.unwrap();
    assert!(
        detail.ends_with("the answer is not as expected; expected \"220\"; got \"554 go? away\""),
        "{detail}"
    );
    let observation = ask_greeting(expect, &"x".repeat(70_000)).await;
    assert_eq!(verdict(&observation), "failure body");

    let server = redis().await;
    let spec = json!({ "send": "AUTH\\r\\n", "expect": "+PONG" });
    let observation = ask_within(&tcp(spec, server.endpoint()), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
    let detail = observation.detail.unwrap();
    assert!(detail.ends_with("expected \"+PONG\"; got \"-ERR\""), "{detail}");
}

#[tokio::test]
async fn what_is_sent_arrives_although_nothing_is_expected() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            sender.send(text).await.unwrap();
        }
    })
    .await;
    let target = tcp(json!({ "send": "QUIT\\r\\n" }), server.endpoint());
    assert_eq!(verdict(&ask(&target).await), "success");
    assert_eq!(receiver.recv().await.as_deref(), Some("QUIT\r\n"));
}

#[tokio::test]
async fn the_whole_dialogue_is_one_phase() {
    let server = redis().await;
    let spec = json!({ "send": "PING\\r\\n", "expect": "+PONG" });
    let observation = ask(&tcp(spec, server.endpoint())).await;
    assert!(!observation.phases.get(Phase::Exchange).is_zero());
    assert!(observation.phases.get(Phase::Transfer).is_zero());
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let server = Server::start(|mut stream| async move {
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let observation = ask(&tcp(json!({ "expect": "y" }), server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure body");
}
