//! The judgement against a naive one, which looks at ones and zeros.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

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
        if hex.starts_with("0064ff9b0001") {
            if whole[96..].contains('1') || !whole[48..96].contains('1') {
                all.push(whole[96..].to_owned());
            }
            for prefix in [48, 56, 64] {
                // The ninth octet is left out (RFC 6052).
                let places = (prefix..128).filter(|bit| !(64..72).contains(bit)).take(32);
                let carried: String = places.map(|bit| &whole[bit..=bit]).collect();
                all.extend((!carried.starts_with("00000000")).then_some(carried));
            }
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
        0x0064_ff9b_0001 << 80,
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
        let config = Config { allow, deny, ..Config::default() };
        prop_assert_eq!(Policy::new(&config).vet(ip).is_ok(), naive(&config, ip));
        prop_assert!(Policy::unrestricted().vet(ip).is_ok());
    }

    #[test]
    fn checks_of_the_api_never_go_where_those_of_the_configuration_may_not(
        lists in [any_list(), any_list(), any_list(), any_list()],
        only in [prop::option::of(any_list()), prop::option::of(any_list())],
        ip in any_ip(),
    ) {
        let [allow, deny, api_allow, api_deny] = lists;
        let [only, api_only] = only;
        let api = ApiConfig { allow: Some(api_allow), deny: api_deny, only: api_only, methods: None };
        let config = Config { allow, deny, only, api };
        let (own, of_api) = (Policy::new(&config).vet(ip), Policy::for_api(&config).vet(ip));
        prop_assert!(own.is_ok() || of_api.is_err());
        let unlisted = Config { only: None, ..config.clone() };
        prop_assert!(own.is_err() || Policy::new(&unlisted).vet(ip).is_ok());
        let as_own = Config { api: ApiConfig::default(), ..config };
        prop_assert_eq!(Policy::for_api(&as_own).vet(ip).is_ok(), own.is_ok());
    }
}
