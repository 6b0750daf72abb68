//! What is sent for each command line and file, and what is made of the answers.

use super::{
    super::testing::{Daemon, HANG_UP, run},
    *,
};

fn file(text: &str) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file.into_temp_path()
}

/// The bodies sent for these arguments.
async fn sent(arguments: &[&str], requests: usize) -> Vec<Value> {
    let line = [&["register"], arguments].concat();
    let (exit, _, asked) = run(&line, &vec![(200, ""); requests]).await;
    assert_eq!(exit, Ok(Exit::Ok));
    let body = |request: &String| {
        serde_json::from_str(request.strip_prefix("PUT /v1/rollcall/register ").unwrap()).unwrap()
    };
    asked.iter().map(body).collect()
}

#[tokio::test]
async fn options_make_a_definition() {
    let all = [
        "--name",
        "web",
        "--id",
        "web-1",
        "--address",
        "10.0.0.1",
        "--port",
        "80",
        "--tag",
        "a",
        "--tag",
        "b",
        "--meta",
        "rack=r1=x",
        "--owner",
        "shop",
        "--check-http",
        "http://10.0.0.1/",
        "--timeout",
        "1500ms",
    ];
    let expected = json!({
        "Name": "web", "ID": "web-1", "Address": "10.0.0.1", "Port": 80, "Tags": ["a", "b"],
        "Meta": {"rack": "r1=x", "owner": "shop"},
        "Check": {"HTTP": "http://10.0.0.1/", "Interval": "10s", "Timeout": "1500ms"},
    });
    assert_eq!(sent(&all, 1).await, [expected]);
    assert_eq!(sent(&["--name", "web"], 1).await, [json!({"Name": "web"})]);
}

