//! UDP probes: refusals, silence, answers.

use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use super::*;
use crate::{
    model::Observation,
    probe::{
        Spec as AnySpec, Target,
        testing::{self, PATIENCE, ask, ask_within, spawn, target, verdict},
    },
};

const SHORT: Duration = Duration::from_millis(200);

fn udp(json: Value, endpoint: Endpoint) -> Target {
    target(&AnySpec::Udp(testing::spec(json)), endpoint)
}

/// A target that answers every datagram so, or not at all, and tells what it got.
struct Peer {
    address: SocketAddr,
    received: mpsc::Receiver<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    async fn answering(answer: Option<&'static [u8]>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, received) = mpsc::channel(8);
        let task = spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                sender.send(buffer[..length].to_vec()).await.unwrap();
                if let Some(answer) = answer {
                    socket.send_to(answer, from).await.unwrap();
                }
            }
        });
        Self { address, received, task }
    }

    async fn silent() -> Self {
        Self::answering(None).await
    }

    fn endpoint(&self) -> Endpoint {
        testing::endpoint(self.address)
    }
}

/// An address where nobody listens.
async fn closed_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn ask_saying(spec: Value, answer: &'static [u8]) -> Observation {
    let peer = Peer::answering(Some(answer)).await;
    ask(&udp(spec, peer.endpoint())).await
}

#[tokio::test]
async fn a_refusal_is_a_failure_whatever_is_expected() {
    for spec in [json!({}), json!({ "send": "x" }), json!({ "expect": "x" })] {
        let address = closed_port().await;
        let observation = ask(&udp(spec, testing::endpoint(address))).await;
        assert_eq!(verdict(&observation), "failure connection_refused");
        let detail = observation.detail.unwrap();
        assert!(detail.starts_with(&format!("UDP {address}: ")), "{detail}");
        assert!(observation.duration < PATIENCE / 4);
    }
}

#[tokio::test]
async fn silence_is_a_success_shortly_before_the_deadline() {
    let mut peer = Peer::silent().await;
    let target = udp(json!({}), peer.endpoint());
    let observation = ask_within(&target, SHORT).await;
    assert_eq!(verdict(&observation), "success");
    assert!(observation.duration >= SHORT / 20 * 19, "{observation:?}");
    assert_eq!(observation.peer, Some(peer.address));
    assert_eq!(peer.received.recv().await.as_deref(), Some(&[][..]));
    // However the timer rounds, it is no expiry.
    for micros in [20_000, 20_001, 33_500] {
        let observation = ask_within(&target, Duration::from_micros(micros)).await;
        assert_eq!(verdict(&observation), "success", "{micros}us");
    }
}

#[tokio::test]
async fn silence_is_a_failure_where_an_answer_is_needed() {
    let peer = Peer::silent().await;
    for spec in [
        json!({ "require_answer": true }),
        json!({ "expect": "x" }),
        json!({ "expect_matches": ".*" }),
    ] {
        let observation = ask_within(&udp(spec, peer.endpoint()), SHORT).await;
        assert_eq!(verdict(&observation), "failure timeout_response");
        let detail = observation.detail.unwrap();
        assert_eq!(*detail, format!("UDP {}: no answer within 200ms", peer.address));
    }
}

#[tokio::test]
async fn any_answer_is_a_success_at_once_if_nothing_is_expected() {
    for answer in [&b""[..], b"x", &[b'x'; 9000]] {
        for spec in [json!({}), json!({ "require_answer": true })] {
            let observation = ask_saying(spec, answer).await;
            assert_eq!(verdict(&observation), "success", "{} bytes", answer.len());
            assert!(observation.duration < PATIENCE / 4);
            assert!(!observation.phases.get(Phase::Exchange).is_zero());
        }
    }
}

#[tokio::test]
async fn what_is_sent_is_one_datagram() {
    let mut peer = Peer::answering(Some(b"+PONG\r\n")).await;
    let spec = json!({ "send": "PING\\r\\n\\x00", "expect": "PONG", "expect_matches": r"^\+P" });
    assert_eq!(verdict(&ask(&udp(spec, peer.endpoint())).await), "success");
    assert_eq!(peer.received.recv().await.as_deref(), Some(&b"PING\r\n\0"[..]));
}

#[tokio::test]
async fn a_wrong_answer_is_told_at_once() {
    let observation = ask_saying(json!({ "expect": "pong" }), b"go\x07 away\r\n").await;
    assert_eq!(verdict(&observation), "failure body");
    let detail = observation.detail.unwrap();
    let end = "the answer is not as expected; expected \"pong\"; got \"go? away\"";
    assert!(detail.ends_with(end), "{detail}");
    assert_eq!(verdict(&ask_saying(json!({ "expect_matches": "^a" }), b"").await), "failure body");
    // Found at the end of the largest answer there can be.
    let answer: &'static [u8] = Vec::leak([vec![b'x'; 60_000], b"end".to_vec()].concat());
    assert_eq!(verdict(&ask_saying(json!({ "expect_matches": "end$" }), answer).await), "success");
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_none() {
    let mut peer = Peer::silent().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let socket = open(peer.address, None).unwrap();
    stranger.send_to(b"x", socket.local_addr().unwrap()).await.unwrap();
    socket.send(b"y").await.unwrap();
    assert_eq!(peer.received.recv().await.as_deref(), Some(&b"y"[..]));
    assert_eq!(socket.try_recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_name_is_resolved_to_its_first_address() {
    let peer = Peer::answering(Some(b"x")).await;
    let endpoint = Endpoint::new("localhost".parse().unwrap(), peer.address.port());
    let observation = ask(&udp(json!({ "require_answer": true }), endpoint)).await;
    assert_eq!(verdict(&observation), "success");
    assert_eq!(observation.peer, Some(peer.address));
    let endpoint = Endpoint::new("does-not-exist.invalid".parse().unwrap(), 1);
    assert_eq!(verdict(&ask(&udp(json!({}), endpoint)).await), "failure dns");
}

#[test]
fn what_does_not_fit_into_a_datagram_is_refused() {
    let spec = |length: usize| AnySpec::Udp(testing::spec(json!({ "send": "x".repeat(length) })));
    assert!(crate::probe::Probe::prepare(&spec(MAX_DATAGRAM)).is_ok());
    let error = crate::probe::Probe::prepare(&spec(MAX_DATAGRAM + 1)).unwrap_err();
    assert_eq!(error.to_string(), "`send` does not fit into one datagram");
}

#[tokio::test]
async fn the_largest_datagram_is_sent() {
    let mut peer = Peer::answering(Some(b"x")).await;
    let spec = json!({ "send": "x".repeat(MAX_DATAGRAM), "require_answer": true });
    assert_eq!(verdict(&ask(&udp(spec, peer.endpoint())).await), "success");
    assert_eq!(peer.received.recv().await.map(|bytes| bytes.len()), Some(MAX_DATAGRAM));
}
