//! The configuration's instances, beside those registered through the API.
//!
//! The configuration says which instances are its own, and puts right at every reload what others
//! have made of them. Checks that others have added to its instances stay.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, MutexGuard, PoisonError},
};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tracing::error;

use super::{
    Agent,
    register::{again, free},
    rows,
};
use crate::{
    registry::{self, Difference, Registration},
    store::{
        Key, Tables, Tx, Unwritten,
        row::{Check, Origin},
    },
};

/// Instances whose rows are written in one go.
const CHUNK: usize = 500;

/// How many of these may wait for the disk together: one sync does for all of them.
const AT_ONCE: usize = 16;

impl Agent {
    /// Takes over the instances of the configuration: exactly these, beside those registered
    /// through the API. They are asked even if they cannot be put on disk; then their rows are owed
    /// ([`Agent::settle`]).
    pub async fn configure(&self, mut registrations: Vec<Registration>) -> Difference {
        let _turn = self.turn.write().await;
        let begun = self.begin(&registrations).await;
        let (losers, owed) = match self.keep(&registrations).await {
            Ok(losers) => (losers, None),
            Err(unwritten) => {
                let error = &unwritten as &dyn std::error::Error;
                error!(error, "Configured instances not stored; will try again");
                (BTreeSet::new(), Some(registrations.clone()))
            }
        };
        *self.owed() = owed;
        let difference = if let Some(difference) = begun {
            difference
        } else {
            self.join_all(&mut registrations);
            self.registry.replace(registrations).await
        };
        for instance in losers {
            self.take_over(&instance);
        }
        self.registry.flush().await;
        self.say_what_is_known();
        difference
    }

    /// Whether rows of the configuration's instances could not be written: consumers are not told of
    /// those that are new, and are told of those that are gone.
    pub fn owes(&self) -> bool {
        self.owed().is_some()
    }

    /// Writes the rows that are owed, if any are.
    pub async fn settle(&self) -> Result<(), Unwritten> {
        let _turn = self.turn.write().await;
        let Some(owed) = self.owed().clone() else { return Ok(()) };
        let losers = self.keep(&owed).await?;
        *self.owed() = None;
        for instance in losers {
            self.take_over(&instance);
        }
        self.registry.flush().await;
        self.say_what_is_known();
        Ok(())
    }

    fn owed(&self) -> MutexGuard<'_, Option<Vec<Registration>>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the configuration's instances asked before they are written, which takes longer than all
    /// else: at a start, where nobody is asked yet and nobody else has added to them. What is found
    /// until the rows are there is told when they are.
    async fn begin(&self, registrations: &[Registration]) -> Option<Difference> {
        let is_simple = {
            let tables = self.store.read();
            let mut rows = registrations.iter().flat_map(|registration| {
                tables.instance_checks(&self.node, registration.instance.id.as_str())
            });
            !self.registry.is_configured() && !rows.any(|row| is_added(row))
        };
        if !is_simple {
            return None;
        }
        Some(self.registry.replace(registrations.to_vec()).await)
    }

    /// Makes the rows of the configuration's instances be exactly these. Returns the instances
    /// that have lost a check to another.
    async fn keep(&self, registrations: &[Registration]) -> Result<BTreeSet<Arc<str>>, Unwritten> {
        let mut gone = self.configured();
        let held: &[Registration] = if gone.is_empty() { &[] } else { registrations };
        for Registration { instance, checks } in held {
            gone.remove(&Key::Service(Arc::clone(&self.node), instance.id.shared()));
            for check in checks {
                let id = rows::public_id(instance, check);
                gone.remove(&Key::Check(Arc::clone(&self.node), id));
            }
        }
        let gone: Vec<_> = gone.into_iter().collect();
        for keys in gone.chunks(CHUNK) {
            self.store
                .write(|tx| {
                    for key in keys {
                        self.drop_configured(tx, key);
                    }
                    Ok::<_, Unwritten>(())
                })
                .await?;
        }
        let mut losers = BTreeSet::new();
        let mut writing = FuturesOrdered::new();
        for some in registrations.chunks(CHUNK) {
            if writing.len() >= AT_ONCE {
                losers.extend(writing.next().await.transpose()?.into_iter().flatten());
            }
            writing.push_back(self.keep_some(some));
        }
        while let Some(more) = writing.next().await.transpose()? {
            losers.extend(more);
        }
        Ok(losers)
    }

