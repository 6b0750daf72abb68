//! Refuses checks that run a program where the operator has not allowed them.

use super::{
    diagnostic::{Place, Problem},
    read::Reader,
};

/// Reports a check that runs a program, unless files may hold one.
pub(super) fn vet(reader: &mut Reader<'_>, place: Place) -> Option<()> {
    if reader.may.exec.allows_files() {
        return Some(());
    }
    reader.report(
        Problem::error("this check runs a program, which `checks.exec` does not allow")
            .at(place, "would run with the rights of the daemon")
            .help("if it is meant, say `checks: { exec: files }` in the configuration")
            .help("if not, take the check out"),
    );
    None
}
