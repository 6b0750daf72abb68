//! Results that those who are told of them have not heard of yet.
//!
//! Prober threads leave the names of checks here and go on; whoever publishes takes them all at
//! once and looks what is true by then, so that many changes of one check are one. It holds no
//! more names than there are checks.

use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::model::CheckKey;

/// Names of checks that have something new.
#[derive(Debug, Default)]
pub struct News {
    left: Mutex<Left>,
    urgent: Notify,
}

#[derive(Debug, Default)]
struct Left {
    changed: HashSet<CheckKey, foldhash::fast::RandomState>,
    said: HashSet<CheckKey, foldhash::fast::RandomState>,
}

impl News {
    /// A check's status, or how far it is from one, has changed.
    pub fn changed(&self, key: &CheckKey) {
        self.lock().changed.insert(key.clone());
        self.urgent.notify_one();
    }

    /// A check says something else of the same status.
    pub fn said(&self, key: &CheckKey) {
        self.lock().said.insert(key.clone());
    }

    /// Waits until a check has changed.
    pub async fn wait(&self) {
        self.urgent.notified().await;
    }

    /// Takes the checks that have changed.
    pub fn take_changed(&self) -> Vec<CheckKey> {
        // With the room it took: all may have changed at once, which is seldom.
        mem::take(&mut self.lock().changed).into_iter().collect()
    }

    /// Takes the checks that say something else.
    pub fn take_said(&self) -> Vec<CheckKey> {
        mem::take(&mut self.lock().said).into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
