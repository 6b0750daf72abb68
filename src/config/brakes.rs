//! Figures of the guard and the damping that make no sense.

use std::time::Duration;

use super::{File, Node, Problem, Reader, vet::Setting};

/// The longest that anything may be held: who holds longer wants to be asked every day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Checks what no single key can tell.
pub(super) fn vet(reader: &mut Reader<'_>, root: &Node, file: &File) {
    let setting = |section, key| Setting { root, path: [section, key], flag: false };
    for (section, at_most) in
        [("guard", file.guard.hold_at_most), ("damping", file.damping.hold_at_most)]
    {
        if at_most.get() > LONGEST {
            let problem = Problem::error("`hold_at_most` must not be above 1d");
            let label = format!("{at_most} is given");
            setting(section, "hold_at_most").blame(reader, problem, &label);
        }
    }
    if file.guard.release_after > file.guard.hold_at_most {
        let problem = Problem::error("`release_after` must not be above `hold_at_most`")
            .help("nothing is held for longer than `hold_at_most`");
        let label = format!("{} is given", file.guard.release_after);
        setting("guard", "release_after").blame(reader, problem, &label);
    }
    if !file.damping.is_consistent() {
        let problem = Problem::error("with these figures no check is ever found flapping")
            .help("`reuse` must be below `suppress`")
            .help(
                "points never exceed what falls below `reuse` within `hold_at_most`; `suppress` \
                 must be below that: make `half_life` shorter or `hold_at_most` longer",
            );
        setting("damping", "").blame(reader, problem, "the figures are here");
    }
}
