//! How long sessions live without being renewed.
//!
//! A session ends twice its time to live after it was made or last renewed: Consul promises not
//! before the time to live, and the other half is for renewals that are late. The deadlines are
//! not kept on disk; after a restart every session has the full time again.

use std::{collections::HashMap, future::poll_fn, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue},
};
use tracing::{error, info};

use crate::store::{Change, Delta, Key, Row, Store, Subscription, Unwritten, row::Session};

/// Renewals under way; further ones wait for their turn.
const RENEWAL_DEPTH: usize = 256;

/// The wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often lock-delays that have passed are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// Renews sessions.
#[derive(Debug, Clone)]
pub struct Renewer {
    requests: mpsc::Sender<Renewal>,
}

/// The daemon is stopping: nothing is renewed, and nothing expires, any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct Stopping;

#[derive(Debug)]
struct Renewal {
    id: Arc<str>,
    answer: oneshot::Sender<Option<Arc<Session>>>,
}

/// Ends sessions that are not renewed.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<Store>,
    requests: mpsc::Receiver<Renewal>,
    queue: DelayQueue<Arc<str>>,
    deadlines: HashMap<Arc<str>, delay_queue::Key>,
}

/// Both ends.
pub fn leases(store: Arc<Store>) -> (Renewer, Keeper) {
    let (sender, requests) = mpsc::channel(RENEWAL_DEPTH);
    let (queue, deadlines) = (DelayQueue::new(), HashMap::new());
    (Renewer { requests: sender }, Keeper { store, requests, queue, deadlines })
}

impl Renewer {
    /// Gives a session its full time again; nothing if it is not there (any more).
    pub async fn renew(&self, id: &str) -> Result<Option<Arc<Session>>, Stopping> {
        let (answer, session) = oneshot::channel();
        let renewal = Renewal { id: id.into(), answer };
        self.requests.send(renewal).await.map_err(|_| Stopping)?;
        session.await.map_err(|_| Stopping)
    }
}

impl Keeper {
    /// Ends sessions as their time is up, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut deltas = self.list().await;
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Renewals before ends: one that is there in time counts.
                biased;
                () = stop.cancelled() => return,
                Some(renewal) = self.requests.recv() => self.renew(renewal),
                delta = deltas.next() => match delta {
                    Ok(delta) => self.learn(&delta),
                    Err(_) => deltas = self.list().await,
                },
                Some(due) = poll_fn(|context| self.queue.poll_expired(context)),
                    if !self.queue.is_empty() => self.end(due.into_inner()).await,
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    /// Takes the sessions there are, and what is to come after them.
    async fn list(&mut self) -> Subscription {
        loop {
            let (seen, sessions) = {
                let tables = self.store.read();
                (tables.seen(), tables.sessions().cloned().collect::<Vec<_>>())
            };
            if !self.store.settled(seen).await {
                continue;
            }
            let Ok(deltas) = self.store.subscribe(seen.index) else {
                sleep(RETRY).await;
                continue;
            };
            let known = |id: &Arc<str>| sessions.iter().any(|session| session.id == *id);
            let gone: Vec<_> = self.deadlines.keys().filter(|id| !known(id)).cloned().collect();
            for id in &gone {
                self.forget(id);
            }
            for session in &sessions {
                if !self.deadlines.contains_key(&session.id) {
                    self.arm(session);
                }
            }
            return deltas;
        }
    }

    fn renew(&mut self, Renewal { id, answer }: Renewal) {
        let session = self.store.read().session(&id).cloned();
        if let Some(session) = &session {
            self.arm(session);
        }
        // Whoever asked may have gone away; that is no fault.
        drop(answer.send(session));
    }

    fn learn(&mut self, delta: &Delta) {
        for Change { key, before, after } in &delta.changes {
            match (key, before, after) {
                (Key::Session(_), None, Some(Row::Session(session))) => self.arm(session),
                (Key::Session(id), _, None) => self.forget(id),
                _ => {}
            }
        }
    }

    /// Gives a session its full time from now on.
    fn arm(&mut self, session: &Session) {
        let Ok(Some(ttl)) = session.lifetime() else { return };
        if let Some(key) = self.deadlines.get(&session.id) {
            return self.queue.reset(key, 2 * ttl);
        }
        let key = self.queue.insert(Arc::clone(&session.id), 2 * ttl);
        self.deadlines.insert(Arc::clone(&session.id), key);
    }

    fn forget(&mut self, id: &Arc<str>) {
        if let Some(key) = self.deadlines.remove(id) {
            self.queue.remove(&key);
        }
    }

    /// Ends a session, and with it all others whose time is up: one write for all.
    async fn end(&mut self, first: Arc<str>) {
        let mut ids = vec![first];
        while let Some(Some(due)) = poll_fn(|c| self.queue.poll_expired(c)).now_or_never() {
            ids.push(due.into_inner());
        }
        for id in &ids {
            self.deadlines.remove(id);
        }
        let ended: Result<(), Unwritten> = self
            .store
            .write(|tx| {
                for id in &ids {
                    tx.destroy_session(id);
                }
                Ok(())
            })
            .await;
        match ended {
            Ok(()) => info!(sessions = ?ids, "Sessions expired"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(sessions = ?ids, error, "Expired sessions not ended");
                for id in ids {
                    let key = self.queue.insert(Arc::clone(&id), RETRY);
                    self.deadlines.insert(id, key);
                }
            }
        }
    }

    async fn sweep(&self) {
        let swept: Result<(), Unwritten> = self
            .store
            .write(|tx| {
                tx.sweep_delays();
                Ok(())
            })
            .await;
        if let Err(error) = swept {
            error!(error = &error as &dyn std::error::Error, "Lock-delays not forgotten");
        }
    }
}
