//! One prober thread: its due-queue, its probes under way, its machines.
//!
//! One loop owns it all and waits for three things: orders, finished probes, and the next tick at
//! which something is due. Only probes under way are tasks. A run that cannot start when it is due
//! is skipped and counted, never queued: a late probe lies about latency, and a queue of them
//! would hit a recovering target all at once.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    clock::Anchor,
    judge::Machine,
    metrics::{Daemon, Skip},
    model::{CheckKey, Observation},
    monitor::Monitor,
    probe::{Host, Prober},
    registry::{Check, Order},
};

use super::{
    plan::{self, Grid, Micros, micros},
    wheel::Wheel,
};

/// A run later than this, or than half its interval, is skipped: see [`lateness_bound`].
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
}

/// Whom a shard works with.
#[derive(Debug, Clone)]
pub(super) struct Partners<P> {
    pub(super) prober: P,
    pub(super) monitor: Monitor,
    pub(super) metrics: Daemon,
}

/// One check on the schedule. While it is not free it waits in the wheel, exactly once.
#[derive(Debug)]
struct Row {
    /// Nothing once the check is stopped; the row is free when it has fired and landed.
    check: Option<Arc<Check>>,
    machine: Machine,
    grid: Grid,
    number: i64,
    due: Micros,
    flight: Flight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    Grounded,
    UnderWay,
}

/// A probe has ended.
#[derive(Debug)]
struct Landing {
    row: u32,
    check: Arc<Check>,
    /// Nothing if it panicked.
    observation: Option<Observation>,
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
    index: HashMap<CheckKey, u32, foldhash::fast::RandomState>,
    hosts: HashMap<Host, u32, foldhash::fast::RandomState>,
    flights: JoinSet<Landing>,
    fired: Vec<u32>,
}

impl<P: Prober> Shard<P> {
    pub(super) fn new(settings: Settings, partners: Partners<P>, anchor: Anchor) -> Self {
        Self {
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
            flights: JoinSet::new(),
            fired: Vec::new(),
        }
    }

