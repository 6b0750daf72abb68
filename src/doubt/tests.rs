//! The score, second by second.

use super::*;
use crate::model::Reason;

const SECOND: Duration = Duration::from_secs(1);

/// A daemon that is looked at every second.
struct Bench {
    doubt: Doubt,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { doubt: Doubt::default(), now: Instant::now() }
    }

    /// One second, with the canary and the anchors like this.
    fn second(&mut self, canary: Sight, anchors: &[Sight]) -> Option<Change> {
        let seen = |sight: &Sight| Seen { sight: *sight, ..Seen::default() };
        self.now += SECOND;
        let anchors = anchors.iter().map(seen).collect();
        self.doubt.review(self.now, seen(&canary), (anchors, true))
    }

    /// So many seconds in which nothing is wrong.
    fn quiet(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.second(Sight::Answers, &[]);
        }
    }

    fn report(&self) -> Report {
        self.doubt.report(self.now)
    }

    fn score(&self) -> u8 {
        self.report().score
    }

    fn probes(&self, results: usize, inconclusive: usize) {
        for index in 0..results {
            let ours = Outcome::Inconclusive(Reason::Internal);
            self.doubt.learnt(if index < inconclusive { ours } else { Outcome::Success });
        }
    }
}

#[test]
fn a_daemon_that_is_well_trusts_itself() {
    let mut bench = Bench::new();
    bench.probes(100, 0);
    bench.quiet(3);
    assert_eq!((bench.score(), bench.doubt.confidence()), (0, Confidence::Clear));
    assert!(!bench.doubt.abstains());
}

#[test]
fn a_second_without_a_symptom_lowers_the_score_by_one() {
    let mut bench = Bench::new();
    for expected in [1, 2, 3] {
        bench.doubt.woke(SECOND);
        bench.quiet(1);
        assert_eq!(bench.score(), expected);
    }
    for expected in [2, 1, 0, 0] {
        bench.quiet(1);
        assert_eq!(bench.score(), expected);
    }
}

#[test]
fn no_second_adds_more_than_two_and_the_score_ends_at_eight() {
    let mut bench = Bench::new();
    for expected in [2, 4, 6, 8, 8] {
        bench.doubt.woke(SECOND);
        bench.doubt.started(SECOND);
        bench.probes(10, 10);
        bench.second(Sight::Fails, &[]);
        assert_eq!(bench.score(), expected);
    }
}

#[test]
fn one_hiccup_is_no_reason_to_abstain() {
    let mut bench = Bench::new();
    bench.doubt.woke(SECOND * 8);
    bench.doubt.started(SECOND * 8);
    assert_eq!(bench.second(Sight::Fails, &[]), None);
    assert_eq!(bench.doubt.confidence(), Confidence::Doubtful, "the canary failed");
    bench.quiet(1);
    assert_eq!(bench.doubt.confidence(), Confidence::Clear);
}

#[test]
fn lasting_trouble_leads_to_abstention_and_seconds_of_quiet_out_of_it() {
    let mut bench = Bench::new();
    let changes: Vec<_> = (0..4).filter_map(|_| bench.second(Sight::Fails, &[])).collect();
    assert_eq!(changes, [Change::Abstains]);
    assert_eq!(bench.score(), 8);
    assert_eq!(bench.doubt.confidence(), Confidence::Doubtful);
    assert_eq!(bench.report().abstaining, Some(SECOND));
    let mut seconds = 0;
    let change = loop {
        seconds += 1;
        if let Some(change) = bench.second(Sight::Answers, &[]) {
            break change;
        }
    };
    assert_eq!((seconds, change), (6, Change::Resumes(SECOND * 7)));
    assert!(!bench.doubt.abstains());
    assert_eq!(bench.report().abstaining, None);
}

#[test]
fn probes_that_fail_by_our_fault_never_lead_to_abstention_alone() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.probes(10, 5);
        bench.quiet(1);
    }
    assert_eq!(bench.score(), DEFAULT_ABSTAIN_AT - 1);
    assert!(!bench.doubt.abstains());
    assert!(bench.report().symptoms.has(Symptom::Inconclusive));
    bench.probes(1000, 0);
    bench.quiet(1);
    assert_eq!(bench.score(), DEFAULT_ABSTAIN_AT - 2);
}

