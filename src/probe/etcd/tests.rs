//! etcd probes: against members that answer as their script says.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::*;
use crate::{
    model::Observation,
    probe::{
        Network, Prober, Spec as AnySpec, Target, egress, parse_url,
        testing::{
            self, PATIENCE, Server, ask, ask_within, closed_port, dns::Resolver, hold, target,
            verdict,
        },
    },
};

/// What a member says; it may change.
#[derive(Debug, Clone)]
struct Says {
    status: Value,
    list: Value,
    metrics: String,
}

/// A member of three that is well, as etcd 3.4 writes it.
fn status(n: u64) -> Value {
    json!({
        "header": { "cluster_id": "15118495548433857066", "member_id": n.to_string(), "raft_term": "2" },
        "version": "3.4.23", "dbSize": "20480", "leader": "1", "raftTerm": "2",
    })
}

/// A member, and what it says from now on.
struct Fake {
    server: Server,
    says: Arc<Mutex<Says>>,
    /// How often its status was asked for.
    asked: Arc<AtomicU64>,
}

impl Fake {
    async fn start(n: u64) -> Self {
        let says = Says {
            status: status(n),
            list: json!({}),
            metrics: "etcd_server_quota_backend_bytes 2.147483648e+09\n".to_owned(),
        };
        let says = Arc::new(Mutex::new(says));
        let asked = Arc::new(AtomicU64::new(0));
        let shared = (Arc::clone(&says), Arc::clone(&asked));
        let server = Server::start(move |stream| serve(stream, shared.clone())).await;
        Self { server, says, asked }
    }

    fn change(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }
}

