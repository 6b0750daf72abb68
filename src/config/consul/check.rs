//! One check as Consul defines it.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::probe;
use crate::{
    config::{
        check::{DEFAULT_JITTER, DEFAULT_OBJECTIVE, chain, head, in_bounds, warn},
        diagnostic::{Place, Problem},
        read::{Fidelity, Reader, Reading},
        scalar::{CheckIdText, InstanceIdText},
        tree::{Entry, Node},
    },
    duration::Period,
    judge::Thresholds,
    model::{CheckId, Schedule},
    probe::{Probe, Spec},
    registry::{Assigned, Definition},
};

/// Consul's own; ours is shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Consul's own for what runs a program.
const DEFAULT_TIMEOUT_OF_PROGRAMS: Duration = Duration::from_secs(30);

/// Consul raises shorter intervals to this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What a text for a shell is.
const SHELL: &str = "script";

/// The kinds of check by their keys, in the order in which Consul prefers them if a check has
/// several; with the name of a kind that is not run.
const KINDS: &[(&str, Option<&str>)] = &[
    ("ttl", Some("TTL")),
    ("http", None),
    ("tcp", None),
    ("udp", None),
    ("grpc", None),
    ("docker_container_id", Some("Docker")),
    ("os_service", Some("OS service")),
    ("args", None),
    ("script_args", None),
    ("script", Some(SHELL)),
    ("h2ping", None),
    ("alias_service", Some("alias")),
    ("alias_node", Some("alias")),
];

/// A check as Consul defines it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are Consul's")]
pub(super) struct Check {
    #[serde(alias = "check_id")]
    pub(super) id: Option<CheckIdText>,
    pub(super) name: Option<String>,
    pub(super) notes: Option<String>,
    pub(super) service_id: Option<InstanceIdText>,
    pub(super) status: Option<Status>,
    pub(super) http: Option<String>,
    pub(super) method: Option<String>,
    pub(super) header: BTreeMap<String, Vec<String>>,
    pub(super) body: Option<String>,
    pub(super) disable_redirects: bool,
    pub(super) tcp: Option<String>,
    pub(super) tcp_use_tls: bool,
    pub(super) grpc: Option<String>,
    pub(super) grpc_use_tls: bool,
    pub(super) udp: Option<String>,
    pub(super) h2ping: Option<String>,
    pub(super) h2ping_use_tls: Option<bool>,
    #[serde(alias = "script_args")]
    pub(super) args: Option<Vec<String>>,
    pub(super) tls_server_name: Option<String>,
    pub(super) tls_skip_verify: bool,
    pub(super) interval: Option<Time>,
    pub(super) timeout: Option<Time>,
    pub(super) success_before_passing: u32,
    pub(super) failures_before_warning: u32,
    pub(super) failures_before_critical: u32,
    pub(super) deregister_critical_service_after: Option<Time>,
}

/// The status a check starts with. It is read and not used: a check has no status here before the
/// first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    #[serde(alias = "")]
    Passing,
    Warning,
    Critical,
}

/// A duration as Go writes it, or a number of nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Go;

        impl Visitor<'_> for Go {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\"")
            }

            fn visit_u64<E: Error>(self, nanos: u64) -> Result<Time, E> {
                Ok(Time(Duration::from_nanos(nanos)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map(|period: Period| Time(period.get())).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Go)
    }
}

/// Reads one check; none if it cannot be read or is of a kind that is not run.
pub(super) fn check(
    reader: &mut Reader<'_>,
    node: &Node,
    default_id: &str,
    default_name: &str,
) -> Option<(Check, Assigned)> {
    let found = KINDS.iter().find_map(|&(key, kind)| Some((reader.find(node, key)?, kind)));
    let Reading { value: check, fidelity } = reader.read::<Check>(node.clone())?;
    let Some((_, None)) = found else {
        refuse(reader, node, found.and_then(|(entry, kind)| Some((entry, kind?))));
        return None;
    };
    if fidelity == Fidelity::Lossy {
        return None;
    }
    let written = Written { check: &check, node };
    let (spec, endpoint) = probe::spec(reader, &written)?;
    let schedule = written.schedule(reader, &spec)?;
    let thresholds = written.thresholds(reader)?;
    written.warn(reader);
    warn::settings(reader, node, &spec, &schedule, &thresholds);
    let probe = match Probe::prepare(&spec) {
        Ok(probe) => probe,
        Err(error) => {
            let place = reader.place(&head(node));
            let problem = Problem::error(chain(&error));
            reader.report(problem.at(place, "cannot be made ready"));
            return None;
        }
    };
    let given = check.id.as_ref().map(|id| id.get().clone());
    let named = check.name.as_ref().and_then(|name| name.parse().ok());
    let id = given.clone().or(named).or_else(|| probe.protocol().as_str().parse().ok())?;
    let definition = Definition {
        id,
        name: Some(check.name.as_deref().unwrap_or(default_name).into()),
        notes: check.notes.as_deref().map(Into::into),
        probe: Arc::new(probe),
        schedule,
        thresholds,
        slo_objective: DEFAULT_OBJECTIVE,
    };
    let consul_id = given.as_ref().map_or(default_id, CheckId::as_str);
    let assigned =
        Assigned { definition: Arc::new(definition), endpoint, consul_id: Some(consul_id.into()) };
    Some((check, assigned))
}

