//! All rows in memory, by what they are looked up by, with the index of every topic.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
    vec,
};

mod apply;
mod text;

use super::{
    row::{Check, Coordinate, Index, Key, Node, Note, Pair, Row, Service, Session, Tombstone},
    topic::Topic,
};
use crate::compact::{ByKey, Few, Keys};

/// A row before and after.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which row.
    pub key: Key,
    /// As it was; nothing if it is new.
    pub before: Option<Row>,
    /// As it is; nothing if it is gone.
    pub after: Option<Row>,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// Nodes.
    pub nodes: usize,
    /// Instances of services.
    pub services: usize,
    /// Checks.
    pub checks: usize,
    /// Keys with a value.
    pub pairs: usize,
    /// Sessions.
    pub sessions: usize,
}

/// All rows.
#[derive(Debug, Default)]
pub struct Tables {
    pub(super) index: Index,
    /// How often changes had to be taken back.
    pub(super) reverts: u64,
    /// Nothing that readers are told is below it: what was before is not known.
    floor: Index,
    nodes: BTreeMap<Arc<str>, NodeEntry>,
    groups: BTreeMap<Arc<str>, Group>,
    pairs: BTreeMap<Arc<str>, Arc<Pair>>,
    sessions: BTreeMap<Arc<str>, Arc<Session>>,
    /// The keys that sessions hold.
    held: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    tombstones: BTreeMap<Arc<str>, Arc<Tombstone>>,
    notes: BTreeMap<Arc<str>, Arc<Note>>,
    /// By the node's name in lower case and the segment.
    coordinates: BTreeMap<(Arc<str>, Arc<str>), Arc<Coordinate>>,
    indexes: Indexes,
    texts: text::Texts,
}

#[derive(Debug, Default)]
struct Indexes {
    nodes: Index,
    services: Index,
    catalog: Index,
    checks: Index,
    sessions: Index,
    coordinates: Index,
    /// When a service last lost its last instance.
    emptied: Index,
    /// When deleted keys were deleted.
    graves: BTreeMap<Arc<str>, Index>,
}

/// A node with what is on it.
#[derive(Debug, Default)]
struct NodeEntry {
    row: Option<Arc<Node>>,
    /// The instances with their checks.
    services: HashMap<ByKey<Service>, Few<Arc<Check>>, foldhash::fast::RandomState>,
    checks: Keys<Check>,
    /// The checks of the node itself.
    own: Few<Arc<Check>>,
    index: Index,
    checks_index: Index,
}

/// The instances of a service.
#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<Member>,
    index: Index,
    checks_index: Index,
}

/// An instance in the order of nodes and ids.
#[derive(Debug)]
struct Member(Arc<Service>);

impl Member {
    fn place(&self) -> (&str, &str) {
        (&self.0.node, &self.0.id)
    }
}

impl Ord for Member {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Member {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Member {}

impl NodeEntry {
    /// The instances by id.
    fn instances(&self) -> vec::IntoIter<&Arc<Service>> {
        let mut all: Vec<_> = self.services.keys().collect();
        all.sort_unstable();
        all.into_iter().map(|held| &held.0).collect::<Vec<_>>().into_iter()
    }

    /// The checks by id.
    fn checks(&self) -> vec::IntoIter<&Arc<Check>> {
        let mut all: Vec<_> = self.checks.iter().collect();
        all.sort_unstable();
        all.into_iter().map(|held| &held.0).collect::<Vec<_>>().into_iter()
    }
}

/// A name as it is looked up: names are the same in any case of letters.
pub fn folded(name: &str) -> Cow<'_, str> {
    if name.chars().any(char::is_uppercase) {
        Cow::Owned(name.to_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// A state of the store that somebody has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The index of the last change seen.
    pub index: Index,
    /// How often changes had been taken back by then.
    pub reverts: u64,
}

impl Tables {
    /// What one sees who looks now.
    pub const fn seen(&self) -> Seen {
        Seen { index: self.index, reverts: self.reverts }
    }

    /// The index of the last change.
    pub const fn index(&self) -> Index {
        self.index
    }

    /// All nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values().filter_map(|entry| entry.row.as_ref())
    }

    /// A node by its name in any case.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(&*folded(name))?.row.as_ref()
    }

    /// A node by its id.
    pub fn node_by_id(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes().find(|node| !id.is_empty() && node.id.eq_ignore_ascii_case(id))
    }

