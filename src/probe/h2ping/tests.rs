//! HTTP/2 pings: a real server, with TLS and without, and scripted ones that break the protocol.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

use super::{
    super::http2::{MAX_PAYLOAD, PRIORITY, WINDOW_UPDATE},
    *,
};
use crate::{
    model::Observation,
    probe::{
        Probe as AnyProbe, Spec as AnySpec, Target,
        testing::{
            self, Server, ask, ask_within, closed_port, hold, say_and_close, target, verdict,
        },
    },
};

const SHORT: Duration = Duration::from_millis(150);
const OPAQUE: Opaque = *b"opaque!!";

fn h2ping(json: Value, endpoint: Endpoint) -> Target {
    target(&AnySpec::H2ping(testing::spec(json)), endpoint)
}

fn plaintext(endpoint: Endpoint) -> Target {
    h2ping(json!({ "plaintext": true }), endpoint)
}

/// Speaks HTTP/2 as servers do, until the other side ends it; tells whether it ended in order.
async fn serve<S>(stream: S) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
    });
    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

/// A server with a certificate of its own that offers these protocols.
async fn with_tls(protocols: &[&str]) -> Server {
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await.ok();
            }
        }
    })
    .await
}

/// Whom the tests ping: says this once the client has spoken, then keeps silent.
async fn saying(bytes: Vec<u8>) -> Server {
    let bytes: Arc<[u8]> = bytes.into();
    Server::start(move |mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            opening(&mut stream).await;
            stream.write_all(&bytes).await.unwrap();
            hold(&mut stream).await;
        }
    })
    .await
}

/// Reads what a client says first; returns what it pings with.
async fn opening<S: AsyncRead + Unpin>(stream: &mut S) -> Opaque {
    let mut text = vec![0; PREFACE.len() + 2 * HEAD_LEN + 8];
    stream.read_exact(&mut text).await.unwrap();
    let (rest, opaque) = text.split_last_chunk().unwrap();
    let expected = [PREFACE, &frame(SETTINGS, 0, &[]), &[0, 0, 8, PING, 0, 0, 0, 0, 0]].concat();
    assert_eq!(rest, expected);
    *opaque
}

/// Reads one short frame: its type, its flags, its payload.
async fn short_frame<S: AsyncRead + Unpin>(stream: &mut S) -> (u8, u8, Vec<u8>) {
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(head[2])];
    stream.read_exact(&mut payload).await.unwrap();
    (head[3], head[4], payload)
}

async fn ask_saying(frames: &[Vec<u8>]) -> Observation {
    let server = saying(frames.concat()).await;
    ask_within(&plaintext(server.endpoint()), SHORT).await
}

/// What comes of a conversation in which the target says this, whatever it is told.
fn come_of(bytes: &[u8]) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut stream = tokio::io::join(bytes, Vec::new());
    let mut trace = Trace::new(testing::PATIENCE, Arc::default());
    let result = runtime.block_on(exchange(&mut stream, OPAQUE, &mut trace));
    assert!(trace.buffer.len() <= 2 * MAX_BYTES);
    result
}

#[track_caller]
fn check(frames: &[Vec<u8>], expected: &str) {
    let shown = match come_of(&frames.concat()) {
        Ok(()) => "success".to_owned(),
        Err(fault) => format!("{}: {}", fault.outcome.reason().unwrap(), fault.detail),
    };
    assert_eq!(shown, expected);
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 100])
}

fn pong() -> Vec<u8> {
    frame(PING, ACK, &OPAQUE)
}

fn on_stream(mut frame: Vec<u8>, stream: u8) -> Vec<u8> {
    frame[8] = stream;
    frame
}

#[tokio::test]
async fn a_server_in_plaintext_is_pinged() {
    let server = Server::start(|stream| async { serve(stream).await.unwrap() }).await;
    let observation = ask(&plaintext(server.endpoint())).await;
    assert_eq!(verdict(&observation), "success");
    assert_eq!(observation.peer, Some(server.address));
    assert!(!observation.phases.get(Phase::Exchange).is_zero());
}

