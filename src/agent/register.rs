//! Registering and deregistering through the API.
//!
//! A registration is written to the store first, with what is needed to ask it again after a
//! restart, and scheduled when it is on disk. Everything that is scheduled is made from the rows,
//! so that a restart finds what a registration left.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};

use super::{Agent, pushed::Heard, rows, vet};
use crate::{
    consul::{CheckDefinition, Kind, Naming, Programs, ServiceDefinition},
    model::{CheckId, CheckKey, InstanceId},
    registry::{Assigned, Registration},
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

impl Agent {
    /// Registers an instance with its checks, in place of the one with the same id. Checks that are
    /// there already keep their status; so do those not mentioned, unless the terms say otherwise.
    pub async fn register(
        &self,
        definition: &ServiceDefinition,
        terms: Terms,
    ) -> Result<(), Refused> {
        vet::service(definition)?;
        let row = rows::registered(&self.node, definition, terms.token)
            .ok_or_else(|| Refused::Invalid("Missing service name".to_owned()))?;
        let checks = self.definitions(definition, &row)?;
        let (is_new, conflict) = self
            .change(&row.id, |tx| {
                let held = tx.instance(&self.node, &row.id).cloned();
                let conflict =
                    held.as_deref().filter(|held| !rows::same_owner(held, &row)).map(place);
                if let Some(place) = conflict.clone().filter(|_| terms.respects_owner) {
                    return Err(Refused::Owned { id: row.id.to_string(), place });
                }
                tx.put(Service {
                    origin: rows::origin(held.as_deref().map(|s| s.origin)),
                    ..row.clone()
                });
                let mentioned: HashSet<&str> = checks.iter().map(|c| &*c.1.id).collect();
                if terms.replaces_checks {
                    self.drop_checks(tx, &row.id, &mentioned);
                }
                let mut taken = runs(tx, &self.node, &row.id, &mentioned);
                for (definition, naming) in &checks {
                    self.put_check(tx, (definition, naming), &row.id, &mut taken)?;
                }
                Ok((held.is_none(), conflict))
            })
            .await?;
        if let Some(place) = conflict {
            self.report_conflict(&row, &place);
        }
        if is_new {
            self.metrics.registrations.with_label_values(&["register"]).inc();
        }
        Ok(())
    }

    /// Registers a check of an instance, or of the node if it names none.
    pub async fn register_check(&self, definition: &CheckDefinition) -> Result<(), Refused> {
        let name = definition.name.clone();
        let name = name.ok_or_else(|| Refused::Invalid("Missing check name".to_owned()))?;
        vet::check(definition)?;
        let id = definition.id.as_ref().map_or(name.as_str(), CheckId::as_str).to_owned();
        let naming = Naming { id, name };
        let service = definition.service_id.as_ref().map_or("", InstanceId::as_str);
        let moved_from = self
            .change(service, |tx| {
                if !service.is_empty() && tx.instance(&self.node, service).is_none() {
                    return Err(Refused::NoSuchService(service.to_owned()));
                }
                let held = tx.check(&self.node, &naming.id).map(|held| Arc::clone(&held.service));
                let mentioned = HashSet::from([naming.id.as_str()]);
                let mut taken = runs(tx, &self.node, service, &mentioned);
                self.put_check(tx, (definition, &naming), service, &mut taken)?;
                Ok(held.filter(|held| **held != *service))
            })
            .await?;
        if let Some(before) = moved_from {
            self.schedule(&before).await;
        }
        Ok(())
    }

    /// Deregisters an instance with its checks.
    pub async fn deregister(&self, id: &str) -> Result<(), Refused> {
        self.change(id, |tx| {
            let held = tx.instance(&self.node, id).filter(|held| held.origin.is_local());
            held.ok_or_else(|| Refused::UnknownService(id.to_owned()))?;
            self.drop_instance(tx, id);
            Ok::<_, Refused>(())
        })
        .await?;
        self.metrics.registrations.with_label_values(&["deregister"]).inc();
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
        let key = {
            let tables = self.store.read();
            let held = tables.check(&self.node, id).filter(|held| held.origin.is_local());
            let held = held.ok_or_else(|| Refused::UnknownCheck(id.to_owned()))?;
            let no_ttl = || Refused::NoTtl(id.to_owned());
            if &*held.kind != "ttl" {
                return Err(no_ttl());
            }
            let instance = rows::instance_id(&held.service).parse().map_err(|_| no_ttl())?;
            CheckKey { instance, check: held.run.parse().map_err(|_| no_ttl())? }
        };
        let (heard, taken) = Heard::new(key.clone(), status.clone(), output);
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

    /// The checks of a definition with their names.
    fn definitions<'a>(
        &self,
        definition: &'a ServiceDefinition,
        row: &Service,
    ) -> Result<Vec<(&'a CheckDefinition, Naming)>, Refused> {
        let count = definition.all_checks().count();
        let mut checks = Vec::with_capacity(count);
        for (index, check) in definition.all_checks().enumerate() {
            vet::check(check)?;
            let (Ok(id), Ok(name)) = (row.id.parse(), row.name.parse()) else { continue };
            let mut naming = Naming::within(&id, &name, index, count);
            if let Some(id) = &check.id {
                naming.id = id.to_string();
            }
            if let Some(name) = &check.name {
                naming.name.clone_from(name);
            }
            checks.push((check, naming));
        }
        Ok(checks)
    }

    /// Puts a check's row, which keeps the status of the one with the same id.
    fn put_check(
        &self,
        tx: &mut Tx<'_>,
        (definition, naming): (&CheckDefinition, &Naming),
        service: &str,
        taken: &mut HashSet<Arc<str>>,
    ) -> Result<(), Refused> {
        let held = tx.check(&self.node, &naming.id).cloned();
        let assigned = assigned(definition, naming, self.programs())?;
        let run = match held.as_deref().filter(|held| *held.service == *service) {
            Some(held) if !held.run.is_empty() => Arc::clone(&held.run),
            _ => free(assigned.definition.id.as_str(), taken),
        };
        taken.insert(Arc::clone(&run));
        let row = rows::registered_check(&self.node, (definition, naming), &assigned, tx.now());
        let row = Check { service: service.into(), run, ..row };
        tx.put(rows::going_on(row, held.as_deref()));
        Ok(())
    }

    /// Deletes the checks of an instance except these and its maintenance.
    fn drop_checks(&self, tx: &mut Tx<'_>, service: &str, kept: &HashSet<&str>) {
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

    fn drop_check(&self, tx: &mut Tx<'_>, id: &str) {
        tx.delete(Key::Note(rows::mark_name(id).into()));
        tx.delete(Key::Check(Arc::clone(&self.node), id.into()));
    }

    /// Changes the rows of an instance and has it asked as they say, also if the change could not
    /// be put on disk: whoever wrote at the same time may have had it asked as this change would
    /// have it. Should the caller go away meanwhile, it is asked by [`Agent::ask_left`].
    pub(super) async fn change<T, E: From<Unwritten>>(
        &self,
        service: &str,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut unasked = None;
        let changed = self.store.write(|tx| {
            let changed = change(tx)?;
            unasked = Some(Unasked { agent: self, service, is_asked: false });
            Ok(changed)
        });
        let changed = changed.await;
        if let Some(mut unasked) = unasked {
            self.schedule(service).await;
            unasked.is_asked = true;
        }
        changed
    }

    /// Has those instances asked whose change somebody wanted who did not stay for it.
    pub(super) async fn ask_left(&self) {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for service in left {
            self.schedule(&service).await;
        }
    }

    /// Has an instance asked as its rows say; the node itself if the id is empty. Whatever order
    /// changes are made in, the last to have it asked finds what the last of them left.
    pub(super) async fn schedule(&self, service: &str) {
        let Ok(id) = rows::instance_id(service).parse::<InstanceId>() else { return };
        let _asking = self.asking.lock().await;
        let registration = {
            let tables = self.store.read();
            self.registration(&tables, service)
        };
        match registration {
            Some(registration) => self.registry.put(registration).await,
            None => self.registry.remove(&id).await,
        }
    }

    /// What the rows of an instance say is to be asked; nothing if it is not there.
    pub(super) fn registration(&self, tables: &Tables, service: &str) -> Option<Registration> {
        let instance = if service.is_empty() {
            rows::node_instance(tables.node(&self.node)?)?
        } else {
            let row = tables.instance(&self.node, service).filter(|row| row.origin.is_local())?;
            rows::instance(row, tables.node(&self.node)?)?
        };
        let held = self.registry.instance(instance.id.as_str());
        let rows: Vec<_> = if service.is_empty() {
            tables.node_checks(&self.node).filter(|check| check.service.is_empty()).collect()
        } else {
            tables.instance_checks(&self.node, service).collect()
        };
        let checks: Vec<Assigned> = rows
            .into_iter()
            .filter(|row| !row.run.is_empty())
            .filter_map(|row| again(row, self.programs()).or_else(|| from(held.as_ref()?, row)))
            .collect();
        if service.is_empty() && checks.is_empty() {
            return None;
        }
        Some(Registration { instance, checks })
    }

    /// Has everything asked that was registered through the API before a restart.
    pub(super) async fn resume(&self) {
        let ids: Vec<Arc<str>> = {
            let tables = self.store.read();
            let of_api = tables.instances_on(&self.node).filter(|row| row.origin == Origin::Agent);
            of_api.map(|row| Arc::clone(&row.id)).chain(std::iter::once("".into())).collect()
        };
        for id in ids {
            self.schedule(&id).await;
        }
    }
}

/// An instance that has been changed and is still asked as it was.
struct Unasked<'a> {
    agent: &'a Agent,
    service: &'a str,
    is_asked: bool,
}

impl Drop for Unasked<'_> {
    fn drop(&mut self) {
        if !self.is_asked {
            let mut left = self.agent.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push(self.service.into());
        }
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
        .assigned(naming, programs)
        .map_err(|invalid| Refused::Invalid(format!("Invalid check: {}", invalid.message)))
}

/// A check as it was registered.
fn again(row: &Check, programs: Programs) -> Option<Assigned> {
    let definition: CheckDefinition = serde_json::from_str(&row.definition).ok()?;
    let naming = Naming { id: row.id.to_string(), name: row.name.to_string() };
    let mut assigned = assigned(&definition, &naming, programs).ok()?;
    let run = row.run.parse().ok()?;
    Arc::get_mut(&mut assigned.definition)?.id = run;
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

/// The names by which checks of an instance are run, but for these.
fn runs(tables: &Tables, node: &str, service: &str, but: &HashSet<&str>) -> HashSet<Arc<str>> {
    let others: Vec<_> = if service.is_empty() {
        tables.node_checks(node).collect()
    } else {
        tables.instance_checks(node, service).collect()
    };
    let others = others.into_iter().filter(|check| !but.contains(&*check.id));
    others.map(|check| Arc::clone(&check.run)).collect()
}

/// A name that is not taken.
fn free(base: &str, taken: &HashSet<Arc<str>>) -> Arc<str> {
    if !taken.contains(base) {
        return base.into();
    }
    let mut numbered = (2_u32..).map(|n| Arc::<str>::from(format!("{base}-{n}")));
    numbered.find(|name| !taken.contains(name)).unwrap_or_else(|| base.into())
}
