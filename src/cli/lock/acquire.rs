//! Waiting for a lock: asleep at the daemon until the key changes, not by asking again and again.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use super::store::{Claim, LOCK_FLAGS, Since, Store};

/// The longest single wait.
const WAIT: Duration = Duration::from_secs(60);

/// The wait while a lock-delay runs, of whose end the daemon does not tell, and after an error.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The least time between two reads, whatever the daemon answers.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Whether the lock was to be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acquired {
    /// It is ours. The index is larger than that of any holder before, even if the key was deleted
    /// in between, and smaller than that of any after: the `ModifyIndex`, which is counted over all
    /// keys. (The `LockIndex` starts anew with the key.)
    Index(u64),
    /// It was not free in time, and why.
    Busy(String),
}

/// What one look at the key has brought.
enum Step {
    Held(u64),
    /// It is granted; the next look shows it.
    Granted,
    Taken {
        by: String,
        index: u64,
    },
    /// Nobody holds it and nobody gets it.
    Delayed,
    NoLock {
        flags: u64,
    },
}

/// Waits at most for `patience` until the session holds the key. Goes on through errors while
/// there is time; fails if there is none left, or if the key is not one of a lock.
pub(super) async fn acquire(
    store: &impl Store,
    claim: &Claim,
    patience: Duration,
) -> anyhow::Result<Acquired> {
    let deadline = Instant::now() + patience;
    let mut since = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let started = Instant::now();
        let step = step(store, claim, since.take().map(|index| wait(index, left))).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let busy = match step {
            Ok(Step::Held(index)) => return Ok(Acquired::Index(index)),
            Ok(Step::Granted) => continue,
            Ok(Step::NoLock { flags }) => bail!(
                "{:?} is not a lock: its flags are {flags} and not {LOCK_FLAGS}; it is left as it is",
                claim.key
            ),
            Ok(Step::Taken { by, index }) => {
                since = Some(index);
                // A wait that is no wait must not become a busy loop.
                sleep(PAUSE.saturating_sub(started.elapsed()).min(left)).await;
                format!("session {by} holds it")
            }
            Ok(Step::Delayed) => {
                sleep(RETRY.min(left)).await;
                "its lock-delay is not over".to_owned()
            }
            Err(error) if left.is_zero() => return Err(error),
            Err(_) => {
                sleep(RETRY.min(left)).await;
                continue;
            }
        };
        if left.is_zero() {
            return Ok(Acquired::Busy(busy));
        }
    }
}

fn wait(index: u64, left: Duration) -> Since {
    Since { index, wait: left.min(WAIT) }
}

async fn step(store: &impl Store, claim: &Claim, since: Option<Since>) -> anyhow::Result<Step> {
    let state = store.read(&claim.key, since).await?;
    let index = state.index;
    match (&state.pair, state.session()) {
        // Also if the answer to an earlier claim got lost.
        (Some(pair), Some(session)) if session == claim.session => {
            return Ok(Step::Held(pair.modify_index));
        }
        (Some(pair), _) if pair.flags != LOCK_FLAGS => {
            return Ok(Step::NoLock { flags: pair.flags });
        }
        (_, Some(session)) => return Ok(Step::Taken { by: session.to_owned(), index }),
        (_, None) => {}
    }
    Ok(if store.acquire(claim).await? { Step::Granted } else { Step::Delayed })
}
