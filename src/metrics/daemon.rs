//! What the daemon counts of itself, through the `prometheus` crate.
//!
//! No global recorder: one [`Daemon`] is made when the daemon is put together and handed to whom
//! it concerns. Known label values are initialised to zero so that rates exist from the start.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

use crate::{
    clock::{self, Timestamp},
    model::{Extra, Status},
    probe::Protocol,
};

use super::{
    catalogue::{self, Family},
    doubt::Doubts,
    process,
    text::Writer,
};

/// Fine about the ticks of the schedule, so that it shows what is later than the tick alone makes it.
const LAG_BUCKETS: [f64; 18] = [
    0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.05,
    0.1, 0.5, 1.0, 5.0,
];
/// The stages of a detection.
const OBSERVED: &str = "observed";
const PUBLISHED: &str = "published";

const DETECTION_BUCKETS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 12.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0];
const DNS_BUCKETS: [f64; 8] = [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.05, 0.5];
const HTTP_BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Why a run did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// The run before is still under way.
    Overrun,
    /// Too many probes are under way.
    Saturated,
    /// Too many probes are under way to the host.
    Destination,
    /// Its time had passed when we got to it.
    Late,
    /// The daemon is stopping.
    Shutdown,
}

impl Skip {
    const ALL: [Self; 5] =
        [Self::Overrun, Self::Saturated, Self::Destination, Self::Late, Self::Shutdown];

    /// The word of the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Saturated => "saturated",
            Self::Destination => "destination",
            Self::Late => "late",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The daemon's own metrics. Cloning gives another handle on the same numbers.
#[derive(Debug, Clone)]
pub struct Daemon {
    registry: Registry,
    started: Timestamp,
    /// How late probes started, in seconds.
    pub lag: Histogram,
    skipped: [IntCounter; Skip::ALL.len()],
    extra: [IntCounter; Extra::COUNT],
    pub(crate) detection: HistogramVec,
    /// Idle connections held to targets.
    pub tripwires: IntGauge,
    tripwire_cuts: IntCounterVec,
    in_flight: [IntGauge; Protocol::COUNT],
    transitions: IntCounterVec,
    /// Checks that wait for their next run.
    pub queue_length: IntGauge,
    /// The limit on probes under way.
    pub in_flight_limit: IntGauge,
    /// Probes ended by a panic.
    pub panics: IntCounter,
    /// Readings of sources, by source and result.
    pub discovery_refreshes: IntCounterVec,
    /// When a source was read last without a fault, by source; Unix seconds.
    pub discovery_last_success: GaugeVec,
    /// Instances registered, deregistered and expired.
    pub registrations: IntCounterVec,
    /// Instances due to be deregistered that are held back.
    pub deregistrations_held: IntGauge,
    /// Checks of which consumers are told otherwise than is observed, by what holds them.
    pub published_held: IntGaugeVec,
    /// 1 while the guard holds anything, else 0.
    pub guard_active: IntGauge,
    /// Failures held by the guard, by limit.
    pub guard_holds: IntCounterVec,
    /// Checks that come and go.
    pub checks_flapping: IntGauge,
    /// Checks whose last result is too old.
    pub checks_stale: IntGauge,
    /// Registrations over another owner's instance of the same id, taken or refused.
    pub registration_conflicts: IntCounter,
    /// Sessions ended because they were not renewed.
    pub sessions_expired: IntCounter,
    /// Results of TTL checks taken in.
    pub heartbeats: IntCounter,
    /// Times a TTL check was not heard of in time.
    pub heartbeats_missed: IntCounter,
    /// Requests held.
    pub blocking_queries: IntGauge,
    /// Most requests that may be held.
    pub blocking_queries_limit: IntGauge,
    /// Requests not held, by whose limit.
    pub blocking_queries_refused: IntCounterVec,
    /// 1 if the last reading of the configuration was taken over, else 0.
    pub reload_successful: IntGauge,
    /// When it was; Unix seconds.
    pub reload_time: Gauge,
    /// Savings of the state, by result.
    pub state_saves: IntCounterVec,
    /// Requests by route, method and code.
    pub http_requests: IntCounterVec,
    /// Time to the head of the answer by route, in seconds.
    pub http_duration: HistogramVec,
    dns_requests: IntCounterVec,
    dns_duration: HistogramVec,
    /// The daemon's doubt about itself.
    pub doubt: Doubts,
    /// Series left out, by family.
    pub series_dropped: IntCounterVec,
}

pub(super) fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

pub(super) fn buckets(family: &Family, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(family.name, family.help).buckets(bounds.to_vec())
}

/// Registers what was made from the catalogue.
pub(super) fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn counters(registry: &Registry, family: &Family) -> prometheus::Result<IntCounterVec> {
    add(registry, IntCounterVec::new(opts(family), family.labels))
}

impl Daemon {
    /// All families at zero.
    ///
    /// # Panics
    /// If the catalogue holds a name twice or an impossible one, which its tests rule out.
    #[expect(clippy::new_without_default, reason = "this is a registration, not a neutral value")]
    pub fn new() -> Self {
        Self::try_new(Registry::new()).expect("the catalogue's names are valid and unique")
    }

