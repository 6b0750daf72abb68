//! Names, as a resolver of the test's own knows them or does not.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use serde_json::json;

use super::*;
use crate::{
    model::Observation,
    probe::{
        Network, Prober as _, Spec, Target,
        egress::Config,
        http,
        testing::{
            PATIENCE, SLACK, Server,
            dns::{Resolver, Way, addresses, alias, code, data, name, with},
            spec, target_dialing, verdict,
        },
    },
};

/// A check of `shop.example` that asks this resolver.
fn shop(resolver: SocketAddr, port: u16) -> Target {
    let endpoint = Endpoint::new("shop.example".parse().unwrap(), port);
    target_dialing(&Spec::Http(http::Spec::default()), endpoint, json!({ "resolver": resolver }))
}

/// A network where 127.0.0.2 is denied.
fn network() -> Network {
    let config: Config = spec(json!({ "deny": ["127.0.0.2", "::1"] }));
    Network::new(Policy::new(&config))
}

/// A web server on 127.0.0.1, and another, that nobody may reach, on 127.0.0.2 with the same port.
async fn open_and_denied() -> (Server, TcpListener) {
    loop {
        let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
        let denied = SocketAddr::from(([127, 0, 0, 2], server.address.port()));
        if let Ok(tripwire) = TcpListener::bind(denied).await {
            return (server, tripwire);
        }
    }
}

async fn contacted(tripwire: &TcpListener) -> bool {
    timeout_at(Instant::now(), tripwire.accept()).await.is_ok()
}

