//! Who is where, by DNS, under the names Consul gives: `web.service.consul`.
//!
//! [`answer()`] is the whole of it, and pure: bytes in, bytes out, with what is known of services
//! behind the trait [`Directory`], and time and chance as arguments. It reads a query once, works
//! out what is asked for (`name`), finds the records (`records`), and fits them into what the
//! client can take (`reply`). [`serve`] carries the bytes over UDP and TCP.
//!
//! Only our own zone is answered for, and the reverse names of addresses; nothing is asked of
//! other servers, and so nothing is cached or relayed.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr, sync::Arc};

use hickory_proto::rr::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{compact::Pairs, duration::Period, probe::Host};

mod answer;
mod name;
mod records;
pub mod registry;
mod reply;
pub mod serve;
#[cfg(test)]
mod tests;
mod zone;

pub use answer::{Answered, Asking, Transport, answer};
pub use zone::Zone;

/// How services are shown by DNS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The domain under which services and nodes are found.
    #[schemars(with = "String")]
    pub domain: Domain,
    /// A second domain with the same names. Default: none.
    #[schemars(with = "Option<String>")]
    pub alt_domain: Option<Domain>,
    /// Leaves instances out that are `warning`, besides those that are worse.
    pub only_passing: bool,
    /// How long what is said of a node may be kept, in whole seconds.
    pub node_ttl: Period,
    /// How long what is said of a service may be kept, in whole seconds, by the name of the
    /// service; a name may end in `*`, and the longest that matches counts. Others: `0s`.
    pub service_ttl: BTreeMap<String, Period>,
    /// Most records of an answer by UDP to a client that says nothing of its size (no EDNS); 1 to
    /// 8. An answer cut by it is marked so, and the client asks again by TCP.
    #[schemars(range(min = 1, max = 8))]
    pub udp_answer_limit: u8,
    /// Most addresses of an answer, by UDP and TCP, without a mark; 0: no limit.
    pub a_record_limit: u16,
    /// Adds a node's metadata as TXT records to answers of its addresses and of services on it.
    pub node_meta_txt: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: Domain::consul(),
            alt_domain: None,
            only_passing: false,
            node_ttl: Period::from_secs(0),
            service_ttl: BTreeMap::new(),
            udp_answer_limit: 3,
            a_record_limit: 0,
            node_meta_txt: true,
        }
    }
}

/// A domain that we answer for: lower case, never the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(Name);

/// A text that cannot be our domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a domain: write labels of letters, digits, hyphens and underscores with dots \
     between, such as `consul`; 100 bytes at most"
)]
pub struct DomainError(String);

/// Longest domain, in bytes: leaves room for the names below it.
const MAX_DOMAIN: usize = 100;

impl Domain {
    fn consul() -> Self {
        "consul".parse().expect("a plain word is a domain")
    }

    /// The name, fully qualified.
    pub(crate) const fn name(&self) -> &Name {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let refused = || DomainError(text.chars().take(100).collect());
        let bare = text.strip_suffix('.').unwrap_or(text);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if bare.is_empty() || bare.len() > MAX_DOMAIN || !bare.bytes().all(plain) {
            return Err(refused());
        }
        let mut name = Name::from_ascii(bare.to_ascii_lowercase()).map_err(|_| refused())?;
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

/// Without the dot at the end.
impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_ascii().trim_end_matches('.'))
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl serde::Serialize for Domain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How an instance is, all its checks and those of its node together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Passing,
    /// It serves, with something to look at.
    Warning,
    /// It must not be given to anybody: critical, without a verdict, or in maintenance.
    Critical,
}

/// A host on which services run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: Arc<str>,
    /// Where it is, if that can be said in DNS.
    pub address: Option<Host>,
    /// Metadata, shown as TXT records.
    pub meta: Pairs,
}

/// One endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The node it runs on.
    pub node: Arc<Node>,
    /// Its own address; without one it is at the node's.
    pub address: Option<Host>,
    /// The port.
    pub port: u16,
    /// Tags.
    pub tags: Arc<[Arc<str>]>,
    /// How it is.
    pub health: Health,
    /// The weight of its SRV record while it is passing.
    pub weight_passing: u16,
    /// The weight while it is warning.
    pub weight_warning: u16,
}

/// What is known of services and nodes. Names are given in lower case and match in any case.
/// Called for every query on the task that answers: nothing here may block.
pub trait Directory: Send + Sync + 'static {
    /// All instances of a service, however they are.
    fn service(&self, name: &str) -> Vec<Instance>;
    /// A node.
    fn node(&self, name: &str) -> Option<Arc<Node>>;
    /// The names of the nodes at an address.
    fn nodes_at(&self, address: IpAddr) -> Vec<Arc<str>>;
    /// The names of the services with an instance whose own address this is, each once.
    fn services_at(&self, address: IpAddr) -> Vec<Arc<str>>;
}
