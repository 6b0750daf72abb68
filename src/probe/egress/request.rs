//! What an HTTP request may say that is made for somebody else: its method and its headers. Pure.
//!
//! An address is not all that protects a service from strangers. Many change something when they are
//! asked by another method than GET, and the metadata services of clouds tell a program that was
//! meant to ask from one that was made to by a header which a browser, or a health check, does not
//! send. So whoever may only register checks may have neither of them sent.

use url::Host;

use super::Policy;
use crate::probe::{Probe, http::Method};

/// What headers that open metadata services begin with, in lower case: those of Azure and Google
/// (`Metadata`, `Metadata-Flavor`, `X-Google-Metadata-Request`), and of AWS.
const OPENERS: [&str; 3] = ["metadata", "x-google-metadata", "x-aws-ec2-metadata-token"];

/// Names by which metadata services are asked, besides their addresses.
const METADATA: [&str; 5] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
];

/// What requests may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    methods: Vec<Method>,
}

/// What of a request is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// What its `Host` header says, if not who is asked.
    pub host: Option<&'a str>,
}

/// Why a request is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Improper {
    /// Its method.
    #[error(
        "checks registered through the API may not use the method {0}; `egress.api.methods` lists \
         those that they may use"
    )]
    Method(String),
    /// One of its headers.
    #[error(
        "checks registered through the API may not send the header `{0}`: it opens the metadata \
         services of clouds"
    )]
    Header(String),
    /// Who is named in its `Host` header.
    #[error("checks registered through the API may not ask for the host `{0}`")]
    Host(String),
}

impl Terms {
    /// These methods, or those that only ask.
    pub(super) fn new(methods: Option<&[Method]>) -> Self {
        let asking = || ["GET", "HEAD"].iter().filter_map(|name| name.parse().ok()).collect();
        Self { methods: methods.map_or_else(asking, <[_]>::to_vec) }
    }
}

impl Policy {
    /// Whether a request may be made that sends headers of these names.
    pub fn vet_request<'a>(
        &self,
        asked: Asked<'_>,
        mut headers: impl Iterator<Item = &'a str>,
    ) -> Result<(), Improper> {
        let Some(terms) = &self.requests else { return Ok(()) };
        if !terms.methods.contains(asked.method) {
            return Err(Improper::Method(asked.method.as_str().to_owned()));
        }
        let opens = |name: &&str| {
            let name = name.to_ascii_lowercase();
            OPENERS.iter().any(|opener| name.starts_with(opener))
        };
        if let Some(name) = headers.find(opens) {
            return Err(Improper::Header(name.to_owned()));
        }
        match asked.host {
            Some(host) if self.denies_name(host) => Err(Improper::Host(host.to_owned())),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a host with or without a port stands for a metadata service, or is a literal of an
    /// address that probes may not go to, in any spelling.
    fn denies_name(&self, host: &str) -> bool {
        let authority = host.parse::<::http::uri::Authority>();
        let name = authority.as_ref().map_or(host, |authority| authority.host());
        match Host::parse(name) {
            Ok(Host::Ipv4(ip)) => self.vet(ip.into()).is_err(),
            Ok(Host::Ipv6(ip)) => self.vet(ip.into()).is_err(),
            Ok(Host::Domain(name)) => METADATA.contains(&name.trim_end_matches('.')),
            Err(_) => false,
        }
    }
}

impl Probe {
    /// Whether what it says may be said under this policy, wherever it goes.
    pub fn is_proper(&self, policy: &Policy) -> Result<(), Improper> {
        self.http().map_or(Ok(()), |spec| spec.is_proper(policy))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(api: &Value) -> Policy {
        Policy::for_api(&serde_json::from_value(json!({ "api": api })).unwrap())
    }

    fn vet(policy: &Policy, method: &str, host: Option<&str>, headers: &[&str]) -> String {
        let method = method.parse().unwrap();
        match policy.vet_request(Asked { method: &method, host }, headers.iter().copied()) {
            Ok(()) => "may".to_owned(),
            Err(Improper::Method(method)) => format!("method {method}"),
            Err(Improper::Header(name)) => format!("header {name}"),
            Err(Improper::Host(host)) => format!("host {host}"),
        }
    }

    #[test]
    fn who_registers_checks_may_ask_and_no_more() {
        let policy = policy(&json!({}));
        assert_eq!(vet(&policy, "GET", None, &["Accept", "X-Meta"]), "may");
        assert_eq!(vet(&policy, "head", Some("shop.example:8080"), &[]), "may");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"] {
            assert_eq!(vet(&policy, method, None, &[]), format!("method {method}"));
        }
        for header in
            ["Metadata", "metadata-flavor", "X-AWS-EC2-Metadata-Token-TTL-Seconds", "METADATA-x"]
        {
            assert_eq!(vet(&policy, "GET", None, &["A", header]), format!("header {header}"));
        }
    }

    #[test]
    fn the_host_that_is_asked_for_is_judged_as_an_address_is() {
        let policy = policy(&json!({ "deny": ["10.0.0.0/8"] }));
        for host in [
            "169.254.169.254",
            "169.254.169.254:80",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "[::ffff:169.254.169.254]:80",
            "10.1.2.3",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "instance-data:80",
        ] {
            assert_eq!(vet(&policy, "GET", Some(host), &[]), format!("host {host}"));
        }
        for host in ["11.0.0.1", "[2001:db8::1]:443", "metadata.shop.example", "shop.example"] {
            assert_eq!(vet(&policy, "GET", Some(host), &[]), "may", "{host}");
        }
    }

    #[test]
    fn the_configuration_says_which_methods_and_its_own_checks_are_free() {
        let policy = policy(&json!({ "methods": ["get", "POST"] }));
        assert_eq!(vet(&policy, "POST", None, &[]), "may");
        assert_eq!(vet(&policy, "HEAD", None, &[]), "method HEAD");
        let own = Policy::new(&super::super::Config::default());
        assert_eq!(vet(&own, "DELETE", Some("169.254.169.254"), &["Metadata"]), "may");
    }
}
