//! Connections between two probes: which are kept, how many, and for how long.
//!
//! A kept connection holds a file descriptor for as long as its target exists, so their number has
//! a bound of its own. Whoever finds no place closes its connection and makes a new one for each
//! probe, which costs more and says the same.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::{call::Connection, channel::Channel, watch::Watch};

/// How many connections may be kept at once; clones share the bound.
#[derive(Debug, Clone)]
pub(in crate::probe) struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One of the [`Places`]; free again when it is dropped.
#[derive(Debug)]
pub(in crate::probe) struct Place(Arc<AtomicUsize>);

/// A connection with its place.
#[derive(Debug)]
pub(super) enum Held {
    Connection(Box<(Connection, Place)>),
    /// Of a target that is listened to.
    Channel(Box<(Channel, Place)>),
}

/// The kept connection of one target.
#[derive(Debug, Default)]
pub(in crate::probe) struct Kept {
    held: Mutex<Option<Held>>,
    /// What the target tells by itself, if it is to be listened to.
    watch: Option<Arc<Watch>>,
}

impl Places {
    pub(in crate::probe) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// A place, unless all are taken.
    pub(in crate::probe) fn take(&self) -> Option<Place> {
        let one_more = |taken| (taken < self.most).then_some(taken + 1);
        // A count and nothing else: no other memory depends on its order.
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(Arc::clone(&self.taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Kept {
    /// None yet, of a target that may be listened to between probes.
    pub(in crate::probe) fn of(watches: bool) -> Self {
        Self { watch: watches.then(Arc::default), ..Self::default() }
    }

    pub(super) fn watch(&self) -> Option<&Arc<Watch>> {
        self.watch.as_ref()
    }

    /// Whether the target is listened to, and tells of changes as far as is known.
    pub(in crate::probe) fn tells(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.tells())
    }

    /// Waits until that is as told here; for ever if it is not to be listened to.
    pub(in crate::probe) async fn until_it_tells(&self, tells: bool) {
        match &self.watch {
            Some(watch) => watch.until(tells).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the target tells of a change by itself; for ever if it is not listened to.
    pub(in crate::probe) async fn woken(&self) {
        match &self.watch {
            Some(watch) => watch.news().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn take(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}
