//! Where probes may go: a pure judgement of addresses, made before every connection.
//!
//! Whoever may say what is probed could make the daemon ask what only the daemon's host may: the
//! service that hands out a cloud's credentials, above all. So addresses are judged, never names or
//! spellings: what a name resolves to and what a redirect leads to is judged like a literal. An
//! address that stands for another one (an IPv6 address that carries an IPv4 address; `0.0.0.0`,
//! which the kernel takes for loopback) must be allowed as either.

mod request;

use std::{
    fmt, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::http::Method;
pub use request::{Asked, Improper};

/// Where probes may go. What nobody probes on purpose is denied from the start: link-local
/// addresses, the metadata services of clouds, `0.0.0.0/8` and `::`, multicast, broadcast and
/// reserved addresses. Everything else is allowed, loopback and private networks too. What an
/// address carries or stands for (IPv4 in IPv6) is judged as well.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Exceptions from what is denied from the start: networks as `169.254.7.0/24`, or addresses.
    /// One counts only within what is denied: `169.254.0.0/16` opens link-local addresses, but not
    /// the metadata service, which must be named as `169.254.169.254/32`, and `0.0.0.0/0` opens
    /// nothing.
    pub allow: Vec<Cidr>,
    /// Networks and addresses that no probe may go to, whatever `allow` says. `127.0.0.0/8` and
    /// `::1/128` are this host.
    pub deny: Vec<Cidr>,
    /// The networks and addresses that probes may go to, and no others; an empty list lets them go
    /// nowhere. What is denied from the start stays so unless `allow` names it. Default: all that is
    /// not denied.
    pub only: Option<Vec<Cidr>>,
    /// More for checks that were registered through the API.
    pub api: ApiConfig,
}

/// Where probes of checks may go that were registered through the API, and what they may ask: where
/// `egress` lets them go, and this section too. A check of a denied address that is written as such
/// is refused (403). Whatever is said here, they may not send headers that open the metadata services
/// of clouds (`Metadata…`, `X-Google-Metadata…`, `X-aws-ec2-metadata-token…`), nor ask for the host of
/// a denied address, and follow three redirects at most.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "EgressApi")]
pub struct ApiConfig {
    /// Those of the exceptions in `egress.allow` that hold for these checks too; what it does not
    /// have has no effect here. Default: all of them.
    pub allow: Option<Vec<Cidr>>,
    /// Networks and addresses that these checks may not go to, besides those of `egress.deny`.
    pub deny: Vec<Cidr>,
    /// The networks and addresses that these checks may go to, of those that `egress` lets them go
    /// to. Default: all of them.
    pub only: Option<Vec<Cidr>>,
    /// The methods that HTTP checks among these may use. Others than GET and HEAD may change
    /// something at whoever is asked. Default: `[GET, HEAD]`.
    pub methods: Option<Vec<Method>>,
}

/// Who wants something probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Whoever writes the daemon's configuration.
    #[default]
    Configuration,
    /// Whoever may register checks through the API.
    Api,
}

/// Where probes may go, ready to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    layer: Layer,
    /// What must let a probe go as well.
    further: Option<Box<Layer>>,
    /// By the first octet of an IPv4 address: whether any list has anything to say of it. For most
    /// there is nothing, and asking is part of every probe.
    suspects: [bool; 256],
    /// What requests may say; anything if it is not said.
    requests: Option<Box<request::Terms>>,
}

/// The lists of one section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    section: &'static str,
    allow: Vec<Cidr>,
    deny: Vec<Cidr>,
    only: Option<Vec<Cidr>>,
    standing: &'static [Range],
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// A text that is not a [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address before the slash.
    #[error("`{0}` is not a network: write for example 10.0.0.0/8, fd00::/8 or 10.0.0.1")]
    Address(String),
    /// Not a length after the slash.
    #[error("the number after the slash must be from 0 to {0}")]
    Prefix(u8),
    /// An address within the network instead of the network's own.
    #[error("bits are set beyond the prefix; write {0}, or the address without a slash")]
    HostBits(Cidr),
}

/// Addresses that are denied from the start.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    what: &'static str,
    cidr: Cidr,
}

/// What denies an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// An entry of `deny`.
    Configured(Cidr),
    /// No entry of `only` has it.
    Outside,
    /// One of [`STANDING`].
    Standing(&'static Range),
}

/// Why a probe may not go to an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    address: IpAddr,
    judged: IpAddr,
    rule: Rule,
    section: &'static str,
}

const fn v4(what: &'static str, octets: [u8; 4], prefix: u8) -> Range {
    let [a, b, c, d] = octets;
    Range { what, cidr: Cidr { network: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix } }
}

const fn v6(what: &'static str, bits: u128, prefix: u8) -> Range {
    Range { what, cidr: Cidr { network: IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix } }
}

