//! Checks whose results are pushed: heartbeats with a time to live, and aliases of others.
//!
//! One task owns them all. A heartbeat sets a check's status and starts its time anew; a check that
//! is not heard of in time becomes critical, once. An alias follows what it mirrors as soon as
//! that changes. What they say is judged, counted and told as probes' results are.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue},
};

use super::Agent;
use crate::{
    clock,
    judge::{Machine, Verdict},
    model::{Answer, CheckKey, Observation, Outcome, Phases, Reason},
    monitor::Monitor,
    probe::{self, Pushed},
    registry::{Check, Order, Start},
    store::{Key, Subscription, Tables, row::Health},
};

/// Heartbeats that may wait; whoever sends more waits until there is room.
pub(super) const DEPTH: usize = 1024;

/// Most of an output that is kept, in bytes, as Consul has it.
pub const MAX_OUTPUT: usize = 4096;

/// Somebody has spoken for a check.
#[derive(Debug)]
pub struct Heard {
    key: CheckKey,
    status: Health,
    output: Box<str>,
    /// Told when it has been taken in; dropped if there is no such check.
    taken: oneshot::Sender<()>,
}

impl Heard {
    /// Word of a check, and what tells when it has been taken in.
    pub(super) fn new(
        key: CheckKey,
        status: Health,
        output: &str,
    ) -> (Self, oneshot::Receiver<()>) {
        let (taken, done) = oneshot::channel();
        (Self { key, status, output: bounded(output), taken }, done)
    }
}

/// An output cut to what is kept, as Consul cuts it.
fn bounded(output: &str) -> Box<str> {
    if output.len() <= MAX_OUTPUT {
        return output.into();
    }
    let mut end = MAX_OUTPUT;
    while !output.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ... (captured {end} of {} bytes)", &output[..end], output.len()).into()
}

/// A check that is told.
#[derive(Debug)]
struct Entry {
    check: Arc<Check>,
    machine: Machine,
    /// When its time is over, if it is running.
    alarm: Option<delay_queue::Key>,
}

/// The task's state.
#[derive(Debug)]
pub struct Engine {
    agent: Arc<Agent>,
    monitor: Monitor,
    entries: HashMap<CheckKey, Entry, foldhash::fast::RandomState>,
    aliases: HashMap<CheckKey, probe::Alias, foldhash::fast::RandomState>,
    alarms: DelayQueue<CheckKey>,
}

impl Engine {
    /// An engine without checks.
    pub fn new(agent: Arc<Agent>, monitor: Monitor) -> Self {
        Self {
            agent,
            monitor,
            entries: HashMap::default(),
            aliases: HashMap::default(),
            alarms: DelayQueue::new(),
        }
    }

