//! URLs: of HTTP checks, of redirects, and what all short forms of a check have in common.

use std::{fmt, str::FromStr};

use url::Url;

use super::{
    endpoint::{Endpoint, Host, HostError},
    http,
};

/// Whether HTTP goes over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// An `http:` or `https:` URL without user, password and fragment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct HttpUrl {
    pub(super) scheme: Scheme,
    pub(super) endpoint: Endpoint,
    pub(super) path: http::Path,
}

/// An endpoint as in a URL or a `Host` header: without the scheme's own port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authority<'a> {
    scheme: Scheme,
    endpoint: &'a Endpoint,
}

/// A URL that cannot be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("not a URL: {0}; write for example http://10.0.0.1:8080/healthz")]
    Syntax(String),
    /// A scheme no probe has.
    #[error("`{0}:` cannot be probed; use {known}", known = super::short::SCHEMES)]
    Scheme(String),
    /// A scheme of another protocol.
    #[error("the URL must start with http:// or https://")]
    NotHttp,
    /// A user or password.
    #[error("the URL holds a user name or password; send an Authorization header instead")]
    Userinfo,
    /// A fragment, which is never sent.
    #[error("the URL holds a `#` fragment, which is never sent; remove it")]
    Fragment,
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// A host that cannot be probed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No port.
    #[error("the URL needs a port from 1 to 65535, as in tcp://10.0.0.1:6379")]
    Port,
    /// A path where there is none to ask for.
    #[error("a URL of this scheme ends after its port")]
    Path,
    /// A part that a URL of this scheme lacks or cannot have.
    #[error("{0}")]
    Part(String),
    /// A path with a character that cannot be sent.
    #[error("the URL's path cannot be sent")]
    BadPath(#[from] http::FieldError),
}

/// Reads a URL, whatever its scheme.
pub(super) fn parse(text: &str) -> Result<Url, UrlError> {
    Url::parse(text).map_err(|error| UrlError::Syntax(error.to_string()))
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    pub(super) fn authority(self, endpoint: &Endpoint) -> Authority<'_> {
        Authority { scheme: self, endpoint }
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.endpoint.port == self.scheme.default_port() {
            write!(f, "{}", self.endpoint.host)
        } else {
            write!(f, "{}", self.endpoint)
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.scheme.authority(&self.endpoint);
        write!(f, "{}://{authority}{}", self.scheme.as_str(), self.path.as_str())
    }
}

impl TryFrom<&Url> for HttpUrl {
    type Error = UrlError;

    fn try_from(url: &Url) -> Result<Self, UrlError> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::NotHttp),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()).parse()?,
            None => url.path().parse()?,
        };
        Ok(Self { scheme, endpoint: endpoint(url)?, path })
    }
}

impl FromStr for HttpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::try_from(&parse(text)?)
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

/// The endpoint a URL names, if it names nothing it should not.
pub(super) fn endpoint(url: &Url) -> Result<Endpoint, UrlError> {
    let port = url.port_or_known_default().filter(|port| *port > 0);
    Ok(Endpoint { host: host(url)?, port: port.ok_or(UrlError::Port)? })
}

/// As [`endpoint`], with the port that a URL of this scheme has where it names none.
pub(super) fn endpoint_or(url: &Url, default: u16) -> Result<Endpoint, UrlError> {
    if url.port() == Some(0) {
        return Err(UrlError::Port);
    }
    Ok(Endpoint { host: host(url)?, port: url.port().unwrap_or(default) })
}

/// The host a URL names, if it names nothing it should not.
pub(super) fn host(url: &Url) -> Result<Host, UrlError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Userinfo);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(UrlError::NoHost)?;
    Ok(host.parse()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::probe::{Probe, Target, parse_url};

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match parse_url(text) {
            Ok((spec, endpoint)) => {
                Target::new(Arc::new(Probe::prepare(&spec).unwrap()), endpoint).url()
            }
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn every_kind_of_check_has_a_short_form() {
        check("http://10.0.0.1:8080/healthz?a=1", "http://10.0.0.1:8080/healthz?a=1");
        check("https://Shop.example", "https://shop.example/");
        check("http://[::1]/", "http://[::1]/");
        check("tcp://db:6379", "db:6379");
        check("tls://[::1]:6380/", "[::1]:6380");
        check("grpc://10.0.0.1:50051/shop.v1.Cart", "10.0.0.1:50051/shop.v1.Cart");
        check("grpcs://cart:443", "cart:443");
        check("udp://10.0.0.1:53", "10.0.0.1:53");
        check("h2://web:443/", "web:443");
        check("h2c://[::1]:8080", "[::1]:8080");
        check("dns://[::1]/example.org", "[::1]:53/example.org.?type=A");
        check("etcd://[::1]", "[::1]:2379");
        check("etcds://db:2380/", "db:2380");
        check("etcd://db/v3", "Path");
        check("icmp://gw.example", "gw.example");
        check("icmp://gw/x", "Path");
    }

    #[test]
    fn a_url_that_hides_something_is_refused() {
        check("http://0xa9fea9fe/", "http://169.254.169.254/");
        check("tcp://2852039166:80", "Host(Number(\"2852039166\"))");
        check("http://user:secret@host/", "Userinfo");
        check("http://host/#part", "Fragment");
        check("http://host:0/", "Port");
        check("tcp://host", "Port");
        check("tcp://host:1/path", "Path");
        check("udp://host:1/path", "Path");
        check("h2c://host:1/path", "Path");
        check("h2://host", "Port");
        check("file:///etc/passwd", "Scheme(\"file\")");
        check("host:80", "Scheme(\"host\")");
        check("10.0.0.1:80", "Syntax(\"relative URL without a base\")");
    }
}
