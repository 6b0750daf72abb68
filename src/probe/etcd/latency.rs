//! How fast a member's disk is, from the histograms in its metrics.
//!
//! They count from the member's start, so only what was added between two looks tells how it is now.
//! Looks are kept by time and not by probe, since several instances of a check may ask one cluster:
//! each is compared with one that is half a minute to a minute old, or with the last but one if they
//! are further apart.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A look is compared with until it is twice as old.
const STEP: Duration = Duration::from_secs(30);

/// Fewer say nothing of one in a hundred.
const LEAST: u64 = 10;

/// Most buckets of a histogram; etcd has 14.
const MAX_BUCKETS: usize = 64;

/// Most members that are remembered, over all clusters of a check; beyond, all are forgotten.
const MAX_MEMBERS: usize = 1024;

const COMMIT: &str = "etcd_disk_backend_commit_duration_seconds_bucket{le=\"";
const FSYNC: &str = "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"";
const QUOTA: &str = "etcd_server_quota_backend_bytes ";

/// The 99th percentiles of what a member did lately, if it did enough to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Latency {
    pub(super) commit: Option<Duration>,
    pub(super) fsync: Option<Duration>,
}

/// What is of interest in a member's metrics.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Metrics {
    /// In bytes; 0 for none.
    pub(super) quota: Option<u64>,
    pub(super) disk: Disk,
}

/// Both histograms.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Disk {
    commit: Histogram,
    fsync: Histogram,
}

/// Upper bounds in seconds, and how many took no longer since the member's start; rising.
#[derive(Debug, Clone, PartialEq, Default)]
struct Histogram(Vec<(f64, u64)>);

#[derive(Debug, Clone)]
struct History {
    older: (Instant, Disk),
    newer: (Instant, Disk),
}

/// What members said before, by cluster and member.
#[derive(Debug, Default)]
pub(super) struct Histories(Mutex<BTreeMap<(u64, u64), History>>);

/// Reads a text exposition as far as it is of interest. It may be cut off anywhere; a line that is
/// not whole is none.
pub(super) fn parse(text: &[u8]) -> Metrics {
    let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let mut metrics = Metrics::default();
    for line in String::from_utf8_lossy(&text[..whole]).lines() {
        if let Some(rest) = line.strip_prefix(COMMIT) {
            metrics.disk.commit.add(rest);
        } else if let Some(rest) = line.strip_prefix(FSYNC) {
            metrics.disk.fsync.add(rest);
        } else if let Some(value) = line.strip_prefix(QUOTA) {
            // Less than nothing where there is no quota.
            metrics.quota = value.trim().parse().ok().map(|quota| whole_number(quota).unwrap_or(0));
        }
    }
    metrics
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within what a float holds exactly, and not negative"
)]
fn whole_number(value: f64) -> Option<u64> {
    /// 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (0.0..=EXACT).contains(&value).then_some(value as u64)
}

impl Histogram {
    /// Takes a bucket in: `0.001"} 42`.
    fn add(&mut self, rest: &str) {
        let Some((bound, count)) = rest.split_once("\"} ") else { return };
        let (Ok(bound), Ok(count)) = (bound.parse(), count.trim().parse()) else { return };
        let last = self.0.last().copied().unwrap_or((f64::NEG_INFINITY, 0));
        if self.0.len() < MAX_BUCKETS && bound > last.0 && whole_number(count) >= Some(last.1) {
            self.0.extend(whole_number(count).map(|count| (bound, count)));
        }
    }

    /// What was added since; nothing if it is not the same histogram any more.
    fn since(&self, older: &Self) -> Option<Self> {
        if self.0.len() != older.0.len() {
            return None;
        }
        let pairs = self.0.iter().zip(&older.0);
        let added = pairs.map(|((bound, now), (_, then))| Some((*bound, now.checked_sub(*then)?)));
        added.collect::<Option<_>>().map(Self)
    }

    /// The 99th percentile, straight between two bounds as Prometheus has it.
    fn percentile(&self) -> Option<Duration> {
        let (_, total) = *self.0.last()?;
        if total < LEAST {
            return None;
        }
        let rank = total - total / 100;
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (low, before) = at.checked_sub(1).map_or((0.0, 0), |below| self.0[below]);
        let (high, count) = self.0[at];
        if high.is_infinite() {
            // Beyond what it measures: at least the last bound.
            return Some(Duration::from_secs_f64(low));
        }
        let share = |of: u64| u32::try_from(of).map_or(f64::from(u32::MAX), f64::from);
        let part =
            share(rank.saturating_sub(before)) / share(count.saturating_sub(before)).max(1.0);
        Duration::try_from_secs_f64(low + (high - low) * part.min(1.0)).ok()
    }
}

