//! One check of a service file: what is said of it, with its place.

use crate::{
    config::{
        check::{head, warn},
        destination,
        diagnostic::{Place, Problem},
        program,
        read::{Fidelity, Reader, Reading},
        tree::{Entry, Node},
    },
    consul::{CheckDefinition, Kind, Naming, Programs},
    duration::Period,
    registry::Assigned,
};

/// A command as a text for a shell, as Consul took it before 1.1: the key and the name of the kind.
const SHELL: &str = "script";

/// Reads one check; none if it cannot be read or is of a kind that is not run.
pub(super) fn check(
    reader: &mut Reader<'_>,
    node: &Node,
    naming: &Naming,
) -> Option<(CheckDefinition, Assigned)> {
    let Reading { value: check, fidelity } = reader.read::<CheckDefinition>(node.clone())?;
    if fidelity == Fidelity::Lossy {
        return None;
    }
    if let Some((entry, kind)) = not_run(reader, node, check.kind()) {
        let problem =
            Problem::warning(format!("checks of the kind {kind} are not run in this version"))
                .at(reader.place(&entry.key_span), "the service is loaded without this check");
        reader.report(match kind {
            SHELL => problem
                .help("no shell is run: write the program and its arguments as a list, `args`"),
            _ => problem,
        });
        return None;
    }
    if let Some(kind) = check.kind() {
        vet_kind(reader, node, &check, kind)?;
    }
    let assigned = match check.assigned(naming, Programs::Allowed) {
        Ok(assigned) => assigned,
        Err(invalid) => {
            let place = place(reader, node, invalid.field);
            reader.report(Problem::error(invalid.message).at(place, invalid.note));
            return None;
        }
    };
    vet(reader, node, &check, &assigned);
    Some((check, assigned))
}

/// The key that makes a check one of a kind that is not run, with the name of the kind.
fn not_run<'n>(
    reader: &Reader<'_>,
    node: &'n Node,
    kind: Option<Kind>,
) -> Option<(&'n Entry, &'static str)> {
    let (name, keys) = match kind {
        Some(
            Kind::Ttl
            | Kind::Http
            | Kind::Tcp
            | Kind::Udp
            | Kind::Grpc
            | Kind::Script
            | Kind::H2ping
            | Kind::Alias,
        ) => return None,
        Some(kind @ Kind::Docker) => ("Docker", kind.fields()),
        Some(kind @ Kind::OsService) => ("OS service", kind.fields()),
        None => (SHELL, [SHELL].as_slice()),
    };
    keys.iter().find_map(|key| Some((reader.find(node, key)?, name)))
}

/// Refuses what a check of its kind may not do or say, and warns of its interval.
fn vet_kind(
    reader: &mut Reader<'_>,
    node: &Node,
    check: &CheckDefinition,
    kind: Kind,
) -> Option<()> {
    if kind == Kind::Script {
        let place = key_place(reader, node, kind);
        program::vet(reader, place)?;
    }
    if !kind.is_pushed() {
        warn_of_interval(reader, node, check);
    } else if let Err(invalid) = check.validate() {
        let place = key_place(reader, node, kind);
        reader.report(Problem::error(invalid.to_string()).at(place, ""));
        return None;
    }
    Some(())
}

/// Where the key is that makes a check one of its kind.
fn key_place(reader: &Reader<'_>, node: &Node, kind: Kind) -> Place {
    let entry = kind.fields().iter().find_map(|key| reader.find(node, key));
    reader.place(&entry.map_or_else(|| head(node), |entry| entry.key_span.clone()))
}

/// Where a field is written, or the check's first key if it is not.
fn place(reader: &Reader<'_>, node: &Node, field: &str) -> Place {
    let entry = reader.find(node, field);
    reader.place(&entry.map_or_else(|| head(node), |entry| entry.value.span.clone()))
}

fn warn_of_interval(reader: &mut Reader<'_>, node: &Node, check: &CheckDefinition) {
    let Some(interval) = check.interval.filter(|interval| !interval.is_zero()) else { return };
    if interval.0 < CheckDefinition::MIN_INTERVAL {
        let place = place(reader, node, "interval");
        reader.report(
            Problem::warning("an interval below 1s is raised to 1s")
                .at(place, Period::from(interval.0).to_string())
                .help("Consul does the same; checks in our own format may ask faster"),
        );
    }
}

/// Refuses destinations that are denied, and warns of what is not acted on or seldom meant.
fn vet(reader: &mut Reader<'_>, node: &Node, check: &CheckDefinition, assigned: &Assigned) {
    let definition = &assigned.definition;
    if let Some(endpoint) = &assigned.endpoint {
        let place = place(reader, node, definition.probe.protocol().as_str());
        destination::vet(reader, &endpoint.host, place);
    }
    if check.deregister_after().is_some() {
        let place = place(reader, node, "deregister_critical_service_after");
        reader.report(
            Problem::warning("services are not deregistered for being critical")
                .at(place, "is not acted on in this version"),
        );
    }
    if definition.probe.pushed().is_some() {
        return;
    }
    let (schedule, thresholds) = (&definition.schedule, &definition.thresholds);
    warn::settings(reader, node, &definition.probe.spec(), schedule, thresholds);
}
