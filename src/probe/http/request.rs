//! Renders requests.

use std::{collections::BTreeMap, io::Write};

use super::{HeaderName, HeaderValues, auth::Credentials};
use crate::probe::{endpoint::Endpoint, url::Scheme};

/// The headers of the configuration.
pub(super) type Headers = BTreeMap<HeaderName, HeaderValues>;

/// What goes round the `Host` header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: Option<&'a Headers>,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) body: &'a str,
}

impl Request<'_> {
    /// All before the host.
    pub(super) fn before_host(&self) -> Vec<u8> {
        format!("{} {} HTTP/1.1\r\nHost: ", self.method, self.path).into_bytes()
    }

    /// All after the host, to the last byte of the body.
    pub(super) fn after_host(&self) -> Vec<u8> {
        const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));
        let mut text = String::from("\r\n");
        let mut header = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
        };
        for (name, value) in [("User-Agent", AGENT), ("Accept", "*/*")] {
            if !self.headers.is_some_and(|headers| is_given(headers, name)) {
                header(name, value);
            }
        }
        header("Accept-Encoding", "identity");
        header("Connection", "close");
        for (name, values) in self.headers.into_iter().flatten() {
            for value in values.iter() {
                header(name.as_str(), value.as_str());
            }
        }
        if let Some(credentials) = self.credentials {
            header("Authorization", credentials.header());
        }
        // RFC 9110, 8.6: a method that gives a body a meaning says so also when it is empty.
        if !self.body.is_empty() || matches!(self.method, "POST" | "PUT" | "PATCH") {
            header("Content-Length", &self.body.len().to_string());
        }
        text.push_str("\r\n");
        text.push_str(self.body);
        text.into_bytes()
    }
}

/// Whether the configuration has a header, in any case.
pub(super) fn is_given(headers: &Headers, name: &str) -> bool {
    headers.keys().any(|given| given.as_str().eq_ignore_ascii_case(name))
}

/// Writes a host as a `Host` header has it.
pub(super) fn write_host(endpoint: &Endpoint, scheme: Scheme, out: &mut Vec<u8>) {
    write!(out, "{}", scheme.authority(endpoint)).expect("a Vec takes every write");
}
