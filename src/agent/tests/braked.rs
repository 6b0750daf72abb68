//! What consumers are told when much fails at once, or comes and goes.

use super::*;
use crate::{
    doubt::{Confidence, Doubt},
    model::Publication,
    publish::{Brake, guard::Limit},
};

const SILENT: Outcome = Outcome::Failure(Reason::TimeoutConnect);

/// Instances of a service with a check by TCP each, all passing, and a publisher that runs.
async fn passing(service: &str, count: usize) -> Rig {
    let mut rig = Rig::new().await;
    let registration = |n| configured::registration(service, &format!("{service}-{n}"), &["port"]);
    rig.agent.configure((0..count).map(registration).collect()).await;
    for n in 0..count {
        rig.observe(&format!("{service}-{n}"), "port", &[Outcome::Success]).await;
    }
    let publisher = Arc::clone(&rig.agent).publish(rig.stop.clone());
    rig.tasks.spawn("publisher", publisher);
    rig
}

fn of(instance: &str) -> CheckKey {
    CheckKey { instance: instance.parse().unwrap(), check: "port".parse().unwrap() }
}

impl Rig {
    async fn fail(&self, instances: &[&str], outcome: Outcome) {
        for instance in instances {
            self.observe(instance, "port", &[outcome]).await;
        }
    }

