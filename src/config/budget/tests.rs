//! The budget against hosts of different means.

use std::num::NonZeroU32;

use super::*;
use crate::config::{Loaded, Overrides, diagnostic::Severity, load};

const MEANS: Means =
    Means { files: 20_000, ports: 28_232.0, reuse: Reuse::Loopback, tracked: None };

/// What so many instances ask of a host, each of the checks written.
fn budget(instances: u32, checks: &str, means: &Means) -> Budget {
    let head = format!("services:\n- name: web\n  checks: [{checks}]\n  instances:\n");
    let instances = (0..instances).map(|n| {
        let [_, a, b, c] = n.to_be_bytes();
        format!("  - {{ address: 10.{a}.{b}.{c}, port: 80 }}\n")
    });
    let text = head + &instances.collect::<String>();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollcall.yaml");
    fs::write(&path, text).unwrap();
    let Loaded { config, .. } = load(Some(&path), &Overrides::default()).unwrap();
    Budget::of(&config.registrations, &scheduler::Config::default(), means)
}

/// What is found, by severity and the beginning of its message.
#[track_caller]
fn assert_found(budget: &Budget, scheduler: &scheduler::Config, expected: &[(Severity, &str)]) {
    let found = budget.findings(scheduler, &[]);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (severity, message)) in found.iter().zip(expected) {
        assert_eq!(found.severity, *severity, "{found:#?}");
        assert!(found.message.contains(message), "{found:#?}");
        assert!(!found.help.is_empty());
    }
}

#[test]
fn rates_are_summed_and_the_worst_is_that_all_hang() {
    let checks = "{ id: a, tcp: {}, interval: 10s, timeout: 2s }, \
                  { id: b, grpc: {}, interval: 5s, timeout: 20s }";
    let budget = budget(100, checks, &MEANS);
    assert!((budget.probes_per_second - 30.0).abs() < 1e-9);
    assert!((budget.connections_per_second - 10.0).abs() < 1e-9, "gRPC keeps its connections");
    assert!((budget.hung - 120.0).abs() < 1e-9, "{}", budget.hung);
    assert_eq!((budget.time_wait, budget.busiest.clone()), (0.0, None));
    assert_found(&budget, &scheduler::Config::default(), &[]);
}

#[test]
fn no_more_are_under_way_to_a_host_than_may_be() {
    let checks: Vec<_> =
        (0..100).map(|n| format!("{{ id: c{n}, tcp: {{}}, interval: 1s, timeout: 1s }}")).collect();
    assert!((budget(1, &checks.join(","), &MEANS).hung - 64.0).abs() < 1e-9);
}

#[test]
fn more_under_way_than_files_is_refused_unless_it_is_meant() {
    let few = Means { files: 120, ..MEANS };
    let hung = budget(200, "{ id: a, tcp: {}, interval: 2s, timeout: 1s }", &few);
    let by_default = scheduler::Config::default();
    assert_found(&hung, &by_default, &[(Severity::Error, "100 probes are under way")]);
    let meant =
        scheduler::Config { max_in_flight: NonZeroU32::new(500), ..scheduler::Config::default() };
    assert_found(&hung, &meant, &[(Severity::Warning, "may be")]);
}

#[test]
fn more_under_way_than_may_be_is_warned_of() {
    let some = Means { files: 180, ..MEANS };
    let hung = budget(200, "{ id: a, tcp: {}, interval: 2s, timeout: 1s }", &some);
    let by_default = scheduler::Config::default();
    assert_found(&hung, &by_default, &[(Severity::Warning, "and 90 may be")]);
}

#[test]
fn ports_in_time_wait_are_counted_by_destination() {
    let few = Means { ports: 2823.0, ..MEANS };
    let closing: Vec<_> = (0..60)
        .map(|n| format!("{{ id: c{n}, tcp: {{ close: fin }}, interval: 1s, timeout: 100ms }}"))
        .collect();
    let away = budget(1, &closing.join(","), &few);
    assert!((away.time_wait - 3600.0).abs() < 1e-6, "{}", away.time_wait);
    let by_default = scheduler::Config::default();
    assert_found(&away, &by_default, &[(Severity::Error, "3606 ports in TIME_WAIT")]);
    let reused = Means { reuse: Reuse::Always, ..few.clone() };
    assert_found(&budget(1, &closing.join(","), &reused), &by_default, &[]);
    let tight = budget(1, &closing[..30].join(","), &few);
    assert_found(&tight, &by_default, &[(Severity::Warning, "1803 ports in TIME_WAIT")]);
    let kept: Vec<_> = closing.iter().map(|check| check.replace("fin", "reset")).collect();
    assert_found(&budget(1, &kept.join(","), &few), &by_default, &[]);
}

#[test]
fn what_the_firewall_keeps_in_mind_is_counted_if_it_keeps_any() {
    let tracked = Tracked { most: 4000.0, reset: 10.0, closed: 120.0, datagram: 30.0 };
    let means = Means { tracked: Some(tracked), ..MEANS };
    let asked = budget(300, "{ id: a, tcp: {}, interval: 1s, timeout: 100ms }", &means);
    assert_eq!((asked.tracked, asked.max_tracked), (Some(3000.0), Some(4000.0)));
    let by_default = scheduler::Config::default();
    assert_found(&asked, &by_default, &[(Severity::Warning, "3000 connections of probes")]);
}

#[test]
fn what_the_kernel_says_can_be_read() {
    let means = Means::read();
    assert!(means.files > 16 && means.ports > 1.0, "{means:?}");
}
