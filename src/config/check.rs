//! A check as a configuration file describes it, and what that means.

mod dial;
pub(super) mod warn;

use std::{borrow::Cow, num::NonZeroU32, sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

use super::{
    destination,
    diagnostic::{Place, Problem},
    program,
    read::{Fidelity, Reader, Reading},
    scalar::{Id, Jitter, Objective},
    tree::Node,
};
use crate::{
    duration::Period,
    judge::Thresholds,
    model::{CheckId, Pace, Schedule, Tripwire},
    probe::{self, Probe},
    registry::Definition,
};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_FAILURES: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

/// The shortest and the longest time over which confirmations are spread.
const CONFIRM_WITHIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

/// The default timeout, unless the interval is so short that runs would be skipped.
const LONGEST_DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// What is asked of every instance, how, how often, and how many answers in a row decide. Exactly
/// one of `http`, `tcp`, `grpc`, `udp`, `h2ping`, `certificate`, `dns`, `etcd`, `icmp`
/// and `exec` says how.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = by_one_protocol)]
pub struct Check {
    /// Names the check in metrics and in the API; unique within the service. Default: the
    /// protocol's name, as `http`.
    pub id: Option<Id<CheckId>>,
    /// A name for people. Default: none.
    pub name: Option<String>,
    /// Notes for people; shown by the API, never changed by results. Default: none.
    pub notes: Option<String>,
    /// Ask by HTTP. Default: none.
    pub http: Option<probe::http::Spec>,
    /// Ask by opening a TCP connection. Default: none.
    pub tcp: Option<probe::tcp::Spec>,
    /// Ask by the gRPC health protocol. Default: none.
    pub grpc: Option<probe::grpc::Spec>,
    /// Ask by a UDP datagram. Default: none.
    pub udp: Option<probe::udp::Spec>,
    /// Ask by an HTTP/2 ping. Default: none.
    pub h2ping: Option<probe::h2ping::Spec>,
    /// Ask for the certificate, and how long it lives. Default: none.
    pub certificate: Option<probe::certificate::Spec>,
    /// Ask a DNS server a question. Default: none.
    pub dns: Option<probe::dns::Spec>,
    /// Ask all members of an etcd cluster. Default: none.
    pub etcd: Option<probe::etcd::Spec>,
    /// Ask by ICMP echo requests (ping). Default: none.
    pub icmp: Option<probe::icmp::Spec>,
    /// Ask by running a program. Default: none.
    pub exec: Option<probe::exec::Spec>,
    /// From the start of one probe to the start of the next. Shorter finds failures earlier and
    /// costs the target more. At least two ticks of the scheduler (`scheduler.tick`), at most 7d.
    /// Default: 10s.
    pub interval: Option<Period>,
    /// The longest one probe may take, name resolution included; one that takes longer has failed.
    /// While one is under way, runs that come due are skipped, so it should be shorter than the
    /// interval. 1ms to 7d. Default: 2s, or four fifths of the interval if that is shorter.
    pub timeout: Option<Period>,
    /// How far a probe may move from its place, as a share of the interval, so that many checks
    /// do not fall into step; `5%` or 0.05, at most 50%. Default: 5%.
    pub jitter: Option<Jitter>,
    /// How long after its registration an instance is first asked; gives slow starters time.
    /// At most 7d. Default: 0s.
    pub initial_delay: Option<Period>,
    /// Successes in a row before the status is passing. More keeps a flapping instance out longer.
    /// Default: 1.
    pub success_before_passing: Option<NonZeroU32>,
    /// Failures in a row before the status is warning. Default: `failures_before_critical`, so
    /// that there is no warning.
    pub failures_before_warning: Option<NonZeroU32>,
    /// Failures in a row before the status is critical. More forgives more and notices later.
    /// Default: 3.
    pub failures_before_critical: Option<NonZeroU32>,
    /// Most probes that confirm the first failure of a check that was well, at a short spacing
    /// instead of at the next interval; they count like any other. Over time they are no more than
    /// one for each interval. 0 to 10; 0 waits for the next interval. Default: 3.
    #[schemars(range(max = 10))]
    pub confirm_probes: Option<u8>,
    /// The time over which those are spread; 10ms to 1m. Default: 1s.
    pub confirm_within: Option<Period>,
    /// Most intervals from one probe to the next of a target that has been critical for long: after
    /// ten more failures than it takes it is asked every second time, after ten more every fourth, up
    /// to this. The first success, a maintenance and `rollcall recheck` end that. 1 to 16; 1 never
    /// asks less often. Default: 4.
    #[schemars(range(min = 1, max = 16))]
    pub max_backoff: Option<u8>,
    /// Whether an idle connection to the target is held, so that a process that dies is noticed at
    /// once: when the connection closes, the target is asked. For `http`, `tcp`, `grpc` and
    /// `h2ping`. Default: true if more than one failure in a row is needed for critical.
    pub tripwire: Option<bool>,
    /// The share of probes that should succeed, for the error budget; `99%` or 0.99, between 0
    /// and 1. Default: 0.99.
    pub slo_objective: Option<Objective>,
    /// Says that an interval below one second is meant. Default: false.
    pub allow_fast_interval: Option<bool>,
    /// How the target's address is found and reached; taken from `check_defaults` as a whole if the
    /// check says nothing of it. Not for programs. Default: the first address of a name that takes
    /// the connection, as the system's resolver knows it.
    pub dial: Option<probe::dial::Spec>,
}

/// The keys that belong to one check alone.
const OWN_KEYS: [&str; 13] = [
    "id",
    "name",
    "notes",
    "http",
    "tcp",
    "grpc",
    "udp",
    "h2ping",
    "certificate",
    "dns",
    "etcd",
    "icmp",
    "exec",
];

/// Says in the schema what the type does not: one protocol, and only one.
fn by_one_protocol(schema: &mut Schema) {
    let options: Vec<_> =
        probe::Protocol::probed().map(|p| json!({ "required": [p.as_str()] })).collect();
    schema.insert("oneOf".to_owned(), options.into());
}

/// The schema of `check_defaults`: a [`Check`] without the keys that belong to one check alone.
#[derive(Debug)]
pub struct CheckDefaults;

impl JsonSchema for CheckDefaults {
    fn schema_name() -> Cow<'static, str> {
        "CheckDefaults".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Check::json_schema(generator);
        schema.remove("oneOf");
        schema.insert("description".to_owned(), "What checks have in common.".into());
        if let Some(keys) = schema.get_mut("properties").and_then(|keys| keys.as_object_mut()) {
            keys.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        }
        schema
    }
}

