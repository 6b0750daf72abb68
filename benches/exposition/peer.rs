//! The same data in vectors of the `prometheus` crate.

use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};
use rollcall::{
    judge::Streak,
    metrics::{
        DURATION_BUCKETS,
        catalogue::{self, Family},
    },
    model::{Outcome, Reason, Status},
    probe::Protocol,
};

use crate::{Failure, fleet::Seen};

/// The crate's registry, with the vectors that it holds.
pub(crate) struct Peer {
    registry: Registry,
    probes: IntCounterVec,
    failures: IntCounterVec,
    healthy: IntGaugeVec,
    last_duration: GaugeVec,
    last_probe: GaugeVec,
    last_change: GaugeVec,
    changes: IntCounterVec,
    in_a_row: IntGaugeVec,
    info: IntGaugeVec,
    reasons: IntCounterVec,
    inconclusive: IntCounterVec,
    duration: HistogramVec,
    phases: prometheus::CounterVec,
    responses: IntCounterVec,
    states: IntGaugeVec,
    interval: GaugeVec,
    timeout: GaugeVec,
    objective: GaugeVec,
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl Peer {
    /// All families of targets and checks that the data has samples of.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let r = &Registry::new();
        let counter = |f: &Family| add(r, IntCounterVec::new(opts(f), f.labels));
        let whole = |f: &Family| add(r, IntGaugeVec::new(opts(f), f.labels));
        let gauge = |f: &Family| add(r, GaugeVec::new(opts(f), f.labels));
        let duration = &catalogue::PROBE_DURATION;
        let buckets = HistogramOpts::from(opts(duration)).buckets(DURATION_BUCKETS.to_vec());
        let phases = &catalogue::PROBE_PHASES;
        Ok(Self {
            registry: r.clone(),
            probes: counter(&catalogue::PROBES)?,
            failures: counter(&catalogue::PROBE_FAILURES)?,
            healthy: whole(&catalogue::TARGET_HEALTHY)?,
            last_duration: gauge(&catalogue::TARGET_LAST_DURATION)?,
            last_probe: gauge(&catalogue::TARGET_LAST_PROBE)?,
            last_change: gauge(&catalogue::TARGET_LAST_CHANGE)?,
            changes: counter(&catalogue::TARGET_CHANGES)?,
            in_a_row: whole(&catalogue::TARGET_CONSECUTIVE_FAILURES)?,
            info: whole(&catalogue::TARGET_INFO)?,
            reasons: counter(&catalogue::PROBE_FAILURES_BY_REASON)?,
            inconclusive: counter(&catalogue::PROBE_INCONCLUSIVE)?,
            duration: add(r, HistogramVec::new(buckets, duration.labels))?,
            phases: add(r, prometheus::CounterVec::new(opts(phases), phases.labels))?,
            responses: counter(&catalogue::PROBE_HTTP_RESPONSES)?,
            states: whole(&catalogue::TARGETS)?,
            interval: gauge(&catalogue::CHECK_INTERVAL)?,
            timeout: gauge(&catalogue::CHECK_TIMEOUT)?,
            objective: gauge(&catalogue::CHECK_SLO)?,
        })
    }

    /// Takes in what is known of a target.
    pub(crate) fn take_in(&self, seen: &Seen) {
        let facts = &seen.facts;
        let class = ["main", &*seen.service, "http"];
        let target = &["main", &*seen.service, "http", &*seen.target];
        self.probes.with_label_values(target).inc_by(facts.probes);
        self.failures.with_label_values(target).inc_by(facts.failures);
        let healthy = i64::from(facts.status != Status::Critical);
        self.healthy.with_label_values(target).set(healthy);
        let took = facts.last_duration.as_secs_f64();
        self.last_duration.with_label_values(target).set(took);
        let seconds = |at: Option<rollcall::clock::Timestamp>| {
            at.map_or(0.0, rollcall::clock::Timestamp::seconds)
        };
        self.last_probe.with_label_values(target).set(seconds(facts.last_started));
        self.last_change.with_label_values(target).set(seconds(facts.changed));
        self.changes.with_label_values(target).inc_by(u64::from(facts.changes));
        let in_a_row = match facts.streak {
            Streak::Failures(n) => n,
            Streak::Successes(_) | Streak::None => 0,
        };
        self.in_a_row.with_label_values(target).set(i64::from(in_a_row));
        let [check, service, protocol] = class;
        self.info
            .with_label_values(&[check, service, protocol, &*seen.target, &*seen.address])
            .set(1);
        self.states.with_label_values(&[check, service, protocol, facts.status.as_str()]).inc();
        self.count(seen, class);
    }

    fn count(&self, seen: &Seen, class: [&str; 3]) {
        let [check, service, protocol] = class;
        self.duration.with_label_values(&class).observe(seen.duration.as_secs_f64());
        if let Outcome::Failure(reason) = seen.outcome {
            self.reasons.with_label_values(&[check, service, protocol, reason.as_str()]).inc();
        }
        for (phase, time) in seen.phases {
            let names = Protocol::Http.phases();
            let name = names.iter().find(|(held, _)| *held == phase).map_or("", |(_, name)| name);
            self.phases
                .with_label_values(&[check, service, protocol, name])
                .inc_by(time.as_secs_f64());
        }
        if let Some(code) = seen.code {
            let code = code.to_string();
            self.responses.with_label_values(&[check, service, protocol, &*code]).inc();
        }
    }

    /// What a service has whatever its targets are like.
    pub(crate) fn take_in_service(&self, service: &str) {
        let class = ["main", service, "http"];
        let [check, _, protocol] = class;
        for reason in Reason::ALL {
            self.reasons.with_label_values(&[check, service, protocol, reason.as_str()]);
        }
        let internal = Reason::Internal.as_str();
        self.inconclusive.with_label_values(&[check, service, protocol, internal]);
        for (_, name) in Protocol::Http.phases() {
            self.phases.with_label_values(&[check, service, protocol, *name]);
        }
        for state in Status::ALL.iter().map(|status| status.as_str()).chain(["stale"]) {
            self.states.with_label_values(&[check, service, protocol, state]);
        }
        self.interval.with_label_values(&class).set(30.0);
        self.timeout.with_label_values(&class).set(2.0);
        self.objective.with_label_values(&[check, service]).set(0.99);
    }

    /// A scrape, as every exporter that is built on the crate answers it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
