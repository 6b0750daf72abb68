//! How a change of a row moves the look-ups and the indexes of the topics.

use std::{collections::BTreeSet, sync::Arc};

use super::{Group, Member, NodeEntry, Tables, folded};
use crate::{
    compact::ByKey,
    store::{
        row::{Check, Index, Key, Row, Service},
        topic::Topic,
    },
};

/// Deleted keys remembered; of those forgotten only the latest deletion is known.
const GRAVES: usize = 65_536;

fn shared(name: &str) -> Arc<str> {
    folded(name).into()
}

impl Tables {
    /// Makes a row be so. Returns what it was, and adds the topics that this touches.
    pub(in crate::store) fn apply(
        &mut self,
        index: Index,
        key: &Key,
        after: Option<Row>,
        touched: &mut Vec<Topic>,
    ) -> Option<Row> {
        let before = self.row(key);
        let after = after.map(|row| self.texts.share(row));
        match key {
            Key::Node(name) => self.apply_node(index, name, after, touched),
            Key::Service(node, id) => self.apply_service(index, (node, id), after, touched),
            Key::Check(node, id) => self.apply_check(index, (node, id), after, touched),
            Key::Pair(key) => self.apply_pair(index, key, after, touched),
            Key::Session(id) => {
                self.indexes.sessions = index;
                touched.push(Topic::Sessions);
                if let Some(Row::Session(session)) = after {
                    self.sessions.insert(Arc::clone(id), session);
                } else {
                    self.sessions.remove(id);
                }
            }
            Key::Tombstone(id) => {
                if let Some(Row::Tombstone(tombstone)) = after {
                    self.tombstones.insert(Arc::clone(id), tombstone);
                } else {
                    self.tombstones.remove(id);
                }
            }
            Key::Note(name) => {
                if let Some(Row::Note(note)) = after {
                    self.notes.insert(Arc::clone(name), note);
                } else {
                    self.notes.remove(name);
                }
            }
            Key::Coordinate(node, segment) => {
                self.indexes.coordinates = index;
                touched.push(Topic::Coordinates);
                let place = (shared(node), Arc::clone(segment));
                if let Some(Row::Coordinate(coordinate)) = after {
                    self.coordinates.insert(place, coordinate);
                } else {
                    self.coordinates.remove(&place);
                }
            }
        }
        before
    }

    fn apply_pair(
        &mut self,
        index: Index,
        key: &Arc<str>,
        after: Option<Row>,
        touched: &mut Vec<Topic>,
    ) {
        touched.push(Topic::Pair(Arc::clone(key)));
        let before = self.pairs.remove(key);
        if let Some(holder) = before.map(|pair| Arc::clone(&pair.session))
            && let Some(held) = self.held.get_mut(&holder)
        {
            held.remove(key);
            if held.is_empty() {
                self.held.remove(&holder);
            }
        }
        if let Some(Row::Pair(pair)) = after {
            self.indexes.graves.remove(key);
            if !pair.session.is_empty() {
                let held = self.held.entry(Arc::clone(&pair.session)).or_default();
                held.insert(Arc::clone(&pair.key));
            }
            self.pairs.insert(Arc::clone(&pair.key), pair);
        } else {
            self.bury(index, key);
        }
    }

    /// Remembers when a key was deleted.
    fn bury(&mut self, index: Index, key: &Arc<str>) {
        let graves = &mut self.indexes.graves;
        graves.insert(Arc::clone(key), index);
        if graves.len() > GRAVES {
            let mut times: Vec<Index> = graves.values().copied().collect();
            let middle = times.len() / 2;
            let (_, forgotten, _) = times.select_nth_unstable(middle);
            let forgotten = *forgotten;
            graves.retain(|_, at| *at > forgotten);
            self.floor = self.floor.max(forgotten);
        }
    }

