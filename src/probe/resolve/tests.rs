//! Names and addresses to connections.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::{
    model::Outcome,
    probe::{
        egress::{self, Policy},
        testing::{Deaf, closed_port},
    },
};

mod dns;

const OPTIONS: Options = Options { close: Close::Reset, acknowledge: Acknowledge::AtOnce };

#[tokio::test]
async fn localhost_is_found_on_either_family() {
    for ip in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::new("localhost".parse().unwrap(), port);
        let mut trace = Trace::new(Duration::from_secs(5), Arc::default());
        connect(&endpoint, OPTIONS, &mut trace).await.unwrap();
        assert_eq!(trace.peer.map(|peer| peer.ip().to_string()).as_deref(), Some(ip));
    }
}

#[tokio::test]
async fn a_dead_first_address_leaves_time_for_the_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = Deaf::new();
    let addresses = [deaf.address, listener.local_addr().unwrap()];
    let mut trace = Trace::new(Duration::from_millis(600), Arc::default());
    let stream = connect_any(&addresses, OPTIONS, &mut trace).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
}

#[tokio::test]
async fn addresses_that_are_denied_are_left_out() {
    let tripwire = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let denied = tripwire.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deny = egress::Config { deny: vec!["127.0.0.2".parse().unwrap()], ..Default::default() };
    let gate = Arc::new(Gate { egress: Policy::new(&deny), ..Gate::default() });
    let new_trace = || Trace::new(Duration::from_secs(5), Arc::clone(&gate));
    let mut trace = new_trace();
    let addresses = [denied, listener.local_addr().unwrap()];
    let stream = connect_any(&addresses, OPTIONS, &mut trace).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    assert_eq!(trace.peer, Some(addresses[1]));

    // What is left is judged by itself; only if nothing is left the name is denied.
    for addresses in [[denied, closed_port()], [closed_port(), denied]] {
        let fault = connect_any(&addresses, OPTIONS, &mut new_trace()).await.unwrap_err();
        assert_eq!(fault.outcome, Outcome::Failure(Reason::ConnectionRefused));
    }
    let fault = connect_any(&[denied, denied], OPTIONS, &mut new_trace()).await.unwrap_err();
    assert_eq!(fault.outcome, Outcome::Failure(Reason::Denied));
    let accepted = timeout_at(Instant::now(), tripwire.accept()).await;
    assert!(accepted.is_err(), "the denied address was contacted");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_failure() {
    let endpoint = Endpoint::new("does-not-exist.invalid".parse().unwrap(), 80);
    let fault =
        connect(&endpoint, OPTIONS, &mut Trace::new(Duration::from_secs(5), Arc::default()))
            .await
            .unwrap_err();
    assert_eq!(fault.outcome, Outcome::Failure(Reason::Dns));
    assert!(fault.detail.contains("does-not-exist.invalid"), "{}", fault.detail);
}

#[tokio::test]
async fn a_connection_comes_from_the_address_that_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint =
        Endpoint::new("127.0.0.1".parse().unwrap(), listener.local_addr().unwrap().port());
    let from = |source: &str| {
        let mut trace = Trace::new(Duration::from_secs(5), Arc::default());
        let dial = crate::probe::testing::spec(json!({ "source_address": source }));
        trace.dial = Some(Arc::new(dial));
        trace
    };
    let _stream = connect(&endpoint, OPTIONS, &mut from("127.0.0.5")).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.5");

    let ours = Outcome::Inconclusive(Reason::Internal);
    let fault = connect(&endpoint, OPTIONS, &mut from("192.0.2.1")).await.unwrap_err();
    assert_eq!(fault.outcome, ours);
    let said = "cannot connect from `source_address` 192.0.2.1: Cannot assign requested address";
    assert!(fault.detail.starts_with(said), "{}", fault.detail);
    let fault = connect(&endpoint, OPTIONS, &mut from("::1")).await.unwrap_err();
    assert_eq!(fault.outcome, ours);
    assert!(fault.detail.contains("is of IPv6, the target's address of IPv4"), "{}", fault.detail);
}

#[tokio::test]
async fn what_says_something_of_the_target_goes_before_what_does_not() {
    let closed = closed_port();
    // A socket of the other family cannot have this address.
    let other = SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), closed.port());
    for addresses in [[closed, other], [other, closed]] {
        let mut trace = Trace::new(Duration::from_secs(5), Arc::default());
        let dial = crate::probe::testing::spec(json!({ "source_address": "127.0.0.1" }));
        trace.dial = Some(Arc::new(dial));
        let fault = connect_any(&addresses, OPTIONS, &mut trace).await.unwrap_err();
        assert_eq!(fault.outcome, Outcome::Failure(Reason::ConnectionRefused));
        assert!(fault.detail.contains(&closed.to_string()), "{}", fault.detail);
    }
}