    /// The names of all services, in lower case.
    pub fn service_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// The instances of a service by node and id.
    pub fn service(&self, name: &str) -> impl Iterator<Item = &Arc<Service>> {
        let group = self.groups.get(&*folded(name));
        group.into_iter().flat_map(|group| &group.members).map(|member| &member.0)
    }

    /// All instances of all services by name, node and id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.groups.values().flat_map(|group| &group.members).map(|member| &member.0)
    }

    /// An instance by its node and id.
    pub fn instance(&self, node: &str, id: &str) -> Option<&Arc<Service>> {
        Some(&self.held(node, id)?.0.0)
    }

    fn held(&self, node: &str, id: &str) -> Option<(&ByKey<Service>, &Few<Arc<Check>>)> {
        self.nodes.get(&*folded(node))?.services.get_key_value(id)
    }

    /// The instances on a node by id.
    pub fn instances_on(&self, node: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.nodes.get(&*folded(node)).into_iter().flat_map(NodeEntry::instances)
    }

    /// The instances on a node, in no order.
    pub fn each_instance_on(&self, node: &str) -> impl Iterator<Item = &Arc<Service>> {
        let entry = self.nodes.get(&*folded(node));
        entry.into_iter().flat_map(|entry| entry.services.keys().map(|held| &held.0))
    }

    /// The same, with their checks.
    pub fn each_checked_on(
        &self,
        node: &str,
    ) -> impl Iterator<Item = (&Arc<Service>, &[Arc<Check>])> {
        let entry = self.nodes.get(&*folded(node));
        let held = entry.into_iter().flat_map(|entry| &entry.services);
        held.map(|(service, checks)| (&service.0, &**checks))
    }

    /// A check by its node and id.
    pub fn check(&self, node: &str, id: &str) -> Option<&Arc<Check>> {
        Some(&self.nodes.get(&*folded(node))?.checks.get(id)?.0)
    }

