//! Servers that answer the call badly on purpose, and hints that are none.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

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
    ask_within(&grpc(json!({}), server.endpoint()), Duration::from_secs(2)).await
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
    let observation = ask_within(&grpc(json!({}), server.endpoint()), SHORT).await;
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
