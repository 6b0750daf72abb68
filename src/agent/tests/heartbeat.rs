//! Checks with a time to live.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_that_is_not_heard_of_in_time_is_critical_once() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "well").await;
    assert_eq!(rig.said(WEB), "passing well");
    wait(9.99).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "passing well", "not before its time");
    wait(0.02).await;
    rig.publish().await;
    let expired = "critical TTL expired (last output before timeout follows): well";
    assert_eq!(rig.said(WEB), expired);
    wait(100.0).await;
    rig.publish().await;
    assert_eq!((rig.said(WEB).as_str(), rig.transitions().len()), (expired, 2));
    // Heard of again it lives again.
    rig.hear(WEB, "warning", "").await;
    assert_eq!(rig.said(WEB), "warning");
    wait(10.01).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "critical TTL expired");
}

#[tokio::test(start_paused = true)]
async fn one_never_heard_of_expires_from_its_registration() {
    let rig = Rig::new().await;
    let check = json!({"TTL": "10s", "Status": "passing"});
    rig.put(json!({"ID": "web-1", "Name": "web", "Check": check})).await.unwrap();
    wait(9.99).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "passing");
    wait(0.02).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "critical TTL expired");
}

#[tokio::test(start_paused = true)]
async fn every_word_starts_the_time_anew_and_so_does_a_new_registration() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    for status in ["passing", "warning", "critical", "passing"] {
        rig.hear(WEB, status, "").await;
        assert_eq!(rig.said(WEB), status);
        wait(9.0).await;
    }
    for _ in 0..3 {
        rig.put(web()).await.unwrap();
        rig.publish().await;
        assert_eq!(rig.said(WEB), "passing");
        wait(9.0).await;
    }
    let mut tagged = web();
    tagged["Tags"] = json!(["blue"]);
    rig.put(tagged).await.unwrap();
    wait(9.0).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "passing");
    wait(1.01).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "critical TTL expired");
    // To be registered again is not to be heard of.
    rig.put(web()).await.unwrap();
    rig.publish().await;
    assert_eq!(rig.said(WEB), "critical TTL expired");
}

#[tokio::test(start_paused = true)]
async fn a_word_is_on_disk_when_it_is_answered_and_an_output_soon_after() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.agent.hear(WEB, Health::Passing, "one").await.unwrap();
    assert_eq!(rig.said(WEB), "passing one");
    rig.agent.hear(WEB, Health::Passing, "two").await.unwrap();
    let publishing = Arc::clone(&rig.agent).publish(rig.stop.clone());
    drop(tokio::time::timeout(publish::SAY_EVERY + Duration::from_millis(1), publishing).await);
    assert_eq!(rig.said(WEB), "passing two");
}

#[tokio::test(start_paused = true)]
async fn a_long_output_is_cut_and_says_so() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", &"x".repeat(pushed::MAX_OUTPUT)).await;
    assert_eq!(rig.row(WEB).output.len(), pushed::MAX_OUTPUT);
    rig.hear(WEB, "warning", &"é".repeat(2048).replace("éé", "éxé")).await;
    let row = rig.row(WEB);
    let (kept, said) = row.output.split_once(" ... ").unwrap();
    assert!(kept.len() <= 4096 && kept.len() > 4094);
    assert_eq!(said, format!("(captured {} of 5120 bytes)", kept.len()));
    let check = json!({"TTL": "10s", "OutputMaxSize": 4, "CheckID": "short"});
    rig.put(json!({"ID": "web-2", "Name": "web", "Check": check})).await.unwrap();
    rig.hear("short", "passing", "12345").await;
    assert_eq!(rig.said("short"), "passing 1234 ... (captured 4 of 5 bytes)");
}

