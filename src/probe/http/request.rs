//! Renders requests, as bytes for HTTP/1.1 and as fields for HTTP/2.

use std::{collections::BTreeMap, io::Write, net::IpAddr};

use super::{
    Authority, HeaderName, HeaderValues, auth::Credentials, body::After, traceparent::Ids,
};
use crate::probe::{
    endpoint::{Endpoint, Host},
    form::Form,
    url::Scheme,
};

/// The headers of the configuration.
pub(super) type Headers = BTreeMap<HeaderName, HeaderValues>;

/// A request, but for whom it goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// The host to ask for; else the one that is asked.
    pub(super) host: Option<&'a Authority>,
    pub(super) headers: Option<&'a Headers>,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) body: &'a str,
    pub(super) after: After,
    pub(super) form: Form,
}

impl Request<'_> {
    /// All before the host.
    pub(super) fn before_host(&self) -> Vec<u8> {
        format!("{} {} HTTP/1.1\r\nHost: ", self.method, self.path).into_bytes()
    }

    /// All after the host, to the last byte of the body, but for the trace's ids.
    pub(super) fn after_host(&self) -> Vec<u8> {
        let mut text = String::from("\r\n");
        self.each_header(|name, value| {
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
        });
        text.push_str("\r\n");
        text.push_str(self.body);
        text.into_bytes()
    }

    /// The whole, as HTTP/1.1 has it.
    pub(super) fn write(&self, place: Place<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before_host());
        write_host(self.host, place, out);
        out.extend_from_slice(&self.after_host());
    }

    /// The head, as HTTP/2 has it. An error is a path that cannot be sent so.
    pub(super) fn fields(&self, place: Place<'_>) -> Result<http::Request<()>, http::Error> {
        let authority = match self.host {
            Some(host) => host.as_str().to_owned(),
            None => place.scheme.authority(place.endpoint).to_string(),
        };
        let uri = http::Uri::builder()
            .scheme(place.scheme.as_str())
            .authority(authority)
            .path_and_query(self.path)
            .build()?;
        let mut request = http::Request::builder().method(self.method).uri(uri);
        let mut add = |name: &str, value: &str| {
            let fields = std::mem::take(&mut request);
            request = fields.header(name, value);
        };
        self.each_header(|name, value| {
            // HTTP/2 has frames for this.
            if name != "Connection" {
                add(name, value);
            }
        });
        if let Some(ids) = place.ids {
            add("traceparent", &ids.header());
        }
        let mut request = request.body(())?;
        if let Some(credentials) = request.headers_mut().get_mut(http::header::AUTHORIZATION) {
            // Not to be put into the table of a compression whose size tells what is in it.
            credentials.set_sensitive(true);
        }
        Ok(request)
    }

    fn each_header(&self, mut header: impl FnMut(&str, &str)) {
        for (name, value) in self.form.headers() {
            if !self.headers.is_some_and(|headers| is_given(headers, name)) {
                header(name, value);
            }
        }
        header("Accept-Encoding", "identity");
        if self.after == After::Close {
            header("Connection", "close");
        }
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
    }
}

/// Where a request goes, and the ids of its trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) scheme: Scheme,
    pub(super) endpoint: &'a Endpoint,
    pub(super) ids: Option<&'a Ids>,
}

/// Whether the configuration has a header, in any case.
pub(super) fn is_given(headers: &Headers, name: &str) -> bool {
    headers.keys().any(|given| given.as_str().eq_ignore_ascii_case(name))
}

/// Writes who is asked. Most are IPv4 addresses, and formatting one costs as much as all the rest of
/// a request; these are written digit by digit.
fn write_authority(place: Place<'_>, out: &mut Vec<u8>) {
    let Endpoint { host: Host::Ip(IpAddr::V4(ip)), port } = place.endpoint else {
        return write!(out, "{}", place.scheme.authority(place.endpoint))
            .expect("a Vec takes every write");
    };
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write_number(octet.into(), out);
    }
    if *port != place.scheme.default_port() {
        out.push(b':');
        write_number(*port, out);
    }
}

fn write_number(number: u16, out: &mut Vec<u8>) {
    if number >= 10 {
        write_number(number / 10, out);
    }
    out.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
}

/// Writes a host as a `Host` header has it, and the ids of the trace in the next line.
pub(super) fn write_host(host: Option<&Authority>, place: Place<'_>, out: &mut Vec<u8>) {
    match host {
        Some(host) => out.extend_from_slice(host.as_str().as_bytes()),
        None => write_authority(place, out),
    }
    if let Some(ids) = place.ids {
        out.extend_from_slice(b"\r\ntraceparent: ");
        out.extend_from_slice(ids.header().as_bytes());
    }
}
