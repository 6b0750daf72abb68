//! Table and properties of the judge.

use proptest::prelude::*;

use super::*;
use crate::model::Reason;

fn thresholds(passing: u32, warning: u32, critical: u32) -> Thresholds {
    let n = |n| NonZeroU32::new(n).unwrap();
    Thresholds::new(n(passing), n(warning), n(critical)).unwrap()
}

/// Plays a script: `+` success, `~` warning, `-` failure, `M` into and `m` out of maintenance.
/// The trace has one letter for the status after each step.
fn play(mut machine: Machine, thresholds: &Thresholds, script: &str) -> String {
    script
        .chars()
        .map(|step| {
            let before = machine.status();
            let change = match step {
                '+' => machine.observe(thresholds, Outcome::Success),
                '~' => machine.observe(thresholds, Outcome::Warning(Reason::Status)),
                '-' => machine.observe(thresholds, Outcome::Failure(Reason::Status)),
                'M' => machine.maintain(Maintenance::On),
                'm' => machine.maintain(Maintenance::Off),
                other => panic!("no step {other:?}"),
            };
            let after = machine.status();
            let expected = (before != after).then_some(Change { from: before, to: after });
            assert_eq!(change, expected, "a change is told when and only when there is one");
            letter(after)
        })
        .collect()
}

fn letter(status: Status) -> char {
    match status {
        Status::Unknown => 'u',
        Status::Passing => 'p',
        Status::Warning => 'w',
        Status::Critical => 'c',
        Status::Maintenance => 'm',
    }
}

#[track_caller]
fn check(levels: (u32, u32, u32), script: &str, trace: &str) {
    let levels = thresholds(levels.0, levels.1, levels.2);
    assert_eq!(play(Machine::default(), &levels, script), trace, "{script}");
}

#[test]
fn the_first_verdict_takes_as_many_results_as_any_other() {
    check((1, 3, 3), "+", "p");
    check((1, 3, 3), "~", "w");
    check((1, 3, 3), "---", "uuc");
    check((2, 3, 3), "++", "up");
    check((2, 3, 3), "+-+-++", "uuuuup");
}

#[track_caller]
fn check_at_once(levels: (u32, u32, u32), script: &str, trace: &str) {
    let levels = thresholds(levels.0, levels.1, levels.2).first_at_once();
    assert_eq!(play(Machine::default(), &levels, script), trace, "{script}");
}

#[test]
fn the_first_result_can_take_effect_at_once_and_the_next_are_counted() {
    check_at_once((3, 2, 3), "-++-+++", "ccccccp");
    check_at_once((3, 2, 3), "+--+---", "ppwwwwc");
    check_at_once((3, 3, 3), "~-++~", "wwwww");
    check_at_once((1, 3, 3), "M-m", "mmc");
}

#[test]
fn a_row_that_the_first_result_begins_is_long_enough() {
    check_at_once((3, 3, 3), "+~+~", "pwpw");
    check_at_once((3, 3, 3), "~+-~", "wppp");
    check_at_once((1, 2, 3), "--+-", "ccpp");
}

#[test]
fn no_result_is_the_first_after_a_restart_that_kept_one() {
    let levels = thresholds(2, 3, 3).first_at_once();
    let kept = Machine::restore(Verdict::Passing, Streak::Successes(1), Maintenance::Off);
    assert_eq!(play(kept, &levels, "--"), "pp");
    let given = Machine::restore(Verdict::Passing, Streak::None, Maintenance::Off);
    assert_eq!(play(given, &levels, "-+"), "cc");
}

#[test]
fn critical_takes_exactly_the_threshold_of_failures_in_a_row() {
    check((1, 3, 3), "+---", "pppc");
    check((1, 3, 3), "+--+--+---", "pppppppppc");
    check((1, 1, 1), "+-", "pc");
}

#[test]
fn passing_takes_exactly_the_threshold_of_successes_in_a_row() {
    check((3, 1, 1), "-++-+++", "ccccccp");
}

#[test]
fn a_warning_level_lies_between() {
    check((1, 2, 4), "+-----", "ppwwcc");
    check((1, 2, 4), "+--+", "ppwp");
}

#[test]
fn one_more_failure_never_lifts_critical_to_warning() {
    check((2, 1, 3), "---+-", "wwccc");
}

#[test]
fn a_struggling_target_answers_and_so_ends_a_row_of_failures() {
    check((1, 3, 3), "+~+~", "pwpw");
    check((1, 3, 3), "+--~--", "pppwww");
    check((2, 1, 1), "-~~", "ccw");
    check((2, 1, 1), "-~+", "ccp");
    check((2, 1, 1), "-+~", "ccw");
}

