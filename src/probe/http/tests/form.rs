//! Checks in Consul's form.

use super::*;

const CONSULS: Form = Form::Consul { shown: 4096 };

fn consul(json: Value, endpoint: Endpoint) -> Target {
    let spec = Spec { form: CONSULS, ..testing::spec(json) };
    target(&AnySpec::Http(spec), endpoint)
}

#[tokio::test]
async fn a_request_in_consuls_form_says_of_itself_what_consul_says() {
    let (server, requests) = Server::recording("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = server.address.port().to_string();
    ask(&consul(json!({}), server.endpoint())).await;
    let given = json!({ "headers": { "user-agent": "me", "ACCEPT": "a/b" } });
    ask(&consul(given, server.endpoint())).await;
    let requests = requests.lock().unwrap().join("").replace(&port, "PORT");
    assert_eq!(
        requests,
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nUser-Agent: Consul Health Check\r\n\
         Accept: text/plain, text/*, */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n\
         GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAccept-Encoding: identity\r\n\
         Connection: close\r\nACCEPT: a/b\r\nuser-agent: me\r\n\r\n"
    );
}

#[tokio::test]
async fn a_user_of_a_url_is_sent_and_not_shown() {
    let (server, requests) = Server::recording("HTTP/1.1 500 x\r\n\r\nas b3BzOnNlc2FtZSE=").await;
    let mut url = Url::parse("http://ops:sesame%21@h/").unwrap();
    let auth = Auth { user: User::take(&mut url), ..Auth::default() };
    assert_eq!(url.as_str(), "http://h/");
    let spec = Spec { form: CONSULS, auth: Some(auth), ..Spec::default() };
    let observation = ask(&target(&AnySpec::Http(spec), server.endpoint())).await;
    let sent = requests.lock().unwrap().join("");
    assert!(sent.contains("\r\nAuthorization: Basic b3BzOnNlc2FtZSE=\r\n"), "{sent}");
    let detail = observation.detail.unwrap();
    assert!(detail.ends_with("(credentials, not shown)"), "{detail}");
}

/// What is shown of an answer, be it a success or not.
async fn shown(shown: u16, json: Value, answer: impl AsRef<[u8]>) -> String {
    let server = Server::answering(answer).await;
    let spec = Spec { form: Form::Consul { shown }, ..testing::spec(json) };
    let target = target(&AnySpec::Http(spec), server.endpoint());
    let Observation { outcome, answer, detail, .. } = ask(&target).await;
    let text = match outcome {
        Outcome::Success => target.success(answer, detail.as_deref()),
        Outcome::Warning(_) | Outcome::Failure(_) | Outcome::Inconclusive(_) => {
            detail.unwrap().into()
        }
    };
    text.replace(&server.address.port().to_string(), "PORT")
}

#[tokio::test]
async fn an_answer_is_shown_as_consul_shows_it_with_its_end() {
    let at = "http://127.0.0.1:PORT/";
    let path = json!({ "path": "/" });
    let ok = "HTTP/1.1 200 OK\r\n\r\n{\"db\":\r\n \"l\u{e4}uft\"}\u{7}";
    assert_eq!(
        shown(4096, path.clone(), ok).await,
        format!("HTTP GET {at}: 200 OK Output: {{\"db\":\n \"l\u{e4}uft\"}}?")
    );
    assert_eq!(shown(3, path.clone(), ok).await, format!("HTTP GET {at}: 200 OK Output: \"}}?"));
    let empty = "HTTP/1.1 204 x\r\n\r\n";
    assert_eq!(
        shown(4096, path.clone(), empty).await,
        format!("HTTP GET {at}: 204 No Content Output: ")
    );
    let long = format!("HTTP/1.1 500 x\r\n\r\n{}end", "x".repeat(10_000));
    assert_eq!(
        shown(4096, path.clone(), long).await,
        format!("HTTP GET {at}: 500 Internal Server Error Output: {}end", "x".repeat(4093))
    );
    let busy = "HTTP/1.1 429 x\r\n\r\nlater";
    assert_eq!(
        shown(4096, path.clone(), busy).await,
        format!("HTTP GET {at}: 429 Too Many Requests Output: later")
    );
    let moved = format!("{}moved", redirect(302, "/").replace(": 0", ": 5"));
    assert_eq!(
        shown(4096, json!({ "follow_redirects": 1 }), moved).await,
        format!("HTTP GET {at}: 302 Found; after the last allowed redirect, to {at} Output: moved")
    );
    let broken = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    assert_eq!(
        shown(4096, path, broken).await,
        format!("GET {at}: the target closed the connection 4 bytes into the body")
    );
}

#[tokio::test]
async fn a_body_that_shows_credentials_is_shown_up_to_there() {
    let mut url = Url::parse("http://ops:sesame%21@h/").unwrap();
    let auth = Auth { user: User::take(&mut url), ..Auth::default() };
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\nwelcome ops:sesame! again").await;
    let spec = Spec { form: CONSULS, auth: Some(auth), ..Spec::default() };
    let observation = ask(&target(&AnySpec::Http(spec), server.endpoint())).await;
    assert_eq!(observation.detail.as_deref(), Some("welcome ops:(credentials, not shown)"));
}
