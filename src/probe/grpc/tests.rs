//! gRPC probes against servers that serve, do not, vanish and come back.

mod hostile;
mod watch;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    sync::watch::{Receiver, Sender, channel},
};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckResponse,
    health_server::{Health, HealthServer},
};

use super::*;
use crate::{
    model::Observation,
    probe::{
        Network, Prober, Spec as AnySpec, Target, egress,
        testing::{
            self, Deaf, PATIENCE, Server, ask, ask_within, closed_port, hold, say_and_close,
            target, verdict,
        },
    },
};

const SHORT: Duration = Duration::from_millis(150);

/// Answers by the name of the service asked for.
#[derive(Debug, Clone, Default)]
struct Fake {
    calls: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Health for Fake {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let token = request.metadata().get("x-token").map(|token| token.to_str().unwrap().into());
        let service = request.into_inner().service;
        let status = match service.as_str() {
            "" => 1,
            "down" => 2,
            "unknown" => 0,
            "service-unknown" => 3,
            "odd" => 77,
            "token" => return Err(Status::unauthenticated(token.unwrap_or("none".to_owned()))),
            "missing" => return Err(Status::not_found("no such service")),
            "late" => return Err(Status::deadline_exceeded("")),
            "unavailable" => return Err(Status::unavailable("over\x1bloaded")),
            "panic" => return Err(Status::internal("bug")),
            "slow" => std::future::pending().await,
            other => panic!("{other}"),
        };
        Ok(Response::new(HealthCheckResponse { status }))
    }

    type WatchStream = Pin<
        Box<dyn futures_util::Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>,
    >;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not used"))
    }
}

/// A health server whose connections can all be cut at once.
struct Running {
    server: Server,
    fake: Fake,
    cut: Sender<()>,
}

async fn start() -> Running {
    let fake = Fake::default();
    let (cut, cuts) = channel(());
    let server = serve_cut(HealthServer::new(fake.clone()), cuts).await;
    Running { server, fake, cut }
}

/// Serves so, until the connections are cut.
async fn serve_cut<H: Health>(service: HealthServer<H>, cuts: Receiver<()>) -> Server {
    Server::start(move |stream| {
        let (service, mut cut) = (service.clone(), cuts.clone());
        async move {
            stream.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(service);
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            cut.mark_unchanged();
            tokio::select! {
                _ = serving => {}
                changed = cut.changed() => changed.unwrap(),
            }
        }
    })
    .await
}

fn grpc(json: Value, endpoint: Endpoint) -> Target {
    target(&AnySpec::Grpc(testing::spec(json)), endpoint)
}

/// Asks on a connection that could be kept, and on one of the call's own, without a task: they find
/// the same.
async fn ask_both(spec: Value, endpoint: Endpoint, within: Duration) -> Observation {
    let mut alone = spec.clone();
    alone["keep_alive"] = false.into();
    let alone = ask_within(&grpc(alone, endpoint.clone()), within).await;
    let kept = ask_within(&grpc(spec, endpoint), within).await;
    assert_eq!(verdict(&alone), verdict(&kept));
    assert_eq!(
        (&alone.detail, alone.peer, alone.ask_again),
        (&kept.detail, kept.peer, kept.ask_again)
    );
    kept
}

async fn ask_for(service: &str) -> Observation {
    let running = start().await;
    ask_both(json!({ "service": service }), running.server.endpoint(), PATIENCE).await
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    for (service, expected) in [
        ("", "success SERVING"),
        ("down", "failure not_serving NOT_SERVING"),
        ("unknown", "failure not_serving UNKNOWN"),
        ("service-unknown", "failure not_serving SERVICE_UNKNOWN"),
        ("missing", "failure not_serving SERVICE_UNKNOWN"),
        ("late", "failure timeout_response"),
        ("unavailable", "failure status"),
        ("panic", "failure status"),
        ("odd", "failure protocol"),
    ] {
        assert_eq!(verdict(&ask_for(service).await), expected, "{service:?}");
    }
}

#[tokio::test]
async fn a_detail_says_what_the_server_answered() {
    let detail = ask_for("unavailable").await.detail.unwrap();
    assert!(
        detail.ends_with("/unavailable: gRPC status Unavailable: over?loaded; expected SERVING"),
        "{detail}"
    );
    let detail = ask_for("down").await.detail.unwrap();
    assert!(detail.ends_with("/down: NOT_SERVING; expected SERVING"), "{detail}");
}