impl Histories {
    /// The same as it is now, to go its own way.
    pub(super) fn copy(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    /// Takes a look in, and says what it tells beside the earlier ones.
    pub(super) fn observe(&self, whose: (u64, u64), now: Instant, disk: Disk) -> Latency {
        let mut histories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if histories.len() >= MAX_MEMBERS && !histories.contains_key(&whose) {
            histories.clear();
        }
        if let Some(history) = histories.get_mut(&whose)
            && let Some(latency) = history.observe(now, &disk)
        {
            return latency;
        }
        let (older, newer) = ((now, disk.clone()), (now, disk));
        histories.insert(whose, History { older, newer });
        Latency::default()
    }
}

impl History {
    /// Nothing if the member has started anew.
    fn observe(&mut self, now: Instant, disk: &Disk) -> Option<Latency> {
        let commit = disk.commit.since(&self.older.1.commit)?;
        let fsync = disk.fsync.since(&self.older.1.fsync)?;
        if now.saturating_duration_since(self.newer.0) >= STEP {
            self.older = std::mem::replace(&mut self.newer, (now, disk.clone()));
        }
        Some(Latency { commit: commit.percentile(), fsync: fsync.percentile() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics of a member that did so many commits within 8 ms and so many within 16 ms.
    fn metrics(fast: u64, slow: u64) -> String {
        let bucket = |name: &str, bound: &str, count: u64| {
            format!("etcd_disk_{name}_duration_seconds_bucket{{le=\"{bound}\"}} {count}\n")
        };
        let all = fast + slow;
        [
            "# TYPE etcd_disk_backend_commit_duration_seconds histogram\n".to_owned(),
            bucket("backend_commit", "0.008", fast),
            bucket("backend_commit", "0.016", all),
            bucket("backend_commit", "+Inf", all),
            bucket("wal_fsync", "0.008", all),
            bucket("wal_fsync", "+Inf", all),
            "etcd_server_quota_backend_bytes 2.147483648e+09\n".to_owned(),
        ]
        .concat()
    }

    fn disk(fast: u64, slow: u64) -> Disk {
        parse(metrics(fast, slow).as_bytes()).disk
    }

    #[test]
    fn a_line_that_is_cut_off_is_none() {
        let text = metrics(1, 1);
        assert_eq!(parse(text.as_bytes()).quota, Some(2_147_483_648));
        assert_eq!(parse(&text.as_bytes()[..text.len() - 4]).quota, None);
        assert_eq!(parse(b""), Metrics::default());
        assert_eq!(parse(b"etcd_server_quota_backend_bytes -1\n").quota, Some(0), "there is none");
        let noise = "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"x\"} y\n".repeat(99);
        assert_eq!(parse(noise.as_bytes()), Metrics::default());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_new_counts() {
        let histories = Histories::default();
        let start = Instant::now();
        let observe = |seconds, fast, slow| {
            let now = start + Duration::from_secs(seconds);
            histories.observe((1, 2), now, disk(fast, slow)).commit
        };
        assert_eq!(observe(0, 1000, 1000), None, "nothing to compare with");
        assert_eq!(observe(10, 1009, 1000), None, "too few to say");
        assert_eq!(observe(20, 1100, 1000), Duration::try_from_secs_f64(0.008 * 0.99).ok());
        assert_eq!(observe(30, 1100, 1100), Duration::try_from_secs_f64(0.008 + 0.008 * 0.98).ok());
        // The slow ones are forgotten when they are a minute old.
        assert_eq!(observe(60, 1200, 1100).map(|p99| p99 > Duration::from_millis(8)), Some(true));
        assert_eq!(observe(70, 1300, 1100).map(|p99| p99 < Duration::from_millis(8)), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_starts_anew_is_forgotten() {
        let histories = Histories::default();
        let now = Instant::now();
        assert_eq!(histories.observe((1, 2), now, disk(1000, 0)), Latency::default());
        assert_eq!(histories.observe((1, 2), now, disk(20, 0)), Latency::default());
        assert!(histories.observe((1, 2), now, disk(120, 0)).commit.is_some());
        let aside = histories.copy();
        assert_eq!(aside.observe((1, 4), now, disk(1, 0)), Latency::default());
        assert!(!histories.0.lock().unwrap().contains_key(&(1, 4)), "a copy goes its own way");
        assert!(aside.0.lock().unwrap().contains_key(&(1, 2)));
        assert_eq!(histories.observe((1, 3), now, disk(120, 0)), Latency::default(), "another");
        for member in 0..3000 {
            histories.observe((2, member), now, disk(1, 0));
        }
        assert!(histories.0.lock().unwrap().len() <= MAX_MEMBERS);
    }

    #[test]
    fn what_is_beyond_the_last_bound_is_at_least_that() {
        let histogram = Histogram(vec![(0.008, 5), (8.192, 10), (f64::INFINITY, 50)]);
        assert_eq!(histogram.percentile(), Some(Duration::from_millis(8192)));
    }
}
