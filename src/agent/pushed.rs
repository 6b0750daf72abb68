//! Checks whose results are pushed: heartbeats with a time to live, and aliases of others.
//!
//! One task owns them all. A heartbeat sets a check's status and starts its time anew; a check that
//! is not heard of in time becomes critical, once. An alias follows what it mirrors as soon as
//! that changes. What they say is judged, counted and told as probes' results are.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue},
};
use tracing::warn;

use super::{ALIVE, Agent};
use crate::{
    clock,
    judge::{Machine, Verdict},
    model::{CheckKey, Observation, Outcome, Reason},
    monitor::Monitor,
    probe::{self, Pushed},
    registry::{Check, Order, Start},
    store::{Key, Subscription, Tables, row::Health},
};

/// Heartbeats that may wait; whoever sends more waits until there is room.
pub(super) const DEPTH: usize = 1024;

/// The queue of alarms looks no further ahead than two years: whoever has longer is asked again.
const LONGEST_ALARM: Duration = Duration::from_secs(365 * 86_400);

/// An alarm that rings so late was not waited for: the process was stopped, and who would have
/// been heard meanwhile is not known.
const HELD_UP: Duration = Duration::from_secs(1);

/// Most of an output that is kept, in bytes, as Consul has it.
pub const MAX_OUTPUT: usize = 4096;

/// Somebody has spoken for a check.
#[derive(Debug)]
pub struct Heard {
    key: CheckKey,
    /// The status and the output; nothing from who has only registered the check again.
    said: Option<(Health, Box<str>)>,
    /// Told when it has been taken in; dropped if there is no such check.
    taken: oneshot::Sender<()>,
}

impl Heard {
    /// Word of a check, with so much of the output as is kept, and what tells when it has been
    /// taken in.
    pub(super) fn new(
        key: CheckKey,
        status: Health,
        (output, max_output): (&str, usize),
    ) -> (Self, oneshot::Receiver<()>) {
        let (taken, done) = oneshot::channel();
        (Self { key, said: Some((status, bounded(output, max_output))), taken }, done)
    }

    /// Starts a check's time anew without a word, if it is running.
    pub(super) fn renewal(key: CheckKey) -> Self {
        Self { key, said: None, taken: oneshot::channel().0 }
    }
}

/// An output cut to what is kept, as Consul cuts it.
fn bounded(output: &str, max: usize) -> Box<str> {
    if output.len() <= max {
        return output.into();
    }
    let mut end = max;
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
    alarm: Option<Alarm>,
}

