//! Servers that answer the call badly on purpose, and hints that are none.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::io::AsyncReadExt;

use super::*;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A gRPC answer: its content type, its body, and its status in a trailer if there is one.
#[derive(Debug, Clone)]
struct Answering {
    content_type: &'static str,
    body: Vec<u8>,
    status: Option<&'static str>,
    metadata: Option<(&'static str, &'static str)>,
}

/// `SERVING`, as it should be.
fn good() -> Answering {
    Answering {
        content_type: "application/grpc",
        body: vec![0, 0, 0, 0, 2, 8, 1],
        status: Some("0"),
        metadata: None,
    }
}

impl Answering {
    fn response(&self) -> http::Response<Body> {
        let body = Full::new(Bytes::from(self.body.clone()));
        let body = match self.status {
            None => body.boxed_unsync(),
            Some(status) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(status));
                body.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync()
            }
        };
        let mut response = http::Response::builder().header("content-type", self.content_type);
        if let Some((name, value)) = self.metadata {
            response = response.header(name, value);
        }
        response.body(body).unwrap()
    }
}

async fn ask_answering(answer: Answering) -> Observation {
    let server = Server::start(move |stream| {
        let answer = answer.clone();
        async move {
            let service = hyper::service::service_fn(move |_| {
                let response = answer.response();
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            serving.await.unwrap_or_default();
        }
    })
    .await;
    ask_both(json!({}), server.endpoint(), Duration::from_secs(2)).await
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_has_its_reason() {
    let mut wrong = Vec::new();
    let mut huge = vec![0, 0, 0x10, 0, 0];
    huge.resize(0x10_0005, 0);
    for (name, answer, expected) in [
        ("good", good(), "success SERVING"),
        ("no trailers", Answering { status: None, ..good() }, "failure protocol"),
        (
            "another content type",
            Answering { content_type: "text/html", ..good() },
            "failure protocol",
        ),
        ("a huge message", Answering { body: huge, ..good() }, "failure protocol"),
        (
            "a compressed message",
            Answering { body: vec![1, 0, 0, 0, 2, 8, 1], ..good() },
            "failure protocol",
        ),
        (
            "a message cut short",
            Answering { body: vec![0, 0, 0, 0, 9, 8, 1], ..good() },
            "failure protocol",
        ),
        ("no message", Answering { body: Vec::new(), ..good() }, "failure protocol"),
        (
            "a message that is none",
            Answering { body: vec![0, 0, 0, 0, 2, 0xff, 0xff], ..good() },
            "failure protocol",
        ),
        ("a status of another kind", Answering { status: Some("x"), ..good() }, "failure status"),
    ] {
        let observation = ask_answering(answer).await;
        if verdict(&observation) != expected {
            wrong.push(format!("{name}: {observation:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_target_that_lets_nothing_be_sent_is_late() {
    // Its SETTINGS give streams a window of 0.
    let server = frames(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0").await;
    let observation = ask_both(json!({}), server.endpoint(), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
}

#[tokio::test]
async fn a_server_says_how_long_its_answer_holds() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (metadata, expected) in [
        (("ttl_seconds", "30"), seconds(30)),
        (("ttl-seconds", "5"), seconds(5)),
        (("ttl_seconds", "4294967295"), seconds(4_294_967_295)),
        (("ttl_seconds", "4294967296"), None),
        (("ttl_seconds", "0"), None),
        (("ttl_seconds", "-1"), None),
        (("ttl_seconds", "soon"), None),
        (("ttl_minutes", "30"), None),
    ] {
        let observation = ask_answering(Answering { metadata: Some(metadata), ..good() }).await;
        assert_eq!(verdict(&observation), "success SERVING");
        assert_eq!(observation.ask_again, expected, "{metadata:?}");
    }
}

#[tokio::test]
async fn details_of_a_status_that_nobody_can_read_do_no_harm() {
    const DETAILS: &str = "grpc-status-details-bin";
    for in_head in [true, false] {
        let server = Server::start(move |stream| async move {
            let service = hyper::service::service_fn(move |_| async move {
                let mut status = HeaderMap::new();
                status.insert("grpc-status", HeaderValue::from_static("7"));
                status.insert(DETAILS, HeaderValue::from_static("!"));
                let mut response = http::Response::new(Full::new(Bytes::new()).boxed_unsync());
                if in_head {
                    *response.headers_mut() = status;
                } else {
                    let empty = Full::new(Bytes::new());
                    *response.body_mut() =
                        empty.with_trailers(async { Some(Ok(status)) }).boxed_unsync();
                }
                Ok::<http::Response<Body>, std::convert::Infallible>(response)
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            serving.await.unwrap_or_default();
        })
        .await;
        let target = grpc(json!({ "watch": true }), server.endpoint());
        assert_eq!(verdict(&ask(&target).await), "failure status", "in the head: {in_head}");
        // The stream is refused in the same way.
        tokio::time::timeout(PATIENCE, target.woken()).await.expect("the target wakes us");
        assert!(target.is_listened_to());
    }
}

/// What a server says over one connection, call by call; it reads the calls, and no more.
async fn saying(answers: Vec<Vec<u8>>) -> Server {
    let answers = Arc::new(answers);
    Server::start(move |mut stream| {
        let answers = Arc::clone(&answers);
        async move {
            let mut sink = [0; 1024];
            for answer in &*answers {
                if !matches!(stream.read(&mut sink).await, Ok(1..)) {
                    return;
                }
                stream.write_all(answer).await.unwrap();
            }
            hold(&mut stream).await;
        }
    })
    .await
}

/// `SERVING` to the call on this stream, after what opens a connection if it is the first; and its
/// trailers have the index 62 in the table if they had it before.
fn answered(stream: u8) -> Vec<u8> {
    let head: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, stream, 0x88];
    let data = &[0, 0, 7, 0, 0, 0, 0, 0, stream, 0, 0, 0, 0, 2, 8, 1];
    let trailers: &[u8] =
        if stream == 1 { b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x010" } else { b"\xbe" };
    let length = u8::try_from(trailers.len()).unwrap();
    let end = [&[0, 0, length, 1, 5, 0, 0, 0, stream], trailers].concat();
    let settings: &[u8] = if stream == 1 { b"\0\0\0\x04\0\0\0\0\0" } else { b"" };
    [settings, head, data, &end].concat()
}

#[tokio::test]
async fn what_was_said_before_is_remembered_on_a_kept_connection() {
    let server = saying(vec![answered(1), answered(3), answered(5)]).await;
    let target = grpc(json!({}), server.endpoint());
    for _ in 0..3 {
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_comes_between_two_calls_is_taken_in() {
    // A ping, credit, and the end of the call before, in one piece with the answer and not.
    let after = b"\0\0\x08\x06\0\0\0\0\0question\0\0\x04\x08\0\0\0\0\0\0\0\0\x09\0\0\x04\x03\0\0\0\0\x01\0\0\0\0";
    for cut in [0, 5, after.len()] {
        let first = [&answered(1), &after[..cut]].concat();
        let server = saying(vec![first, [&after[cut..], &answered(3)].concat()]).await;
        let target = grpc(json!({}), server.endpoint());
        for _ in 0..2 {
            assert_eq!(verdict(&ask(&target).await), "success SERVING");
        }
        assert_eq!(server.connections(), 1, "{cut}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_order_is_not_used_again() {
    let goaway = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0";
    for said in [[goaway, &answered(1)[9..]].concat(), [&answered(1)[9..], goaway].concat()] {
        let first = [b"\0\0\0\x04\0\0\0\0\0", &said[..]].concat();
        let server = saying(vec![first]).await;
        let target = grpc(json!({}), server.endpoint());
        for _ in 0..2 {
            assert_eq!(verdict(&ask(&target).await), "success SERVING");
        }
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn a_fault_on_a_kept_connection_is_not_held_against_the_target() {
    for fault in [&b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x07"[..], b"nonsense, and no frames", b""] {
        let server = saying(vec![answered(1), fault.to_vec()]).await;
        let target = grpc(json!({}), server.endpoint());
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
        if fault.is_empty() {
            // Silence lasts as long as the probe may.
            let observation = ask_within(&target, SHORT).await;
            assert_eq!(verdict(&observation), "failure timeout_response");
        } else {
            assert_eq!(verdict(&ask(&target).await), "success SERVING");
            assert_eq!(server.connections(), 2);
        }
    }
}

#[tokio::test]
async fn a_slow_target_has_its_settings_and_pings_answered() {
    let (answer, mut answers) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |mut stream| {
        let answer = answer.clone();
        async move {
            stream.write_all(b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0question").await.unwrap();
            let mut said = Vec::new();
            while !said.ends_with(b"question") {
                stream.read_buf(&mut said).await.unwrap();
            }
            answer.send(said).await.unwrap();
            stream.write_all(&answered(1)[9..]).await.unwrap();
            hold(&mut stream).await;
        }
    })
    .await;
    assert_eq!(verdict(&ask(&grpc(json!({}), server.endpoint())).await), "success SERVING");
    let said = answers.recv().await.unwrap();
    assert!(said.ends_with(b"\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\0question"));
}

#[tokio::test]
async fn without_keep_alive_each_call_has_its_connection() {
    let running = start().await;
    let target = grpc(json!({ "keep_alive": false }), running.server.endpoint());
    for _ in 0..3 {
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
    }
    assert_eq!(running.server.connections(), 3);
    let both = testing::spec::<Spec>(json!({ "keep_alive": false, "watch": true }));
    let error = Probe::prepare(&both).unwrap_err();
    assert!(error.to_string().contains("`watch` needs"), "{error}");
}

#[tokio::test]
async fn metadata_too_long_for_one_frame_arrives() {
    let running = start().await;
    let long = "x".repeat(15_000);
    let spec =
        json!({ "service": "token", "metadata": { "a": long, "x-token": "here", "te": "no" } });
    let observation = ask(&grpc(spec, running.server.endpoint())).await;
    assert!(
        observation.detail.as_ref().unwrap().contains("Unauthenticated: here"),
        "{observation:?}"
    );
}

#[tokio::test]
async fn an_end_within_a_frame_is_a_cut() {
    let server = Server::start(|mut stream| async move {
        stream.read_exact(&mut [0; 32]).await.unwrap();
        say_and_close(&mut stream, &answered(1)[..30]).await;
    })
    .await;
    let observation = ask_both(json!({}), server.endpoint(), PATIENCE).await;
    assert_eq!(verdict(&observation), "failure connection_reset");
}