/// What is denied from the start; the narrow before the wide, so that the nearest is named.
const STANDING: &[Range] = &[
    // AWS, Google, Azure, OpenStack and most others; then containers and pods on AWS.
    v4("cloud metadata", [169, 254, 169, 254], 32),
    v4("cloud credentials", [169, 254, 170, 2], 32),
    v4("cloud credentials", [169, 254, 170, 23], 32),
    v6("cloud metadata", 0xfd00_0ec2_0000_0000_0000_0000_0000_0254, 128),
    v6("cloud credentials", 0xfd00_0ec2_0000_0000_0000_0000_0000_0023, 128),
    // Google.
    v6("cloud metadata", 0xfd20_00ce_0000_0000_0000_0000_0000_0254, 128),
    // Alibaba, Azure, Oracle.
    v4("cloud metadata", [100, 100, 100, 200], 32),
    v4("cloud metadata", [168, 63, 129, 16], 32),
    v4("cloud metadata", [192, 0, 0, 192], 32),
    v4("link-local", [169, 254, 0, 0], 16),
    v6("link-local", 0xfe80 << 112, 10),
    v4("this network", [0, 0, 0, 0], 8),
    v6("unspecified", 0, 128),
    v4("broadcast", [255, 255, 255, 255], 32),
    v4("multicast", [224, 0, 0, 0], 4),
    v6("multicast", 0xff << 120, 8),
    v4("reserved", [240, 0, 0, 0], 4),
];

impl Policy {
    /// What the configuration says of its own checks, over what is denied from the start.
    pub fn new(config: &Config) -> Self {
        let Config { allow, deny, only, api: _ } = config.clone();
        let layer = Layer { section: "egress", allow, deny, only, standing: STANDING };
        Self::of(layer, None, None)
    }

    /// What it says of checks that were registered through the API: never more than of its own.
    pub fn for_api(config: &Config) -> Self {
        let ApiConfig { allow, deny, only, methods } = config.api.clone();
        let allow = allow.unwrap_or_else(|| config.allow.clone());
        let layer = Layer { section: "egress.api", allow, deny, only, standing: STANDING };
        let requests = Box::new(request::Terms::new(methods.as_deref()));
        Self::of(Self::new(config).layer, Some(Box::new(layer)), Some(requests))
    }

    fn of(
        layer: Layer,
        further: Option<Box<Layer>>,
        requests: Option<Box<request::Terms>>,
    ) -> Self {
        let mut suspects = [false; 256];
        // No address in particular stands for another one.
        suspects[0] = true;
        for layer in iter::once(&layer).chain(further.as_deref()) {
            layer.suspect(&mut suspects);
        }
        Self { layer, further, suspects, requests }
    }

    /// Lets probes go anywhere.
    pub fn unrestricted() -> Self {
        Self::of(Layer { standing: &[], ..Self::default().layer }, None, None)
    }

    /// Whether a probe may go to an address.
    pub fn vet(&self, address: IpAddr) -> Result<(), Denied> {
        if let IpAddr::V4(ip) = address
            && !self.suspects[usize::from(ip.octets()[0])]
        {
            return Ok(());
        }
        for layer in iter::once(&self.layer).chain(self.further.as_deref()) {
            for judged in iter::once(address).chain(stands_for(address)) {
                if let Some(rule) = layer.judge(judged) {
                    return Err(Denied { address, judged, rule, section: layer.section });
                }
            }
        }
        Ok(())
    }
}

impl Layer {
    /// Marks the first octets of the IPv4 addresses that it may deny.
    fn suspect(&self, suspects: &mut [bool; 256]) {
        if self.only.is_some() {
            *suspects = [true; 256];
        }
        for cidr in self.deny.iter().chain(self.standing.iter().map(|range| &range.cidr)) {
            let IpAddr::V4(network) = cidr.network else { continue };
            let first = usize::from(network.octets()[0]);
            let width = 1 << 8_u8.saturating_sub(cidr.prefix);
            suspects[first..first + width].fill(true);
        }
    }

