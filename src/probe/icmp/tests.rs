//! ICMP probes: of this very host, and what is taken for an answer.
//!
//! Where the tests may not ping, they check that this is said and held against nobody.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    model::Observation,
    probe::{
        Network, Prober, Spec as AnySpec, Target, egress, parse_url,
        testing::{self, PATIENCE, SLACK, ask, target, verdict},
    },
};

fn icmp(spec: Value, host: &str) -> Target {
    target(&AnySpec::Icmp(testing::spec(spec)), Endpoint::new(host.parse().unwrap(), 80))
}

/// Whether tests may ping; if not, that an observation says so.
fn may_ping(found: &Observation) -> bool {
    let may = allowed(Family::V4).is_ok();
    if !may {
        assert_eq!(verdict(found), "inconclusive internal");
        let detail = found.detail.as_deref().unwrap_or_default();
        assert!(detail.contains("this daemon may not ping: "), "{detail}");
    }
    may
}

/// A pinger that nothing comes to.
async fn pinger(rights: Rights, family: Family) -> Pinger {
    Pinger {
        socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        family,
        rights,
        identifier: [0xab, 0xcd],
        payload: b"12345678xyz".to_vec(),
    }
}

#[tokio::test]
async fn a_host_is_pinged_by_either_protocol() {
    for (host, spec) in [
        ("127.0.0.1", json!({})),
        ("::1", json!({})),
        ("localhost", json!({ "count": 3, "interval": "1ms", "payload_size": 1000, "ttl": 1 })),
        ("127.0.0.1", json!({ "count": 16, "interval": "0s", "may_lose": 15 })),
        ("127.0.0.1", json!({ "dont_fragment": true, "payload_size": 8 })),
        ("::1", json!({ "dont_fragment": true, "ttl": 255, "payload_size": 60000 })),
    ] {
        let found = ask(&icmp(spec.clone(), host)).await;
        if !may_ping(&found) {
            continue;
        }
        assert_eq!(verdict(&found), "success", "{host} {spec}: {found:?}");
        assert!(!found.phases.get(Phase::Exchange).is_zero());
        assert_eq!(found.peer.map(|peer| (peer.ip().is_loopback(), peer.port())), Some((true, 0)));
    }
}

#[tokio::test]
async fn what_is_too_large_for_the_path_is_told() {
    // The loopback takes 65536 bytes, headers included; and a packet cannot be larger.
    let found = ask(&icmp(json!({ "payload_size": 65507 }), "127.0.0.1")).await;
    if may_ping(&found) {
        assert_eq!(verdict(&found), "success", "{found:?}");
    }
}

#[tokio::test]
async fn silence_is_a_failure_before_the_time_is_up() {
    // Reserved addresses, where nobody is; without a way to anywhere that is told at once.
    let network = Network::new(egress::Policy::unrestricted());
    let target = icmp(json!({ "count": 2, "interval": "1ms" }), "240.0.0.1");
    let found = network.probe(&target, Duration::from_millis(100)).await;
    assert!(found.duration < Duration::from_millis(100) + SLACK, "{found:?}");
    if may_ping(&found) {
        let verdict = verdict(&found);
        assert!(
            ["failure timeout_response", "failure unreachable"].contains(&&*verdict),
            "{found:?}"
        );
    }
}

#[test]
fn what_others_say_of_the_target_is_not_refused_but_unreachable() {
    let said = |kind: io::ErrorKind| told_by_others(Fault::exchange(&kind.into())).outcome;
    let unreachable = Outcome::Failure(Reason::Unreachable);
    assert_eq!(said(io::ErrorKind::ConnectionRefused), unreachable);
    assert_eq!(said(io::ErrorKind::HostUnreachable), unreachable);
    assert_eq!(said(io::ErrorKind::OutOfMemory), Outcome::Inconclusive(Reason::Internal));
}

