//! What checks ask, and where.

use super::*;
use crate::probe::{Form, Spec, http};

/// What a check asks by HTTP, and where.
fn http(json: &str) -> (http::Spec, String) {
    let assigned = check(json).assigned(&naming(), Programs::Refused).unwrap();
    let Spec::Http(spec) = assigned.definition.probe.spec() else { panic!("not by HTTP") };
    (spec, assigned.endpoint.unwrap().to_string())
}

#[test]
fn an_http_check_speaks_as_consul_does() {
    let form = |size: &str| {
        let json = format!("{{\"http\":\"http://a/\",\"interval\":\"1s\"{size}}}");
        http(&json).0.form
    };
    assert_eq!(form(""), Form::Consul { shown: 4096 });
    assert_eq!(form(r#","OutputMaxSize":100"#), Form::Consul { shown: 100 });
    assert_eq!(form(r#","OutputMaxSize":100000"#), Form::Consul { shown: 4096 });
}

#[test]
fn a_user_in_a_url_is_sent_in_a_header_and_shown_nowhere() {
    let definition = |header: &str| {
        let url = r#""http":"http://ops:p%40ss%3Aword@10.0.0.1:80/up?a=1#part""#;
        format!("{{{url},\"interval\":\"1s\",\"header\":{{{header}}}}}")
    };
    let (spec, endpoint) = http(&definition(""));
    assert_eq!((spec.path.as_str(), endpoint.as_str()), ("/up?a=1", "10.0.0.1:80"));
    let mut url = url::Url::parse("http://ops:p%40ss%3Aword@h/").unwrap();
    let auth = http::Auth { user: http::User::take(&mut url), ..http::Auth::default() };
    assert_eq!(spec.auth, Some(auth));
    let shown = format!("{spec:?}");
    assert!(!shown.contains("ops") && !shown.contains("ss"), "{shown}");
    // As in Go, a header that is given goes before it.
    assert_eq!(http(&definition(r#""authorization":["Bearer x"]"#)).0.auth, None);
    assert_eq!(http(r#"{"http":"http://a/#x","interval":"1s"}"#).0.auth, None);
}

#[test]
fn an_address_without_a_host_is_at_this_one() {
    for kind in ["tcp", "udp", "grpc", "h2ping"] {
        let json = format!("{{\"{kind}\":\":8080\",\"interval\":\"1s\"}}");
        let assigned = check(&json).assigned(&naming(), Programs::Refused).unwrap();
        assert_eq!(assigned.endpoint.unwrap().to_string(), "localhost:8080", "{kind}");
    }
    assert_eq!(http(r#"{"http":"http://:80/","interval":"1s"}"#).1, "localhost:80");
    let (spec, endpoint) = http(r#"{"http":"http://a/?b=tcp://:1","interval":"1s"}"#);
    assert_eq!((spec.path.as_str(), endpoint.as_str()), ("/?b=tcp://:1", "a:80"));
}

#[test]
fn an_address_of_a_service_is_any_text() {
    for text in ["fe80::1%eth0", "/run/web.sock", "10.0.0.1:80", "a b"] {
        let service = service(&format!("{{\"Name\":\"web\",\"Address\":\"{text}\"}}"));
        let written = serde_json::to_value(&service).unwrap();
        assert_eq!(written["address"], text);
        assert_eq!(service.endpoint().host.to_string(), text);
    }
    refused::<ServiceDefinition>(
        r#"{"Address":"a\u0007"}"#,
        "Request decode failed: address: an address has at most 512 bytes and no control characters",
    );
}