/// Says that a check is not run, or that it is no check.
fn refuse(reader: &mut Reader<'_>, node: &Node, not_run: Option<(&Entry, &str)>) {
    let problem = match not_run {
        Some((entry, kind)) => {
            let problem =
                Problem::warning(format!("checks of the kind {kind} are not run in this version"))
                    .at(reader.place(&entry.key_span), "the service is loaded without this check");
            match kind {
                SHELL => problem
                    .help("no shell is run: write the program and its arguments as a list, `args`"),
                _ => problem,
            }
        }
        None => Problem::error(
            "a check asks by one of `http`, `tcp`, `udp`, `grpc`, `args` and `h2ping`",
        )
        .at(reader.place(&head(node)), "asks by none of them"),
    };
    reader.report(problem);
}

/// A check with the tree it was read from, which knows the places.
pub(super) struct Written<'a> {
    pub(super) check: &'a Check,
    node: &'a Node,
}

impl Written<'_> {
    pub(super) fn place(&self, reader: &Reader<'_>, key: &str) -> Place {
        let entry = reader.find(self.node, key);
        reader.place(&entry.map_or_else(|| head(self.node), |entry| entry.value.span.clone()))
    }

    /// Where the first of the keys is that is written.
    pub(super) fn key(&self, reader: &Reader<'_>, keys: &[&str]) -> Place {
        let entry = keys.iter().find_map(|key| reader.find(self.node, key));
        reader.place(&entry.map_or_else(|| head(self.node), |entry| entry.key_span.clone()))
    }

    fn schedule(&self, reader: &mut Reader<'_>, spec: &Spec) -> Option<Schedule> {
        let Some(Time(mut interval)) = self.check.interval.filter(|time| !time.0.is_zero()) else {
            let problem = Problem::error("a check needs an `interval` above zero")
                .at(self.place(reader, "interval"), "has none");
            reader.report(problem);
            return None;
        };
        if interval < MIN_INTERVAL {
            let problem = Problem::warning("an interval below 1s is raised to 1s")
                .at(self.place(reader, "interval"), Period::from(interval).to_string())
                .help("Consul does the same; checks in our own format may ask faster");
            reader.report(problem);
            interval = MIN_INTERVAL;
        }
        let timeout = self.check.timeout.map(|time| time.0).filter(|time| !time.is_zero());
        let timeout = timeout.unwrap_or_else(|| self.default_timeout(spec, interval));
        for (key, value) in [("interval", interval), ("timeout", timeout)] {
            let place = self.place(reader, key);
            in_bounds(reader, key, value, place)?;
        }
        Some(Schedule { interval, timeout, jitter: DEFAULT_JITTER, initial_delay: Duration::ZERO })
    }

    /// A probe of a silent UDP target, which is well, takes nearly its timeout: Consul then asks less
    /// often than it says, and here every other run would be skipped.
    fn default_timeout(&self, spec: &Spec, interval: Duration) -> Duration {
        match self.check.udp {
            _ if !spec.protocol().uses_network() => DEFAULT_TIMEOUT_OF_PROGRAMS,
            Some(_) => DEFAULT_TIMEOUT.min(interval * 4 / 5),
            None => DEFAULT_TIMEOUT,
        }
    }

    /// Consul counts from zero where we count from one: 0 and 1 both mean "at once".
    fn thresholds(&self, reader: &mut Reader<'_>) -> Option<Thresholds> {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let critical = at_least_one(self.check.failures_before_critical);
        let warning = match self.check.failures_before_warning {
            0 => critical,
            n => at_least_one(n),
        };
        let passing = at_least_one(self.check.success_before_passing);
        Thresholds::new(passing, warning, critical)
            .map_err(|error| {
                let place = self.place(reader, "failures_before_warning");
                reader.report(Problem::error(error.to_string()).at(place, ""));
            })
            .ok()
    }

    fn warn(&self, reader: &mut Reader<'_>) {
        if self.check.deregister_critical_service_after.is_some_and(|time| !time.0.is_zero()) {
            let place = self.place(reader, "deregister_critical_service_after");
            reader.report(
                Problem::warning("services are not deregistered for being critical")
                    .at(place, "is not acted on in this version"),
            );
        }
    }
}
