//! Who exists: services, their instances, and the checks asked of them.
//!
//! The registry is the one place where the set of checks changes. Whoever lists instances calls
//! [`Registry::replace`] with the whole list; what differs from what is there goes out as
//! [`Order`]s to the scheduler, and what is the same is not touched. Readers (the API, metrics)
//! get shared handles on the same [`Check`]s that the prober threads write into, so looking never
//! waits for probing nor probing for looking.

use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use tokio::sync::watch;

use crate::{
    compact::{Keyed, Pairs},
    judge::{self, Thresholds, Verdict},
    metrics::{ClassSlot, Slot},
    model::{CheckId, CheckKey, InstanceId, Schedule, ServiceName, Status},
    probe::{Endpoint, Probe, Target},
};

mod merge;
mod news;
mod order;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod walk;

use merge::State;
pub use news::News;
use order::Outbox;
pub use order::{Order, Orders, Start};
use snapshot::{Known, Maintained, Snapshot};
pub use walk::Walk;

/// One registered endpoint of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Unique on this node.
    pub id: InstanceId,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Tags, in the order given.
    pub tags: Arc<[Arc<str>]>,
    /// Metadata.
    pub meta: Arc<Pairs>,
}

impl Keyed for Instance {
    fn key(&self) -> &str {
        self.id.as_str()
    }
}

/// What is asked of every instance a check applies to, how, how often, with which thresholds.
/// Shared by all those instances.
#[derive(Debug, PartialEq)]
pub struct Definition {
    /// Unique within the service.
    pub id: CheckId,
    /// For people.
    pub name: Option<Arc<str>>,
    /// For people; never changed by results.
    pub notes: Option<Arc<str>>,
    /// How to ask.
    pub probe: Arc<Probe>,
    /// When to ask.
    pub schedule: Schedule,
    /// How many results in a row change the status.
    pub thresholds: Thresholds,
    /// The share of probes that should succeed, for the error budget; 0.99 is 99 %.
    pub slo_objective: f64,
}

impl Definition {
    /// The share of probes that should succeed if nothing is said of it.
    pub const DEFAULT_OBJECTIVE: f64 = 0.99;

    /// Whether another asks for the same: at a glance if it is this one itself.
    fn is_same_as(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || **self == **other
    }
}

/// An instance with what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// The instance.
    pub instance: Instance,
    /// The checks asked of it; their ids differ.
    pub checks: Vec<Assigned>,
}

/// A check asked of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// What is asked.
    pub definition: Arc<Definition>,
    /// Where, if not at the instance's own endpoint (a Consul check names its own address).
    pub endpoint: Option<Endpoint>,
    /// The check's id in the Consul API, if it was given one; otherwise `instance:check`.
    pub consul_id: Option<Arc<str>>,
    /// What consumers are told of it before the first result; if unknown, that it is critical.
    pub initial: Verdict,
}

/// All checks of one id and protocol within a service: what histograms are kept by.
#[derive(Debug)]
pub struct Class {
    /// The metric labels `check`, `service_name` and `protocol`, written out.
    pub labels: Box<str>,
    /// The counts over all its checks.
    pub slot: ClassSlot,
}

/// One check of one instance: what it is, how to ask, and what is known.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub key: CheckKey,
    /// The instance asked.
    pub instance: Arc<Instance>,
    /// What is asked.
    pub definition: Arc<Definition>,
    /// The check's id in the Consul API, if it was given one.
    pub consul_id: Option<Arc<str>>,
    /// What consumers are told of it before the first result, if that is known.
    pub initial: Verdict,
    /// The class it is counted in.
    pub class: Arc<Class>,
    /// The probe, aimed.
    pub target: Target,
    /// What is known.
    pub slot: Slot,
}

impl Check {
    /// The id that the Consul API shows.
    pub fn public_id(&self) -> Cow<'_, str> {
        match &self.consul_id {
            Some(id) => Cow::Borrowed(id),
            None => Cow::Owned(self.key.to_string()),
        }
    }

    fn same_as(&self, instance: &Instance, assigned: &Assigned) -> bool {
        *self.instance == *instance
            && self.definition.is_same_as(&assigned.definition)
            && self.consul_id == assigned.consul_id
            && *self.target.endpoint() == *endpoint_of(instance, assigned)
    }

    /// Whether what is known of this check is true of the other as well: they ask the same
    /// service at the same place by the same protocol.
    fn same_target_as(&self, other: &Self) -> bool {
        self.instance.service == other.instance.service
            && self.target.endpoint() == other.target.endpoint()
            && self.target.protocol() == other.target.protocol()
    }

    /// Whether a probe of this check answers what the other asks.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.same_target_as(other) && self.definition.probe == other.definition.probe
    }
}