#[tokio::test]
async fn a_server_with_tls_is_pinged_and_its_certificate_checked() {
    let server = with_tls(&["h2", "http/1.1"]).await;
    let target = h2ping(json!({ "tls": { "insecure_skip_verify": true } }), server.endpoint());
    let observation = ask(&target).await;
    assert_eq!(verdict(&observation), "success");
    assert!(observation.certificate.is_some());
    let observation = ask(&h2ping(json!({}), server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure tls_untrusted");
}

#[tokio::test]
async fn tls_without_http2_is_a_failure() {
    for protocols in [&["http/1.1"][..], &[]] {
        let server = with_tls(protocols).await;
        let tls = json!({ "tls": { "insecure_skip_verify": true } });
        assert_eq!(verdict(&ask(&h2ping(tls, server.endpoint())).await), "failure tls_other");
    }
}

#[tokio::test]
async fn the_conversation_ends_in_order() {
    let (sender, mut said) = tokio::sync::mpsc::channel(8);
    let server = Server::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            let opaque = opening(&mut stream).await;
            let ping = frame(PING, 0, b"are you?");
            let answer = [settings(), ping, frame(PING, ACK, &opaque)].concat();
            stream.write_all(&answer).await.unwrap();
            for _ in 0..3 {
                sender.send(short_frame(&mut stream).await).await.unwrap();
            }
            let rest = stream.read(&mut [0; 1]).await.unwrap();
            sender.send((0, 0, vec![0; rest])).await.unwrap();
        }
    })
    .await;
    assert_eq!(verdict(&ask(&plaintext(server.endpoint())).await), "success");
    assert_eq!(said.recv().await, Some((SETTINGS, ACK, vec![])));
    assert_eq!(said.recv().await, Some((PING, ACK, b"are you?".to_vec())));
    assert_eq!(said.recv().await, Some((GOAWAY, 0, vec![0; 8])));
    assert_eq!(said.recv().await, Some((0, 0, vec![])), "the connection has ended");
}

#[tokio::test]
async fn no_two_pings_are_alike() {
    let (sender, mut pings) = tokio::sync::mpsc::channel(2);
    let server = Server::start(move |mut stream| {
        let sender = sender.clone();
        async move { sender.send(opening(&mut stream).await).await.unwrap() }
    })
    .await;
    for _ in 0..2 {
        let observation = ask(&plaintext(server.endpoint())).await;
        assert_eq!(verdict(&observation), "failure connection_reset");
    }
    assert_ne!(pings.recv().await, pings.recv().await);
}

#[tokio::test]
async fn what_never_answers_is_late() {
    for frames in [&[][..], &[settings()], &[settings(), frame(PING, ACK, &OPAQUE)[..12].to_vec()]]
    {
        let observation = ask_saying(frames).await;
        assert_eq!(verdict(&observation), "failure timeout_response");
    }
    let observation = ask(&plaintext(testing::endpoint(closed_port()))).await;
    assert_eq!(verdict(&observation), "failure connection_refused");
}

