//! Refuses checks that run a program where the operator has not allowed them.

use super::{
    diagnostic::{Place, Problem},
    read::Reader,
};
use crate::probe::Spec;

/// Reports a check that runs a program, unless files may hold one.
pub(super) fn vet(reader: &mut Reader<'_>, spec: &Spec, place: Place) -> Option<()> {
    if spec.protocol().uses_network() || reader.may.exec.allows_files() {
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
