//! What headers of an answer are expected to say.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::de;

use super::FieldError;
use crate::probe::{
    fault::printable,
    pattern::{Pattern, contains},
};

/// Most bytes of a header's value, or of what it was expected to be, that are shown.
const SHOWN: usize = 60;

/// What is expected of an answer's headers.
pub(super) type ExpectedHeaders = BTreeMap<AnswerHeader, HeaderExpectation>;

/// The name of a header of an answer, in any case.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct AnswerHeader(Box<str>);

/// What the value of a header must be; where the header comes more than once, one of its values.
/// Exactly one of the keys is given.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderExpectation {
    /// This text, in this case.
    Equals(Box<str>),
    /// A value with this text in it.
    Contains(Box<str>),
    /// A value in which this is found.
    Matches(Pattern),
    /// No such header at all.
    Absent,
}

/// What a header of the answer must be; where it comes more than once, one of its values must. One
/// of these keys is given, and only one.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "HeaderExpectation")]
pub(super) struct Written {
    /// The whole value, in this case; a text in place of the mapping means the same. Default: none.
    equals: Option<String>,
    /// Text that the value must contain. Default: none.
    contains: Option<String>,
    /// Regular expression that the value must match somewhere. Default: none.
    matches: Option<Pattern>,
    /// That the answer must not have the header; only `true` has a meaning. Default: false.
    absent: bool,
}

/// The first expectation that is not met, in words; nothing if all are.
pub(super) fn unmet(
    expected: &ExpectedHeaders,
    headers: &[httparse::Header<'_>],
) -> Option<Box<str>> {
    expected.iter().find_map(|(name, expectation)| {
        let values = || {
            let same =
                headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name.as_str()));
            same.map(|header| header.value.trim_ascii())
        };
        if expectation.is_met(values()) {
            return None;
        }
        let seen = match (values().next(), values().count()) {
            (None, _) => "is missing".to_owned(),
            (Some(value), 1) => format!("is \"{}\"", printable(value, SHOWN)),
            (Some(value), count) => {
                format!("is \"{}\" ({count} values)", printable(value, SHOWN))
            }
        };
        let expected = printable(expectation.to_string().as_bytes(), SHOWN);
        let name = printable(name.as_str().as_bytes(), SHOWN);
        Some(format!("the header {name} {seen}; expected {expected}").into())
    })
}

impl AnswerHeader {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AnswerHeader {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        match http::HeaderName::from_str(&text) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(FieldError::Name(text.chars().take(32).collect())),
        }
    }
}

impl HeaderExpectation {
    fn is_met<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> bool {
        match self {
            Self::Equals(text) => values.any(|value| value == text.as_bytes()),
            Self::Contains(text) => values.any(|value| contains(value, text.as_bytes())),
            Self::Matches(pattern) => values.any(|value| pattern.is_match(value)),
            Self::Absent => values.next().is_none(),
        }
    }
}

impl fmt::Display for HeaderExpectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(text) => write!(f, "\"{text}\""),
            Self::Contains(text) => write!(f, "one with \"{text}\""),
            Self::Matches(pattern) => write!(f, "{pattern:?}"),
            Self::Absent => f.write_str("none"),
        }
    }
}

impl TryFrom<Written> for HeaderExpectation {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        match (written.equals, written.contains, written.matches, written.absent) {
            (Some(text), None, None, false) => Ok(Self::Equals(text.into())),
            (None, Some(text), None, false) => Ok(Self::Contains(text.into())),
            (None, None, Some(pattern), false) => Ok(Self::Matches(pattern)),
            (None, None, None, true) => Ok(Self::Absent),
            _ => Err("exactly one of `equals`, `contains`, `matches` and `absent: true` is needed"),
        }
    }
}

impl<'de> de::Deserialize<'de> for HeaderExpectation {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMapping)
    }
}

struct TextOrMapping;

impl<'de> de::Visitor<'de> for TextOrMapping {
    type Value = HeaderExpectation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header's value as text, or a mapping with what is expected of it")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderExpectation, E> {
        Ok(HeaderExpectation::Equals(text.into()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<HeaderExpectation, A::Error> {
        let written: Written =
            de::Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
        written.try_into().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for HeaderExpectation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextOrHeaderExpectation".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let written = generator.subschema_for::<Written>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, written] })
    }
}
