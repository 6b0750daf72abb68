//! Spellings of addresses, all the way to the socket.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    model::Observation,
    probe::{
        Endpoint, Network, Probe, Prober, Spec, Target, grpc, http, parse_url, tcp,
        testing::{PATIENCE, Server, dns::Resolver, spec, target, target_dialing, verdict},
    },
};

/// Denied from the start, as hosts of a configuration and of a URL.
const DENIED: &[&str] = &[
    // AWS, Google, Azure, OpenStack: decimal, hex, octal, short, with a dot.
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0XA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "169.16689662",
    "0xa9.254.0251.254",
    "169.254.169.0xfe",
    "%31%36%39.254.169.254",
    "\u{ff11}69.254.169.254",
    "169\u{3002}254\u{3002}169\u{3002}254",
    // The same within IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo (client, server).
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:FFFF:A9FE:A9FE]",
    "[::169.254.169.254]",
    "[::a9fe:a9fe]",
    "[::ffff:0:169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[0064:ff9b:0:0::a9fe:a9fe]",
    "[64:ff9b:1::169.254.169.254]",
    "[64:ff9b:1:0:a9:fea9:fe00:0]",
    "[64:ff9b:1:a9:fe:a9fe::]",
    "[64:ff9b:1:a9fe:a9:fe00::]",
    "[2002:a9fe:a9fe::]",
    "[2002:a9fe:a9fe:1::7]",
    "[2001:0:4136:e378:8000:63bf:5601:5601]",
    "[2001:0:a9fe:a9fe::f5ff:fffe]",
    // Other services of that kind.
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "[::ffff:100.100.100.200]",
    "168.63.129.16",
    "2822734096",
    "192.0.0.192",
    // Link-local.
    "169.254.0.0",
    "169.254.255.255",
    "[fe80::1]",
    "[febf:ffff::1]",
    "fe80::1%eth0",
    "[fe80::1%25eth0]",
    // No address in particular, which is this host.
    "0.0.0.0",
    "0",
    "0x0",
    "0.1.2.3",
    "0.255.255.255",
    "[::]",
    "[::ffff:0.0.0.0]",
    "[64:ff9b::]",
    // Multicast, reserved, broadcast.
    "224.0.0.1",
    "239.255.255.255",
    "[ff02::1]",
    "[::ffff:224.0.0.1]",
    "240.0.0.1",
    "255.255.255.254",
    "255.255.255.255",
    "4294967295",
    "[2002:ffff:ffff::]",
];

/// Addresses that are denied from the start, one of each kind.
const KINDS: [Ipv4Addr; 10] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(169, 254, 1, 2),
    Ipv4Addr::new(0, 1, 2, 3),
    Ipv4Addr::new(224, 0, 0, 251),
    Ipv4Addr::new(240, 1, 2, 3),
];

