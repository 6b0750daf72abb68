//! The exposition, line by line against the catalogue.

use std::{collections::BTreeSet, io::Read as _};

use super::*;
use crate::{
    metrics::{
        PerTarget,
        catalogue::{self, Family, Kind},
    },
    model::Certificate,
};

const ALL: &[&str] = &[
    "cart cart-1 grpc grpc://10.0.0.3:50051/shop.v1.Cart",
    "redis redis-1 tcp tcp://10.0.0.2:6379",
    "web web-1 http http://10.0.0.1:80/healthz",
    "web web-2 http http://10.0.0.4:80/healthz",
];

/// A sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads a scrape, and fails on everything that is not well formed.
#[track_caller]
fn parse(text: &str) -> Vec<(String, Vec<Sample>)> {
    let mut families: Vec<(String, Vec<Sample>)> = Vec::new();
    let mut typed = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap();
            assert!(families.iter().all(|(held, _)| held != name), "{name} comes twice");
            families.push((name.to_owned(), Vec::new()));
            continue;
        }
        let (family, samples) = families.last_mut().expect("a head before the first sample");
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed = Some(rest.to_owned());
            continue;
        }
        let kind = typed.as_deref().and_then(|t| t.strip_prefix(&format!("{family} "))).unwrap();
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffix =
            name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} in {family}"));
        let suffixes: &[&str] =
            if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        samples.push((
            name.to_owned(),
            pairs(labels.strip_suffix('}').unwrap()),
            value.parse().unwrap(),
        ));
    }
    families
}

/// The labels; the tests' values hold neither commas nor quotes.
fn pairs(labels: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
    };
    labels.split(',').filter(|label| !label.is_empty()).map(pair).collect()
}

fn family(name: &str) -> &'static Family {
    catalogue::ALL.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("{name}"))
}

fn names(families: &[(String, Vec<Sample>)]) -> BTreeSet<&str> {
    families.iter().map(|(name, _)| name.as_str()).collect()
}

fn lines<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.split(['{', ' ']).next() == Some(family)).collect()
}

async fn busy() -> Rig {
    let rig = Rig::new(ALL).await;
    rig.pass("web-1");
    rig.fail("web-2");
    rig.observe("cart-1", Outcome::Success, Answer::Grpc(Serving::Serving));
    let mut with_tls = observation(Outcome::Success, Answer::None);
    with_tls.certificate = Some(Arc::new(Certificate {
        start: Timestamp::from_seconds(1_900_000_000),
        expiry: Timestamp::from_seconds(2_000_000_000),
        chain_expiry: Timestamp::from_seconds(1_950_000_000),
        is_for_name: true,
        subject: "CN=redis".into(),
        issuer: "CN=ours".into(),
    }));
    let check = rig.check("redis-1");
    rig.monitor.observe(&check, &mut Machine::default(), with_tls);
    // What other parts of the daemon count.
    rig.view.metrics.discovery_last_success.with_label_values(&["config"]).set(1.0);
    rig.get("/").await;
    rig
}

