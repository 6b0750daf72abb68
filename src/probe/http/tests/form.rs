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
