//! Taking up after a restart what was registered through the API.

use std::{
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use super::Agent;
use crate::store::row::Origin;

/// Instances that are taken up in one go.
const CHUNK: usize = 8192;

/// Instances that are handed over at once.
const FEW: usize = 64;

/// Hand-overs that may wait.
const DEPTH: usize = 16;

impl Agent {
    /// Has everything asked that was registered through the API before a restart.
    pub(super) async fn resume(&self) {
        let ids: Vec<Arc<str>> = {
            let tables = self.store.read();
            let here = tables.each_instance_on(&self.node);
            let of_api = here.filter(|row| row.origin == Origin::Agent);
            of_api.map(|row| Arc::clone(&row.id)).chain(std::iter::once("".into())).collect()
        };
        for some in ids.chunks(CHUNK) {
            self.take_up(some);
            self.registry.flush().await;
        }
    }

    /// Registers what the rows of these instances say. One thread works that out while another
    /// registers it: nothing else runs yet, and whoever restarts a daemon waits for it.
    fn take_up(&self, ids: &[Arc<str>]) {
        let work_out = |ids: &[Arc<str>]| -> Vec<_> {
            let tables = self.store.read();
            ids.iter().filter_map(|id| self.registration(&tables, id)).collect()
        };
        thread::scope(|scope| {
            let (to, worked_out) = sync_channel(DEPTH);
            scope.spawn(move || {
                // The other thread ends early only by a panic, which ends this one too.
                ids.chunks(FEW).map(work_out).try_for_each(|some| to.send(some)).ok();
            });
            for (registration, source) in worked_out.iter().flatten() {
                self.registry.put(registration, source);
            }
        });
    }
}
