//! Spellings of addresses all the way to the socket, and the judgement against a naive one.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::Observation,
    probe::{
        Endpoint, Network, Prober, Spec, grpc, http, parse_url, tcp,
        testing::{PATIENCE, Server, spec, target, verdict},
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

fn config(allow: &[&str], deny: &[&str]) -> Config {
    spec(json!({ "allow": allow, "deny": deny }))
}

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
    assert!(DENIED.len() >= 40);
    let policy = Policy::default();
    for host in DENIED {
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
    for host in LOOPBACK.iter().chain(&reaching) {
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

#[track_caller]
fn check(config: &Config, ip: &str, expected: &str) {
    let said = match Policy::new(config).vet(ip.parse().unwrap()) {
        Ok(()) => "allowed".to_owned(),
        Err(denied) => format!("{denied}; {}", denied.remedy()),
    };
    assert_eq!(said.strip_prefix("probes may not go to ").unwrap_or(&said), expected);
}

#[test]
fn what_is_meant_is_allowed() {
    let start = Config::default();
    for ip in ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.100.100.201"] {
        check(&start, ip, "allowed");
    }
    for ip in ["1.1.1.1", "2001:db8::1", "2606:4700::1111", "fd00::1", "::ffff:10.0.0.1"] {
        check(&start, ip, "allowed");
    }
    for ip in ["64:ff9b::8.8.8.8", "2002:808:808::1", "169.253.255.255", "169.255.0.0", "fec0::1"] {
        check(&start, ip, "allowed");
    }
}

#[test]
fn a_denial_says_which_rule_and_what_to_do() {
    let said = "`169.254.169.254`: cloud metadata (169.254.169.254/32); \
                add 169.254.169.254/32 to `egress.allow` if it is meant";
    check(&Config::default(), "169.254.169.254", said);
    let said = "`64:ff9b::a9fe:101`, which stands for `169.254.1.1`: link-local (169.254.0.0/16); \
                add 169.254.1.1/32 to `egress.allow` if it is meant";
    check(&Config::default(), "64:ff9b::a9fe:101", said);
    let said = "`10.1.2.3`: `egress.deny` has 10.0.0.0/8; \
                change 10.0.0.0/8 in `egress.deny` if it is meant";
    check(&config(&["10.1.2.3"], &["10.0.0.0/8"]), "10.1.2.3", said);
}

#[test]
fn an_exception_must_name_what_it_opens() {
    let denied = |allow: &[&str], ip: &str| {
        Policy::new(&config(allow, &[])).vet(ip.parse().unwrap()).is_err()
    };
    assert!(denied(&["0.0.0.0/0", "::/0"], "169.254.1.1"));
    assert!(denied(&["169.254.0.0/15"], "169.254.1.1"));
    assert!(!denied(&["169.254.0.0/16"], "169.254.1.1"));
    assert!(!denied(&["169.254.0.0/16"], "::ffff:169.254.1.1"));
    assert!(!denied(&["::ffff:169.254.0.0/112"], "169.254.1.1"));
    assert!(denied(&["169.254.0.0/16"], "169.254.169.254"));
    assert!(!denied(&["169.254.169.254"], "169.254.169.254"));
    assert!(denied(&["169.254.169.254"], "169.254.169.253"));
    assert!(denied(&["100.64.0.0/10"], "100.100.100.200"));
    assert!(denied(&["fd00::/8"], "fd00:ec2::254"));
    assert!(!denied(&["fd00:ec2::254/128"], "fd00:ec2::254"));
}

#[test]
fn a_network_is_read_strictly() {
    let read = |text: &str| match text.parse::<Cidr>() {
        Ok(cidr) => cidr.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(read("10.0.0.0/8"), "10.0.0.0/8");
    assert_eq!(read("10.0.0.1"), "10.0.0.1/32");
    assert_eq!(read("0.0.0.0/0"), "0.0.0.0/0");
    assert_eq!(read("::/0"), "::/0");
    assert_eq!(read("fe80::/10"), "fe80::/10");
    assert_eq!(read("::ffff:10.0.0.0/104"), "10.0.0.0/8");
    let host_bits = |right: &str| {
        format!("bits are set beyond the prefix; write {right}, or the address without a slash")
    };
    assert_eq!(read("10.0.0.1/8"), host_bits("10.0.0.0/8"));
    assert_eq!(read("::ffff:10.0.0.1/104"), host_bits("10.0.0.0/8"));
    for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/-1"] {
        assert_eq!(read(text), "the number after the slash must be from 0 to 32", "{text}");
    }
    assert_eq!(read("fe80::/129"), "the number after the slash must be from 0 to 128");
    for text in ["", "/8", "10.0.0/8", "host", "010.0.0.0/8", "fe80::%eth0/10", "*"] {
        assert!(read(text).contains("is not a network: write for example"), "{text}");
    }
}

/// What is denied from the start, written out once more.
const NETWORKS: &[&str] = &[
    "169.254.169.254/32",
    "169.254.170.2/32",
    "169.254.170.23/32",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "169.254.0.0/16",
    "0.0.0.0/8",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "fd00:ec2::254/128",
    "fd00:ec2::23/128",
    "fd20:ce::254/128",
    "fe80::/10",
    "::/128",
    "ff00::/8",
];

/// An address in ones and zeros.
fn binary(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:032b}", ip.to_bits()),
        IpAddr::V6(ip) => format!("{:0128b}", ip.to_bits()),
    }
}

