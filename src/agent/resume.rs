//! Taking up after a restart what was registered through the API.

use std::{num::NonZero, panic::resume_unwind, sync::Arc, thread};

use super::Agent;
use crate::{
    registry::{Registration, Source},
    store::row::Origin,
};

/// Instances that are taken up in one go.
const CHUNK: usize = 8192;

/// So few are worked out by one thread.
const FEW: usize = 256;

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
            for (registration, source) in self.registrations(some) {
                self.registry.put(registration, source);
            }
            self.registry.flush().await;
        }
    }

    /// What the rows of these instances say is to be asked, worked out on all processors: nothing
    /// else runs yet, and whoever restarts a daemon waits for it.
    fn registrations(&self, ids: &[Arc<str>]) -> Vec<(Registration, Source)> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let share = ids.len().div_ceil(threads).max(FEW);
        let work_out = |ids: &[Arc<str>]| -> Vec<_> {
            let tables = self.store.read();
            ids.iter().filter_map(|id| self.registration(&tables, id)).collect()
        };
        thread::scope(|scope| {
            let (first, others) = ids.split_at(share.min(ids.len()));
            let others: Vec<_> =
                others.chunks(share).map(|ids| scope.spawn(move || work_out(ids))).collect();
            let mut all = work_out(first);
            for other in others {
                all.append(&mut other.join().unwrap_or_else(|panicked| resume_unwind(panicked)));
            }
            all
        })
    }
}
