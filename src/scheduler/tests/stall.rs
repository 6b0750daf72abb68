//! What a daemon that is held up, or does not trust itself, makes of failures.

use tokio::time::Instant;

use super::*;
use crate::{
    doubt::{Change, Seen, Sight},
    metrics::Void,
    model::Extra,
};

const SECOND: Duration = Duration::from_secs(1);
const HANGS: Act = Act::Finds(SECOND, Outcome::Failure(Reason::TimeoutResponse));
const SLOW: Act = Act::Finds(SECOND, Outcome::Success);

/// A schedule with time for probes of a second, whose runs are never in each other's way.
fn roomy() -> Schedule {
    Schedule { timeout: SECOND * 2, ..schedule(TEN) }
}

/// Waits until so many probes have started.
async fn started(rig: &Rig, number: usize) {
    while rig.starts(1).len() < number {
        sleep(SETTINGS.tick).await;
    }
}

/// Holds the daemon up for so long during each of the next runs.
async fn hold_up(rig: &Rig, runs: usize, long: Duration) {
    for _ in 0..runs {
        started(rig, rig.starts(1).len() + 1).await;
        sleep(SECOND / 10).await;
        advance(long).await;
        sleep(SECOND / 4).await;
    }
}

fn facts(rig: &Rig) -> crate::metrics::Facts {
    rig.registry.instance("web-1").unwrap().checks[0].slot.read()
}

/// Lets the daemon think again, with an anchor like this.
fn review(rig: &Rig, anchor: Sight) -> Option<Change> {
    let anchors = vec![Seen { sight: anchor, ..Seen::default() }];
    rig.doubt.review(Instant::now(), Seen::default(), (anchors, true))
}