fn endpoint_of<'a>(instance: &'a Instance, assigned: &'a Assigned) -> &'a Endpoint {
    assigned.endpoint.as_ref().unwrap_or(&instance.endpoint)
}

/// How much a new list differed from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Difference {
    /// Instances that are new.
    pub registered: usize,
    /// Instances that are gone.
    pub deregistered: usize,
    /// Instances that stayed with other attributes or checks.
    pub changed: usize,
}

/// There is no such instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instance {0:?}")]
pub struct UnknownInstance(pub String);

/// Who listed an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The configuration, which lists all its instances at once.
    #[default]
    Config,
    /// Whoever registered it through the API.
    Api,
}

/// An instance and the checks asked of it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Who listed it.
    pub source: Source,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its checks, by id.
    pub checks: Vec<Arc<Check>>,
    /// Why it is out of service, on its own account or with the node, if it is.
    pub maintenance: Option<Arc<str>>,
}

impl Listed {
    /// Maintenance if it is out of service; else the worst status of its checks; passing if it has
    /// none, as Consul has it.
    pub fn status(&self) -> Status {
        match self.maintenance {
            Some(_) => Status::Maintenance,
            None => judge::worst(self.checks.iter().map(|check| check.slot.status())),
        }
    }
}

/// The set of all instances and checks.
#[derive(Debug)]
pub struct Registry {
    state: RwLock<State>,
    remembered: std::sync::Mutex<Snapshot>,
    version: watch::Sender<u64>,
    news: News,
    outbox: Outbox,
}

impl Registry {
    /// An empty registry that sends its orders to `orders` and lets checks go on from where
    /// `remembered` left them when they are registered again.
    pub fn new(remembered: Snapshot, orders: Orders) -> Self {
        let state = State::new(remembered.maintenance().clone());
        Self {
            state: RwLock::new(state),
            remembered: std::sync::Mutex::new(remembered),
            version: watch::Sender::new(1),
            news: News::default(),
            outbox: Outbox::new(orders),
        }
    }

    /// Lets checks that are registered from now on go on from these states, or begin anew where
    /// there is none.
    pub fn remember(&self, checks: impl IntoIterator<Item = (CheckKey, Option<Known>)>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.correct(checks);
    }

    /// Puts everything back into service, before anything is registered.
    pub fn forget_maintenance(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.maintenance = Maintained::default();
    }

