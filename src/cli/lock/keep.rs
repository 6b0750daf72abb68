//! Holding on to a lock: renewing its session, and noticing when it is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::duration::Period;

use super::{
    acquire::{PAUSE, RETRY},
    store::{Claim, Renewal, Since, Store},
};

/// How long one look at the key waits for a change. Bounds also how long a connection that is dead
/// without a sign is believed.
const WATCH: Duration = Duration::from_secs(15);

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) ttl: Duration,
    /// How much earlier than the TTL the session counts as lost.
    pub(super) margin: Duration,
}

/// Why the lock is not ours any more, or may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// The daemon does not know the session.
    #[error("its session has expired or was destroyed")]
    Session,
    /// Somebody else has it.
    #[error("session {0} holds it now")]
    Taken(String),
    /// Nobody has it.
    #[error("it was released by somebody else")]
    Released,
    /// The key is not there.
    #[error("the key was deleted")]
    Deleted,
    /// No renewal has come through for so long that the session may have expired.
    #[error("its session could not be renewed for {silence}: {trouble}")]
    Silent { silence: Period, trouble: String },
}

/// Renews a session at every third of its TTL, and tells when it is lost. What counts is when a
/// renewal was sent: when it arrived is not known.
pub(super) async fn renew(
    store: &impl Store,
    session: &str,
    terms: Terms,
    created: Instant,
) -> Lost {
    let Terms { ttl, margin } = terms;
    let (mut renewed, mut next) = (created, created + ttl / 3);
    let mut trouble = "there was no time to".to_owned();
    loop {
        let end = renewed + ttl - margin;
        sleep_until(next.min(end)).await;
        let start = Instant::now();
        if start >= end {
            let silence = Period::from_millis(millis(start - renewed));
            return Lost::Silent { silence, trouble };
        }
        match timeout_at(end.min(start + ttl / 3), store.renew(session)).await {
            Ok(Ok(Renewal::Renewed)) => (renewed, next) = (start, start + ttl / 3),
            Ok(Ok(Renewal::Gone)) => return Lost::Session,
            Ok(Err(error)) => {
                trouble = format!("{error:#}");
                next = Instant::now() + RETRY;
            }
            Err(_) => "the daemon does not answer".clone_into(&mut trouble),
        }
    }
}

/// Watches a key that is held since `index`, and tells when it is not any more. Errors tell
/// nothing: whether the daemon can be reached is for [`renew`] to judge.
pub(super) async fn watch(store: &impl Store, claim: &Claim, index: u64) -> Lost {
    let mut index = index;
    loop {
        let started = Instant::now();
        match store.read(&claim.key, Some(Since { index, wait: WATCH })).await {
            Ok(state) => {
                match (&state.pair, state.session()) {
                    (None, _) => return Lost::Deleted,
                    (Some(_), None) => return Lost::Released,
                    (Some(_), Some(session)) if session != claim.session => {
                        return Lost::Taken(session.to_owned());
                    }
                    (Some(_), Some(_)) => index = state.index,
                }
                // A wait that is no wait must not become a busy loop.
                sleep(PAUSE.saturating_sub(started.elapsed())).await;
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
