//! How many probes are under way at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_run_is_skipped_while_the_one_before_is_under_way() {
    let rig = Rig::new(SETTINGS, |_, _| Act::Finds(TEN * 15 / 10, Outcome::Success));
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 100).await;
    let (starts, skipped) = (rig.starts(1).len() as u64, rig.metrics.skipped(Skip::Overrun));
    assert!((49..=51).contains(&starts), "{starts}");
    assert!((99..=101).contains(&(starts + skipped)), "{starts} + {skipped}");
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_are_under_way_than_allowed() {
    let settings = Settings { max_in_flight: 10, ..SETTINGS };
    let rig = Rig::new(settings, |_, _| Act::Finds(TEN * 9 / 10, Outcome::Success));
    rig.registry.replace((1..=30).map(|port| registration(port, schedule(TEN))).collect()).await;
    for _ in 0..300 {
        sleep(Duration::from_millis(100)).await;
        assert!(rig.metrics.in_flight(crate::probe::Protocol::Tcp).get() <= 10);
    }
    assert!(rig.metrics.skipped(Skip::Saturated) > 20);
}

/// However many hang, there is room for those that are well once it is known who hangs.
#[tokio::test(start_paused = true)]
async fn those_that_hang_leave_room_for_those_that_are_well() {
    let settings = Settings { max_in_flight: 8, max_per_host: 1000, ..SETTINGS };
    let rig = Rig::new(settings, |port, _| if port < 90 { Act::Hangs } else { OK });
    let ports = (1..=40).chain([90, 91]);
    rig.registry.replace(ports.map(|port| registration(port, schedule(TEN))).collect()).await;
    sleep(TEN * 20).await;
    assert!(rig.metrics.skipped(Skip::Saturated) > 200);
    let before = [90, 91].map(|port| rig.starts(port).len());
    sleep(TEN * 20).await;
    for (port, before) in [90, 91].into_iter().zip(before) {
        let starts = rig.starts(port).len() - before;
        assert!((19..=21).contains(&starts), "{port}: {starts}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_are_under_way_to_a_host_than_allowed() {
    let settings = Settings { max_per_host: 4, ..SETTINGS };
    let rig = Rig::new(settings, |_, _| Act::Finds(TEN * 9 / 10, Outcome::Success));
    let elsewhere = |port| {
        let mut other = registration(port, schedule(TEN));
        other.instance.endpoint.host = "127.0.0.2".parse().unwrap();
        other
    };
    let crowd = (1..=30).map(|port| registration(port, schedule(TEN)));
    rig.registry.replace(crowd.chain([elsewhere(99)]).collect()).await;
    sleep(TEN * 3).await;
    assert!(rig.metrics.in_flight(crate::probe::Protocol::Tcp).get() <= 5);
    assert!(rig.metrics.skipped(Skip::Destination) > 20);
    assert_eq!(rig.starts(99).len(), 3, "another host is not held up");
}

/// What counts is the host that is asked, not the one that is registered.
#[tokio::test(start_paused = true)]
async fn checks_of_one_url_ask_one_host() {
    let settings = Settings { max_per_host: 4, ..SETTINGS };
    let rig = Rig::new(settings, |_, _| Act::Finds(TEN * 9 / 10, Outcome::Success));
    let url = crate::probe::http::Spec {
        url: Some("http://proxy:8080/".parse().unwrap()),
        ..Default::default()
    };
    let mut crowd = asked_by(&Spec::Http(url));
    for registration in &mut crowd {
        let port = registration.instance.endpoint.port;
        registration.instance.endpoint.host = format!("10.0.0.{port}").parse().unwrap();
    }
    rig.registry.replace(crowd).await;
    sleep(TEN * 3).await;
    assert!(rig.metrics.in_flight(crate::probe::Protocol::Http).get() <= 4);
    assert!(rig.metrics.skipped(Skip::Destination) > 20);
}

#[tokio::test(start_paused = true)]
async fn programs_ask_no_host() {
    let settings = Settings { max_per_host: 4, ..SETTINGS };
    let rig = Rig::new(settings, |_, _| Act::Finds(TEN * 9 / 10, Outcome::Success));
    let program = crate::probe::exec::Spec { args: vec!["check".into()] };
    rig.registry.replace(asked_by(&program.into())).await;
    sleep(TEN * 3).await;
    assert_eq!(rig.metrics.skipped(Skip::Destination), 0);
    assert!(rig.metrics.in_flight(crate::probe::Protocol::Exec).get() > 4);
}

/// Thirty registrations at one host that are asked like this.
fn asked_by(spec: &Spec) -> Vec<Registration> {
    let probe = Arc::new(Probe::prepare(spec).unwrap());
    let with_probe = |port| {
        let mut registration = registration(port, schedule(TEN));
        let old = &registration.checks[0].definition;
        let definition = Definition {
            id: old.id.clone(),
            name: None,
            notes: None,
            probe: Arc::clone(&probe),
            schedule: old.schedule,
            thresholds: old.thresholds,
            slo_objective: old.slo_objective,
        };
        registration.checks[0].definition = Arc::new(definition);
        registration
    };
    (1..=30).map(with_probe).collect()
}