#[tokio::test]
async fn every_family_of_the_catalogue_is_there_and_nothing_else() {
    let rig = busy().await;
    let answer = rig.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let families = parse(&answer.body);
    let expected: BTreeSet<_> = catalogue::ALL.iter().map(|family| family.name).collect();
    assert_eq!(names(&families), expected);
    for (name, samples) in &families {
        let family = family(name);
        assert!(!samples.is_empty(), "{name}");
        for (_, labels, _) in samples {
            let mut expected: BTreeSet<_> = family.labels.iter().copied().collect();
            if labels.contains_key("le") && family.kind == Kind::Histogram {
                expected.insert("le");
            }
            assert_eq!(
                labels.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                expected,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn no_series_comes_twice() {
    let rig = busy().await;
    // The same check of the same service over another protocol.
    let both = ["web web-1 main http://10.0.0.1/", "web web-2 main tcp://10.0.0.1:1"];
    for registered in [ALL, &both] {
        rig.register(registered).await;
        let text = rig.get("/metrics").await.body;
        let series: Vec<_> = text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        let distinct: BTreeSet<_> = series.iter().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), series.iter().filter(|(n, _)| !n.is_empty()).count());
    }
}

#[tokio::test]
async fn values_and_labels_are_those_of_the_slots() {
    let rig = busy().await;
    let text = rig.get("/metrics").await.body;
    let web = "check=\"http\",service_name=\"web\",protocol=\"http\"";
    for line in [
        format!("rollcall_probes_total{{{web},target=\"web-1\"}} 1"),
        format!("rollcall_probe_failures_total{{{web},target=\"web-2\"}} 1"),
        format!("rollcall_probe_failures_by_reason_total{{{web},reason=\"connection_refused\"}} 1"),
        format!("rollcall_probe_failures_by_reason_total{{{web},reason=\"tls_name\"}} 0"),
        format!("rollcall_probe_duration_seconds_bucket{{{web},le=\"0.025\"}} 2"),
        format!("rollcall_probe_duration_seconds_sum{{{web}}} 0.024"),
        format!("rollcall_probe_phase_seconds_total{{{web},phase=\"connect\"}} 0.004"),
        format!("rollcall_probe_phase_seconds_total{{{web},phase=\"transfer\"}} 0"),
        format!("rollcall_probe_http_responses_total{{{web},code=\"200\"}} 1"),
        format!("rollcall_target_healthy{{{web},target=\"web-1\"}} 1"),
        format!("rollcall_target_healthy{{{web},target=\"web-2\"}} 0"),
        format!("rollcall_target_last_probe_duration_seconds{{{web},target=\"web-1\"}} 0.012"),
        format!("rollcall_target_last_probe_timestamp_seconds{{{web},target=\"web-1\"}} 1795183201"),
        format!("rollcall_target_consecutive_failures{{{web},target=\"web-2\"}} 1"),
        format!("rollcall_target_info{{{web},target=\"web-1\",address=\"10.0.0.1:80\"}} 1"),
        format!("rollcall_targets{{{web},state=\"passing\"}} 1"),
        format!("rollcall_targets{{{web},state=\"critical\"}} 1"),
        format!("rollcall_targets{{{web},state=\"stale\"}} 0"),
        format!("rollcall_check_interval_seconds{{{web}}} 90"),
        format!("rollcall_check_timeout_seconds{{{web}}} 0.5"),
        "rollcall_check_slo_objective_ratio{check=\"http\",service_name=\"web\"} 0.99".to_owned(),
        "rollcall_probe_grpc_responses_total{check=\"grpc\",service_name=\"cart\",protocol=\"grpc\",serving_status=\"SERVING\"} 1".to_owned(),
        "rollcall_probe_grpc_responses_total{check=\"grpc\",service_name=\"cart\",protocol=\"grpc\",serving_status=\"UNIMPLEMENTED\"} 0".to_owned(),
        "rollcall_target_cert_expiry_timestamp_seconds{check=\"tcp\",service_name=\"redis\",protocol=\"tcp\",target=\"redis-1\"} 2000000000".to_owned(),
        "rollcall_series{metric=\"rollcall_target_healthy\"} 4".to_owned(),
        "rollcall_series{metric=\"rollcall_target_cert_expiry_timestamp_seconds\"} 1".to_owned(),
    ] {
        assert!(text.lines().any(|held| held == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_absent() {
    let rig = Rig::new(ALL).await;
    let families = parse(&rig.get("/metrics").await.body);
    let names = names(&families);
    for absent in [
        &catalogue::TARGET_HEALTHY,
        &catalogue::TARGET_LAST_DURATION,
        &catalogue::TARGET_LAST_PROBE,
        &catalogue::TARGET_LAST_CHANGE,
        &catalogue::TARGET_CERT_EXPIRY,
        &catalogue::PROBE_HTTP_RESPONSES,
    ] {
        assert!(!names.contains(absent.name), "{}", absent.name);
    }
    assert!(names.contains(catalogue::TARGETS.name));
}

#[tokio::test]
async fn a_target_in_maintenance_is_neither_well_nor_ill() {
    let mut rig = busy().await;
    rig.view.registry.maintain("web-1", Some("test".into())).await.unwrap();
    rig.obey();
    let text = rig.get("/metrics").await.body;
    assert!(!lines(&text, "rollcall_target_healthy").iter().any(|line| line.contains("web-1")));
    let states = lines(&text, "rollcall_targets");
    assert!(
        states.iter().any(|l| l.contains("\"web\"") && l.ends_with("state=\"maintenance\"} 1"))
    );
}

#[tokio::test]
async fn a_removed_target_is_gone_from_the_next_scrape() {
    let rig = busy().await;
    rig.register(&ALL[..3]).await;
    assert!(!rig.get("/metrics").await.body.contains("web-2"));
}

#[tokio::test]
async fn per_target_series_can_be_cut_down_or_off() {
    let mut rig = busy().await;
    let mut shown = async |per_target| {
        rig.view.metrics_config.per_target = per_target;
        let families = parse(&rig.get("/metrics").await.body);
        let of_targets = |name: &&str| family(name).class == catalogue::Class::Target;
        names(&families).into_iter().filter(of_targets).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(PerTarget::State).await,
        ["rollcall_target_healthy", "rollcall_target_state_changes_total"]
    );
    assert!(shown(PerTarget::Off).await.is_empty());
}

#[tokio::test]
async fn series_beyond_the_limit_are_left_out_and_counted() {
    let mut rig = busy().await;
    rig.view.metrics_config.max_series = 3;
    let text = rig.get("/metrics").await.body;
    assert_eq!(lines(&text, "rollcall_probes_total").len(), 3);
    assert!(lines(&text, "rollcall_probe_duration_seconds_bucket").is_empty());
    let dropped = |family: &str, n| {
        let line = format!("rollcall_series_dropped_total{{metric=\"{family}\"}} {n}");
        assert!(text.lines().any(|held| held == line), "{line} in\n{text}");
    };
    dropped("rollcall_probes_total", 1);
    dropped("rollcall_probe_duration_seconds", 45);
    dropped("rollcall_target_cert_expiry_timestamp_seconds", 0);
}

#[tokio::test]
async fn listed_metadata_are_labels_of_the_info() {
    let mut rig = busy().await;
    rig.view.metrics_config.metadata_labels = vec!["team".into(), "missing".into()];
    let text = rig.get("/metrics").await.body;
    let infos = lines(&text, "rollcall_target_info");
    assert_eq!(infos.len(), 4);
    assert!(infos.iter().all(|line| line.ends_with(",team=\"shop\"} 1")), "{infos:?}");
}

#[tokio::test]
async fn a_large_scrape_comes_in_chunks_and_in_order() {
    let many: Vec<_> = (0..3000).map(|n| format!("web web-{n:04} http http://10.0.0.1/")).collect();
    let rig = Rig::new(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let response = rig.router().oneshot(Request::get("/metrics").body(Body::empty()).unwrap());
    let mut body = response.await.unwrap().into_body();
    let (mut text, mut chunks) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= 64 * 1024, "{}", data.len());
        text.extend_from_slice(&data);
        chunks += 1;
    }
    assert!(chunks > 20, "{chunks}");
    let text = String::from_utf8(text).unwrap();
    let probes = lines(&text, "rollcall_probes_total");
    assert_eq!(probes.len(), 3000);
    assert!(probes.is_sorted());
    parse(&text);
}

#[tokio::test(start_paused = true)]
async fn requests_held_are_counted_and_those_beyond_the_limit_too() {
    let mut rig = Rig::new(ALL).await;
    rig.limits.max_waiters_per_client = NonZeroU32::MIN;
    let router = rig.router();
    let ask = |uri: String| {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        answered(router.clone(), request)
    };
    let shown = |text: &str| {
        let lines = [
            "rollcall_blocking_queries ",
            "rollcall_blocking_queries_limit ",
            "rollcall_blocking_queries_refused_total{limit=\"client\"} ",
        ];
        lines.map(|start| {
            let line = text.lines().find_map(|line| line.strip_prefix(start));
            line.unwrap_or_else(|| panic!("{start}")).parse::<u32>().unwrap()
        })
    };
    let uri = format!("/v1/health/service/web?index={}&wait=10s", rig.index());
    let (first, ()) = tokio::join!(ask(uri.clone()), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(shown(&ask("/metrics".to_owned()).await.body), [1, 20_000, 0]);
        assert_eq!(ask(uri.clone()).await.status, 429);
        assert_eq!(shown(&ask("/metrics".to_owned()).await.body), [1, 20_000, 1]);
    });
    assert_eq!(first.status, 200);
    assert_eq!(shown(&ask("/metrics".to_owned()).await.body), [0, 20_000, 1]);
}

#[tokio::test]
async fn the_rows_and_the_index_of_the_registry_are_shown() {
    let rig = Rig::new(ALL).await;
    rig.put("/v1/kv/a", "1").await;
    let text = rig.get("/metrics").await.body;
    for line in [
        format!("rollcall_registry_index {}", rig.index()),
        "rollcall_registry_rows{kind=\"node\"} 1".to_owned(),
        "rollcall_registry_rows{kind=\"service\"} 5".to_owned(),
        "rollcall_registry_rows{kind=\"check\"} 5".to_owned(),
        "rollcall_registry_rows{kind=\"pair\"} 1".to_owned(),
        "rollcall_registry_rows{kind=\"session\"} 0".to_owned(),
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_those_that_did_not_come_are_counted() {
    let rig = Rig::new(&[]).await;
    let body = r#"{"Name": "job", "Check": {"TTL": "10s"}}"#;
    assert_eq!(rig.put("/v1/agent/service/register", body).await.status, 200);
    assert_eq!(rig.put("/v1/agent/check/pass/service:job", "").await.status, 200);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let metrics = &rig.view.metrics;
    assert_eq!((metrics.heartbeats.get(), metrics.heartbeats_missed.get()), (1, 1));
}

/// Asks with headers; the answer's bytes as they come.
async fn asked_with(rig: &Rig, request: http::request::Builder) -> (http::HeaderMap, Vec<u8>) {
    let request = request.body(Body::empty()).unwrap();
    let (head, body) = rig.router().oneshot(request).await.unwrap().into_parts();
    (head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

/// What gzip makes of bytes, unmade.
fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn who_takes_gzip_is_given_the_same_packed() {
    let many: Vec<_> =
        (0..3000).map(|n| format!("web web-{n} http http://10.0.0.1:80/healthz")).collect();
    let rig = Rig::new(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for path in ["/metrics", "/v1/agent/metrics?format=prometheus"] {
        let packed = Request::get(path).header("accept-encoding", "deflate, gzip;q=0.9");
        let (headers, packed) = asked_with(&rig, packed).await;
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["vary"], "Accept-Encoding");
        assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let (headers, plain) = asked_with(&rig, Request::get(path)).await;
        assert!(!headers.contains_key("content-encoding"), "{path}");
        let plain = String::from_utf8(plain).unwrap();
        let of_targets = |text: &str| {
            let lines = text.lines().filter(|line| line.contains("target=\"web-"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let unpacked = unpacked(&packed);
        assert_eq!(of_targets(&unpacked), of_targets(&plain));
        assert_eq!(names(&parse(&unpacked)), names(&parse(&plain)));
        assert!(packed.len() * 5 < plain.len(), "{} of {}", packed.len(), plain.len());
    }
}

#[tokio::test]
async fn head_says_how_it_would_come_and_nothing_else() {
    let rig = busy().await;
    let head = Request::head("/metrics").header("accept-encoding", "gzip");
    let (headers, body) = asked_with(&rig, head).await;
    assert_eq!((&headers["content-encoding"], body.len()), (&"gzip".parse().unwrap(), 0));
}

/// Labels that are the same for a class are written out once; they must not outlive it.
#[tokio::test]
async fn targets_of_many_classes_stand_in_order_with_labels_of_their_own() {
    let rig = Rig::new(&[
        "b one http http://10.0.0.1/",
        "a two http http://10.0.0.2/",
        "b three http http://10.0.0.3/",
        "a four tcp tcp://10.0.0.4:1",
        "a five http http://10.0.0.5/",
    ])
    .await;
    let text = rig.get("/metrics").await.body;
    let seen: Vec<_> = lines(&text, "rollcall_probes_total")
        .iter()
        .map(|line| {
            let labels = line.split_once('{').unwrap().1.strip_suffix("} 0").unwrap();
            let labels = pairs(labels);
            ["service_name", "target", "check"].map(|name| labels[name].clone()).join(" ")
        })
        .collect();
    assert_eq!(seen, ["a five http", "a four tcp", "a two http", "b one http", "b three http"]);
}