/// When a check's time is over.
#[derive(Debug, Clone, Copy)]
struct Alarm {
    at: Instant,
    key: delay_queue::Key,
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
                Some(expired) = self.alarms.next() => self.ring(&expired.into_inner()),
                delta = deltas.next() => {
                    if let Ok(delta) = delta {
                        self.mirror(delta.changes.iter().map(|change| &change.key));
                    } else {
                        deltas = self.follow();
                        self.mirror_all();
                    }
                }
            }
        }
    }

    /// What changes in the store from now on.
    fn follow(&self) -> Subscription {
        self.agent.store.subscribe_now()
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Run(check, start) => self.admit(&check, start),
            Order::Stop(key) => drop(self.dismiss(&key)),
            Order::Maintain { key, maintenance, reason } => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    self.monitor.maintain(&entry.check, &mut entry.machine, maintenance, reason);
                }
            }
            // Nobody can be asked: what is pushed comes when it comes.
            Order::Recheck(_) => {}
        }
    }

    fn dismiss(&mut self, key: &CheckKey) -> Option<Entry> {
        self.aliases.remove(key);
        let entry = self.entries.remove(key)?;
        if let Some(alarm) = &entry.alarm {
            self.alarms.remove(&alarm.key);
        }
        Some(entry)
    }

    /// Starts a check's time, which ends then.
    fn arm(&mut self, key: &CheckKey, at: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let next = at.min(Instant::now() + LONGEST_ALARM);
        let alarm = match entry.alarm {
            Some(alarm) => {
                self.alarms.reset_at(&alarm.key, next);
                alarm.key
            }
            None => self.alarms.insert_at(key.clone(), next),
        };
        entry.alarm = Some(Alarm { at, key: alarm });
    }

    /// Takes a check in. Its time starts now: heartbeats may have been lost while nobody listened.
    fn admit(&mut self, check: &Arc<Check>, start: Start) {
        let held = self.dismiss(&check.key);
        let machine = match (start, held) {
            (Start::Afresh(machine), _) => machine,
            (Start::InPlace, Some(held)) => {
                self.monitor.hand_over(&held.check, check, &held.machine);
                held.machine
            }
            (Start::InPlace, None) => Machine::default(),
        };
        check.slot.judged(&machine);
        let key = check.key.clone();
        let entry = Entry { check: Arc::clone(check), machine, alarm: None };
        self.entries.insert(key.clone(), entry);
        match check.definition.probe.pushed() {
            // One that has run out already stays so until it is heard of.
            Some(Pushed::Ttl(ttl)) if machine.verdict() != Verdict::Critical => {
                self.arm(&key, Instant::now() + ttl);
            }
            Some(Pushed::Alias(of)) => {
                self.aliases.insert(key.clone(), of.clone());
                self.reflect(&key);
            }
            Some(Pushed::Ttl(_)) | None => {}
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Heard { key, said, taken } = heard;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(Pushed::Ttl(ttl)) = entry.check.definition.probe.pushed() else { return };
        if let Some((status, output)) = said {
            observe(&self.monitor, entry, &status, output);
            self.agent.metrics.heartbeats.inc();
        } else if entry.alarm.is_none() {
            return;
        }
        self.arm(&key, Instant::now() + ttl);
        // Whoever spoke may have gone away.
        taken.send(()).unwrap_or(());
    }

    /// A check's time may be over.
    fn ring(&mut self, key: &CheckKey) {
        let Some(alarm) = self.entries.get_mut(key).and_then(|entry| entry.alarm.take()) else {
            return;
        };
        let now = Instant::now();
        if now < alarm.at {
            self.arm(key, alarm.at);
        } else if now - alarm.at > HELD_UP {
            warn!("The daemon was held up; all heartbeats have their whole time again");
            self.arm(key, now);
            self.forgive();
        } else {
            self.expire(key);
        }
    }

    /// Gives every running check its whole time again: heartbeats could not be heard for a while.
    fn forgive(&mut self) {
        let now = Instant::now();
        let running = self.entries.iter().filter(|(_, entry)| entry.alarm.is_some());
        let until =
            running.filter_map(|(key, entry)| match entry.check.definition.probe.pushed() {
                Some(Pushed::Ttl(ttl)) => Some((key.clone(), now + ttl)),
                Some(Pushed::Alias(_)) | None => None,
            });
        for (key, at) in until.collect::<Vec<_>>() {
            self.arm(&key, at);
        }
    }

    fn expire(&mut self, key: &CheckKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
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
                Key::Pair(_)
                | Key::Session(_)
                | Key::Tombstone(_)
                | Key::Note(_)
                | Key::Coordinate(..) => None,
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
        for key in &concerned {
            self.reflect(key);
        }
    }

    fn mirror_all(&mut self) {
        let keys: Vec<CheckKey> = self.aliases.keys().cloned().collect();
        for key in &keys {
            self.reflect(key);
        }
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
        // Cut, because aliases of each other would say ever more.
        let output = bounded(&output, MAX_OUTPUT);
        if !is_same || facts.detail.as_deref() != Some(&*output) {
            observe(&self.monitor, entry, &status, output);
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
    // Of our own node the agent's checks count, as in Consul: neither the alias itself nor what
    // says that the agent is there.
    let is_own = node.eq_ignore_ascii_case(own);
    let counts = |check: &&Arc<crate::store::row::Check>| {
        !(is_own && (*check.id == *itself || &*check.id == ALIVE))
    };
    let weight = |status: &Health| match status {
        Health::Passing => 0,
        Health::Warning => 1,
        Health::Critical | Health::Other(_) => 2,
    };
    match checks.filter(counts).max_by_key(|check| weight(&check.status)) {
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
    Observation { detail: Some(output), ..Observation::new(clock::now(), Duration::ZERO, outcome) }
}
