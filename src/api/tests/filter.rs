//! `?filter=` on the reads of Consul's API.

use super::*;

const SHOP: &[&str] = &[
    "web web-1 http http://10.0.0.1:8080/",
    "web web-2 http http://10.0.0.2/",
    "db foo:1 tcp tcp://10.0.0.3:5432",
];

/// What a read answers to a filter.
async fn filtered(rig: &Rig, path: &str, filter: &str) -> Answered {
    let query: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    rig.get(&format!("{path}?filter={query}")).await
}

/// The names of what is shown: keys of a map, or what stands under `pointer` in each of a list.
fn names(answer: &Answered, pointer: &str) -> Vec<String> {
    let shown = answer.json();
    if let Some(map) = shown.as_object() {
        return map.keys().cloned().collect();
    }
    let name = |item: &Value| item.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    shown.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn the_instances_of_a_service_are_filtered_by_all_three_objects() {
    let rig = Rig::new(SHOP).await;
    rig.pass("web-1");
    let shown = async |filter: &str| {
        names(&filtered(&rig, "/v1/health/service/web", filter).await, "/Service/ID")
    };
    assert_eq!(shown("Service.ID == `web-1`").await, ["web-1"]);
    assert_eq!(shown("Service.Port == 8080 and Service.Meta.team == shop").await, ["web-1"]);
    assert_eq!(shown("Service.TaggedAddresses.lan_ipv4.Port == 80").await, ["web-2"]);
    assert_eq!(shown(r#""Blue" in Service.Tags"#).await, ["web-1", "web-2"]);
    assert_eq!(shown("Node.Node != `` ").await, ["web-1", "web-2"]);
    assert_eq!(shown("Checks.Status == critical").await, ["web-2"]);
    assert!(shown("Checks is empty").await.is_empty());
    assert_eq!(shown("").await, ["web-1", "web-2"]);
}

#[tokio::test]
async fn a_filter_and_passing_both_have_to_hold() {
    let rig = Rig::new(SHOP).await;
    rig.pass("web-1");
    let shown = async |id: &str| {
        let path = format!("/v1/health/service/web?passing&filter=Service.ID=={id}");
        rig.get(&path).await.json().as_array().unwrap().len()
    };
    assert_eq!((shown("%22web-1%22").await, shown("%22web-2%22").await), (1, 0));
}

#[tokio::test]
async fn the_checks_of_a_service_are_filtered() {
    let rig = Rig::new(SHOP).await;
    let answer = filtered(&rig, "/v1/health/checks/web", r#"CheckID == "web-2:http""#).await;
    assert_eq!(names(&answer, "/CheckID"), ["web-2:http"]);
}

#[tokio::test]
async fn the_checks_in_a_state_are_filtered() {
    let rig = Rig::new(SHOP).await;
    rig.pass("web-1");
    let shown = async |state: &str, filter: &str| {
        let path = format!("/v1/health/state/{state}");
        names(&filtered(&rig, &path, filter).await, "/CheckID")
    };
    assert_eq!(shown("any", "ServiceName is empty").await, ["serfHealth"]);
    assert_eq!(shown("any", "Status == `passing`").await, ["serfHealth", "web-1:http"]);
    assert_eq!(shown("critical", "ServiceName != db").await, ["web-2:http"]);
}

#[tokio::test]
async fn the_agents_services_are_filtered() {
    let rig = Rig::new(SHOP).await;
    let shown = async |filter: &str| names(&filtered(&rig, "/v1/agent/services", filter).await, "");
    assert_eq!(shown("Service == db").await, ["foo:1"]);
    assert_eq!(shown("not Address matches `[.][12]$`").await, ["foo:1"]);
    assert_eq!(shown("Kind == `connect-proxy`").await, [""; 0]);
}

#[tokio::test]
async fn the_agents_checks_are_filtered() {
    let rig = Rig::new(SHOP).await;
    let shown = async |filter: &str| names(&filtered(&rig, "/v1/agent/checks", filter).await, "");
    assert_eq!(shown(r#"ServiceID == "foo:1""#).await, ["foo:1:tcp"]);
    assert_eq!(shown("Type == http").await, ["web-1:http", "web-2:http"]);
}

/// Whoever filters must not be given what was filtered out.
#[tokio::test(start_paused = true)]
async fn a_filter_that_cannot_be_read_is_refused_at_once_and_says_why() {
    let rig = Rig::new(SHOP).await;
    let known = rig.index();
    for path in [
        "/v1/health/service/web",
        "/v1/health/state/any",
        "/v1/health/checks/web",
        "/v1/agent/checks",
        "/v1/agent/services",
    ] {
        let started = tokio::time::Instant::now();
        let answer = rig.get(&format!("{path}?index={known}&filter=No+==+x")).await;
        assert_eq!(answer.status, 400, "{path}");
        let said = "Failed to create boolean expression evaluator: at character 1: Selector \
                    \"No\" is not valid; there are ";
        assert!(answer.body.starts_with(said), "{path}: {}", answer.body);
        assert_eq!(started.elapsed(), Duration::ZERO, "{path}");
        assert_eq!(rig.get(&format!("{path}?filter=")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn whatever_is_shown_can_be_filtered_by() {
    const NOT: [&str; 3] = ["CreateIndex", "ModifyIndex", "Definition"];
    let rig = Rig::new(SHOP).await;
    let entries = rig.get("/v1/health/service/web").await.json();
    let service = rig.get("/v1/agent/services").await.json()["web-1"].clone();
    let web = "/v1/health/service/web";
    for (path, prefix, shown) in [
        (web, "Node.", &entries[0]["Node"]),
        (web, "Service.", &entries[0]["Service"]),
        (web, "Checks.", &entries[0]["Checks"][0]),
        ("/v1/health/state/any", "", &entries[0]["Checks"][0]),
        ("/v1/agent/services", "", &service),
    ] {
        for key in shown.as_object().unwrap().keys() {
            let answer = filtered(&rig, path, &format!("{prefix}{key} is empty")).await;
            let is_known = !answer.body.contains("is not valid");
            assert_eq!(is_known, !NOT.contains(&key.as_str()), "{path} {prefix}{key}");
        }
    }
}
