//! What a Consul check asks, in our words.

use std::{fmt::Display, str::FromStr};

use super::{Problem, Reader, check::Written};
use crate::{
    config::{destination, program},
    probe::{Endpoint, Spec, exec, http, parse_url, tls},
};

/// As many as Consul follows.
const REDIRECTS: u8 = 10;

/// The probe and the endpoint that a check asks, by the first of its kinds in the order of
/// preference, which is Consul's. A program has no endpoint.
pub(super) fn spec(
    reader: &mut Reader<'_>,
    written: &Written<'_>,
) -> Option<(Spec, Option<Endpoint>)> {
    let check = written.check;
    let before = [&check.http, &check.tcp, &check.udp, &check.grpc];
    if let Some(args) = &check.args
        && before.iter().all(|kind| kind.is_none())
    {
        let spec = Spec::from(exec::Spec { args: args.clone() });
        let key = written.key(reader, &["args", "script_args"]);
        return program::vet(reader, &spec, key).map(|()| (spec, None));
    }
    let kinds = [
        ("http", &check.http, ""),
        ("tcp", &check.tcp, if check.tcp_use_tls { "tls://" } else { "tcp://" }),
        ("udp", &check.udp, "udp://"),
        ("grpc", &check.grpc, if check.grpc_use_tls { "grpcs://" } else { "grpc://" }),
        (
            "h2ping",
            &check.h2ping,
            if check.h2ping_use_tls == Some(false) { "h2c://" } else { "h2://" },
        ),
    ];
    let (key, url) = kinds
        .into_iter()
        .find_map(|(key, at, scheme)| Some((key, format!("{scheme}{}", at.as_ref()?))))?;
    let (mut spec, endpoint) = noted(reader, written, key, parse_url(&url))?;
    let place = written.place(reader, key);
    destination::vet(reader, &endpoint.host, place);
    if let Spec::Http(spec) = &mut spec {
        complete(reader, written, spec)?;
    }
    if let Some(tls) = spec.tls_mut() {
        verify(reader, written, tls)?;
    }
    Some((spec, Some(endpoint)))
}

/// The value, or a problem at a key of the check.
fn noted<T, E: Display>(
    reader: &mut Reader<'_>,
    written: &Written<'_>,
    key: &str,
    result: Result<T, E>,
) -> Option<T> {
    result
        .map_err(|error| {
            let place = written.place(reader, key);
            reader.report(Problem::error(error.to_string()).at(place, "cannot be used"));
        })
        .ok()
}

/// What an HTTP check says besides its URL.
fn complete(reader: &mut Reader<'_>, written: &Written<'_>, spec: &mut http::Spec) -> Option<()> {
    let check = written.check;
    spec.follow_redirects = if check.disable_redirects { 0 } else { REDIRECTS };
    spec.body = check.body.clone().unwrap_or_default();
    if let Some(method) = check.method.as_deref().filter(|method| !method.is_empty()) {
        spec.method = noted(reader, written, "method", method.parse())?;
    }
    for (name, values) in &check.header {
        if name.eq_ignore_ascii_case("host") {
            spec.host = match values.last() {
                Some(host) => Some(noted(reader, written, "header", host.parse())?),
                None => None,
            };
            continue;
        }
        let name = noted(reader, written, "header", http::HeaderName::from_str(name))?;
        let values: Result<Vec<http::HeaderValue>, _> = values.iter().map(|v| v.parse()).collect();
        spec.headers.insert(name, noted(reader, written, "header", values)?.into());
    }
    Some(())
}

/// How the certificate is checked.
fn verify(reader: &mut Reader<'_>, written: &Written<'_>, tls: &mut tls::Spec) -> Option<()> {
    let check = written.check;
    tls.insecure_skip_verify = check.tls_skip_verify;
    if let Some(name) = check.tls_server_name.as_deref().filter(|name| !name.is_empty()) {
        tls.server_name = Some(noted(reader, written, "tls_server_name", name.parse())?);
    }
    Some(())
}
