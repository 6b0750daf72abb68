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
    #[cfg(test)]
    if let Some(moment) = played::now() {
        return moment;
    }
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

/// How much further than the monotonic clock the wall clock may come, from one look to the next,
/// before somebody must have set it.
const DRIFT: Duration = Duration::from_secs(1);

/// The ages of what was stamped by the wall clock, which may be set meanwhile: no age is ever longer
/// than the time that has really passed since the clock was set last. It may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    instant: Instant,
    wall: Timestamp,
    /// What the clock was set to last.
    set: Option<Timestamp>,
}

impl Ages {
    /// Ages as of this moment of both clocks.
    pub const fn new(instant: Instant, wall: Timestamp) -> Self {
        Self { instant, wall, set: None }
    }

    /// Looks at both clocks again. Says whether the wall clock has been set since the last look; a
    /// machine that was suspended looks like that, too.
    pub fn look(&mut self, instant: Instant, wall: Timestamp) -> bool {
        let passed = instant.saturating_duration_since(self.instant).as_millis();
        let shown = i128::from(wall.0) - i128::from(self.wall.0);
        let off = shown.abs_diff(i128::try_from(passed).unwrap_or(i128::MAX));
        let is_set = off > DRIFT.as_millis();
        (self.instant, self.wall) = (instant, wall);
        if is_set {
            self.set = Some(wall);
        }
        is_set
    }

    /// The moment of the last look.
    pub const fn now(&self) -> Timestamp {
        self.wall
    }

    /// How old what was stamped so is. What was stamped before the clock was set counts from then.
    pub fn of(&self, stamp: Timestamp) -> Duration {
        let from = match self.set {
            Some(set) if stamp < set || stamp > self.wall => set,
            Some(_) | None => stamp,
        };
        self.wall.since(from)
    }
}

/// A wall clock of a test's own, on its own thread: it goes on with the monotonic clock, which may
/// be paused, and is set as the test likes.
#[cfg(test)]
pub(crate) mod played {
    use std::cell::Cell;

    use super::{Instant, Timestamp};

    thread_local! {
        static CLOCK: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
    }

    /// The clock goes back to the real one when this is dropped.
    #[derive(Debug)]
    pub(crate) struct Played;

    impl Drop for Played {
        fn drop(&mut self) {
            CLOCK.set(None);
        }
    }

    pub(super) fn now() -> Option<Timestamp> {
        let (since, wall) = CLOCK.get()?;
        let passed = i64::try_from(since.elapsed().as_millis()).unwrap();
        Some(Timestamp(wall + passed))
    }

    /// Says that it is `wall` now, until the guard is dropped.
    pub(crate) fn begin(wall: Timestamp) -> Played {
        CLOCK.set(Some((Instant::now(), wall.0)));
        Played
    }

    /// Sets it forwards, or backwards, by so many milliseconds.
    pub(crate) fn jump(by: i64) {
        let (since, wall) = CLOCK.get().expect("it has begun");
        CLOCK.set(Some((since, wall + by)));
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

    #[test]
    fn ages_are_true_until_the_clock_is_set_and_never_too_long_after() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds: i64| Timestamp::from_seconds(1_000_000 + seconds);
        let mut ages = Ages::new(start, at(0));
        assert!(!ages.look(start + minute, at(60)), "as it should be");
        assert_eq!(ages.of(at(-3600)), minute * 61);
        assert!(!ages.look(start + minute * 2, at(121)), "it drifts");

        assert!(ages.look(start + minute * 3, at(3600 + 180)), "an hour ahead");
        assert_eq!(ages.of(at(0)), Duration::ZERO, "from then on");
        assert!(!ages.look(start + minute * 4, at(3600 + 240)));
        assert_eq!((ages.of(at(0)), ages.of(at(3600 + 200))), (minute, Duration::from_secs(40)));

        assert!(ages.look(start + minute * 5, at(300)), "and back");
        assert!(!ages.look(start + minute * 7, at(420)));
        assert_eq!(ages.of(at(3600 + 240)), minute * 2, "it seems to be of the future");
        assert_eq!(ages.of(at(390)), Duration::from_secs(30));
    }
}
