//! Random worlds against a checker that knows nothing of how decisions are made: it sees only what
//! was observed and what was published, second by second.

use proptest::prelude::*;

use super::*;

const INSTANCES: usize = 24;
const SERVICES: [&str; 4] = ["a", "a", "b", "c"];

/// What happens in a second.
#[derive(Debug, Clone)]
enum Step {
    /// An instance turns.
    Turn(usize, bool, bool),
    /// All turn, as when our network goes or comes back.
    All(bool, bool),
    /// The daemon's trust in itself changes.
    Trust(usize),
    /// So long nothing happens.
    Rest(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..INSTANCES, any::<bool>(), any::<bool>()).prop_map(|(n, up, says)| Step::Turn(n, up, says)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(up, says)| Step::All(up, says)),
        1 => (0..Confidence::COUNT).prop_map(Step::Trust),
        2 => (1_u64..90).prop_map(Step::Rest),
    ]
}

fn name(n: usize) -> String {
    format!("{}-{n}", SERVICES[n % SERVICES.len()])
}

fn world() -> Bench {
    let mut bench = guarded();
    for n in 0..INSTANCES {
        let service = SERVICES[n % SERVICES.len()];
        bench.add(&name(n), Some(service), Some(if n < 6 { "z1" } else { "z2" }));
    }
    bench
}

/// What the checker remembers of an instance.
#[derive(Debug, Clone, Default)]
struct Seen {
    was_out: bool,
    critical_since: Option<Duration>,
    well_since: Option<Duration>,
    went_out: Option<Duration>,
    /// It was published after having been held: that is no business of the cap.
    was_held: bool,
}

#[derive(Debug, Default)]
struct Checker {
    seen: BTreeMap<CheckKey, Seen>,
    /// Since when the daemon trusts itself.
    trusted_since: Option<Duration>,
}

impl Checker {
    fn look(&mut self, bench: &Bench) {
        let now = bench.now;
        let is_trusted = bench.confidence != Confidence::Doubtful;
        self.trusted_since = is_trusted.then(|| self.trusted_since.unwrap_or(now));
        for (key, one) in &bench.checks {
            let seen = self.seen.entry(key.clone()).or_default();
            let (is_critical, is_out) =
                (one.observed == Verdict::Critical, one.published == Verdict::Critical);
            let since =
                |is_so, before: Option<Duration>| if is_so { before.or(Some(now)) } else { None };
            seen.critical_since = since(is_critical, seen.critical_since);
            seen.well_since = since(!is_critical, seen.well_since);
            if is_out && !seen.was_out {
                seen.went_out = (!seen.was_held).then_some(now);
            }
            seen.was_out = is_out;
            seen.was_held = one.held == Some(Brake::Guard);
            // A status is held as it was or published as it is, and what is held says so.
            assert_eq!(is_out != is_critical, one.held.is_some(), "{key}");
            // Nothing is held for ever.
            let lasting =
                |since: Option<Duration>| since.map_or(Duration::ZERO, |s| now.saturating_sub(s));
            let bound = Duration::from_secs(601);
            let known = seen.critical_since.max(self.trusted_since).filter(|_| is_trusted);
            assert!(is_out || lasting(known) < bound, "{key} never published");
            let bound = Duration::from_secs(301);
            assert!(!is_out || lasting(seen.well_since) < bound, "{key} never taken back");
        }
        self.caps(bench);
    }

    /// So many went out within a window without having been held before, in all and of each crowd.
    fn caps(&self, bench: &Bench) {
        let went = |of: &dyn Fn(&Place) -> bool| {
            let window = Duration::from_secs(60);
            let mut out = self.seen.iter().filter(|(key, _)| of(&bench.checks[*key].place));
            let recent = out.by_ref().filter(|(_, seen)| {
                seen.went_out.is_some_and(|at| bench.now.saturating_sub(at) < window)
            });
            recent.count()
        };
        let size = |of: &dyn Fn(&Place) -> bool| {
            bench.checks.values().filter(|one| of(&one.place)).count()
        };
        assert!(went(&|_| true) <= Share::percent(15).of(INSTANCES).max(1));
        for service in SERVICES {
            let of = |place: &Place| place.service.as_ref().unwrap().as_str() == service;
            assert!(went(&of) <= size(&of) / 2, "{service}");
        }
        for zone in ["z1", "z2"] {
            let of = |place: &Place| place.zone.as_deref() == Some(zone);
            assert!(went(&of) <= size(&of) / 2, "{zone}");
        }
    }
}

fn turn(bench: &mut Bench, n: usize, up: bool, says: bool) {
    let evidence = if says { Evidence::Answer } else { Evidence::Silence };
    let verdict = if up { Verdict::Passing } else { Verdict::Critical };
    bench.see(&name(n), verdict, evidence);
}

fn play(bench: &mut Bench, checker: &mut Checker, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Turn(n, up, says) => turn(bench, *n, *up, *says),
            Step::All(up, says) => (0..INSTANCES).for_each(|n| turn(bench, n, *up, *says)),
            Step::Trust(index) => bench.confidence = Confidence::ALL[*index],
            Step::Rest(seconds) => {
                for _ in 0..*seconds {
                    bench.wait(1);
                    checker.look(bench);
                }
            }
        }
        bench.wait(1);
        checker.look(bench);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// S4 and S5: the caps hold in every window, what is held is marked, and every hold ends.
    #[test]
    fn caps_hold_in_every_window_and_every_hold_ends(steps in prop::collection::vec(step(), 1..30)) {
        let (mut bench, mut checker) = (world(), Checker::default());
        checker.look(&bench);
        play(&mut bench, &mut checker, &steps);
        // Whatever happened, as soon as the daemon has trusted itself for a while everything is
        // published as it is.
        bench.confidence = bench.confidence.max(Confidence::Clear);
        bench.wait(900);
        for (key, one) in &bench.checks {
            prop_assert_eq!(one.observed, one.published, "{}", key);
        }
        prop_assert!(!bench.board.is_guarding());
    }

    /// S3 and S4 at one instant: all are well, and our own network goes and comes as it likes, in
    /// silence. Then no more than the share is ever out at once, as long as no hold has come to its
    /// bound.
    #[test]
    fn our_own_failures_never_take_out_more_than_the_share(
        episodes in prop::collection::vec((1_u64..200, 1_u64..200), 1..5),
        share_lost in 1..=INSTANCES,
    ) {
        let mut bench = world();
        for (lost, back) in episodes {
            (0..share_lost).for_each(|n| turn(&mut bench, n, false, false));
            for _ in 0..lost {
                bench.wait(1);
                let out = bench.checks.values().filter(|one| one.published == Verdict::Critical);
                prop_assert!(out.count() <= Share::percent(15).of(INSTANCES).max(1));
            }
            (0..share_lost).for_each(|n| turn(&mut bench, n, true, true));
            for _ in 0..back {
                bench.wait(1);
                let out = bench.checks.values().filter(|one| one.published == Verdict::Critical);
                prop_assert!(out.count() <= Share::percent(15).of(INSTANCES).max(1));
            }
        }
    }

    /// S9: a daemon that doubts itself takes out nothing that only keeps silent.
    #[test]
    fn a_doubtful_daemon_takes_nothing_out_for_silence(
        turns in prop::collection::vec((0..INSTANCES, any::<bool>()), 1..80),
    ) {
        let mut bench = world();
        bench.confidence = Confidence::Doubtful;
        bench.wait(1);
        for (n, up) in turns {
            turn(&mut bench, n, up, up);
            bench.wait(1);
            prop_assert_eq!(bench.out(), "");
        }
    }
}
