//! Requests that are made again.

use super::*;

const REGISTER: &str = "/v1/rollcall/register";

const WEB: &str = r#"{"ID": "web-1", "Name": "web", "Port": 80}"#;

async fn write(
    router: &Router,
    (method, uri): (&Method, &str),
    headers: &[(&str, &str)],
    body: &'static str,
) -> Answered {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answered(router.clone(), request.body(Body::from(body)).unwrap()).await
}

/// The status, and `again` if it was not done.
fn told(answered: &Answered) -> String {
    let again = answered.header("idempotent-replayed").replace("true", " again");
    format!("{}{again}", answered.status.as_u16())
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_key_is_done_once() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    let put = async |key: &str, uri: &str, body: &'static str| {
        told(&write(&router, (&Method::PUT, uri), &[("Idempotency-Key", key)], body).await)
    };
    let registered = || rig.view.registry.instance("web-1").is_some();
    assert_eq!(put("a", REGISTER, WEB).await, "200");
    assert!(registered());
    assert_eq!(put("b", "/v1/agent/service/deregister/web-1", "").await, "200");
    assert_eq!(put("a", REGISTER, WEB).await, "200 again");
    assert!(!registered(), "what was deregistered does not come back");
    // A refusal is given again as well: with its status, its kind and its text.
    let first = write(
        &router,
        (&Method::PUT, "/v1/agent/service/deregister/web-1"),
        &[("Idempotency-Key", "c")],
        "",
    )
    .await;
    assert_eq!(put("d", REGISTER, WEB).await, "200");
    let again = write(
        &router,
        (&Method::PUT, "/v1/agent/service/deregister/web-1"),
        &[("Idempotency-Key", "c")],
        "",
    )
    .await;
    assert_eq!((told(&first).as_str(), told(&again).as_str()), ("404", "404 again"));
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("content-type"), again.header("content-type"));
    assert!(registered());
}

#[tokio::test(start_paused = true)]
async fn a_key_stands_for_one_request_of_one_client() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    let put = async |uri: &str, headers: &[(&str, &str)], body: &'static str| {
        write(&router, (&Method::PUT, uri), headers, body).await
    };
    let key = ("Idempotency-Key", "a");
    assert_eq!(told(&put(REGISTER, &[key], WEB).await), "200");
    let other = put(REGISTER, &[key], r#"{"Name": "db"}"#).await;
    assert_eq!(told(&other), "422");
    assert!(other.body.starts_with("this Idempotency-Key was used for another request"));
    let elsewhere = put("/v1/agent/service/deregister/web-1", &[key], WEB).await;
    assert_eq!(told(&elsewhere), "422");
    assert!(rig.view.registry.instance("db").is_none());
    let token = ("X-Consul-Token", "secret");
    assert_eq!(told(&put(REGISTER, &[key, token], WEB).await), "200");
    assert_eq!(told(&put(REGISTER, &[key, token], WEB).await), "200 again");
    let long = "x".repeat(256);
    for bad in ["", long.as_str()] {
        let refused = put(REGISTER, &[("Idempotency-Key", bad)], WEB).await;
        assert_eq!(told(&refused), "400");
    }
    // After its life it is free.
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(told(&put(REGISTER, &[key], WEB).await), "200 again");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&put(REGISTER, &[key], r#"{"Name": "db"}"#).await), "200");
    assert!(rig.view.registry.instance("db").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_id_names_a_registration_with_its_body() {
    let rig = Rig::new(&[]).await;
    let router = rig.router();
    let put = async |uri: &str, body: &'static str| {
        told(&write(&router, (&Method::PUT, uri), &[("X-Request-Id", "a")], body).await)
    };
    for register in [REGISTER, "/v1/agent/service/register"] {
        assert_eq!(put(register, WEB).await, "200");
        assert_eq!(put(register, r#"{"Name": "db"}"#).await, "200");
        assert_eq!(put(register, WEB).await, "200 again");
    }
    let check = r#"{"Name": "c", "TTL": "1h"}"#;
    assert_eq!(put("/v1/agent/check/register", check).await, "200");
    assert_eq!(put("/v1/agent/check/register", check).await, "200 again");
    // Anything else is done as often as it is asked for.
    for _ in 0..2 {
        assert_eq!(put("/v1/agent/check/pass/c", "").await, "200");
    }
    let got = write(&router, (&Method::GET, "/v1/agent/self"), &[("Idempotency-Key", "k")], "");
    assert_eq!(told(&got.await), "200");
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_meanwhile_waits_for_the_answer() {
    let mut rig = Rig::new(&[]).await;
    let router = rig.router();
    let reload = || write(&router, (&Method::POST, "/-/reload"), &[("Idempotency-Key", "a")], "");
    // What is told under way is no success: it is not remembered, and the next does it.
    let (first, second, ()) = tokio::join!(reload(), reload(), async {
        rig.reloads.next().await.unwrap().answer(Err("wrong".to_owned()));
        rig.reloads.next().await.unwrap().answer(Ok("well".to_owned()));
    });
    let mut both = [told(&first), told(&second)];
    both.sort();
    assert_eq!(both, ["200", "500"]);
    assert_eq!(told(&reload().await), "200 again");
    assert!(rig.reloads.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_is_finished_when_the_client_goes_away() {
    let mut rig = Rig::new(&[]).await;
    let router = rig.router();
    let reload = || write(&router, (&Method::POST, "/-/reload"), &[("Idempotency-Key", "a")], "");
    let gone = tokio::time::timeout(Duration::from_secs(1), reload()).await;
    assert!(gone.is_err());
    let asked = rig.reloads.next().await.unwrap();
    let (again, ()) = tokio::join!(reload(), async { asked.answer(Ok("well".to_owned())) });
    assert_eq!((told(&again).as_str(), again.body.as_str()), ("200 again", "well"));
}
