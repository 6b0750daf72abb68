//! What the store holds: rows under keys.
//!
//! These are the store's own types, in memory and in its files: a field that is added must have a
//! default, and one that goes is passed over when an older file is read. Whoever wants a row's
//! meaning in the domain's words converts it.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    compact::{Keyed, Pairs},
};

mod form;
mod kind;

pub use kind::{Key, Row};

/// The number of a committed change. The first is 1; it only grows, also over restarts.
pub type Index = u64;

/// Texts under names.
pub type Map = Pairs;

/// When a row was made and last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The change that made it.
    #[serde(rename = "c")]
    pub create: Index,
    /// The change that changed it last.
    #[serde(rename = "m")]
    pub modify: Index,
}

/// Who answers for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration: what is not in it any more goes.
    Config,
    /// Whoever registered it with this daemon.
    Agent,
    /// Whoever wrote it into the catalog: nobody here asks it or lets it expire.
    #[default]
    Catalog,
}

impl Origin {
    /// Whether the agent's own views show it.
    pub const fn is_local(self) -> bool {
        !matches!(self, Self::Catalog)
    }
}

/// A machine, or what stands for one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Unique in any case of letters.
    pub name: Arc<str>,
    /// A UUID, or empty.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: Arc<str>,
    /// Where it is.
    pub address: Arc<str>,
    /// Further addresses by kind; nothing if none were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tagged_addresses: Option<Map>,
    /// Metadata; nothing if none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Map>,
    /// When.
    pub stamp: Stamp,
}

/// How much an instance is to be used, by its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weights {
    /// While it is passing.
    pub passing: u32,
    /// While it is in warning.
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// An address with a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// A name or an IP address.
    pub address: Arc<str>,
    /// Zero if there is none.
    pub port: u16,
}

/// What few instances have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras {
    /// Further addresses by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<Arc<str>, Place>,
    /// What it is in a mesh; empty for a plain service.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub kind: Arc<str>,
    /// A Unix socket it listens on.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub socket_path: Arc<str>,
    /// The mesh's part, kept as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<serde_json::Value>,
    /// The mesh's part, kept as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<serde_json::Value>,
    /// Where it is, kept as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<serde_json::Value>,
    /// Tags may be changed through the catalog.
    pub enable_tag_override: bool,
    /// A hash of the token it was registered with; zero if with none.
    pub token: u64,
}

/// What instances of a service have in common. Rows that have the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServiceShape {
    /// The node it is on.
    pub node: Arc<str>,
    /// The service's name.
    pub name: Arc<str>,
    /// In the order given.
    pub tags: Arc<[Arc<str>]>,
    /// How much it is to be used.
    pub weights: Weights,
    /// Who answers for it.
    pub origin: Origin,
}

/// An instance of a service on a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Service {
    /// Unique on its node.
    pub id: Arc<str>,
    /// Where it listens; empty if at its node's address.
    pub address: Arc<str>,
    /// Zero if it has none.
    pub port: u16,
    /// Metadata, shared with whoever looks at the instance.
    pub meta: Arc<Map>,
    /// What few have.
    pub extras: Option<Box<Extras>>,
    /// When.
    pub stamp: Stamp,
    /// What it has in common with others; read as if it were a part of this.
    pub shape: Arc<ServiceShape>,
}

impl Deref for Service {
    type Target = ServiceShape;

    fn deref(&self) -> &ServiceShape {
        &self.shape
    }
}

impl Service {
    /// The same on a node.
    #[must_use]
    pub fn on(mut self, node: &Arc<str>) -> Self {
        Arc::make_mut(&mut self.shape).node = Arc::clone(node);
        self
    }
}

/// What consumers are told of a check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Well.
    Passing,
    /// To be used, and looked at.
    Warning,
    /// Not to be used.
    #[default]
    Critical,
    /// What somebody wrote into the catalog beside Consul's three.
    Other(Arc<str>),
}

