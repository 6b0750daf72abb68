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
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::{Mutex, mpsc};
use tracing::{error, warn};

use crate::{
    consul::Programs,
    metrics,
    model::CheckKey,
    registry::{Difference, Listed, Registration, Registry, Source, snapshot::Known},
    store::{
        Key, Store, Tables, Unwritten,
        row::{Check, Note, Origin, Service},
    },
};

mod history;
pub mod maintain;
pub mod publish;
pub mod pushed;
mod reap;
pub mod register;
mod rows;
mod stale;
pub mod sweep;
#[cfg(test)]
mod tests;
mod vet;

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

/// Instances whose rows are written in one go.
const CHUNK: usize = 500;

/// The daemon's registrations, in the store and with the scheduler.
#[derive(Debug)]
pub struct Agent {
    node: Arc<str>,
    store: Arc<Store>,
    registry: Arc<Registry>,
    metrics: metrics::Daemon,
    pushed: mpsc::Sender<pushed::Heard>,
    /// Whether checks registered through the API may run programs.
    programs: AtomicBool,
    /// Held from looking at the rows until what they say is asked, so that the two agree. Not held
    /// while anything is put on disk: those who register wait for one sync together.
    asking: Mutex<()>,
    /// Instances that were changed for somebody who went away before they were asked accordingly.
    left: std::sync::Mutex<Vec<Arc<str>>>,
}

impl Agent {
    /// An agent for the node of this name, and what its engine for checks that are told listens to.
    pub fn new(
        node: Arc<str>,
        store: Arc<Store>,
        registry: Arc<Registry>,
        metrics: metrics::Daemon,
    ) -> (Self, mpsc::Receiver<pushed::Heard>) {
        let (pushed, heard) = mpsc::channel(pushed::DEPTH);
        (
            Self {
                node,
                store,
                registry,
                metrics,
                pushed,
                programs: AtomicBool::new(false),
                asking: Mutex::default(),
                left: std::sync::Mutex::default(),
            },
            heard,
        )
    }

    /// Lets checks that are registered through the API run programs, or forbids it. What is
    /// registered already is asked accordingly after the next restart.
    pub fn allow_programs(&self, allowed: bool) {
        self.programs.store(allowed, Relaxed);
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
                // A daemon that has been renamed takes its registrations along under its new name.
                let of_id: Vec<_> = tx.nodes().filter(|node| node.id == id).cloned().collect();
                for node in of_id.iter().filter(|node| node.name != self.node) {
                    tx.delete(Key::Node(Arc::clone(&node.name)));
                }
                tx.put(rows::own_node(&self.node, id, address));
                tx.put(rows::own_service(&self.node));
                let alive = rows::alive(&self.node, tx.now());
                let since = tx.check(&self.node, ALIVE).map_or(alive.since, |held| held.since);
                tx.put(Check { since, ..alive });
                self.put_maintenance(tx, "", maintenance.as_ref());
                Ok::<_, Unwritten>(())
            })
            .await?;
        let known: Vec<_> = {
            let tables = self.store.read();
            let run = tables.checks_on(&self.node).filter(|check| !check.run.is_empty());
            run.filter_map(|check| self.known(&tables, check)).collect()
        };
        self.registry.remember(known);
        self.resume().await;
        Ok(())
    }

    /// What the store knows of how a check stands.
    fn known(&self, tables: &Tables, check: &Check) -> Option<(CheckKey, Known)> {
        let key = CheckKey {
            instance: rows::instance_id(&check.service).parse().ok()?,
            check: check.run.parse().ok()?,
        };
        let verdict = rows::verdict(check)?;
        let mark = tables.note(&rows::mark_name(&check.id));
        let streak = mark.and_then(|mark| rows::streak(&mark.text, verdict));
        let output = rows::without_note(&check.output);
        let output = (!output.is_empty()).then(|| Box::from(output));
        Some((key, Known { verdict, since: check.since(), streak, output }))
    }

    /// A check's row as its last result has it, which may not have been published yet.
    pub fn freshest(&self, row: &Arc<Check>) -> Arc<Check> {
        let fresh = || {
            let key = CheckKey {
                instance: rows::instance_id(&row.service).parse().ok()?,
                check: row.run.parse().ok()?,
            };
            let check = self.registry.check(&key)?;
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

    /// Takes over the instances of the configuration: exactly these, beside those registered
    /// through the API. They are asked even if they cannot be put on disk.
    pub async fn configure(&self, registrations: Vec<Registration>) -> Difference {
        let _asking = self.asking.lock().await;
        let difference = self.registry.replace(registrations).await;
        let listed: Vec<Listed> =
            self.registry.list().into_iter().filter(|l| l.source == Source::Config).collect();
        if let Err(unwritten) = self.keep(&listed).await {
            error!(error = &unwritten as &dyn std::error::Error, "Configured instances not stored");
        }
        difference
    }

    /// Makes the rows of the configuration's instances be exactly these.
    async fn keep(&self, listed: &[Listed]) -> Result<(), Unwritten> {
        let mut gone = self.configured();
        for listed in listed {
            gone.remove(&Key::Service(Arc::clone(&self.node), listed.instance.id.as_str().into()));
            for check in &listed.checks {
                gone.remove(&Key::Check(Arc::clone(&self.node), (&*check.public_id()).into()));
            }
        }
        let gone: Vec<_> = gone.into_iter().collect();
        for keys in gone.chunks(CHUNK) {
            self.store
                .write(|tx| {
                    keys.iter().cloned().for_each(|key| drop(tx.delete(key)));
                    Ok::<_, Unwritten>(())
                })
                .await?;
        }
        for some in listed.chunks(CHUNK) {
            self.store
                .write(|tx| {
                    for listed in some {
                        tx.put(rows::service(&self.node, &listed.instance));
                        for check in &listed.checks {
                            let row = rows::check(&self.node, check, tx.now());
                            let held = tx.check(&self.node, &row.id).cloned();
                            tx.put(rows::going_on(row, held.as_deref()));
                        }
                        let id = &listed.instance.id;
                        let maintenance = self.registry.maintenance(id);
                        self.put_maintenance(tx, id.as_str(), maintenance.as_ref());
                    }
                    Ok::<_, Unwritten>(())
                })
                .await?;
        }
        Ok(())
    }

    /// Tells that an id has gone from one owner to another, which Consul lets happen.
    fn report_conflict(&self, row: &Service, place: &str) {
        self.metrics.registration_conflicts.inc();
        warn!(
            instance = &*row.id,
            service = &*row.name,
            before = place,
            now = format!("{}:{}", row.address, row.port),
            "An instance was registered over another owner's of the same id"
        );
    }

    /// The rows that stand for the configuration.
    fn configured(&self) -> std::collections::BTreeSet<Key> {
        let tables = self.store.read();
        let services = tables.instances_on(&self.node);
        let services = services.filter(|row| row.origin == Origin::Config);
        let services =
            services.map(|row| Key::Service(Arc::clone(&self.node), Arc::clone(&row.id)));
        let checks = tables.checks_on(&self.node).filter(|row| row.origin == Origin::Config);
        let checks = checks.map(|row| Key::Check(Arc::clone(&self.node), Arc::clone(&row.id)));
        services.chain(checks).collect()
    }
}