    fn try_new(registry: Registry) -> prometheus::Result<Self> {
        let r = &registry;
        let gauge = |family| add(r, IntGauge::with_opts(opts(family)));
        let counter = |family| add(r, IntCounter::with_opts(opts(family)));
        let skipped = counters(r, &catalogue::SCHEDULER_SKIPPED)?;
        let extra = counters(r, &catalogue::EXTRA_PROBES)?;
        let detection = &catalogue::DETECTION;
        let flying = &catalogue::PROBES_IN_FLIGHT;
        let flying = add(r, IntGaugeVec::new(opts(flying), flying.labels))?;
        let in_flight =
            std::array::from_fn(|index| flying.with_label_values(&[Protocol::ALL[index].as_str()]));
        for pushed in Protocol::ALL.iter().filter(|protocol| !protocol.is_probed()) {
            flying.remove_label_values(&[pushed.as_str()])?;
        }
        let limit = &catalogue::PROBES_IN_FLIGHT_LIMIT;
        let limit = add(r, IntGaugeVec::new(opts(limit), limit.labels))?;
        let last = &catalogue::DISCOVERY_LAST_SUCCESS;
        let http = &catalogue::HTTP_DURATION;
        let dns = &catalogue::DNS_DURATION;
        let held = &catalogue::PUBLISHED_HELD;
        let build = &catalogue::BUILD_INFO;
        add(r, IntGaugeVec::new(opts(build), build.labels))?
            .with_label_values(&crate::build::LABELS)
            .set(1);
        let made = Self {
            lag: add(r, Histogram::with_opts(buckets(&catalogue::SCHEDULER_LAG, &LAG_BUCKETS)))?,
            skipped: Skip::ALL.map(|skip| skipped.with_label_values(&[skip.as_str()])),
            extra: std::array::from_fn(|i| extra.with_label_values(&[Extra::ALL[i].as_str()])),
            detection: add(
                r,
                HistogramVec::new(buckets(detection, &DETECTION_BUCKETS), detection.labels),
            )?,
            tripwires: gauge(&catalogue::TRIPWIRES)?,
            tripwire_cuts: counters(r, &catalogue::TRIPWIRE_CUTS)?,
            in_flight,
            transitions: counters(r, &catalogue::EVENTS)?,
            queue_length: gauge(&catalogue::SCHEDULER_QUEUE)?,
            in_flight_limit: limit.with_label_values(&["any"]),
            panics: counter(&catalogue::PROBE_PANICS)?,
            deregistrations_held: gauge(&catalogue::DEREGISTRATIONS_HELD)?,
            published_held: add(r, IntGaugeVec::new(opts(held), held.labels))?,
            guard_active: gauge(&catalogue::GUARD_ACTIVE)?,
            guard_holds: counters(r, &catalogue::GUARD_HOLDS)?,
            checks_flapping: gauge(&catalogue::CHECKS_FLAPPING)?,
            checks_stale: gauge(&catalogue::CHECKS_STALE)?,
            registration_conflicts: counter(&catalogue::REGISTRATION_CONFLICTS)?,
            sessions_expired: counter(&catalogue::SESSIONS_EXPIRED)?,
            heartbeats: counter(&catalogue::HEARTBEATS)?,
            heartbeats_missed: counter(&catalogue::HEARTBEATS_MISSED)?,
            blocking_queries: gauge(&catalogue::BLOCKING_QUERIES)?,
            blocking_queries_limit: gauge(&catalogue::BLOCKING_QUERIES_LIMIT)?,
            blocking_queries_refused: counters(r, &catalogue::BLOCKING_QUERIES_REFUSED)?,
            discovery_refreshes: counters(r, &catalogue::DISCOVERY_REFRESHES)?,
            discovery_last_success: add(r, GaugeVec::new(opts(last), last.labels))?,
            registrations: counters(r, &catalogue::REGISTRATIONS)?,
            reload_successful: gauge(&catalogue::CONFIG_RELOAD_SUCCESSFUL)?,
            reload_time: add(r, Gauge::with_opts(opts(&catalogue::CONFIG_RELOAD_TIME)))?,
            state_saves: counters(r, &catalogue::STATE_SAVES)?,
            http_requests: counters(r, &catalogue::HTTP_REQUESTS)?,
            http_duration: add(r, HistogramVec::new(buckets(http, &HTTP_BUCKETS), http.labels))?,
            dns_requests: counters(r, &catalogue::DNS_REQUESTS)?,
            dns_duration: add(r, HistogramVec::new(buckets(dns, &DNS_BUCKETS), dns.labels))?,
            doubt: Doubts::try_new(r)?,
            series_dropped: counters(r, &catalogue::SERIES_DROPPED)?,
            registry,
            started: clock::now(),
        };
        made.initialise();
        Ok(made)
    }

