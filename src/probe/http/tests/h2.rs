//! HTTP/2 against a server that knows it.

use std::{convert::Infallible, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::probe::{Held, Network, Prober, egress};

/// What a server was asked: the head's parts and the body.
type Asked = Arc<Mutex<Vec<String>>>;

/// Serves HTTP/2 on one connection: answers by the path.
async fn serve<S>(stream: S, asked: Asked)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer_to(request, Arc::clone(&asked)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    // It ends as the probe ends it.
    drop(connection.await);
}

async fn answer_to(
    request: Request<Incoming>,
    asked: Asked,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut headers: Vec<_> = parts.headers.iter().map(|(n, v)| format!("{n}: {v:?}")).collect();
    headers.sort();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let head = format!("{} {} {}", parts.method, parts.uri, headers.join(", "));
    asked.lock().unwrap().push(format!("{head} {body}"));
    let response = Response::builder();
    let (response, body) = match parts.uri.path() {
        "/down" => (response.status(503).header("Retry-After", "30"), "down".to_owned()),
        "/away" => (response.status(302).header("Location", "/"), String::new()),
        "/encoded" => (response.header("Content-Encoding", "gzip"), "x".to_owned()),
        "/many" => {
            let many = (0..101).fold(response, |all, n| all.header(format!("x-{n}"), "y"));
            (many, String::new())
        }
        "/large" => (response.header("x-large", "y".repeat(40_000)), String::new()),
        "/long" => (response, "x".repeat(100_000)),
        "/full" => (response, "x".repeat(body::MAX_BODY)),
        _ => (response.header("X-Role", "primary"), "{\"status\": \"ok\"}".to_owned()),
    };
    Ok(response.body(Full::from(body)).unwrap())
}

async fn plain() -> (Server, Asked) {
    let asked = Asked::default();
    let record = Arc::clone(&asked);
    let server = Server::start(move |stream| serve(stream, Arc::clone(&record))).await;
    (server, asked)
}

/// A server with TLS that agrees on one of these protocols, and speaks what was agreed on.
async fn with_tls(protocols: &[&str]) -> Server {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![key.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
    )
    .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve(stream, Asked::default()).await;
            } else {
                read_request(&mut stream).await;
                let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
                say_and_close(&mut stream, answer).await;
            }
        }
    })
    .await
}

async fn told(spec: Value) -> String {
    let (server, _) = plain().await;
    verdict(&ask(&http(spec, server.endpoint())).await)
}

#[tokio::test]
async fn an_answer_is_judged_as_any_other() {
    let two = |mut more: Value| {
        more["version"] = json!(2);
        more
    };
    assert_eq!(told(two(json!({}))).await, "success 200");
    assert_eq!(told(two(json!({ "method": "HEAD" }))).await, "success 200");
    assert_eq!(told(two(json!({ "body_contains": "ok" }))).await, "success 200");
    assert_eq!(told(two(json!({ "body_contains": "no" }))).await, "failure body 200");
    let status = json!({ "body_json": [{ "path": "$.status", "equals": "ok" }] });
    assert_eq!(told(two(status)).await, "success 200");
    let role = |role: &str| two(json!({ "expected_headers": { "X-Role": role } }));
    assert_eq!(told(role("primary")).await, "success 200");
    assert_eq!(told(role("replica")).await, "failure header 200");
    assert_eq!(told(two(json!({ "path": "/down" }))).await, "failure status 503");
    let encoded = json!({ "path": "/encoded", "body_contains": "x" });
    assert_eq!(told(two(encoded)).await, "failure body 200");
    assert_eq!(told(two(json!({ "path": "/away" }))).await, "failure status 302");
    assert_eq!(told(two(json!({ "path": "/away", "follow_redirects": 1 }))).await, "success 200");
    assert_eq!(told(two(json!({ "path": "/many" }))).await, "failure protocol");
    assert_eq!(told(two(json!({ "path": "/large" }))).await, "failure protocol");
}

#[tokio::test]
async fn a_body_is_read_up_to_the_same_bound() {
    let (server, _) = plain().await;
    for (path, part) in [("/full", "the body does"), ("/long", "the first 64 KiB of the body do")] {
        let spec = json!({ "version": 2, "path": path, "body_contains": "y" });
        let observation = ask(&http(spec, server.endpoint())).await;
        assert_eq!(verdict(&observation), "failure body 200");
        let detail = observation.detail.unwrap();
        assert!(detail.contains(&format!("{part} not contain")), "{detail}");
    }
}

#[tokio::test]
async fn a_request_is_sent_as_configured() {
    let (server, asked) = plain().await;
    let spec = json!({
        "version": 2, "method": "POST", "path": "/check?full=1", "host": "shop.example",
        "body": "hi", "headers": { "X-Many": ["a", "b"], "User-Agent": "me" },
    });
    assert_eq!(verdict(&ask(&http(spec, server.endpoint())).await), "success 200");
    let long = json!({ "version": 2, "method": "PUT", "body": "z".repeat(200_000) });
    assert_eq!(verdict(&ask(&http(long, server.endpoint())).await), "success 200");
    let asked = asked.lock().unwrap().clone();
    assert_eq!(
        asked[0],
        "POST http://shop.example/check?full=1 accept-encoding: \"identity\", accept: \"*/*\", \
         content-length: \"2\", user-agent: \"me\", x-many: \"a\", x-many: \"b\" hi"
    );
    assert!(asked[1].contains(&format!("PUT http://{}/ ", server.address)), "{:.200}", asked[1]);
    assert_eq!(asked[1].matches('z').count(), 200_000);
}

