//! What readers wait on.
//!
//! Every query depends on one or a few topics. A topic's index is that of the last change that
//! may have changed a query's answer; it never goes back, and waiting on it never misses one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::select_all;
use tokio::sync::watch;

/// A part of the store that changes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The records of nodes.
    Nodes,
    /// A node's record and its instances, by its name in lower case.
    Node(Arc<str>),
    /// The checks of a node and of its instances, by its name in lower case.
    NodeChecks(Arc<str>),
    /// The names of all services with their tags.
    Services,
    /// Anything of any node or instance, without their checks.
    Catalog,
    /// A service's instances with all that bears on their health, by its name in lower case.
    Service(Arc<str>),
    /// The checks of a service's instances, by its name in lower case.
    ServiceChecks(Arc<str>),
    /// Any check.
    Checks,
    /// A pair by its key.
    Pair(Arc<str>),
    /// The pairs whose keys begin so.
    Prefix(Arc<str>),
    /// Any session.
    Sessions,
    /// Where any node is.
    Coordinates,
}

/// Wakes those who wait.
#[derive(Debug, Default)]
pub(super) struct Topics(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    topics: HashMap<Topic, watch::Sender<()>, foldhash::fast::RandomState>,
    /// How many of the topics are prefixes.
    prefixes: usize,
    /// Topics nobody waits on any more are looked for when there are so many.
    sweep_at: usize,
}

/// Waits for changes of some topics from the moment it was made.
#[derive(Debug)]
pub struct Listener(Vec<watch::Receiver<()>>);

impl Topics {
    /// Listens to these topics from now on.
    pub(super) fn listen(&self, topics: &[Topic]) -> Listener {
        let mut waiting = self.lock();
        waiting.sweep();
        Listener(topics.iter().map(|topic| waiting.receiver(topic)).collect())
    }

    /// Wakes those who wait on any of these.
    pub(super) fn wake<'a>(&self, touched: impl IntoIterator<Item = &'a Topic>) {
        let waiting = self.lock();
        if waiting.topics.is_empty() {
            return;
        }
        for topic in touched {
            waiting.wake(topic);
            if let Topic::Pair(key) = topic
                && waiting.prefixes > 0
            {
                for (end, _) in key.char_indices() {
                    waiting.wake(&Topic::Prefix(key[..end].into()));
                }
                waiting.wake(&Topic::Prefix(Arc::clone(key)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn receiver(&mut self, topic: &Topic) -> watch::Receiver<()> {
        if let Some(sender) = self.topics.get(topic) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(());
        self.prefixes += usize::from(matches!(topic, Topic::Prefix(_)));
        self.topics.insert(topic.clone(), sender);
        receiver
    }

    fn wake(&self, topic: &Topic) {
        if let Some(sender) = self.topics.get(topic) {
            sender.send_replace(());
        }
    }

    fn sweep(&mut self) {
        const FEW: usize = 1024;
        if self.topics.len() < self.sweep_at.max(FEW) {
            return;
        }
        self.topics.retain(|_, sender| sender.receiver_count() > 0);
        self.prefixes = self.topics.keys().filter(|t| matches!(t, Topic::Prefix(_))).count();
        self.sweep_at = 2 * self.topics.len();
    }
}

impl Listener {
    /// Returns when one of the topics has changed since this was made or last returned.
    pub async fn changed(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let waits = self.0.iter_mut().map(|receiver| Box::pin(receiver.changed()));
        // A sender goes only with the store.
        drop(select_all(waits).await.0);
    }
}
