//! What is registered with this daemon: kept in the store, asked by the scheduler.
//!
//! Consul's agent is a part of a cluster and tells the servers what it holds; here the two are
//! one, and everything that is registered stands in the store as rows of our own node. This is
//! where the two views meet: a registration goes into the store first and is asked once it is on
//! disk, and what comes of asking goes back into the rows ([`publish`]), from which every consumer
//! is told.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::{RwLock, mpsc};
use tracing::warn;

use crate::{
    clock,
    consul::Programs,
    doubt::Doubt,
    event, metrics,
    model::{Cause, CheckKey, Registered, Status, Transition},
    probe::egress,
    registry::{Registration, Registry, snapshot::Known},
    store::{
        Key, Store, Tables, Tx, Unwritten, folded,
        row::{Check, Note, Service, Session},
    },
};

mod brakes;
mod census;
mod configured;
mod history;
pub mod maintain;
pub mod publish;
pub mod pushed;
mod reap;
pub mod register;
mod resume;
mod rows;
mod sidecar;
mod stale;
pub mod sweep;
#[cfg(test)]
mod tests;
mod vet;

use brakes::Brakes;
pub use brakes::{Standing, Standstill};

/// The one data centre there is.
pub const DATACENTER: &str = "dc1";

/// The service that Consul itself is, which its clients expect to find.
pub const CONSUL: &str = "consul";

/// The port of Consul's servers, which we show and do not have.
pub const SERVER_PORT: u16 = 8300;

/// The version of Consul whose behaviour this is: clients turn features on by it.
pub const CONSUL_VERSION: &str = "1.21.5";

/// The check that says that the node is alive.
pub const ALIVE: &str = "serfHealth";

/// The check that takes the node out.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";

/// What the id of the check that takes an instance out begins with.
pub const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// The daemon's registrations, in the store and with the scheduler.
#[derive(Debug)]
pub struct Agent {
    node: Arc<str>,
    store: Arc<Store>,
    registry: Arc<Registry>,
    metrics: metrics::Daemon,
    events: event::Log,
    pushed: mpsc::Sender<pushed::Heard>,
    /// Whether checks registered through the API may run programs.
    programs: AtomicBool,
    /// What stands between what is observed and what is published.
    brakes: Brakes,
    /// Where checks registered through the API may go; anywhere before it is said.
    egress: OnceLock<egress::Policy>,
    /// Shared by those who have an instance taken over from its rows; held alone by those who take
    /// over what is not in the rows yet, or is put there in several steps.
    turn: RwLock<()>,
    /// Held from the look at the rows of an instance until the registry has them, so that it has the
    /// latest last.
    latest: std::sync::Mutex<()>,
    /// The configuration's instances whose rows could not be written.
    owed: std::sync::Mutex<Option<Vec<Registration>>>,
}

impl Agent {
    /// An agent for the node of this name, and what its engine for checks that are told listens to.
    pub fn new(
        node: Arc<str>,
        store: Arc<Store>,
        registry: Arc<Registry>,
        (metrics, events): (metrics::Daemon, event::Log),
    ) -> (Self, mpsc::Receiver<pushed::Heard>) {
        let (pushed, heard) = mpsc::channel(pushed::DEPTH);
        (
            Self {
                node,
                store,
                registry,
                metrics,
                events,
                pushed,
                programs: AtomicBool::new(false),
                brakes: Brakes::default(),
                egress: OnceLock::new(),
                turn: RwLock::default(),
                latest: std::sync::Mutex::default(),
                owed: std::sync::Mutex::default(),
            },
            heard,
        )
    }

    /// The same, which publishes as far as this daemon trusts itself.
    #[must_use]
    pub fn trusting(self, doubt: Doubt) -> Self {
        Self { brakes: brakes::trusting(doubt), ..self }
    }

    /// Lets checks that are registered through the API run programs, or forbids it. What is
    /// registered already is asked accordingly after the next restart.
    pub fn allow_programs(&self, allowed: bool) {
        self.programs.store(allowed, Relaxed);
    }

    /// Refuses checks that are registered through the API from now on and go where they may not. Said
    /// once; what is registered already is judged at every probe alone.
    pub fn limit_egress(&self, egress: egress::Policy) {
        self.egress.get_or_init(|| egress);
    }

    fn programs(&self) -> Programs {
        if self.programs.load(Relaxed) { Programs::Allowed } else { Programs::Refused }
    }