    /// Works until `stop`, or until nobody can order any more.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<Vec<Order>>,
        mut heard: mpsc::Receiver<Heard>,
        stop: CancellationToken,
    ) {
        let mut deltas = self.follow();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                batch = orders.recv() => match batch {
                    Some(batch) => batch.into_iter().for_each(|order| self.take(order)),
                    None => return,
                },
                Some(heard) = heard.recv() => self.hear(heard),
                Some(expired) = self.alarms.next() => self.expire(&expired.into_inner()),
                delta = deltas.next() => match delta {
                    Ok(delta) => self.mirror(delta.changes.iter().map(|change| &change.key)),
                    Err(_) => {
                        deltas = self.follow();
                        self.mirror_all();
                    }
                },
            }
        }
    }

    /// What changes in the store from now on.
    fn follow(&self) -> Subscription {
        self.agent.store.subscribe_now()
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Run(check, start) => self.admit(check, start),
            Order::Stop(key) => drop(self.dismiss(&key)),
            Order::Maintain { key, maintenance, reason } => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    self.monitor.maintain(&entry.check, &mut entry.machine, maintenance, reason);
                }
            }
        }
    }

    fn dismiss(&mut self, key: &CheckKey) -> Option<Entry> {
        self.aliases.remove(key);
        let entry = self.entries.remove(key)?;
        if let Some(alarm) = &entry.alarm {
            self.alarms.remove(alarm);
        }
        Some(entry)
    }

    /// Takes a check in. Its time starts now: heartbeats may have been lost while nobody listened.
    fn admit(&mut self, check: Arc<Check>, start: Start) {
        let held = self.dismiss(&check.key);
        let machine = match (start, held) {
            (Start::Afresh(machine), _) => machine,
            (Start::InPlace, Some(held)) => {
                check.slot.overwrite(&held.check.slot.read());
                held.machine
            }
            (Start::InPlace, None) => Machine::default(),
        };
        check.slot.judged(&machine);
        let key = check.key.clone();
        let mut alias = None;
        let mut alarm = None;
        match check.definition.probe.pushed() {
            // One that has run out already stays so until it is heard of.
            Some(Pushed::Ttl(ttl)) if machine.verdict() != Verdict::Critical => {
                alarm = Some(self.alarms.insert(key.clone(), ttl));
            }
            Some(Pushed::Alias(of)) => alias = Some(of.clone()),
            Some(Pushed::Ttl(_)) | None => {}
        }
        self.entries.insert(key.clone(), Entry { check, machine, alarm });
        if let Some(alias) = alias {
            self.aliases.insert(key.clone(), alias);
            self.reflect(&key);
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Heard { key, status, output, taken } = heard;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(Pushed::Ttl(ttl)) = entry.check.definition.probe.pushed() else { return };
        match &entry.alarm {
            Some(alarm) => self.alarms.reset(alarm, ttl),
            None => entry.alarm = Some(self.alarms.insert(key, ttl)),
        }
        observe(&self.monitor, entry, &status, output);
        self.agent.metrics.heartbeats.inc();
        // Whoever spoke may have gone away.
        drop(taken.send(()));
    }

    fn expire(&mut self, key: &CheckKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.alarm = None;
        self.agent.metrics.heartbeats_missed.inc();
        let last = entry.check.slot.read().detail.filter(|last| !last.is_empty());
        let output = match last {
            Some(last) => format!("TTL expired (last output before timeout follows): {last}"),
            None => "TTL expired".to_owned(),
        };
        let outcome = Outcome::Failure(Reason::TimeoutResponse);
        let observation = observation(outcome, output.into());
        self.monitor.observe(&entry.check, &mut entry.machine, observation);
    }

    /// Brings the aliases of what has changed up to date.
    fn mirror<'a>(&mut self, changed: impl Iterator<Item = &'a Key>) {
        if self.aliases.is_empty() {
            return;
        }
        let mut nodes: Vec<&Arc<str>> = changed
            .filter_map(|key| match key {
                Key::Node(node) | Key::Service(node, _) | Key::Check(node, _) => Some(node),
                Key::Pair(_) | Key::Session(_) | Key::Tombstone(_) | Key::Note(_) => None,
            })
            .collect();
        nodes.dedup();
        let own = self.agent.node();
        let concerned: Vec<CheckKey> = self
            .aliases
            .iter()
            .filter(|(_, of)| {
                let of = of.node.as_ref().unwrap_or(own);
                nodes.iter().any(|node| node.eq_ignore_ascii_case(of))
            })
            .map(|(key, _)| key.clone())
            .collect();
        concerned.iter().for_each(|key| self.reflect(key));
    }

    fn mirror_all(&mut self) {
        let keys: Vec<CheckKey> = self.aliases.keys().cloned().collect();
        keys.iter().for_each(|key| self.reflect(key));
    }

    /// Lets an alias say what it mirrors, if that is anything else than it says.
    fn reflect(&mut self, key: &CheckKey) {
        let (Some(alias), Some(entry)) = (self.aliases.get(key), self.entries.get_mut(key)) else {
            return;
        };
        let (status, output) = {
            let tables = self.agent.store.read();
            mirrored(&tables, self.agent.node(), alias, &entry.check.public_id())
        };
        let facts = entry.check.slot.read();
        let is_same = super::rows::health(facts.verdict).as_ref() == Some(&status);
        if !is_same || facts.detail.as_deref() != Some(&*output) {
            observe(&self.monitor, entry, &status, output.into());
        }
    }
}

/// What an alias mirrors: the worst of an instance's checks and its node's, or of a node's alone.
fn mirrored(
    tables: &Tables,
    own: &Arc<str>,
    alias: &probe::Alias,
    itself: &str,
) -> (Health, String) {
    let node = alias.node.as_ref().unwrap_or(own);
    let service = alias.service.as_ref().map(crate::model::InstanceId::as_str);
    if let Some(id) = service
        && tables.instance(node, id).is_none()
    {
        return (Health::Critical, format!("Service {id} could not be found on node {node}"));
    }
    let of_service = service.into_iter().flat_map(|id| tables.instance_checks(node, id));
    let checks = tables.node_checks(node).chain(of_service);
    let own_id = |check: &&Arc<crate::store::row::Check>| {
        !(*check.id == *itself && check.node.eq_ignore_ascii_case(own))
    };
    let weight = |status: &Health| match status {
        Health::Passing => 0,
        Health::Warning => 1,
        Health::Critical | Health::Other(_) => 2,
    };
    match checks.filter(own_id).max_by_key(|check| weight(&check.status)) {
        None => (Health::Passing, "No checks found.".to_owned()),
        Some(check) if check.status == Health::Passing => {
            (Health::Passing, "All checks passing.".to_owned())
        }
        Some(check) => {
            let said = format!("Aliased check \"{}\" failing: {}", check.name, check.output);
            (check.status.clone(), said)
        }
    }
}

fn observe(monitor: &Monitor, entry: &mut Entry, status: &Health, output: Box<str>) {
    let outcome = match status {
        Health::Passing => Outcome::Success,
        Health::Warning => Outcome::Warning(Reason::Status),
        Health::Critical | Health::Other(_) => Outcome::Failure(Reason::Status),
    };
    monitor.observe(&entry.check, &mut entry.machine, observation(outcome, output));
}

fn observation(outcome: Outcome, output: Box<str>) -> Observation {
    Observation {
        started: clock::now(),
        duration: Duration::ZERO,
        outcome,
        phases: Phases::default(),
        answer: Answer::None,
        peer: None,
        certificate_expiry: None,
        detail: Some(output),
    }
}