#[test]
fn how_many_were_lost_is_told() {
    let trace = Trace::new(Duration::from_secs(2), std::sync::Arc::default());
    let said =
        |spec: Value, answered| lost(&testing::spec(spec), Answered(answered), &trace).detail;
    assert_eq!(said(json!({}), 0), "no answer within 2s");
    let spec = json!({ "count": 5, "may_lose": 2 });
    assert_eq!(said(spec, 0b10001), "2 of 5 requests answered within 2s, expected 3");
    let mut answered = Answered::default();
    for number in [Some(0), None, Some(15), Some(0)] {
        answered.add(number);
    }
    assert_eq!(answered.count(), 2, "twice is once");
}

#[tokio::test]
async fn only_the_answer_to_ones_own_request_is_one() {
    let answer = [&[0, 0, 9, 9, 0xab, 0xcd, 0, 7], &b"12345678xyz"[..]].concat();
    let with = |at: usize, byte: u8| {
        let mut bytes = answer.clone();
        bytes[at] = byte;
        bytes
    };
    let ping = pinger(Rights::Ping, Family::V4).await;
    assert_eq!(ping.number(&answer), Some(7));
    assert_eq!(ping.number(&with(4, 1)), Some(7), "the kernel has chosen the identifier");
    for (bytes, what) in [
        (with(0, 8), "a request"),
        (with(0, 3), "an error"),
        (with(1, 1), "another code"),
        (with(6, 1), "another number"),
        (with(8, 0), "another payload"),
        (answer[..answer.len() - 1].to_vec(), "less payload"),
        (answer[..7].to_vec(), "too short"),
        (Vec::new(), "nothing"),
    ] {
        assert_eq!(ping.number(&bytes), None, "{what}");
    }

    let raw = pinger(Rights::Raw, Family::V4).await;
    let packet = |header: &[u8], message: &[u8]| [header, message].concat();
    assert_eq!(raw.number(&packet(&[0x45; 20], &answer)), Some(7));
    assert_eq!(raw.number(&packet(&[0x46; 24], &answer)), Some(7), "with options");
    assert_eq!(raw.number(&packet(&[0x45; 20], &with(4, 1))), None, "another identifier");
    assert_eq!(raw.number(&[0x4f; 30]), None, "too short");
    let raw = pinger(Rights::Raw, Family::V6).await;
    assert_eq!(raw.number(&with(0, 129)), Some(7));
    assert_eq!(raw.number(&answer), None);
}

#[tokio::test]
async fn a_request_has_its_checksum() {
    // The example of RFC 1071, section 3.
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    let request = pinger(Rights::Raw, Family::V4).await.request(3);
    assert_eq!((request[0], request[7], request.len()), (8, 3, 19));
    assert_eq!(checksum(&request), 0, "summed up with its checksum");
    assert_eq!(pinger(Rights::Raw, Family::V6).await.request(0)[..4], [128, 0, 0, 0]);
}

#[tokio::test]
async fn a_host_that_may_not_be_probed_is_not_pinged() {
    let deny =
        egress::Config { deny: vec!["127.0.0.1".parse().unwrap()], ..egress::Config::default() };
    let network = Network::new(egress::Policy::new(&deny));
    let found = network.probe(&icmp(json!({}), "127.0.0.1"), PATIENCE).await;
    assert_eq!(verdict(&found), "failure denied");
    let found = ask(&icmp(json!({}), "does-not-exist.invalid")).await;
    assert_eq!(verdict(&found), "failure dns");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (spec, said) in [
        (json!({ "count": 0 }), "`count` is from 1 to 16"),
        (json!({ "count": 17 }), "`count` is from 1 to 16"),
        (json!({ "count": 3, "may_lose": 3 }), "`may_lose` must be less than `count`"),
        (json!({ "payload_size": 7 }), "`payload_size` is from 8 to 65507"),
        (json!({ "interval": "2m" }), "`interval` is at most 1m"),
    ] {
        let spec = AnySpec::Icmp(testing::spec(spec));
        assert_eq!(crate::probe::Probe::prepare(&spec).unwrap_err().to_string(), said);
    }
    let (spec, endpoint) = parse_url("icmp://[::1]").unwrap();
    assert_eq!(target(&spec, endpoint).url(), "[::1]");
    let error = parse_url("icmp://10.0.0.1:80").unwrap_err().to_string();
    assert_eq!(error, "ICMP has no ports; write for example icmp://10.0.0.1");
}
