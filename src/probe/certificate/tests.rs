//! Certificate probes against servers whose certificates live long, briefly, or no more.

use std::time::Duration;

use rcgen::{CertificateParams, date_time_ymd};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    model::{Observation, Outcome},
    probe::{
        Spec as AnySpec, Target,
        testing::{self, Server, ask, target, verdict},
        tls::testing::Authority,
    },
};

fn certificate(json: Value, endpoint: Endpoint) -> Target {
    target(&AnySpec::Certificate(testing::spec(json)), endpoint)
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

const DAY: i64 = 86_400;
const NOW: Timestamp = at(1000 * DAY);

/// A certificate that expires so many days from now.
fn expiring(days: i64) -> Certificate {
    Certificate {
        start: at(0),
        expiry: at((1000 + days) * DAY),
        chain_expiry: at((1000 + days) * DAY),
        is_for_name: true,
        subject: "CN=shop".into(),
        issuer: "CN=ours".into(),
    }
}

#[track_caller]
fn judged(spec: &Spec, certificate: &Certificate) -> (Outcome, String) {
    match judge(spec, certificate, NOW) {
        Ok(()) => (Outcome::Success, String::new()),
        Err(fault) => (fault.outcome, fault.detail),
    }
}

#[test]
fn the_life_that_is_left_decides() {
    let expired = Outcome::Failure(Reason::TlsExpired);
    let soon = Outcome::Warning(Reason::TlsExpired);
    for (days, expected) in [
        (-1, expired),
        (0, expired),
        (6, expired),
        (7, soon),
        (29, soon),
        (30, Outcome::Success),
        (4000, Outcome::Success),
    ] {
        let (outcome, detail) = judged(&Spec::default(), &expiring(days));
        assert_eq!(outcome, expected, "{days}: {detail}");
    }
    let (_, detail) = judged(&Spec::default(), &expiring(12));
    assert_eq!(
        detail,
        "the certificate expires at 1972-10-09T00:00:00.000Z, in 12 days; less than 30d"
    );
}

#[test]
fn the_first_of_the_chain_to_end_counts() {
    let facts = Certificate { chain_expiry: at(1003 * DAY), ..expiring(400) };
    let (outcome, detail) = judged(&Spec::default(), &facts);
    assert_eq!(outcome, Outcome::Failure(Reason::TlsExpired));
    assert!(detail.starts_with("a certificate of the chain expires"), "{detail}");
}

#[test]
fn a_name_and_a_beginning_count_too() {
    let other = Certificate { is_for_name: false, ..expiring(400) };
    assert_eq!(judged(&Spec::default(), &other).0, Outcome::Failure(Reason::TlsName));
    let spec = testing::spec(json!({ "tls": { "insecure_skip_verify": true } }));
    assert_eq!(judged(&spec, &other).0, Outcome::Success);
    let spec = testing::spec(json!({ "trust": false }));
    assert_eq!(judged(&spec, &other).0, Outcome::Failure(Reason::TlsName));
    let early = Certificate { start: at(1001 * DAY), ..expiring(400) };
    assert_eq!(judged(&spec, &early).0, Outcome::Failure(Reason::TlsExpired));
}

#[test]
fn a_bound_for_failures_is_not_above_the_one_for_warnings() {
    let spec = testing::spec::<Spec>(json!({ "warning_before": "6d" }));
    assert!(matches!(Probe::prepare(&spec), Err(PrepareError::Conflict(_))));
    let spec = testing::spec::<Spec>(json!({ "warning_before": "7d" }));
    assert!(Probe::prepare(&spec).is_ok());
}

async fn ask_with(more: Value, change: impl FnOnce(&mut CertificateParams)) -> Observation {
    let authority = Authority::new("ours");
    let server = authority.serve(change).await;
    let mut spec = json!({ "tls": authority.trust(&json!({})) });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(&certificate(spec, server.endpoint())).await
}

#[tokio::test]
async fn a_good_certificate_is_a_success_and_a_short_one_is_not() {
    assert_eq!(verdict(&ask_with(json!({}), |_| ()).await), "success");
    // Longer than any of the tests' certificates lives.
    let long = "36500d";
    let observation = ask_with(json!({ "warning_before": long }), |_| ()).await;
    assert_eq!(verdict(&observation), "warning tls_expired");
    assert!(observation.detail.as_deref().unwrap().contains("expires at 2040-01-01"));
    let both = json!({ "warning_before": long, "critical_before": long });
    let observation = ask_with(both, |_| ()).await;
    assert_eq!(verdict(&observation), "failure tls_expired");
    assert!(observation.certificate.is_some());
}

#[tokio::test]
async fn a_certificate_nobody_trusts_counts_as_far_as_is_asked() {
    let ask_untrusted = async |more: Value| {
        let more =
            [("tls".to_owned(), json!({}))].into_iter().chain(more.as_object().unwrap().clone());
        ask_with(Value::Object(more.collect()), |_| ()).await
    };
    assert_eq!(verdict(&ask_untrusted(json!({})).await), "failure tls_untrusted");
    assert_eq!(verdict(&ask_untrusted(json!({ "trust": false })).await), "success");
    let wrong = json!({ "trust": false, "tls": { "server_name": "else.example" } });
    assert_eq!(verdict(&ask_untrusted(wrong).await), "failure tls_name");
    let old = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 9, 9);
    let observation = ask_with(json!({ "trust": false }), old).await;
    assert_eq!(verdict(&observation), "failure tls_expired");
    assert_eq!(verdict(&ask_with(json!({}), old).await), "failure tls_expired");
}

#[tokio::test]
async fn a_certificate_is_found_behind_starttls() {
    let server = Server::start(|mut stream| async move {
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"N").await.unwrap();
        testing::hold(&mut stream).await;
    })
    .await;
    let spec = json!({ "starttls": "postgres" });
    let observation = ask(&certificate(spec, server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure tls_other");
    assert!(observation.detail.unwrap().contains("declines STARTTLS"));
}

#[tokio::test]
async fn a_target_without_tls_is_a_failure_within_the_timeout() {
    let silent = Server::start(|mut stream| async move { testing::hold(&mut stream).await }).await;
    let target = certificate(json!({}), silent.endpoint());
    let observation = testing::ask_within(&target, Duration::from_millis(150)).await;
    assert_eq!(verdict(&observation), "failure timeout_tls");
}
