//! Deregistering instances that have been critical for too long, and bringing them back.
//!
//! Consul lets a definition ask for this. A daemon that is mistaken must not empty a service, so
//! in ten minutes at most a tenth of a service's instances go, though always one, and none as long
//! as more than half of them are critical at once: then it is not the instances, and somebody must
//! look. A service of one instance has no other to compare it with; it goes when its time has come.
//! What operators have taken out stays.
//! Nobody goes while the guard holds failures back or the daemon doubts itself, nor for a status
//! that is only kept critical because it comes and goes: what counts is what is observed. When the
//! wall clock is set, everybody's time begins anew.
//! What is deregistered can be brought back for a day.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Agent, key,
    maintain::{is_out, taken_out},
    register::Refused,
    stale::is_stale,
};
use crate::{
    clock::{self, Ages, Timestamp},
    judge::Verdict,
    model::{Registered, Status},
    store::{
        Key, Tables, Unwritten, folded,
        row::{Check, Health, Service, Tombstone},
    },
};

/// How often it is looked, as in Consul.
const EVERY: Duration = Duration::from_secs(30);

/// How long a deregistered instance can be brought back.
const KEPT: Duration = Duration::from_secs(86_400);

/// One in so many instances of a service may go in one window.
const SHARE: usize = 10;

/// The window. What went within it is known by what can be brought back, also after a restart.
const WINDOW: Duration = Duration::from_secs(600);

/// What is to be done in one round.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    /// Instances to deregister, by id.
    due: Vec<Arc<str>>,
    /// Instances whose time has come, and which are held back.
    held: usize,
    /// Deregistered instances that are forgotten.
    forgotten: Vec<Arc<str>>,
}

