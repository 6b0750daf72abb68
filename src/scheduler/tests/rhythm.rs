//! Probes beyond the grid, and runs of it that are left out.

use proptest::prelude::*;

use super::*;
use crate::model::Extra;

/// Everything that results may change.
fn lively(interval: Duration) -> Schedule {
    Schedule { pace: Pace::default(), ..schedule(interval) }
}

/// Takes its time and finds what it says.
fn after(millis: u64, outcome: Outcome) -> Act {
    Act::Finds(Duration::from_millis(millis), outcome)
}

/// Well until the n-th probe, then refusing.
fn dies_at(n: usize) -> impl Fn(u16, usize) -> Act + Send + Sync {
    move |_, number| if number < n { OK } else { FAILS }
}

/// The time between starts, in milliseconds.
fn millis(starts: &[Instant]) -> Vec<u128> {
    starts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_confirmed_within_a_second() {
    let rig = Rig::new(SETTINGS, dies_at(3));
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    sleep(TEN * 2 + Duration::from_secs(11)).await;
    let starts = rig.starts(1);
    assert_eq!(millis(&starts[2..5]), [334, 334], "on the tick of a millisecond");
    assert_eq!(rig.told().last().unwrap(), "web-1:up passing to critical (status)");
    assert_eq!(rig.metrics.extra(Extra::Confirm).get(), 2);
    // The grid has not moved.
    sleep(TEN * 2).await;
    let after = rig.starts(1)[5] - starts[2];
    assert!(after > TEN * 89 / 100 && after < TEN * 111 / 100, "{after:?}");
}

/// The same check, of an instance that is registered again with another tag.
fn again(schedule: Schedule) -> Registration {
    let mut again = registration(1, schedule);
    again.instance.tags = Arc::new(["again".into()]);
    again
}

#[tokio::test(start_paused = true)]
async fn a_reload_does_not_put_off_a_confirmation() {
    let rig = Rig::new(SETTINGS, dies_at(3));
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    while rig.starts(1).len() < 3 {
        sleep(SETTINGS.tick).await;
    }
    sleep(Duration::from_millis(100)).await;
    rig.registry.replace(vec![again(lively(TEN))]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(millis(&rig.starts(1)[2..5]), [334, 334]);
    assert_eq!(rig.told().last().unwrap(), "web-1:up passing to critical (status)");
}

#[tokio::test(start_paused = true)]
async fn a_lost_packet_is_forgiven_as_soon() {
    let rig = Rig::new(SETTINGS, |_, n| if n == 3 { FAILS } else { OK });
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    sleep(TEN * 5).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    assert_eq!(rig.metrics.extra(Extra::Confirm).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_says_nothing_is_found_out_soon_after_the_first_timeout() {
    let timeout = Duration::from_secs(2);
    let script = |_, n| if n < 3 { OK } else { Act::Hangs };
    let rig = Rig::new(SETTINGS, script);
    let schedule = Schedule { timeout, ..lively(TEN) };
    rig.registry.replace(vec![registration(1, schedule)]).await;
    while rig.starts(1).len() < 3 {
        sleep(SETTINGS.tick).await;
    }
    let first = rig.starts(1)[2];
    while rig.told().len() < 2 {
        sleep(SETTINGS.tick).await;
    }
    let took = Instant::now() - first;
    assert!(took <= timeout + Duration::from_millis(1100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_is_given_as_much_time_to_confirm() {
    let timeout = Duration::from_secs(2);
    let rig = Rig::new(SETTINGS, |_, n| match n {
        3 => FAILS,
        _ => after(1500, Outcome::Success),
    });
    rig.registry.replace(vec![registration(1, Schedule { timeout, ..lively(TEN) })]).await;
    sleep(TEN * 6).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_flaps_is_never_asked_more_than_twice_as_often() {
    let rig = Rig::new(SETTINGS, |_, n| if n % 2 == 0 { FAILS } else { OK });
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    sleep(TEN * 1000).await;
    let starts = rig.starts(1);
    assert!(starts.len() > 1500, "confirmed as long as the budget lasts: {}", starts.len());
    for (index, first) in starts.iter().enumerate() {
        for intervals in [1, 10, 100] {
            let within = |at: &&Instant| **at < *first + TEN * intervals;
            let asked = starts[index..].iter().take_while(within).count();
            let bound = 2 * intervals as usize + 3 + 1;
            assert!(asked <= bound, "{asked} in {intervals} intervals");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_dead_for_long_is_asked_less_often_until_it_answers() {
    let rig = Rig::new(SETTINGS, |_, n| if (3..60).contains(&n) { FAILS } else { OK });
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    sleep(TEN * 200).await;
    let starts = rig.starts(1);
    let intervals: Vec<u128> = millis(&starts).iter().map(|gap| (gap + 5000) / 10_000).collect();
    assert_eq!(intervals[5..13], [1; 8], "at first as often as ever");
    assert!(intervals[15..22].iter().all(|n| *n == 2), "{intervals:?}");
    assert!(intervals[26..57].iter().all(|n| *n == 4), "{intervals:?}");
    assert!(intervals[59..].iter().all(|n| *n == 1), "at once again: {intervals:?}");
    assert_eq!(rig.metrics.skipped(Skip::Late) + rig.metrics.skipped(Skip::Overrun), 0);
}

#[tokio::test(start_paused = true)]
async fn those_that_are_asked_less_often_stay_spread_out() {
    let rig = Rig::new(SETTINGS, |_, _| FAILS);
    let many = || (1..=400).map(|port| registration(port, lively(TEN))).collect();
    rig.registry.replace(many()).await;
    sleep(TEN * 100).await;
    let since = Instant::now();
    sleep(TEN * 8).await;
    let mut by_interval = [0; 8];
    for start in (1..=400).flat_map(|port| rig.starts(port)).filter(|at| *at >= since) {
        by_interval[((start - since).as_secs() / 10) as usize] += 1;
    }
    assert!(by_interval.iter().all(|n| (60..=140).contains(n)), "{by_interval:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_has_a_target_asked_at_once_and_as_often_as_ever() {
    let rig = Rig::new(SETTINGS, dies_at(1));
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    sleep(TEN * 100).await;
    let (asked, now) = (rig.starts(1).len(), Instant::now());
    let key = rig.registry.instance("web-1").unwrap().checks[0].key.clone();
    assert!(rig.registry.recheck(&key).await);
    sleep(TEN * 5).await;
    let starts = rig.starts(1);
    assert!(starts[asked] - now < Duration::from_millis(10));
    assert_eq!(starts.len(), asked + 6);
    let unknown = CheckKey { check: "other".parse().unwrap(), ..key };
    assert!(!rig.registry.recheck(&unknown).await);
}

/// A target that answers and says when it wants to be asked again.
fn wishes(seconds: u64) -> impl Fn(u16, usize) -> Act + Send + Sync {
    move |_, _| Act::Wishes(Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn a_target_is_asked_again_when_it_wants_within_bounds() {
    // Later than the interval: instead of the next run, or by the one after that.
    for (wish, expected) in [(15, 66..=71), (3600, 50..=51)] {
        let rig = Rig::new(SETTINGS, wishes(wish));
        rig.registry.replace(vec![registration(1, lively(TEN))]).await;
        sleep(TEN * 101).await;
        let asked = rig.starts(1).len();
        assert!(expected.contains(&asked), "{wish}: {asked}");
    }
    // Sooner: as far as the budget goes.
    let rig = Rig::new(SETTINGS, wishes(4));
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    sleep(TEN * 100).await;
    let asked = rig.starts(1).len();
    assert!((190..=205).contains(&asked), "{asked}");
    // A schedule that is steady knows no wishes, sooner or later.
    for wish in [4, 3600] {
        let rig = Rig::new(SETTINGS, wishes(wish));
        rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
        sleep(TEN * 100).await;
        let asked = rig.starts(1).len();
        assert!((99..=101).contains(&asked), "{wish}: {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_run_is_told() {
    let rig = Rig::new(SETTINGS, dies_at(4));
    rig.registry.replace(vec![registration(1, lively(TEN))]).await;
    let next = || rig.registry.instance("web-1").unwrap().checks[0].slot.read().next_run.unwrap();
    for round in 1..40 {
        while rig.starts(1).len() < round {
            sleep(SETTINGS.tick).await;
        }
        sleep(Duration::from_millis(20)).await;
        let (told, asked) = (next(), Instant::now());
        while rig.starts(1).len() == round {
            sleep(Duration::from_millis(1)).await;
        }
        let wall = 1_795_183_200_000 + asked_at(&rig, round);
        let off = told.millis().abs_diff(wall);
        assert!(off <= 6, "round {round}: {off} ms off, told at {asked:?}");
    }
}

/// When the n-th probe started, in milliseconds since the anchor.
fn asked_at(rig: &Rig, n: usize) -> i64 {
    i64::try_from((rig.starts(1)[n] - rig.began).as_millis()).unwrap()
}

proptest! {
    #[test]
    fn whatever_happens_the_budget_holds(
        outcomes in prop::collection::vec((0..4_u8, 0..30_u64), 1..400),
        probes in 0..6_u8,
    ) {
        use crate::judge::Machine;
        use super::super::rhythm::{Ended, Rhythm};
        let pace = Pace { confirm_probes: probes, ..Pace::default() };
        let schedule = Schedule { pace, ..schedule(TEN) };
        let n = |n| NonZeroU32::new(n).unwrap();
        let thresholds = Thresholds::new(n(1), n(3), n(3)).unwrap();
        let (mut rhythm, mut machine) = (Rhythm::default(), Machine::default());
        let (mut now, mut starts) = (0, Vec::new());
        for (what, seconds) in outcomes {
            now += i64::try_from(seconds).unwrap() * 250_000;
            let outcome = if what % 2 == 0 { Outcome::Success } else { FAILED };
            machine.observe(&thresholds, outcome);
            let extra = match what {
                2 => rhythm.tripped(now, &schedule),
                _ => rhythm.after(
                    &Ended {
                        started: now,
                        now,
                        next: now + 10_000_000,
                        outcome,
                        took: Duration::from_millis(1),
                        ask_again: (what == 3).then_some(Duration::from_secs(1)),
                        machine: &machine,
                    },
                    (&schedule, &thresholds),
                ),
            };
            starts.extend(extra.map(|(start, _)| start));
        }
        for (index, first) in starts.iter().enumerate() {
            for (count, other) in (1_i64..).zip(&starts[index..]) {
                let intervals = (other - first) / 10_000_000;
                let burst = i64::from(probes.max(1));
                prop_assert!(count <= intervals + 1 + burst, "{count} in {intervals}");
            }
        }
    }
}

const FAILED: Outcome = Outcome::Failure(Reason::Status);

#[tokio::test(start_paused = true)]
async fn a_wish_of_any_length_is_heard_within_bounds() {
    // The largest that are told apart, and those next to the end of 64 bits of microseconds.
    for seconds in [u64::MAX, i64::MAX.unsigned_abs(), 9_223_372_036_854] {
        let rig = Rig::new(SETTINGS, move |_, _| Act::Wishes(Duration::from_secs(seconds)));
        rig.registry.replace(vec![registration(1, lively(TEN))]).await;
        sleep(TEN * 10).await;
        assert!((4..=6).contains(&rig.starts(1).len()), "{seconds}: {:?}", rig.starts(1));
    }
}