#[tokio::test]
async fn an_http1_server_is_told_so() {
    let server = Server::start(|mut stream| async move {
        opening(&mut stream).await;
        say_and_close(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let observation = ask(&plaintext(server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure protocol");
    let expected = format!("HTTP/2 ping {}: the target speaks HTTP/1, not HTTP/2", server.address);
    assert_eq!(*observation.detail.unwrap(), *expected);
}

#[test]
fn frames_that_may_come_are_passed_over() {
    check(&[settings(), pong()], "success");
    check(&[frame(SETTINGS, 0, &[]), frame(SETTINGS, ACK, &[]), pong()], "success");
    check(&[settings(), frame(WINDOW_UPDATE, 0, &[0, 0, 1, 0]), settings(), pong()], "success");
    check(&[settings(), on_stream(frame(PRIORITY, 0, &[0; 5]), 3), pong()], "success");
    check(
        &[settings(), frame(0xfa, 0xff, b"grease"), frame(PING, 0, b"question"), pong()],
        "success",
    );
    // The reserved bit of the stream identifier.
    let mut reserved = pong();
    reserved[5] = 0x80;
    check(&[settings(), reserved], "success");
    let padding: Vec<_> = std::iter::repeat_n(frame(0xfa, 0, &[]), MAX_FRAMES - 2).collect();
    check(&[vec![settings()], padding, vec![pong()]].concat(), "success");
}

#[test]
fn frames_that_cannot_come_break_the_protocol() {
    check(&[pong()], "protocol: the target's first frame is not SETTINGS");
    check(&[frame(SETTINGS, ACK, &[])], "protocol: the target's first frame is not SETTINGS");
    let other = frame(PING, ACK, b"another!");
    check(&[settings(), other], "protocol: the target acknowledged another ping");
    check(&[settings(), frame(PING, ACK, b"short")], "protocol: a PING that is not of 8 bytes");
    let strange = "protocol: a frame that cannot be here: type";
    check(&[frame(SETTINGS, 0, &[0; 5])], &format!("{strange} 0x4, stream 0, 5 bytes"));
    check(&[settings(), on_stream(pong(), 1)], &format!("{strange} 0x6, stream 1, 8 bytes"));
    check(
        &[settings(), frame(SETTINGS, ACK, &[0; 6])],
        &format!("{strange} 0x4, stream 0, 6 bytes"),
    );
    check(
        &[settings(), on_stream(frame(1, 4, b"x"), 1)],
        &format!("{strange} 0x1, stream 1, 1 bytes"),
    );
    let too_long = vec![0, 0x40, 1, 0xfa, 0, 0, 0, 0, 0];
    check(&[settings(), too_long], "protocol: a frame of 16385 bytes; at most 16384 may be");
    let cut = "protocol: the target closed the connection in the middle of a frame";
    check(&[settings(), pong()[..16].to_vec()], cut);
    let closed = "connection_reset: the target closed the connection before it answered the ping";
    check(&[settings()], closed);
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let said = "protocol: the target sent GOAWAY with the error code";
    check(&[settings(), frame(GOAWAY, 0, &[0; 8])], &format!("{said} 0"));
    let calm = [&[0, 0, 0, 0, 0, 0, 0, 11][..], b"calm"].concat();
    check(&[settings(), frame(GOAWAY, 0, &calm)], &format!("{said} 11: calm"));
    check(&[settings(), frame(GOAWAY, 0, &[0; 7])], "protocol: a GOAWAY of less than 8 bytes");
}

#[test]
fn an_answer_without_end_is_cut() {
    let frames: Vec<_> = std::iter::repeat_n(settings(), 100).collect();
    check(&frames, "protocol: no answer to the ping in 64 frames");
    let mut large = vec![0, 0x40, 0, 0xfa, 0, 0, 0, 0, 0];
    large.resize(HEAD_LEN + MAX_PAYLOAD, 0);
    let frames = [vec![settings()], vec![large; 10]].concat();
    check(&frames, "protocol: no answer to the ping in 65536 bytes");
}

#[test]
fn tls_in_plaintext_is_a_contradiction() {
    let spec = AnySpec::H2ping(testing::spec(json!({ "plaintext": true, "tls": {} })));
    let error = AnyProbe::prepare(&spec).unwrap_err();
    assert_eq!(error.to_string(), "`plaintext` leaves no place for `tls`");
    assert!(AnySpec::H2ping(Spec::default()).uses_tls());
    assert!(!AnySpec::H2ping(testing::spec(json!({ "plaintext": true }))).uses_tls());
}

proptest! {
    #[test]
    fn any_bytes_give_a_verdict(
        starts_well: bool,
        rest in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..30),
                (0..12_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
                    .prop_map(|(kind, flags, payload)| frame(kind, flags, &payload)),
                Just(settings()),
                Just(pong()),
                Just(vec![0, 0x3f, 0xff, 0xfa, 0, 0, 0, 0, 0]),
            ],
            0..80,
        ),
    ) {
        let start = if starts_well { settings() } else { Vec::new() };
        if let Err(fault) = come_of(&[start, rest.concat()].concat()) {
            prop_assert!(!fault.detail.is_empty());
        }
    }
}
