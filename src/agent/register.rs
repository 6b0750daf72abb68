//! Registering and deregistering through the API.
//!
//! A registration is written to the store first, with what is needed to ask it again after a
//! restart, and scheduled when it is on disk. Everything that is scheduled is made from the rows,
//! so that a restart finds what a registration left.

use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashSet},
    sync::{Arc, PoisonError},
};

use super::{Agent, key, known, pushed::Heard, rows, rows::Given, sidecar, vet};
use crate::{
    consul::{
        self, CheckDefinition, Kind, Naming, Programs, ServiceDefinition, sidecar_id, sidecar_of,
    },
    model::{CheckId, InstanceId},
    probe::{Pushed, egress, egress::Origin as Wanted},
    registry::{Assigned, Registration, Source},
    store::{
        Key, Tables, Tx, Unwritten,
        row::{Check, Health, Origin, Service},
    },
};

/// Why something is not registered, or not deregistered. The texts are Consul's where it has one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The definition cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// Programs may not be run for checks registered through the API.
    #[error(
        "Scripts are disabled on this agent from remote calls; to enable, configure \
         'enable_script_checks' to true (here: checks.exec: api)"
    )]
    Scripts,
    /// Checks registered through the API may not go where this one goes.
    #[error("Invalid check: {0}")]
    Denied(egress::Denied),
    /// Nor say what this one says.
    #[error("Invalid check: {0}")]
    Improper(egress::Improper),
    /// There is no such instance.
    #[error(
        "Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name."
    )]
    UnknownService(String),
    /// A check is for an instance that is not there.
    #[error("ServiceID {0:?} does not exist")]
    NoSuchService(String),
    /// There is no such check.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(String),
    /// Results of the check are not pushed.
    #[error("CheckID {0:?} does not have associated TTL")]
    NoTtl(String),
    /// Somebody else has the id.
    #[error(
        "the instance {id:?} is registered at {place} by another owner; deregister it first, use \
         another id, or give both the same meta key \"owner\""
    )]
    Owned {
        /// The id.
        id: String,
        /// Where the one that is there listens.
        place: String,
    },
    /// There is nothing to bring back.
    #[error("no instance {0:?} has been deregistered for being critical in the last 24 hours")]
    NoTombstone(String),
    /// It has come back by itself.
    #[error("an instance {0:?} is registered; deregister it first to bring the one before back")]
    Exists(String),
    /// It could not be put on disk.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
}

/// How a registration is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Checks of the instance that are not in the registration go.
    pub replaces_checks: bool,
    /// Another owner's instance of the same id is left alone, and the registration refused.
    pub respects_owner: bool,
    /// A hash of the token it came with; zero for none.
    pub token: u64,
}

/// An instance that can be put, and its checks with their names.
struct Vetted<'a> {
    row: Service,
    checks: Vec<(&'a CheckDefinition, Naming)>,
}

/// An instance that has been put.
struct Put {
    row: Service,
    /// The ids of its checks.
    checks: Vec<String>,
    is_new: bool,
    /// Where another owner's instance of the same id listened.
    conflict: Option<String>,
    /// The instances that have lost checks to it.
    losers: BTreeSet<Arc<str>>,
}

impl Agent {
    /// Registers an instance with its checks, in place of the one with the same id, and the proxy it
    /// wants beside it: both or neither. Checks that are there already keep their status; so do those
    /// not mentioned, unless the terms say otherwise.
    pub async fn register(
        &self,
        definition: &ServiceDefinition,
        terms: Terms,
    ) -> Result<(), Refused> {
        let vetted = self.vetted(definition, terms)?;
        let all = self
            .store
            .write(|tx| {
                let mut all = vec![self.put_instance(tx, vetted, terms)?];
                let sidecar = definition
                    .sidecar(|id| sidecar::port(tx, &self.node, id))
                    .map_err(|error| Refused::Invalid(error.to_string()))?;
                if let Some(sidecar) = &sidecar {
                    all.push(self.put_instance(tx, self.vetted(sidecar, terms)?, terms)?);
                }
                Ok::<_, Refused>(all)
            })
            .await?;
        for put in all {
            self.go_on(put).await;
        }
        Ok(())
    }

