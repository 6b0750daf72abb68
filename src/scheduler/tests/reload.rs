//! Checks that change, move and go on under a reload.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_disturbs_nothing() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    let same = || vec![registration(1, schedule(TEN)), registration(2, schedule(TEN))];
    rig.registry.replace(same()).await;
    sleep(TEN * 2).await;
    let before = Arc::clone(&rig.registry.instance("web-1").unwrap().checks[0]);
    for _ in 0..100 {
        sleep(TEN / 7).await;
        assert_eq!(rig.registry.replace(same()).await, crate::registry::Difference::default());
    }
    let after = Arc::clone(&rig.registry.instance("web-1").unwrap().checks[0]);
    assert!(Arc::ptr_eq(&before, &after));
    let (shortest, longest) = gaps(&rig.starts(1));
    assert!(shortest >= TEN * 89 / 100 && longest <= TEN * 111 / 100, "{shortest:?} {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_check_keeps_its_status_and_its_row_of_failures() {
    let rig = Rig::new(SETTINGS, |_, n| if n == 1 { OK } else { FAILS });
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    while rig.starts(1).len() < 3 {
        sleep(SETTINGS.tick).await;
    }
    sleep(Duration::from_millis(10)).await;
    rig.registry.replace(vec![registration(1, schedule(TEN / 2))]).await;
    sleep(TEN / 2 + SETTINGS.tick * 2).await;
    assert_eq!(rig.starts(1).len(), 4);
    assert_eq!(
        rig.told(),
        ["web-1:up unknown to passing (ok)", "web-1:up passing to critical (status)"]
    );
    let facts = rig.registry.instance("web-1").unwrap().checks[0].slot.read();
    assert_eq!((facts.probes, facts.failures, facts.changes), (4, 3, 2));
}

/// A reload that touches a check while its probe hangs must not lose the probe, or a target that
/// hangs would never be found out under frequent reloads.
#[tokio::test(start_paused = true)]
async fn a_probe_under_way_survives_a_change_of_what_is_not_asked() {
    let slow = || Act::Finds(TEN / 2, Outcome::Failure(Reason::TimeoutResponse));
    let rig = Rig::new(SETTINGS, move |_, _| slow());
    let tagged = |tag: usize| {
        let mut registration = registration(1, schedule(TEN));
        registration.instance.tags = [tag.to_string().into()].into();
        registration
    };
    for tag in 0..40 {
        rig.registry.replace(vec![tagged(tag)]).await;
        sleep(TEN / 10).await;
    }
    assert_eq!(rig.starts(1).len(), 4);
    assert_eq!(rig.told(), ["web-1:up unknown to critical (timeout_response)"]);
    let facts = rig.registry.instance("web-1").unwrap().checks[0].slot.read();
    assert!((3..=4).contains(&facts.probes), "{}", facts.probes);
}

#[tokio::test(start_paused = true)]
async fn a_check_aimed_elsewhere_keeps_its_status_and_counts_afresh() {
    let rig = Rig::new(SETTINGS, |port, _| if port == 1 { FAILS } else { OK });
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 4).await;
    let mut moved = registration(1, schedule(TEN));
    moved.instance.endpoint.port = 2;
    rig.registry.replace(vec![moved]).await;
    let facts = || rig.registry.instance("web-1").unwrap().checks[0].slot.read();
    assert_eq!((facts().probes, facts().status), (0, crate::model::Status::Critical));
    sleep(TEN).await;
    assert_eq!(
        rig.told(),
        ["web-1:up unknown to critical (status)", "web-1:up critical to passing (ok)"]
    );
}

/// The deciding probe may land after the registry has copied what was known of a check and before the
/// scheduler goes on with the copy; what it says has been told of the old one by then, or of nobody.
#[tokio::test(start_paused = true)]
async fn a_verdict_reached_while_a_check_changes_hands_is_told() {
    let rig = Rig::new(SETTINGS, |_, n| if n < 4 { OK } else { FAILS });
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 3).await;
    let mut tagged = registration(1, schedule(TEN));
    tagged.instance.tags = ["new".into()].into();
    rig.registry.put(tagged, crate::registry::Source::Config);
    sleep(TEN * 4).await;
    assert_eq!(rig.told()[1..], ["web-1:up passing to critical (status)"]);
    let facts = || rig.registry.instance("web-1").unwrap().checks[0].slot.read();
    assert_eq!(facts().status, crate::model::Status::Passing, "of the new one nothing is known");
    // A publisher has looked at it.
    assert_eq!(rig.registry.news().take_changed().len(), 1);
    rig.registry.flush().await;
    sleep(SETTINGS.tick).await;
    assert_eq!(facts().status, crate::model::Status::Critical);
    assert_eq!(rig.registry.news().take_changed().len(), 1, "it looks again");
    assert_eq!(facts().detail, None);
}
