//! Asking the target of a check for whoever asks for it.

use futures_util::poll;

use super::*;

async fn rig() -> Rig {
    let mut rig = Rig::new(&["web web-1 http http://10.0.0.1/healthz"]).await;
    rig.view.asking = Asking::new(|target, timeout| {
        assert_eq!((target.url(), timeout.as_millis()), ("http://10.0.0.1/healthz".into(), 500));
        let failure = Outcome::Failure(Reason::Status);
        Box::pin(std::future::ready(observation(failure, Answer::Http(500))))
    });
    rig
}

#[tokio::test]
async fn a_probe_that_is_asked_for_is_answered_and_changes_nothing() {
    let rig = rig().await;
    rig.pass("web-1");
    let known = |rig: &Rig| (rig.check("web-1").slot.read(), rig.check("web-1").slot.attempts());
    let (before, index, events) = (known(&rig), rig.index(), rig.view.events.last());
    let found = serde_json::json!({
        "target": "http://10.0.0.1/healthz", "protocol": "http", "outcome": "failure",
        "reason": "status", "detail": "GET it: status", "code": "500", "peer": "10.0.0.1:80",
        "started": "2026-11-20T14:00:01.000Z", "duration_seconds": 0.012,
        "phases": {"connect": 0.002},
    });
    for method in [Method::PUT, Method::POST] {
        assert_eq!(rig.ask(method, "/v1/rollcall/probe/web-1:http").await.json(), found);
    }
    assert_eq!((known(&rig), rig.index(), rig.view.events.last()), (before, index, events));
    assert_eq!(rig.view.registry.news().take_said(), []);
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_why() {
    let rig = rig().await;
    let body = r#"{"ID": "beat", "Name": "beat", "ServiceID": "web-1", "TTL": "10s"}"#;
    assert_eq!(rig.put("/v1/agent/check/register", body).await.status, 200);
    let beat = rig.view.registry.instance("web-1").unwrap().checks;
    let beat = beat.iter().find(|check| check.consul_id.is_some()).unwrap().key.to_string();
    for (id, status, said) in [
        (
            "beat",
            400,
            format!(
                "{beat}: the results of a check by ttl are told to this daemon, which cannot \
                     ask for them"
            ),
        ),
        ("web-1", 400, format!("\"web-1\" has 2 checks; name one of them: {beat}, web-1:http")),
        (
            "web-1:htp",
            404,
            "there is no check and no instance \"web-1:htp\"; did you mean web-1:http".to_owned(),
        ),
    ] {
        let answer = rig.put(&format!("{}{id}", native::PROBE), "").await;
        assert_eq!((answer.status.as_u16(), answer.body), (status, said));
    }
}

#[tokio::test]
async fn a_fifth_probe_at_once_is_refused_and_told_when_to_come_again() {
    let mut rig = Rig::new(&["web web-1 http http://10.0.0.1/healthz"]).await;
    rig.view.asking = Asking::new(|_, _| Box::pin(std::future::pending()));
    let (asking, check) = (rig.view.asking.clone(), rig.check("web-1"));
    let mut waiting: Vec<_> =
        (0..4).map(|_| Box::pin(asking.ask(&check.target, Duration::from_secs(1)))).collect();
    for asked in &mut waiting {
        assert!(poll!(asked).is_pending());
    }
    let answer = rig.put("/v1/rollcall/probe/web-1:http", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
    drop(waiting);
    assert!(poll!(Box::pin(asking.ask(&check.target, Duration::from_secs(1)))).is_pending());
}

#[tokio::test]
async fn who_wants_to_know_now_has_a_check_or_an_instance_asked() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/healthz"]).await;
    let body = r#"{"ID": "beat", "Name": "beat", "ServiceID": "web-1", "TTL": "10s"}"#;
    assert_eq!(rig.put("/v1/agent/check/register", body).await.status, 200);
    for id in ["web-1", "web-1:http"] {
        let answer = rig.put(&format!("/v1/rollcall/recheck/{id}"), "").await;
        assert_eq!(answer.json(), serde_json::json!(["web-1:http"]));
    }
    let told = rig.put("/v1/rollcall/recheck/beat", "").await;
    assert_eq!(told.status, 400, "{}", told.body);
    let unknown = rig.put("/v1/rollcall/recheck/web-2", "").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("did you mean web-1"), "{}", unknown.body);
}