    /// All checks by node and id.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<Check>> {
        self.nodes.values().flat_map(NodeEntry::checks)
    }

    /// The checks of a node and of its instances by id.
    pub fn checks_on(&self, node: &str) -> impl Iterator<Item = &Arc<Check>> {
        self.nodes.get(&*folded(node)).into_iter().flat_map(NodeEntry::checks)
    }

    /// The checks of a node and of its instances, in no order.
    pub fn each_check_on(&self, node: &str) -> impl Iterator<Item = &Arc<Check>> {
        let entry = self.nodes.get(&*folded(node));
        entry.into_iter().flat_map(|entry| entry.checks.iter().map(|held| &held.0))
    }

    /// The checks of the node itself by id.
    pub fn node_checks(&self, node: &str) -> impl Iterator<Item = &Arc<Check>> {
        self.nodes.get(&*folded(node)).into_iter().flat_map(|entry| &entry.own)
    }

    /// The checks of an instance by id.
    pub fn instance_checks(&self, node: &str, id: &str) -> impl Iterator<Item = &Arc<Check>> {
        self.held(node, id).into_iter().flat_map(|(_, checks)| checks)
    }

    /// A pair by its key.
    pub fn pair(&self, key: &str) -> Option<&Arc<Pair>> {
        self.pairs.get(key)
    }

    /// The pairs whose keys begin so, by key.
    pub fn pairs<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Pair>> {
        from(&self.pairs, prefix)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, p)| p)
    }

    /// The pairs that a session holds, by key.
    pub fn held_by(&self, session: &str) -> impl Iterator<Item = &Arc<Pair>> {
        self.held.get(session).into_iter().flatten().filter_map(|key| self.pairs.get(key))
    }

    /// A session by its id.
    pub fn session(&self, id: &str) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// All sessions by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// An instance that was deregistered for being critical.
    pub fn tombstone(&self, id: &str) -> Option<&Arc<Tombstone>> {
        self.tombstones.get(id)
    }

    /// All instances that were deregistered for being critical, by id.
    pub fn tombstones(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        self.tombstones.values()
    }

    /// A note by its name.
    pub fn note(&self, name: &str) -> Option<&Arc<Note>> {
        self.notes.get(name)
    }

    /// The notes whose names begin so, by name.
    pub fn notes<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Note>> {
        from(&self.notes, prefix).take_while(move |(name, _)| name.starts_with(prefix)).map(|n| n.1)
    }

    /// Where all nodes are that have said so, by node and segment.
    pub fn coordinates(&self) -> impl Iterator<Item = &Arc<Coordinate>> {
        self.coordinates.values()
    }

    /// Where a node is, by segment.
    pub fn coordinates_of(&self, node: &str) -> impl Iterator<Item = &Arc<Coordinate>> {
        let node: Arc<str> = folded(node).into();
        let from = (Arc::clone(&node), Arc::default());
        self.coordinates.range(from..).take_while(move |(key, _)| key.0 == node).map(|held| held.1)
    }

    /// A row of any kind.
    pub fn row(&self, key: &Key) -> Option<Row> {
        match key {
            Key::Node(name) => self.node(name).cloned().map(Row::Node),
            Key::Service(node, id) => self.instance(node, id).cloned().map(Row::Service),
            Key::Check(node, id) => self.check(node, id).cloned().map(Row::Check),
            Key::Pair(key) => self.pair(key).cloned().map(Row::Pair),
            Key::Session(id) => self.session(id).cloned().map(Row::Session),
            Key::Tombstone(id) => self.tombstone(id).cloned().map(Row::Tombstone),
            Key::Note(name) => self.note(name).cloned().map(Row::Note),
            Key::Coordinate(node, segment) => {
                let held = self.coordinates.get(&(folded(node).into(), Arc::clone(segment)));
                held.cloned().map(Row::Coordinate)
            }
        }
    }

    /// All rows, in an order in which they can be put again.
    pub(super) fn rows(&self) -> Vec<Row> {
        let nodes = self.nodes().cloned().map(Row::Node);
        let services = self.services().cloned().map(Row::Service);
        let checks = self.nodes.values().flat_map(|entry| &entry.checks);
        let checks = checks.map(|held| Row::Check(Arc::clone(&held.0)));
        let pairs = self.pairs.values().cloned().map(Row::Pair);
        let sessions = self.sessions.values().cloned().map(Row::Session);
        let tombstones = self.tombstones.values().cloned().map(Row::Tombstone);
        let facts = self.notes.values().cloned().map(Row::Note);
        let all = nodes.chain(services).chain(checks).chain(pairs).chain(sessions);
        let coordinates = self.coordinates.values().cloned().map(Row::Coordinate);
        all.chain(tombstones).chain(facts).chain(coordinates).collect()
    }

    /// How many rows there are; a look at each node.
    pub fn count(&self) -> Rows {
        let mut rows =
            Rows { pairs: self.pairs.len(), sessions: self.sessions.len(), ..Rows::default() };
        for entry in self.nodes.values() {
            rows.nodes += usize::from(entry.row.is_some());
            rows.services += entry.services.len();
            rows.checks += entry.checks.len();
        }
        rows
    }

    /// The index of the last change that may have changed what these topics show; at least 1.
    pub fn index_of(&self, topics: &[Topic]) -> Index {
        topics.iter().map(|topic| self.topic_index(topic)).max().unwrap_or(0).max(self.floor).max(1)
    }

    fn topic_index(&self, topic: &Topic) -> Index {
        let node = |name: &str| self.nodes.get(name);
        match topic {
            Topic::Nodes => self.indexes.nodes,
            Topic::Node(name) => node(name).map_or(self.indexes.nodes, |entry| entry.index),
            Topic::NodeChecks(name) => {
                node(name).map_or(self.indexes.nodes, |entry| entry.checks_index)
            }
            Topic::Services => self.indexes.services,
            Topic::Catalog => self.indexes.catalog,
            Topic::Service(name) => {
                self.groups.get(name).map_or(self.indexes.emptied, |group| group.index)
            }
            Topic::ServiceChecks(name) => {
                self.groups.get(name).map_or(self.indexes.emptied, |group| group.checks_index)
            }
            Topic::Checks => self.indexes.checks,
            Topic::Pair(key) => match self.pairs.get(key) {
                Some(pair) => pair.stamp.modify,
                None => self.indexes.graves.get(key).copied().unwrap_or(0),
            },
            Topic::Prefix(prefix) => self.prefix_index(prefix),
            Topic::Sessions => self.indexes.sessions,
            Topic::Coordinates => self.indexes.coordinates,
        }
    }

    fn prefix_index(&self, prefix: &str) -> Index {
        let live = self.pairs(prefix).map(|pair| pair.stamp.modify);
        let graves = from(&self.indexes.graves, prefix);
        let dead = graves.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, at)| *at);
        live.chain(dead).max().unwrap_or(0)
    }

    /// Says that what was changed before now is not known in detail.
    pub(super) fn forget_history(&mut self) {
        self.floor = self.index;
    }
}

/// The entries from a key on.
fn from<'a, V>(
    map: &'a BTreeMap<Arc<str>, V>,
    key: &str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> {
    map.range::<str, _>((Bound::Included(key), Bound::Unbounded))
}
