//! Statements on who is told.

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::items,
    rig::{SOON, wait_for},
    sink::Notification,
    stage::Stage,
};

/// Which receiver the shipped routes choose, by severity.
const RECEIVERS: &[(&str, &str)] =
    &[("critical", "page"), ("warning", "ticket"), ("none", "deadman")];

/// How often the heartbeat must have come.
const HEARTBEATS: usize = 3;

pub(crate) fn a_killed_target_opens_a_ticket(stage: &mut Stage) {
    let ticket = wait_for_notification(stage, "RollcallTargetDown", "firing", is_the_killed_target);
    assert_eq!(ticket.receiver, "ticket", "{ticket:?}");
    assert_eq!(ticket.label("severity"), "warning");
    assert_eq!(ticket.label("service_name"), "cache");
    assert_eq!(ticket.label("check"), "redis");
    assert_eq!(ticket.label("protocol"), "tcp");
    assert_eq!(ticket.label("job"), "rollcall");
    assert_eq!(
        ticket.annotation("description"),
        "Target redis-1 of service cache has been critical for more than a minute by its tcp check \
         redis."
    );
    in_order(&ticket);
}

pub(crate) fn the_ticket_is_closed(stage: &mut Stage) {
    let ticket =
        wait_for_notification(stage, "RollcallTargetDown", "resolved", is_the_killed_target);
    assert_eq!(ticket.receiver, "ticket", "{ticket:?}");
    in_order(&ticket);
}

pub(crate) fn a_check_that_is_down_pages(stage: &mut Stage) {
    let page = wait_for_notification(stage, "RollcallCheckDown", "firing", |alert| {
        alert.label("service_name") == "fail"
    });
    assert_eq!(page.receiver, "page", "{page:?}");
    in_order(&page);
    wait_for("the alert on its only target is muted", SOON, || {
        let alerts = stage.monitoring.alerts("RollcallTargetDown");
        let of_target = |alert: &&Value| alert["labels"]["target"] == "fail";
        let alert = alerts.iter().find(of_target).ok_or("Alertmanager does not know it")?;
        let muted = !items(&alert["status"]["inhibitedBy"]).is_empty();
        if muted { Ok(()) } else { Err(format!("{alert}")) }
    });
}

pub(crate) fn the_heartbeat_goes_on(stage: &mut Stage) {
    wait_for("the heartbeat has come several times", SOON, || {
        let heard = stage.monitoring.sink.heard();
        let is_heartbeat = |one: &&Notification| one.label("alertname") == "RollcallWatchdog";
        let beats: Vec<_> = heard.iter().filter(is_heartbeat).collect();
        assert!(beats.iter().all(|beat| beat.receiver == "deadman"), "{beats:?}");
        if beats.len() < HEARTBEATS { Err(format!("{} so far", beats.len())) } else { Ok(()) }
    });
}

pub(crate) fn a_daemon_that_is_gone_pages(stage: &mut Stage) {
    stage.daemon.process.signal(Signal::TERM);
    let status = stage.daemon.process.wait_end(SOON);
    assert_eq!(status.code(), Some(0), "{status:?}");
    let page = wait_for_notification(stage, "RollcallDown", "firing", |_| true);
    assert_eq!(page.receiver, "page", "{page:?}");
    assert_eq!(page.label("job"), "rollcall");
    wait_for("the ticket on the same daemon is muted", SOON, || {
        let alerts = stage.monitoring.alerts("RollcallInstanceUnreachable");
        let alert = alerts.first().ok_or("Alertmanager does not know it")?;
        let muted = !items(&alert["status"]["inhibitedBy"]).is_empty();
        if muted { Ok(()) } else { Err(format!("{alert}")) }
    });
}

pub(crate) fn every_notification_is_in_order(stage: &mut Stage) {
    let heard = stage.monitoring.sink.heard();
    heard.iter().for_each(in_order);
    println!("     {} notifications", heard.len());
}

fn is_the_killed_target(alert: &Notification) -> bool {
    alert.label("target") == "redis-1"
}

fn wait_for_notification(
    stage: &Stage,
    name: &str,
    status: &str,
    which: impl Fn(&Notification) -> bool,
) -> Notification {
    wait_for(&format!("{name} arrives, {status}"), SOON, || {
        let heard = stage.monitoring.sink.heard();
        let wanted = |one: &&Notification| {
            one.label("alertname") == name && one.status() == status && which(one)
        };
        heard.iter().rev().find(wanted).cloned().ok_or_else(|| {
            let names: Vec<&str> = heard.iter().map(|one| one.label("alertname")).collect();
            format!("heard so far: {names:?}")
        })
    })
}

/// The right receiver, and annotations that say something.
fn in_order(one: &Notification) {
    let severity = one.label("severity");
    let receiver = RECEIVERS.iter().find(|(known, _)| *known == severity).map(|(_, to)| *to);
    assert_eq!(receiver, Some(one.receiver.as_str()), "{one:?}");
    for name in ["summary", "description", "runbook_url"] {
        let text = one.annotation(name);
        assert!(!text.is_empty(), "no {name}: {one:?}");
        for trace in ["{{", "}}", "<no value>", "%!", "<error"] {
            assert!(!text.contains(trace), "{name} is not expanded: {one:?}");
        }
        // A label that is missing leaves a gap.
        assert!(!text.contains("  ") && !text.contains(" ."), "{name} has a gap: {text:?}");
    }
    let runbook = one.annotation("runbook_url");
    assert!(runbook.ends_with(&format!("/{}.md", one.label("alertname"))), "{one:?}");
}