#[tokio::test]
async fn in_consuls_form_a_detail_is_consuls() {
    let running = start().await;
    let at = running.server.address;
    let said = async |service: &str| {
        let form = Form::Consul { shown: 4096 };
        let asked = Spec { service: service.to_owned(), form, ..Spec::default() };
        let target = target(&crate::probe::Spec::Grpc(asked), running.server.endpoint());
        ask(&target).await.detail.unwrap()
    };
    let expected = format!("gRPC {at}/down serving status: NOT_SERVING");
    assert_eq!(*said("down").await, expected);
    let refused = said("missing").await;
    assert!(refused.starts_with(&format!("gRPC {at}/missing: gRPC status NotFound")), "{refused}");
}

#[tokio::test]
async fn a_server_without_the_health_service_is_unimplemented() {
    let server = Server::start(|stream| async move {
        let none = hyper::service::service_fn(async |_| {
            let answer = Status::unimplemented("").into_http::<String>();
            Ok::<_, std::convert::Infallible>(answer)
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), none);
        serving.await.unwrap_or_default();
    })
    .await;
    let observation = ask_both(json!({}), server.endpoint(), PATIENCE).await;
    assert_eq!(verdict(&observation), "failure protocol UNIMPLEMENTED");
}

#[tokio::test]
async fn metadata_is_sent() {
    let running = start().await;
    let spec = json!({ "service": "token", "metadata": { "x-token": "a b" } });
    let observation = ask_both(spec, running.server.endpoint(), PATIENCE).await;
    assert!(observation.detail.unwrap().contains("Unauthenticated: a b"));
}

#[tokio::test]
async fn the_connection_is_kept_between_probes() {
    let running = start().await;
    let target = grpc(json!({}), running.server.endpoint());
    for _ in 0..5 {
        let observation = ask(&target).await;
        assert_eq!(verdict(&observation), "success SERVING");
        assert_eq!(observation.peer, Some(running.server.address));
    }
    assert_eq!(running.server.connections(), 1);
    assert_eq!(running.fake.calls.load(Ordering::Relaxed), 5);
    let phases = ask(&target).await.phases;
    assert!(phases.get(Phase::Connect).is_zero() && !phases.get(Phase::Exchange).is_zero());
}

#[tokio::test]
async fn a_restart_between_probes_is_no_failure() {
    let running = start().await;
    let target = grpc(json!({}), running.server.endpoint());
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    // Cut while nobody looks, and once with time to notice.
    for pause in [Duration::ZERO, Duration::from_millis(20)] {
        running.cut.send(()).unwrap();
        tokio::time::sleep(pause).await;
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
    }
    assert_eq!(running.server.connections(), 3);
}

#[tokio::test]
async fn a_target_that_is_gone_is_noticed_on_a_kept_connection() {
    let running = start().await;
    let target = grpc(json!({}), running.server.endpoint());
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    let Running { server, cut, .. } = running;
    drop(server);
    cut.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(verdict(&ask(&target).await), "failure connection_refused");
}

#[tokio::test]
async fn no_more_connections_are_kept_than_there_are_places() {
    let running = start().await;
    let (first, second) = (running.server.endpoint(), running.server.endpoint());
    let (first, second) = (grpc(json!({}), first), grpc(json!({}), second));
    let network = Network::keeping(1, egress::Policy::default());
    let ask_twice = async |target: &Target| {
        let before = running.server.connections();
        for _ in 0..2 {
            let observation = network.clone().probe(target, PATIENCE).await;
            assert_eq!(verdict(&observation), "success SERVING");
        }
        running.server.connections() - before
    };
    assert_eq!((ask_twice(&first).await, ask_twice(&second).await), (1, 2));
    // A broken connection leaves its place; here the same target takes it again.
    running.cut.send(()).unwrap();
    assert_eq!((ask_twice(&first).await, ask_twice(&second).await), (1, 2));
    drop(first);
    assert_eq!((ask_twice(&second).await, ask_twice(&second).await), (1, 0));
}

/// A health server whose first connection has a good certificate and whose others have one that
/// has expired; and the file of their authorities.
async fn rotating() -> (Server, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut acceptor = |expiry| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = expiry;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::io::Write::write_all(&mut file, certificate.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    };
    let (good, old) = (acceptor(date_time_ymd(2040, 1, 1)), acceptor(date_time_ymd(2001, 9, 9)));
    let connections = AtomicUsize::new(0);
    let server = Server::start(move |stream| {
        let is_first = connections.fetch_add(1, Ordering::Relaxed) == 0;
        let acceptor = if is_first { good.clone() } else { old.clone() };
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(HealthServer::new(Fake::default()));
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            serving.await.unwrap_or_default();
        }
    })
    .await;
    (server, file)
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_replaced_certificate_is_seen_within_ten_minutes() {
    let (server, file) = rotating().await;
    let target = grpc(json!({ "tls": { "ca_file": file.path() } }), server.endpoint());
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    pass(Duration::from_secs(500)).await;
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    assert_eq!(server.connections(), 1);
    pass(Duration::from_secs(100)).await;
    assert_eq!(verdict(&ask(&target).await), "failure tls_expired");
}