#[tokio::test]
async fn each_kind_of_check_has_its_field() {
    let check = async |option: &str, value: &str| {
        sent(&["--name", "web", option, value], 1).await[0]["Check"].clone()
    };
    assert_eq!(check("--check-tcp", "a:1").await, json!({"TCP": "a:1", "Interval": "10s"}));
    assert_eq!(check("--check-grpc", "a:1/s").await, json!({"GRPC": "a:1/s", "Interval": "10s"}));
    assert_eq!(check("--check-ttl", "1m30s").await, json!({"TTL": "90s"}));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    use clap::Parser as _;
    for wrong in [
        "",
        "f.json --name web",
        "f.json --port 80",
        "f.json --check-tcp a:1",
        "--name web --check-tcp a:1 --check-http http://a/",
        "--name web --check-ttl 30s --interval 5s",
        "--name web --interval 5s",
        "--name web --meta rack",
    ] {
        let line = ["rollcall", "register"].into_iter().chain(wrong.split_whitespace());
        assert!(super::super::Cli::try_parse_from(line).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_file_holds_one_or_several() {
    let bare = file(r#"{"Name": "web", "check": {"ttl": "5s"}}"#);
    let one = file(r#"{"service": {"name": "db", "meta": null}}"#);
    let several = file(r#"{"Services": [{"name": "a"}, {"id": "b-1", "name": "b"}]}"#);
    let path = |file: &tempfile::TempPath| file.to_str().unwrap().to_owned();
    assert_eq!(sent(&[&path(&bare)], 1).await, [json!({"Name": "web", "check": {"ttl": "5s"}})]);
    assert_eq!(
        sent(&[&path(&one), "--owner", "me"], 1).await,
        [json!({"name": "db", "meta": {"owner": "me"}})]
    );
    assert_eq!(sent(&[&path(&several)], 2).await.len(), 2);
}

#[test]
fn a_file_that_is_none_says_what_is_wrong() {
    let said = |text: &str| format!("{:#}", parse(text).unwrap_err());
    assert_eq!(said("name: web"), "it is not JSON: expected ident at line 1 column 2");
    assert_eq!(said(r#"{"port": 1}"#), "service 1 has no `name`");
    assert_eq!(said(r#"{"services": [{"name": "a"}, {}]}"#), "service 2 has no `name`");
    assert_eq!(said(r#"{"services": []}"#), "it has no services");
    assert_eq!(said("[]"), "service 1: write an object such as {\"name\": \"web\"}");
}

#[tokio::test]
async fn a_lost_connection_is_tried_once_more_under_the_same_key() {
    let daemon = Daemon::answering(&[HANG_UP, (200, "")]).await;
    register(&daemon.client(), &json!({"Name": "web"})).await.unwrap();
    let keys: Vec<_> = daemon
        .requests()
        .iter()
        .map(|request| {
            let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
            key.unwrap().to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);

    let daemon = Daemon::answering(&[HANG_UP, HANG_UP]).await;
    let error = register(&daemon.client(), &json!({"Name": "web"})).await.unwrap_err();
    assert!(error.to_string().ends_with("has closed the connection before it answered"));
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_does_not_keep_back_the_others() {
    let both = file(r#"{"services": [{"name": "a"}, {"name": "b"}]}"#);
    let line = ["register", both.to_str().unwrap()];
    let (exit, out, asked) = run(&line, &[(400, "Invalid check"), (200, "")]).await;
    assert_eq!((exit, out.as_str(), asked.len()), (Ok(Exit::Failure), "b is registered\n", 2));

    let daemon = Daemon::answering(&[(409, "\"web\" belongs to shop")]).await;
    let error = register(&daemon.client(), &json!({"Name": "web"})).await.unwrap_err();
    let said = "answered 409 Conflict: \"web\" belongs to shop; see --owner";
    assert!(error.to_string().ends_with(said), "{error}");
}

#[tokio::test]
async fn instances_go_and_come_back() {
    let unknown = (404, "Unknown service ID \"a/1\"");
    let (exit, out, asked) = run(&["deregister", "a/1", "b"], &[unknown, (200, "")]).await;
    assert_eq!((exit, out.as_str()), (Ok(Exit::Failure), "b is deregistered\n"));
    assert_eq!(
        asked,
        ["PUT /v1/agent/service/deregister/a%2F1", "PUT /v1/agent/service/deregister/b"]
    );
    let (exit, out, asked) = run(&["undo", "b"], &[(200, "")]).await;
    assert_eq!((exit, out.as_str()), (Ok(Exit::Ok), "b is registered again\n"));
    assert_eq!(asked, ["PUT /v1/rollcall/undo/b"]);
    let (exit, ..) = run(&["undo", "b"], &[(404, "nothing to undo")]).await;
    assert_eq!(
        exit.unwrap_err(),
        "cannot bring back \"b\": rollcall at ADDRESS answered 404 Not Found: nothing to undo"
    );
}

#[tokio::test]
async fn instances_may_be_drained_before_they_go() {
    let unknown = (404, "Unknown service ID \"a\"");
    let line = ["deregister", "--drain", "1ms", "a", "b"];
    let (exit, out, asked) = run(&line, &[unknown, (200, ""), (200, "")]).await;
    assert_eq!((exit, out.as_str()), (Ok(Exit::Failure), "b is draining\nb is deregistered\n"));
    let reason = "enable=true&reason=draining%2C+to+be+deregistered";
    assert_eq!(
        asked,
        [
            format!("PUT /v1/agent/service/maintenance/a?{reason}"),
            format!("PUT /v1/agent/service/maintenance/b?{reason}"),
            "PUT /v1/agent/service/deregister/b".to_owned(),
        ]
    );
}

#[tokio::test]
async fn maintenance_is_said() {
    let (exit, out, asked) = run(&["maint", "on", "--node"], &[(200, "")]).await;
    assert_eq!((exit, out.as_str()), (Ok(Exit::Ok), "the node is in maintenance\n"));
    assert_eq!(asked, ["PUT /v1/agent/maintenance?enable=true"]);
}