#[test]
fn little_room_is_a_strain_and_never_leads_to_abstention_alone() {
    let mut bench = Bench::new();
    let scarce = Taken { used: 1000, most: 1024 };
    bench.doubt.has(Room { descriptors: scarce, ports: scarce });
    bench.quiet(100);
    assert_eq!(bench.score(), DEFAULT_ABSTAIN_AT - 1);
    assert!(!bench.doubt.abstains());
    let symptoms: Vec<_> = bench.report().symptoms.iter().collect();
    assert_eq!(symptoms, [Symptom::Descriptors], "no probe has been short of a port");
    assert_eq!(bench.doubt.stretch(SECOND, SECOND * 60), SECOND, "more time would take more");

    bench.probes(100, 1);
    bench.quiet(1);
    assert!(bench.report().symptoms.has(Symptom::Ports));
    bench.second(Sight::Fails, &[]);
    assert!(bench.doubt.abstains(), "with the canary it does");
    bench.quiet(4);
    assert!(!bench.doubt.abstains(), "without it no longer");
    bench.doubt.has(Room::default());
    bench.quiet(20);
    assert_eq!((bench.score(), bench.report().room), (0, Room::default()));
}

#[test]
fn a_few_inconclusive_probes_are_no_symptom() {
    let mut bench = Bench::new();
    bench.probes(2, 2);
    bench.quiet(1);
    assert_eq!(bench.score(), 0, "two alone");
    bench.probes(100, 8);
    bench.quiet(1);
    assert_eq!(bench.score(), 0, "ten of a hundred and two");
    bench.probes(100, 20);
    bench.quiet(1);
    assert_eq!(bench.score(), 1, "thirty of two hundred");
}

#[test]
fn one_late_start_in_a_hundred_is_no_symptom() {
    let mut bench = Bench::new();
    let start = |bench: &Bench, late: usize| {
        for index in 0..100 {
            bench.doubt.started(if index < late { SECOND } else { Duration::ZERO });
        }
    };
    start(&bench, 1);
    bench.quiet(1);
    assert_eq!(bench.score(), 0);
    start(&bench, 2);
    bench.quiet(1);
    assert_eq!(bench.score(), 1);
}

#[test]
fn anchors_that_all_fail_mean_that_the_network_is_gone() {
    use Sight::{Answers, Fails, Unknown};
    let mut bench = Bench::new();
    assert_eq!(bench.second(Answers, &[Answers, Answers]), None);
    assert_eq!(bench.doubt.confidence(), Confidence::Confirmed);
    assert_eq!(bench.second(Answers, &[Answers, Fails]), None, "half of them may be down");
    assert_eq!((bench.score(), bench.doubt.confidence()), (0, Confidence::Clear));
    assert_eq!(bench.second(Answers, &[Unknown, Unknown]), None, "our own fault says nothing");
    assert_eq!(bench.second(Answers, &[Fails, Fails]), Some(Change::Abstains));
    assert_eq!(bench.doubt.confidence(), Confidence::Doubtful);
    let back = bench.second(Answers, &[Answers, Answers]);
    assert_eq!(back, Some(Change::Resumes(SECOND)), "the score has not risen far");
    assert_eq!(bench.doubt.confidence(), Confidence::Confirmed);
}

#[test]
fn most_anchors_failing_for_some_rounds_lead_to_abstention() {
    use Sight::{Answers, Fails};
    let mut bench = Bench::new();
    let changes = [(); 3].map(|()| bench.second(Answers, &[Answers, Fails, Fails]));
    assert_eq!(changes, [None, None, Some(Change::Abstains)]);
    let anchors = vec![Seen { sight: Fails, ..Seen::default() }];
    let before = bench.score();
    bench.doubt.review(bench.now, Seen::default(), (anchors, false));
    assert_eq!(bench.score(), before, "not asked anew, they neither add nor are they well");
}

/// Found by the worlds, seed 1719.
#[test]
fn what_is_inconclusive_for_good_does_not_make_abstention_last() {
    let mut bench = Bench::new();
    for _ in 0..8 {
        bench.doubt.woke(SECOND);
        bench.probes(10, 5);
        bench.second(Sight::Answers, &[]);
    }
    assert!(bench.doubt.abstains());
    for _ in 0..8 {
        bench.probes(10, 5);
        bench.second(Sight::Answers, &[]);
    }
    assert!(!bench.doubt.abstains(), "the daemon is on time again");
    for _ in 0..60 {
        bench.probes(10, 5);
        bench.second(Sight::Answers, &[]);
        assert!(!bench.doubt.abstains(), "and stays so");
    }
}

#[test]
fn a_slow_daemon_gives_more_time_within_the_interval() {
    let mut bench = Bench::new();
    let stretch = |bench: &Bench| bench.doubt.stretch(SECOND, SECOND * 10);
    assert_eq!(stretch(&bench), SECOND);
    for expected in [2, 3, 4] {
        bench.doubt.woke(SECOND);
        bench.quiet(1);
        assert_eq!(stretch(&bench), SECOND * expected);
    }
    assert_eq!(bench.doubt.stretch(SECOND, SECOND * 2), SECOND * 3 / 2, "three quarters");
    assert_eq!(bench.doubt.stretch(SECOND * 2, SECOND), SECOND * 2, "never less than configured");
    bench.second(Sight::Fails, &[]);
    assert_eq!(stretch(&bench), SECOND, "who is short of something must not hold more of it");
}
