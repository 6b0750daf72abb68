//! What is registered, stored and published.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    pushed::Engine,
    register::{Refused, Terms},
    *,
};
use crate::{
    clock::{self, Ages, Timestamp},
    consul,
    event::Log,
    judge::{Machine, Maintenance},
    metrics::Daemon,
    model::{Observation, Outcome, Reason, Transition},
    monitor::Monitor,
    registry::{Assigned, Order, Orders, Registration, snapshot::Snapshot},
    store::{Keeper, Store, row::Health},
    tasks::Tasks,
};

mod aging;
mod agree;
mod alias;
mod braked;
mod configured;
mod heartbeat;
mod registration;
mod restart;

/// Ages as of a moment of the wall clock.
fn as_of(now: Timestamp) -> Ages {
    Ages::new(tokio::time::Instant::now(), now)
}

/// An agent with its engine, over a store; nothing is probed.
struct Rig {
    agent: Arc<Agent>,
    store: Arc<Store>,
    registry: Arc<Registry>,
    events: Log,
    metrics: Daemon,
    monitor: Monitor,
    _orders: mpsc::Receiver<Vec<Order>>,
    stop: CancellationToken,
    tasks: Tasks,
}

impl Rig {
    async fn new() -> Self {
        Self::over(Arc::new(Store::in_memory()), "node-1").await
    }

    /// A daemon of this name that finds what is in the store.
    async fn over(store: Arc<Store>, node: &str) -> Self {
        Self::remembering(store, node, Snapshot::default()).await
    }

    async fn remembering(store: Arc<Store>, node: &str, snapshot: Snapshot) -> Self {
        let (probed, orders) = mpsc::channel(1 << 20);
        let (pushed, told) = mpsc::channel(1 << 20);
        let registry = Arc::new(Registry::new(snapshot, Orders { probed, pushed }));
        let (events, metrics) = (Log::new(1000), Daemon::new());
        let (agent, heard) = Agent::new(
            node.into(),
            Arc::clone(&store),
            Arc::clone(&registry),
            (metrics.clone(), events.clone()),
        );
        let agent = Arc::new(agent);
        let monitor = Monitor::new(Arc::clone(&registry), events.clone(), metrics.clone());
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        let engine = Engine::new(Arc::clone(&agent), monitor.clone());
        tasks.spawn("heartbeats", engine.run(told, heard, stop.clone()));
        agent.start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        let rig =
            Self { agent, store, registry, events, metrics, monitor, _orders: orders, stop, tasks };
        rig.settle().await;
        rig
    }

    /// Has whatever is critical published at once.
    fn without_guard(self) -> Self {
        let off = crate::publish::guard::Config { enabled: false, ..Default::default() };
        self.agent.brake_by(off, crate::publish::damping::Config::default());
        self
    }

    /// The process ends and another begins, with nothing but the store.
    async fn restarted(self) -> Self {
        self.restarted_as("node-1").await
    }

    async fn restarted_as(self, node: &str) -> Self {
        let store = Arc::clone(&self.store);
        self.end().await;
        Self::over(store, node).await
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.next_ended().await.is_some() {}
    }

    /// Lets the engine do what there is to do.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Has the rows say what is known, also of aliases of aliases.
    async fn publish(&self) {
        for _ in 0..4 {
            self.settle().await;
            let mut news = self.registry.news().take_said();
            news.append(&mut self.registry.news().take_changed());
            self.agent.tell(news).await.unwrap();
        }
    }

    /// Registers an instance.
    async fn put(&self, definition: Value) -> Result<(), Refused> {
        self.put_on(definition, Terms::default()).await
    }

    async fn put_on(&self, definition: Value, terms: Terms) -> Result<(), Refused> {
        let definition = consul::decode_json(definition.to_string().as_bytes()).unwrap();
        self.agent.register(&definition, terms).await
    }

    /// Registers a check.
    async fn put_check(&self, definition: Value) -> Result<(), Refused> {
        let definition = consul::decode_json(definition.to_string().as_bytes()).unwrap();
        self.agent.register_check(&definition).await
    }

    async fn hear(&self, check: &str, status: &str, output: &str) {
        self.agent.hear(check, Health::from(status), output).await.unwrap();
    }

