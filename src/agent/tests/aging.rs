//! What becomes of what is critical, or unheard of, for too long; and what is told of it.

use super::*;

const HOUR: i64 = 3_600_000;

fn later(hours: i64) -> Timestamp {
    Timestamp::from_millis(clock::now().millis() + hours * HOUR)
}

/// `instance check from to word` of what was told last.
fn last(rig: &Rig) -> String {
    let transitions = rig.transitions();
    let Transition { key, from, to, cause, .. } = transitions.last().unwrap();
    format!("{} {} {from} {to} {}", key.instance, key.check, cause.word())
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_critical_too_long_goes_and_can_be_brought_back() {
    let rig = Rig::new().await;
    let check = json!({"TTL": "10s", "DeregisterCriticalServiceAfter": "30m"});
    rig.put(json!({"ID": "web-1", "Name": "web", "Port": 80, "Check": check})).await.unwrap();
    rig.hear("service:web-1", "critical", "burnt").await;
    let started = Timestamp::from_millis(0);
    rig.agent.reap_once(started, &as_of(clock::now())).await.unwrap();
    assert_eq!(rig.checks("web-1"), ["service:web-1"], "not before its time");
    rig.agent.reap_once(started, &as_of(later(1))).await.unwrap();
    assert_eq!(rig.checks("web-1"), [""; 0]);
    assert_eq!(last(&rig), "web-1 _registration critical unknown expired");
    rig.agrees();

    rig.agent.undo("web-1").await.unwrap();
    assert_eq!(rig.said("service:web-1"), "critical burnt");
    assert_eq!(last(&rig), "web-1 _registration unknown critical restored");
    rig.agrees();
    let again = rig.agent.undo("web-1").await.unwrap_err();
    assert!(matches!(again, Refused::NoTombstone(_)), "{again}");
    rig.agent.reap_once(started, &as_of(clock::now())).await.unwrap();
    assert_eq!(rig.checks("web-1"), ["service:web-1"], "its time has begun anew");
}

#[tokio::test(start_paused = true)]
async fn what_was_deregistered_is_forgotten_after_a_day_or_when_it_comes_back_by_itself() {
    let rig = Rig::new().await;
    let web = json!({"ID": "web-1", "Name": "web", "Port": 80,
        "Check": {"TTL": "10s", "DeregisterCriticalServiceAfter": "30m"}});
    let started = Timestamp::from_millis(0);
    rig.put(web.clone()).await.unwrap();
    rig.agent.reap_once(started, &as_of(later(1))).await.unwrap();
    rig.put(web).await.unwrap();
    let refused = rig.agent.undo("web-1").await.unwrap_err();
    assert!(matches!(refused, Refused::Exists(_)), "{refused}");
    rig.agent.deregister("web-1").await.unwrap();
    rig.agent.reap_once(started, &as_of(later(24))).await.unwrap();
    assert!(rig.store.read().tombstone("web-1").is_some(), "a day after one hour from now");
    rig.agent.reap_once(started, &as_of(later(25))).await.unwrap();
    assert!(rig.store.read().tombstone("web-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn another_owner_of_an_id_is_told_of() {
    let rig = Rig::new().await;
    rig.put(json!({"ID": "web-1", "Name": "web", "Address": "10.0.0.1", "Port": 80}))
        .await
        .unwrap();
    assert_eq!(rig.transitions().len(), 0);
    rig.put(json!({"ID": "web-1", "Name": "web", "Address": "10.0.0.2", "Port": 80}))
        .await
        .unwrap();
    assert_eq!(last(&rig), "web-1 _registration passing passing conflict");
    let told = rig.transitions();
    let detail = told[0].cause.detail();
    assert_eq!(detail, Some("registered at 10.0.0.1:80, and now by another owner at 10.0.0.2:80"));
    assert_eq!(rig.metrics.registration_conflicts.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_remembered_over_a_restart() {
    let rig = Rig::new().await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::default();
    tasks.spawn("history", Arc::clone(&rig.agent).keep_history(0, 3, stop.clone()));
    rig.put(json!({"ID": "web-1", "Name": "web", "Port": 80,
        "Check": {"Name": "page", "HTTP": "http://127.0.0.1/", "Interval": "10s"}}))
        .await
        .unwrap();
    for outcome in [Outcome::Success, FAILED, Outcome::Success] {
        rig.observe("web-1", "page", &[outcome]).await;
    }
    rig.put(json!({"ID": "web-1", "Name": "web", "Port": 81})).await.unwrap();
    rig.settle().await;
    let before = rig.events.after(1);
    assert_eq!(before.len(), 3);
    let rig = rig.restarted().await;
    rig.agent.recall(&rig.events);
    assert_eq!(rig.events.after(0), before, "the last three, with their evidence and numbers");
    stop.cancel();
}

/// An instance of `web` that is to be deregistered when it is critical for half an hour.
fn fleeting(id: &str) -> Value {
    json!({"ID": id, "Name": "web", "Port": 80,
        "Check": {"TTL": "10s", "DeregisterCriticalServiceAfter": "30m"}})
}

#[tokio::test(start_paused = true)]
async fn what_operators_have_taken_out_is_not_deregistered() {
    let rig = Rig::new().await;
    rig.put(fleeting("web-1")).await.unwrap();
    let (started, late) = (Timestamp::from_millis(0), as_of(later(1)));
    rig.agent.maintain("web-1", Some("disk".into())).await.unwrap();
    rig.agent.reap_once(started, &late).await.unwrap();
    assert!(rig.store.read().instance("node-1", "web-1").is_some());
    rig.agent.maintain("web-1", None).await.unwrap();
    rig.agent.maintain_node(Some("kernel".into())).await.unwrap();
    rig.agent.reap_once(started, &late).await.unwrap();
    assert!(rig.store.read().instance("node-1", "web-1").is_some());
    rig.agent.maintain_node(None).await.unwrap();
    rig.agent.reap_once(started, &late).await.unwrap();
    assert!(rig.store.read().instance("node-1", "web-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_out_when_it_was_deregistered_is_out_when_it_is_brought_back() {
    let rig = Rig::new().await;
    rig.put(fleeting("web-1")).await.unwrap();
    rig.agent.maintain("web-1", Some("disk".into())).await.unwrap();
    // As a daemon has left it that did not ask whether it was out.
    let tombstone = {
        let tables = rig.store.read();
        let service = Service::clone(tables.instance("node-1", "web-1").unwrap());
        let checks = tables.instance_checks("node-1", "web-1").map(|row| Check::clone(row));
        let (checks, at) = (checks.collect(), clock::now().millis());
        crate::store::row::Tombstone { service, checks, at, ..Default::default() }
    };
    rig.agent.deregister("web-1").await.unwrap();
    rig.store.write(|tx| Ok::<_, Unwritten>(tx.put(tombstone))).await.unwrap();
    let why = || rig.registry.instance("web-1").and_then(|listed| listed.maintenance);
    assert_eq!(why(), None);
    rig.agent.undo("web-1").await.unwrap();
    assert_eq!(rig.checks("web-1"), ["_service_maintenance:web-1", "service:web-1"]);
    assert_eq!(why().as_deref(), Some("disk"));
    rig.agent.maintain("web-1", None).await.unwrap();
    assert_eq!((rig.checks("web-1").len(), why()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_window_outlasts_rounds_and_restarts() {
    let rig = Rig::new().await.without_guard();
    for n in 0..10 {
        rig.put(fleeting(&format!("web-{n}"))).await.unwrap();
        let said = if n < 5 { "critical" } else { "passing" };
        rig.hear(&format!("service:web-{n}"), said, "").await;
    }
    let count = |rig: &Rig| rig.store.read().service("web").count();
    let started = Timestamp::from_millis(0);
    let after = |minutes: i64| {
        as_of(Timestamp::from_millis(clock::now().millis() + HOUR + minutes * 60_000))
    };
    rig.agent.reap_once(started, &after(0)).await.unwrap();
    rig.agent.reap_once(started, &after(1)).await.unwrap();
    assert_eq!(count(&rig), 9);
    let rig = rig.restarted().await;
    rig.agent.reap_once(started, &after(9)).await.unwrap();
    assert_eq!(count(&rig), 9);
    rig.agent.reap_once(started, &after(11)).await.unwrap();
    rig.agent.reap_once(started, &after(12)).await.unwrap();
    assert_eq!(count(&rig), 8);
}

/// Tells of so many changes of a check.
fn tell(rig: &Rig, changes: usize) {
    for _ in 0..changes {
        rig.events.push(Transition {
            service: "web".parse().unwrap(),
            key: CheckKey { instance: "web-1".parse().unwrap(), check: "page".parse().unwrap() },
            from: Status::Passing,
            to: Status::Critical,
            at: Timestamp::from_seconds(7),
            cause: Cause::Operator { reason: "test".into() },
        });
    }
}

/// The sequences of what another daemon would find kept.
fn kept(rig: &Rig) -> Vec<u64> {
    let log = Log::new(1000);
    rig.agent.recall(&log);
    log.after(0).iter().map(|event| event.sequence).collect()
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_kept_later_and_more_than_a_follower_is_told() {
    let mut rig = Rig::new().await;
    rig.store.fail(true);
    let keeping = Arc::clone(&rig.agent).keep_history(0, 1000, rig.stop.clone());
    rig.tasks.spawn("history", keeping);
    tell(&rig, 5);
    wait(0.5).await;
    tell(&rig, 1100);
    wait(2.0).await;
    assert_eq!(kept(&rig), [0; 0]);
    rig.store.fail(false);
    wait(2.0).await;
    assert_eq!(kept(&rig), (106..=1105).collect::<Vec<_>>(), "as many as are remembered");
    // At the end what is left is written, or tried once.
    tell(&rig, 1);
    let (store, agent, events) =
        (Arc::clone(&rig.store), Arc::clone(&rig.agent), rig.events.clone());
    rig.end().await;
    let log = Log::new(1000);
    agent.recall(&log);
    assert_eq!(log.last(), events.last());
    store.fail(true);
    let stopped = CancellationToken::new();
    stopped.cancel();
    agent.keep_history(0, 1000, stopped).await;
}

/// An instance that is asked for a page every ten seconds.
async fn with_page() -> Rig {
    let rig = Rig::new().await;
    rig.put(json!({"ID": "web-1", "Name": "web", "Port": 80,
        "Check": {"Name": "page", "HTTP": "http://127.0.0.1/", "Interval": "10s", "Timeout": "2s"}}))
        .await
        .unwrap();
    rig
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_old_is_marked_until_there_is_a_new_one() {
    let rig = with_page().await;
    rig.agent.mark_stale_once(&as_of(later(1))).await;
    assert_eq!(rig.metrics.checks_stale.get(), 0, "nothing is known, so nothing is old");
    rig.observe("web-1", "page", &[Outcome::Success]).await;
    let said = rig.said("service:web-1");
    rig.agent.mark_stale_once(&as_of(clock::now())).await;
    assert_eq!(rig.metrics.checks_stale.get(), 0);
    rig.agent.mark_stale_once(&as_of(later(1))).await;
    rig.publish().await;
    assert_eq!(rig.metrics.checks_stale.get(), 1);
    let marked = rig.said("service:web-1");
    // With the blank after `Output:`, where the body would be.
    assert!(marked.starts_with(&format!("{said} \n(stale: the last result is of ")), "{marked}");
    rig.observe("web-1", "page", &[Outcome::Success]).await;
    assert_eq!(rig.said("service:web-1"), said);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_no_result_old() {
    let rig = with_page().await;
    rig.observe("web-1", "page", &[Outcome::Success]).await;
    let (start, second) = (tokio::time::Instant::now(), Duration::from_secs(1));
    let mut ages = Ages::new(start, clock::now());
    ages.look(start + second, later(1));
    rig.agent.mark_stale_once(&ages).await;
    assert_eq!(rig.metrics.checks_stale.get(), 0);
    let hour = Timestamp::from_millis(clock::now().millis() + HOUR + 33_000);
    ages.look(start + second * 34, hour);
    rig.agent.mark_stale_once(&ages).await;
    assert_eq!(rig.metrics.checks_stale.get(), 1, "three intervals and a timeout later it is");
}

#[tokio::test(start_paused = true)]
async fn probes_that_say_nothing_keep_no_result_young() {
    let rig = with_page().await;
    rig.observe("web-1", "page", &[Outcome::Success]).await;
    rig.agent.mark_stale_once(&as_of(later(1))).await;
    assert_eq!(rig.metrics.checks_stale.get(), 1);
    rig.publish().await;
    let marked = rig.said("service:web-1");
    rig.observe("web-1", "page", &[Outcome::Inconclusive(Reason::Dns)]).await;
    rig.agent.mark_stale_once(&as_of(later(1))).await;
    assert_eq!(rig.metrics.checks_stale.get(), 1, "nothing is known that was not before");
    assert_eq!(rig.said("service:web-1"), marked);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_deregistered_without_evidence_of_late() {
    let rig = Rig::new().await;
    let page = json!({"Name": "page", "HTTP": "http://127.0.0.1/", "Interval": "10s",
        "DeregisterCriticalServiceAfter": "30m"});
    for id in ["new", "old"] {
        let service = json!({"ID": id, "Name": id, "Port": 80, "Check": page});
        rig.put(service).await.unwrap();
    }
    let rig = rig.without_guard();
    rig.observe("new", "page", &[Outcome::Inconclusive(Reason::Dns)]).await;
    rig.observe("old", "page", &[FAILED]).await;
    assert_eq!(rig.said("service:old"), "critical connection_refused");
    let started = Timestamp::from_millis(0);
    rig.agent.reap_once(started, &as_of(later(1))).await.unwrap();
    assert_eq!(rig.checks("new"), ["service:new"], "it was never asked");
    assert_eq!(rig.checks("old"), ["service:old"], "it was not asked for an hour");
}