    fn apply_node(
        &mut self,
        index: Index,
        name: &Arc<str>,
        after: Option<Row>,
        touched: &mut Vec<Topic>,
    ) {
        let folded = shared(name);
        self.indexes.nodes = index;
        self.indexes.catalog = index;
        touched.extend([Topic::Nodes, Topic::Catalog, Topic::Node(Arc::clone(&folded))]);
        let entry = self.nodes.entry(Arc::clone(&folded)).or_insert_with(|| NodeEntry::new(index));
        entry.index = index;
        if let Some(Row::Node(node)) = after {
            entry.row = Some(node);
        } else {
            entry.row = None;
            entry.checks_index = index;
            touched.push(Topic::NodeChecks(Arc::clone(&folded)));
        }
        self.touch_groups_on(index, &folded, touched);
        self.drop_empty_node(&folded);
    }

    /// What bears on all instances of a node has changed.
    fn touch_groups_on(&mut self, index: Index, node: &str, touched: &mut Vec<Topic>) {
        let Some(entry) = self.nodes.get(node) else { return };
        let names: BTreeSet<_> = entry.services.keys().map(|held| shared(&held.0.name)).collect();
        for name in names {
            if let Some(group) = self.groups.get_mut(&name) {
                group.index = index;
            }
            touched.push(Topic::Service(name));
        }
    }

