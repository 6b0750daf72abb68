//! Redirects: which are followed, and what is not sent along.

use super::*;

#[tokio::test]
async fn a_redirect_is_followed_only_if_asked_for() {
    let goal = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let start = redirect(302, &format!("http://{}/", goal.address));
    assert_eq!(answer(json!({}), &start).await, "failure status 302");
    assert_eq!(goal.connections(), 0);
    assert_eq!(answer(json!({ "follow_redirects": 1 }), &start).await, "success 200");
    assert_eq!(goal.connections(), 1);
}

#[tokio::test]
async fn a_redirect_to_another_origin_loses_what_was_meant_for_the_first() {
    let (goal, requests) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let start = redirect(307, &format!("http://{}/a?b#c", goal.address));
    let spec = json!({
        "follow_redirects": 2, "host": "first.example",
        "headers": { "Authorization": "Bearer secret", "Cookie": "a=b", "X-Key": "secret" },
    });
    assert_eq!(answer(spec, &start).await, "success 200");
    let request = requests.lock().unwrap()[0].clone();
    assert!(request.starts_with(&format!("GET /a?b HTTP/1.1\r\nHost: {}\r\n", goal.address)));
    for lost in ["secret", "Cookie", "first.example"] {
        assert!(!request.contains(lost), "{request}");
    }
}

#[tokio::test]
async fn credentials_from_a_file_stay_within_the_origin() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cr3t-token\n").unwrap();
    let spec = json!({ "auth": { "bearer_file": file.path() }, "follow_redirects": 2 });
    let (goal, foreign) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let start = redirect(307, &format!("http://{}/", goal.address));
    let (server, own) = Server::recording(start).await;
    assert_eq!(verdict(&ask(&http(spec.clone(), server.endpoint())).await), "success 200");
    assert!(own.lock().unwrap()[0].contains("\r\nAuthorization: Bearer s3cr3t-token\r\n"));
    assert!(!foreign.lock().unwrap()[0].contains("Authorization"));
    let (server, own) = Server::recording(redirect(307, "/next")).await;
    assert_eq!(verdict(&ask(&http(spec, server.endpoint())).await), "failure status 307");
    let own = own.lock().unwrap().clone();
    assert!(own.len() == 3 && own.iter().all(|request| request.contains("Bearer s3cr3t-token")));
}

#[tokio::test]
async fn credentials_that_a_target_sends_back_are_not_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cr3t-token").unwrap();
    let spec = json!({
        "auth": { "basic": { "username": "ops", "password_file": file.path() } },
        "expected_headers": { "X-Echo": { "absent": true } },
    });
    let encoded = "b3BzOnMzY3IzdC10b2tlbg==";
    for echo in [
        format!("HTTP/1.1 500 x\r\n\r\n{}Basic {encoded}", "x".repeat(80)),
        format!("HTTP/1.1 200 x\r\nX-Echo: Basic {encoded}\r\n\r\n"),
        format!("you said Basic {encoded}"),
    ] {
        let text = detail(spec.clone(), echo).await;
        assert!(text.ends_with("Basic (credentials, not shown)"), "{text}");
    }
    let probe = Probe::prepare(&testing::spec(spec.clone())).unwrap();
    assert!(!format!("{probe:?}").contains("s3cr3t"));
    assert_eq!(probe, Probe::prepare(&testing::spec(spec.clone())).unwrap());
    std::fs::write(file.path(), "other").unwrap();
    assert_ne!(probe, Probe::prepare(&testing::spec(spec)).unwrap());
}

#[tokio::test]
async fn a_body_is_not_sent_to_another_origin() {
    let (goal, requests) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let spec = json!({ "method": "POST", "body": "secret", "follow_redirects": 2 });
    let location = format!("http://{}/", goal.address);
    for status in [307, 308] {
        let text = detail(spec.clone(), redirect(status, &location)).await;
        let expected = format!("; not followed: the request's body is not for {location}");
        assert!(text.contains("Redirect; expected 200-299") && text.ends_with(&expected), "{text}");
    }
    assert_eq!(goal.connections(), 0);
    assert_eq!(answer(spec, redirect(302, &location)).await, "success 200");
    let request = requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("GET / ") && !request.contains("secret"), "{request}");
}

#[tokio::test]
async fn a_redirect_within_the_origin_keeps_headers_and_ends_at_its_bound() {
    let (server, requests) = Server::recording(redirect(301, "next")).await;
    let spec = json!({ "follow_redirects": 2, "path": "/a/b", "headers": { "X-Key": "k" } });
    let observation = ask(&http(spec, server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure status 301");
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert!(requests[2].starts_with("GET /a/next HTTP/1.1\r\n"), "{}", requests[2]);
    assert!(requests[2].contains("X-Key: k\r\n"));
}

#[tokio::test]
async fn the_case_of_a_name_makes_no_other_origin_of_it() {
    let server = Server::start(|mut stream| async move {
        let request = read_request(&mut stream).await;
        let port = stream.local_addr().unwrap().port();
        let answer = if request.contains("X-Key: k\r\n") && request.contains("/next ") {
            "HTTP/1.1 200 OK\r\n\r\n".to_owned()
        } else {
            redirect(301, &format!("http://localhost:{port}/next"))
        };
        say_and_close(&mut stream, answer.as_bytes()).await;
    })
    .await;
    let endpoint = Endpoint::new("LocalHost".parse().unwrap(), server.address.port());
    let spec = json!({ "follow_redirects": 1, "headers": { "X-Key": "k" } });
    assert_eq!(verdict(&ask(&http(spec, endpoint)).await), "success 200");
}

#[tokio::test]
async fn a_redirect_that_cannot_be_followed_is_judged_by_itself() {
    for location in ["file:///etc/passwd", "http://user@host/", "http://:80/", "ftp://host/"] {
        let spec = json!({ "follow_redirects": 3 });
        let text = detail(spec, redirect(302, location)).await;
        assert!(text.contains("302 Found; expected 200-299"), "{text}");
        assert!(text.contains("not followed"), "{text}");
    }
    let spec = json!({ "follow_redirects": 3, "expected_status": "302" });
    assert_eq!(answer(spec, redirect(302, "ftp://host/")).await, "success 302");
}

#[tokio::test]
async fn a_loop_of_redirects_ends_with_the_timeout() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        say_and_close(&mut stream, redirect(302, "/again").as_bytes()).await;
    })
    .await;
    let target = http(json!({ "follow_redirects": 255 }), server.endpoint());
    let observation = ask_within(&target, SHORT).await;
    // The deadline strikes wherever the loop is then: mostly in the wait for an answer.
    let told = verdict(&observation);
    let timed_out = ["failure timeout_response", "failure timeout_connect"];
    assert!(timed_out.iter().any(|reason| told.starts_with(reason)), "{observation:?}");
}