#[tokio::test(start_paused = true)]
async fn what_fails_while_the_daemon_is_stopped_counts_for_nothing() {
    let rig = Rig::new(SETTINGS, |_, n| if n == 1 { OK } else { HANGS });
    rig.registry.replace(vec![registration(1, roomy())]).await;
    started(&rig, 1).await;
    hold_up(&rig, 6, SECOND * 8).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    let facts = facts(&rig);
    assert_eq!((facts.probes, facts.failures, facts.inconclusive), (7, 0, 6));
    assert_eq!(rig.metrics.doubt.voided(Void::Stalled), 6);
    let detail = facts.detail.unwrap();
    assert!(detail.starts_with("not counted, rollcall was held up"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_a_stop_counts_as_ever() {
    let rig = Rig::new(SETTINGS, |_, n| if n == 1 { OK } else { HANGS });
    rig.registry.replace(vec![registration(1, roomy())]).await;
    started(&rig, 1).await;
    hold_up(&rig, 2, SECOND * 8).await;
    started(&rig, 6).await;
    sleep(SECOND * 2).await;
    assert_eq!(
        rig.told(),
        ["web-1:up unknown to passing (ok)", "web-1:up passing to critical (timeout_response)"]
    );
    assert_eq!((facts(&rig).failures, facts(&rig).inconclusive), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn what_succeeds_in_spite_of_a_stop_is_a_success() {
    let rig = Rig::new(SETTINGS, |_, _| SLOW);
    rig.registry.replace(vec![registration(1, roomy())]).await;
    hold_up(&rig, 2, SECOND * 8).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    assert_eq!((facts(&rig).probes, facts(&rig).inconclusive), (2, 0));
}

/// Between one wake and the next a stop of less than the pace may go unseen; a longer one, or many
/// short ones together, may not.
#[tokio::test(start_paused = true)]
async fn a_probe_bears_to_lose_a_quarter_of_a_second_and_no_more() {
    for (stops, long, voided) in [(1, 200, 0), (1, 310, 1), (2, 100, 0), (5, 100, 1), (30, 8, 0)] {
        let rig = Rig::new(SETTINGS, |_, n| if n == 1 { OK } else { HANGS });
        rig.registry.replace(vec![registration(1, roomy())]).await;
        started(&rig, 2).await;
        for _ in 0..stops {
            sleep(SECOND / 200).await;
            advance(Duration::from_millis(long)).await;
        }
        sleep(SECOND * 2).await;
        let facts = facts(&rig);
        assert_eq!(facts.inconclusive, voided, "{stops} stops of {long} ms");
        assert_eq!(facts.failures, 1 - voided, "{stops} stops of {long} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_with_a_short_timeout_bears_less() {
    let fails = || Act::Finds(SECOND / 10, Outcome::Failure(Reason::TimeoutResponse));
    let rig = Rig::new(SETTINGS, move |_, _| fails());
    let short = Schedule { timeout: SECOND / 5, ..roomy() };
    rig.registry.replace(vec![registration(1, short)]).await;
    started(&rig, 1).await;
    advance(SECOND / 5).await;
    sleep(SECOND).await;
    assert_eq!((facts(&rig).failures, facts(&rig).inconclusive), (0, 1));
}

/// The loop is on time, but the probe itself was not run when its time was over.
#[tokio::test(start_paused = true)]
async fn a_probe_that_went_on_after_its_timeout_proves_nothing() {
    let late = || Act::Finds(SECOND * 3, Outcome::Failure(Reason::TimeoutResponse));
    let rig = Rig::new(SETTINGS, move |_, n| if n == 1 { OK } else { late() });
    rig.registry.replace(vec![registration(1, roomy())]).await;
    sleep(TEN * 6).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    assert!(rig.metrics.doubt.voided(Void::Stalled) >= 4);
}

#[tokio::test(start_paused = true)]
async fn while_the_anchors_are_gone_no_target_is_lost_and_afterwards_as_ever() {
    let rig = Rig::new(SETTINGS, |_, n| if n == 1 { OK } else { FAILS });
    rig.registry.replace(vec![registration(1, roomy())]).await;
    started(&rig, 1).await;
    sleep(SECOND).await;
    assert_eq!(review(&rig, Sight::Fails), Some(Change::Abstains));
    sleep(TEN * 10).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    assert!(rig.metrics.doubt.voided(Void::Abstaining) >= 9);
    assert_eq!(review(&rig, Sight::Answers), Some(Change::Resumes(TEN * 10)));
    sleep(TEN * 4).await;
    assert_eq!(
        rig.told(),
        ["web-1:up unknown to passing (ok)", "web-1:up passing to critical (status)"]
    );
    assert_eq!(facts(&rig).streak.failures(), 4, "what was void is not among them");
}

#[tokio::test(start_paused = true)]
async fn with_the_anchors_well_a_dead_target_is_critical_as_ever() {
    let rig = Rig::new(SETTINGS, |_, n| if n == 1 { OK } else { FAILS });
    rig.registry.replace(vec![registration(1, roomy())]).await;
    for _ in 0..50 {
        sleep(SECOND).await;
        review(&rig, Sight::Answers);
    }
    assert_eq!(rig.told().len(), 2, "{:?}", rig.told());
    assert_eq!(facts(&rig).inconclusive, 0);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_abstains_believes_what_answers() {
    let rig = Rig::new(SETTINGS, |_, n| if n <= 3 { FAILS } else { OK });
    rig.registry.replace(vec![registration(1, roomy())]).await;
    started(&rig, 3).await;
    sleep(SECOND).await;
    review(&rig, Sight::Fails);
    sleep(TEN * 2).await;
    assert_eq!(
        rig.told(),
        ["web-1:up unknown to critical (status)", "web-1:up critical to passing (ok)"]
    );
}

/// Descriptors are short, which every probe shows by itself: nothing is lost, and when there are
/// enough again dead targets are found as soon as ever.
#[tokio::test(start_paused = true)]
async fn a_daemon_out_of_descriptors_loses_no_target() {
    let emfile = || Act::Finds(Duration::ZERO, Outcome::Inconclusive(Reason::Internal));
    let rig = Rig::new(SETTINGS, move |_, n| match n {
        1 => OK,
        2..=20 => emfile(),
        _ => FAILS,
    });
    rig.registry.replace((1..=20).map(|port| registration(port, roomy())).collect()).await;
    let mut worst = 0;
    for _ in 0..220 {
        sleep(SECOND).await;
        review(&rig, Sight::Unknown);
        worst = worst.max(rig.doubt.report(Instant::now()).score);
    }
    assert!((1..crate::doubt::DEFAULT_ABSTAIN_AT).contains(&worst), "{worst}");
    assert_eq!(rig.told().len(), 20, "all passing: {:?}", rig.told());
    for _ in 0..30 {
        sleep(SECOND).await;
        review(&rig, Sight::Unknown);
    }
    let critical = rig.told().iter().filter(|line| line.contains("to critical")).count();
    assert_eq!(critical, 20);
    assert_eq!(rig.doubt.report(Instant::now()).score, 0);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_slow_gives_probes_more_time() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    rig.registry.replace(vec![registration(1, roomy())]).await;
    sleep(TEN).await;
    rig.doubt.woke(SECOND);
    review(&rig, Sight::Answers);
    sleep(TEN).await;
    let timeouts = rig.prober.timeouts.lock().unwrap().clone();
    assert_eq!(timeouts, [SECOND * 2, SECOND * 4]);
}

/// Found by the worlds, seed 552: a probe that confirms was given time beyond the next run.
#[tokio::test(start_paused = true)]
async fn time_that_a_slow_daemon_gives_costs_no_run() {
    let usual = || Act::Finds(SECOND / 5, Outcome::Success);
    let rig = Rig::new(SETTINGS, move |_, n| if n == 1 { usual() } else { Act::Hangs });
    let pace = Pace { confirm_probes: 1, ..Pace::default() };
    let schedule = Schedule { pace, ..roomy() };
    rig.registry.replace(vec![registration(1, schedule)]).await;
    for _ in 0..4 {
        rig.doubt.woke(SECOND);
        review(&rig, Sight::Answers);
    }
    sleep(TEN * 6).await;
    let longest = rig.prober.timeouts.lock().unwrap().iter().max().copied();
    assert!(longest > Some(SECOND * 5), "{longest:?}");
    assert!(rig.metrics.extra(Extra::Confirm).get() > 0);
    assert_eq!(rig.metrics.skipped(Skip::Overrun), 0);
}