fn detail(seen: &Observation) -> &str {
    seen.detail.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn the_address_that_was_judged_is_the_one_that_is_used() {
    let (server, tripwire) = open_and_denied().await;
    // Each question has another answer, and none may be kept.
    let resolver = Resolver::start(|question, _, n| {
        let ip = if n / 2 % 2 == 0 { "127.0.0.1" } else { "127.0.0.2" };
        vec![addresses(question, [ip].into_iter()).to_vec().unwrap()]
    })
    .await;
    let (target, network) = (shop(resolver.address, server.address.port()), network());
    for expected in ["success 200", "failure denied", "success 200", "failure denied"] {
        let before = resolver.asked();
        let seen = network.probe(&target, PATIENCE).await;
        assert_eq!(verdict(&seen), expected, "{seen:?}");
        assert_eq!(resolver.asked() - before, 2, "once for IPv4, once for IPv6");
    }
    assert!(!contacted(&tripwire).await);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn of_many_addresses_those_that_are_denied_are_left_out() {
    let (server, tripwire) = open_and_denied().await;
    let port = server.address.port();
    let all: &[&[&str]] = &[
        &["127.0.0.2", "127.0.0.1"],
        &["::1", "127.0.0.2", "127.0.0.1"],
        &["::ffff:127.0.0.2", "127.0.0.1"],
        &["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "127.0.0.1"],
    ];
    for ips in all {
        let resolver = Resolver::knowing(ips).await;
        let seen = network().probe(&shop(resolver.address, port), PATIENCE).await;
        assert_eq!((verdict(&seen).as_str(), seen.peer), ("success 200", Some(server.address)));
    }
    let resolver = Resolver::knowing(&["127.0.0.2", "::1"]).await;
    let seen = network().probe(&shop(resolver.address, port), PATIENCE).await;
    assert_eq!(verdict(&seen), "failure denied");
    assert!(detail(&seen).contains("all 2 addresses are denied"), "{seen:?}");
    assert!(!contacted(&tripwire).await);
}

/// Asks about `shop.example` by a resolver that follows this script.
async fn asked<S>(script: S) -> Observation
where
    S: Fn(&Message, Way, usize) -> Vec<Vec<u8>> + Send + Sync + 'static,
{
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let resolver = Resolver::start(script).await;
    Network::default().probe(&shop(resolver.address, server.address.port()), PATIENCE).await
}

#[tokio::test]
async fn aliases_are_followed_to_their_end() {
    let chain = |links: usize| {
        move |question: &Message, _, _| {
            let link = |n: usize| match n {
                0 => name("shop.example."),
                n => name(&format!("a{n}.example.")),
            };
            let aliases = (0..links).map(|n| (link(n), alias(&link(n + 1).to_string())));
            let records = aliases.rev().chain([(link(links), data("127.0.0.1"))]);
            vec![with(question, records).to_vec().unwrap()]
        }
    };
    assert_eq!(verdict(&asked(chain(1)).await), "success 200");
    assert_eq!(verdict(&asked(chain(16)).await), "success 200");
    assert_eq!(verdict(&asked(chain(17)).await), "failure dns");
    let circle = |question: &Message, _, _| {
        let records = [("shop.example.", "a.example."), ("a.example.", "shop.example.")];
        let records = records.into_iter().map(|(from, to)| (name(from), alias(to)));
        vec![with(question, records).to_vec().unwrap()]
    };
    let seen = asked(circle).await;
    assert_eq!(verdict(&seen), "failure dns");
    assert!(detail(&seen).contains("is an alias that leads nowhere"), "{seen:?}");
    // An address beside the question is none of the name.
    let beside = |question: &Message, _, _| {
        let records = [(name("other.example."), data("127.0.0.1"))];
        vec![with(question, records.into_iter()).to_vec().unwrap()]
    };
    assert_eq!(verdict(&asked(beside).await), "failure dns");
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_asked_for_by_tcp() {
    let seen = asked(|question, way, _| {
        let mut ips: Vec<String> =
            (0..1000).map(|n| format!("127.9.{}.{}", n / 256, n % 256)).collect();
        ips[15] = "127.0.0.1".to_owned();
        let mut answer = addresses(question, ips.iter().map(String::as_str));
        if way == Way::Udp {
            answer.metadata.truncation = true;
            answer.answers.clear();
        }
        vec![answer.to_vec().unwrap()]
    })
    .await;
    // Nobody listens at the first fifteen.
    assert_eq!(verdict(&seen), "success 200", "{seen:?}");
    let seventeenth = asked(|question, _, _| {
        let ips = (0..17).map(|n| format!("127.0.{}.1", (n + 9) % 25));
        let ips: Vec<_> = ips.collect();
        vec![addresses(question, ips.iter().map(String::as_str)).to_vec().unwrap()]
    })
    .await;
    assert_eq!(verdict(&seventeenth), "failure connection_refused", "{seventeenth:?}");
    assert!(detail(&seventeenth).contains("none of 16 addresses answered"), "{seventeenth:?}");
}

#[tokio::test]
async fn what_answers_another_question_is_passed_over() {
    let seen = asked(|question, _, _| {
        let good = addresses(question, ["127.0.0.1"].into_iter());
        let wrong = || addresses(question, ["127.0.0.9"].into_iter());
        let (mut other_id, mut other_name, mut a_question) = (wrong(), wrong(), wrong());
        other_id.metadata.id = question.metadata.id.wrapping_add(1);
        other_name.queries[0].set_name(name("else.example."));
        a_question.metadata.message_type = question.metadata.message_type;
        let garbage = vec![Vec::new(), vec![0xff; 700], question.to_vec().unwrap()];
        let strays = [other_id, other_name, a_question].map(|stray| stray.to_vec().unwrap());
        garbage.into_iter().chain(strays).chain([good.to_vec().unwrap()]).collect()
    })
    .await;
    assert_eq!(verdict(&seen), "success 200", "{seen:?}");
}

#[tokio::test]
async fn a_name_that_is_not_there_is_held_against_the_target() {
    let absent = |reply: ResponseCode| {
        move |question: &Message, _, _| vec![code(question, reply).to_vec().unwrap()]
    };
    let seen = asked(absent(ResponseCode::NXDomain)).await;
    assert_eq!(verdict(&seen), "failure dns");
    assert!(detail(&seen).contains("`shop.example` does not exist, says the resolver"), "{seen:?}");
    let seen = asked(absent(ResponseCode::NoError)).await;
    assert_eq!(verdict(&seen), "failure dns");
    assert!(detail(&seen).contains("`shop.example` has no address"), "{seen:?}");
}

#[tokio::test]
async fn a_resolver_that_cannot_say_is_not() {
    for reply in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let seen = asked(move |question, _, _| vec![code(question, reply).to_vec().unwrap()]).await;
        assert_eq!(verdict(&seen), "inconclusive dns", "{reply}");
        assert!(detail(&seen).contains("says"), "{seen:?}");
    }
    // Nobody listens there.
    let gone = Network::default().probe(&shop(closed_port(), 80), PATIENCE).await;
    assert_eq!(verdict(&gone), "inconclusive dns", "{gone:?}");
    // Nobody answers, and the probe ends when it must.
    let silent = Resolver::start(|_, _, _| Vec::new()).await;
    let within = Duration::from_millis(300);
    let seen = Network::default().probe(&shop(silent.address, 80), within).await;
    assert_eq!(verdict(&seen), "inconclusive dns", "{seen:?}");
    assert!(seen.duration < within + SLACK, "{seen:?}");
    assert!(silent.asked() >= 2);
}

#[tokio::test]
async fn one_family_is_enough_where_the_other_is_not_known() {
    for broken in [RecordType::A, RecordType::AAAA] {
        let seen = asked(move |question, _, _| {
            let answer = if question.queries[0].query_type() == broken {
                code(question, ResponseCode::ServFail)
            } else {
                addresses(question, ["127.0.0.1", "::ffff:127.0.0.1"].into_iter())
            };
            vec![answer.to_vec().unwrap()]
        })
        .await;
        assert_eq!(verdict(&seen), "success 200", "{seen:?}");
    }
    // There may be an address that the server does not know of.
    let seen = asked(|question, _, _| {
        let broken = question.queries[0].query_type() == RecordType::A;
        let reply = if broken { ResponseCode::ServFail } else { ResponseCode::NoError };
        vec![code(question, reply).to_vec().unwrap()]
    })
    .await;
    assert_eq!(verdict(&seen), "inconclusive dns", "{seen:?}");
}

#[tokio::test]
async fn the_last_good_address_serves_while_the_resolver_is_down() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let state = Arc::new(AtomicU8::new(0));
    let script = Arc::clone(&state);
    let resolver = Resolver::start(move |question, _, _| {
        let answer = match script.load(Relaxed) {
            0 => addresses(question, ["127.0.0.1"].into_iter()),
            1 => code(question, ResponseCode::ServFail),
            2 => return Vec::new(),
            _ => code(question, ResponseCode::NXDomain),
        };
        vec![answer.to_vec().unwrap()]
    })
    .await;
    let (network, target) = (Network::default(), shop(resolver.address, server.address.port()));
    let within = Duration::from_secs(1);
    for (now, expected) in [
        (0, "success 200"),
        (1, "success 200"),
        (2, "success 200"),
        (3, "failure dns"),
        // A name that has gone is not remembered.
        (1, "inconclusive dns"),
        (2, "inconclusive dns"),
    ] {
        state.store(now, Relaxed);
        let seen = network.probe(&target, within).await;
        assert_eq!(verdict(&seen), expected, "{now}: {seen:?}");
    }
}

/// A check of `shop.example` that asks this resolver, in this manner.
fn shop_dialing(resolver: &Resolver, port: u16, mut dial: serde_json::Value) -> Target {
    dial["resolver"] = json!(resolver.address);
    let endpoint = Endpoint::new("shop.example".parse().unwrap(), port);
    target_dialing(&Spec::Http(http::Spec::default()), endpoint, dial)
}

/// A resolver that knows both families, then, told by the number, not of IPv6, then of none.
async fn failing(v6: &'static str, v4: &'static str) -> (Resolver, Arc<AtomicU8>) {
    let state = Arc::new(AtomicU8::new(0));
    let script = Arc::clone(&state);
    let resolver = Resolver::start(move |question, _, _| {
        let is_v6 = question.queries[0].query_type() == RecordType::AAAA;
        let answer = match script.load(Relaxed) {
            0 => addresses(question, [v6, v4].into_iter()),
            1 if !is_v6 => addresses(question, [v6, v4].into_iter()),
            _ => code(question, ResponseCode::ServFail),
        };
        vec![answer.to_vec().unwrap()]
    })
    .await;
    (resolver, state)
}

#[tokio::test]
async fn where_each_address_counts_both_families_must_be_known() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = server.address.port();
    // Nobody listens at the address of the family that is not always known.
    let (resolver, state) = failing("::ffff:127.0.0.9", "127.0.0.1").await;
    let target = shop_dialing(&resolver, port, json!({ "addresses": "each", "require": 2 }));
    let network = Network::default();
    for (now, expected) in [
        (1, "inconclusive dns"),
        (0, "failure connection_refused"),
        (1, "failure connection_refused"),
    ] {
        state.store(now, Relaxed);
        let seen = network.probe(&target, PATIENCE).await;
        assert_eq!(verdict(&seen), expected, "{now}: {seen:?}");
    }
    // Who needs one only is not kept from it.
    let seen = Network::default().probe(&shop(resolver.address, port), PATIENCE).await;
    assert_eq!(verdict(&seen), "success 200");
}

#[tokio::test]
async fn a_part_of_the_addresses_is_used_but_not_remembered_over_all() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let (resolver, state) = failing("::ffff:127.0.0.1", "127.0.0.9").await;
    let target = shop(resolver.address, server.address.port());
    let network = Network::default();
    for (now, expected) in
        [(0, "success 200"), (1, "failure connection_refused"), (2, "success 200")]
    {
        state.store(now, Relaxed);
        let seen = network.probe(&target, PATIENCE).await;
        assert_eq!(verdict(&seen), expected, "{now}: {seen:?}");
    }
}

