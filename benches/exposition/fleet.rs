//! The data that both sides show: targets with what was seen of them, made from their numbers.

use std::{fmt::Write as _, fs, time::Duration};

use rollcall::{
    clock::Timestamp,
    config::{self, Loaded, Overrides},
    judge::Streak,
    metrics::Facts,
    model::{Answer, Observation, Outcome, Phase, Reason, Status},
    registry::{Orders, Registry, snapshot::Snapshot},
};
use tokio::sync::mpsc;

use crate::Failure;

const TARGETS_OF_A_SERVICE: usize = 100;

/// 2026-11-20.
const NOW: i64 = 1_795_183_200_000;

/// What is known of one target.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) target: String,
    pub(crate) address: String,
    pub(crate) facts: Facts,
    /// The probe that its class has counted.
    pub(crate) duration: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) phases: [(Phase, Duration); 2],
    pub(crate) code: Option<u16>,
}

/// What is known of target `n`: one in ten is critical.
pub(crate) fn seen(n: usize) -> Seen {
    let number = u64::try_from(n).unwrap_or(0);
    let critical = n % 10 == 3;
    let duration = Duration::from_micros(200 + number * 7919 % 40_000);
    let at = |back: u64| Some(Timestamp::from_millis(NOW - i64::try_from(back).unwrap_or(0)));
    let failures = if critical { 7 + number % 90 } else { number % 3 };
    let facts = Facts {
        probes: 1000 + number % 5000,
        failures,
        last_started: at(number * 31 % 60_000),
        last_duration: duration,
        last_outcome: Some(Outcome::Success),
        status: if critical { Status::Critical } else { Status::Passing },
        changed: at(60_000 + number * 977 % 80_000_000),
        changes: u32::try_from(1 + number % 40).unwrap_or(1),
        streak: if critical { Streak::Failures(7) } else { Streak::Successes(40) },
        ..Facts::default()
    };
    Seen {
        service: format!("service-{:04}", n / TARGETS_OF_A_SERVICE),
        target: format!("service-{:04}-{:03}", n / TARGETS_OF_A_SERVICE, n % TARGETS_OF_A_SERVICE),
        address: format!("10.{}.{}.{}:8080", n >> 16, n >> 8 & 255, n & 255),
        facts,
        duration,
        outcome: if critical {
            Outcome::Failure(Reason::TimeoutResponse)
        } else {
            Outcome::Success
        },
        phases: [(Phase::Connect, duration / 4), (Phase::Exchange, duration / 2)],
        code: (!critical).then_some(200),
    }
}

/// So many targets, registered and with all that is known of them in their slots.
pub(crate) async fn registry(targets: usize) -> Result<Registry, Failure> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().join("rollcall.yml");
    fs::write(&path, configuration(targets)?)?;
    let Loaded { config, .. } = config::load(Some(&path), &Overrides::default())?;
    let (probed, mut orders) = mpsc::channel(16);
    let (pushed, _none) = mpsc::channel(1);
    let registry = Registry::new(Snapshot::default(), Orders { probed, pushed });
    let taken = async {
        // Nobody asks these; what is ordered is let go.
        while orders.recv().await.is_some() {}
    };
    tokio::select! {
        _ = registry.replace(config.registrations) => {}
        () = taken => {}
    }
    for (n, check) in registry.checks().iter().enumerate() {
        let Seen { facts, duration, outcome, phases, code, .. } = seen(n);
        check.slot.overwrite(&facts);
        let mut observation = Observation::new(Timestamp::from_millis(NOW), duration, outcome);
        for (phase, time) in phases {
            observation.phases.add(phase, time);
        }
        observation.answer = code.map_or(Answer::None, Answer::Http);
        check.class.slot.record(&observation);
    }
    Ok(registry)
}

/// What holds them, as a file.
fn configuration(targets: usize) -> Result<String, Failure> {
    let mut text = String::from("services:\n");
    for n in 0..targets {
        let Seen { service, target, address, .. } = seen(n);
        if n % TARGETS_OF_A_SERVICE == 0 {
            let checks = "[{ id: main, http: { path: /health }, interval: 30s, timeout: 2s }]";
            write!(text, "- name: {service}\n  checks: {checks}\n  instances:\n")?;
        }
        let address = address.trim_end_matches(":8080");
        writeln!(text, "  - {{ id: {target}, address: {address}, port: 8080 }}")?;
    }
    Ok(text)
}
