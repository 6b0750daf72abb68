//! The deltas that are remembered for those who come back.

use std::{collections::VecDeque, sync::Arc};

use super::{Delta, row::Index};

/// Deltas remembered at most.
const DELTAS: usize = 4096;

/// Changes remembered at most, in all deltas but the last together: a delta may hold thousands,
/// each with the row before and after.
const CHANGES: usize = 8192;

/// The latest deltas, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    deltas: VecDeque<Arc<Delta>>,
    changes: usize,
}

impl History {
    /// Remembers a delta, and forgets the oldest; returns the last one that is forgotten for it.
    pub(super) fn push(&mut self, delta: Arc<Delta>) -> Option<Arc<Delta>> {
        self.changes += delta.changes.len();
        self.deltas.push_back(delta);
        let mut forgotten = None;
        while self.deltas.len() > DELTAS || (self.changes > CHANGES && self.deltas.len() > 1) {
            forgotten = self.deltas.pop_front();
            self.changes -= forgotten.as_ref().map_or(0, |oldest| oldest.changes.len());
        }
        forgotten
    }

    /// The deltas after an index, which all follow one another; `last` is the index of the last
    /// change of all. Nothing if some are not remembered.
    pub(super) fn after(&self, index: Index, last: Index) -> Option<VecDeque<Arc<Delta>>> {
        let oldest = self.deltas.front().map_or(index, |delta| delta.index.saturating_sub(1));
        let last = self.deltas.back().map_or(last, |delta| delta.index);
        let is_held = (oldest..=last).contains(&index);
        is_held.then(|| self.deltas.iter().filter(|delta| delta.index > index).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        row::{Key, Note},
        tables::Change,
    };

    fn delta(index: Index, changes: usize) -> Arc<Delta> {
        let change = || Change {
            key: Key::Note("n".into()),
            before: None,
            after: Some(Note::default().into()),
        };
        Arc::new(Delta { index, changes: std::iter::repeat_with(change).take(changes).collect() })
    }

    fn indexes(history: &History, after: Index) -> Option<Vec<Index>> {
        Some(history.after(after, 0)?.iter().map(|delta| delta.index).collect())
    }

    #[test]
    fn of_many_small_deltas_so_many_are_remembered() {
        let mut history = History::default();
        (1..=5000).for_each(|index| drop(history.push(delta(index, 1))));
        assert_eq!(indexes(&history, 4998), Some(vec![4999, 5000]));
        assert_eq!(indexes(&history, 904).map(|held| held.len()), Some(DELTAS));
        assert_eq!(indexes(&history, 903), None);
    }

    #[test]
    fn of_large_deltas_few_are_remembered_and_always_the_last() {
        let mut history = History::default();
        (1..=20).for_each(|index| drop(history.push(delta(index, 1000))));
        assert_eq!(indexes(&history, 12).map(|held| held.len()), Some(8));
        assert_eq!(indexes(&history, 11), None);
        history.push(delta(21, 3 * CHANGES));
        assert_eq!((indexes(&history, 20), indexes(&history, 19)), (Some(vec![21]), None));
        history.push(delta(22, 1));
        assert_eq!((indexes(&history, 21), indexes(&history, 20)), (Some(vec![22]), None));
    }

    #[test]
    fn without_a_delta_only_now_is_known() {
        let history = History::default();
        assert_eq!(history.after(7, 7).map(|held| held.len()), Some(0));
        assert!(history.after(8, 7).is_none());
        assert!(history.after(6, 7).is_some(), "nothing has been since the daemon began");
    }
}
