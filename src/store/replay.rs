//! Reading the store back: one thread reads the log and makes rows of it, another puts them where
//! they are looked up.

use std::{
    mem,
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    OpenError, log,
    row::Index,
    tables::Tables,
    wire::{self, Step},
};

/// Steps handed over at once.
const STEPS: usize = 512;

/// Hand-overs that may wait.
const DEPTH: usize = 16;

/// Steps of one entry of the log, and its index if it has one of its own.
type Decoded = (Option<Index>, Vec<Step>);

/// Takes in the entries of a log.
type Each<'a> = &'a mut dyn FnMut(log::Entry<'_>) -> Result<(), String>;

/// What has been read and not been handed over yet.
struct Read {
    entries: Vec<Decoded>,
    steps: usize,
    to: SyncSender<Vec<Decoded>>,
}

impl Read {
    fn add(&mut self, entry: log::Entry<'_>) -> Result<(), String> {
        let (index, payload) = match entry {
            log::Entry::Snapshot(payload) => (None, payload),
            log::Entry::Record { index, payload } => (Some(index), payload),
        };
        let steps = wire::decode(payload).map_err(|error| error.to_string())?;
        self.steps += steps.len();
        self.entries.push((index, steps));
        if self.steps >= STEPS {
            self.hand_over();
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        self.steps = 0;
        // The other thread ends early only by a panic, which is found out when it is joined.
        drop(self.to.send(mem::take(&mut self.entries)));
    }
}

/// Opens a log, and reads back what it has led to.
pub(super) fn open(
    open: impl FnOnce(Each<'_>) -> Result<log::Log, log::Error>,
) -> Result<(log::Log, Tables), OpenError> {
    thread::scope(|scope| {
        let (to, decoded) = sync_channel(DEPTH);
        let applying = thread::Builder::new().name("replay".to_owned());
        let applying =
            applying.spawn_scoped(scope, move || apply(&decoded)).map_err(OpenError::Thread)?;
        let mut read = Read { entries: Vec::new(), steps: 0, to };
        let log = open(&mut |entry| read.add(entry));
        read.hand_over();
        drop(read);
        match applying.join() {
            Ok(tables) => Ok((log?, tables)),
            Err(panicked) => resume_unwind(panicked),
        }
    })
}

/// Makes tables be as the entries say.
fn apply(decoded: &Receiver<Vec<Decoded>>) -> Tables {
    let mut tables = Tables::default();
    let mut touched = Vec::new();
    for (index, steps) in decoded.iter().flatten() {
        let index = index.unwrap_or(tables.index);
        for step in steps {
            match step {
                Step::Put(row) => drop(tables.apply(index, &row.key(), Some(row), &mut touched)),
                Step::Delete(key) => drop(tables.apply(index, &key, None, &mut touched)),
                Step::Index(index) => tables.index = index,
            }
            touched.clear();
        }
        tables.index = tables.index.max(index);
    }
    tables
}
