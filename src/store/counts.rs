//! What the store counts of itself, for whoever shows it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets of [`Commits`], in seconds: from a disk with a cache of its own that
/// outlives the power to one that hangs.
pub const COMMIT_BUCKETS: [f64; 10] =
    [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 5.0];

/// Numbers that only grow, but for the size of the log.
#[derive(Debug, Default)]
pub(super) struct Counts {
    changes: AtomicU64,
    commits: [AtomicU64; COMMIT_BUCKETS.len() + 1],
    commit_nanos: AtomicU64,
    failures: AtomicU64,
    snapshots: AtomicU64,
    snapshot_failures: AtomicU64,
    log_bytes: AtomicU64,
}

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// Changes made that readers were told of.
    pub changes: u64,
    /// Commits that succeeded, each one write and one sync.
    pub commits: Commits,
    /// Commits that failed.
    pub failures: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Snapshots that could not be begun or finished.
    pub snapshot_failures: u64,
    /// Bytes that a start would have to read after the last snapshot.
    pub log_bytes: u64,
}

/// Commits by how long they took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Commits {
    /// How many there were in each bucket of [`COMMIT_BUCKETS`], and beyond the last.
    pub counts: [u64; COMMIT_BUCKETS.len() + 1],
    /// What they took together, in seconds.
    pub seconds: f64,
}

impl Counts {
    pub(super) fn changed(&self, times: u64) {
        self.changes.fetch_add(times, Relaxed);
    }

    pub(super) fn committed(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.commits[COMMIT_BUCKETS.partition_point(|bound| *bound < seconds)]
            .fetch_add(1, Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.commit_nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self, is_written: bool) {
        let count = if is_written { &self.snapshots } else { &self.snapshot_failures };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn log_is(&self, bytes: u64) {
        self.log_bytes.store(bytes, Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        let get = |count: &AtomicU64| count.load(Relaxed);
        Totals {
            changes: get(&self.changes),
            commits: Commits {
                counts: std::array::from_fn(|index| get(&self.commits[index])),
                seconds: Duration::from_nanos(get(&self.commit_nanos)).as_secs_f64(),
            },
            failures: get(&self.failures),
            snapshots: get(&self.snapshots),
            snapshot_failures: get(&self.snapshot_failures),
            log_bytes: get(&self.log_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_in_its_bucket_and_what_is_longer_than_all_is_counted_too() {
        let counts = Counts::default();
        for micros in [1, 100, 101, 5_000_000, 5_000_001] {
            counts.committed(Duration::from_micros(micros));
        }
        let commits = counts.totals().commits;
        assert_eq!(commits.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!((commits.seconds - 10.000_203).abs() < 1e-9, "{}", commits.seconds);
    }
}
