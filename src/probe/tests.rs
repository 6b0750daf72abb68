//! Probes as a whole: deadlines, sizes, arbitrary bytes.

use std::{mem::size_of_val, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    testing::{PATIENCE, SLACK, Server, ask, endpoint, spec, target, verdict},
    *,
};
use crate::model::{Answer, Outcome, Phase, Reason};

fn plain(server: &Server) -> Target {
    target(&Spec::Http(http::Spec::default()), server.endpoint())
}

#[tokio::test]
async fn a_plain_probe_in_flight_is_small() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let target = plain(&server);
    let network = Network::default();
    let size = size_of_val(&network.probe(&target, PATIENCE));
    assert!(size < 2048, "{size} bytes");
    assert!(size_of::<Target>() <= 48, "{} bytes", size_of::<Target>());
}

#[tokio::test]
async fn the_phases_of_a_probe_add_up_to_its_duration() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let observation = ask(&plain(&server)).await;
    let sum: Duration = Phase::ALL.iter().map(|phase| observation.phases.get(*phase)).sum();
    assert_eq!(sum, observation.duration);
    assert_eq!(observation.peer, Some(server.address));
}

#[tokio::test]
async fn a_timeout_of_any_length_is_accepted() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let target = plain(&server);
    let observation = Network::default().probe(&target, Duration::MAX).await;
    assert_eq!(verdict(&observation), "success 200");
    // Polled once at least: on a fast loopback it may even succeed.
    let observation = Network::default().probe(&target, Duration::ZERO).await;
    assert!(observation.duration < SLACK, "{observation:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_a_week_is_kept() {
    let week = Duration::from_secs(7 * 24 * 3600);
    let trace = Trace::new(week, Arc::default());
    assert_eq!(trace.deadline() - tokio::time::Instant::now(), week);
}

#[test]
fn a_target_tells_what_it_asks() {
    let endpoint = endpoint("[2001:db8::1]:443".parse().unwrap());
    let url = |spec: Spec| target(&spec, endpoint.clone()).url();
    let http = Spec::Http(spec(json!({ "path": "/healthz", "tls": {} })));
    assert_eq!(url(http), "https://[2001:db8::1]/healthz");
    assert_eq!(url(Spec::Tcp(tcp::Spec::default())), "[2001:db8::1]:443");
    let grpc = Spec::Grpc(spec(json!({ "service": "shop.v1.Cart" })));
    assert_eq!(url(grpc), "[2001:db8::1]:443/shop.v1.Cart");
}

#[test]
fn every_field_of_every_check_is_documented() {
    let schemas = [
        schemars::schema_for!(http::Spec),
        schemars::schema_for!(tcp::Spec),
        schemars::schema_for!(grpc::Spec),
        schemars::schema_for!(udp::Spec),
        schemars::schema_for!(h2ping::Spec),
        schemars::schema_for!(dns::Spec),
        schemars::schema_for!(etcd::Spec),
        schemars::schema_for!(icmp::Spec),
        schemars::schema_for!(exec::Spec),
        schemars::schema_for!(certificate::Spec),
        schemars::schema_for!(tls::Spec),
    ];
    for schema in schemas {
        let fields = schema.get("properties").and_then(|fields| fields.as_object()).unwrap();
        for (name, field) in fields {
            let text = field.get("description").and_then(|text| text.as_str()).unwrap_or_default();
            let is_said = ["Default:", "Required."].iter().any(|word| text.contains(word));
            assert!(is_said, "{name}: {field}");
        }
    }
}

#[test]
fn a_probe_tells_what_it_was_made_from() {
    for spec in [
        Spec::Tcp(spec(json!({ "send": "PING\\r\\n", "expect": "+PONG" }))),
        Spec::Udp(spec(json!({ "send": "PING\\r\\n", "require_answer": true }))),
        Spec::H2ping(spec(json!({ "plaintext": true }))),
        Spec::Exec(spec(json!({ "args": ["df", "-h"] }))),
        Spec::Certificate(spec(json!({ "trust": false, "starttls": "smtp" }))),
    ] {
        let probe = Arc::new(Probe::prepare(&spec).unwrap());
        assert_eq!(probe.spec(), spec);
        assert_eq!(probe.protocol(), spec.protocol());
    }
}

#[test]
fn a_success_reads_as_in_consul() {
    let success = |url: &str| {
        let (spec, endpoint) = parse_url(url).unwrap();
        target(&spec, endpoint).success(Answer::None, None)
    };
    assert_eq!(success("tls://10.0.0.1:6380"), "TCP+TLS connect 10.0.0.1:6380: Success");
    assert_eq!(success("udp://10.0.0.1:53"), "UDP connect 10.0.0.1:53: Success");
    assert_eq!(success("h2c://10.0.0.1:80"), "HTTP2 ping was successful");
}

#[tokio::test(start_paused = true)]
async fn a_check_whose_results_are_pushed_is_never_asked() {
    let alias = Alias { node: None, service: Some("web-1".parse().unwrap()) };
    let pushed = [Spec::Ttl(Duration::from_secs(30)), Spec::Alias(alias.clone())];
    for (spec, expected) in
        pushed.iter().zip([Pushed::Ttl(Duration::from_secs(30)), Pushed::Alias(&alias)])
    {
        let probe = Arc::new(Probe::prepare(spec).unwrap());
        assert_eq!(probe.pushed(), Some(expected));
        assert_eq!(probe.spec(), *spec);
        assert!(!probe.protocol().is_probed());
        let target = Target::new(probe, Endpoint::new("10.0.0.1".parse().unwrap(), 80));
        let found = Network::default().probe(&target, Duration::from_secs(1)).await;
        assert_eq!(found.outcome, Outcome::Inconclusive(Reason::Internal));
    }
    let http = Probe::prepare(&Spec::Http(http::Spec::default())).unwrap();
    assert_eq!(http.pushed(), None);
}