    /// Takes these out of service with their reasons, before any of them is registered.
    pub fn take_out(
        &self,
        node: Option<Arc<str>>,
        instances: impl IntoIterator<Item = (InstanceId, Arc<str>)>,
    ) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if node.is_some() {
            state.maintenance.node = node;
        }
        for (instance, reason) in instances {
            state.maintenance.set(&instance, Some(reason));
        }
    }

    /// Makes the registry hold exactly these registrations of the configuration's, beside those
    /// made through the API. Checks that are the same go on undisturbed; a check that has changed
    /// keeps its status and its counts.
    pub async fn replace(&self, registrations: Vec<Registration>) -> Difference {
        let difference = {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let (difference, orders) = state.replace(registrations, &mut remembered);
            self.outbox.leave(orders);
            remembered.shrink();
            difference
        };
        self.flush().await;
        difference
    }

    /// Registers one instance, in place of the one with the same id if there is one. Checks that
    /// are the same go on undisturbed. One of the configuration's goes when the configuration does
    /// not list it any more.
    ///
    /// Who asks is told of it by [`Registry::flush`].
    pub fn put(&self, registration: Registration, source: Source) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.outbox.leave(state.put(registration, source, &mut remembered));
        remembered.shrink();
    }

    /// Deregisters an instance. Who asks is told of it by [`Registry::flush`].
    pub fn remove(&self, id: &InstanceId) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.outbox.leave(state.remove(id));
    }

    /// Waits until those who ask have been told of all that was changed before.
    pub async fn flush(&self) {
        self.outbox.send().await;
        self.touch();
    }

    /// The checks whose results those who are told have not heard of yet.
    pub const fn news(&self) -> &News {
        &self.news
    }

    /// Takes an instance out of service with a reason, or puts it back with none. It stays so
    /// over restarts.
    pub async fn maintain(
        &self,
        instance: &str,
        reason: Option<Arc<str>>,
    ) -> Result<(), UnknownInstance> {
        let unknown = || UnknownInstance(instance.to_owned());
        let id: InstanceId = instance.parse().map_err(|_| unknown())?;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let held = state.instances.get(id.as_str()).cloned().ok_or_else(unknown)?;
            state.maintenance.set(&id, reason.clone());
            self.outbox.leave(state.maintenance_orders([&held], reason));
        }
        self.flush().await;
        Ok(())
    }

    /// Takes the whole node out of service with a reason, or puts it back with none.
    pub async fn maintain_node(&self, reason: Option<Arc<str>>) {
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.maintenance.node.clone_from(&reason);
            self.outbox.leave(state.maintenance_orders(state.instances.values(), reason));
        }
        self.flush().await;
    }

    /// Has a check asked at once, beyond its schedule. Says whether there is such a check that is
    /// asked.
    pub async fn recheck(&self, key: &CheckKey) -> bool {
        let is_asked =
            self.check(key).is_some_and(|check| check.definition.probe.pushed().is_none());
        if is_asked {
            self.outbox.leave(vec![Order::Recheck(key.clone())]);
            self.flush().await;
        }
        is_asked
    }

    /// Why the whole node is out of service, if it is.
    pub fn node_maintenance(&self) -> Option<Arc<str>> {
        self.read().maintenance.node.clone()
    }

    /// Why an instance is out of service on its own account, if it is.
    pub fn maintenance(&self, instance: &InstanceId) -> Option<Arc<str>> {
        self.read().maintenance.get(instance)
    }

    /// All instances, by service name and id.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.read();
        let all = state.services.values().flatten();
        all.filter_map(|instance| state.listed(instance.0.id.as_str())).collect()
    }

    /// All checks, by service name, instance and id.
    pub fn checks(&self) -> Vec<Arc<Check>> {
        let state = self.read();
        let all = state.services.values().flatten();
        let held = all.filter_map(|instance| state.instances.get(instance));
        held.flat_map(|held| &held.checks).cloned().collect()
    }

    /// The names of all services.
    pub fn services(&self) -> Vec<ServiceName> {
        self.read().services.keys().cloned().collect()
    }

    /// The instances of a service by id; none if there is no such service.
    pub fn service(&self, name: &str) -> Vec<Listed> {
        let Ok(name) = name.parse::<ServiceName>() else { return Vec::new() };
        let state = self.read();
        let all = state.services.get(&name).into_iter().flatten();
        all.filter_map(|instance| state.listed(instance.0.id.as_str())).collect()
    }

    /// One instance.
    pub fn instance(&self, id: &str) -> Option<Listed> {
        self.read().listed(id)
    }

    /// Whether any instance is the configuration's.
    pub fn is_configured(&self) -> bool {
        self.read().instances.values().any(|held| held.source == Source::Config)
    }

    /// All checks, by service name, instance and id, some at a time: for what takes long.
    pub const fn walk(&self) -> Walk<'_> {
        Walk::new(self)
    }

    /// Looks at every check, quickly: nobody can be registered meanwhile.
    pub fn each_check(&self, mut look: impl FnMut(&Check)) {
        let state = self.read();
        let checks = state.instances.values().flat_map(|held| &held.checks);
        checks.for_each(|check| look(check));
    }

    /// Whether there is an instance of this id.
    pub fn has(&self, id: &InstanceId) -> bool {
        self.read().instances.contains_key(id.as_str())
    }

    /// One check.
    pub fn check(&self, key: &CheckKey) -> Option<Arc<Check>> {
        let state = self.read();
        let checks = &state.instances.get(key.instance.as_str())?.checks;
        checks.iter().find(|check| check.key == *key).cloned()
    }

    /// A number that grows with every change of the set of checks or of a status; to wait on.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Lets [`Registry::version`] grow.
    pub fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Writes all that should survive a restart to a data directory. Between some checks and the next
    /// it calls `rest`, which may wait: what is written of each check is as new as can be.
    pub fn save(&self, directory: &Path, mut rest: impl FnMut()) -> Result<(), snapshot::Error> {
        let maintenance = self.read().maintenance.clone();
        let parts = self.walk().inspect(|_| rest());
        snapshot::save(parts.flatten(), &maintenance, directory)
    }

    /// All that should survive a restart.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.checks(), self.read().maintenance.clone())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
