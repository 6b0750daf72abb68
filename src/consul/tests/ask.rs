//! What checks ask, and where.

use super::*;
use crate::probe::{Spec, http};

/// What a check asks by HTTP, and where.
fn http(json: &str) -> (http::Spec, String) {
    let assigned = check(json).assigned(&naming(), Programs::Refused).unwrap();
    let Spec::Http(spec) = assigned.definition.probe.spec() else { panic!("not by HTTP") };
    (spec, assigned.endpoint.unwrap().to_string())
}

#[test]
fn an_http_check_speaks_as_consul_does() {
    assert_eq!(http(r#"{"http":"http://a/","interval":"1s"}"#).0.form, http::Form::Consul);
}