    /// Lets probes of an instance's check end like this.
    async fn observe(&self, instance: &str, check: &str, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let key =
                CheckKey { instance: instance.parse().unwrap(), check: check.parse().unwrap() };
            let check = self.registry.check(&key).unwrap();
            let facts = check.slot.read();
            let mut machine = Machine::restore(facts.verdict, facts.streak, Maintenance::Off);
            self.monitor.observe(&check, &mut machine, observation(*outcome));
        }
        self.publish().await;
    }

    /// `status output` of a check.
    #[track_caller]
    fn said(&self, check: &str) -> String {
        let tables = self.store.read();
        let row = tables.check(&self.agent.node, check).unwrap_or_else(|| panic!("no {check}"));
        format!("{} {}", row.status, row.output).trim_end().to_owned()
    }

    #[track_caller]
    fn row(&self, check: &str) -> Check {
        Check::clone(self.store.read().check(&self.agent.node, check).unwrap())
    }

    /// The ids of the checks of an instance; of the node if it is empty.
    fn checks(&self, instance: &str) -> Vec<String> {
        let tables = self.store.read();
        let of = tables.checks_on(&self.agent.node);
        let of = of.filter(|row| *row.service == *instance && &*row.id != ALIVE);
        of.map(|row| row.id.to_string()).collect()
    }

    fn transitions(&self) -> Vec<Transition> {
        self.events.after(0).iter().map(|event| event.transition.clone()).collect()
    }

    /// What the registry has, against what the rows say.
    #[track_caller]
    fn agrees(&self) {
        assert_eq!(self.in_registry(), self.in_rows());
    }

    fn in_registry(&self) -> BTreeMap<String, Vec<String>> {
        let listed = self.registry.list().into_iter();
        listed
            .map(|listed| {
                let place = &listed.instance.endpoint;
                let name = format!("{} {} {place}", listed.instance.id, listed.instance.service);
                let mut checks: Vec<_> = listed
                    .checks
                    .iter()
                    .map(|c| {
                        format!("{} {} {}", c.key.check, c.public_id(), described(&c.definition))
                    })
                    .collect();
                checks.sort();
                (name, checks)
            })
            .collect()
    }

    /// What should be in the registry: worked out from the rows alone.
    fn in_rows(&self) -> BTreeMap<String, Vec<String>> {
        let tables = self.store.read();
        let mut all = BTreeMap::new();
        let run: Vec<_> =
            tables.checks_on(&self.agent.node).filter(|row| !row.run.is_empty()).collect();
        let checks = |of: &str| {
            let mut checks: Vec<_> = run
                .iter()
                .filter(|row| *row.service == *of)
                .map(|row| {
                    let assigned = register::again(row, self.agent.programs()).unwrap();
                    format!("{} {} {}", row.run, row.id, described(&assigned.definition))
                })
                .collect();
            checks.sort();
            checks
        };
        for row in tables.instances_on(&self.agent.node).filter(|row| row.origin.is_local()) {
            let at = if row.address.is_empty() { "127.0.0.1" } else { &row.address };
            all.insert(format!("{} {} {at}:{}", row.id, row.name, row.port), checks(&row.id));
        }
        if !checks("").is_empty() {
            all.insert("_node _node 127.0.0.1:0".to_owned(), checks(""));
        }
        all
    }
}

/// A definition without its identity, which is compared beside it.
fn described(definition: &crate::registry::Definition) -> String {
    format!("{:?} {:?} {:?}", definition.schedule, definition.thresholds, definition.probe)
}

fn observation(outcome: Outcome) -> Observation {
    Observation {
        detail: outcome.reason().map(|reason| reason.as_str().into()),
        ..Observation::new(clock::now(), Duration::from_millis(3), outcome)
    }
}

const FAILED: Outcome = Outcome::Failure(Reason::ConnectionRefused);

/// A web server with a TTL check of 10 s.
fn web() -> Value {
    json!({"ID": "web-1", "Name": "web", "Port": 80, "Check": {"TTL": "10s"}})
}

/// The id of that check.
const WEB: &str = "service:web-1";

/// Waits so long on paused time.
async fn wait(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Keeps paused time where it is while something waits for the disk.
async fn still<T>(work: impl Future<Output = T>) -> T {
    let (done, hold) = std::sync::mpsc::channel::<()>();
    let holding = tokio::task::spawn_blocking(move || hold.recv().is_ok());
    let value = work.await;
    drop(done);
    holding.await.unwrap();
    value
}

/// Opens the store in a directory.
fn opened(directory: &Path) -> (Arc<Store>, Keeper) {
    Store::open(directory).unwrap()
}
