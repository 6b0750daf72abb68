//! From what is observed to what consumers are told.
//!
//! Prober threads leave word of checks that have changed ([`crate::registry::News`]); here their
//! rows are brought up to date, many in one write. A change of status goes out at once. Output
//! alone goes out every [`SAY_EVERY`], so that a check that says something else each time does not
//! wake everybody each time.

use std::{sync::Arc, time::Duration};

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Agent, rows};
use crate::{
    model::CheckKey,
    registry,
    store::{
        Key, Tx, Unwritten,
        row::{Check, Note},
    },
};

/// How often the output of checks whose status stays is brought up to date.
pub const SAY_EVERY: Duration = Duration::from_secs(5);

/// Rows written in one go.
const CHUNK: usize = 1000;

/// How long to wait before writing again what could not be written.
const RETRY: Duration = Duration::from_secs(1);

impl Agent {
    /// Publishes what is observed until `stop`, and then what is left.
    pub async fn publish(self: Arc<Self>, stop: CancellationToken) {
        let mut say = interval(SAY_EVERY);
        let mut unwritten = Vec::new();
        loop {
            let news = self.registry.news();
            let is_over = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = news.wait() => false,
                _ = say.tick() => {
                    unwritten.append(&mut news.take_said());
                    self.ask_left().await;
                    false
                }
            };
            unwritten.append(&mut news.take_changed());
            if let Err((error, left)) = self.tell(std::mem::take(&mut unwritten)).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "Status not published; will try again"
                );
                unwritten = left;
                if !is_over {
                    tokio::time::sleep(RETRY).await;
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
        while !left.is_empty() {
            let rest = left.split_off(left.len().min(CHUNK));
            let checks: Vec<_> = left.iter().filter_map(|key| self.registry.check(key)).collect();
            let written = self.store.write(|tx| {
                checks.iter().for_each(|check| self.update(tx, check));
                Ok::<_, Unwritten>(())
            });
            if let Err(error) = written.await {
                left.extend(rest);
                return Err((error, left));
            }
            left = rest;
        }
        Ok(())
    }

    /// Makes a check's row say what is known of it.
    fn update(&self, tx: &mut Tx<'_>, check: &registry::Check) {
        let facts = check.slot.read();
        let Some(held) = tx.check(&self.node, &check.public_id()).cloned() else { return };
        let name: Arc<str> = rows::mark_name(&held.id).into();
        match rows::mark(facts.verdict, facts.streak) {
            Some(mark) => drop(tx.put(Note { name, text: mark.into(), ..Note::default() })),
            None => drop(tx.delete(Key::Note(name))),
        }
        let Some(status) = rows::health(facts.verdict) else { return };
        let output = match (rows::output(check, &facts), facts.stale) {
            (Some(said), false) => said.into(),
            (said, true) => {
                let said = said.unwrap_or_else(|| rows::without_note(&held.output).to_owned());
                rows::with_note(&said, facts.last_started).into()
            }
            (None, false) => Arc::clone(&held.output),
        };
        let since = match status == held.status {
            true => held.since,
            false => facts.changed.unwrap_or_else(|| tx.now()).millis(),
        };
        tx.put(Check { status, output, since, judged: true, ..Check::clone(&held) });
    }
}