    /// What denies an address taken as it is.
    fn judge(&self, ip: IpAddr) -> Option<Rule> {
        let excepted =
            |range: &Range| self.allow.iter().any(|a| range.cidr.covers(a) && a.contains(ip));
        let configured = self.deny.iter().find(|cidr| cidr.contains(ip)).copied();
        let standing = || self.standing.iter().find(|r| r.cidr.contains(ip) && !excepted(r));
        // IPv4 written as IPv6 is IPv4, here as in the lists.
        let within = |only: &Vec<Cidr>| only.iter().any(|cidr| cidr.contains(ip.to_canonical()));
        configured
            .map(Rule::Configured)
            .or_else(|| standing().map(Rule::Standing))
            .or_else(|| (!self.only.as_ref().is_none_or(within)).then_some(Rule::Outside))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

impl Cidr {
    /// Whether an address, taken as it is, belongs to it.
    fn contains(&self, ip: IpAddr) -> bool {
        let beyond = || u32::from(width(ip) - self.prefix);
        match (self.network, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(beyond()).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(beyond()).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.network)
    }

    /// Whether it makes an exception when it is named in `allow`: whether all of it is denied from
    /// the start.
    pub fn is_exception(&self) -> bool {
        STANDING.iter().any(|range| range.cidr.covers(self))
    }

    /// The network of this length that an address belongs to; IPv4 written as IPv6 is IPv4.
    fn of(ip: IpAddr, prefix: u8) -> Self {
        /// Bits before the IPv4 address in `::ffff:0:0/96`.
        const MAPPED: u8 = 96;
        let network = match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
                Ipv4Addr::from_bits(ip.to_bits() & mask).into()
            }
            IpAddr::V6(ip) => {
                if let (Some(mapped), MAPPED..) = (ip.to_ipv4_mapped(), prefix) {
                    return Self::of(mapped.into(), prefix - MAPPED);
                }
                let mask = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
                Ipv6Addr::from_bits(ip.to_bits() & mask).into()
            }
        };
        Self { network, prefix }
    }
}

fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The addresses that a connection to `ip` may end at instead.
fn stands_for(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let (carried, host) = match ip {
        IpAddr::V4(ip) => ([None; 4], loopback_of(ip)),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => ([None; 4], Some(Ipv6Addr::LOCALHOST.into())),
        IpAddr::V6(ip) => (carried_by(ip), None),
    };
    let carried = carried.into_iter().flatten();
    carried.flat_map(|ip| [Some(ip.into()), loopback_of(ip)]).flatten().chain(host)
}

/// Linux connects to itself when told to connect to no address in particular.
fn loopback_of(ip: Ipv4Addr) -> Option<IpAddr> {
    ip.is_unspecified().then_some(Ipv4Addr::LOCALHOST.into())
}

/// The IPv4 addresses that an IPv6 address carries.
fn carried_by(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let v4 =
        |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        // Loopback, and not 0.0.0.1.
        [0, 0, 0, 0, 0, 0, 0, 1] => [None; 4],
        // Mapped and compatible (RFC 4291, 2.5.5), translated (RFC 2765), NAT64 (RFC 6052), 6to4
        // (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => [v4(high, low), None, None, None],
        [0x64, 0xff9b, 1, ..] => translated_here(ip.octets()),
        // Teredo (RFC 4380): its server, and the client with all bits turned over.
        [0x2001, 0, a, b, _, _, c, d] => [v4(a, b), v4(!c, !d), None, None],
        _ => [None; 4],
    }
}

/// The IPv4 addresses that one of `64:ff9b:1::/48` may carry (RFC 8215): whoever runs the translator
/// chooses the length of its prefix, and with that the place (RFC 6052, 2.2).
fn translated_here(octets: [u8; 16]) -> [Option<Ipv4Addr>; 4] {
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    // Where the prefix is shorter, the rest is zeros; where it is longer, it has them itself.
    let is_rest = |ip: &Ipv4Addr| ip.is_unspecified() && octets[6..12] != [0; 6];
    let longest = Some(at([12, 13, 14, 15])).filter(|ip| !is_rest(ip));
    let shorter = |places| Some(at(places)).filter(|ip| ip.octets()[0] != 0);
    [longest, shorter([9, 10, 11, 12]), shorter([7, 9, 10, 11]), shorter([6, 7, 9, 10])]
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let ip: IpAddr =
            address.parse().map_err(|_| CidrError::Address(text.chars().take(64).collect()))?;
        let prefix = match prefix {
            None => width(ip),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= width(ip))
                .ok_or(CidrError::Prefix(width(ip)))?,
            Some(_) => return Err(CidrError::Prefix(width(ip))),
        };
        let (cidr, exact) = (Self::of(ip, prefix), Self::of(ip, width(ip)));
        if cidr.network == exact.network { Ok(cidr) } else { Err(CidrError::HostBits(cidr)) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Denied {
    /// What to do if the address is to be probed all the same.
    pub fn remedy(&self) -> String {
        let whole = Cidr::of(self.judged, width(self.judged));
        let section = self.section;
        match self.rule {
            Rule::Configured(cidr) => format!("change {cidr} in `{section}.deny` if it is meant"),
            Rule::Outside => format!("add {whole} to `{section}.only` if it is meant"),
            Rule::Standing(_) => format!("add {whole} to `{section}.allow` if it is meant"),
        }
    }
}

/// Which address, and which rule.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "probes may not go to `{}`", self.address)?;
        if self.judged != self.address {
            write!(f, ", which stands for `{}`", self.judged)?;
        }
        match self.rule {
            Rule::Configured(cidr) => write!(f, ": `{}.deny` has {cidr}", self.section),
            Rule::Outside => write!(f, ": not in `{}.only`", self.section),
            Rule::Standing(Range { what, cidr }) => write!(f, ": {what} ({cidr})"),
        }
    }
}

#[cfg(test)]
mod tests;