    fn vetted<'a>(
        &self,
        definition: &'a ServiceDefinition,
        terms: Terms,
    ) -> Result<Vetted<'a>, Refused> {
        vet::service(definition)?;
        let row = rows::registered(&self.node, definition, terms.token)
            .ok_or_else(|| Refused::Invalid("Missing service name".to_owned()))?;
        let checks = vet::checks(definition, &row, self.programs())?;
        Ok(Vetted { row, checks })
    }

    /// Puts the rows of an instance and of its checks.
    fn put_instance(
        &self,
        tx: &mut Tx<'_>,
        Vetted { row, checks }: Vetted<'_>,
        terms: Terms,
    ) -> Result<Put, Refused> {
        let held = tx.instance(&self.node, &row.id).cloned();
        let conflict = held.as_deref().filter(|held| !rows::same_owner(held, &row)).map(place);
        if let Some(place) = conflict.clone().filter(|_| terms.respects_owner) {
            self.metrics.registration_conflicts.inc();
            return Err(Refused::Owned { id: row.id.to_string(), place });
        }
        tx.put(rows::answered_for(row.clone(), held.as_deref()));
        if terms.replaces_checks {
            let mentioned: HashSet<&str> = checks.iter().map(|c| &*c.1.id).collect();
            self.drop_checks(tx, &row.id, &mentioned);
        }
        let mut taken = runs(tx, &self.node, &row.id);
        let mut losers = BTreeSet::new();
        for (definition, naming) in &checks {
            let given = Given { definition, naming, unset: "" };
            losers.extend(self.put_check(tx, given, &row.id, &mut taken)?);
        }
        let checks = checks.into_iter().map(|(_, naming)| naming.id).collect();
        Ok(Put { row, checks, is_new: held.is_none(), conflict, losers })
    }

    /// Does what follows when an instance has been put.
    async fn go_on(&self, Put { row, checks, is_new, conflict, losers }: Put) {
        tracing::debug!(instance = &*row.id, service = &*row.name, is_new, "Registered");
        if let Some(place) = conflict {
            self.report_conflict(&row, &place);
        }
        if is_new {
            self.metrics.registrations.with_label_values(&["register"]).inc();
        }
        for loser in losers {
            self.schedule(&loser).await;
        }
        self.schedule(&row.id).await;
        self.renew(checks.iter().map(String::as_str)).await;
    }

    /// Registers a check of an instance, or of the node if it names none.
    pub async fn register_check(&self, definition: &CheckDefinition) -> Result<(), Refused> {
        let name = definition.name.clone();
        let name = name.ok_or_else(|| Refused::Invalid("Missing check name".to_owned()))?;
        let id = definition.id.as_ref().map_or(name.as_str(), CheckId::as_str).to_owned();
        vet::check(definition, &id, self.programs())?;
        let naming = Naming { id, name };
        let service = definition.service_id.as_ref().map_or("", InstanceId::as_str);
        let loser = self
            .store
            .write(|tx| {
                if !service.is_empty() && tx.instance(&self.node, service).is_none() {
                    return Err(Refused::NoSuchService(service.to_owned()));
                }
                let mut taken = runs(tx, &self.node, service);
                let given = Given { definition, naming: &naming, unset: "0s" };
                self.put_check(tx, given, service, &mut taken)
            })
            .await?;
        if let Some(loser) = loser {
            self.schedule(&loser).await;
        }
        self.schedule(service).await;
        self.renew(std::iter::once(naming.id.as_str())).await;
        Ok(())
    }

    /// Deregisters an instance with its checks, and with the proxy it had registered beside it.
    pub async fn deregister(&self, id: &str) -> Result<(), Refused> {
        let sidecar = self
            .store
            .write(|tx| {
                let held = tx.instance(&self.node, id).filter(|held| held.origin.is_local());
                let held = held.ok_or_else(|| Refused::UnknownService(id.to_owned()))?;
                let connect = held.extras.as_ref().and_then(|extras| extras.connect.as_ref());
                let sidecar = connect.and_then(sidecar_of).map(|_| sidecar_id(id));
                self.drop_instance(tx, id);
                if let Some(sidecar) = &sidecar {
                    self.drop_instance(tx, sidecar);
                }
                Ok::<_, Refused>(sidecar)
            })
            .await?;
        tracing::debug!(instance = id, "Deregistered");
        self.metrics.registrations.with_label_values(&["deregister"]).inc();
        self.schedule(id).await;
        if let Some(sidecar) = sidecar {
            self.schedule(&sidecar).await;
        }
        Ok(())
    }

    /// Deregisters a check.
    pub async fn deregister_check(&self, id: &str) -> Result<(), Refused> {
        let service = self
            .store
            .write(|tx| {
                let held = tx.check(&self.node, id).filter(|held| held.origin.is_local());
                let held = held.ok_or_else(|| Refused::UnknownCheck(id.to_owned()))?;
                let service = Arc::clone(&held.service);
                self.drop_check(tx, id);
                Ok::<_, Refused>(service)
            })
            .await?;
        self.schedule(&service).await;
        Ok(())
    }

    /// Takes in what somebody says of a check whose results are pushed. Returns when a status that
    /// has changed by it is on disk.
    pub async fn hear(&self, id: &str, status: Health, output: &str) -> Result<(), Refused> {
        let (key, max_output) = {
            let tables = self.store.read();
            let held = tables.check(&self.node, id).filter(|held| held.origin.is_local());
            let held = held.ok_or_else(|| Refused::UnknownCheck(id.to_owned()))?;
            let key = key(held).filter(|key| {
                let check = self.registry.check(key);
                check.is_some_and(|c| matches!(c.definition.probe.pushed(), Some(Pushed::Ttl(_))))
            });
            (key.ok_or_else(|| Refused::NoTtl(id.to_owned()))?, rows::max_output(held))
        };
        let (heard, taken) = Heard::new(key.clone(), status.clone(), (output, max_output));
        let gone = || Refused::UnknownCheck(id.to_owned());
        self.pushed.send(heard).await.map_err(|_| gone())?;
        taken.await.map_err(|_| gone())?;
        let is_told = {
            let tables = self.store.read();
            tables.check(&self.node, id).is_none_or(|held| held.judged && held.status == status)
        };
        if !is_told {
            self.tell(vec![key]).await.map_err(|(unwritten, _)| unwritten)?;
        }
        Ok(())
    }

    /// Puts a check's row, which keeps the status of the one with the same id. Returns the
    /// instance that has lost it, if it was another's.
    fn put_check(
        &self,
        tx: &mut Tx<'_>,
        given: Given<'_>,
        service: &str,
        taken: &mut HashSet<Arc<str>>,
    ) -> Result<Option<Arc<str>>, Refused> {
        let held = tx.check(&self.node, &given.naming.id).cloned();
        let assigned = assigned(given.definition, given.naming, self.programs())?;
        vet::destination(&assigned, self.egress.get())?;
        let run = match held.as_deref().filter(|held| *held.service == *service) {
            Some(held) if !held.run.is_empty() => Arc::clone(&held.run),
            _ => free(assigned.definition.id.as_str(), taken),
        };
        taken.insert(Arc::clone(&run));
        let row = rows::registered_check(&self.node, (service, run), given, tx.now());
        tx.put(rows::going_on(row, held.as_deref()));
        Ok(held.map(|held| Arc::clone(&held.service)).filter(|before| **before != *service))
    }

    /// Starts the time of heartbeats anew whose checks have been registered again.
    async fn renew(&self, ids: impl Iterator<Item = &str>) {
        let keys: Vec<_> = {
            let tables = self.store.read();
            ids.filter_map(|id| key(tables.check(&self.node, id)?)).collect()
        };
        for key in keys {
            let is_ttl = |check: Arc<crate::registry::Check>| {
                matches!(check.definition.probe.pushed(), Some(Pushed::Ttl(_)))
            };
            if self.registry.check(&key).is_some_and(is_ttl) {
                // Nobody listens only when the daemon stops.
                drop(self.pushed.send(Heard::renewal(key)).await);
            }
        }
    }

    /// Deletes the checks of an instance except these and its maintenance.
    pub(super) fn drop_checks(&self, tx: &mut Tx<'_>, service: &str, kept: &HashSet<&str>) {
        let ids: Vec<_> = tx
            .instance_checks(&self.node, service)
            .filter(|check| !kept.contains(&*check.id) && !check.run.is_empty())
            .map(|check| Arc::clone(&check.id))
            .collect();
        for id in ids {
            self.drop_check(tx, &id);
        }
    }

    /// Deletes an instance with all that hangs on it.
    pub(super) fn drop_instance(&self, tx: &mut Tx<'_>, id: &str) {
        self.drop_checks(tx, id, &HashSet::new());
        tx.delete(Key::Service(Arc::clone(&self.node), id.into()));
    }

    pub(super) fn drop_check(&self, tx: &mut Tx<'_>, id: &str) {
        tx.delete(Key::Note(rows::mark_name(id).into()));
        tx.delete(Key::Check(Arc::clone(&self.node), id.into()));
    }

    /// Has an instance asked as its rows say; the node itself if the id is empty.
    pub(super) async fn schedule(&self, service: &str) {
        let _turn = self.turn.read().await;
        self.take_over(service);
        self.registry.flush().await;
    }

    /// Makes the registry have an instance as its rows say. What is done here rests on the rows
    /// alone: whoever comes last takes over the last of them, whoever wrote it.
    pub(super) fn take_over(&self, service: &str) {
        let _latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(id) = rows::instance_id(service).parse::<InstanceId>() else { return };
        let found = {
            let tables = self.store.read();
            let found = self.registration(&tables, service);
            if found.is_some() {
                self.remind(&tables, run_for(&tables, &self.node, service));
            }
            found
        };
        match found {
            Some((registration, source)) => {
                self.registry.put(registration, source);
                self.say_what_rows_do_not(&id);
            }
            None => self.registry.remove(&id),
        }
    }

    /// Has told what is known of an instance's checks whose rows do not say it: a row that was
    /// deleted and made again while its check went on knows nothing.
    fn say_what_rows_do_not(&self, id: &InstanceId) {
        let Some(listed) = self.registry.instance(id.as_str()) else { return };
        let tables = self.store.read();
        for check in listed.checks {
            self.say_if_unsaid(&tables, &check);
        }
    }

    /// Lets checks that the registry does not have yet go on from what the store knows of them.
    pub(super) fn remind<'a>(
        &self,
        tables: &Tables,
        rows: impl IntoIterator<Item = &'a Arc<Check>>,
    ) {
        let new = rows.into_iter().filter_map(|row| {
            let (key, known) = known(tables, row)?;
            let held = self.registry.check(&key);
            held.is_none_or(|held| *held.public_id() != *row.id).then_some((key, known))
        });
        self.registry.remember(new.collect::<Vec<_>>());
    }

    /// What the rows of an instance say is to be asked, and who listed it; nothing if it is not
    /// there.
    pub(super) fn registration(
        &self,
        tables: &Tables,
        service: &str,
    ) -> Option<(Registration, Source)> {
        let (instance, source) = if service.is_empty() {
            (rows::node_instance(tables.node(&self.node)?)?, Source::Api)
        } else {
            let row = tables.instance(&self.node, service).filter(|row| row.origin.is_local())?;
            let is_configured = row.origin == Origin::Config;
            let source = if is_configured { Source::Config } else { Source::Api };
            (rows::instance(row, tables.node(&self.node)?)?, source)
        };
        let held = LazyCell::new(|| self.registry.instance(instance.id.as_str()));
        let checks: Vec<Assigned> = run_for(tables, &self.node, service)
            .into_iter()
            .filter_map(|row| again(row, self.programs()).or_else(|| from(held.as_ref()?, row)))
            .collect();
        drop(held);
        if service.is_empty() && checks.is_empty() {
            return None;
        }
        Some((Registration { instance, checks }, source))
    }
}

