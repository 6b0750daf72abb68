//! The due-queue: a hierarchical timing wheel of flat arrays.
//!
//! After Varghese and Lauck, *Hashed and Hierarchical Timing Wheels* (1987): four wheels of 256
//! slots, each slot of a wheel as wide as the whole wheel below it. An entry is a number (the row
//! of a check) and costs 8 bytes: its deadline and the next entry of its slot. Inserting and
//! firing take constant time; an entry is moved down at most three times on its way.
//!
//! Time is counted in ticks from the start of the schedule; the wheel does not know how long one
//! is. An entry cannot be taken out early: who no longer wants it ignores it when it fires.

const BITS: u32 = 8;
const SLOTS: usize = 1 << BITS;
const LEVELS: u32 = 4;
const NIL: u32 = u32::MAX;

/// The due-queue.
#[derive(Debug)]
pub(super) struct Wheel {
    /// First entry of each slot, wheel by wheel.
    heads: Box<[[u32; SLOTS]; LEVELS as usize]>,
    /// By entry: the next of its slot.
    next: Vec<u32>,
    /// By entry: the tick it is due at.
    due: Vec<u32>,
    /// The tick up to which all has fired.
    now: u32,
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            heads: Box::new([[NIL; SLOTS]; LEVELS as usize]),
            next: Vec::new(),
            due: Vec::new(),
            now: 0,
            len: 0,
        }
    }
}

impl Wheel {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `entry` fire at the tick `due`, or at the next tick if that has passed. An entry must
    /// not be inserted again before it has fired.
    pub(super) fn insert(&mut self, entry: u32, due: u32) {
        let index = entry as usize;
        if index >= self.next.len() {
            self.next.resize(index + 1, NIL);
            self.due.resize(index + 1, 0);
        }
        self.due[index] = due.max(self.now.saturating_add(1));
        self.len += 1;
        self.link(entry);
    }

    /// Puts an entry into the slot for its deadline, as seen from now.
    fn link(&mut self, entry: u32) {
        let due = self.due[entry as usize];
        // The highest bit in which the deadline differs from now says which wheel turns it over.
        let differs = due ^ self.now;
        let level = (differs | 1).ilog2() / BITS;
        let slot = slot_of(due, level);
        let head = &mut self.heads[level as usize][slot];
        self.next[entry as usize] = *head;
        *head = entry;
    }

    /// Moves time on to the tick `to` and appends what has fired to `fired`, in the order of
    /// deadlines.
    pub(super) fn advance(&mut self, to: u32, fired: &mut Vec<u32>) {
        while self.now < to {
            if self.is_empty() {
                self.now = to;
                return;
            }
            // Nothing fires before the next tick of interest; jump to just before it.
            let stop = self.next_stop().min(to);
            self.now = stop;
            self.cascade();
            let mut entry = std::mem::replace(&mut self.heads[0][slot_of(stop, 0)], NIL);
            while entry != NIL {
                fired.push(entry);
                self.len -= 1;
                entry = self.next[entry as usize];
            }
        }
    }

    /// The earliest tick at which something can fire or must be moved down: never later than the
    /// first deadline. Nothing waits: the end of time.
    pub(super) fn next_stop(&self) -> u32 {
        if self.is_empty() {
            return u32::MAX;
        }
        for level in 0..LEVELS {
            let from = slot_of(self.now, level) + 1;
            let heads = &self.heads[level as usize];
            if let Some(offset) = heads[from..].iter().position(|head| *head != NIL) {
                let above = u64::from(self.now) >> ((level + 1) * BITS) << ((level + 1) * BITS);
                let stop = above | ((from + offset) as u64) << (level * BITS);
                return u32::try_from(stop).unwrap_or(u32::MAX);
            }
        }
        u32::MAX
    }

    /// At the start of a slot of a higher wheel, moves its entries down.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            if self.now.trailing_zeros() < level * BITS {
                continue;
            }
            let slot = slot_of(self.now, level);
            let mut entry = std::mem::replace(&mut self.heads[level as usize][slot], NIL);
            while entry != NIL {
                let following = self.next[entry as usize];
                self.link(entry);
                entry = following;
            }
        }
    }
}

const fn slot_of(tick: u32, level: u32) -> usize {
    (tick >> (level * BITS)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_fires_at_its_tick_however_far_away() {
        for due in [1, 255, 256, 257, 65_535, 65_536, 70_000, 1 << 24, (1 << 24) + 1, u32::MAX - 1]
        {
            let mut wheel = Wheel::default();
            let mut fired = Vec::new();
            wheel.insert(7, due);
            wheel.advance(due - 1, &mut fired);
            assert!(fired.is_empty(), "not before {due}");
            wheel.advance(due, &mut fired);
            assert_eq!(fired, [7], "at {due}");
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let mut wheel = Wheel::default();
        let mut fired = Vec::new();
        wheel.advance(1000, &mut fired);
        wheel.insert(0, 5);
        wheel.advance(1001, &mut fired);
        assert_eq!(fired, [0]);
    }

    #[test]
    fn an_entry_costs_eight_bytes() {
        let mut wheel = Wheel::default();
        for entry in 0..1000 {
            wheel.insert(entry, entry);
        }
        let bytes = size_of_val(&*wheel.next) + size_of_val(&*wheel.due);
        assert_eq!(bytes, 8 * 1000);
    }

    proptest! {
        /// Against the obvious queue: a sorted map from deadline to entries.
        #[test]
        fn it_fires_what_a_sorted_map_would(
            steps in prop::collection::vec((0u32..100_000, 0u32..3000), 1..200),
        ) {
            let mut wheel = Wheel::default();
            let mut model = BTreeMap::<u32, Vec<u32>>::new();
            for (entry, (delay, advance)) in steps.into_iter().enumerate() {
                let entry = u32::try_from(entry).unwrap();
                let due = wheel.now + 1 + delay;
                wheel.insert(entry, due);
                model.entry(due).or_default().push(entry);
                let to = wheel.now + advance;
                prop_assert!(wheel.next_stop() <= *model.keys().next().unwrap());
                let later = model.split_off(&(to + 1));
                let mut expected: Vec<u32> = model.into_values().flatten().collect();
                model = later;
                let mut fired = Vec::new();
                wheel.advance(to, &mut fired);
                fired.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(fired, expected);
                prop_assert_eq!(wheel.len, model.values().map(Vec::len).sum::<usize>());
            }
        }
    }
}