impl Agent {
    /// Deregisters what has been critical for too long, until `stop`.
    pub async fn reap(self: Arc<Self>, stop: CancellationToken) {
        let started = clock::now();
        let mut ages = Ages::new(Instant::now(), started);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if ages.look(Instant::now(), clock::now()) {
                warn!(
                    "The wall clock was set; whatever is critical counts as critical from now on"
                );
            }
            if let Err(error) = self.reap_once(started, &ages).await {
                warn!(error = &error as &dyn std::error::Error, "Nothing deregistered");
            }
        }
    }

    /// One round. What was critical before `started` counts from then: while we were away nobody
    /// could be found well again.
    pub(super) async fn reap_once(&self, started: Timestamp, ages: &Ages) -> Result<(), Unwritten> {
        let round = {
            let tables = self.store.read();
            let observed = |check: &Check| self.critical_since(check, ages);
            plan((&tables, &self.node), started, ages, observed)
        };
        let round = if self.brakes.is_in_doubt() { round.paused() } else { round };
        self.metrics.deregistrations_held.set(i64::try_from(round.held).unwrap_or(i64::MAX));
        if round.held > 0 {
            warn!(
                held = round.held,
                "Instances are critical for so long that they would be deregistered, but too much \
                 is critical at once; look at the network, and at this node"
            );
        }
        let forgotten = round.forgotten;
        self.store
            .write(|tx| {
                for id in forgotten {
                    tx.delete(Key::Tombstone(id));
                }
                Ok::<_, Unwritten>(())
            })
            .await?;
        for id in round.due {
            // Each takes a write to the disk, and meanwhile all may have changed.
            if self.brakes.is_in_doubt() {
                break;
            }
            self.expire(&id, started, ages).await?;
        }
        Ok(())
    }

    /// Since when a check is observed to be critical, if it is and that is not too long ago: what was
    /// not asked since, or only in vain by our own fault, may be well again.
    fn critical_since(&self, row: &Check, ages: &Ages) -> Option<Timestamp> {
        let Some(check) = key(row).and_then(|key| self.registry.check(&key)) else {
            return Some(row.since());
        };
        let facts = check.slot.read_numbers();
        match facts.verdict {
            // What nobody has spoken for stands as it was registered; what was not asked yet may be well.
            Verdict::Unknown => check.definition.probe.pushed().map(|_| row.since()),
            Verdict::Critical if is_stale(&check, ages) => None,
            // The last change may be that of an operator who has ended maintenance.
            Verdict::Critical => Some(row.since().max(facts.changed.unwrap_or(row.since()))),
            Verdict::Passing | Verdict::Warning => None,
        }
    }

    /// Deregisters an instance, if it is still critical for too long.
    async fn expire(
        &self,
        id: &Arc<str>,
        started: Timestamp,
        ages: &Ages,
    ) -> Result<(), Unwritten> {
        let gone = self
            .store
            .write(|tx| {
                let Some(service) = tx.instance(&self.node, id).cloned() else { return Ok(None) };
                let observed = |check: &Check| self.critical_since(check, ages);
                let is_overdue = |check: &Check| is_overdue(check, started, ages, observed);
                let is_due = tx.instance_checks(&self.node, id).any(|check| is_overdue(check));
                if !is_due || is_out(tx, &self.node, id) {
                    return Ok(None);
                }
                let checks = tx.instance_checks(&self.node, id);
                let checks = checks.map(|check| Check::clone(check)).collect();
                let service = Service::clone(&service);
                let at = ages.now().millis();
                tx.put(Tombstone { service: service.clone(), checks, at, ..Tombstone::default() });
                self.drop_instance(tx, id);
                Ok::<_, Unwritten>(Some(service))
            })
            .await?;
        if let Some(service) = gone {
            self.metrics.registrations.with_label_values(&["expire"]).inc();
            info!(
                instance = &**id,
                service = &*service.name,
                "Deregistered after being critical for too long; `rollcall undo` brings it back"
            );
            let detail = "critical for longer than its definition allows";
            self.report(&service, (Status::Critical, Status::Unknown), Registered::Expired, detail);
            self.schedule(id).await;
        }
        Ok(())
    }

    /// Brings an instance back that was deregistered for being critical. Its checks stay critical
    /// until they are heard of, and their time begins anew. If it was out, it is out again.
    pub async fn undo(&self, id: &str) -> Result<(), Refused> {
        let turn = self.turn.write().await;
        let tombstone = self
            .store
            .write(|tx| {
                let tombstone = tx.tombstone(id).cloned();
                let tombstone = tombstone.ok_or_else(|| Refused::NoTombstone(id.to_owned()))?;
                if tx.instance(&self.node, id).is_some() {
                    return Err(Refused::Exists(id.to_owned()));
                }
                tx.put(tombstone.service.clone());
                let since = tx.now().millis();
                for check in &tombstone.checks {
                    tx.put(Check { since, ..check.clone() });
                }
                tx.delete(Key::Tombstone(id.into()));
                Ok(tombstone)
            })
            .await?;
        self.registry.take_out(None, taken_out(&tombstone.checks));
        drop(turn);
        self.metrics.registrations.with_label_values(&["restore"]).inc();
        let (service, detail) = (&tombstone.service, "brought back");
        self.report(service, (Status::Unknown, Status::Critical), Registered::Restored, detail);
        self.schedule(id).await;
        Ok(())
    }
}

impl Round {
    /// The same while nobody may go.
    fn paused(self) -> Self {
        Self { held: self.held + self.due.len(), due: Vec::new(), ..self }
    }
}

fn plan(
    (tables, node): (&Tables, &str),
    started: Timestamp,
    ages: &Ages,
    critical_since: impl Fn(&Check) -> Option<Timestamp>,
) -> Round {
    let mut round = Round::default();
    let mut due: BTreeMap<Cow<'_, str>, Vec<(i64, &Arc<str>)>> = BTreeMap::new();
    let local = tables.each_instance_on(node).filter(|row| row.origin.is_local());
    for row in local.filter(|row| !is_out(tables, node, &row.id)) {
        let checks = tables.instance_checks(node, &row.id);
        let overdue = checks.filter(|check| is_overdue(check, started, ages, &critical_since));
        if let Some(since) = overdue.map(|check| check.since).min() {
            due.entry(folded(&row.name)).or_default().push((since, &row.id));
        }
    }
    for (name, mut instances) in due {
        let all = tables.service(&name).count();
        let is_critical = |row: &&Arc<Service>| {
            tables.instance_checks(&row.node, &row.id).any(|c| c.status == Health::Critical)
        };
        let critical = tables.service(&name).filter(is_critical).count();
        if all > 1 && critical * 2 > all {
            round.held += instances.len();
            continue;
        }
        let (gone, missing) = gone(tables, (&name, node), ages);
        instances.sort_unstable();
        instances.truncate(((all + missing) / SHARE).max(1).saturating_sub(gone));
        round.due.extend(instances.into_iter().map(|(_, id)| Arc::clone(id)));
    }
    let is_old = |at: i64| ages.of(Timestamp::from_millis(at)) >= KEPT;
    round.forgotten = tables
        .tombstones()
        .filter(|tombstone| is_old(tombstone.at))
        .map(|tombstone| Arc::clone(&tombstone.service.id))
        .collect();
    round
}

