//! TLS against good, expired, foreign and broken certificates.

mod facts;
mod hostile;

use std::time::Duration;

use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{testing::Authority, *};
use crate::{
    clock::Timestamp,
    model::Observation,
    probe::{
        Endpoint, Probe, Spec as AnySpec, Target,
        testing::{self, Server, ask, ask_within, hold, say_and_close, target, verdict},
    },
};

/// 2040-01-01T00:00:00Z.
const EXPIRY: Timestamp = Timestamp::from_seconds(2_208_988_800);

fn https(tls: &Value, endpoint: Endpoint) -> Target {
    let json = json!({ "tls": tls, "body_contains": "well" });
    target(&AnySpec::Http(testing::spec(json)), endpoint)
}

#[track_caller]
fn check(observation: &Observation, expected: &str, expiry: Option<Timestamp>, detail: &str) {
    assert_eq!(verdict(observation), expected, "{observation:?}");
    assert_eq!(observation.certificate_expiry(), expiry);
    let shown = observation.detail.as_deref().unwrap_or_default();
    assert!(shown.contains(detail), "{shown}");
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted() {
    let authority = Authority::new("ours");
    let server = authority.serve(|_| ()).await;
    let by_address = https(&authority.trust(&json!({})), server.endpoint());
    let observation = ask(&by_address).await;
    check(&observation, "success 200", Some(EXPIRY), "");
    assert!(!observation.phases.get(Phase::Tls).is_zero());
    let by_name = authority.trust(&json!({ "server_name": "shop.example" }));
    check(&ask(&https(&by_name, server.endpoint())).await, "success 200", Some(EXPIRY), "");
    let tcp = AnySpec::Tcp(testing::spec(json!({ "tls": authority.trust(&json!({})) })));
    check(&ask(&target(&tcp, server.endpoint())).await, "success", Some(EXPIRY), "");
}

#[tokio::test]
async fn a_refused_certificate_has_its_reason_and_its_expiry() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let server = authority.serve(|_| ()).await;
    let ask_with = async |tls: Value| ask(&https(&tls, server.endpoint())).await;

    let observation = ask_with(other.trust(&json!({}))).await;
    check(&observation, "failure tls_untrusted", Some(EXPIRY), "name the authority in tls.ca_file");
    let observation = ask_with(json!({})).await;
    check(&observation, "failure tls_untrusted", Some(EXPIRY), "");
    let observation = ask_with(authority.trust(&json!({ "server_name": "else.example" }))).await;
    check(&observation, "failure tls_name", Some(EXPIRY), "else.example");
    let observation = ask_with(json!({ "insecure_skip_verify": true })).await;
    check(&observation, "success 200", Some(EXPIRY), "");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_expired() {
    let authority = Authority::new("ours");
    let trust = authority.trust(&json!({}));
    let old = authority.serve(|params| params.not_after = date_time_ymd(2001, 9, 9)).await;
    let expiry = Timestamp::from_seconds(999_993_600);
    let observation = ask(&https(&trust, old.endpoint())).await;
    check(&observation, "failure tls_expired", Some(expiry), "expired");
    let early = authority.serve(|params| params.not_before = date_time_ymd(2039, 1, 1)).await;
    let observation = ask(&https(&trust, early.endpoint())).await;
    check(&observation, "failure tls_expired", Some(EXPIRY), "not valid yet");
}

#[tokio::test]
async fn an_authority_used_by_a_server_is_untrusted_with_advice() {
    let authority = Authority::new("ours");
    let trust = authority.trust(&json!({}));
    let server =
        authority.serve(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).await;
    let observation = ask(&https(&trust, server.endpoint())).await;
    check(&observation, "failure tls_untrusted", Some(EXPIRY), "CA:TRUE");
}

#[tokio::test]
async fn a_handshake_that_is_none_fails() {
    let tls = json!({ "insecure_skip_verify": true });
    let plain = Server::start(|mut stream| async move {
        say_and_close(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    check(&ask(&https(&tls, plain.endpoint())).await, "failure tls_other", None, "");
    let closing = Server::start(|stream| async move { drop(stream) }).await;
    check(&ask(&https(&tls, closing.endpoint())).await, "failure connection_reset", None, "");
    let endless = Server::start(|mut stream| async move {
        // The first half of a record that never ends.
        stream.write_all(&[22, 3, 3, 0x3f, 0xff, 2]).await.unwrap();
        hold(&mut stream).await;
    })
    .await;
    let target = https(&tls, endless.endpoint());
    let observation = ask_within(&target, Duration::from_millis(150)).await;
    check(&observation, "failure timeout_tls", None, "");
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let authority = Authority::new("ours");
    let goal = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let location = format!("HTTP/1.1 302 x\r\nLocation: http://{}/\r\n\r\n", goal.address);
    let server = authority.serve_saying(&location, |_| ()).await;
    let json = json!({ "tls": authority.trust(&json!({})), "follow_redirects": 1 });
    let target = target(&AnySpec::Http(testing::spec(json)), server.endpoint());
    check(&ask(&target).await, "failure status 302", Some(EXPIRY), "leaves https");
    assert_eq!(goal.connections(), 0);
}

#[tokio::test]
async fn a_redirect_from_http_to_https_is_followed() {
    let authority = Authority::new("ours");
    let goal = authority.serve(|_| ()).await;
    let location = format!("HTTP/1.1 308 x\r\nLocation: https://{}/\r\n\r\n", goal.address);
    let server = Server::answering(location).await;
    let json = json!({
        "url": format!("http://{}/", server.address),
        "tls": authority.trust(&json!({ "server_name": "only.for.the.first" })),
        "follow_redirects": 1,
    });
    let target = target(&AnySpec::Http(testing::spec(json)), server.endpoint());
    check(&ask(&target).await, "success 200", Some(EXPIRY), "");
}

#[tokio::test]
async fn a_target_that_asks_for_our_certificate_has_its_reason() {
    let authority = Authority::new("ours");
    let server = authority.serve_asking("", &authority).await;
    let observation = ask(&https(&authority.trust(&json!({})), server.endpoint())).await;
    check(&observation, "failure tls_other", Some(EXPIRY), "CertificateRequired");
}

#[tokio::test]
async fn our_certificate_is_shown_to_a_target_that_asks() {
    let (authority, clients) = (Authority::new("ours"), Authority::new("clients"));
    let server = authority.serve_asking("HTTP/1.1 200 OK\r\n\r\nwell", &clients).await;
    let (_files, ours) = clients.identity();
    let (_others, wrong) = Authority::new("other").identity();
    let ask_both = async |identity: &Value| {
        let tls = authority.trust(identity);
        let tcp = json!({ "tls": tls, "send": "GET / HTTP/1.1\\r\\n\\r\\n", "expect": "well" });
        let tcp = target(&AnySpec::Tcp(testing::spec(tcp)), server.endpoint());
        let http = https(&tls, server.endpoint());
        (verdict(&ask(&http).await), verdict(&ask(&tcp).await))
    };
    let is = |http: &str, tcp: &str| (http.to_owned(), tcp.to_owned());
    assert_eq!(ask_both(&ours).await, is("success 200", "success"));
    assert_eq!(ask_both(&wrong).await, is("failure tls_other", "failure tls_other"));
    assert_eq!(ask_both(&json!({})).await, is("failure tls_other", "failure tls_other"));
    // Not one that speaks gRPC, but that is known only once it has let us in.
    let grpc = async |identity: &Value| {
        let grpc = AnySpec::Grpc(testing::spec(json!({ "tls": authority.trust(identity) })));
        let observation = ask(&target(&grpc, server.endpoint())).await;
        let detail = observation.detail.as_deref().unwrap_or_default();
        (verdict(&observation), detail.contains("received fatal alert"))
    };
    assert_eq!(grpc(&ours).await, ("failure protocol".to_owned(), false));
    assert_eq!(grpc(&wrong).await, ("failure tls_other".to_owned(), true));
    assert_eq!(grpc(&json!({})).await, ("failure tls_other".to_owned(), true));
}

#[tokio::test]
async fn our_certificate_is_not_shown_to_another_origin() {
    let authority = Authority::new("ours");
    let goal = authority.serve_asking("HTTP/1.1 200 OK\r\n\r\nwell", &authority).await;
    let location = format!("HTTP/1.1 307 x\r\nLocation: https://{}/\r\n\r\n", goal.address);
    let server = authority.serve_asking(&location, &authority).await;
    let (_files, ours) = authority.identity();
    let json = json!({ "tls": authority.trust(&ours), "follow_redirects": 1 });
    let target = target(&AnySpec::Http(testing::spec(json)), server.endpoint());
    let observation = ask(&target).await;
    check(&observation, "failure tls_other 307", Some(EXPIRY), "CertificateRequired");
    check(
        &ask(&https(&authority.trust(&ours), goal.endpoint())).await,
        "success 200",
        Some(EXPIRY),
        "",
    );
}

#[test]
fn a_certificate_and_a_key_that_do_not_go_together_are_refused() {
    let authority = Authority::new("ours");
    let ((_a, one), (_b, two)) = (authority.identity(), authority.identity());
    let error = |cert: &Value, key: &Value| {
        let spec = testing::spec::<Spec>(json!({ "cert_file": cert, "key_file": key }));
        Client::prepare(&spec, None).unwrap_err()
    };
    let (cert, key) = (&one["cert_file"], &one["key_file"]);
    assert!(matches!(error(cert, &Value::Null), PrepareError::Pair));
    assert!(matches!(error(&Value::Null, key), PrepareError::Pair));
    assert!(matches!(error(cert, &two["key_file"]), PrepareError::Identity { .. }));
    assert!(matches!(error(cert, cert), PrepareError::Key { .. }));
    assert!(matches!(error(key, key), PrepareError::Empty { .. }));
}

#[test]
fn a_changed_certificate_makes_a_different_probe() {
    let authority = Authority::new("ours");
    let ((_a, one), (_b, two)) = (authority.identity(), authority.identity());
    let prepare = || Client::prepare(&testing::spec::<Spec>(one.clone()), None).unwrap();
    let before = prepare();
    assert!(before == prepare());
    for file in ["cert_file", "key_file"] {
        std::fs::copy(two[file].as_str().unwrap(), one[file].as_str().unwrap()).unwrap();
    }
    assert!(before != prepare());
}

#[test]
fn files_that_hold_no_authority_are_refused() {
    let prepare = |content: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let path = file.path().display().to_string();
        let spec = testing::spec::<Spec>(json!({ "ca_file": path }));
        Client::prepare(&spec, None).unwrap_err().to_string().replace(&path, "FILE")
    };
    assert!(prepare("").starts_with("FILE holds no certificate"));
    assert!(prepare("-----BEGIN CERTIFICATE-----\n!\n").starts_with("the PEM in FILE is broken"));
    let no_file = testing::spec::<Spec>(json!({ "ca_file": "/does/not/exist" }));
    let error = Client::prepare(&no_file, None).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the PEM file /does/not/exist");
}

#[test]
fn a_changed_file_makes_a_different_probe() {
    let authority = Authority::new("ours");
    let spec = AnySpec::Tcp(testing::spec(json!({ "tls": authority.trust(&json!({})) })));
    let before = Probe::prepare(&spec).unwrap();
    assert_eq!(before, Probe::prepare(&spec).unwrap());
    std::fs::write(authority.file.path(), Authority::new("new").issuer.pem()).unwrap();
    assert_ne!(before, Probe::prepare(&spec).unwrap());
}

#[test]
fn a_server_name_is_a_name_or_an_address() {
    assert!("shop.example".parse::<Name>().is_ok());
    assert!("10.0.0.1".parse::<Name>().is_ok());
    assert_eq!("shop.example:443".parse::<Name>(), Err(NameError));
    assert_eq!("".parse::<Name>(), Err(NameError));
}