    /// Lets every label value known beforehand exist.
    fn initialise(&self) {
        for action in ["register", "deregister", "expire", "restore"] {
            self.registrations.with_label_values(&[action]);
        }
        for result in ["success", "failure"] {
            self.state_saves.with_label_values(&[result]);
            self.discovery_refreshes.with_label_values(&["config", result]);
        }
        for family in catalogue::ALL.iter().filter(|f| f.class != catalogue::Class::Process) {
            self.series_dropped.with_label_values(&[family.name]);
        }
        for by in ["guard", "damping"] {
            self.published_held.with_label_values(&[by]);
        }
        for limit in ["all", "service", "zone", "doubt"] {
            self.guard_holds.with_label_values(&[limit]);
        }
        for limit in ["all", "client"] {
            self.blocking_queries_refused.with_label_values(&[limit]);
        }
        for result in ["well", "failed"] {
            self.tripwire_cuts.with_label_values(&[result]);
        }
        for stage in [OBSERVED, PUBLISHED] {
            self.detection.with_label_values(&[stage]);
        }
        for transport in ["udp", "tcp"] {
            self.dns_requests.with_label_values(&["A", "NOERROR", transport]);
            self.dns_duration.with_label_values(&[transport]);
        }
        for from in Status::ALL {
            for to in Status::ALL.iter().filter(|to| *to != from) {
                self.transitions.with_label_values(&[from.as_str(), to.as_str()]);
            }
        }
    }

    /// Counts runs that did not start.
    pub fn skip(&self, skip: Skip, runs: u64) {
        self.skipped[skip as usize].inc_by(runs);
    }

    /// Runs of this kind that did not start so far.
    pub fn skipped(&self, skip: Skip) -> u64 {
        self.skipped[skip as usize].get()
    }

    /// Probes beyond the schedule for a reason.
    pub fn extra(&self, why: Extra) -> &IntCounter {
        &self.extra[why.index()]
    }

    /// Counts an idle connection that its target has ended, by what was found there then.
    pub fn tripwire_cut(&self, result: &'static str) {
        self.tripwire_cuts.with_label_values(&[result]).inc();
    }

    /// Counts that a target was found critical so long after the last sign of it.
    pub fn detected(&self, since_sign: Duration) {
        self.detection.with_label_values(&[OBSERVED]).observe(since_sign.as_secs_f64());
    }

    /// Counts that consumers were told that a target is critical so long after the last sign of it.
    pub fn told(&self, since_sign: Duration) {
        self.detection.with_label_values(&[PUBLISHED]).observe(since_sign.as_secs_f64());
    }

    /// The number of probes of a protocol that are under way.
    pub fn in_flight(&self, protocol: Protocol) -> &IntGauge {
        &self.in_flight[protocol.index()]
    }

    /// Counts a change of status.
    pub fn transition(&self, from: Status, to: Status) {
        self.transitions.with_label_values(&[from.as_str(), to.as_str()]).inc();
    }

    /// Counts a DNS query: the type asked for, the code of the answer, and the transport.
    pub fn dns_answered(&self, labels: [&'static str; 3], took: Duration) {
        self.dns_requests.with_label_values(&labels).inc();
        self.dns_duration.with_label_values(&labels[2..]).observe(took.as_secs_f64());
    }

    /// Writes all of it, and what the kernel says of this process.
    pub fn write(&self, writer: &mut Writer) {
        writer.gathered(&self.registry.gather());
        process::write(writer, self.started);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_label_value_is_there_from_the_start() {
        let daemon = Daemon::new();
        daemon.skip(Skip::Late, 1);
        let mut writer = Writer::default();
        daemon.write(&mut writer);
        let text = writer.take();
        for line in [
            "rollcall_scheduler_skipped_runs_total{reason=\"late\"} 1\n",
            "rollcall_scheduler_skipped_runs_total{reason=\"overrun\"} 0\n",
            "rollcall_probes_in_flight{protocol=\"grpc\"} 0\n",
            "rollcall_registrations_total{action=\"expire\"} 0\n",
            "rollcall_transitions_total{from=\"passing\",to=\"critical\"} 0\n",
            "rollcall_scheduler_lag_seconds_bucket{le=\"1.0\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn skips_are_indexed_by_their_position() {
        for (index, skip) in Skip::ALL.iter().enumerate() {
            assert_eq!(*skip as usize, index);
        }
    }
}
