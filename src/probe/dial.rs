//! How a check finds and reaches its target: which addresses of a name, asked of which resolver,
//! from which address of ours.
//!
//! What is said here is common to all probe types that use the network. A check that says nothing
//! of it, as nearly all do, carries nothing for it.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// How many addresses of one name are tried, one after the other.
const MAX_TRIED: usize = 16;

/// How many addresses of one name are asked, together. Each takes a socket for its probe.
pub(super) const MAX_ASKED: usize = 256;

/// How the target's address is found and reached. An address given as such is not resolved: of
/// these settings only `source_address` has a meaning for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Dial")]
pub struct Spec {
    /// Which addresses of a name are used, and in which order they are tried: `any` (all, as the
    /// resolver orders them), `ipv4`, `ipv6` (no others), `prefer_ipv4`, `prefer_ipv6` (these
    /// first). Default: `any`.
    pub family: Family,
    /// `first`: addresses are tried in order, 16 at most, and the first that takes the connection is
    /// asked.
    /// `each`: all addresses are asked, together and within the one timeout. Of a name with more than
    /// 256 none is asked: such probes say nothing of the target (`inconclusive`), and nor do those for
    /// which `resolver` cannot say what addresses of one family there are. An address that probes may
    /// not go to counts as one that failed. Connections are not kept between probes then. Default:
    /// `first`.
    pub addresses: Addresses,
    /// With `addresses: each`, how many addresses must be well: `all`, `any`, or a number from 1 to
    /// 256. Default: `all`.
    pub require: Require,
    /// The address of ours to connect from, as `10.0.0.5`; addresses of the other family are not
    /// used. If this host does not have it, probes say nothing of the target. Default: what the
    /// routing table says.
    pub source_address: Option<IpAddr>,
    /// The DNS server to ask instead of the system's resolver, as `10.0.0.53:53`. It is asked for
    /// the very name, without search domains and without `/etc/hosts`. Default: the system's
    /// resolver.
    pub resolver: Option<SocketAddr>,
}

/// Which addresses of a name are used, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Family {
    /// All, as the resolver orders them.
    #[default]
    Any,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// All, IPv4 first.
    PreferIpv4,
    /// All, IPv6 first.
    PreferIpv6,
}

/// How many addresses of a name are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Addresses {
    /// The first that takes the connection.
    #[default]
    First,
    /// All of them.
    Each,
}

/// How many addresses must be well where each is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Require {
    /// Every one.
    #[default]
    All,
    /// One at least.
    Any,
    /// This many at least.
    Some(NonZeroU16),
}

impl Family {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Any | Self::PreferIpv4 | Self::PreferIpv6 => true,
            Self::Ipv4 => ip.is_ipv4(),
            Self::Ipv6 => ip.is_ipv6(),
        }
    }

    /// How far back an address comes.
    fn rank(self, ip: IpAddr) -> bool {
        match self {
            Self::Any | Self::Ipv4 | Self::Ipv6 => false,
            Self::PreferIpv4 => ip.is_ipv6(),
            Self::PreferIpv6 => ip.is_ipv4(),
        }
    }
}

impl Spec {
    /// The addresses to ask a resolver for: what cannot be used from the address of ours is not asked
    /// for, and so need not be known.
    pub(super) fn usable(&self) -> Family {
        match (self.family, self.source_address) {
            (family @ (Family::Ipv4 | Family::Ipv6), _) | (family, None) => family,
            (_, Some(IpAddr::V4(_))) => Family::Ipv4,
            (_, Some(IpAddr::V6(_))) => Family::Ipv6,
        }
    }

