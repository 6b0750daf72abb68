//! Warns of hosts that so many checks ask that a hang of theirs would cost probes.

use std::collections::HashMap;

use super::{
    diagnostic::{Place, Problem},
    read::Reader,
    service::Roll,
};
use crate::{model::Schedule, probe::Host, scheduler};

/// How much is asked of one host.
struct Load {
    first: usize,
    checks: usize,
    /// Probes under way at once when every one of them runs into its timeout.
    hung: f64,
}

/// Compares what would be under way to each host, if it hung, with what may be.
pub(super) fn warn(reader: &mut Reader<'_>, roll: &Roll, scheduler: &scheduler::Config) {
    let most = scheduler.max_in_flight_per_host.get();
    let mut crowded: Vec<_> =
        loads(roll).into_iter().filter(|(_, load)| load.hung > f64::from(most)).collect();
    crowded.sort_by_key(|(_, load)| load.first);
    for (host, load) in crowded {
        let place: Place = roll.places[load.first].clone();
        reader.report(
            Problem::warning(format!("{} checks ask the host `{host}`", load.checks))
                .at(place, "the first of its instances")
                .help(format!(
                    "if it hangs, {:.0} probes at once would wait for it; \
                     `scheduler.max_in_flight_per_host` lets {most} and skips the rest",
                    load.hung.ceil()
                ))
                .help("raise the limit, lengthen intervals or shorten timeouts"),
        );
    }
}

fn loads(roll: &Roll) -> HashMap<&Host, Load> {
    let mut loads: HashMap<&Host, Load> = HashMap::new();
    for (index, registration) in roll.registrations.iter().enumerate() {
        for check in &registration.checks {
            let endpoint = check.endpoint.as_ref().unwrap_or(&registration.instance.endpoint);
            let load =
                loads.entry(&endpoint.host).or_insert(Load { first: index, checks: 0, hung: 0.0 });
            let Schedule { interval, timeout, .. } = check.definition.schedule;
            load.checks += 1;
            // A check whose timeout is longer than its interval still has one probe under way.
            load.hung += (timeout.as_secs_f64() / interval.as_secs_f64()).min(1.0);
        }
    }
    loads
}
