//! The parts of a request a configuration may set, checked when it is read: nothing here can break
//! out of its place in the request.

use std::{fmt, str::FromStr};

use serde::de;

/// Headers that `rollcall` sets itself, or that would change how a connection is read.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An HTTP method, as `GET` or `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Method(http::Method);

/// The path of a request with its query, as `/healthz?full=1`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Path(Box<str>);

/// The name of a request header, in any case.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct HeaderName(Box<str>);

/// The value of a header: visible ASCII and blanks.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct HeaderValue(Box<str>);

/// The values of a header: one text, or a list of texts that are sent as one header each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValues(Box<[HeaderValue]>);

/// The host a request asks for, as `shop.example` or `shop.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Authority(Box<str>);

/// A text that cannot be used in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a method, or one that makes no sense here.
    #[error("`{0}` is not a method a probe can use; write GET, HEAD, POST …")]
    Method(String),
    /// A path without its first slash.
    #[error("the path must start with `/`")]
    PathStart,
    /// A path with a byte that must be percent-encoded.
    #[error("the path holds {0:?}, which must be percent-encoded (a `#` has no place in it)")]
    PathByte(char),
    /// Not a header name.
    #[error("`{0}` is not a header name")]
    Name(String),
    /// Not a host with or without a port.
    #[error("`{0}` is not a host; write shop.example or shop.example:8443")]
    Authority(String),
    /// The host has its own field.
    #[error("set the host with the field `host`, not as a header")]
    Host,
    /// A header that `rollcall` sets itself.
    #[error("the header `{0}` is set by rollcall itself; leave it out")]
    Reserved(String),
    /// A value that would break the request.
    #[error("the value holds {0:?}; headers are visible ASCII and blanks")]
    Value(char),
}

impl Method {
    /// The method as it is sent.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn is_head(&self) -> bool {
        self.0 == http::Method::HEAD
    }
}

/// GET.
impl Default for Method {
    fn default() -> Self {
        Self(http::Method::GET)
    }
}

impl FromStr for Method {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refused = || FieldError::Method(text.chars().take(32).collect());
        let known = http::Method::from_bytes(text.to_ascii_uppercase().as_bytes());
        let method = known.map_err(|_| refused())?;
        // A tunnel is not an answer, and `PRI` would be taken for HTTP/2.
        if method == http::Method::CONNECT || method.as_str() == "PRI" {
            return Err(refused());
        }
        Ok(Self(method))
    }
}

impl Path {
    /// The path and query as they are sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `/`.
impl Default for Path {
    fn default() -> Self {
        Self("/".into())
    }
}

impl FromStr for Path {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        if !text.starts_with('/') {
            return Err(FieldError::PathStart);
        }
        match text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            Some(character) => Err(FieldError::PathByte(character)),
            None => Ok(Self(text.into())),
        }
    }
}

impl HeaderName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let shown = || text.chars().take(32).collect::<String>();
        let lower =
            http::HeaderName::from_bytes(text.as_bytes()).map_err(|_| FieldError::Name(shown()))?;
        if lower == http::header::HOST {
            return Err(FieldError::Host);
        }
        if RESERVED.contains(&lower.as_str()) {
            return Err(FieldError::Reserved(shown()));
        }
        Ok(Self(text.into()))
    }
}

impl HeaderValue {
    /// The value as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text.chars().find(|c| !matches!(c, ' '..='~')) {
            Some(character) => Err(FieldError::Value(character)),
            None => Ok(Self(text.into())),
        }
    }
}

/// Values may be secrets.
impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderValue(..)")
    }
}

impl Authority {
    /// The host as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Authority {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text.parse::<http::uri::Authority>() {
            Ok(authority) if !authority.host().is_empty() && !text.contains('@') => {
                Ok(Self(text.into()))
            }
            Ok(_) | Err(_) => Err(FieldError::Authority(text.chars().take(64).collect())),
        }
    }
}

impl HeaderValues {
    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter()
    }
}

impl From<HeaderValue> for HeaderValues {
    fn from(value: HeaderValue) -> Self {
        Self(Box::new([value]))
    }
}

impl From<Vec<HeaderValue>> for HeaderValues {
    fn from(values: Vec<HeaderValue>) -> Self {
        Self(values.into())
    }
}

macro_rules! try_from_string {
    ($($name:ident)+) => { $(
        impl TryFrom<String> for $name {
            type Error = FieldError;

            fn try_from(text: String) -> Result<Self, FieldError> {
                text.parse()
            }
        }
    )+ };
}

try_from_string! { Method Path HeaderName HeaderValue Authority }

impl<'de> de::Deserialize<'de> for HeaderValues {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> de::Visitor<'de> for OneOrMany {
    type Value = HeaderValues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header's value as text, or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderValues, E> {
        text.parse::<HeaderValue>().map(HeaderValues::from).map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<HeaderValues, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element::<HeaderValue>()? {
            values.push(value);
        }
        Ok(values.into())
    }
}

impl schemars::JsonSchema for HeaderValues {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HeaderValues".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" } },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_request_is_refused() {
        assert_eq!("CONNECT".parse::<Method>(), Err(FieldError::Method("CONNECT".into())));
        assert_eq!("GET /".parse::<Method>(), Err(FieldError::Method("GET /".into())));
        assert_eq!("get".parse::<Method>(), Ok(Method::default()));
        assert_eq!("healthz".parse::<Path>(), Err(FieldError::PathStart));
        assert_eq!("/a b".parse::<Path>(), Err(FieldError::PathByte(' ')));
        assert_eq!("/a\r\nX: y".parse::<Path>(), Err(FieldError::PathByte('\r')));
        assert_eq!("X\r\nY".parse::<HeaderName>(), Err(FieldError::Name("X\r\nY".into())));
        assert_eq!("hOST".parse::<HeaderName>(), Err(FieldError::Host));
        assert_eq!(
            "Content-Length".parse::<HeaderName>(),
            Err(FieldError::Reserved("Content-Length".into()))
        );
        assert_eq!("a@b".parse::<Authority>(), Err(FieldError::Authority("a@b".into())));
        assert_eq!("a\nb".parse::<HeaderValue>(), Err(FieldError::Value('\n')));
    }
}
