//! Explaining checks, and what is suggested for an id that is none.

use expect_test::expect;

use super::*;

async fn explained(rig: &Rig, id: &str) -> Vec<native::Explanation> {
    let answer = rig.get(&format!("{}{id}", native::EXPLAIN)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn sources(rig: &Rig, id: &str) -> Vec<String> {
    let all = explained(rig, id).await;
    all[0].holding.iter().map(|held| format!("{}: {}", held.source, held.text)).collect()
}

#[tokio::test]
async fn everything_that_bears_on_a_check_is_in_one_answer() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/healthz"]).await;
    rig.pass("web-1");
    rig.check("web-1")
        .slot
        .plan(Some(Timestamp::from_seconds(1_000_000_000)), crate::model::Turn::Confirm);
    rig.fail("web-1");
    let mut answer = rig.get("/v1/rollcall/explain/web-1:http").await.json();
    let explained = &mut answer[0];
    // The moments of this run.
    explained["observed"]["since"] = "…".into();
    explained["published"]["since"] = "…".into();
    for transition in explained["transitions"].as_array_mut().unwrap() {
        transition["at"] = "…".into();
        transition["probe"] = "…".into();
    }
    let fields = explained.as_object().unwrap().iter();
    let lines: Vec<_> = fields.map(|(name, value)| format!("{name}: {value}\n")).collect();
    expect![[r#"
        ahead: [{"more":1,"result":"success","status":"passing"}]
        attempts: [{"code":"200","duration_seconds":0.012,"outcome":"success","peer":"10.0.0.1:80","phases":{"connect":0.002},"started":"2026-11-20T14:00:01.000Z"},{"detail":"GET it: connection_refused","duration_seconds":0.012,"outcome":"failure","peer":"10.0.0.1:80","phases":{"connect":0.002},"reason":"connection_refused","started":"2026-11-20T14:00:01.000Z"}]
        check: "http"
        holding: []
        id: "web-1:http"
        instance: "web-1"
        interval_seconds: 90.0
        next_probe: "2001-09-09T01:46:40.000Z"
        next_probe_reason: "confirm"
        next_probe_seconds: 0.0
        observed: {"changes":2,"consecutive_failures":1,"consecutive_successes":0,"detail":"GET it: connection_refused","failures":1,"inconclusive":0,"probes":2,"reason":"connection_refused","since":"…","stale":false,"status":"critical","verdict":"critical"}
        protocol: "http"
        published: {"judged":true,"output":"GET it: connection_refused","since":"…","status":"critical"}
        service: "web"
        target: "http://10.0.0.1/healthz"
        thresholds: {"failures_before_critical":1,"failures_before_warning":1,"success_before_passing":1}
        timeout_seconds: 0.5
        transitions: [{"at":"…","check":"http","consecutive":1,"from":"unknown","instance":"web-1","probe":"…","reason":"ok","sequence":1,"service":"web","to":"passing"},{"at":"…","check":"http","consecutive":1,"detail":"GET it: connection_refused","from":"passing","instance":"web-1","probe":"…","reason":"connection_refused","sequence":2,"service":"web","to":"critical"}]
    "#]].assert_eq(&lines.concat());
}

#[tokio::test]
async fn an_id_means_a_check_or_all_of_an_instance() {
    let rig =
        Rig::new(&["web web:1 http http://10.0.0.1/", "web web-2 http http://10.0.0.2/"]).await;
    let ids = async |id: &str| -> Vec<String> {
        explained(&rig, id).await.into_iter().map(|explained| explained.id).collect()
    };
    assert_eq!(ids("web:1:http").await, ["web:1:http"]);
    assert_eq!(ids("web%3A1").await, ["web:1:http"]);
    let body = r#"{"ID": "disk", "Name": "disk", "ServiceID": "web-2", "TTL": "10s"}"#;
    assert_eq!(rig.put("/v1/agent/check/register", body).await.status, 200);
    assert_eq!(ids("disk").await.len(), 1);
    assert_eq!(ids("web-2").await.len(), 2);
    assert_eq!(explained(&rig, "disk").await[0].consul_id.as_deref(), Some("disk"));
}

#[tokio::test]
async fn an_id_that_is_none_is_answered_with_those_that_look_like_it() {
    let rig = Rig::new(&[
        "web web-1 http http://10.0.0.1/",
        "web web-2 http http://10.0.0.2/",
        "redis cache redis http://10.0.0.3/",
    ])
    .await;
    for (id, said) in [
        ("wbe-1", "there is no check and no instance \"wbe-1\"; did you mean web-1"),
        (
            "web-2:htp",
            "there is no check and no instance \"web-2:htp\"; did you mean web-2:http, web-1:http",
        ),
        ("HTTP", "there is no check and no instance \"HTTP\"; did you mean web-1:http, web-2:http"),
        (
            "redis",
            "there is no check and no instance \"redis\"; it is a service; its instances are cache",
        ),
        ("postgresql", "there is no check and no instance \"postgresql\""),
    ] {
        let answer = rig.get(&format!("{}{id}", native::EXPLAIN)).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (404, said));
    }
}

#[tokio::test]
async fn whoever_holds_a_status_is_named() {
    let mut rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    assert_eq!(
        sources(&rig, "web-1:http").await,
        ["first_result: there is no verdict yet; consumers are told the status it was registered \
          with, critical"]
    );
    rig.pass("web-1");
    assert_eq!(sources(&rig, "web-1:http").await, [""; 0]);
    rig.observe("web-1", Outcome::Inconclusive(Reason::Internal), Answer::None);
    rig.check("web-1").slot.grow_stale();
    let held = sources(&rig, "web-1:http").await;
    assert!(held[0].starts_with("stale: the last result is "), "{held:?}");
    assert_eq!(held[1], "inconclusive: the last probe failed by our own fault and is not counted");
    rig.pass("web-1");
    rig.put("/v1/agent/service/maintenance/web-1?enable=true&reason=disk", "").await;
    rig.obey();
    let held = sources(&rig, "web-1:http").await;
    assert_eq!(
        held,
        ["maintenance: an operator has taken the instance out (disk); until it is put back it \
          counts as critical, whatever its probes say"]
    );
    assert_eq!(explained(&rig, "web-1").await[0].observed.verdict, "passing");
}

#[tokio::test]
async fn a_verdict_that_is_not_published_yet_is_told() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    rig.pass("web-1");
    let check = rig.check("web-1");
    let facts = check.slot.read();
    let mut machine = Machine::restore(facts.verdict, facts.streak, Maintenance::Off);
    let failure = observation(Outcome::Failure(Reason::Status), Answer::Http(500));
    rig.monitor.observe(&check, &mut machine, failure);
    assert_eq!(
        sources(&rig, "web-1:http").await,
        ["publishing: the verdict of the probes, critical, has not been published yet"]
    );
}

#[tokio::test]
async fn what_makes_the_daemon_hold_back_is_said() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/healthz"]).await;
    rig.fail("web-1");
    rig.view.doubt.set(crate::doubt::Confidence::Doubtful);
    let next = Some(Timestamp::from_seconds(1_000_000_000));
    rig.check("web-1").slot.plan(next, crate::model::Turn::BackOff);
    expect![[r"
        doubt: the daemon doubts itself (score 0 of 8); silence of targets is not published
        back_off: it is asked less often, for it has been critical for long or asks for it; `rollcall recheck` asks at once"]]
    .assert_eq(&sources(&rig, "web-1:http").await.join("\n"));
}