/// The start that all addresses of a network share, with the length of an address.
fn start(network: &str) -> (String, usize) {
    let (ip, prefix) = network.split_once('/').unwrap();
    let bits = binary(ip.parse().unwrap());
    (bits[..prefix.parse().unwrap()].to_owned(), bits.len())
}

fn is_in(ip: &str, network: &str) -> bool {
    let (start, length) = start(network);
    ip.len() == length && ip.starts_with(&start)
}

/// All addresses to judge, in ones and zeros: by position instead of by pattern.
fn candidates(ip: IpAddr) -> Vec<String> {
    let whole = binary(ip);
    let mut all = vec![whole.clone()];
    if let IpAddr::V6(ip) = ip {
        let hex = format!("{:032x}", ip.to_bits());
        let is_plain = hex[..31].bytes().all(|digit| digit == b'0') && hex.ends_with(['0', '1']);
        let prefixes = [
            "000000000000000000000000",
            "00000000000000000000ffff",
            "0000000000000000ffff0000",
            "0064ff9b0000000000000000",
        ];
        if prefixes.iter().any(|prefix| hex.starts_with(prefix)) && !is_plain {
            all.push(whole[96..].to_owned());
        }
        if hex.starts_with("2002") {
            all.push(whole[16..48].to_owned());
        }
        if hex.starts_with("20010000") {
            all.push(whole[32..64].to_owned());
            let turned = whole[96..].chars().map(|bit| if bit == '0' { '1' } else { '0' });
            all.push(turned.collect());
        }
    }
    if all.iter().any(|ip| *ip == "0".repeat(32)) {
        all.push(binary(Ipv4Addr::LOCALHOST.into()));
    }
    if whole == "0".repeat(128) {
        all.push(binary(Ipv6Addr::LOCALHOST.into()));
    }
    all
}

fn naive(config: &Config, ip: IpAddr) -> bool {
    let shown = |list: &[Cidr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (allow, deny) = (shown(&config.allow), shown(&config.deny));
    candidates(ip).iter().all(|ip| {
        let opened = |network: &str| {
            let (outer, _) = start(network);
            allow.iter().any(|a| is_in(ip, a) && start(a).0.starts_with(&outer))
        };
        !deny.iter().any(|cidr| is_in(ip, cidr))
            && !NETWORKS.iter().filter(|network| is_in(ip, network)).any(|n| !opened(n))
    })
}

/// An IPv4 address, more often than not near one that matters.
fn any_v4() -> impl Strategy<Value = u32> {
    let near = prop::sample::select(vec![
        0_u32,
        0x7f00_0001,
        0xa9fe_a9fe,
        0xa9fe_aa02,
        0x6464_64c8,
        0xa83f_8110,
        0xc000_00c0,
        0xe000_0000,
        0xf000_0000,
        0xffff_ffff,
        0x0a00_0001,
    ]);
    prop_oneof![any::<u32>(), (near, 0_u32..32).prop_map(|(ip, bit)| ip ^ ((1 << bit) >> 1))]
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    let near = prop::sample::select(vec![
        0_u128,
        1,
        0xfd00_0ec2 << 96 | 0x254,
        0xfd20_00ce << 96 | 0x254,
        0xfe80 << 112,
        0xff << 120,
    ]);
    let carrier = prop::sample::select(vec![
        0_u128,
        0xffff << 32,
        0xffff << 48,
        0x0064_ff9b << 96,
        0x2001 << 112,
        0x2001_0db8 << 96,
    ]);
    prop_oneof![
        any_v4().prop_map(|ip| Ipv4Addr::from_bits(ip).into()),
        any::<u128>().prop_map(|ip| Ipv6Addr::from_bits(ip).into()),
        (near, 0_u32..128).prop_map(|(ip, bit)| Ipv6Addr::from_bits(ip ^ ((1 << bit) >> 1)).into()),
        (carrier, any_v4())
            .prop_map(|(start, ip)| Ipv6Addr::from_bits(start | u128::from(ip)).into()),
        (any_v4(), any::<u16>()).prop_map(|(ip, rest)| {
            let bits = 0x2002 << 112 | u128::from(ip) << 80 | u128::from(rest);
            Ipv6Addr::from_bits(bits).into()
        }),
        (any_v4(), any_v4()).prop_map(|(server, client)| {
            let bits = 0x2001 << 112 | u128::from(server) << 64 | u128::from(!client);
            Ipv6Addr::from_bits(bits).into()
        }),
    ]
}

fn any_list() -> impl Strategy<Value = Vec<Cidr>> {
    let known = prop::sample::select(NETWORKS).prop_map(|text| text.parse().unwrap());
    let cut = (any_ip(), 0_u8..=128).prop_map(|(ip, prefix)| Cidr::of(ip, prefix.min(width(ip))));
    prop::collection::vec(prop_oneof![known, cut], 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_judgement_is_that_of_a_naive_one(
        allow in any_list(), deny in any_list(), ip in any_ip(),
    ) {
        let config = Config { allow, deny };
        prop_assert_eq!(Policy::new(&config).vet(ip).is_ok(), naive(&config, ip));
        prop_assert!(Policy::unrestricted().vet(ip).is_ok());
    }
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
