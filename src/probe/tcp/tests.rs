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

/// A target that greets, answers two commands in two segments and in one, and hangs then.
async fn mail() -> Server {
    Server::start(|mut stream| async move {
        let mut command = [0; 4];
        stream.write_all(b"220 mail\r\n").await.unwrap();
        stream.read_exact(&mut command).await.unwrap();
        assert_eq!(&command, b"EHLO");
        stream.write_all(b"250-mail\r\n250-").await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"SIZE\r\n250 OK\r\n").await.unwrap();
        stream.read_exact(&mut command).await.unwrap();
        stream.write_all(b"354 go\r\n250 queued\r\n").await.unwrap();
        hold(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_dialogue_of_several_steps_goes_on_where_the_one_before_has_ended() {
    let server = mail().await;
    let spec = json!({ "dialogue": [
        { "expect": "220 " },
        { "send": "EHLO", "expect_matches": "(?m)^250 .*\r\n" },
        { "send": "DATA", "expect": "354 " },
        { "expect": "250 " },
    ] });
    assert_eq!(verdict(&ask(&tcp(spec, server.endpoint())).await), "success");
    // What has been heard once is not heard again.
    let spec = json!({ "dialogue": [{ "expect": "220" }, { "send": "EHLO", "expect": "220" }] });
    let observation = ask_within(&tcp(spec, server.endpoint()), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
    let detail = observation.detail.unwrap();
    assert!(detail.contains("step 2 of 2: "), "{detail}");
    assert!(detail.contains("expected \"220\"; got \"mail"), "{detail}");
}

#[test]
fn a_dialogue_that_says_nothing_or_too_much_is_refused() {
    let steps = |count| vec![json!({ "expect": "x" }); count];
    for (spec, said) in [
        (json!({ "dialogue": [{ "expect": "220" }, {}] }), "neither sends nor expects"),
        (json!({ "dialogue": steps(1), "send": "x" }), "not both"),
        (json!({ "dialogue": steps(17) }), "more than 16 steps"),
    ] {
        let error = Probe::prepare(&testing::spec(spec)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(Probe::prepare(&testing::spec(json!({ "dialogue": steps(16) }))).is_ok());
}