/// Where an instance listens, for people.
fn place(row: &Service) -> String {
    format!("{}:{}", row.address, row.port)
}

/// What a definition means. Its id is the client's own and often another for each instance; what
/// is counted together goes by its name or kind.
fn assigned(
    definition: &CheckDefinition,
    naming: &Naming,
    programs: Programs,
) -> Result<Assigned, Refused> {
    if definition.kind() == Some(Kind::Script) && programs == Programs::Refused {
        return Err(Refused::Scripts);
    }
    let general = CheckDefinition { id: None, ..definition.clone() };
    general
        .assigned_by(Wanted::Api, naming, programs)
        .map_err(|invalid| Refused::Invalid(format!("Invalid check: {}", invalid.message)))
}

/// A check as it was registered.
pub(super) fn again(row: &Check, programs: Programs) -> Option<Assigned> {
    let definition: CheckDefinition = serde_json::from_str(&row.definition).ok()?;
    let naming = Naming { id: row.id.to_string(), name: row.name.to_string() };
    let mut assigned = assigned(&definition, &naming, programs).ok()?;
    Arc::get_mut(&mut assigned.definition)?.id = Arc::clone(&row.run).try_into().ok()?;
    // The same text as the row's, held once.
    assigned.consul_id = Some(Arc::clone(&row.id));
    Some(assigned)
}

