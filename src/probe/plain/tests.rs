//! Plain probes by the dozen. What a single one makes of an answer is tested where the protocols
//! are: their tests ask by way of this, too.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    model::Outcome,
    probe::{
        Endpoint, Held, Prober as _, Spec, egress,
        testing::{
            Deaf, PATIENCE, Server, closed_port, endpoint, landed, read_request, spec, target,
            target_dialing, verdict,
        },
    },
};

/// A target with a name.
struct Named(&'static str, Target);

impl Ticket for Named {
    fn target(&self) -> &Target {
        &self.1
    }
}

impl Ticket for Rc<Target> {
    fn target(&self) -> &Target {
        self
    }
}

fn http(json: serde_json::Value, endpoint: Endpoint) -> Target {
    target(&Spec::Http(spec(json)), endpoint)
}

fn tcp(endpoint: Endpoint) -> Target {
    target(&Spec::Tcp(spec(json!({}))), endpoint)
}

fn plain<T: Ticket>() -> Plain<T> {
    Network::default().plain().unwrap().unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn each_of_many_has_its_own_result() {
    let well = Server::answering(OK).await;
    let sick = Server::answering("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n").await;
    let silent = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let deaf = Deaf::new();
    let mut plain = plain();
    for (name, target) in [
        ("well", http(json!({}), well.endpoint())),
        ("sick", http(json!({}), sick.endpoint())),
        ("silent", http(json!({}), silent.endpoint())),
        ("deaf", tcp(endpoint(deaf.address))),
        ("open", tcp(well.endpoint())),
        ("closed", tcp(endpoint(closed_port()))),
        ("call", target(&Spec::Grpc(spec(json!({ "keep_alive": false }))), sick.endpoint())),
    ] {
        let timeout =
            if matches!(name, "silent" | "deaf") { Duration::from_millis(50) } else { PATIENCE };
        assert!(plain.start(Named(name, target), timeout).is_ok(), "{name}");
    }
    assert_eq!(plain.len(), 7);
    let mut found = BTreeMap::new();
    while !plain.is_empty() {
        for (Named(name, _), observation) in landed(&mut plain).await {
            found.insert(name, verdict(&observation.unwrap()));
        }
    }
    let found: Vec<_> = found.into_iter().map(|(name, found)| format!("{name}: {found}")).collect();
    assert_eq!(
        found,
        [
            "call: failure protocol",
            "closed: failure connection_refused",
            "deaf: failure timeout_connect",
            "open: success",
            "sick: failure status 503",
            "silent: failure timeout_response",
            "well: success 200",
        ]
    );
    assert_eq!(plain.next_deadline(), None);
}

#[tokio::test]
async fn a_long_request_is_sent_as_the_target_takes_it() {
    const LENGTH: usize = 8 << 20;
    let server = Server::start(|mut stream| async move {
        let (mut read, mut piece) = (0, vec![0; 64 * 1024]);
        while read < LENGTH {
            read += stream.read(&mut piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let body = "x".repeat(LENGTH);
    let target = http(json!({ "method": "POST", "body": body }), server.endpoint());
    let mut plain = plain();
    assert!(plain.start(Named("long", target), PATIENCE).is_ok());
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "success 200");
}

#[tokio::test]
async fn an_answer_longer_than_the_buffer_is_read_to_its_end() {
    let body = "y".repeat(49_999) + "z";
    let server =
        Server::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n{body}")).await;
    let target = http(json!({ "body_contains": "yyyz" }), server.endpoint());
    let mut plain = plain();
    assert!(plain.start(Named("answer", target), PATIENCE).is_ok());
    let (_, found) = landed(&mut plain).await.remove(0);
    let found = found.unwrap();
    assert_eq!(verdict(&found), "success 200");
    assert!(found.phases.get(Phase::Connect) > Duration::ZERO);
    assert!(found.phases.get(Phase::Exchange) > Duration::ZERO);
    assert_eq!(found.peer, Some(server.address));
    // Large buffers are not kept.
    assert!(plain.pool.is_empty());
}

/// The connection and the answer may be one piece of news; there is no second.
#[tokio::test]
async fn an_answer_that_is_there_before_the_question_is_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint(listener.local_addr().unwrap());
    let mut plain = plain();
    assert!(plain.start(Named("hasty", http(json!({}), address)), PATIENCE).is_ok());
    let (mut stream, _) = listener.accept().unwrap();
    io::Write::write_all(&mut stream, OK).unwrap();
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "success 200");
}

/// As when a program is started at that moment: its process has all descriptors until it is on its own.
#[tokio::test]
async fn what_is_told_of_a_probe_before_is_no_news_of_the_next() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint(listener.local_addr().unwrap());
    let mut plain = plain();
    assert!(plain.start(Named("before", http(json!({}), address)), PATIENCE).is_ok());
    let copy = rustix::io::dup(plain.flights[0].as_ref().unwrap().wire.socket()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    io::Write::write_all(&mut stream, OK).unwrap();
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "success 200");
    let deaf = Deaf::new();
    let next = Named("next", tcp(endpoint(deaf.address)));
    assert!(plain.start(next, Duration::from_millis(50)).is_ok());
    assert_eq!(plain.flights.len(), 1, "in the same row");
    drop(stream);
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "failure timeout_connect");
    drop(copy);
}

#[tokio::test]
async fn rows_and_buffers_are_used_again() {
    let server = Server::answering(OK).await;
    let mut plain = plain();
    for _ in 0..20 {
        assert!(plain.start(Named("again", http(json!({}), server.endpoint())), PATIENCE).is_ok());
        let (_, found) = landed(&mut plain).await.remove(0);
        assert_eq!(found.unwrap().outcome, Outcome::Success);
    }
    assert_eq!((plain.flights.len(), plain.pool.len()), (1, 1));
}

#[tokio::test]
async fn what_is_not_plain_is_given_back() {
    let mut plain = plain();
    let named = || Endpoint::new("example.test".parse().unwrap(), 80);
    let numbered = || endpoint(closed_port());
    for target in [
        http(json!({}), named()),
        tcp(named()),
        http(json!({ "https": true }), numbered()),
        http(json!({ "keep_alive": true, "version": "auto" }), numbered()),
        http(json!({ "version": "2" }), numbered()),
        http(json!({ "follow_redirects": 1 }), numbered()),
        target(&Spec::Tcp(spec(json!({ "tls": {} }))), numbered()),
        target(&Spec::Tcp(spec(json!({ "send": "PING" }))), numbered()),
        target(&Spec::Tcp(spec(json!({ "expect": "220" }))), numbered()),
        target(&Spec::Grpc(spec(json!({}))), numbered()),
        target(&Spec::Grpc(spec(json!({ "keep_alive": false, "tls": {} }))), numbered()),
        target(&Spec::Grpc(spec(json!({ "keep_alive": false }))), named()),
    ] {
        assert!(plain.start(Named("other", target), PATIENCE).is_err());
    }
    assert!(plain.is_empty());
}

#[tokio::test]
async fn what_cannot_begin_has_ended_at_once() {
    let mut plain = plain();
    let metadata = Endpoint::new("169.254.169.254".parse().unwrap(), 80);
    assert!(plain.start(Named("denied", http(json!({}), metadata)), PATIENCE).is_ok());
    let asked = Spec::Tcp(spec(json!({})));
    let dial = json!({ "source_address": "192.0.2.1" });
    let bound = target_dialing(&asked, endpoint(closed_port()), dial);
    assert!(plain.start(Named("bound", bound), PATIENCE).is_ok());
    assert_eq!(plain.len(), 2);
    let found: Vec<_> = plain
        .turn()
        .map(|(Named(name, _), found)| format!("{name}: {}", verdict(&found.unwrap())))
        .collect();
    assert_eq!(found, ["denied: failure denied", "bound: inconclusive internal"]);
    assert!(plain.is_empty());
}

/// Panics when it is asked for its target once too often: when its socket has news, or at the end.
struct Fragile(Cell<u8>, Target);

impl Ticket for Fragile {
    fn target(&self) -> &Target {
        self.0.set(self.0.get() - 1);
        assert_ne!(self.0.get(), 0, "once too often");
        &self.1
    }
}

#[tokio::test]
async fn a_panic_ends_its_own_probe_alone() {
    let server = Server::answering(OK).await;
    let mut plain = plain();
    for lives in [5, 6, 7, u8::MAX] {
        let ticket = Fragile(Cell::new(lives), http(json!({}), server.endpoint()));
        assert!(plain.start(ticket, PATIENCE).is_ok());
    }
    let mut found = Vec::new();
    while !plain.is_empty() {
        let landed = landed(&mut plain).await;
        found.extend(landed.into_iter().map(|(_, found)| found.map(|found| verdict(&found))));
    }
    found.sort();
    assert_eq!(found, [None, None, None, Some("success 200".to_owned())]);
}

/// As from another host: the connection is not there when the call returns that sends for it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_not_there_at_once_is_waited_for() {
    let policy = egress::Policy::new(&spec(json!({ "allow": ["0.0.0.0/8"] })));
    let mut plain = Network::new(policy).plain().unwrap().unwrap();
    let server = Server::answering(OK).await;
    let elsewhere = |port| Endpoint::new("0.0.0.0".parse().unwrap(), port);
    let open = elsewhere(server.address.port());
    for (name, target, expected) in [
        ("http", http(json!({}), open.clone()), "success 200"),
        ("kept", http(json!({ "keep_alive": true }), open.clone()), "success 200"),
        ("tcp", tcp(open), "success"),
        ("closed", tcp(elsewhere(closed_port().port())), "failure connection_refused"),
    ] {
        assert!(plain.start(Named(name, target), PATIENCE).is_ok());
        assert!(plain.flights[0].is_some(), "{name}");
        let (_, found) = landed(&mut plain).await.remove(0);
        assert_eq!(verdict(&found.unwrap()), expected, "{name}");
    }
}