#[tokio::test]
async fn no_connection_serves_for_more_than_ten_minutes() {
    for watch in [false, true] {
        let running = start().await;
        let target = grpc(json!({ "watch": watch }), running.server.endpoint());
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
        pass(Duration::from_secs(590)).await;
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
        assert_eq!(running.server.connections(), 1, "watch: {watch}");
        pass(Duration::from_secs(10)).await;
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
        assert_eq!(running.server.connections(), 2, "watch: {watch}");
    }
}

#[tokio::test]
async fn the_connection_ends_with_the_target() {
    let ended = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&ended);
    let service = HealthServer::new(Fake::default());
    let server = Server::start(move |stream| {
        let (service, notify) = (service.clone(), Arc::clone(&notify));
        async move {
            let service = TowerToHyperService::new(service);
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            serving.await.unwrap_or_default();
            notify.notify_one();
        }
    })
    .await;
    let target = grpc(json!({}), server.endpoint());
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    drop(target);
    tokio::time::timeout(PATIENCE, ended.notified()).await.unwrap();
}

#[tokio::test]
async fn each_phase_has_its_timeout() {
    let deaf = Deaf::new();
    let observation = ask_both(json!({}), testing::endpoint(deaf.address), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_connect");
    let silent = Server::start(|mut stream| async move { hold(&mut stream).await }).await;
    let observation = ask_both(json!({ "tls": {} }), silent.endpoint(), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_tls");
    let observation = ask_both(json!({}), silent.endpoint(), SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
    let running = start().await;
    let target = grpc(json!({ "service": "slow" }), running.server.endpoint());
    let observation = ask_within(&target, SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
}

#[tokio::test]
async fn a_target_that_is_no_grpc_server_has_its_reason() {
    let observation = ask_both(json!({}), testing::endpoint(closed_port()), PATIENCE).await;
    assert_eq!(verdict(&observation), "failure connection_refused");
    let http1 = Server::answering("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    let observation = ask_both(json!({}), http1.endpoint(), PATIENCE).await;
    assert_eq!(verdict(&observation), "failure protocol", "{observation:?}");
    let closing = Server::start(|mut stream| async move { say_and_close(&mut stream, b"").await });
    let observation = ask_both(json!({}), closing.await.endpoint(), PATIENCE).await;
    assert_eq!(verdict(&observation), "failure connection_reset", "{observation:?}");
}

/// An HTTP/2 server that answers the first request with these frames.
async fn frames(frames: &[u8]) -> Server {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
    let text: Arc<[u8]> = [SETTINGS, SETTINGS_ACK, frames].concat().into();
    Server::start(move |mut stream| {
        let text = Arc::clone(&text);
        async move {
            // A probe may have hung up before the end.
            if stream.write_all(&text).await.is_ok() {
                hold(&mut stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_flood_ends_with_the_probe() {
    let pings = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0".repeat(20_000);
    let settings = b"\0\0\0\x04\0\0\0\0\0".repeat(20_000);
    for flood in [pings, settings] {
        let server = frames(&flood).await;
        let observation = ask_both(json!({}), server.endpoint(), SHORT).await;
        assert!(verdict(&observation).starts_with("failure"), "{observation:?}");
    }
    // Frame type 9 is CONTINUATION, which has no place here.
    let server = frames(b"\0\0\0\x09\0\0\0\0\x01").await;
    let observation = ask_both(json!({}), server.endpoint(), SHORT).await;
    assert_eq!(verdict(&observation), "failure protocol");
}

#[tokio::test]
async fn a_target_that_never_reads_does_not_hold_the_connection() {
    let closed = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&closed);
    let server = Server::start(move |mut stream| {
        let notify = Arc::clone(&notify);
        async move {
            stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
            // Pings ask for answers, which fill the connection until we cannot even say goodbye.
            let pings = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0".repeat(4096);
            while stream.write_all(&pings).await.is_ok() {}
            notify.notify_one();
        }
    })
    .await;
    let second = Duration::from_secs(1);
    let observation = ask_both(json!({}), server.endpoint(), second).await;
    assert!(verdict(&observation).starts_with("failure"), "{observation:?}");
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the connection is closed");
}

#[test]
fn metadata_names_are_checked() {
    let error = |text: &str| text.parse::<MetadataName>().unwrap_err();
    assert_eq!(error("X-Token"), MetadataNameError::Syntax("X-Token".to_owned()));
    assert_eq!(error(""), MetadataNameError::Syntax(String::new()));
    assert_eq!(error("trace-bin"), MetadataNameError::Binary);
    assert_eq!(error("grpc-timeout"), MetadataNameError::Reserved);
}