/// A check of the configuration, which has no definition in its row, as it is being asked.
fn from(held: &crate::registry::Listed, row: &Check) -> Option<Assigned> {
    let check = held.checks.iter().find(|check| check.key.check.as_str() == &*row.run)?;
    Some(Assigned {
        definition: Arc::clone(&check.definition),
        endpoint: Some(check.target.endpoint().clone()),
        consul_id: check.consul_id.clone(),
        initial: check.initial,
    })
}

/// The checks that are run for an instance; for the node itself if the id is empty.
fn run_for<'a>(tables: &'a Tables, node: &'a str, service: &'a str) -> Vec<&'a Arc<Check>> {
    let is_run = |check: &&Arc<Check>| !check.run.is_empty() && *check.service == *service;
    if service.is_empty() {
        tables.node_checks(node).filter(is_run).collect()
    } else {
        tables.instance_checks(node, service).filter(is_run).collect()
    }
}

/// The names by which checks of an instance are run: those that are registered again keep theirs.
fn runs(tables: &Tables, node: &str, service: &str) -> HashSet<Arc<str>> {
    run_for(tables, node, service).into_iter().map(|check| Arc::clone(&check.run)).collect()
}

/// A name that is not taken.
pub(super) fn free(base: &str, taken: &HashSet<Arc<str>>) -> Arc<str> {
    if !taken.contains(base) {
        return base.into();
    }
    let mut numbered = (2..).map(|n| Arc::<str>::from(consul::numbered(base, n)));
    numbered.find(|name| !taken.contains(name)).unwrap_or_else(|| base.into())
}
