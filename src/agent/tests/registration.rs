//! Registering and deregistering.

use super::*;

const REPLACING: Terms = Terms { replaces_checks: true, respects_owner: false, token: 0 };

/// A check of every kind, with the word Consul shows for it.
fn kinds() -> Vec<(&'static str, Value)> {
    vec![
        ("ttl", json!({"TTL": "30s"})),
        ("http", json!({"HTTP": "http://127.0.0.1/health", "Interval": "10s", "Timeout": "2s"})),
        ("tcp", json!({"TCP": "127.0.0.1:80", "Interval": "10s"})),
        ("udp", json!({"UDP": "127.0.0.1:53", "Interval": "10s"})),
        ("grpc", json!({"GRPC": "127.0.0.1:9000/shop", "Interval": "10s"})),
        ("h2ping", json!({"H2Ping": "127.0.0.1:443", "H2PingUseTLS": false, "Interval": "10s"})),
        ("alias", json!({"AliasService": "web-2"})),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_check_of_every_kind_keeps_its_status_when_it_is_registered_again() {
    let rig = Rig::new().await;
    rig.put(json!({"ID": "web-2", "Name": "web", "Check": {"TTL": "1h"}})).await.unwrap();
    rig.hear("service:web-2", "warning", "so so").await;
    for (kind, check) in kinds() {
        let id = format!("{kind}-1");
        let definition = json!({"ID": id, "Name": kind, "Port": 80, "Check": check});
        rig.put(definition.clone()).await.unwrap();
        rig.publish().await;
        let name = format!("service:{id}");
        assert_eq!(&*rig.row(&name).kind, kind);
        match kind {
            "ttl" => rig.hear(&name, "warning", "so so").await,
            "alias" => {}
            _ => {
                let warning = Outcome::Warning(Reason::Status);
                rig.observe(&id, kind, &[warning]).await;
            }
        }
        rig.publish().await;
        let before = rig.row(&name);
        assert_eq!(before.status, Health::Warning, "{kind}");
        assert!(before.judged && !before.output.is_empty(), "{kind}: {before:?}");
        let mut changed = definition.clone();
        (changed["Port"], changed["Check"]["Notes"]) = (json!(81), json!("a note"));
        changed["Check"]["Status"] = json!("passing");
        for again in [definition, changed] {
            rig.put(again).await.unwrap();
            rig.publish().await;
            let now = rig.row(&name);
            assert_eq!((&now.status, now.judged, now.since), (&before.status, true, before.since));
            assert_eq!(now.output, before.output, "{kind}");
        }
        assert_eq!(&*rig.row(&name).notes, "a note");
        rig.agrees();
    }
    let of_checks = rig.transitions();
    let mut of_checks = of_checks.iter().filter(|t| !matches!(t.cause, Cause::Registration { .. }));
    assert!(of_checks.all(|t| t.from.as_str() == "unknown"));
}

#[tokio::test(start_paused = true)]
async fn checks_not_mentioned_stay_unless_they_are_to_be_replaced() {
    let rig = Rig::new().await;
    let two = json!([{"CheckID": "a", "TTL": "10s"}, {"CheckID": "b", "TTL": "10s"}]);
    rig.put(json!({"ID": "web-1", "Name": "web", "Checks": two})).await.unwrap();
    rig.put_check(json!({"ID": "c", "Name": "c", "ServiceID": "web-1", "TTL": "5s"}))
        .await
        .unwrap();
    rig.put_check(json!({"ID": "node", "Name": "node", "TTL": "5s"})).await.unwrap();
    let one = json!({"ID": "web-1", "Name": "web", "Check": {"CheckID": "b", "TTL": "20s"}});
    rig.put(one.clone()).await.unwrap();
    assert_eq!(rig.checks("web-1"), ["a", "b", "c"]);
    rig.agrees();
    rig.put_on(one, REPLACING).await.unwrap();
    assert_eq!(rig.checks("web-1"), ["b"]);
    assert_eq!(rig.checks(""), ["node"]);
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn a_check_moves_from_one_instance_to_another_with_its_status() {
    let rig = Rig::new().await;
    for id in ["a", "b", "c"] {
        rig.put(json!({"ID": id, "Name": "web"})).await.unwrap();
    }
    let check = |of: &str| json!({"ID": "up", "Name": "up", "ServiceID": of, "TTL": "10s"});
    rig.put_check(check("a")).await.unwrap();
    rig.hear("up", "passing", "well").await;
    rig.put_check(check("b")).await.unwrap();
    assert_eq!((rig.checks("a").len(), rig.checks("b").len()), (0, 1));
    assert_eq!(rig.said("up"), "passing well");
    rig.agrees();
    let listed = rig.registry.instance("b").unwrap();
    assert_eq!(listed.status().as_str(), "passing", "what is known moves along");
    // By the registration of an instance as well, and to the node.
    rig.put(json!({"ID": "c", "Name": "web", "Check": {"CheckID": "up", "TTL": "10s"}}))
        .await
        .unwrap();
    assert_eq!((rig.checks("b").len(), rig.checks("c").len()), (0, 1));
    rig.agrees();
    rig.put_check(json!({"ID": "up", "Name": "up", "TTL": "10s"})).await.unwrap();
    assert_eq!((rig.checks("c").len(), rig.checks("").len()), (0, 1));
    assert_eq!(rig.said("up"), "passing well");
    rig.agrees();
    wait(10.1).await;
    rig.publish().await;
    assert_eq!(rig.said("up").split(' ').next(), Some("critical"), "it is still watched");
}

#[tokio::test(start_paused = true)]
async fn checks_of_the_same_name_are_told_apart() {
    let rig = Rig::new().await;
    let tcp = || json!({"Name": "port", "TCP": "127.0.0.1:80", "Interval": "10s"});
    rig.put(json!({"ID": "web-1", "Name": "web", "Checks": [tcp(), tcp(), tcp()]})).await.unwrap();
    let runs = |rig: &Rig| {
        let listed = rig.registry.instance("web-1").unwrap();
        listed.checks.iter().map(|c| format!("{} {}", c.key.check, c.public_id())).collect()
    };
    let before: Vec<String> = runs(&rig);
    assert_eq!(
        before,
        ["port service:web-1:1", "port-2 service:web-1:2", "port-3 service:web-1:3"]
    );
    rig.put(json!({"ID": "web-1", "Name": "web", "Checks": [tcp(), tcp(), tcp()]})).await.unwrap();
    assert_eq!(before, runs(&rig), "and keep their names");
    rig.agrees();
    // The same id twice is one check.
    let same = |ttl: &str| json!({"CheckID": "same", "TTL": ttl});
    rig.put(json!({"ID": "db", "Name": "db", "Checks": [same("10s"), same("20s")]})).await.unwrap();
    assert_eq!(rig.checks("db"), ["same"]);
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn a_long_name_is_cut_to_make_room_for_its_number() {
    let rig = Rig::new().await;
    let name = "é".repeat(64);
    let check = || json!({"Name": name, "TTL": "10s"});
    rig.put(json!({"ID": "web-1", "Name": "web", "Checks": [check(), check()]})).await.unwrap();
    assert_eq!(rig.registry.instance("web-1").unwrap().checks.len(), 2);
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn a_check_of_the_node_comes_and_goes() {
    let rig = Rig::new().await;
    rig.put_check(json!({"ID": "disk", "Name": "disk", "TTL": "10s", "Status": "passing"}))
        .await
        .unwrap();
    let row = rig.row("disk");
    assert_eq!((&row.status, &*row.service, row.judged), (&Health::Passing, "", false));
    rig.agrees();
    rig.hear("disk", "warning", "90 %").await;
    assert_eq!(rig.said("disk"), "warning 90 %");
    rig.agent.deregister_check("disk").await.unwrap();
    assert!(rig.checks("").is_empty());
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn what_is_deregistered_is_gone_with_its_checks_and_begins_anew() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.put(json!({"ID": "web-2", "Name": "web", "Check": {"TTL": "10s"}})).await.unwrap();
    rig.hear(WEB, "passing", "well").await;
    // The class of the first goes on with the second, and goes with it.
    for id in ["web-1", "web-2"] {
        rig.agent.deregister(id).await.unwrap();
        assert!(rig.checks(id).is_empty());
        rig.agrees();
    }
    assert!(rig.registry.services().is_empty());
    rig.publish().await;
    assert_eq!(rig.store.read().checks_on("node-1").count(), 1, "serfHealth alone");
    rig.put(web()).await.unwrap();
    assert_eq!(rig.said(WEB), "critical");
    let listed = rig.registry.instance("web-1").unwrap();
    assert_eq!(listed.status().as_str(), "unknown");
    let actions = ["register", "deregister", "expire"];
    let counted = actions.map(|a| rig.metrics.registrations.with_label_values(&[a]).get());
    assert_eq!(counted, [3, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_check_of_an_instance_can_go() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    rig.agent.deregister_check(WEB).await.unwrap();
    rig.agrees();
    assert_eq!(rig.registry.instance("web-1").unwrap().status().as_str(), "passing");
    rig.put(web()).await.unwrap();
    rig.hear(WEB, "passing", "").await;
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_said_in_consuls_words() {
    let rig = Rig::new().await;
    let text = |result: Result<(), Refused>| result.unwrap_err().to_string();
    let ensure = "Ensure that the service ID is passed, not the service name.";
    let unknown = format!("Unknown service ID \"web\". {ensure}");
    assert_eq!(text(rig.agent.deregister("web").await), unknown);
    let ensure = "Ensure that the check ID is passed, not the check name.";
    let unknown = format!("Unknown check ID \"up\". {ensure}");
    assert_eq!(text(rig.agent.deregister_check("up").await), unknown);
    assert_eq!(text(rig.agent.hear("up", Health::Passing, "").await), unknown);
    let stray = json!({"Name": "up", "ServiceID": "web", "TTL": "10s"});
    assert_eq!(text(rig.put_check(stray).await), "ServiceID \"web\" does not exist");
    // The service that Consul itself is and its check are not the clients'.
    assert!(text(rig.agent.deregister(CONSUL).await).starts_with("Unknown service ID"));
    assert!(text(rig.agent.deregister_check(ALIVE).await).starts_with("Unknown check ID"));
    rig.put(json!({"ID": "a", "Name": "a", "Check": {"TCP": "a:1", "Interval": "1s"}}))
        .await
        .unwrap();
    let not_ttl = text(rig.agent.hear("service:a", Health::Passing, "").await);
    assert_eq!(not_ttl, "CheckID \"service:a\" does not have associated TTL");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_changes_nothing() {
    let rig = Rig::new().await;
    rig.put(web()).await.unwrap();
    let before = rig.store.read().index();
    for (definition, text) in [
        (json!({"ID": "a"}), "Missing service name"),
        (json!({"Name": "a", "Address": "0.0.0.0"}), "Invalid service address"),
        (json!({"Name": "a", "Check": {"Interval": "1s"}}), "Invalid check: TTL must be > 0"),
        (json!({"Name": "a", "Check": {"Args": ["ls"], "Interval": "1s"}}), "Scripts are disabled"),
        (json!({"ID": "consul", "Name": "a"}), "Invalid service ID: \"consul\""),
        (json!({"ID": "_node", "Name": "a"}), "Invalid service ID: \"_node\""),
        (
            json!({"ID": "web-1", "Name": "a", "Checks": [
                {"TTL": "1s"}, {"CheckID": "serfHealth", "TTL": "1s"}]}),
            "Invalid check: the id \"serfHealth\" is the daemon's own",
        ),
    ] {
        let refused = rig.put(definition).await.unwrap_err().to_string();
        assert!(refused.starts_with(text), "{refused}");
    }
    assert_eq!(rig.store.read().index(), before);
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn programs_are_run_where_that_is_allowed() {
    let rig = Rig::new().await;
    let script = json!({"Name": "df", "Args": ["df"], "Interval": "10s"});
    assert!(matches!(rig.put_check(script.clone()).await, Err(Refused::Scripts)));
    rig.agent.allow_programs(true);
    rig.put_check(script).await.unwrap();
    rig.put(json!({"Name": "web", "Check": {"ScriptArgs": ["ls"], "Interval": "10s"}}))
        .await
        .unwrap();
    assert_eq!(rig.row("df").kind.as_ref(), "script");
    rig.agrees();
    let docker = json!({"Name": "box", "Args": ["x"], "DockerContainerID": "c", "Interval": "10s"});
    let refused = rig.put_check(docker).await.unwrap_err().to_string();
    assert!(refused.contains("not run in this version"), "{refused}");
    // Forbidden again, what is registered is not run after a restart.
    let rig = rig.restarted().await;
    assert_eq!(rig.checks(""), ["df"]);
    assert!(rig.registry.instance("_node").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_goes_where_it_may_not_is_refused_and_leaves_nothing() {
    let rig = Rig::new().await;
    let egress = serde_json::from_value(json!({"api": {"deny": ["10.0.0.0/8"]}})).unwrap();
    rig.agent.limit_egress(egress::Policy::for_api(&egress));
    for check in [
        json!({"HTTP": "http://10.0.0.1/", "Interval": "10s"}),
        json!({"TCP": "169.254.169.254:80", "Interval": "10s"}),
        json!({"UDP": "[::ffff:10.0.0.1]:53", "Interval": "10s"}),
    ] {
        let refused = rig.put(json!({"ID": "a", "Name": "a", "Check": check})).await.unwrap_err();
        assert!(matches!(refused, Refused::Denied(_)), "{refused}");
        assert!(refused.to_string().contains("probes may not go to `"), "{refused}");
        let alone = json!({"ID": "c", "Name": "c", "Interval": "10s", "TCP": "10.0.0.1:80"});
        assert!(matches!(rig.put_check(alone).await, Err(Refused::Denied(_))));
    }
    assert!(rig.store.read().instance("node-1", "a").is_none());
    for check in [
        json!({"TCP": "11.0.0.1:80", "Interval": "10s"}),
        json!({"TCP": "shop.example:80", "Interval": "10s"}),
        json!({"TTL": "10s"}),
    ] {
        rig.put(json!({"ID": "b", "Name": "b", "Address": "10.0.0.1", "Check": check}))
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_says_what_it_may_not_is_refused_and_leaves_nothing() {
    let rig = Rig::new().await;
    let open = |api: Value| serde_json::from_value(json!({ "api": api })).unwrap();
    rig.agent.limit_egress(egress::Policy::for_api(&open(json!({}))));
    let http = |more: Value| {
        let mut check = json!({"HTTP": "http://10.0.0.1/", "Interval": "10s"});
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"ID": "a", "Name": "a", "Check": check})
    };
    for (more, says) in [
        (json!({"Method": "POST"}), "`egress.api.methods` lists"),
        (json!({"Header": {"Metadata-Flavor": ["Google"]}}), "the header `Metadata-Flavor`"),
        (json!({"Header": {"Host": ["169.254.169.254"]}}), "the host `169.254.169.254`"),
    ] {
        let refused = rig.put(http(more)).await.unwrap_err();
        assert!(matches!(refused, Refused::Improper(_)), "{refused}");
        assert!(refused.to_string().contains(says), "{refused}");
    }
    assert!(rig.store.read().instance("node-1", "a").is_none());
    rig.put(http(json!({"Method": "HEAD", "Header": {"Host": ["a.example"]}}))).await.unwrap();
}

/// One client deregisters an instance while another registers it again: the check goes on, and of its
/// new row nobody has told anything yet.
#[tokio::test(start_paused = true)]
async fn a_row_made_again_while_its_check_goes_on_says_what_is_known() {
    let rig = Rig::new().await;
    let web = json!({"ID": "web-1", "Name": "web", "Port": 80,
        "Check": {"Name": "page", "HTTP": "http://127.0.0.1/", "Interval": "10s"}});
    rig.put(web.clone()).await.unwrap();
    rig.observe("web-1", "page", &[Outcome::Success]).await;
    assert_eq!(rig.row(WEB).status, Health::Passing);
    let deleted = rig.store.write(|tx| {
        rig.agent.drop_instance(tx, "web-1");
        Ok::<_, Unwritten>(())
    });
    deleted.await.unwrap();
    rig.put(web).await.unwrap();
    assert_eq!(rig.row(WEB).status, Health::Critical, "as a new one begins");
    rig.publish().await;
    assert_eq!(rig.row(WEB).status, Health::Passing);
}

/// A service that wants a proxy, which says this of itself.
fn meshed(id: &str, proxy: &Value) -> Value {
    json!({"ID": id, "Name": "web", "Port": 80, "Connect": {"SidecarService": proxy}})
}

#[tokio::test(start_paused = true)]
async fn proxies_of_services_registered_at_once_have_a_port_each() {
    let rig = Rig::new().await;
    let turn = rig.agent.turn.write().await;
    let (one, other) = (rig.put(meshed("a", &json!({}))), rig.put(meshed("b", &json!({}))));
    let (one, other, ()) = tokio::join!(one, other, async {
        rig.settle().await;
        drop(turn);
    });
    one.unwrap();
    other.unwrap();
    let port = |id: &str| rig.store.read().instance("node-1", id).unwrap().port;
    assert_eq!((port("a-sidecar-proxy"), port("b-sidecar-proxy")), (21_000, 21_001));
    rig.put(meshed("a", &json!({}))).await.unwrap();
    assert_eq!(port("a-sidecar-proxy"), 21_000, "it keeps its own");
    rig.agrees();
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_proxy_is_refused_is_refused() {
    let rig = Rig::new().await;
    for proxy in [
        json!({"Check": {"TTL": "10s", "Interval": "10s"}}),
        json!({"Meta": {"consul-x": "y"}}),
        json!({"Port": "x"}),
    ] {
        let refused = rig.put(meshed("a", &proxy)).await;
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{proxy}: {refused:?}");
        assert!(rig.store.read().instance("node-1", "a").is_none(), "{proxy}");
        assert!(rig.registry.instance("a").is_none(), "{proxy}");
    }
}