async fn serve(mut stream: TcpStream, (says, asked): (Arc<Mutex<Says>>, Arc<AtomicU64>)) {
    let request = testing::read_request(&mut stream).await;
    let body = {
        let says = says.lock().unwrap();
        match request.split(' ').nth(1).unwrap() {
            "/v3/cluster/member/list" => says.list.to_string(),
            "/metrics" => says.metrics.clone(),
            "/v3/maintenance/status" => {
                asked.fetch_add(1, Ordering::Relaxed);
                says.status.to_string()
            }
            other => panic!("{other}"),
        }
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    testing::say_and_close(&mut stream, (head + &body).as_bytes()).await;
}

/// Three members that know each other; the first is the leader.
async fn cluster() -> [Fake; 3] {
    let members = [Fake::start(1).await, Fake::start(2).await, Fake::start(3).await];
    let listed: Vec<_> = members
        .iter()
        .zip(1..)
        .map(|(member, n)| {
            let url = format!("http://{}", member.server.address);
            json!({ "ID": n.to_string(), "name": format!("etcd-{n}"), "clientURLs": [url] })
        })
        .collect();
    for member in &members {
        member.change(|says| says.list = json!({ "members": listed }));
    }
    members
}

fn etcd(spec: Value, entry: &Fake) -> Target {
    target(&AnySpec::Etcd(testing::spec(spec)), entry.server.endpoint())
}

#[track_caller]
fn check(found: &Observation, expected: &str, said: &str) {
    assert_eq!(verdict(found), expected, "{found:?}");
    let detail = found.detail.as_deref().unwrap_or_default();
    assert!(detail.contains(said), "{detail}");
}

#[tokio::test]
async fn every_member_that_is_named_by_one_is_asked() {
    let members = cluster().await;
    let found = ask(&etcd(json!({}), &members[1])).await;
    check(&found, "success", "");
    assert_eq!(found.peer, Some(members[1].server.address));
    for member in &members {
        assert_eq!(member.asked.load(Ordering::Relaxed), 1);
        assert!(member.server.connections() >= 2, "status and metrics");
    }
    // Without need, no metrics.
    let before = members[2].server.connections();
    check(&ask(&etcd(json!({ "db_quota": 1 << 30 }), &members[1])).await, "success", "");
    assert_eq!(members[2].server.connections(), before + 1);
}

#[tokio::test]
async fn a_member_that_is_down_is_named_and_a_majority_that_is_down_is_a_failure() {
    let members = cluster().await;
    let gone = |n: u64| {
        json!({ "ID": "9", "name": format!("gone-{n}"),
                "clientURLs": [format!("http://{}", closed_port())] })
    };
    let add = |member: Value| {
        members[0].change(|says| says.list["members"].as_array_mut().unwrap().push(member));
    };
    add(gone(1));
    let found = ask(&etcd(json!({}), &members[0])).await;
    check(&found, "warning connection_refused", ": gone-1 (127.0.0.1:");
    let found = ask(&etcd(json!({ "sick_member": "failure" }), &members[0])).await;
    check(&found, "failure connection_refused", ": gone-1 (127.0.0.1:");
    // One that has never started says nothing of where it listens.
    add(json!({ "ID": "255" }));
    add(gone(2));
    let found = ask(&etcd(json!({}), &members[0])).await;
    check(&found, "failure connection_refused", "only 3 of 6 members are well and agree; gone-1 (");
    let found = ask(&etcd(json!({ "sick_member": "failure" }), &members[0])).await;
    assert!(found.detail.as_deref().is_some_and(|text| text.contains("member ff: ")), "{found:?}");
}

#[tokio::test]
async fn a_member_that_is_stuck_leaves_time_to_say_so() {
    let members = cluster().await;
    let stuck = Server::start(|mut stream| async move { hold(&mut stream).await }).await;
    let addresses = [members[0].server.address, stuck.address, members[2].server.address];
    let target = etcd(json!({ "members": addresses.map(|a| a.to_string()) }), &members[0]);
    let found = ask_within(&target, Duration::from_millis(400)).await;
    let said = format!("etcd {}: {}: no answer within ", members[0].server.address, stuck.address);
    check(&found, "warning timeout_response", &said);
    assert!(found.duration < Duration::from_millis(400), "{found:?}");
}

#[tokio::test]
async fn an_election_is_given_time_and_then_told() {
    let members = cluster().await;
    members[2].change(|says| says.status["raftTerm"] = json!("3"));
    members[2].change(|says| drop(says.status.as_object_mut().unwrap().remove("leader")));
    let timeout = Duration::from_millis(600);
    let found = ask_within(&etcd(json!({}), &members[0]), timeout).await;
    check(&found, "warning status", ": etcd-3: knows no leader (term 3)");
    assert_eq!(members[2].asked.load(Ordering::Relaxed), 2, "asked once more, and no more");

    let elected = async {
        while members[2].asked.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        members[2].change(|says| says.status = status(3));
    };
    let target = etcd(json!({}), &members[0]);
    let (found, ()) = tokio::join!(ask_within(&target, timeout), elected);
    check(&found, "success", "");
}

#[tokio::test]
async fn alarms_room_and_latency_are_looked_at() {
    let members = cluster().await;
    let target = |spec| etcd(spec, &members[0]);
    members[1].change(|says| says.status["errors"] = json!(["memberID:2 alarm:NOSPACE "]));
    check(&ask(&target(json!({}))).await, "warning status", ": etcd-2: alarm NOSPACE");
    members[1].change(|says| says.status = status(2));
    // From the metrics, from the status as etcd 3.6 has it, and from the configuration.
    members[2].change(|says| says.metrics = "etcd_server_quota_backend_bytes 21000\n".to_owned());
    let said = ": etcd-3: the database takes 97% of its quota";
    check(&ask(&target(json!({}))).await, "failure status", said);
    members[2].change(|says| says.status["dbSizeQuota"] = json!("22000"));
    let said = ": etcd-3: the database takes 93% of its quota";
    check(&ask(&target(json!({}))).await, "warning status", said);
    check(&ask(&target(json!({ "db_quota": 1 << 30 }))).await, "success", "");

    let slow = |count: u32| {
        format!("etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.512\"}} {count}\n")
    };
    let limited = target(json!({ "db_quota": 1 << 30, "max_fsync_latency": "10ms" }));
    members[1].change(|says| says.metrics = slow(100));
    check(&ask(&limited).await, "success", "");
    members[1].change(|says| says.metrics = slow(200));
    let said = ": etcd-2: fsyncs take 506.88ms (99th percentile), limit 10ms";
    check(&ask(&limited).await, "warning status", said);
}

#[tokio::test]
async fn a_quota_that_is_not_found_is_told() {
    let members = cluster().await;
    let target = |spec| etcd(spec, &members[0]);
    members[1].change(|says| says.metrics = "# none\n".to_owned());
    let said =
        ": etcd-2: no metrics: the quota is not in what was read of them; give it as `db_quota`";
    check(&ask(&target(json!({}))).await, "warning status", said);
    check(&ask(&target(json!({ "db_quota": 1 << 30 }))).await, "success", "");
    // There is none.
    members[1].change(|says| says.metrics = "etcd_server_quota_backend_bytes -1\n".to_owned());
    check(&ask(&target(json!({}))).await, "success", "");
}

#[tokio::test]
async fn each_address_of_a_name_is_asked_by_itself() {
    let member = Fake::start(1).await;
    let port = member.server.address.port();
    // The member is on the first address; nobody listens on the second.
    let resolver = Resolver::knowing(&["127.0.0.1", "127.0.0.2"]).await;
    let listed = json!({ "ID": "1", "name": "etcd-1",
                         "clientURLs": [format!("http://etcd.example:{port}")] });
    member.change(|says| says.list = json!({ "members": [listed] }));
    let endpoint = Endpoint::new("etcd.example".parse().unwrap(), port);
    for spec in [json!({}), json!({ "members": [format!("etcd.example:{port}")] })] {
        let spec = AnySpec::Etcd(testing::spec(spec));
        let dial = json!({ "addresses": "each", "resolver": resolver.address });
        let before = resolver.asked();
        let target = testing::target_dialing(&spec, endpoint.clone(), dial);
        let found = Network::default().probe(&target, PATIENCE).await;
        check(&found, "failure connection_refused", "1 of 2 addresses are well, 2 must be");
        assert_eq!(resolver.asked() - before, 2, "once for each family");
    }
}

#[tokio::test]
async fn a_member_may_only_be_asked_where_probes_may_go() {
    let members = cluster().await;
    let tripwire = Server::answering("").await;
    let denied = format!("http://127.0.0.2:{}", tripwire.address.port());
    members[0].change(|says| says.list["members"][2]["clientURLs"] = json!([denied]));
    let deny =
        egress::Config { deny: vec!["127.0.0.2".parse().unwrap()], ..egress::Config::default() };
    let network = Network::new(egress::Policy::new(&deny));
    let found = network.probe(&etcd(json!({}), &members[0]), PATIENCE).await;
    check(&found, "warning denied", "etcd-3 (127.0.0.2:");
}

#[tokio::test]
async fn what_is_no_cluster_is_a_failure() {
    let members = cluster().await;
    let target = etcd(json!({}), &members[0]);
    let listed = json!({ "ID": "1", "name": "x", "clientURLs": ["http://127.0.0.1:1"] });
    members[0].change(|says| says.list = json!({ "members": vec![listed; 17] }));
    check(&ask(&target).await, "failure protocol", "17 members; at most 16 are asked");
    members[0].change(|says| says.list = json!({ "members": [] }));
    check(&ask(&target).await, "failure protocol", "the member knows no members");
    members[0].change(|says| says.list = json!("hello"));
    check(&ask(&target).await, "failure protocol", "the answer is not etcd's: ");
    let old = Server::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let (spec, endpoint) = parse_url(&format!("etcd://{}", old.address)).unwrap();
    check(&ask(&testing::target(&spec, endpoint)).await, "failure status", "404 Not Found");
    // Who asks for TLS is not told anything without.
    let plain = Server::start(|mut stream| async move {
        testing::say_and_close(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let (spec, endpoint) = parse_url(&format!("etcds://{}", plain.address)).unwrap();
    check(&ask(&testing::target(&spec, endpoint)).await, "failure tls_other", "");
    let (spec, endpoint) = parse_url(&format!("etcd://{}", closed_port())).unwrap();
    check(&ask(&testing::target(&spec, endpoint)).await, "failure connection_refused", "");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |spec: Value| {
        let spec = AnySpec::Etcd(testing::spec(spec));
        crate::probe::Probe::prepare(&spec).unwrap_err().to_string()
    };
    assert_eq!(
        refused(json!({ "db_warning": 80 })),
        "`db_warning` and `db_failure` are shares: above 0, and at most 1"
    );
    assert_eq!(
        refused(json!({ "db_failure": 0.5 })),
        "`db_warning` is above `db_failure`, so that there would be no warning"
    );
    let many = json!({ "members": vec!["10.0.0.1:2379"; 17] });
    assert_eq!(refused(many), "`members` has more than 16 members");
    for member in ["10.0.0.1:x", "http://10.0.0.1", "10.0.0.1/v3", ""] {
        let spec = serde_json::from_value::<Spec>(json!({ "members": [member] }));
        assert!(spec.is_err(), "{member}: {spec:?}");
    }
    let spec: Spec = testing::spec(json!({ "members": ["etcd-1", "[::1]:2380"] }));
    let members: Vec<_> = spec.members.iter().map(|Address(at)| at.to_string()).collect();
    assert_eq!(members, ["etcd-1:2379", "[::1]:2380"]);
}
