//! What must be true of every history. None of it uses what it checks: it goes by the plan of the
//! world and by what was seen from outside.

use super::{
    history::History,
    plan::{Kind, Ms, Subject, World},
};
use crate::model::{Outcome, Status};

mod judged;
mod published;
mod rhythm;

/// A promise that was broken.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) promise: &'static str,
    pub(super) port: Option<u16>,
    pub(super) at: Option<Ms>,
    pub(super) how: String,
}

/// What one check of a history finds.
type Finding = Result<(), (Option<u16>, Option<Ms>, String)>;

type Promise = fn(&World, &History) -> Finding;

const PROMISES: &[(&str, Promise)] = &[
    ("every result is written down, once, in its order", judged::all_is_noted),
    ("S9: only our own faults make a failure void, and they do", judged::what_is_void),
    ("S1: statuses follow consecutive results", judged::statuses_follow_results),
    ("S3: a healthy world is never observed critical", judged::no_harm_by_ourselves),
    (
        "S3: nothing turns critical while we have no network and know it",
        judged::no_harm_while_blind,
    ),
    ("S5: who is dead is observed dead in time", judged::the_dead_are_found),
    ("no probe takes longer than is left for it", rhythm::probes_have_an_end),
    ("S7: the load is bounded", rhythm::load_is_bounded),
    ("S7: runs are not left out but for those critical for long", rhythm::runs_take_place),
    ("S7: who is critical for long is asked less often", rhythm::the_dead_are_asked_less),
    ("S10: nobody is late because of others", rhythm::nobody_is_late),
    ("S6: starts are spread", rhythm::starts_are_spread),
    ("a status is published as it is, or held as it was", published::held_as_it_was),
    ("every hold ends", published::holds_end),
    ("S4: no more than the share goes out within a window", published::caps_hold),
    ("S4: our own blindness never takes out more than the share", published::blindness_is_capped),
    ("S9: in doubt nothing is taken out for silence", published::doubt_takes_nothing_out),
    ("nothing is held for nothing", published::nothing_is_held_for_nothing),
];

/// Checks all of them. Says which was broken first.
pub(super) fn check(world: &World, history: &History) -> Result<(), Broken> {
    for (promise, holds) in PROMISES {
        holds(world, history).map_err(|(port, at, how)| Broken { promise, port, at, how })?;
    }
    Ok(())
}

fn broken<T>(
    subject: &Subject,
    at: Ms,
    how: String,
) -> Result<T, (Option<u16>, Option<Ms>, String)> {
    Err((Some(subject.port), Some(at), how))
}

const fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failure(_))
}

/// Whether the daemon has nothing to hold against itself over this time.
fn is_untroubled(world: &World, from: Ms, until: Ms) -> bool {
    /// A score of eight falls to nothing within eight seconds; what was stretched meanwhile ends.
    const AFTERMATH: Ms = 30_000;
    world.is_calm(from.saturating_sub(AFTERMATH), until)
}
