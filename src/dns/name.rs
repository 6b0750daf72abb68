//! What a name asks for.
//!
//! Names are read from the right: the domain, perhaps the data centre (`dc1` or `dc1.dc`), a label
//! that says the kind (`service`, `node`, `addr`), and before it what is looked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

use super::{Domain, Zone};

/// What a name in our zone stands for. All texts are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The zone itself.
    Apex,
    /// The name server of the zone, `ns`.
    NameServer,
    /// A name above others that has no records of its own, such as `service`.
    Above,
    /// A service.
    Service { name: String, tag: Option<String> },
    /// A node.
    Node(String),
    /// An address that is spelt out in the name.
    Address(IpAddr),
    /// Nothing there can be.
    Nothing,
}

/// Where a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// In our zone.
    Zone(&'a Domain, Asked),
    /// Among the reverse names, below this zone: an address, or only the beginning of one.
    Reverse(Name, Option<IpAddr>),
    /// Somewhere else.
    Elsewhere,
}

/// Finds out where a name is and what it stands for.
pub(super) fn place<'a>(zone: &'a Zone, name: &Name) -> Place<'a> {
    if let Some(domain) = zone.domain_of(name) {
        let below = name.iter().count() - domain.name().iter().count();
        // No name that we know has labels that are not UTF-8.
        let labels: Option<Vec<String>> = name.iter().take(below).map(lower).collect();
        let asked = labels.map_or(Asked::Nothing, |labels| asked(zone, &labels));
        return Place::Zone(domain, asked);
    }
    reverse(name).unwrap_or(Place::Elsewhere)
}

fn lower(label: &[u8]) -> Option<String> {
    std::str::from_utf8(label).ok().map(str::to_lowercase)
}

fn asked(zone: &Zone, labels: &[String]) -> Asked {
    match labels {
        [] => return Asked::Apex,
        [only] if only == "ns" => return Asked::NameServer,
        _ => {}
    }
    let is_kind =
        |label: &String| ["service", "node", "addr", "connect", "query"].contains(&label.as_str());
    for at in (0..labels.len()).rev() {
        let (before, after) = (&labels[..at], &labels[at + 1..]);
        if is_kind(&labels[at]) {
            return if ours(zone, after) { of_kind(&labels[at], before) } else { Asked::Nothing };
        }
        // What is asked for as RFC 2782 says need not say `service`.
        if labels[at].starts_with('_') {
            return if ours(zone, after) { service(&labels[..=at]) } else { Asked::Nothing };
        }
    }
    if ours(zone, labels) || labels == ["dc"] { Asked::Above } else { Asked::Nothing }
}

/// Whether what stands between kind and domain names our data centre, or none.
fn ours(zone: &Zone, suffix: &[String]) -> bool {
    match suffix {
        [] => true,
        [dc] => **dc == *zone.datacenter,
        [dc, word] => **dc == *zone.datacenter && word == "dc",
        _ => false,
    }
}

fn of_kind(kind: &str, before: &[String]) -> Asked {
    match (kind, before) {
        ("service" | "node" | "addr", []) => Asked::Above,
        ("service", _) => service(before),
        ("node", _) => Asked::Node(before.join(".")),
        ("addr", [hex]) => address(hex).map_or(Asked::Nothing, Asked::Address),
        _ => Asked::Nothing,
    }
}

fn service(labels: &[String]) -> Asked {
    if let [name, tag] = labels
        && let (Some(name), Some(tag)) = (name.strip_prefix('_'), tag.strip_prefix('_'))
    {
        // The protocol that RFC 2782 wants is no tag.
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Asked::Service { name: name.to_owned(), tag };
    }
    let Some((name, tags)) = labels.split_last() else { return Asked::Nothing };
    let tag = (!tags.is_empty()).then(|| tags.join("."));
    Asked::Service { name: name.clone(), tag }
}

/// The address written as 8 or 32 hexadecimal digits.
fn address(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => Some(Ipv4Addr::from_bits(u32::from_str_radix(hex, 16).ok()?).into()),
        32 => Some(Ipv6Addr::from_bits(u128::from_str_radix(hex, 16).ok()?).into()),
        _ => None,
    }
}

/// The address written as hexadecimal digits.
pub(super) fn hex(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08x}", address.to_bits()),
        IpAddr::V6(address) => format!("{:032x}", address.to_bits()),
    }
}

fn reverse(name: &Name) -> Option<Place<'static>> {
    let labels: Vec<String> = name.iter().map(lower).collect::<Option<_>>()?;
    let [parts @ .., zone, arpa] = labels.as_slice() else { return None };
    if arpa != "arpa" {
        return None;
    }
    let radix = match zone.as_str() {
        "in-addr" => 10,
        "ip6" => 16,
        _ => return None,
    };
    let digits = parts.iter().rev().map(|part| u8::from_str_radix(part, radix).ok());
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let address = match radix {
        10 => ipv4(&digits)?,
        _ => ipv6(&digits)?,
    };
    Some(Place::Reverse(Name::from_labels([zone.as_str(), "arpa"]).ok()?, address.whole()))
}

/// An address read so far.
enum Read {
    Whole(IpAddr),
    Beginning,
}

impl Read {
    const fn whole(self) -> Option<IpAddr> {
        match self {
            Self::Whole(address) => Some(address),
            Self::Beginning => None,
        }
    }
}

fn ipv4(octets: &[u8]) -> Option<Read> {
    match <[u8; 4]>::try_from(octets) {
        Ok(octets) => Some(Read::Whole(octets.into())),
        Err(_) => (octets.len() < 4).then_some(Read::Beginning),
    }
}

fn ipv6(nibbles: &[u8]) -> Option<Read> {
    if nibbles.len() > 32 || nibbles.iter().any(|nibble| *nibble > 0xf) {
        return None;
    }
    if nibbles.len() < 32 {
        return Some(Read::Beginning);
    }
    let bits = nibbles.iter().fold(0, |bits: u128, nibble| bits << 4 | u128::from(*nibble));
    Some(Read::Whole(bits.to_be_bytes().into()))
}
