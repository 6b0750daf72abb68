//! Texts that many rows have in common are held once: names of services, tags, kinds, intervals.

use std::{collections::HashSet, sync::Arc};

use crate::store::row::{Map, Row};

/// Longer texts are seldom the same.
const LONGEST: usize = 64;

/// Texts that rows share.
#[derive(Debug, Default)]
pub(super) struct Texts {
    held: HashSet<Arc<str>, foldhash::fast::RandomState>,
    /// Texts no row has any more are looked for when there are so many.
    sweep_at: usize,
}

impl Texts {
    /// The same row, which holds what other rows hold already.
    pub(super) fn share(&mut self, mut row: Row) -> Row {
        match &mut row {
            Row::Service(row) if Arc::strong_count(row) == 1 => {
                let row = Arc::make_mut(row);
                self.one(&mut row.node);
                self.one(&mut row.name);
                row.tags.shrink_to_fit();
                row.tags.iter_mut().for_each(|tag| self.one(tag));
                self.map(&mut row.meta);
            }
            Row::Check(row) if Arc::strong_count(row) == 1 => {
                let row = Arc::make_mut(row);
                for text in [&mut row.node, &mut row.name, &mut row.run, &mut row.kind] {
                    self.one(text);
                }
                for text in [&mut row.notes, &mut row.output, &mut row.interval, &mut row.timeout] {
                    self.one(text);
                }
            }
            // What others hold has been shared before, and of the rest there are few.
            Row::Service(_)
            | Row::Check(_)
            | Row::Node(_)
            | Row::Pair(_)
            | Row::Session(_)
            | Row::Tombstone(_)
            | Row::Note(_) => {}
        }
        row
    }

    /// A map that others hold has been shared before.
    fn map(&mut self, map: &mut Arc<Map>) {
        let Some(map) = Arc::get_mut(map).filter(|map| !map.is_empty()) else { return };
        *map = std::mem::take(map)
            .into_iter()
            .map(|(mut key, mut value)| {
                self.one(&mut key);
                self.one(&mut value);
                (key, value)
            })
            .collect();
    }

    fn one(&mut self, text: &mut Arc<str>) {
        if text.is_empty() {
            *text = Arc::default();
        } else if let Some(held) = self.held.get(text) {
            *text = Arc::clone(held);
        } else if text.len() <= LONGEST {
            self.sweep();
            self.held.insert(Arc::clone(text));
        }
    }

    fn sweep(&mut self) {
        const FEW: usize = 1024;
        if self.held.len() < self.sweep_at.max(FEW) {
            return;
        }
        self.held.retain(|text| Arc::strong_count(text) > 1);
        self.sweep_at = 2 * self.held.len();
    }
}