    /// The instances that consumers are told are critical.
    fn out(&self) -> String {
        let tables = self.store.read();
        let critical = tables.checks_on("node-1").filter(|row| row.status == Health::Critical);
        critical.map(|row| row.service.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// The instances that are observed to be critical.
    fn dead(&self) -> usize {
        self.registry.list().iter().filter(|listed| listed.status() == Status::Critical).count()
    }

    /// What has been told of publication, as `instance what from to`.
    fn publications(&self) -> Vec<String> {
        let of_publication = |transition: &Transition| match &transition.cause {
            Cause::Publication { what, .. } => Some(format!(
                "{} {what} {} {}",
                transition.key.instance, transition.from, transition.to
            )),
            Cause::Probe { .. } | Cause::Operator { .. } | Cause::Registration { .. } => None,
        };
        self.transitions().iter().filter_map(of_publication).collect()
    }

    /// A number of `/metrics`.
    fn metric(&self, series: &str) -> String {
        let mut writer = metrics::text::Writer::default();
        self.metrics.write(&mut writer);
        let text = writer.take();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_default().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_die_it_is_observed_at_once_published_by_share_and_released_later() {
    let rig = passing("web", 4).await;
    rig.fail(&["web-0", "web-1", "web-2", "web-3"], FAILED).await;
    assert_eq!((rig.dead(), rig.out().as_str()), (4, "web-0"));
    let note = "(held: it is critical, and too much is at once for all of it to be believed)";
    assert_eq!(rig.said("web-1:port"), format!("passing connection_refused\n{note}"));
    assert_eq!(rig.metric("rollcall_published_held{by=\"guard\"}"), "3");
    assert_eq!(rig.metric("rollcall_guard_active"), "1");
    assert_eq!(rig.metric("rollcall_guard_holds_total{limit=\"all\"}"), "3");
    let told = ["web-1", "web-2", "web-3"].map(|id| format!("{id} held passing passing"));
    assert_eq!(rig.publications(), told);
    // The agent shows what is observed, gRPC what is published.
    let row = Arc::new(rig.row("web-1:port"));
    assert_eq!(rig.agent.freshest(&row).status, Health::Critical);
    assert_eq!(&*rig.agent.freshest(&row).output, "connection_refused");
    let listed = rig.registry.instance("web-1").unwrap();
    assert_eq!(
        (listed.status(), rig.agent.published(&listed)),
        (Status::Critical, Status::Passing)
    );
    let standing = rig.agent.standing(&of("web-1")).unwrap();
    let hold = standing.held.unwrap();
    assert_eq!((hold.by, hold.limit), (Brake::Guard, Some(Limit::All)));
    assert_eq!(hold.until.since(hold.since), Duration::from_secs(600));

    wait(25.0).await;
    assert_eq!(rig.out(), "web-0");
    wait(10.0).await;
    assert_eq!(rig.out(), "web-0 web-1 web-2 web-3");
    assert_eq!(rig.said("web-1:port"), "critical connection_refused");
    assert_eq!(rig.metric("rollcall_published_held{by=\"guard\"}"), "0");
    assert_eq!(rig.metric("rollcall_guard_active"), "0");
    assert_eq!(rig.publications().last().unwrap(), "web-3 released passing critical");
    assert_eq!(rig.agent.standing(&of("web-1")).unwrap().held, None);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_makes_no_mass_removal_of_what_was_held() {
    let rig = passing("web", 4).await;
    rig.fail(&["web-0", "web-1", "web-2", "web-3"], SILENT).await;
    assert_eq!(rig.out(), "web-0");
    let rig = rig.restarted().await;
    let registration = |n| configured::registration("web", &format!("web-{n}"), &["port"]);
    rig.agent.configure((0..4).map(registration).collect()).await;
    assert_eq!(rig.out(), "web-0");
    rig.fail(&["web-1", "web-2", "web-3"], SILENT).await;
    assert_eq!((rig.dead(), rig.out().as_str()), (4, "web-0 web-1"), "one more, in a new window");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_all_stop_are_held_and_what_clients_say_is_not() {
    let rig = Rig::new().await;
    for n in 0..4 {
        let check = json!({"TTL": "10s", "Status": "passing"});
        let id = format!("web-{n}");
        rig.put(json!({"ID": id, "Name": "web", "Check": check})).await.unwrap();
    }
    wait(11.0).await;
    rig.publish().await;
    let first = rig.out();
    assert_eq!((rig.dead(), first.split(' ').count()), (4, 1), "{first}");
    for n in 0..4 {
        rig.hear(&format!("service:web-{n}"), "critical", "stopping").await;
    }
    assert_eq!(rig.out(), "web-0 web-1 web-2 web-3");
    // Of one that is out already the new output follows later.
    let other = if first == "web-3" { "service:web-2" } else { "service:web-3" };
    assert_eq!(rig.said(other), "critical stopping");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_comes_and_goes_stays_out_until_it_has_settled() {
    let rig = passing("web", 4).await;
    for _ in 0..3 {
        rig.fail(&["web-0"], FAILED).await;
        rig.fail(&["web-0"], Outcome::Success).await;
    }
    assert_eq!((rig.dead(), rig.out().as_str()), (0, "web-0"));
    let note = "(held: it is well, and has come and gone too often to be believed)";
    assert!(rig.said("web-0:port").ends_with(note), "{}", rig.said("web-0:port"));
    assert_eq!(
        rig.publications(),
        ["web-0 flapping critical critical", "web-0 damped critical critical"]
    );
    assert_eq!(rig.metric("rollcall_checks_flapping"), "1");
    assert_eq!(rig.metric("rollcall_published_held{by=\"damping\"}"), "1");
    // What is well is not deregistered.
    let mut row = rig.row("web-0:port");
    row.since = 0;
    Arc::make_mut(&mut row.shape).deregister_after = 60;
    rig.store.write(|tx| Ok::<_, Unwritten>(tx.put(row))).await.unwrap();
    rig.agent.reap_once(Timestamp::from_millis(0), &as_of(clock::now())).await.unwrap();
    assert!(rig.registry.instance("web-0").is_some());

    wait(200.0).await;
    assert_eq!(rig.out(), "");
    assert_eq!(rig.metric("rollcall_checks_flapping"), "0");
    assert_eq!(
        rig.publications()[2..],
        ["web-0 steady critical passing", "web-0 released critical passing"]
    );
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn changes_between_two_looks_are_not_lost() {
    let rig = passing("web", 4).await;
    let check = rig.registry.check(&of("web-0")).unwrap();
    let mut machine =
        Machine::restore(check.slot.read().verdict, check.slot.read().streak, Maintenance::Off);
    // Nobody publishes in between.
    for outcome in [FAILED, Outcome::Success].repeat(3) {
        rig.monitor.observe(&check, &mut machine, observation(outcome));
    }
    rig.publish().await;
    assert!(rig.agent.standing(&of("web-0")).unwrap().is_flapping);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_deregistered_while_the_guard_holds() {
    let rig = passing("web", 20).await;
    rig.fail(&["web-0", "web-1", "web-2", "web-3", "web-4"], SILENT).await;
    let mut row = rig.row("web-0:port");
    row.since = 0;
    Arc::make_mut(&mut row.shape).deregister_after = 1;
    rig.store.write(|tx| Ok::<_, Unwritten>(tx.put(row))).await.unwrap();
    let later = as_of(Timestamp::from_millis(clock::now().millis() + 30_000));
    rig.agent.reap_once(Timestamp::from_millis(0), &later).await.unwrap();
    assert!(rig.registry.instance("web-0").is_some());
    assert_eq!(rig.metric("rollcall_deregistrations_held"), "1");
    rig.fail(&["web-3", "web-4"], Outcome::Success).await;
    rig.agent.reap_once(Timestamp::from_millis(0), &later).await.unwrap();
    assert!(rig.registry.instance("web-0").is_none());
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_in_doubt_takes_nobody_out_for_silence() {
    let (doubt, store) = (Doubt::default(), Arc::new(Store::in_memory()));
    let registry = Arc::new(Registry::new(
        Snapshot::default(),
        Orders { probed: mpsc::channel(100).0, pushed: mpsc::channel(100).0 },
    ));
    let (events, metrics) = (Log::new(100), Daemon::new());
    let (agent, _heard) = Agent::new(
        "node-1".into(),
        Arc::clone(&store),
        Arc::clone(&registry),
        (metrics.clone(), events.clone()),
    );
    let agent = agent.trusting(doubt.clone());
    agent.start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    agent.configure(vec![configured::registration("web", "web-0", &["port"])]).await;
    let monitor = Monitor::new(Arc::clone(&registry), events, metrics);
    let check = registry.check(&of("web-0")).unwrap();
    let mut machine = Machine::default();
    monitor.observe(&check, &mut machine, observation(Outcome::Success));
    agent.tell(vec![of("web-0")]).await.unwrap();
    doubt.set(Confidence::Doubtful);
    monitor.observe(&check, &mut machine, observation(SILENT));
    agent.tell(vec![of("web-0")]).await.unwrap();
    let standing = agent.standing(&of("web-0")).unwrap();
    assert_eq!(standing.held.unwrap().limit, Some(Limit::Doubt));
    assert_eq!(standing.published, crate::judge::Verdict::Passing);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_publication_is_kept_over_restarts() {
    let mut rig = Rig::new().await;
    let keeping = Arc::clone(&rig.agent).keep_history(0, 100, rig.stop.clone());
    rig.tasks.spawn("history", keeping);
    for what in Publication::ALL {
        rig.events.push(Transition {
            service: "web".parse().unwrap(),
            key: of("web-0"),
            from: Status::Passing,
            to: Status::Critical,
            at: Timestamp::from_seconds(7),
            cause: Cause::Publication { what: *what, detail: "because".into() },
        });
    }
    rig.settle().await;
    let again = Log::new(100);
    rig.agent.recall(&again);
    assert_eq!(again.after(0), rig.events.after(0));
    assert_eq!(again.after(0).len(), Publication::COUNT);
    rig.end().await;
}

#[test]
fn every_limit_and_brake_has_its_series_from_the_start() {
    let mut writer = metrics::text::Writer::default();
    Daemon::new().write(&mut writer);
    let text = writer.take();
    for limit in Limit::ALL {
        assert!(text.contains(&format!("rollcall_guard_holds_total{{limit=\"{limit}\"}} 0")));
    }
    for brake in Brake::ALL {
        assert!(text.contains(&format!("rollcall_published_held{{by=\"{brake}\"}} 0")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_with_the_check_that_it_was_of() {
    let rig = passing("web", 4).await;
    let check = |id: &str| {
        json!({"ID": "api-1", "Name": "api", "Port": 81,
            "Check": {"CheckID": id, "Name": "port", "TCP": "127.0.0.1:81", "Interval": "1h"}})
    };
    rig.put(check("one")).await.unwrap();
    rig.observe("api-1", "port", &[Outcome::Success]).await;
    rig.fail(&["web-0", "web-1", "api-1"], SILENT).await;
    assert_eq!(rig.agent.standing(&of("api-1")).unwrap().held.unwrap().by, Brake::Guard);
    let terms = Terms { replaces_checks: true, ..Terms::default() };
    rig.put_on(check("two"), terms).await.unwrap();
    wait(3.0).await;
    assert_eq!(rig.agent.standing(&of("api-1")).unwrap().held, None);
    rig.end().await;
}