    /// The addresses to use of those that a name has, in order: each once; no more than 16 where one
    /// is enough.
    pub(super) fn arrange(&self, mut found: Vec<IpAddr>) -> Vec<IpAddr> {
        let reachable = |ip: &IpAddr| {
            self.family.has(*ip)
                && self.source_address.is_none_or(|source| source.is_ipv4() == ip.is_ipv4())
        };
        found.retain(reachable);
        found.sort_by_key(|ip| self.family.rank(*ip));
        let mut seen = HashSet::new();
        found.retain(|ip| seen.insert(*ip));
        if self.addresses == Addresses::First {
            found.truncate(MAX_TRIED);
        }
        found
    }
}

impl Require {
    /// How many of so many addresses must be well; more than there are if so many are asked for.
    pub(super) fn of(self, addresses: usize) -> usize {
        match self {
            Self::All => addresses,
            Self::Any => 1,
            Self::Some(least) => least.get().into(),
        }
    }
}

/// The name of an address's family.
pub(super) fn family_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// `all`, `any`, or a number.
struct Quantity;

impl Visitor<'_> for Quantity {
    type Value = Require;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`all`, `any`, or a number from 1 to 256")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Require, E> {
        let least = u16::try_from(value).ok().and_then(NonZeroU16::new);
        least
            .filter(|least| usize::from(least.get()) <= MAX_ASKED)
            .map(Require::Some)
            .ok_or_else(|| E::custom("expected `all`, `any`, or a number from 1 to 256"))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Require, E> {
        self.visit_u64(u64::try_from(value).unwrap_or(0))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Require, E> {
        match text {
            "all" => Ok(Require::All),
            "any" => Ok(Require::Any),
            _ => Err(E::custom("expected `all`, `any`, or a number from 1 to 256")),
        }
    }
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity)
    }
}

impl JsonSchema for Require {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Require".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["all", "any"] },
                { "type": "integer", "minimum": 1, "maximum": 256 },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::probe::testing::spec;

    #[track_caller]
    fn check(dial: Value, expected: &[&str]) {
        let found = ["2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.1", "10.0.0.2"];
        let found = found.iter().map(|ip| ip.parse().unwrap()).collect();
        let arranged = spec::<Spec>(dial).arrange(found);
        let shown: Vec<_> = arranged.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_addresses_of_a_name_are_used_in_the_order_asked_for() {
        check(json!({}), &["2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.2"]);
        check(json!({ "family": "ipv4" }), &["10.0.0.1", "10.0.0.2"]);
        check(json!({ "family": "ipv6" }), &["2001:db8::1", "2001:db8::2"]);
        let v4_first = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"];
        check(json!({ "family": "prefer_ipv4" }), &v4_first);
        let v6_first = ["2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2"];
        check(json!({ "family": "prefer_ipv6" }), &v6_first);
        check(json!({ "source_address": "10.0.0.9" }), &["10.0.0.1", "10.0.0.2"]);
        check(json!({ "source_address": "::1", "family": "ipv4" }), &[]);
    }

    #[test]
    fn a_family_that_comes_late_is_not_cut_off() {
        let many =
            (0..1000_u32).map(|n| IpAddr::from((0x2001_u128 << 112 | u128::from(n)).to_be_bytes()));
        let found: Vec<_> = many.chain(["10.0.0.1".parse().unwrap()]).collect();
        assert_eq!(Spec::default().arrange(found.clone()).len(), MAX_TRIED);
        let each: Spec = spec(json!({ "addresses": "each" }));
        assert_eq!(each.arrange(found.clone()), found, "all of them");
        let v4: Spec = spec(json!({ "family": "ipv4" }));
        assert_eq!(v4.arrange(found), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn how_many_must_be_well_is_a_word_or_a_number() {
        let read = |value: Value| serde_json::from_value::<Require>(value).map(|r| r.of(3));
        assert_eq!(read(json!("all")).unwrap(), 3);
        assert_eq!(read(json!("any")).unwrap(), 1);
        assert_eq!(read(json!(2)).unwrap(), 2);
        assert_eq!(read(json!(256)).unwrap(), 256);
        for bad in [json!(0), json!(257), json!(-1), json!("most"), json!(1.5), json!(null)] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