#[tokio::test]
async fn only_what_our_address_can_reach_is_asked_for() {
    // Nothing is known of the one family that is of use.
    let resolver = Resolver::start(|question, _, _| {
        let answer = if question.queries[0].query_type() == RecordType::A {
            code(question, ResponseCode::ServFail)
        } else {
            addresses(question, ["::1"].into_iter())
        };
        vec![answer.to_vec().unwrap()]
    })
    .await;
    let target = shop_dialing(&resolver, 80, json!({ "source_address": "127.0.0.1" }));
    let seen = Network::default().probe(&target, PATIENCE).await;
    assert_eq!(verdict(&seen), "inconclusive dns", "{seen:?}");
    assert_eq!(resolver.asked(), 1, "not for IPv6");
}

#[tokio::test]
async fn a_datagram_goes_to_an_address_that_this_host_has_a_way_to() {
    // The kernel refuses broadcasts at once.
    let resolver = Resolver::knowing(&["255.255.255.255", "127.0.0.1"]).await;
    let endpoint = Endpoint::new("dns.example".parse().unwrap(), resolver.address.port());
    let asks = Spec::Dns(spec(json!({ "name": "shop.example" })));
    let target = target_dialing(&asks, endpoint, json!({ "resolver": resolver.address }));
    let allow: Config = spec(json!({ "allow": ["255.255.255.255"] }));
    let seen = Network::new(Policy::new(&allow)).probe(&target, PATIENCE).await;
    assert_eq!(verdict(&seen), "success", "{seen:?}");
    assert_eq!(seen.peer, Some(resolver.address));
}