    /// Works until `orders` ends; then lets the probes under way finish, until `cut`.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Vec<Order>>,
        cut: CancellationToken,
    ) {
        let wake = sleep_until(Instant::now());
        tokio::pin!(wake);
        loop {
            let next = self.next_wake();
            if wake.deadline() != next {
                wake.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                () = &mut wake => {}
                Some(landed) = self.flights.join_next() => self.land(landed),
                batch = orders.recv() => match batch {
                    Some(batch) => batch.into_iter().for_each(|order| self.take(order)),
                    None => break,
                },
            }
            while let Some(landed) = self.flights.try_join_next() {
                self.land(landed);
            }
            self.fire();
        }
        self.drain(cut).await;
    }

    async fn drain(mut self, cut: CancellationToken) {
        while !self.flights.is_empty() {
            tokio::select! {
                Some(landed) = self.flights.join_next() => self.land(landed),
                () = cut.cancelled() => {
                    for _ in 0..self.flights.len() {
                        self.partners.metrics.skip(Skip::Shutdown);
                    }
                    return;
                }
            }
        }
    }

    /// Now, in the time of the plan.
    fn now(&self) -> Micros {
        micros(Instant::now().saturating_duration_since(self.anchor.instant()))
    }

    fn next_wake(&self) -> Instant {
        /// With nothing on the schedule there is nothing to wake for but orders and landings.
        const IDLE: Duration = Duration::from_secs(3600);
        if self.wheel.is_empty() {
            return self.anchor.instant() + Duration::from_micros(self.now().unsigned_abs()) + IDLE;
        }
        let tick = self.base + Micros::from(self.wheel.next_stop());
        self.anchor.instant() + Duration::from_micros((tick * self.tick).unsigned_abs())
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Run(check, machine) => self.admit(check, machine),
            Order::Stop(key) => {
                if let Some(row) = self.index.remove(&key) {
                    self.rows[row as usize].check = None;
                }
            }
            Order::Maintain { key, maintenance, reason } => {
                let Some(row) = self.index.get(&key) else { return };
                let row = &mut self.rows[*row as usize];
                if let Some(check) = &row.check {
                    self.partners.monitor.maintain(check, &mut row.machine, maintenance, reason);
                }
            }
        }
    }

    /// Puts a check on the schedule. One that is there already under the same key gives way, and
    /// hands over its machine; its next run too, if the schedule is the same.
    fn admit(&mut self, check: Arc<Check>, machine: Machine) {
        let grid = Grid::new(plan::hash(&check.key), &check.definition.schedule, &self.anchor);
        let mut machine = machine;
        let mut run = None;
        if let Some(old) = self.index.get(&check.key) {
            let old = &mut self.rows[*old as usize];
            old.check = None;
            machine = old.machine;
            run = (old.grid == grid).then_some((old.number, old.due));
        }
        check.slot.judged(&machine);
        let (number, due) = run.unwrap_or_else(|| {
            let delay = micros(check.definition.schedule.initial_delay);
            grid.first_from(self.now() + delay)
        });
        let key = check.key.clone();
        let row = Row { check: Some(check), machine, grid, number, due, flight: Flight::Grounded };
        let index = self.place(row);
        self.index.insert(key, index);
        self.await_due(index);
    }

    fn place(&mut self, row: Row) -> u32 {
        self.partners.metrics.queue_length.inc();
        if let Some(index) = self.free.pop() {
            self.rows[index as usize] = row;
            return index;
        }
        self.rows.push(row);
        u32::try_from(self.rows.len() - 1)
            .expect("the ids of 4 billion checks do not fit in memory")
    }

    fn await_due(&mut self, index: u32) {
        let due = self.rows[index as usize].due;
        let tick = due.div_euclid(self.tick) + i64::from(due.rem_euclid(self.tick) != 0);
        let relative = u32::try_from((tick - self.base).max(0)).unwrap_or(u32::MAX - 1);
        self.wheel.insert(index, relative);
    }

    /// Starts, or skips, all that is due.
    fn fire(&mut self) {
        let now = self.now();
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
            if row.flight == Flight::Grounded {
                self.release(index);
            } else {
                // Fires again when the probe under way has surely landed.
                row.due = now + row.grid.interval();
                self.await_due(index);
            }
            return;
        };
        // An entry beyond the wheel's horizon fires early, to be inserted again.
        if row.due <= now {
            let lateness = now - row.due;
            let late = lateness > lateness_bound(&row.grid);
            while row.due <= now {
                row.number += 1;
                row.due = row.grid.due(row.number);
            }
            self.start(index, check, lateness, late);
        }
        self.await_due(index);
    }

    fn start(&mut self, index: u32, check: Arc<Check>, lateness: Micros, late: bool) {
        if let Some(skip) = self.obstacle(index, &check, late) {
            self.partners.metrics.skip(skip);
            debug!(check = %check.key, reason = skip.as_str(), "Run skipped");
            return;
        }
        *self.hosts.entry(check.target.endpoint().host.clone()).or_default() += 1;
        self.rows[index as usize].flight = Flight::UnderWay;
        self.partners.metrics.in_flight(check.target.protocol()).inc();
        self.partners
            .metrics
            .lag
            .observe(Duration::from_micros(lateness.unsigned_abs()).as_secs_f64());
        let prober = self.partners.prober.clone();
        self.flights.spawn(async move {
            let timeout = check.definition.schedule.timeout;
            let probe = AssertUnwindSafe(prober.probe(&check.target, timeout)).catch_unwind();
            let observation = probe.await.ok();
            Landing { row: index, check, observation }
        });
    }

    /// Why a run cannot start now.
    fn obstacle(&self, index: u32, check: &Check, late: bool) -> Option<Skip> {
        let host = &check.target.endpoint().host;
        if self.rows[index as usize].flight == Flight::UnderWay {
            Some(Skip::Overrun)
        } else if late {
            Some(Skip::Late)
        } else if self.flights.len() >= self.settings.max_in_flight {
            Some(Skip::Saturated)
        } else if self.hosts.get(host).is_some_and(|n| *n >= self.settings.max_per_host) {
            Some(Skip::Destination)
        } else {
            None
        }
    }

    fn land(&mut self, landed: Result<Landing, tokio::task::JoinError>) {
        // Panics are caught within the task, and tasks are cut only with the whole shard.
        let Ok(Landing { row: index, check, observation }) = landed else { return };
        self.partners.metrics.in_flight(check.target.protocol()).dec();
        let host = &check.target.endpoint().host;
        if let Some(count) = self.hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(host);
            }
        }
        let row = &mut self.rows[index as usize];
        row.flight = Flight::Grounded;
        // A check that has been stopped or replaced meanwhile says nothing any more.
        let current = row.check.as_ref().is_some_and(|current| Arc::ptr_eq(current, &check));
        match observation {
            Some(observation) if current => {
                self.partners.monitor.observe(&check, &mut row.machine, observation);
            }
            Some(_) => {}
            None => {
                self.partners.metrics.panics.inc();
                error!(check = %check.key, "Probe panicked; this is a fault of rollcall, not of the target");
            }
        }
    }

    fn release(&mut self, index: u32) {
        self.partners.metrics.queue_length.dec();
        self.free.push(index);
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

/// A run that is later than this is skipped, so that a daemon that was held up (a suspended
/// machine, a starved container) does not start all that it missed at once.
fn lateness_bound(grid: &Grid) -> Micros {
    MAX_LATENESS.min(grid.interval() / 2)
}
