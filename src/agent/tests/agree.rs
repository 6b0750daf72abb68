//! The store and the scheduler agree, whatever happens at once or fails.

use proptest::prelude::*;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_hundred_registrations_of_one_id_at_once_leave_one() {
    let directory = tempfile::tempdir().unwrap();
    let (store, keeper) = opened(directory.path());
    let rig = Arc::new(still(Rig::over(store, "node-1")).await);
    let mut all = tokio::task::JoinSet::new();
    for n in 0..100 {
        let rig = Arc::clone(&rig);
        all.spawn(async move {
            let checks = json!([
                {"CheckID": "beat", "TTL": format!("{}s", 10 + n)},
                {"CheckID": format!("own-{n}"), "TCP": "127.0.0.1:1", "Interval": "9s"},
            ]);
            let name = format!("web-{}", n % 7);
            let definition = json!({"ID": "web", "Name": name, "Port": n, "Checks": checks});
            let terms = Terms { replaces_checks: n % 2 == 0, ..Terms::default() };
            rig.put_on(definition, terms).await.unwrap();
        });
    }
    still(async { while all.join_next().await.transpose().unwrap().is_some() {} }).await;
    assert_eq!(rig.store.read().instances_on("node-1").filter(|s| s.origin.is_local()).count(), 1);
    assert_eq!(rig.metrics.registrations.with_label_values(&["register"]).get(), 1);
    rig.agrees();
    still(rig.agent.hear("beat", Health::Passing, "well")).await.unwrap();
    assert_eq!(rig.said("beat"), "passing well");
    let before = rig.in_registry();
    Arc::into_inner(rig).unwrap().end().await;
    drop(keeper);
    let (store, _keeper) = opened(directory.path());
    let rig = still(Rig::over(store, "node-1")).await;
    assert_eq!(rig.in_registry(), before);
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_is_published_later() {
    let rig = Rig::new().await.without_guard();
    rig.put(web()).await.unwrap();
    rig.put(json!({"ID": "web-2", "Name": "web", "Check": {"TTL": "10s"}})).await.unwrap();
    let (agent, stop) = (Arc::clone(&rig.agent), CancellationToken::new());
    let mut tasks = Tasks::default();
    tasks.spawn("publisher", agent.publish(stop.clone()));
    rig.hear("service:web-2", "passing", "").await;
    rig.store.fail(true);
    let refused = rig.agent.hear(WEB, Health::Passing, "well").await;
    assert!(matches!(refused, Err(Refused::Unwritten(_))), "{refused:?}");
    assert!(rig.put(json!({"ID": "web-1", "Name": "other"})).await.is_err());
    assert!(rig.agent.deregister("web-1").await.is_err());
    wait(4.0).await;
    assert_eq!(rig.said(WEB), "critical");
    rig.agrees();
    rig.store.fail(false);
    wait(1.1).await;
    assert_eq!(rig.said(WEB), "passing well");
    wait(5.0).await;
    assert_eq!(rig.row("service:web-2").status, Health::Critical);
    // What there is to say at the end is said.
    rig.hear("service:web-2", "passing", "").await;
    rig.agent.hear("service:web-2", Health::Passing, "last words").await.unwrap();
    stop.cancel();
    while tasks.next_ended().await.is_some() {}
    assert_eq!(rig.said("service:web-2"), "passing last words");
}

#[tokio::test(start_paused = true)]
async fn outputs_are_published_also_while_statuses_change_all_the_time() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "one").await;
    rig.agent.hear(WEB, Health::Passing, "two").await.unwrap();
    let mut tasks = Tasks::default();
    let (registry, key) = (Arc::clone(&rig.registry), key(&rig.row(WEB)).unwrap());
    let other = CheckKey { check: "other".parse().unwrap(), ..key };
    tasks.spawn("publisher", Arc::clone(&rig.agent).publish(rig.stop.clone()));
    tasks.spawn("changes", async move {
        loop {
            registry.news().changed(&other);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    wait(5.1).await;
    assert_eq!(rig.said(WEB), "passing two");
    rig.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_status_below_maintenance_is_when_it_came() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "").await;
    rig.registry.maintain("web-1", Some("because".into())).await.unwrap();
    rig.settle().await;
    let check = rig.registry.check(&key(&rig.row(WEB)).unwrap()).unwrap();
    let long_ago = Timestamp::from_seconds(1);
    check.slot.changed(long_ago);
    rig.hear(WEB, "critical", "").await;
    assert!(rig.row(WEB).since > long_ago.millis());
}

/// Something that is done to the agent.
#[derive(Debug, Clone)]
enum Step {
    Register { id: u8, name: u8, checks: Vec<(u8, u8)>, replaces: bool },
    Check { id: u8, of: u8, kind: u8 },
    Deregister(u8),
    DeregisterCheck(u8),
    Hear(u8, u8),
    Wait(u8),
    Configure(Vec<u8>),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let few = || 0u8..4;
    prop_oneof![
        3 => (few(), few(), prop::collection::vec((few(), few()), 0..3), any::<bool>()).prop_map(
            |(id, name, checks, replaces)| Step::Register { id, name, checks, replaces }
        ),
        3 => (few(), 0u8..5, few()).prop_map(|(id, of, kind)| Step::Check { id, of, kind }),
        2 => few().prop_map(Step::Deregister),
        2 => few().prop_map(Step::DeregisterCheck),
        3 => (few(), few()).prop_map(|(id, status)| Step::Hear(id, status)),
        1 => (0u8..20).prop_map(Step::Wait),
        1 => prop::collection::vec(few(), 0..3).prop_map(Step::Configure),
        1 => Just(Step::Restart),
    ]
}

fn check_of(id: u8, kind: u8) -> Value {
    match kind {
        0 | 1 => json!({"CheckID": format!("c{id}"), "TTL": format!("{}s", 5 + kind)}),
        2 => json!({"CheckID": format!("c{id}"), "Name": "port", "TCP": "a:1", "Interval": "5s"}),
        _ => json!({"CheckID": format!("c{id}"), "AliasService": "i0"}),
    }
}

/// Does a step; what is refused is no matter.
async fn take(rig: Rig, step: Step, config: &mut Vec<u8>) -> Rig {
    match step {
        Step::Register { id, name, checks, replaces } => {
            let checks: Vec<_> = checks.iter().map(|(id, kind)| check_of(*id, *kind)).collect();
            let (id, name) = (format!("i{id}"), format!("s{name}"));
            let terms = Terms { replaces_checks: replaces, ..Terms::default() };
            let definition = json!({"ID": id, "Name": name, "Port": 7, "Checks": checks});
            rig.put_on(definition, terms).await.unwrap();
        }
        Step::Check { id, of, kind } => {
            let mut check = check_of(id, kind);
            check["ID"] = check["CheckID"].take();
            check["Name"] = json!(format!("n{}", id % 2));
            if of < 4 {
                check["ServiceID"] = json!(format!("i{of}"));
            }
            drop(rig.put_check(check).await);
        }
        Step::Deregister(id) => drop(rig.agent.deregister(&format!("i{id}")).await),
        Step::DeregisterCheck(id) => drop(rig.agent.deregister_check(&format!("c{id}")).await),
        Step::Hear(id, status) => {
            let status = ["passing", "warning", "critical", "passing"][usize::from(status)];
            drop(rig.agent.hear(&format!("c{id}"), Health::from(status), status).await);
        }
        Step::Wait(seconds) => wait(f64::from(seconds)).await,
        Step::Configure(ids) => {
            configure(&rig, &ids).await;
            *config = ids;
        }
        Step::Restart => {
            let rig = rig.restarted().await.without_guard();
            configure(&rig, config).await;
            return rig;
        }
    }
    rig
}

async fn configure(rig: &Rig, ids: &[u8]) {
    let ids: std::collections::BTreeSet<_> = ids.iter().collect();
    let registration = |id| configured::registration("s0", &format!("i{id}"), &["port", "up"]);
    rig.agent.configure(ids.into_iter().map(registration).collect()).await;
}

/// Instances with the checks they run, and what each says.
fn outline(rig: &Rig) -> (Vec<String>, Vec<String>) {
    let mut asked: Vec<_> = rig
        .registry
        .list()
        .iter()
        .flat_map(|listed| {
            let name = format!("{} {}", listed.instance.id, listed.instance.service);
            let checks = listed.checks.iter().map(|check| {
                let status = rows::health(check.slot.read_numbers().verdict);
                format!("{} {} {status:?}", check.key, check.public_id())
            });
            std::iter::once(name).chain(checks).collect::<Vec<_>>()
        })
        .collect();
    let tables = rig.store.read();
    let services = tables.instances_on("node-1").filter(|row| row.origin.is_local());
    let services = services.map(|row| format!("{} {}", row.id, row.name));
    let run: Vec<_> = tables.checks_on("node-1").filter(|row| !row.run.is_empty()).collect();
    let node = run.iter().any(|row| row.service.is_empty()).then(|| "_node _node".to_owned());
    let checks = run.iter().map(|row| {
        let status = row.judged.then_some(&row.status);
        format!("{} {} {status:?}", key(row).unwrap(), row.id)
    });
    let mut rows: Vec<_> = services.chain(node).chain(checks).collect();
    asked.sort();
    rows.sort();
    (asked, rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_is_done_the_registry_is_what_the_rows_say(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut rig, mut config) = (Rig::new().await.without_guard(), Vec::new());
            for step in steps {
                rig = take(rig, step, &mut config).await;
                rig.publish().await;
                let (asked, rows) = outline(&rig);
                prop_assert_eq!(asked, rows);
            }
            Ok(())
        })?;
    }
}