/// The spellings of an IPv4 address that parsers have been known to take, and what carries it.
fn spellings(ip: Ipv4Addr) -> Vec<String> {
    let ([a, b, c, d], bits) = (ip.octets(), ip.to_bits());
    let (high, low) = (bits >> 16, bits & 0xffff);
    vec![
        format!("{bits}"),
        format!("0x{bits:x}"),
        format!("0X{bits:08X}"),
        format!("0{bits:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{}", bits & 0xff_ffff),
        format!("{a}.{b}.{low}"),
        format!("0x{a:x}.{b}.0{c:o}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("%{:02x}{}", b'0' + a / 100, &format!("{a:03}.{b}.{c}.{d}")[1..]),
        format!("{a}\u{3002}{b}\u{ff0e}{c}\u{ff61}{d}"),
        format!("[::ffff:{ip}]"),
        format!("[::FFFF:{high:X}:{low:X}]"),
        format!("[0:0:0:0:0:ffff:{high:04x}:{low:04x}]"),
        format!("[::ffff:0:{ip}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        format!("[64:ff9b:1::{high:x}:{low:x}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:{high:x}:{low:x}::1]"),
        format!("[2001::5db8:d822:0:0:{:x}:{:x}]", !high & 0xffff, !low & 0xffff),
    ]
}

/// This host.
const LOOPBACK: &[&str] = &[
    "127.0.0.1",
    "localhost",
    "LOCALHOST.",
    "127.1",
    "0x7f.1",
    "2130706433",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
];

/// Opens what reaches this host otherwise, and denies this host itself.
fn not_here() -> Policy {
    Policy::new(&config(&["0.0.0.0/8", "::/128"], &["127.0.0.0/8", "::1"]))
}

async fn ask(policy: Policy, spec: &Spec, endpoint: Endpoint) -> Observation {
    Network::new(policy).probe(&target(spec, endpoint), PATIENCE).await
}

fn plain() -> [Spec; 3] {
    [
        Spec::Http(http::Spec::default()),
        Spec::Tcp(tcp::Spec::default()),
        Spec::Grpc(grpc::Spec::default()),
    ]
}

/// The verdicts and details of probes of `host`, as an instance and by a URL, in every protocol.
async fn directly(policy: &Policy, host: &str, port: u16) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(host) = host.parse() {
        let endpoint = Endpoint::new(host, port);
        for spec in plain() {
            let seen = ask(policy.clone(), &spec, endpoint.clone()).await;
            found.push((verdict(&seen), seen.detail.unwrap_or_default().into()));
        }
    }
    for scheme in ["http", "https", "tcp", "grpc"] {
        if let Ok((spec, endpoint)) = parse_url(&format!("{scheme}://{host}:{port}")) {
            let seen = ask(policy.clone(), &spec, endpoint).await;
            found.push((verdict(&seen), seen.detail.unwrap_or_default().into()));
        }
    }
    found
}

async fn by_redirect(policy: &Policy, location: &str) -> (String, String) {
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    let server = Server::answering(moved).await;
    let following = Spec::Http(spec(json!({ "follow_redirects": 1 })));
    let seen = ask(policy.clone(), &following, server.endpoint()).await;
    (verdict(&seen), seen.detail.unwrap_or_default().into())
}

#[tokio::test]
async fn no_spelling_leads_to_what_is_denied_from_the_start() {
    let made: Vec<_> = KINDS.into_iter().flat_map(spellings).collect();
    assert!(DENIED.len() + made.len() >= 240);
    let policy = Policy::default();
    for host in DENIED.iter().copied().chain(made.iter().map(String::as_str)) {
        for (verdict, detail) in directly(&policy, host, 80).await {
            assert_eq!(verdict, "failure denied", "{host}: {detail}");
            assert!(detail.contains("; add ") && detail.contains("egress.allow"), "{detail}");
        }
        let (verdict, detail) = by_redirect(&policy, &format!("http://{host}/latest")).await;
        let refused = detail.contains("; not followed: ");
        assert!(verdict == "failure denied 302" || refused, "{host}: {verdict}: {detail}");
    }
}

#[tokio::test]
async fn no_spelling_leads_to_a_listener_that_is_denied() {
    let tripwire = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = tripwire.address.port();
    let reaching = ["0.0.0.0", "[::ffff:0.0.0.0]", "[::]", "0"];
    let made = spellings(Ipv4Addr::LOCALHOST);
    let made = made.iter().map(String::as_str);
    for host in LOOPBACK.iter().chain(&reaching).copied().chain(made) {
        let ways = directly(&not_here(), host, port).await;
        assert!(!ways.is_empty(), "{host}");
        for (verdict, detail) in ways {
            assert_eq!(verdict, "failure denied", "{host}: {detail}");
            assert!(detail.contains("`egress.deny`"), "{detail}");
        }
    }
    assert_eq!(tripwire.connections(), 0);
    let allowed = ask(Policy::default(), &plain()[0], tripwire.endpoint()).await;
    assert_eq!(verdict(&allowed), "success 200");
}

#[tokio::test]
async fn a_redirect_to_a_denied_address_contacts_nobody() {
    let tripwire = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = tripwire.address.port();
    // Redirects start at 127.0.0.1, and all of the network but that is denied.
    let policy =
        Policy::new(&config(&["0.0.0.0/8", "::/128"], &["127.0.0.2/31", "::1", "0.0.0.0"]));
    for host in ["127.0.0.2", "127.2", "[::ffff:127.0.0.2]", "0.0.0.0", "[::]", "[::1]"] {
        let location = format!("http://{host}:{port}/");
        let (verdict, detail) = by_redirect(&policy, &location).await;
        assert_eq!(verdict, "failure denied 302", "{host}: {detail}");
        assert!(detail.contains("; after a redirect to http://"), "{detail}");
    }
    assert_eq!(tripwire.connections(), 0);
    let location = format!("http://127.0.0.1:{port}/");
    assert_eq!(by_redirect(&policy, &location).await.0, "success 200");
    assert_eq!(tripwire.connections(), 1);
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_resolves_to() {
    let tripwire = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let endpoint = Endpoint::new("localhost".parse().unwrap(), tripwire.address.port());
    let seen = ask(not_here(), &plain()[0], endpoint).await;
    assert_eq!((verdict(&seen).as_str(), seen.peer), ("failure denied", None));
    assert!(seen.duration < Duration::from_secs(2), "{seen:?}");
    let detail = seen.detail.unwrap();
    assert!(detail.contains("all 2 addresses are denied; probes may not go to `::1`"), "{detail}");
    assert_eq!(tripwire.connections(), 0);
}

#[tokio::test]
async fn no_answer_of_a_resolver_leads_to_what_is_denied() {
    let tripwire = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let kinds = KINDS.into_iter().chain([Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED]);
    let made = kinds.flat_map(|ip| [vec![ip.to_string()], spellings(ip)].concat());
    let others = DENIED.iter().chain(LOOPBACK).map(ToString::to_string);
    let mut ips: Vec<IpAddr> =
        made.chain(others).filter_map(|host| host.trim_matches(['[', ']']).parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    assert!(ips.len() >= 100, "{}", ips.len());
    for ip in ips {
        let resolver = Resolver::knowing(&[&ip.to_string()]).await;
        let dial = json!({ "resolver": resolver.address });
        let endpoint = Endpoint::new("shop.example".parse().unwrap(), tripwire.address.port());
        let target = target_dialing(&plain()[1], endpoint, dial);
        let policy: Config = spec(json!({ "deny": ["127.0.0.0/8", "::1"] }));
        let seen = Network::new(Policy::new(&policy)).probe(&target, PATIENCE).await;
        assert_eq!((verdict(&seen).as_str(), seen.peer), ("failure denied", None), "{ip}");
    }
    assert_eq!(tripwire.connections(), 0);
}

#[tokio::test]
async fn checks_of_the_api_are_held_to_their_own_policy() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let config: Config = spec(json!({ "api": { "deny": ["127.0.0.0/8"] } }));
    let network = Network::new(Policy::new(&config)).with_api_egress(Policy::for_api(&config));
    let by = |origin| {
        let probe = Probe::prepare(&plain()[0]).unwrap().wanted_by(origin);
        Target::new(Arc::new(probe), server.endpoint())
    };
    let seen = network.probe(&by(Origin::Configuration), PATIENCE).await;
    assert_eq!(verdict(&seen), "success 200");
    let seen = network.probe(&by(Origin::Api), PATIENCE).await;
    assert_eq!(verdict(&seen), "failure denied");
    assert!(seen.detail.unwrap().contains("`egress.api.deny`"));
    assert_eq!(server.connections(), 1);
}

/// Also of one that was registered before the configuration forbade it.
#[tokio::test]
async fn a_request_that_may_not_be_made_is_not_made() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let config = Config::default();
    let network = Network::new(Policy::new(&config)).with_api_egress(Policy::for_api(&config));
    let http = http::Spec { method: "POST".parse().unwrap(), ..Default::default() };
    let by = |origin| {
        let probe = Probe::prepare(&Spec::Http(http.clone())).unwrap().wanted_by(origin);
        Target::new(Arc::new(probe), server.endpoint())
    };
    let seen = network.probe(&by(Origin::Api), PATIENCE).await;
    assert_eq!((verdict(&seen).as_str(), server.connections()), ("failure denied", 0));
    assert!(seen.detail.unwrap().contains("`egress.api.methods`"));
    let seen = network.probe(&by(Origin::Configuration), PATIENCE).await;
    assert_eq!(verdict(&seen), "success 200");
}

#[tokio::test]
async fn a_datagram_asks_the_policy_too() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let spec = Spec::Udp(crate::probe::udp::Spec::default());
    for host in ["127.0.0.1", "localhost"] {
        let endpoint = Endpoint::new(host.parse().unwrap(), port);
        let seen = ask(not_here(), &spec, endpoint).await;
        assert!(verdict(&seen).starts_with("failure denied"), "{seen:?}");
    }
    assert!(socket.try_recv(&mut [0; 8]).is_err(), "nothing may have been sent");
}
