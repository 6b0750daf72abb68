//! What a busy target wishes, and the ids of traces.

use super::*;

/// How long a target that answers so wants to be left alone.
async fn ask_again(answer: &str) -> Option<Duration> {
    let server = Server::answering(answer).await;
    ask(&http(json!({}), server.endpoint())).await.ask_again
}

#[tokio::test]
async fn a_busy_target_says_when_to_ask_again() {
    let wish = |status: u16, text: &str| {
        format!("HTTP/1.1 {status} Busy\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n")
    };
    let two_minutes = Some(Duration::from_secs(120));
    assert_eq!(ask_again(&wish(429, "120")).await, two_minutes);
    assert_eq!(ask_again(&wish(503, "120")).await, two_minutes);
    let far = ask_again(&wish(503, "Tue, 31 Dec 2999 23:59:59 GMT")).await.unwrap();
    assert!(far > Duration::from_secs(900 * 365 * 24 * 3600), "{far:?}");
    for (status, text) in [(429, "soon"), (503, "-1"), (503, "\u{fc}"), (500, "120"), (200, "120")]
    {
        assert_eq!(ask_again(&wish(status, text)).await, None, "{status} {text}");
    }
}

#[tokio::test]
async fn the_wish_of_the_last_hop_counts() {
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let goal = Server::answering(busy).await;
    let server = Server::answering(redirect(302, &format!("http://{}/", goal.address))).await;
    let observation = ask(&http(json!({ "follow_redirects": 1 }), server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure status 503");
    assert_eq!(observation.ask_again, Some(Duration::from_secs(7)));
}

/// The `traceparent` of a request.
fn traceparent(request: &str) -> Option<&str> {
    request.lines().find_map(|line| line.strip_prefix("traceparent: "))
}

#[tokio::test]
async fn a_failure_tells_the_trace_that_the_target_was_told_of() {
    let long = "HTTP/1.1 500 x\r\n\r\n".to_owned() + &"x".repeat(500);
    let (server, requests) = Server::recording(long).await;
    for (option, flags) in [(json!(true), "00"), (json!("sampled"), "01")] {
        requests.lock().unwrap().clear();
        // A long path: whatever else is cut, the id is not.
        let spec = json!({ "traceparent": option, "path": format!("/{}", "p".repeat(300)) });
        let observation = ask(&http(spec, server.endpoint())).await;
        assert_eq!(verdict(&observation), "failure status 500");
        let request = requests.lock().unwrap()[0].clone();
        let sent: Vec<_> = traceparent(&request).unwrap().split('-').collect();
        let [version, trace, parent, sent_flags] = sent[..] else { panic!("{request}") };
        assert_eq!((version, trace.len(), parent.len(), sent_flags), ("00", 32, 16, flags));
        let detail = observation.detail.unwrap();
        assert!(detail.ends_with(&format!("...; trace {trace}")), "{detail}");
        assert!(request.starts_with("GET /ppp") && request.contains("\r\nHost: 127.0.0.1:"));
    }
    let target = http(json!({ "traceparent": true }), server.endpoint());
    requests.lock().unwrap().clear();
    for _ in 0..2 {
        ask(&target).await;
    }
    let requests = requests.lock().unwrap().clone();
    assert_ne!(traceparent(&requests[0]), traceparent(&requests[1]));
}

#[tokio::test]
async fn a_probe_cut_off_by_its_deadline_tells_its_trace_too() {
    let silent = Server::start(|mut stream| async move { hold(&mut stream).await }).await;
    let target = http(json!({ "traceparent": true }), silent.endpoint());
    let observation = ask_within(&target, SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
    let detail = observation.detail.unwrap();
    assert!(detail.contains("no answer within 150ms; trace "), "{detail}");
}

#[tokio::test]
async fn a_trace_is_not_told_unless_asked_for_nor_to_another_origin() {
    let (goal, foreign) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let start = redirect(302, &format!("http://{}/", goal.address));
    let (server, own) = Server::recording(start).await;
    let spec = json!({ "traceparent": true, "follow_redirects": 1 });
    assert_eq!(verdict(&ask(&http(spec, server.endpoint())).await), "success 200");
    assert!(traceparent(&own.lock().unwrap()[0]).is_some());
    assert_eq!(traceparent(&foreign.lock().unwrap()[0]), None);
    ask(&http(json!({}), server.endpoint())).await;
    assert_eq!(traceparent(&own.lock().unwrap()[1]), None);
    let both = json!({ "traceparent": true, "headers": { "Traceparent": "00" } });
    let error = Probe::prepare(&testing::spec(both)).unwrap_err().to_string();
    assert_eq!(error, "both `traceparent` and `headers` set traceparent; remove one");
}
