//! The only place that reads the wall clock.
//!
//! Decisions are made on [`tokio::time::Instant`], which tests can pause; a [`Timestamp`] is only
//! ever shown, stored or compared with another day's. Both enter the rest of the crate as data.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// A moment of the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment `seconds` seconds after the Unix epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, with milliseconds as the fraction.
    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years round 1970")]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds, as `2026-11-20T14:00:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// Reads the wall clock.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Ties the monotonic clock to the wall clock once, so that a schedule laid on the monotonic
/// clock falls on the same wall-clock phases after a restart.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    instant: Instant,
    wall: Timestamp,
}

impl Anchor {
    /// Says that `instant` and `wall` are the same moment.
    pub const fn new(instant: Instant, wall: Timestamp) -> Self {
        Self { instant, wall }
    }

    /// Reads both clocks now.
    pub fn read() -> Self {
        Self::new(Instant::now(), now())
    }

    /// The monotonic half.
    pub const fn instant(&self) -> Instant {
        self.instant
    }

    /// The wall-clock half.
    pub const fn wall(&self) -> Timestamp {
        self.wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_shown_in_rfc_3339_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp::from_millis(1_795_183_200_123).to_string(),
            "2026-11-20T14:00:00.123Z"
        );
    }

    #[test]
    fn a_duration_since_a_later_moment_is_zero() {
        let early = Timestamp::from_seconds(10);
        let late = Timestamp::from_millis(12_500);
        assert_eq!(late.since(early), Duration::from_millis(2500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