#[test]
fn maintenance_hides_the_verdict_and_gives_it_back() {
    check((1, 2, 2), "+M--m", "pmmmc");
    check((1, 2, 2), "+M-m-", "pmmpc");
    check((1, 2, 2), "MMmm", "mmuu");
}

#[test]
fn thresholds_that_contradict_each_other_are_refused() {
    let n = |n| NonZeroU32::new(n).unwrap();
    let error = Thresholds::new(n(1), n(4), n(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failures_before_warning (4) is higher than failures_before_critical (3)"
    );
}

#[test]
fn the_worst_of_none_is_passing_and_maintenance_is_worse_than_critical() {
    use Status::{Critical, Maintenance, Passing, Unknown, Warning};
    assert_eq!(worst([]), Passing);
    assert_eq!(worst([Passing, Warning]), Warning);
    assert_eq!(worst([Warning, Unknown, Passing]), Unknown);
    assert_eq!(worst([Critical, Unknown]), Critical);
    assert_eq!(worst([Critical, Maintenance]), Maintenance);
}

/// Every verdict and streak a machine can be in, one step each: the whole transition table for
/// thresholds of two successes, two failures to warning, three to critical.
#[test]
fn the_transition_table() {
    use Verdict::{Critical, Passing, Unknown, Warning};
    let levels = thresholds(2, 2, 3);
    #[rustfmt::skip]
    let table = [
        // verdict, streak before              success   warning   failure
        (Unknown,  Streak::None,               Unknown,  Unknown,  Unknown),
        (Unknown,  Streak::Successes(1),       Passing,  Warning,  Unknown),
        (Unknown,  Streak::Failures(1),        Unknown,  Unknown,  Warning),
        (Unknown,  Streak::Failures(2),        Unknown,  Unknown,  Critical),
        (Passing,  Streak::None,               Passing,  Passing,  Passing),
        (Passing,  Streak::Successes(2),       Passing,  Warning,  Passing),
        (Passing,  Streak::Failures(1),        Passing,  Passing,  Warning),
        (Passing,  Streak::Failures(2),        Passing,  Passing,  Critical),
        (Warning,  Streak::None,               Warning,  Warning,  Warning),
        (Warning,  Streak::Successes(1),       Passing,  Warning,  Warning),
        (Warning,  Streak::Failures(1),        Warning,  Warning,  Warning),
        (Warning,  Streak::Failures(2),        Warning,  Warning,  Critical),
        (Critical, Streak::None,               Critical, Critical, Critical),
        (Critical, Streak::Successes(1),       Passing,  Warning,  Critical),
        (Critical, Streak::Failures(1),        Critical, Critical, Critical),
        (Critical, Streak::Failures(2),        Critical, Critical, Critical),
        (Critical, Streak::Failures(u32::MAX), Critical, Critical, Critical),
    ];
    for (verdict, streak, success, warning, failure) in table {
        for (outcome, expected) in [
            (Outcome::Success, success),
            (Outcome::Warning(Reason::Status), warning),
            (Outcome::Failure(Reason::Dns), failure),
        ] {
            for maintenance in [Maintenance::Off, Maintenance::On] {
                let mut machine = Machine::restore(verdict, streak, maintenance);
                machine.observe(&levels, outcome);
                assert_eq!(machine.verdict(), expected, "{verdict:?} {streak:?} {outcome:?}");
            }
        }
    }
}

/// The rule restated as arithmetic over the whole history, the slow way. With `at_once` a row that
/// reaches back to the first result is long enough for anything.
fn reference(levels: (u32, u32, u32), history: &[Outcome], at_once: bool) -> Verdict {
    let mut verdict = Verdict::Unknown;
    let history: Vec<_> = history.iter().filter(|outcome| says_something(**outcome)).collect();
    for end in 1..=history.len() {
        let answered = |outcome: &&&Outcome| !matches!(outcome, Outcome::Failure(_));
        let past = || history[..end].iter().rev();
        let successes = u32::try_from(past().take_while(answered).count()).unwrap();
        let failures = u32::try_from(past().take_while(|o| !answered(o)).count()).unwrap();
        let unbroken = |row: u32| at_once && row as usize == end;
        if successes >= levels.0 || unbroken(successes) {
            let plain = *history[end - 1] == Outcome::Success;
            verdict = if plain { Verdict::Passing } else { Verdict::Warning };
        } else if failures >= levels.2 || unbroken(failures) {
            verdict = Verdict::Critical;
        } else if failures >= levels.1 && verdict != Verdict::Critical {
            verdict = Verdict::Warning;
        }
    }
    verdict
}

fn says_something(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Inconclusive(_))
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let one = prop_oneof![
        3 => Just(Outcome::Success),
        1 => Just(Outcome::Warning(Reason::Status)),
        3 => Just(Outcome::Failure(Reason::TimeoutResponse)),
        1 => Just(Outcome::Inconclusive(Reason::Internal)),
    ];
    prop::collection::vec(one, 0..60)
}