#[tokio::test]
async fn credentials_traces_and_wishes_are_as_in_the_other_version() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cr3t-token\n").unwrap();
    let (server, asked) = plain().await;
    let spec = json!({
        "version": 2, "path": "/down", "traceparent": true,
        "auth": { "bearer_file": file.path() },
    });
    let observation = ask(&http(spec, server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure status 503");
    assert_eq!(observation.ask_again, Some(Duration::from_secs(30)));
    let asked = asked.lock().unwrap()[0].clone();
    assert!(asked.contains("authorization: \"Bearer s3cr3t-token\""), "{asked}");
    let (_, trace) = asked.split_once("traceparent: \"00-").unwrap();
    let detail = observation.detail.unwrap();
    assert!(detail.ends_with(&format!("; trace {}", &trace[..32])), "{detail} {asked}");
}

#[tokio::test]
async fn the_version_is_agreed_on_in_the_handshake() {
    let both = with_tls(&["h2", "http/1.1"]).await;
    let old = with_tls(&["http/1.1"]).await;
    let none = with_tls(&[]).await;
    let new = with_tls(&["h2"]).await;
    let told = async |server: &Server, version: Value| {
        let spec = json!({ "version": version, "tls": { "insecure_skip_verify": true } });
        verdict(&ask(&http(spec, server.endpoint())).await)
    };
    // 200 is the answer over HTTP/2, 202 that over HTTP/1.1.
    for version in [json!("auto"), json!(2)] {
        assert_eq!(told(&both, version.clone()).await, "success 200");
        assert_eq!(told(&new, version).await, "success 200");
    }
    for server in [&old, &none] {
        assert_eq!(told(server, json!("auto")).await, "success 202");
        assert_eq!(told(server, json!(2)).await, "failure tls_other");
    }
    assert_eq!(told(&both, json!(1.1)).await, "success 202");
}

#[tokio::test]
async fn without_tls_auto_is_the_old_version() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let told = async |version: Value| {
        verdict(&ask(&http(json!({ "version": version }), server.endpoint())).await)
    };
    assert_eq!(told(json!("auto")).await, "success 200");
    assert_eq!(told(json!(2)).await, "failure protocol");
}

#[tokio::test]
async fn a_kept_connection_carries_many_requests() {
    let network = Network::keeping(9, egress::Policy::default());
    let tls = with_tls(&["h2"]).await;
    let (plain, _) = plain().await;
    for (server, more) in
        [(&tls, json!({ "tls": { "insecure_skip_verify": true } })), (&plain, json!({}))]
    {
        let mut spec = more;
        spec["version"] = json!(2);
        spec["keep_alive"] = json!(true);
        let target = http(spec, server.endpoint());
        let mut phases = Vec::new();
        for _ in 0..5 {
            let observation = network.probe(&target, testing::PATIENCE).await;
            assert_eq!(verdict(&observation), "success 200");
            assert_eq!(observation.peer, Some(server.address));
            phases.push(observation.phases.get(Phase::Connect));
        }
        assert_eq!(server.connections(), 1);
        assert!(!phases[0].is_zero() && phases[4].is_zero(), "{phases:?}");
    }
}

#[tokio::test]
async fn a_connection_with_a_cut_answer_is_not_kept() {
    let (server, _) = plain().await;
    let network = Network::keeping(9, egress::Policy::default());
    let spec = json!({ "version": 2, "keep_alive": true, "path": "/long" });
    let target = http(spec, server.endpoint());
    for _ in 0..2 {
        let observation = network.probe(&target, testing::PATIENCE).await;
        assert_eq!(verdict(&observation), "success 200");
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_path_that_has_no_place_in_a_uri_is_refused_beforehand() {
    let prepare = |version: Value| {
        Probe::prepare(&testing::spec(json!({ "version": version, "path": "/a<b>" })))
    };
    assert!(prepare(json!(1.1)).is_ok());
    let error = prepare(json!("auto")).unwrap_err().to_string();
    assert_eq!(error, "this path cannot be sent over HTTP/2");
}

/// The end of a connection is heard while nobody asks, also when the target says good-bye first.
#[tokio::test]
async fn a_kept_connection_is_the_tripwire() {
    let server = Server::start(|stream| async move {
        drop(tokio::time::timeout(SHORT, serve(stream, Asked::default())).await);
    })
    .await;
    let spec = json!({ "version": 2, "keep_alive": true });
    let target = http(spec, server.endpoint());
    let network = Network::keeping(1, egress::Policy::default());
    let observation = network.probe(&target, testing::PATIENCE).await;
    assert_eq!(verdict(&observation), "success 200");
    let held = network.hold(&target, testing::PATIENCE, testing::PATIENCE).await;
    let Held::Cut(lived) = held else { panic!("{held:?}") };
    assert!(lived <= SHORT + testing::SLACK, "{lived:?}");
    assert_eq!(server.connections(), 1);
}
