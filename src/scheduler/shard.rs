//! One prober thread: its due-queue, its probes under way, its machines.
//!
//! One loop owns it all and waits for three things: orders, finished probes, and the next moment at
//! which something is due: a tick of the wheel, or a probe beyond the grid (`rhythm`), which are
//! few and have a queue of their own. Only probes under way are tasks, and of these only those that are not
//! plain (`probe::Plain`). A run that cannot start when it is due
//! is skipped and counted, never queued: a late probe lies about latency, and a queue of them
//! would hit a recovering target all at once.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    clock::{Anchor, Timestamp},
    doubt::Doubt,
    judge::Machine,
    metrics::{Daemon, Skip},
    model::{CheckKey, Extra},
    monitor::Monitor,
    probe::{Endpoint, Host, Prober},
    registry::{Check, Order, Start},
};

use super::{
    plan::{self, Grid, Micros, micros},
    pulse::{self, Beat},
    row::{FlightId, Named, Row},
    stall::{Departure, Stall},
    tripwire::Wires,
    wheel::Wheel,
};

mod beyond;
mod flights;

use flights::{Flight, Flights, Landing};

/// A run later than this, or than half its interval, is skipped: see [`Shard::lateness_bound`].
const MAX_LATENESS: Micros = 1_000_000;

/// The wheel counts ticks in 32 bits; long before they run out it is built anew.
const REBASE_AT: u32 = 1 << 31;

/// What a shard may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Runs due within one tick start together.
    pub(super) tick: Duration,
    /// Most probes under way at once.
    pub(super) max_in_flight: usize,
    /// Most probes under way at once to one host.
    pub(super) max_per_host: u32,
    /// Most idle connections held to targets.
    pub(super) max_tripwires: usize,
}

/// Whom a shard works with.
#[derive(Debug, Clone)]
pub(super) struct Partners<P> {
    pub(super) prober: P,
    pub(super) monitor: Monitor,
    pub(super) metrics: Daemon,
    pub(super) doubt: Doubt,
    pub(super) beat: Beat,
}

#[derive(Debug)]
pub(super) struct Shard<P> {
    settings: Settings,
    partners: Partners<P>,
    anchor: Anchor,
    tick: Micros,
    /// The tick that the wheel counts from.
    base: Micros,
    wheel: Wheel,
    rows: Vec<Row>,
    free: Vec<u32>,
    index: HashMap<Named, u32, foldhash::fast::RandomState>,
    hosts: HashMap<Host, u32, foldhash::fast::RandomState>,
    flights: Flights,
    last_flight: FlightId,
    fired: Vec<u32>,
    /// Probes beyond the grid with their rows; one that its row does not wait for is void.
    extras: BinaryHeap<Reverse<(Micros, u32)>>,
    wires: Wires,
    stall: Stall,
}

impl<P: Prober> Shard<P> {
    pub(super) fn new(settings: Settings, partners: Partners<P>, anchor: Anchor) -> Self {
        Self {
            wires: Wires::new(settings.max_tripwires, partners.metrics.clone()),
            settings,
            partners,
            anchor,
            tick: micros(settings.tick).max(1),
            base: 0,
            wheel: Wheel::default(),
            rows: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            hosts: HashMap::default(),
            flights: Flights::new(),
            last_flight: FlightId::MIN,
            fired: Vec::new(),
            extras: BinaryHeap::new(),
            stall: Stall::new(),
        }
    }