fn levels() -> impl Strategy<Value = (u32, u32, u32)> {
    (1..4u32, 1..5u32, 0..3u32)
        .prop_map(|(passing, warning, more)| (passing, warning, warning + more))
}

proptest! {
    #[test]
    fn the_machine_agrees_with_the_reference(history in outcomes(), levels in levels()) {
        let mut machine = Machine::default();
        for outcome in &history {
            machine.observe(&thresholds(levels.0, levels.1, levels.2), *outcome);
        }
        prop_assert_eq!(machine.verdict(), reference(levels, &history, false));
    }

    #[test]
    fn the_machine_agrees_with_the_reference_when_the_first_result_is_at_once(
        history in outcomes(),
        levels in levels(),
    ) {
        let mut machine = Machine::default();
        for outcome in &history {
            let thresholds = thresholds(levels.0, levels.1, levels.2).first_at_once();
            machine.observe(&thresholds, *outcome);
        }
        prop_assert_eq!(machine.verdict(), reference(levels, &history, true));
    }

    #[test]
    fn never_critical_with_fewer_failures_in_a_row_than_the_threshold(
        history in outcomes(),
        levels in levels(),
    ) {
        let mut machine = Machine::default();
        let mut row = 0;
        for outcome in history {
            row = match outcome {
                Outcome::Failure(_) => row + 1,
                Outcome::Inconclusive(_) => row,
                Outcome::Success | Outcome::Warning(_) => 0,
            };
            let change = machine.observe(&thresholds(levels.0, levels.1, levels.2), outcome);
            if change.is_some_and(|change| change.to == Status::Critical) {
                prop_assert_eq!(row, levels.2);
            }
        }
    }

    #[test]
    fn maintenance_changes_nothing_but_what_is_shown(
        history in outcomes(),
        levels in levels(),
        toggles in prop::collection::vec(any::<bool>(), 60),
    ) {
        let levels = thresholds(levels.0, levels.1, levels.2);
        let (mut plain, mut toggled) = (Machine::default(), Machine::default());
        for (outcome, on) in history.into_iter().zip(toggles) {
            toggled.maintain(if on { Maintenance::On } else { Maintenance::Off });
            plain.observe(&levels, outcome);
            toggled.observe(&levels, outcome);
        }
        toggled.maintain(Maintenance::Off);
        prop_assert_eq!(plain, toggled);
    }
}

proptest! {
    /// Wherever a machine stands, what is said to be ahead comes with exactly that many results and
    /// no sooner, and what is not said does not come.
    #[test]
    fn what_is_ahead_comes_when_it_is_said_to(
        script in "[+~-]{0,12}",
        (passing, warning, more) in (1u32..5, 1u32..5, 0u32..4),
        at_once: bool,
        (lowered_passing, lowered_critical) in (1u32..5, 1u32..9),
    ) {
        let made = thresholds(passing, warning, warning + more);
        let mut machine = Machine::default();
        play_on(&mut machine, &made, &script);
        // The configuration may have been read again since.
        let now = thresholds(lowered_passing, warning.min(lowered_critical), lowered_critical);
        let now = if at_once { now.first_at_once() } else { now };
        let ahead = machine.ahead(&now);
        for (turn, outcome) in
            [(Turn::Failure, Outcome::Failure(Reason::Status)), (Turn::Success, Outcome::Success)]
        {
            let mut later = machine;
            let mut came = Vec::new();
            for n in 1..=20 {
                let before = later.verdict();
                later.observe(&now, outcome);
                if later.verdict() != before {
                    came.push(Step { turn, more: n, to: later.verdict() });
                }
            }
            let said: Vec<_> = ahead.iter().copied().filter(|step| step.turn == turn).collect();
            prop_assert_eq!(came, said);
        }
    }
}

fn play_on(machine: &mut Machine, thresholds: &Thresholds, script: &str) {
    for step in script.chars() {
        machine.observe(
            thresholds,
            match step {
                '+' => Outcome::Success,
                '~' => Outcome::Warning(Reason::Status),
                _ => Outcome::Failure(Reason::Status),
            },
        );
    }
}