/// A definition with where it was written.
#[derive(Debug, Clone)]
pub(super) struct Defined {
    pub definition: Arc<Definition>,
    pub place: Place,
}

/// What the checks of a service have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common<'a> {
    /// What a check takes where it says nothing itself, the nearest first.
    pub defaults: &'a [&'a Check],
    /// The scheduler's tick, if it is one that can be.
    pub tick: Option<Duration>,
}

/// Reads the settings that checks have in common.
pub(super) fn defaults(reader: &mut Reader<'_>, parent: &mut Node) -> Check {
    let Some(entry) = parent.take("check_defaults") else { return Check::default() };
    for key in OWN_KEYS {
        if let Some(found) = entry.value.entry(key) {
            let place = reader.place(&found.key_span);
            reader.report(
                Problem::error(format!("`{key}` cannot be common to all checks"))
                    .at(place, "belongs to a single check"),
            );
        }
    }
    reader.read(entry.value).map(|reading| reading.value).unwrap_or_default()
}

/// Reads one check.
pub(super) fn check(reader: &mut Reader<'_>, node: &Node, common: Common<'_>) -> Option<Defined> {
    let Reading { value, fidelity } = reader.read::<Check>(node.clone())?;
    let merged = value.over(common.defaults);
    let written = Written { check: &merged, node };
    let spec = written.spec(reader, fidelity)?;
    let allowed = vet_program(reader, node, spec.protocol());
    if fidelity == Fidelity::Lossy {
        return None;
    }
    allowed?;
    let schedule = written.schedule(reader)?;
    written.can_be_kept(reader, schedule.interval, common.tick)?;
    let thresholds = written.thresholds(reader)?;
    written.warn_of_load(reader, schedule.interval);
    warn::settings(reader, node, &spec, &schedule, &thresholds);
    dial::vet(reader, node, merged.dial.as_ref(), spec.protocol())?;
    let probe = prepare(reader, node, &spec)?.dialing(&merged.dial.clone().unwrap_or_default());
    if let Some(elsewhere) = probe.url_endpoint() {
        let url = node.get(probe.protocol().as_str()).and_then(|node| node.get("url"));
        let place = reader.place(&url.map_or_else(|| head(node), |node| node.span.clone()));
        destination::vet(reader, &elsewhere.host, place);
    }
    let id = match &merged.id {
        Some(id) => id.get().clone(),
        None => probe.protocol().as_str().parse().ok()?,
    };
    let definition = Definition {
        id,
        name: merged.name.as_deref().map(Into::into),
        notes: merged.notes.as_deref().map(Into::into),
        probe: Arc::new(probe),
        schedule,
        thresholds,
        slo_objective: merged.slo_objective.map_or(Definition::DEFAULT_OBJECTIVE, Objective::get),
    };
    let span = node.entry("id").map_or_else(|| head(node), |entry| entry.value.span.clone());
    Some(Defined { definition: Arc::new(definition), place: reader.place(&span) })
}