    fn apply_service(
        &mut self,
        index: Index,
        (node, id): (&Arc<str>, &Arc<str>),
        after: Option<Row>,
        touched: &mut Vec<Topic>,
    ) {
        let folded = shared(node);
        let entry = self.nodes.entry(Arc::clone(&folded)).or_insert_with(|| NodeEntry::new(index));
        entry.index = index;
        self.indexes.catalog = index;
        touched.extend([Topic::Catalog, Topic::Node(Arc::clone(&folded))]);
        let held = entry.services.remove_entry(&**id);
        let (before, checks) = held.map(|(row, checks)| (row.0, checks)).unzip();
        let mut has_checks = false;
        let mut now = None;
        if let Some(Row::Service(mut service)) = after {
            // The same text as before: others hold it as well.
            if let (Some(before), Some(row)) = (&before, Arc::get_mut(&mut service)) {
                row.id = Arc::clone(&before.id);
            }
            if let Some(node) = entry.row.as_ref().filter(|node| node.name != service.node) {
                service = Arc::new(Service::clone(&service).on(&node.name));
            }
            let checks = checks.unwrap_or_default();
            has_checks = !checks.is_empty();
            now = Some(Arc::clone(&service));
            entry.services.insert(ByKey(service), checks);
        }
        let is_shown_as_before = match (&before, &now) {
            (Some(before), Some(now)) => {
                super::folded(&before.name) == super::folded(&now.name) && before.tags == now.tags
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_shown_as_before {
            self.indexes.services = index;
            touched.push(Topic::Services);
            if has_checks {
                self.touch_checks(index, &folded, touched);
            }
        }
        let new = now.as_ref().map(|now| shared(&now.name));
        if let Some(before) = before {
            self.leave(index, before, new.as_ref(), touched);
        }
        if let (Some(name), Some(now)) = (new, now) {
            let new = || Group { checks_index: index, ..Group::default() };
            let group = self.groups.entry(Arc::clone(&name)).or_insert_with(new);
            group.members.insert(Member(now));
            group.index = index;
            touched.push(Topic::Service(Arc::clone(&name)));
            if has_checks {
                group.checks_index = index;
                touched.push(Topic::ServiceChecks(name));
            }
        }
        self.drop_empty_node(&folded);
    }

    /// An instance leaves a service, to come back at once if it stays in it.
    fn leave(
        &mut self,
        index: Index,
        before: Arc<Service>,
        new: Option<&Arc<str>>,
        touched: &mut Vec<Topic>,
    ) {
        let name = shared(&before.name);
        let Some(group) = self.groups.get_mut(&name) else { return };
        group.members.remove(&Member(before));
        if new == Some(&name) {
            return;
        }
        (group.index, group.checks_index) = (index, index);
        if group.members.is_empty() {
            self.groups.remove(&name);
            self.indexes.emptied = index;
        }
        touched.extend([Topic::Service(Arc::clone(&name)), Topic::ServiceChecks(name)]);
    }

    fn apply_check(
        &mut self,
        index: Index,
        (node, id): (&Arc<str>, &Arc<str>),
        after: Option<Row>,
        touched: &mut Vec<Topic>,
    ) {
        let folded = shared(node);
        let entry = self.nodes.entry(Arc::clone(&folded)).or_default();
        let before = entry.checks.take(&**id).map(|held| held.0);
        if let Some(before) = &before {
            entry.detach(before);
            self.touch_check(index, &folded, &before.service, touched);
        }
        if let Some(Row::Check(mut check)) = after {
            if let (Some(before), Some(row)) = (&before, Arc::get_mut(&mut check)) {
                row.id = Arc::clone(&before.id);
            }
            let entry = self.nodes.entry(Arc::clone(&folded)).or_default();
            let check = entry.attach(check);
            if before.is_none_or(|before| before.service != check.service) {
                self.touch_check(index, &folded, &check.service, touched);
            }
        }
        self.touch_checks(index, &folded, touched);
        self.drop_empty_node(&folded);
    }

    /// A check of this instance, or of the node if there is none such, has changed.
    fn touch_check(&mut self, index: Index, node: &str, of: &str, touched: &mut Vec<Topic>) {
        let held = self.nodes.get(node).and_then(|entry| entry.services.get_key_value(of));
        let Some((held, _)) = held else {
            return self.touch_groups_on(index, node, touched);
        };
        let name = shared(&held.0.name);
        if let Some(group) = self.groups.get_mut(&name) {
            (group.index, group.checks_index) = (index, index);
        }
        touched.extend([Topic::Service(Arc::clone(&name)), Topic::ServiceChecks(name)]);
    }

    fn touch_checks(&mut self, index: Index, node: &Arc<str>, touched: &mut Vec<Topic>) {
        self.indexes.checks = index;
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.checks_index = index;
        }
        touched.extend([Topic::Checks, Topic::NodeChecks(Arc::clone(node))]);
    }

    fn drop_empty_node(&mut self, name: &str) {
        if self.nodes.get(name).is_some_and(|entry| {
            entry.row.is_none() && entry.services.is_empty() && entry.checks.is_empty()
        }) {
            self.nodes.remove(name);
        }
    }
}

impl NodeEntry {
    /// One of which nothing is known yet. No index of it is below those of a node that is not there.
    fn new(index: Index) -> Self {
        Self { index, checks_index: index, ..Self::default() }
    }

    /// Takes a check in, with its instance or with the node's own. Returns it as it is held: it
    /// shares the names of its node and its instance.
    fn attach(&mut self, mut check: Arc<Check>) -> Arc<Check> {
        if let Some(node) = self.row.as_ref().filter(|node| node.name != check.node) {
            check = Arc::new(Check::clone(&check).on(&node.name));
        }
        let held = self.services.get_key_value(&*check.service).map(|(held, _)| &held.0.id);
        if let Some(service) = held.filter(|id| !Arc::ptr_eq(id, &check.service)) {
            let service = Arc::clone(service);
            Arc::make_mut(&mut check).service = service;
        }
        let together = self.services.get_mut(&*check.service).unwrap_or(&mut self.own);
        together.put(Arc::clone(&check), |check| &*check.id);
        self.checks.insert(ByKey(Arc::clone(&check)));
        check
    }

    fn detach(&mut self, check: &Check) {
        let is_other = |held: &Arc<Check>| held.id != check.id;
        self.own.retain(is_other);
        if let Some(checks) = self.services.get_mut(&*check.service) {
            checks.retain(is_other);
        }
    }
}