#[tokio::test]
async fn the_end_of_a_kept_connection_is_news_while_nobody_asks() {
    let hang_up = Arc::new(tokio::sync::Notify::new());
    let signal = Arc::clone(&hang_up);
    let server = Server::start(move |mut stream| {
        let signal = Arc::clone(&signal);
        async move {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            signal.notified().await;
        }
    })
    .await;
    let target = Rc::new(http(json!({ "keep_alive": true }), server.endpoint()));
    let mut plain = plain();
    assert!(plain.start(Rc::clone(&target), PATIENCE).is_ok());
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "success 200");
    assert!(plain.is_empty());
    let kept = target.kept().unwrap();
    let ended = kept.until_its_end();
    tokio::pin!(ended);
    assert!(futures_util::poll!(&mut ended).is_pending());
    hang_up.notify_one();
    let end = loop {
        tokio::select! {
            end = &mut ended => break end,
            () = plain.ready() => assert_eq!(plain.turn().count(), 0),
        }
    };
    assert!(matches!(end, Held::Cut(_)), "{end:?}");
    assert!(!kept.is_there());
}

#[tokio::test]
async fn a_kept_connection_of_a_target_that_is_gone_is_closed_and_its_row_used_again() {
    let server = Server::start(|mut stream| async move {
        while read_request(&mut stream).await.ends_with("\r\n\r\n") {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let mut plain = plain();
    for _ in 0..3 {
        let target = http(json!({ "keep_alive": true }), server.endpoint());
        assert!(plain.start(Named("kept", target), PATIENCE).is_ok());
        let (_, found) = landed(&mut plain).await.remove(0);
        assert_eq!(verdict(&found.unwrap()), "success 200");
    }
    assert_eq!((server.connections(), plain.lines.len()), (3, 1));
}

/// Set while it is sent for, it would also bound the first packets, which are sent again late.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn silence_on_a_kept_connection_is_bounded_once_it_is_there() {
    let bound = |socket: &TcpStream| SockRef::from(socket).tcp_user_timeout().unwrap();
    let mut plain = plain();
    let deaf = Deaf::new();
    let asked = Rc::new(http(json!({ "keep_alive": true }), endpoint(deaf.address)));
    assert!(plain.start(Rc::clone(&asked), Duration::from_millis(50)).is_ok());
    assert_eq!(bound(plain.flights[0].as_ref().unwrap().wire.socket()), None);
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "failure timeout_connect");

    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let target = Rc::new(http(json!({ "keep_alive": true }), server.endpoint()));
    assert!(plain.start(Rc::clone(&target), PATIENCE).is_ok());
    let (_, found) = landed(&mut plain).await.remove(0);
    assert_eq!(verdict(&found.unwrap()), "success 200");
    let Some((http::Idle::Plain(line), _)) = target.kept().unwrap().take() else {
        panic!("it is not kept")
    };
    assert_eq!(bound(&line.socket), Some(PATIENCE / 2));
}