fn vet_program(reader: &mut Reader<'_>, node: &Node, protocol: probe::Protocol) -> Option<()> {
    if !protocol.runs_program() {
        return Some(());
    }
    let key = node.entry(protocol.as_str());
    let key = key.map_or_else(|| head(node), |entry| entry.key_span.clone());
    let place = reader.place(&key);
    program::vet(reader, place)
}

/// The first key of a mapping, to point at the whole.
pub(super) fn head(node: &Node) -> super::tree::Span {
    node.entries().first().map_or_else(|| node.span.clone(), |entry| entry.key_span.clone())
}

/// Makes a probe ready: reads its files, compiles its expressions.
fn prepare(reader: &mut Reader<'_>, node: &Node, spec: &probe::Spec) -> Option<Probe> {
    match Probe::prepare(spec) {
        Ok(probe) => Some(probe),
        Err(error) => {
            let key = probe::Protocol::probed().find_map(|protocol| node.entry(protocol.as_str()));
            let span = key.map_or_else(|| head(node), |entry| entry.key_span.clone());
            let problem = Problem::error(error.with_causes());
            reader.report(problem.at(reader.place(&span), "cannot be made ready"));
            None
        }
    }
}

/// Refuses a time that no check can have.
pub(super) fn in_bounds(
    reader: &mut Reader<'_>,
    key: &str,
    value: Duration,
    place: Place,
) -> Option<()> {
    let Err(rule) = Schedule::vet(value) else { return Some(()) };
    let problem = Problem::error(format!("`{key}` {rule}"));
    reader.report(problem.at(place, format!("{} is given", shown(value))));
    None
}

/// How many runs one probe that hangs takes up, its own included, at worst: runs that come due while
/// it is under way are skipped, and jitter brings two runs closer to each other by up to twice its
/// share of the interval.
pub fn runs_per_hang(schedule: &Schedule) -> u32 {
    let interval = schedule.interval.as_nanos().max(1);
    let closer = schedule.interval.mul_f64(2.0 * schedule.jitter);
    let skipped = schedule.timeout.saturating_add(closer).as_nanos() / interval;
    u32::try_from(skipped).unwrap_or(u32::MAX).saturating_add(1)
}