    /// The name of our node.
    pub const fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Puts our own node into the store, and lets the checks that are registered from now on go on
    /// from what the store knows of them.
    pub async fn start(&self, address: IpAddr) -> Result<(), Unwritten> {
        self.restore_maintenance();
        let maintenance = self.registry.node_maintenance();
        self.store
            .write(|tx| {
                let id = tx.note(rows::NODE_ID).map(|note| Arc::clone(&note.text));
                let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string().into());
                tx.put(Note {
                    name: rows::NODE_ID.into(),
                    text: Arc::clone(&id),
                    ..Note::default()
                });
                let of_id = tx.nodes().filter(|node| node.id == id && node.name != self.node);
                let former: Vec<_> = of_id.map(|node| Arc::clone(&node.name)).collect();
                tx.put(rows::own_node(&self.node, id, address));
                for name in &former {
                    self.take_along(tx, name);
                }
                tx.put(rows::own_service(&self.node));
                let alive = rows::alive(&self.node, tx.now());
                let since = tx.check(&self.node, ALIVE).map_or(alive.since, |held| held.since);
                tx.put(Check { since, ..alive });
                self.put_maintenance(tx, "", maintenance.as_ref());
                self.drop_stray_marks(tx);
                Ok::<_, Unwritten>(())
            })
            .await?;
        {
            let tables = self.store.read();
            let checks = tables.each_check_on(&self.node);
            self.registry.remember(checks.filter_map(|check| known(&tables, check)));
        }
        self.resume().await;
        Ok(())
    }

    /// A check's row as its last result has it, which may not have been published yet.
    pub fn freshest(&self, row: &Arc<Check>) -> Arc<Check> {
        let fresh = || {
            let check = self.registry.check(&key(row)?)?;
            let facts = check.slot.read();
            let output = rows::output(&check, &facts)?.into();
            Some(Arc::new(Check {
                status: rows::health(facts.verdict)?,
                output,
                ..Check::clone(row)
            }))
        };
        fresh().unwrap_or_else(|| Arc::clone(row))
    }

    /// Has a daemon that has been renamed take along what is registered under its former name.
    fn take_along(&self, tx: &mut Tx<'_>, former: &Arc<str>) {
        let services: Vec<_> = tx.each_instance_on(former).cloned().collect();
        let checks: Vec<_> = tx.each_check_on(former).cloned().collect();
        let sessions: Vec<_> =
            tx.sessions().filter(|s| s.node.eq_ignore_ascii_case(former)).cloned().collect();
        for row in services {
            tx.put(Service::clone(&row).on(&self.node));
        }
        for row in checks {
            tx.put(Check::clone(&row).on(&self.node));
        }
        for row in sessions {
            tx.put(Session { node: Arc::clone(&self.node), ..Session::clone(&row) });
        }
        // Names that differ in the case of letters alone are of one node.
        if folded(former) != folded(&self.node) {
            tx.delete(Key::Node(Arc::clone(former)));
        }
    }

    /// Forgets how the results of checks stood that went with their instance or node.
    fn drop_stray_marks(&self, tx: &mut Tx<'_>) {
        let marks = tx.notes(rows::MARK).map(|mark| Arc::clone(&mark.name));
        let stray = marks.filter(|name| {
            let id = name.strip_prefix(rows::MARK).unwrap_or_default();
            tx.check(&self.node, id).is_none()
        });
        for name in stray.collect::<Vec<_>>() {
            tx.delete(Key::Note(name));
        }
    }

    /// Tells that an id has gone from one owner to another, which Consul lets happen.
    fn report_conflict(&self, row: &Service, place: &str) {
        self.metrics.registration_conflicts.inc();
        let now = format!("{}:{}", row.address, row.port);
        let detail = format!("registered at {place}, and now by another owner at {now}");
        let status = self.status_of(&row.id);
        self.report(row, (status, status), Registered::Conflict, &detail);
        warn!(
            instance = &*row.id,
            service = &*row.name,
            before = place,
            now,
            "An instance was registered over another owner's of the same id"
        );
    }

    /// The status of an instance.
    fn status_of(&self, id: &str) -> Status {
        self.registry.instance(id).map_or(Status::Unknown, |listed| listed.status())
    }

    /// Writes down what has become of a registration.
    fn report(&self, row: &Service, (from, to): (Status, Status), what: Registered, detail: &str) {
        let (Ok(service), Ok(instance)) = (row.name.parse(), row.id.parse()) else { return };
        let Ok(check) = Cause::REGISTRATION.parse() else { return };
        self.events.push(Transition {
            service,
            key: CheckKey { instance, check },
            from,
            to,
            at: clock::now(),
            cause: Cause::Registration { what, detail: detail.into() },
        });
        self.registry.touch();
    }
}

/// The name under which the registry has a check; nothing if it is not run here.
fn key(check: &Check) -> Option<CheckKey> {
    Some(CheckKey {
        instance: match &*check.service {
            "" => rows::NODE_INSTANCE.parse().ok()?,
            _ => Arc::clone(&check.service).try_into().ok()?,
        },
        check: Arc::clone(&check.run).try_into().ok()?,
    })
}

/// What the store knows of how a check stands, which may be nothing.
fn known(tables: &Tables, check: &Check) -> Option<(CheckKey, Option<Known>)> {
    let (key, verdict) = (key(check)?, rows::verdict(check));
    let mark = tables.note(&rows::mark_name(&check.id));
    let streak = mark.and_then(|mark| rows::streak(&mark.text, verdict.unwrap_or_default()));
    if verdict.is_none() && streak.is_none() {
        return Some((key, None));
    }
    let output = rows::without_note(&check.output);
    let output = (!output.is_empty()).then(|| Box::from(output));
    let since = verdict.is_some().then(|| check.since());
    Some((key, Some(Known { verdict: verdict.unwrap_or_default(), since, streak, output })))
}
