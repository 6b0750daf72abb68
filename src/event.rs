//! The last transitions with their evidence: a ring to look back, a broadcast to look on.
//!
//! The ring has a bound; when it is full the oldest event goes. A subscriber that is too slow for
//! the broadcast is told how many it missed ([`Missed`]) and goes on with the oldest still there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

use crate::model::{CheckKey, Transition};

/// How many events a subscriber may lag behind before it misses some.
const SUBSCRIBER_DEPTH: usize = 1024;

/// How many events are looked at to find those of one check.
pub const LOOK_BACK: usize = 10_000;

/// A transition with its place in this process's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One more than that of the transition before; 1 for the first of all that are remembered.
    pub sequence: u64,
    /// What changed.
    pub transition: Transition,
}

/// So many events were missed by a slow subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

/// The log of transitions. Cloning gives another handle on the same log.
#[derive(Debug, Clone)]
pub struct Log {
    ring: Arc<Mutex<Ring>>,
    broadcast: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    last: u64,
}

/// What follows in the log from some point on.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl Log {
    /// A log that remembers the last `capacity` events.
    pub fn new(capacity: usize) -> Self {
        let ring = Ring { events: VecDeque::new(), capacity, last: 0 };
        Self {
            ring: Arc::new(Mutex::new(ring)),
            broadcast: broadcast::Sender::new(SUBSCRIBER_DEPTH),
        }
    }

    /// Begins with events remembered from before, in any order. To be called before all else.
    pub fn resume(&self, mut events: Vec<Event>) {
        events.sort_unstable_by_key(|event| event.sequence);
        let mut ring = self.lock();
        ring.last = events.last().map_or(ring.last, |event| event.sequence);
        let surplus = events.len().saturating_sub(ring.capacity);
        ring.events = events.into_iter().skip(surplus).map(Arc::new).collect();
    }

    /// Writes a transition down and tells the subscribers.
    pub fn push(&self, transition: Transition) {
        let mut ring = self.lock();
        ring.last += 1;
        let event = Arc::new(Event { sequence: ring.last, transition });
        if ring.events.len() >= ring.capacity {
            ring.events.pop_front();
        }
        if ring.capacity > 0 {
            ring.events.push_back(Arc::clone(&event));
        }
        // Sent under the lock, so that subscribers see the order of the ring. Nobody listening is
        // no fault.
        drop(self.broadcast.send(event));
    }

    /// The sequence of the last event; zero before the first.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// The events remembered with a sequence above `after`, oldest first.
    pub fn after(&self, after: u64) -> Vec<Arc<Event>> {
        self.lock().after(after)
    }

    /// The latest events of a check, at most `most`, oldest first. Looks back [`LOOK_BACK`] events at
    /// most, so that whoever writes is not held up.
    pub fn latest_of(&self, key: &CheckKey, most: usize) -> Vec<Arc<Event>> {
        let ring = self.lock();
        let looked_at = ring.events.iter().rev().take(LOOK_BACK);
        let of_check = looked_at.filter(|event| event.transition.key == *key);
        let mut latest: Vec<_> = of_check.take(most).cloned().collect();
        latest.reverse();
        latest
    }

    /// The events remembered with a sequence above `after`, and all that will follow them: none
    /// is missed or told twice between the two.
    pub fn follow(&self, after: u64) -> (Vec<Arc<Event>>, Subscription) {
        let ring = self.lock();
        let receiver = self.broadcast.subscribe();
        (ring.after(after), Subscription { receiver })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// The events with a sequence above `after`, oldest first: they stand in order.
    fn after(&self, after: u64) -> Vec<Arc<Event>> {
        let first = self.events.partition_point(|event| event.sequence <= after);
        self.events.range(first..).cloned().collect()
    }
}

impl Subscription {
    /// The next event, or how many were missed; nothing once the log is gone.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Missed>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Err(Missed(count))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        model::{Cause, Status},
    };

    fn transition(instance: &str) -> Transition {
        Transition {
            service: "web".parse().unwrap(),
            key: CheckKey { instance: instance.parse().unwrap(), check: "http".parse().unwrap() },
            from: Status::Passing,
            to: Status::Critical,
            at: Timestamp::from_seconds(1),
            cause: Cause::Operator { reason: "test".into() },
        }
    }

    fn sequences(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let log = Log::new(2);
        for id in ["a", "b", "c"] {
            log.push(transition(id));
        }
        assert_eq!(sequences(&log.after(0)), [2, 3]);
        assert_eq!(sequences(&log.after(2)), [3]);
    }

    #[test]
    fn the_latest_of_a_check_are_found_among_those_of_others() {
        let log = Log::new(LOOK_BACK + 10);
        for id in ["a", "b", "a", "c", "a"] {
            log.push(transition(id));
        }
        let of = |id: &str, most| sequences(&log.latest_of(&transition(id).key, most));
        assert_eq!((of("a", 2), of("b", 2), of("d", 2)), (vec![3, 5], vec![2], vec![]));
        for _ in 0..LOOK_BACK - 1 {
            log.push(transition("b"));
        }
        assert_eq!((of("a", 2), of("c", 1)), (vec![5], vec![]));
    }

    #[tokio::test]
    async fn a_follower_misses_nothing_and_sees_nothing_twice() {
        let log = Log::new(10);
        log.push(transition("a"));
        let (past, mut coming) = log.follow(0);
        log.push(transition("b"));
        assert_eq!(sequences(&past), [1]);
        assert_eq!(coming.next().await.unwrap().unwrap().sequence, 2);
        drop(log);
        assert!(coming.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_how_many_it_missed() {
        let log = Log::new(1);
        let (_, mut coming) = log.follow(0);
        for _ in 0..SUBSCRIBER_DEPTH + 5 {
            log.push(transition("a"));
        }
        assert_eq!(coming.next().await.unwrap(), Err(Missed(5)));
        assert_eq!(coming.next().await.unwrap().unwrap().sequence, 6);
    }
}
