//! The live stage: the real daemon probes real servers, a real Prometheus scrapes it with the
//! shipped rules, and a real Alertmanager sends on with the shipped routing.
//!
//! A second stage, [`clients`], has Consul clients that others wrote talk to the daemon; a third,
//! [`cluster`], probes an etcd cluster whose members fail.
//!
//! Everything is started once and the statements are proved in order, each with a line of output.
//! One that fails does not keep the next from being tried. Nothing listens but on loopback, on
//! ports that were free; configurations, data and logs are left in `target/tmp/live`.
//!
//! `tests/run.sh` installs the programs that are needed and runs this; by hand it is
//! `cargo test --all-features --test live -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is a test, which the lints see only inside of test functions"
)]

mod alerting;
mod clients;
mod cluster;
mod daemon;
mod dashboards;
mod http;
mod monitoring;
mod naming;
mod observing;
mod operating;
mod probing;
mod rig;
mod sink;
mod stage;
mod targets;

use rig::Proofs;
use stage::Stage;

/// A statement, and what proves it.
type Statement = (&'static str, fn(&mut Stage));

/// All statements, in the order in which the stage goes through them.
const STATEMENTS: &[Statement] = &[
    (
        "every target has the status it deserves, and the reason",
        probing::every_target_has_its_status,
    ),
    ("failures are counted under their reason", probing::failures_have_reasons),
    (
        "the expiry of a certificate is measured, also of one that is refused",
        probing::certificates_are_measured,
    ),
    (
        "a reference gRPC client reads the health of services from the daemon",
        operating::grpc_tells_the_health_of_services,
    ),
    ("dig finds services, tags and nodes by UDP and TCP", naming::dig_finds_what_there_is),
    ("dig is told what was cut, and what is not there", naming::dig_is_told_what_is_missing),
    (
        "`rollcall ls` lists every service, for people and as JSON",
        operating::ls_lists_every_service,
    ),
    (
        "`rollcall probe` exits with 0, 1 and 2 for passing, warning and failing",
        operating::probe_tells_by_its_exit_code,
    ),
    (
        "a killed target is critical after exactly the threshold; `rollcall watch` tells",
        probing::a_killed_target_is_critical_after_the_threshold,
    ),
    (
        "Prometheus scrapes the daemon, and promtool finds nothing to say",
        observing::the_exposition_is_clean,
    ),
    (
        "the alert on the killed target reaches the ticket receiver",
        alerting::a_killed_target_opens_a_ticket,
    ),
    (
        "a check without healthy targets reaches the pager and mutes its targets",
        alerting::a_check_that_is_down_pages,
    ),
    (
        "Prometheus knows every metric of the catalogue by its type, and no other",
        observing::every_metric_is_in_the_catalogue,
    ),
    (
        "every target is probed once a second, whatever it answers",
        observing::every_check_is_probed_each_second,
    ),
    ("every rule is healthy, and every recorded name has data", observing::every_rule_is_healthy),
    ("every variable of every dashboard has values", observing::every_variable_has_values),
    ("every query of every dashboard has data", observing::every_query_has_data),
    (
        "a target that comes back is passing after exactly the threshold",
        probing::a_target_that_comes_back_is_passing,
    ),
    ("the end of the alert reaches the ticket receiver too", alerting::the_ticket_is_closed),
    (
        "SIGHUP takes a changed configuration over; a gRPC watch tells",
        operating::reload_takes_changes_over,
    ),
    (
        "a bad configuration changes nothing and is told by a gauge",
        operating::reload_refuses_a_bad_configuration,
    ),
    (
        "SIGTERM: not ready while probes finish, then exit code 0",
        operating::stop_lets_probes_finish,
    ),
    (
        "SIGTERM: probes under way are cut when the grace period ends, exit code 0",
        operating::stop_cuts_probes_after_the_grace_period,
    ),
    (
        "the heartbeat reaches the dead man's switch again and again",
        alerting::the_heartbeat_goes_on,
    ),
    ("a daemon that is gone pages, and mutes what it said", alerting::a_daemon_that_is_gone_pages),
    (
        "every notification went to the receiver of its severity, in whole sentences",
        alerting::every_notification_is_in_order,
    ),
];

#[test]
fn the_daemon_does_what_it_says_beside_real_programs() {
    let _alone = clients::alone();
    let mut proofs = Proofs::new();
    let mut stage = Stage::start();
    for (statement, step) in STATEMENTS {
        proofs.add(statement, || step(&mut stage));
    }
    proofs.conclude(&stage.folder);
}