impl Health {
    /// The word Consul has for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for Health {
    fn from(word: &str) -> Self {
        match word {
            "passing" => Self::Passing,
            "warning" => Self::Warning,
            "critical" | "" => Self::Critical,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What checks of one kind have in common. Rows that have the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CheckShape {
    /// The node it is on.
    pub node: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// The id by which the scheduler knows it within its instance; empty if it is not run here.
    pub run: Arc<str>,
    /// For people; never changed by results.
    pub notes: Arc<str>,
    /// How it is asked, in Consul's word.
    pub kind: Arc<str>,
    /// From one run to the next, as Go writes durations; empty if there is none.
    pub interval: Arc<str>,
    /// The longest a run may take, likewise.
    pub timeout: Arc<str>,
    /// After how many seconds of being critical its instance is deregistered; zero if never.
    pub deregister_after: u32,
    /// Who answers for it.
    pub origin: Origin,
}

/// A check of an instance or of a node, with what consumers are told of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Check {
    /// Unique on its node.
    pub id: Arc<str>,
    /// The instance it tells of; empty if it tells of the node.
    pub service: Arc<str>,
    /// Published.
    pub status: Health,
    /// Whether a result has ever borne on the status; else it is the one it was registered with.
    pub judged: bool,
    /// Since when it has this status, in milliseconds of the Unix epoch.
    pub since: i64,
    /// What the last result said.
    pub output: Arc<str>,
    /// What was registered, as JSON: of ours, to ask it again after a restart; of the catalog's,
    /// to show it. Empty for the configuration's, which is read again.
    pub definition: Arc<str>,
    /// When.
    pub stamp: Stamp,
    /// What it has in common with others; read as if it were a part of this.
    pub shape: Arc<CheckShape>,
}

impl Deref for Check {
    type Target = CheckShape;

    fn deref(&self) -> &CheckShape {
        &self.shape
    }
}

impl Check {
    /// The same on a node.
    #[must_use]
    pub fn on(mut self, node: &Arc<str>) -> Self {
        Arc::make_mut(&mut self.shape).node = Arc::clone(node);
        self
    }

    /// The same, which the scheduler knows by this id.
    #[must_use]
    pub fn run_as(mut self, run: Arc<str>) -> Self {
        Arc::make_mut(&mut self.shape).run = run;
        self
    }

    /// Since when it has its status.
    pub const fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.since)
    }
}

impl Keyed for Service {
    fn key(&self) -> &str {
        &self.id
    }
}

impl Keyed for Check {
    fn key(&self) -> &str {
        &self.id
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pair {
    /// The key.
    pub key: Arc<str>,
    /// The value.
    #[serde(with = "super::wire::base64_bytes")]
    pub value: Arc<[u8]>,
    /// The client's own.
    pub flags: u64,
    /// The session that holds it as a lock; empty if none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub session: Arc<str>,
    /// How often it has been acquired as a lock.
    pub lock_index: u64,
    /// When.
    pub stamp: Stamp,
}

/// What becomes of a session's locks when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are released.
    #[default]
    Release,
    /// Their keys are deleted.
    Delete,
}

impl Behavior {
    /// Consul's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Delete => "delete",
        }
    }
}

/// A client's lease on locks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// A UUID.
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// The node it is bound to.
    pub node: Arc<str>,
    /// The checks of that node which must not be critical.
    pub node_checks: Vec<Arc<str>>,
    /// Checks of instances, likewise.
    pub service_checks: Vec<Arc<str>>,
    /// How long nobody may acquire its locks after it was ended for it, in nanoseconds.
    pub lock_delay: u64,
    /// What becomes of its locks.
    pub behavior: Behavior,
    /// As given; empty if it lasts until it is destroyed.
    pub ttl: Arc<str>,
    /// When.
    pub stamp: Stamp,
}

/// An instance that was deregistered for being critical too long, so that it can come back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tombstone {
    /// The instance.
    pub service: Service,
    /// Its checks.
    pub checks: Vec<Check>,
    /// When it was deregistered, in milliseconds of the Unix epoch.
    pub at: i64,
    /// When.
    pub stamp: Stamp,
}

/// A small fact of the daemon's own under a name: its node's id, how a check's results stood.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Its name: words divided by slashes, the first says whose it is.
    pub name: Arc<str>,
    /// What.
    pub text: Arc<str>,
    /// When.
    pub stamp: Stamp,
}

/// Where a node is among others, as it says itself: a point from which the time to another's can be
/// estimated (Vivaldi network coordinates, Dabek et al. 2004). Kept as given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Coordinate {
    /// The node.
    pub node: Arc<str>,
    /// The network segment it holds for, most often empty.
    pub segment: Arc<str>,
    /// The Euclidean part, in seconds.
    pub vec: Vec<f64>,
    /// How far it is to be believed; the smaller the better.
    pub error: f64,
    /// What is added to estimates, in seconds.
    pub adjustment: f64,
    /// The part that is the node's own link's, in seconds.
    pub height: f64,
    /// When.
    pub stamp: Stamp,
}
