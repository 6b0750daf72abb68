//! Where an instance listens: a host as it was registered, and a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// Where an instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535; 0 in a URL of a protocol that has none.
    pub port: u16,
}

/// A host as it was registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address literal.
    Ip(IpAddr),
    /// A name, to be resolved for every connection.
    Name(Arc<str>),
}

/// A host that cannot be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The text is empty.
    #[error("the host is empty")]
    Empty,
    /// The text has brackets, but no IPv6 address in them.
    #[error("`{0}` is not an IPv6 address in brackets, as [2001:db8::1] is")]
    Bracket(String),
    /// The text holds a colon without being an IPv6 address.
    #[error(
        "`{0}` is not an IPv6 address; if it ends in a port, give that separately; \
         zones such as %eth0 are not supported"
    )]
    Colon(String),
    /// The text ends like an IPv4 address without being one. Resolvers take such text for
    /// addresses in unexpected ways (`2852039166` is 169.254.169.254).
    #[error("`{0}` is neither a name nor an IPv4 address of four decimal numbers")]
    Number(String),
    /// A name is too long.
    #[error("the name is {0} bytes long; DNS allows 253, and 63 between two dots")]
    TooLong(usize),
    /// A name has a part DNS does not allow.
    #[error("`{0}` is not a DNS name: use letters, digits, hyphens and underscores between dots")]
    Name(String),
}

impl Endpoint {
    /// Says that `host` listens on `port`.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Whether both are the same place. The case of a name makes no other of it.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        let is_same_host = match (&self.host, &other.host) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        is_same_host && self.port == other.port
    }
}

impl Host {
    /// A host as it is written, be it one that no probe can go to: for what is only shown.
    pub fn as_written(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| Self::Name(text.into()))
    }
}

/// `host:port`, an IPv6 address in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// As in a URL: an IPv6 address has brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').and_then(|ip| ip.parse::<Ipv6Addr>().ok());
            return inner
                .map(|ip| Self::Ip(ip.into()))
                .ok_or_else(|| HostError::Bracket(shorten(text)));
        }
        if text.contains(':') {
            let ip = text.parse::<Ipv6Addr>().map_err(|_| HostError::Colon(shorten(text)))?;
            return Ok(Self::Ip(ip.into()));
        }
        match text.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(Self::Ip(ip.into())),
            Err(_) => vet_name(text).map(|()| Self::Name(Arc::from(text))),
        }
    }
}

fn vet_name(text: &str) -> Result<(), HostError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || name.split('.').any(|label| label.len() > 63) {
        return Err(HostError::TooLong(name.len()));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !name.split('.').all(is_label) {
        return Err(HostError::Name(shorten(text)));
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_number {
        return Err(HostError::Number(shorten(text)));
    }
    Ok(())
}

/// Enough of a bad text to recognise it in a message.
fn shorten(text: &str) -> String {
    super::fault::printable(text.as_bytes(), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<Host>() {
            Ok(Host::Ip(ip)) => format!("ip {ip}"),
            Ok(Host::Name(name)) => format!("name {name}"),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        check("10.0.0.1", "ip 10.0.0.1");
        check("::1", "ip ::1");
        check("[2001:db8::1]", "ip 2001:db8::1");
        check("db-1.shop.svc.cluster.local.", "name db-1.shop.svc.cluster.local.");
        check("shop_db", "name shop_db");
        check("1and1.example", "name 1and1.example");
    }

    #[test]
    fn the_case_of_a_name_makes_no_other_place_of_it() {
        let at = |host: &str, port| Endpoint::new(host.parse().unwrap(), port);
        assert!(at("Shop.Example", 80).is_at(&at("shop.example", 80)));
        assert!(!at("shop.example", 81).is_at(&at("shop.example", 80)));
        assert!(!at("shop.example", 80).is_at(&at("127.0.0.1", 80)));
        assert!(at("::1", 80).is_at(&at("::1", 80)));
        assert_eq!(at("Shop.Example", 80).to_string(), "Shop.Example:80", "as it was registered");
    }

    #[test]
    fn a_host_that_could_be_misread_is_refused() {
        check("", "Empty");
        check("[10.0.0.1]", "Bracket(\"[10.0.0.1]\")");
        check("fe80::1%eth0", "Colon(\"fe80::1%eth0\")");
        check("10.0.0.1:80", "Colon(\"10.0.0.1:80\")");
        check("2852039166", "Number(\"2852039166\")");
        check("0xa9fea9fe", "Number(\"0xa9fea9fe\")");
        check("169.254.43518", "Number(\"169.254.43518\")");
        check("256.1.1.1", "Number(\"256.1.1.1\")");
        check("a..b", "Name(\"a..b\")");
        check("a b\u{1b}", "Name(\"a b?\")");
        check("user@host", "Name(\"user@host\")");
        check(&"x".repeat(64), "TooLong(64)");
    }

    #[test]
    fn an_endpoint_is_shown_as_in_a_url() {
        let endpoint = Endpoint::new("::1".parse().unwrap(), 80);
        assert_eq!(endpoint.to_string(), "[::1]:80");
    }
}