    /// Writes the rows of some instances in one go.
    async fn keep_some(&self, some: &[Registration]) -> Result<BTreeSet<Arc<str>>, Unwritten> {
        self.store
            .write(|tx| {
                let mut losers = BTreeSet::new();
                for one in some {
                    self.keep_one(tx, one, &mut losers);
                }
                Ok(losers)
            })
            .await
    }

    fn drop_configured(&self, tx: &mut Tx<'_>, key: &Key) {
        match key {
            Key::Check(_, id) => self.drop_check(tx, id),
            Key::Service(_, id) => {
                self.drop_checks(tx, id, &HashSet::new());
                tx.delete(key.clone());
            }
            Key::Node(_)
            | Key::Pair(_)
            | Key::Session(_)
            | Key::Tombstone(_)
            | Key::Note(_)
            | Key::Coordinate(..) => {}
        }
    }

    fn keep_one(
        &self,
        tx: &mut Tx<'_>,
        Registration { instance, checks }: &Registration,
        losers: &mut BTreeSet<Arc<str>>,
    ) {
        tx.put(rows::service(&self.node, instance));
        let mut taken = HashSet::new();
        for assigned in checks {
            let row = rows::check(&self.node, instance, assigned, tx.now());
            taken.insert(Arc::clone(&row.run));
            let held = tx.check(&self.node, &row.id).cloned();
            let before = held.as_ref().map(|held| Arc::clone(&held.service));
            losers.extend(before.filter(|before| *before != row.service));
            tx.put(rows::going_on(row, held.as_deref()));
        }
        let added = tx.instance_checks(&self.node, instance.id.as_str());
        let added: Vec<_> = added.filter(|row| is_added(row)).cloned().collect();
        for row in added {
            let run = free(&row.run, &taken);
            taken.insert(Arc::clone(&run));
            tx.put(Check::clone(&row).run_as(run));
        }
        let maintenance = self.registry.maintenance(&instance.id);
        self.put_maintenance(tx, instance.id.as_str(), maintenance.as_ref());
    }

    fn join_all(&self, registrations: &mut [Registration]) {
        let tables = self.store.read();
        for registration in registrations {
            self.join(&tables, registration);
        }
    }

    /// Adds the checks to a registration that others have added to its instance.
    fn join(&self, tables: &Tables, registration: &mut Registration) {
        let Registration { instance, checks } = registration;
        let added = tables.instance_checks(&self.node, instance.id.as_str());
        let added: Vec<_> = added.filter(|row| is_added(row)).collect();
        self.remind(tables, added.iter().copied());
        for assigned in added.into_iter().filter_map(|row| again(row, self.programs())) {
            if checks.iter().all(|check| check.definition.id != assigned.definition.id) {
                checks.push(assigned);
            }
        }
    }

    /// The rows that stand for the configuration.
    fn configured(&self) -> BTreeSet<Key> {
        let tables = self.store.read();
        let services = tables.each_instance_on(&self.node);
        let services = services.filter(|row| row.origin == Origin::Config);
        let services =
            services.map(|row| Key::Service(Arc::clone(&self.node), Arc::clone(&row.id)));
        let checks = tables.each_check_on(&self.node).filter(|row| row.origin == Origin::Config);
        let checks = checks.map(|row| Key::Check(Arc::clone(&self.node), Arc::clone(&row.id)));
        services.chain(checks).collect()
    }

    /// Has told what is known of checks whose rows do not say it: those remembered from before
    /// there were rows.
    fn say_what_is_known(&self) {
        let tables = self.store.read();
        self.registry.each_check(|check| self.say_if_unsaid(&tables, check));
    }

    /// Has told what is known of a check if its row does not say it.
    pub(super) fn say_if_unsaid(&self, tables: &Tables, check: &registry::Check) {
        let Some(status) = rows::health(check.slot.read_numbers().verdict) else { return };
        let row = tables.check(&self.node, &check.public_id());
        let row = row.filter(|row| {
            *row.run == *check.key.check.as_str()
                && rows::instance_id(&row.service) == check.key.instance.as_str()
        });
        if row.is_some_and(|row| !row.judged || status != row.status) {
            self.registry.news().changed(&check.key);
        }
    }
}

/// Whether a check of one of the configuration's instances was added by others.
fn is_added(row: &Check) -> bool {
    row.origin == Origin::Agent && !row.run.is_empty()
}
