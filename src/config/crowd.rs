//! Warns of how checks are spread: hosts that very many ask, or so many that a hang of theirs would
//! cost probes; and instances that none asks.

use super::{
    HashMap,
    diagnostic::{Place, Problem},
    read::Reader,
    service::Roll,
};
use crate::{
    model::{Schedule, ServiceName},
    probe::Host,
    scheduler,
};

/// More checks than this of one host are seldom meant: it is a proxy, or the name of many.
const MANY: usize = 500;

/// How much is asked of one host.
#[derive(Debug, Default)]
struct Load {
    first: usize,
    checks: usize,
    /// Probes a second.
    rate: f64,
    /// Probes under way at once when every one of them runs into its timeout.
    hung: f64,
}

/// Compares what is asked of each host, and what would be under way to it if it hung, with what may
/// be.
pub(super) fn warn(reader: &mut Reader<'_>, roll: &Roll, scheduler: &scheduler::Config) {
    let most = scheduler.max_in_flight_per_host.get();
    let crowded = |load: &Load| load.hung > f64::from(most) || load.checks > MANY;
    let mut loads: Vec<_> = loads(roll).into_iter().filter(|(_, load)| crowded(load)).collect();
    loads.sort_by_key(|(_, load)| load.first);
    for (host, load) in loads {
        let place: Place = roll.places[load.first].clone();
        let problem = Problem::warning(format!("{} checks ask the host `{host}`", load.checks))
            .at(place, "the first is a check of this instance");
        reader.report(if load.hung > f64::from(most) {
            problem
                .help(format!(
                    "if it hangs, {:.0} probes at once would wait for it; \
                     `scheduler.max_in_flight_per_host` lets {most} and skips the rest",
                    load.hung.ceil()
                ))
                .help("raise the limit, lengthen intervals or shorten timeouts")
        } else {
            problem
                .help(format!(
                    "more than {MANY} are seldom meant: it bears {:.1} probes a second, and if it \
                     fails they fail together",
                    load.rate
                ))
                .help("ask the instances themselves, or lengthen intervals, or leave checks out")
        });
    }
}

/// Warns of services without instances, and of those with instances that no check asks: these pass,
/// whatever they are like.
pub(super) fn warn_unasked(reader: &mut Reader<'_>, roll: &Roll) {
    for (service, place) in &roll.empty {
        reader.report(
            Problem::warning(format!("the service `{service}` has no instance"))
                .at(place.clone(), "nothing is asked of it")
                .help("list its `instances`, or leave it out"),
        );
    }
    let mut unasked: HashMap<&ServiceName, (usize, usize)> = HashMap::default();
    for (index, registration) in roll.registrations.iter().enumerate() {
        if registration.checks.is_empty() {
            unasked.entry(&registration.instance.service).or_insert((index, 0)).1 += 1;
        }
    }
    let mut unasked: Vec<_> = unasked.into_iter().collect();
    unasked.sort_unstable_by_key(|(_, (first, _))| *first);
    for (service, (first, count)) in unasked {
        let instances = if count == 1 { "an instance" } else { "instances" };
        reader.report(
            Problem::warning(format!("no check asks {instances} of the service `{service}`"))
                .at(roll.places[first].clone(), "always passes")
                .help("give the service `checks`, or leave the instance out"),
        );
    }
}

fn loads(roll: &Roll) -> HashMap<Host, Load> {
    let mut loads: HashMap<Host, Load> = HashMap::default();
    for (index, registration) in roll.registrations.iter().enumerate() {
        for check in &registration.checks {
            let endpoint = check.endpoint.as_ref().unwrap_or(&registration.instance.endpoint);
            let Some(destination) = check.definition.probe.destination(endpoint) else { continue };
            let host = &destination.host;
            let load = match loads.get_mut(host) {
                Some(load) => load,
                None => {
                    loads.entry(host.clone()).or_insert(Load { first: index, ..Load::default() })
                }
            };
            let Schedule { interval, timeout, .. } = check.definition.schedule;
            load.checks += 1;
            load.rate += 1.0 / interval.as_secs_f64();
            // A check whose timeout is longer than its interval still has one probe under way.
            load.hung += (timeout.as_secs_f64() / interval.as_secs_f64()).min(1.0);
        }
    }
    loads
}