fn shown(duration: Duration) -> String {
    Period::from(duration).to_string()
}

impl Check {
    /// What this check says, and where it says nothing, what the nearest defaults say.
    fn over(mut self, defaults: &[&Self]) -> Self {
        for other in defaults {
            self.interval = self.interval.or(other.interval);
            self.timeout = self.timeout.or(other.timeout);
            self.jitter = self.jitter.or(other.jitter);
            self.initial_delay = self.initial_delay.or(other.initial_delay);
            self.success_before_passing =
                self.success_before_passing.or(other.success_before_passing);
            self.failures_before_warning =
                self.failures_before_warning.or(other.failures_before_warning);
            self.failures_before_critical =
                self.failures_before_critical.or(other.failures_before_critical);
            self.confirm_probes = self.confirm_probes.or(other.confirm_probes);
            self.confirm_within = self.confirm_within.or(other.confirm_within);
            self.max_backoff = self.max_backoff.or(other.max_backoff);
            self.tripwire = self.tripwire.or(other.tripwire);
            self.slo_objective = self.slo_objective.or(other.slo_objective);
            self.allow_fast_interval = self.allow_fast_interval.or(other.allow_fast_interval);
            self.dial = self.dial.or_else(|| other.dial.clone());
        }
        self
    }
}

/// A check with the tree it was read from, which knows the places.
struct Written<'a> {
    check: &'a Check,
    node: &'a Node,
}