    /// Works until `orders` ends; then lets the probes under way finish, until `cut`.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Vec<Order>>,
        cut: CancellationToken,
    ) {
        self.flights.open(&self.partners.prober);
        let wake = sleep_until(Instant::now());
        tokio::pin!(wake);
        loop {
            self.partners.beat.at(self.now());
            let (due, flying) = (self.next_wake(), !self.flights.is_empty());
            let next = self.stall.doze(due, flying, &self.partners.doubt);
            if wake.deadline() != next {
                wake.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                () = &mut wake => {}
                () = self.flights.news() => {}
                Some(end) = self.wires.next_end() => self.hear(&end),
                batch = orders.recv() => match batch {
                    Some(batch) => batch.into_iter().for_each(|order| self.take(order)),
                    None => break,
                },
            }
            self.land_all();
            self.fire();
        }
        self.drain(cut).await;
    }

    async fn drain(mut self, cut: CancellationToken) {
        while !self.flights.is_empty() {
            let deadline = self.flights.next_deadline();
            tokio::select! {
                () = self.flights.news() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
                () = cut.cancelled() => {
                    self.partners.metrics.skip(Skip::Shutdown, self.flights.len() as u64);
                    return;
                }
            }
            self.land_all();
        }
    }

    fn land_all(&mut self) {
        for landing in self.flights.take_landed() {
            self.land(landing);
        }
    }

    /// Now, in the time of the plan.
    fn now(&self) -> Micros {
        micros(Instant::now().saturating_duration_since(self.anchor.instant()))
    }

    /// When the next tick of interest is, or the next mark to leave.
    fn next_wake(&self) -> Instant {
        let round = self.now() + micros(pulse::ROUND);
        let due = if self.wheel.is_empty() {
            round
        } else {
            (self.base + Micros::from(self.wheel.next_stop())) * self.tick
        };
        let extra = self.extras.peek().map_or(round, |Reverse((due, _))| *due);
        let next = due.min(round).min(extra).max(0);
        let next = self.anchor.instant() + Duration::from_micros(next.unsigned_abs());
        self.flights.next_deadline().map_or(next, |deadline| deadline.min(next))
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Run(check, start) => self.admit(check, start),
            Order::Stop(key) => {
                if let Some(row) = self.index.remove(&key) {
                    self.retire(row);
                }
            }
            Order::Maintain { key, maintenance, reason } => {
                let Some(row) = self.index.get(&key) else { return };
                let row = &mut self.rows[*row as usize];
                if let Some(check) = &row.check {
                    self.partners.monitor.maintain(check, &mut row.machine, maintenance, reason);
                    row.rhythm.forgive(&row.machine);
                }
            }
            Order::Recheck(key) => {
                let Some(index) = self.index.get(&key).copied() else { return };
                let now = self.now();
                let row = &mut self.rows[index as usize];
                let extra = row.rhythm.recheck(now, &row.machine);
                self.add(index, extra);
            }
        }
    }

    /// Puts a check on the schedule, in place of the one of the same key if there is one. Started
    /// in place it goes on with that one's state and its probe beyond the grid, with its probe under
    /// way if that asks the same, and with its next run if the schedule is the same.
    fn admit(&mut self, check: Arc<Check>, start: Start) {
        let grid = Grid::new(plan::hash(&check.key), &check.definition.schedule, &self.anchor);
        let delay = micros(check.definition.schedule.initial_delay);
        let mut row = Row::new(grid, grid.first_from(self.now() + delay));
        let held = self.index.remove(&check.key);
        match (start, held) {
            (Start::Afresh(machine), _) => row.machine = machine,
            (Start::InPlace, Some(held)) => self.hand_over(held, &check, &mut row),
            // The registry and we disagree only if an order was lost; begin anew.
            (Start::InPlace, None) => {}
        }
        if let Some(held) = held {
            self.retire(held);
        }
        check.slot.judged(&row.machine);
        let name = Named(Arc::clone(&check));
        row.check = Some(check);
        self.partners.metrics.queue_length.inc();
        let extra = row.extra;
        let index = self.place(row);
        self.index.insert(name, index);
        self.extras.extend(extra.map(|(due, _)| Reverse((due, index))));
        self.await_due(index);
    }

    fn hand_over(&self, held: u32, check: &Check, row: &mut Row) {
        let held = &self.rows[held as usize];
        row.machine = held.machine;
        row.rhythm = held.rhythm;
        row.extra = held.extra;
        if held.grid == row.grid {
            (row.number, row.due) = (held.number, held.due);
        }
        if let Some(before) = &held.check {
            self.partners.monitor.hand_over(before, check, &row.machine);
            row.flight = held.flight.filter(|_| before.asks_the_same_as(check));
        }
    }

    /// Takes a check off the schedule; its row is free once it has fired.
    fn retire(&mut self, index: u32) {
        let row = &mut self.rows[index as usize];
        row.check = None;
        row.flight = None;
        row.extra = None;
        self.wires.forget(index);
        self.partners.metrics.queue_length.dec();
    }

    fn place(&mut self, row: Row) -> u32 {
        if let Some(index) = self.free.pop() {
            self.rows[index as usize] = row;
            return index;
        }
        if self.rows.len() == self.rows.capacity() {
            // By an eighth, not by as much again: with very many checks that is much.
            self.rows.reserve_exact(self.rows.len() / 8 + 64);
        }
        self.rows.push(row);
        u32::try_from(self.rows.len() - 1)
            .expect("the ids of 4 billion checks do not fit in memory")
    }

    fn await_due(&mut self, index: u32) {
        let row = &self.rows[index as usize];
        let due = row.due;
        if let Some(check) = &row.check {
            let (next, turn) = row.next(check);
            check.slot.plan(Some(self.wall(next)), turn);
        }
        // The nearest tick: a run starts half a tick from its time at most, before or after.
        let tick = (due + self.tick / 2).div_euclid(self.tick);
        let relative = u32::try_from((tick - self.base).max(0)).unwrap_or(u32::MAX - 1);
        self.wheel.insert(index, relative);
    }

    /// Starts, or skips, all that is due.
    fn fire(&mut self) {
        let now = self.now();
        self.fire_extras(now);
        let tick = u32::try_from(now / self.tick - self.base).unwrap_or(u32::MAX);
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(tick, &mut fired);
        for index in fired.drain(..) {
            self.fire_row(index, now);
        }
        self.fired = fired;
        if tick >= REBASE_AT {
            self.rebase(now / self.tick);
        }
    }

    fn fire_row(&mut self, index: u32, now: Micros) {
        let row = &mut self.rows[index as usize];
        let Some(check) = row.check.clone() else {
            self.free.push(index);
            return;
        };
        // An entry beyond the wheel's horizon fires early, to be inserted again.
        let soon = now + self.tick / 2;
        if row.due <= soon {
            let due = row.due;
            let mut passed = 0;
            while row.due <= soon {
                row.number += 1;
                row.due = row.grid.due(row.number);
                passed += 1;
            }
            self.partners.metrics.skip(Skip::Late, passed - 1);
            let rules = (&check.definition.schedule, &check.definition.thresholds);
            let number = row.number - 1 + row.grid.lot();
            if !row.rhythm.leaves_out(number, &row.machine, rules) {
                self.start(index, check, due, None);
            }
        }
        self.await_due(index);
    }

    fn start(&mut self, index: u32, check: Arc<Check>, due: Micros, why: Option<Extra>) {
        // Others of the same tick have started since it struck.
        let started = self.now();
        let lateness = (started - due).max(0);
        let lag = Duration::from_micros(lateness.unsigned_abs());
        self.partners.doubt.started(lag);
        if let Some(skip) = self.obstacle(index, &check, lateness) {
            self.partners.metrics.skip(skip, 1);
            debug!(check = %check.key, reason = skip.as_str(), "Run skipped");
            return;
        }
        if let Some(destination) = check.target.destination() {
            *self.hosts.entry(destination.host.clone()).or_default() += 1;
        }
        self.last_flight = self.last_flight.saturating_add(1);
        let id = self.last_flight;
        let row = &mut self.rows[index as usize];
        row.flight = Some(id);
        let timeout = row.rhythm.timeout(why, &check.definition.schedule);
        let room = Duration::from_micros((row.due - started).max(0).unsigned_abs());
        let room = room.min(check.definition.schedule.interval);
        if let Some(why) = why {
            self.partners.metrics.extra(why).inc();
        }
        self.partners.metrics.in_flight(check.target.protocol()).inc();
        self.partners.metrics.lag.observe(lag.as_secs_f64());
        let timeout = self.partners.doubt.stretch(timeout, room);
        let departure = self.stall.depart(timeout);
        let flight = Flight { row: index, id, check, started, departure };
        self.flights.start(&self.partners.prober, flight, timeout);
    }

    /// Why a run cannot start now.
    fn obstacle(&self, index: u32, check: &Check, lateness: Micros) -> Option<Skip> {
        let to_host = check.target.destination().and_then(|to| self.hosts.get(&to.host));
        let row = &self.rows[index as usize];
        if row.flight.is_some() {
            Some(Skip::Overrun)
        } else if lateness > self.lateness_bound(&row.grid) {
            Some(Skip::Late)
        } else if self.flights.len() >= self.room_for(&row.machine) {
            Some(Skip::Saturated)
        } else if to_host.is_some_and(|n| *n >= self.settings.max_per_host) {
            Some(Skip::Destination)
        } else {
            None
        }
    }

    /// How many probes may be under way for one more of this check to start. Targets that hang hold
    /// theirs for the whole timeout, and very many of them would leave no room for those that are
    /// well: checks that fail already do without the last quarter.
    fn room_for(&self, machine: &Machine) -> usize {
        let most = self.settings.max_in_flight;
        let reserve = if machine.streak().failures() > 0 { most / 4 } else { 0 };
        most - reserve
    }

    fn land(&mut self, (flight, observation): Landing) {
        self.stall.wake(&self.partners.doubt);
        let Flight { row, id, check, started, departure } = flight;
        self.partners.metrics.in_flight(check.target.protocol()).dec();
        if let Some(Endpoint { host, .. }) = check.target.destination()
            && let Some(count) = self.hosts.get_mut(host)
        {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(host);
            }
        }
        if observation.is_none() {
            self.partners.metrics.panics.inc();
            error!(check = %check.key, "Probe panicked; this is a fault of rollcall, not of the target");
        }
        // Nobody waits any more for a probe of a check that has been stopped or re-aimed.
        let Some(row) = self.waiting(row, id, &check.key) else { return };
        self.rows[row as usize].flight = None;
        if let Some(observation) = observation {
            let partners = (&self.partners.doubt, &self.partners.metrics);
            let observation = self.stall.weigh(departure, observation, partners);
            self.judge(row, started, observation);
        }
        self.wake_extra(row);
    }

    /// A moment of the plan on the wall clock.
    fn wall(&self, at: Micros) -> Timestamp {
        Timestamp::from_millis(self.anchor.wall().millis() + at / 1000)
    }

    /// The row that waits for a flight: where it started, or where its check has moved to.
    fn waiting(&self, row: u32, id: FlightId, key: &CheckKey) -> Option<u32> {
        let waits = |row: &u32| self.rows[*row as usize].flight == Some(id);
        Some(row).filter(waits).or_else(|| self.index.get(key).copied().filter(waits))
    }

    /// A run that is later than this is skipped, so that a daemon that was held up (a suspended
    /// machine, a starved container) does not start all that it missed at once. Two ticks late is
    /// on time: the wheel is no finer.
    fn lateness_bound(&self, grid: &Grid) -> Micros {
        MAX_LATENESS.min(grid.interval() / 2).max(2 * self.tick)
    }

    /// Lets the wheel count from `base` on.
    fn rebase(&mut self, base: Micros) {
        self.base = base;
        self.wheel = Wheel::default();
        let free: std::collections::HashSet<u32> = self.free.iter().copied().collect();
        for index in 0..self.rows.len() {
            let index = u32::try_from(index).expect("rows are counted in 32 bits");
            if !free.contains(&index) {
                self.await_due(index);
            }
        }
    }
}