/// How many instances of a service went within the window, and how many of these are not back.
fn gone(tables: &Tables, (service, node): (&str, &str), ages: &Ages) -> (usize, usize) {
    let of_service = tables.tombstones().filter(|gone| folded(&gone.service.name) == service);
    let lately = of_service.filter(|gone| ages.of(Timestamp::from_millis(gone.at)) < WINDOW);
    lately.fold((0, 0), |(gone, missing), tombstone| {
        let is_back = tables.instance(node, &tombstone.service.id).is_some();
        (gone + 1, missing + usize::from(!is_back))
    })
}

/// Whether a check has been critical for so long that its instance may go.
fn is_overdue(
    check: &Check,
    started: Timestamp,
    ages: &Ages,
    critical_since: impl Fn(&Check) -> Option<Timestamp>,
) -> bool {
    let after = Duration::from_secs(check.deregister_after.into());
    check.status == Health::Critical
        && !after.is_zero()
        && critical_since(check).is_some_and(|since| ages.of(since.max(started)) >= after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store,
        row::{CheckShape, Node, Origin, ServiceShape},
    };

    const HOUR: i64 = 3_600_000;

    /// A service `web` of so many instances, of which the first are critical since as many hours as
    /// are given.
    async fn web(instances: usize, critical: &[i64]) -> Store {
        let store = Store::in_memory();
        let written = store.write(|tx| {
            tx.put(Node { name: "n".into(), ..Node::default() });
            for n in 0..instances {
                let id: Arc<str> = format!("web-{n}").into();
                let shape = ServiceShape {
                    node: "n".into(),
                    name: "web".into(),
                    origin: Origin::Agent,
                    ..ServiceShape::default()
                };
                tx.put(Service { id: Arc::clone(&id), shape: shape.into(), ..Service::default() });
                let shape = CheckShape {
                    node: "n".into(),
                    deregister_after: 3600,
                    ..CheckShape::default()
                };
                tx.put(Check {
                    id: format!("service:{id}").into(),
                    service: id,
                    status: critical.get(n).map_or(Health::Passing, |_| Health::Critical),
                    since: -critical.get(n).copied().unwrap_or(0) * HOUR,
                    shape: shape.into(),
                    ..Check::default()
                });
            }
            Ok::<_, Unwritten>(())
        });
        written.await.unwrap();
        store
    }

    /// What is observed is what the row says.
    #[expect(clippy::unnecessary_wraps, reason = "of others it may be nothing")]
    fn seen(check: &Check) -> Option<Timestamp> {
        Some(check.since())
    }

    /// As of the epoch.
    fn ages() -> Ages {
        Ages::new(Instant::now(), Timestamp::from_millis(0))
    }

    async fn planned(instances: usize, critical: &[i64]) -> (usize, usize) {
        let store = web(instances, critical).await;
        let long_ago = Timestamp::from_millis(-1000 * HOUR);
        let round = plan((&store.read(), "n"), long_ago, &ages(), seen);
        (round.due.len(), round.held)
    }

    /// Has further instances of `web` have gone, so many minutes ago each.
    async fn went(store: &Store, minutes: &[i64]) {
        let written = store.write(|tx| {
            for (n, minutes) in minutes.iter().enumerate() {
                let shape = ServiceShape { name: "Web".into(), ..ServiceShape::default() };
                let id = format!("gone-{n}").into();
                let service = Service { id, shape: shape.into(), ..Service::default() };
                let at = -minutes * 60_000;
                tx.put(Tombstone { service, at, ..Tombstone::default() });
            }
            Ok::<_, Unwritten>(())
        });
        written.await.unwrap();
    }

    #[tokio::test]
    async fn no_more_than_a_tenth_of_a_service_goes_in_ten_minutes() {
        for (instances, critical, minutes, due) in [
            (9, 4, &[9][..], 0),
            (9, 4, &[10], 1),
            (1, 1, &[9], 0),
            (40, 12, &[1, 5, 9, 9], 0),
            (36, 12, &[1, 5, 9, 30], 0),
            (37, 12, &[1, 5, 9, 30], 1),
            (50, 12, &[1, 2], 3),
        ] {
            let store = web(instances, &vec![2; critical]).await;
            went(&store, minutes).await;
            let long_ago = Timestamp::from_millis(-1000 * HOUR);
            let round = plan((&store.read(), "n"), long_ago, &ages(), seen);
            assert_eq!((round.due.len(), round.held), (due, 0), "{instances} {minutes:?}");
        }
    }

    #[tokio::test]
    async fn no_more_than_a_tenth_of_a_service_goes_in_one_round() {
        assert_eq!(planned(1, &[1]).await, (1, 0), "one alone goes");
        assert_eq!(planned(1, &[0]).await, (0, 0), "not before its time");
        assert_eq!(planned(10, &[2, 2, 2]).await, (1, 0), "one of ten");
        assert_eq!(planned(40, &[2; 12]).await, (4, 0), "four of forty");
    }

    #[tokio::test]
    async fn none_goes_while_more_than_half_is_critical() {
        assert_eq!(planned(2, &[5, 5]).await, (0, 2));
        assert_eq!(planned(10, &[5; 6]).await, (0, 6));
        assert_eq!(planned(10, &[5, 0, 0, 0, 0, 0]).await, (0, 1), "the young count as critical");
        assert_eq!(planned(10, &[5; 5]).await, (1, 0), "half is not more than half");
    }

    #[tokio::test]
    async fn what_is_observed_to_be_well_does_not_go_and_nobody_while_there_is_doubt() {
        let store = web(10, &[2]).await;
        let round = |seen: fn(&Check) -> Option<Timestamp>| {
            let long_ago = Timestamp::from_millis(-1000 * HOUR);
            plan((&store.read(), "n"), long_ago, &ages(), seen)
        };
        assert_eq!(round(|_| None), Round::default());
        assert_eq!(round(|_| Some(Timestamp::from_millis(-HOUR / 2))), Round::default());
        assert_eq!(round(seen).paused(), Round { held: 1, ..Round::default() });
    }

    #[tokio::test]
    async fn the_longest_critical_goes_first_and_our_absence_does_not_count() {
        let store = web(10, &[2, 7, 3]).await;
        let round = |started| plan((&store.read(), "n"), started, &ages(), seen);
        assert_eq!(round(Timestamp::from_millis(-10 * HOUR)).due, ["web-1".into()]);
        assert_eq!(round(Timestamp::from_millis(-HOUR / 2)), Round::default());
    }

    #[tokio::test]
    async fn a_clock_that_is_set_makes_nobody_critical_for_longer() {
        let store = web(10, &[2]).await;
        let long_ago = Timestamp::from_millis(-1000 * HOUR);
        let round = |ages: &Ages| plan((&store.read(), "n"), long_ago, ages, seen).due.len();
        let (start, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut ages = Ages::new(start, Timestamp::from_millis(-HOUR * 3 / 2));
        assert_eq!(round(&ages), 0, "half an hour");
        ages.look(start, Timestamp::from_millis(30 * HOUR));
        assert_eq!(round(&ages), 0, "a jump is no time");
        ages.look(start + hour, Timestamp::from_millis(31 * HOUR));
        assert_eq!(round(&ages), 1, "an hour is");
        ages.look(start + hour, Timestamp::from_millis(-100 * HOUR));
        assert_eq!(round(&ages), 0);
        ages.look(start + hour * 2, Timestamp::from_millis(-99 * HOUR));
        assert_eq!(round(&ages), 1, "and not for ever, though its time is yet to come");
    }
}
