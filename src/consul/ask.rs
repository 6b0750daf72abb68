//! What a check asks, in our words.

use std::{fmt::Display, str::FromStr};

use url::Url;

use super::{CheckDefinition, Invalid, Kind};
use crate::probe::{Endpoint, Spec, egress::Origin, exec, http, parse_url, tls};

/// As many as Consul follows.
const REDIRECTS: u8 = 10;

/// As many as are followed for whoever may only register checks: enough for a path without its slash,
/// another host and TLS, and too few to be led about.
const REDIRECTS_FOR_API: u8 = 3;

/// The probe and the endpoint that a check of this kind asks; nothing if its kind asks nobody. A
/// program has no endpoint.
pub(super) fn asked(
    check: &CheckDefinition,
    kind: Kind,
    origin: Origin,
) -> Result<Option<(Spec, Option<Endpoint>)>, Invalid> {
    if kind == Kind::Script {
        return Ok(Some((exec::Spec { args: check.args.clone() }.into(), None)));
    }
    let (address, scheme) = match kind {
        Kind::Http => (&check.http, ""),
        Kind::Tcp if check.tcp_use_tls => (&check.tcp, "tls://"),
        Kind::Tcp => (&check.tcp, "tcp://"),
        Kind::Udp => (&check.udp, "udp://"),
        Kind::Grpc if check.grpc_use_tls => (&check.grpc, "grpcs://"),
        Kind::Grpc => (&check.grpc, "grpc://"),
        Kind::H2ping if check.h2ping_use_tls == Some(false) => (&check.h2ping, "h2c://"),
        Kind::H2ping => (&check.h2ping, "h2://"),
        Kind::Ttl | Kind::Docker | Kind::OsService | Kind::Script | Kind::Alias => (&None, ""),
    };
    let Some(address) = address else { return Ok(None) };
    let Address { url, user } = Address::read(scheme, address);
    let (mut spec, endpoint) = named(kind.as_str(), parse_url(&url))?;
    spec.speak_as(check.form());
    if let Spec::Http(spec) = &mut spec {
        complete(check, origin, spec)?;
        let is_given = check.header.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
        let user = user.filter(|_| !is_given);
        spec.auth = user.map(|user| http::Auth { user: Some(user), ..http::Auth::default() });
    }
    if let Some(tls) = spec.tls_mut() {
        verify(check, tls)?;
    }
    Ok(Some((spec, Some(endpoint))))
}

/// Where a check asks, as our URLs say it.
struct Address {
    url: String,
    /// Who it says it is, which is sent in a header.
    user: Option<http::User>,
}

impl Address {
    /// What Go makes of it: without a host it is this one, and a fragment is not sent.
    fn read(scheme: &str, address: &str) -> Self {
        let full = format!("{scheme}{address}");
        let url = match full.split_once("://") {
            Some((scheme, rest)) if rest.starts_with(':') => format!("{scheme}://localhost{rest}"),
            Some(_) | None => full,
        };
        if !scheme.is_empty() || !url.contains(['@', '#']) {
            return Self { url, user: None };
        }
        let Ok(mut parsed) = Url::parse(&url) else { return Self { url, user: None } };
        parsed.set_fragment(None);
        let user = http::User::take(&mut parsed);
        Self { url: parsed.into(), user }
    }
}

/// The value, or what is wrong with a field.
fn named<T, E: Display>(field: &'static str, result: Result<T, E>) -> Result<T, Invalid> {
    result.map_err(|error| Invalid::new(field, error.to_string(), "cannot be used"))
}

/// What an HTTP check says besides its URL.
fn complete(check: &CheckDefinition, origin: Origin, spec: &mut http::Spec) -> Result<(), Invalid> {
    spec.follow_redirects = match origin {
        _ if check.disable_redirects => 0,
        Origin::Configuration => REDIRECTS,
        Origin::Api => REDIRECTS_FOR_API,
    };
    spec.body = check.body.clone().unwrap_or_default();
    if let Some(method) = &check.method {
        spec.method = named("method", method.parse())?;
    }
    for (name, values) in &check.header {
        if name.eq_ignore_ascii_case("host") {
            let host = values.last().map(|host| named("header", host.parse()));
            spec.host = host.transpose()?;
            continue;
        }
        let name = named("header", http::HeaderName::from_str(name))?;
        let values: Result<Vec<http::HeaderValue>, _> = values.iter().map(|v| v.parse()).collect();
        spec.headers.insert(name, named("header", values)?.into());
    }
    Ok(())
}

/// How the certificate is checked.
fn verify(check: &CheckDefinition, tls: &mut tls::Spec) -> Result<(), Invalid> {
    tls.insecure_skip_verify = check.tls_skip_verify;
    if let Some(name) = &check.tls_server_name {
        tls.server_name = Some(named("tls_server_name", name.parse())?);
    }
    Ok(())
}
