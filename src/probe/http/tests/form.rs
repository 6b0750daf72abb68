//! Checks in Consul's form.

use super::*;

fn consul(json: Value, endpoint: Endpoint) -> Target {
    let spec = Spec { form: Form::Consul, ..testing::spec(json) };
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
    let spec = Spec { form: Form::Consul, auth: Some(auth), ..Spec::default() };
    let observation = ask(&target(&AnySpec::Http(spec), server.endpoint())).await;
    let sent = requests.lock().unwrap().join("");
    assert!(sent.contains("\r\nAuthorization: Basic b3BzOnNlc2FtZSE=\r\n"), "{sent}");
    let detail = observation.detail.unwrap();
    assert!(detail.ends_with("(credentials, not shown)"), "{detail}");
}
