//! From what is observed to what consumers are told.
//!
//! Prober threads leave word of checks that have changed ([`crate::registry::News`]); here their
//! rows are brought up to date, many in one write. A change of status goes out at once. Output
//! alone goes out every [`SAY_EVERY`], so that a check that says something else each time does not
//! wake everybody each time.
//!
//! What goes out passes the guard and the damping ([`crate::publish`]), which may hold it as it is.
//! What is held is decided again every [`RECONSIDER`].

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Agent, brakes::Told, key, rows};
use crate::{
    clock,
    judge::Verdict,
    model::{CheckKey, Status},
    registry,
    store::{
        Key, Tx, Unwritten,
        row::{Check, Health, Note},
    },
};

/// How often the output of checks whose status stays is brought up to date.
pub const SAY_EVERY: Duration = Duration::from_secs(5);

/// How often it is decided again what is held.
pub const RECONSIDER: Duration = Duration::from_secs(1);

/// Rows written in one go.
const CHUNK: usize = 1000;

/// How long to wait before writing again what could not be written.
const RETRY: Duration = Duration::from_secs(1);

impl Agent {
    /// Publishes what is observed until `stop`, and then what is left.
    pub async fn publish(self: Arc<Self>, stop: CancellationToken) {
        let (mut say, mut reconsider) = (interval(SAY_EVERY), interval(RECONSIDER));
        reconsider.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let news = self.registry.news();
        loop {
            let (mut keys, is_over) = tokio::select! {
                biased;
                () = stop.cancelled() => (news.take_said(), true),
                _ = say.tick() => (news.take_said(), false),
                // Before what is new, which may come without pause: no hold may outlast its bound.
                _ = reconsider.tick(), if !self.brakes.is_idle() => (self.pending(), false),
                () = news.wait() => (Vec::new(), false),
            };
            keys.append(&mut news.take_changed());
            if let Err((error, left)) = self.tell(keys).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "Status not published; will try again"
                );
                for key in &left {
                    news.changed(key);
                }
                if !is_over {
                    // What is told meanwhile may wait as well: it would fail likewise.
                    drop(timeout(RETRY, stop.cancelled()).await);
                }
            }
            if is_over {
                return;
            }
        }
    }

    /// Publishes what is known of these checks now. Returns those that could not be.
    pub async fn tell(&self, keys: Vec<CheckKey>) -> Result<(), (Unwritten, Vec<CheckKey>)> {
        let mut left = keys;
        self.brakes.begin();
        while !left.is_empty() {
            let rest = left.split_off(left.len().min(CHUNK));
            let (mut told, mut dead) = (Vec::new(), Vec::new());
            let written = self.store.write(|tx| {
                // Looked up here, where nobody registers anything else under the name meanwhile.
                let checks = left.iter().filter_map(|key| self.registry.check(key));
                let mut changed = 0;
                for check in checks {
                    let Some(status) = self.update(tx, &check, &mut told) else { continue };
                    changed += 1;
                    if status == Health::Critical {
                        dead.extend(check.slot.last_sign());
                    }
                }
                Ok::<_, Unwritten>(changed)
            });
            let written = written.await;
            self.tell_of_brakes(told);
            if written.as_ref().is_ok_and(|changed| *changed > 0) {
                self.registry.touch();
                let now = clock::now();
                for last in dead {
                    self.metrics.told(now.since(last));
                }
            }
            if let Err(error) = written {
                left.extend(rest);
                return Err((error, left));
            }
            left = rest;
        }
        Ok(())
    }

    /// What is held and what flaps, to be decided again. What is gone is forgotten.
    fn pending(&self) -> Vec<CheckKey> {
        self.brakes.begin();
        let (there, gone): (Vec<_>, Vec<_>) =
            (self.brakes.pending().into_iter()).partition(|key| self.registry.check(key).is_some());
        for key in &gone {
            self.brakes.forget(key);
        }
        self.brakes.bury(|instance| !self.registry.has(instance));
        self.tell_of_brakes(Vec::new());
        there
    }

    /// Makes a check's row say what is known of it, as far as consumers may be told. Says
    /// which other status they are told, if they are.
    fn update(
        &self,
        tx: &mut Tx<'_>,
        check: &registry::Check,
        told: &mut Vec<Told>,
    ) -> Option<Health> {
        let facts = check.slot.read();
        let held = tx.check(&self.node, &check.public_id()).cloned();
        // A check that is being registered again elsewhere is told of from there.
        let held = held.filter(|held| key(held).as_ref() == Some(&check.key))?;
        let name: Arc<str> = rows::mark_name(&held.id).into();
        match rows::mark(&facts) {
            Some(mark) => drop(tx.put(Note { name, text: mark.into(), ..Note::default() })),
            None => drop(tx.delete(Key::Note(name))),
        }
        if facts.verdict == Verdict::Unknown {
            // What was held under its name was another check.
            self.brakes.forget(&check.key);
            return None;
        }
        let decision = self.brakes.decide(tx, (check, &facts), &held, told);
        let status = rows::health(decision.status)?;
        let output: Arc<str> = match (rows::output(check, &facts), facts.stale) {
            (Some(said), false) => said.into(),
            (said, true) => {
                let said = said.unwrap_or_else(|| rows::without_note(&held.output).to_owned());
                rows::with_note(&said, facts.last_conclusive).into()
            }
            (None, false) => rows::without_note(&held.output).into(),
        };
        let output = match decision.held {
            Some(brake) => rows::with_hold(&output, brake).into(),
            None => output,
        };
        let since = match status == held.status {
            true => held.since,
            // Below maintenance the verdict changes and the status does not.
            false if facts.status == Status::Maintenance => tx.now().millis(),
            false => facts.changed.unwrap_or_else(|| tx.now()).millis(),
        };
        // One that has never been judged and is held goes on as one that has not.
        let judged = held.judged || decision.held.is_none();
        let changed = (status != held.status).then(|| status.clone());
        tx.put(Check { status, judged, since, output, ..Check::clone(&held) });
        changed
    }
}