impl Written<'_> {
    /// Where a key's value is, or the check's first key if it comes from defaults.
    fn place(&self, reader: &Reader<'_>, key: &str) -> Place {
        let span = self.node.get(key).map_or_else(|| head(self.node), |node| node.span.clone());
        reader.place(&span)
    }

    fn spec(&self, reader: &mut Reader<'_>, fidelity: Fidelity) -> Option<probe::Spec> {
        let check = self.check;
        let mut specs = Vec::new();
        specs.extend(check.http.clone().map(probe::Spec::Http));
        specs.extend(check.tcp.clone().map(probe::Spec::Tcp));
        specs.extend(check.grpc.clone().map(probe::Spec::Grpc));
        specs.extend(check.udp.clone().map(probe::Spec::Udp));
        specs.extend(check.h2ping.clone().map(probe::Spec::H2ping));
        specs.extend(check.certificate.clone().map(probe::Spec::Certificate));
        specs.extend(check.dns.clone().map(probe::Spec::Dns));
        specs.extend(check.etcd.clone().map(probe::Spec::Etcd));
        specs.extend(check.icmp.clone().map(probe::Spec::Icmp));
        specs.extend(check.exec.clone().map(probe::Spec::Exec));
        if specs.len() == 1 {
            return specs.pop();
        }
        if specs.is_empty() && fidelity != Fidelity::Whole {
            return None;
        }
        let rule = "a check asks by exactly one of `http`, `tcp`, `grpc`, `udp`, `h2ping`, \
                    `certificate`, `dns`, `etcd`, `icmp` and `exec`";
        let mut keys =
            probe::Protocol::probed().filter_map(|protocol| self.node.entry(protocol.as_str()));
        let problem = match (keys.next(), keys.next()) {
            (Some(first), Some(second)) => Problem::error(rule)
                .at(reader.place(&second.key_span), format!("asks by `{}` too", second.key))
                .related(
                    reader.place(&first.key_span),
                    format!("it asks by `{}` already", first.key),
                )
                .help("make two checks of it"),
            _ => Problem::error(rule)
                .at(reader.place(&head(self.node)), "asks by none of them")
                .help("add for example `http: { path: / }` or `tcp: {}`"),
        };
        reader.report(problem);
        None
    }

    fn schedule(&self, reader: &mut Reader<'_>) -> Option<Schedule> {
        let interval = self.check.interval.map_or(DEFAULT_INTERVAL, Period::get);
        let timeout = self.check.timeout.map(Period::get);
        let initial_delay = self.check.initial_delay.map_or(Duration::ZERO, Period::get);
        // A delay may be nothing; a timeout that follows from a bad interval is not said to be
        // wrong as well.
        let values = [
            ("interval", interval),
            ("timeout", timeout.unwrap_or(LONGEST_DEFAULT_TIMEOUT)),
            ("initial_delay", initial_delay.max(Schedule::SHORTEST)),
        ];
        let faults = values.map(|(key, value)| {
            let place = self.place(reader, key);
            in_bounds(reader, key, value, place)
        });
        let pace = self.pace(reader)?;
        faults.iter().all(Option::is_some).then(|| Schedule {
            interval,
            timeout: timeout.unwrap_or_else(|| LONGEST_DEFAULT_TIMEOUT.min(interval * 4 / 5)),
            jitter: self.check.jitter.map_or(Schedule::DEFAULT_JITTER, Jitter::get),
            initial_delay,
            pace,
        })
    }

    fn pace(&self, reader: &mut Reader<'_>) -> Option<Pace> {
        let default = Pace::default();
        let confirm_within = self.check.confirm_within.map_or(default.confirm_within, Period::get);
        let pace = Pace {
            confirm_probes: self.check.confirm_probes.unwrap_or(default.confirm_probes),
            confirm_within,
            max_backoff: self.check.max_backoff.unwrap_or(default.max_backoff),
            tripwire: match self.check.tripwire {
                None => Tripwire::Auto,
                Some(true) => Tripwire::On,
                Some(false) => Tripwire::Off,
            },
            ..default
        };
        let rules = [
            (
                "confirm_probes",
                pace.confirm_probes <= Pace::MOST_CONFIRM_PROBES,
                "must be at most 10",
            ),
            (
                "confirm_within",
                (CONFIRM_WITHIN.0..=CONFIRM_WITHIN.1).contains(&confirm_within),
                "must be between 10ms and 1m",
            ),
            ("max_backoff", (1..=16).contains(&pace.max_backoff), "must be between 1 and 16"),
        ];
        let mut holds = true;
        for (key, fits, rule) in rules {
            if !fits {
                holds = false;
                let at = self.place(reader, key);
                reader.report(Problem::error(format!("`{key}` {rule}")).at(at, "is given here"));
            }
        }
        holds.then_some(pace)
    }

    /// Refuses an interval that the scheduler cannot keep: a run starts half a tick from its time at most.
    fn can_be_kept(
        &self,
        reader: &mut Reader<'_>,
        interval: Duration,
        tick: Option<Duration>,
    ) -> Option<()> {
        let Some(tick) = tick.filter(|tick| interval < *tick * 2) else { return Some(()) };
        let place = self.place(reader, "interval");
        reader.report(
            Problem::error("`interval` must be at least two ticks of the scheduler")
                .at(
                    place,
                    format!("{} is given, two ticks are {}", shown(interval), shown(tick * 2)),
                )
                .help("raise `interval`, or shorten `scheduler.tick`, to 1ms at the least"),
        );
        None
    }

    fn thresholds(&self, reader: &mut Reader<'_>) -> Option<Thresholds> {
        let check = self.check;
        let critical = check.failures_before_critical.unwrap_or(DEFAULT_FAILURES);
        let warning = check.failures_before_warning.unwrap_or(critical);
        let passing = check.success_before_passing.unwrap_or(NonZeroU32::MIN);
        match Thresholds::new(passing, warning, critical) {
            Ok(thresholds) => Some(thresholds),
            Err(error) => {
                let place = self.place(reader, "failures_before_warning");
                reader.report(
                    Problem::error(error.to_string())
                        .at(place, "a check would be critical before it is warning")
                        .help("lower `failures_before_warning` or leave it out"),
                );
                None
            }
        }
    }
}
