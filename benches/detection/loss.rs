//! How often lost probes alone make a verdict: the judge, fed a hundred million results of which
//! one in a hundred is a failure, each by its own throw of the dice.

use std::num::NonZeroU32;

use rollcall::{
    judge::{Machine, Thresholds},
    model::{Outcome, Reason, Status},
};

use crate::{Failure, dice::Dice, report::Report};

/// One in so many is lost.
const LOST: u32 = 100;

pub(crate) fn measure(probes: u32, report: &mut Report) -> Result<(), Failure> {
    report.title("False criticals by loss", &["probes", "expected", "found"]);
    for threshold in 1..=4 {
        let found = false_criticals(probes, threshold)?;
        // A row of failures begins after a success, and goes on `threshold - 1` times.
        let share = 1.0 / f64::from(LOST);
        let expected = f64::from(probes) * (1.0 - share) * share.powf(f64::from(threshold));
        let name = format!("1 % lost, {threshold} in a row decide");
        report.row(&name, &[probes.to_string(), format!("{expected:.1}"), found.to_string()]);
    }
    Ok(())
}

fn false_criticals(probes: u32, threshold: u32) -> Result<u32, Failure> {
    let count = NonZeroU32::new(threshold).ok_or("a threshold of none")?;
    let thresholds = Thresholds::new(NonZeroU32::MIN, count, count)?;
    let (mut machine, mut dice) = (Machine::default(), Dice::new(u64::from(threshold)));
    let mut found = 0;
    for _ in 0..probes {
        let outcome = match dice.below(u64::from(LOST)) {
            0 => Outcome::Failure(Reason::TimeoutConnect),
            _ => Outcome::Success,
        };
        let change = machine.observe(&thresholds, outcome);
        found += u32::from(change.is_some_and(|change| change.to == Status::Critical));
    }
    Ok(found)
}