#[tokio::test(start_paused = true)]
async fn a_restart_gives_the_whole_time_again() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "well").await;
    wait(9.0).await;
    let rig = rig.restarted().await;
    assert_eq!(rig.said(WEB), "passing well");
    wait(9.9).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "passing well");
    wait(0.2).await;
    rig.publish().await;
    let expired = "critical TTL expired (last output before timeout follows): well";
    assert_eq!(rig.said(WEB), expired);
    let rig = rig.restarted().await;
    wait(30.0).await;
    rig.publish().await;
    assert_eq!((rig.said(WEB).as_str(), rig.transitions().len()), (expired, 0));
    rig.hear(WEB, "passing", "").await;
    assert_eq!(rig.said(WEB), "passing");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_gives_the_whole_time_again() {
    let rig = Rig::new().await.without_guard();
    rig.put(web()).await.unwrap();
    rig.put(json!({"ID": "web-2", "Name": "web", "Check": {"TTL": "1m"}})).await.unwrap();
    for check in [WEB, "service:web-2"] {
        rig.hear(check, "passing", "").await;
    }
    // All at once, as for a process that is continued.
    tokio::time::advance(Duration::from_secs(59)).await;
    rig.publish().await;
    wait(9.9).await;
    rig.publish().await;
    assert_eq!(
        (rig.said(WEB).as_str(), rig.said("service:web-2").as_str()),
        ("passing", "passing")
    );
    wait(0.2).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "critical TTL expired");
    wait(49.0).await;
    rig.publish().await;
    assert_eq!(rig.said("service:web-2"), "passing");
    wait(1.0).await;
    rig.publish().await;
    assert_eq!(rig.said("service:web-2"), "critical TTL expired");
}

#[tokio::test(start_paused = true)]
async fn a_time_of_decades_is_no_danger() {
    let rig = Rig::new().await;
    let check = json!({"TTL": "26280h", "Status": "passing"});
    rig.put(json!({"ID": "web-1", "Name": "web", "Check": check})).await.unwrap();
    rig.put(json!({"ID": "web-2", "Name": "web", "Check": {"TTL": "876000h"}})).await.unwrap();
    rig.hear(WEB, "passing", "").await;
    for _ in 0..109 {
        wait(10.0 * 86_400.0).await;
        rig.publish().await;
        assert_eq!(rig.said(WEB), "passing");
    }
    wait(6.0 * 86_400.0).await;
    rig.publish().await;
    assert_eq!(rig.said(WEB), "critical TTL expired");
}

#[tokio::test(start_paused = true)]
async fn one_that_has_gone_does_not_expire() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "").await;
    rig.agent.deregister("web-1").await.unwrap();
    wait(20.0).await;
    rig.publish().await;
    assert_eq!(rig.transitions().len(), 1);
}

/// Heartbeats at random times; each check is then silent and must be critical within 20 ms.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_expire_on_time() {
    const CHECKS: u64 = 100_000;
    const TTL: Duration = Duration::from_secs(10);
    let rig = Rig::new().await;
    let one = configured::assigned("up", &crate::probe::Spec::Ttl(TTL));
    let registrations = (0..CHECKS).map(|n| {
        let bare = configured::registration("web", &format!("web-{n}"), &[]);
        Registration { checks: vec![one.clone()], ..bare }
    });
    // They have all expired before.
    let expired = || Known {
        verdict: crate::judge::Verdict::Critical,
        since: None,
        streak: None,
        output: None,
    };
    let key = |n: u64| CheckKey {
        instance: format!("web-{n}").parse().unwrap(),
        check: "up".parse().unwrap(),
    };
    rig.registry.remember((0..CHECKS).map(|n| (key(n), Some(expired()))));
    rig.registry.replace(registrations.collect()).await;
    // Spread over nine seconds, in another order than they were registered.
    let at = |n: u64| Duration::from_micros(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 9_000_000);
    let again = (0..CHECKS).step_by(50).map(|n| (at(n + CHECKS), key(n)));
    let mut beats: Vec<_> = (0..CHECKS).map(|n| (at(n), key(n))).chain(again).collect();
    beats.sort();
    let start = tokio::time::Instant::now();
    let mut last = std::collections::HashMap::new();
    for (at, key) in beats {
        tokio::time::sleep_until(start + at).await;
        let (heard, taken) = pushed::Heard::new(key.clone(), Health::Passing, ("", 1));
        rig.agent.pushed.send(heard).await.unwrap();
        taken.await.unwrap();
        last.insert(key, tokio::time::Instant::now());
    }
    let news = rig.registry.news();
    assert_eq!(news.take_changed().len(), last.len());
    let mut critical = 0;
    while critical < last.len() {
        news.wait().await;
        let now = tokio::time::Instant::now();
        for key in news.take_changed() {
            let late = now - last[&key];
            assert!(late >= TTL && late <= TTL + Duration::from_millis(20), "{key}: {late:?}");
            critical += 1;
        }
    }
}
