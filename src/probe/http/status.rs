//! Sets of HTTP status codes, as a check expects them.

use std::{fmt, str::FromStr};

use serde::de;

/// A set of HTTP status codes: `200`, `200-299`, `2xx`, several with commas, or a list of these.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusSet(Box<[(u16, u16)]>);

/// A text that is not a [`StatusSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusSetError {
    /// No code is named.
    #[error("no status is named; write for example 200-299")]
    Empty,
    /// A part is not a code or range.
    #[error("`{0}` is not a status; write 200, 200-299 or 2xx")]
    Syntax(String),
    /// A code is none of HTTP's.
    #[error("{0} is not an HTTP status; they go from 200 to 999")]
    OutOfRange(u64),
    /// A range has its ends the wrong way round.
    #[error("the range {0}-{1} is empty; write the smaller status first")]
    Reversed(u16, u16),
}

impl StatusSet {
    /// Whether the set has this code.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

/// 200-299.
impl Default for StatusSet {
    fn default() -> Self {
        Self(Box::new([(200, 299)]))
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusSet({self})")
    }
}

impl FromStr for StatusSet {
    type Err = StatusSetError;

    fn from_str(text: &str) -> Result<Self, StatusSetError> {
        let mut ranges = Vec::new();
        parse_into(text, &mut ranges)?;
        Ok(Self(ranges.into()))
    }
}

fn parse_into(text: &str, ranges: &mut Vec<(u16, u16)>) -> Result<(), StatusSetError> {
    if text.trim().is_empty() {
        return Err(StatusSetError::Empty);
    }
    for part in text.split(',') {
        ranges.push(parse_range(part.trim())?);
    }
    Ok(())
}

fn parse_range(part: &str) -> Result<(u16, u16), StatusSetError> {
    let syntax = || StatusSetError::Syntax(part.chars().take(32).collect());
    let code = |text: &str| match text.trim().parse::<u64>() {
        Ok(code) => in_range(code),
        Err(_) => Err(syntax()),
    };
    if let [class @ b'2'..=b'9', b'x' | b'X', b'x' | b'X'] = part.as_bytes() {
        let low = u16::from(class - b'0') * 100;
        return Ok((low, low + 99));
    }
    match part.split_once('-') {
        None => code(part).map(|code| (code, code)),
        Some((low, high)) => {
            let (low, high) = (code(low)?, code(high)?);
            if low > high { Err(StatusSetError::Reversed(low, high)) } else { Ok((low, high)) }
        }
    }
}

/// Below 200 are interim answers, which are never the last word.
fn in_range(code: u64) -> Result<u16, StatusSetError> {
    match u16::try_from(code) {
        Ok(small @ 200..=999) => Ok(small),
        Ok(_) | Err(_) => Err(StatusSetError::OutOfRange(code)),
    }
}

impl<'de> serde::Deserialize<'de> for StatusSet {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ranges = Vec::new();
        deserializer.deserialize_any(Collect(&mut ranges))?;
        if ranges.is_empty() {
            return Err(de::Error::custom(StatusSetError::Empty));
        }
        Ok(Self(ranges.into()))
    }
}

/// Adds what one node of the configuration says, so that a bad element of a list is reported at
/// its own place.
struct Collect<'a>(&'a mut Vec<(u16, u16)>);

impl<'de> de::Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status as 204, a range as 200-299, or a list of these")
    }

    fn visit_u64<E: de::Error>(self, code: u64) -> Result<(), E> {
        let code = in_range(code).map_err(E::custom)?;
        self.0.push((code, code));
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, code: i64) -> Result<(), E> {
        match u64::try_from(code) {
            Ok(code) => self.visit_u64(code),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(code), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        parse_into(text, self.0).map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Element(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct Element<'a>(&'a mut Vec<(u16, u16)>);

impl<'de> de::DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Collect(self.0))
    }
}

impl schemars::JsonSchema for StatusSet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusSet".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = || {
            serde_json::json!([
                { "type": "integer", "minimum": 200, "maximum": 999 },
                { "type": "string", "examples": ["200-299", "2xx", "200,204,300-399"] },
            ])
        };
        let mut any = one();
        if let Some(list) = any.as_array_mut() {
            list.push(serde_json::json!({
                "type": "array", "minItems": 1, "items": { "anyOf": one() }
            }));
        }
        schemars::json_schema!({ "anyOf": any })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let shown = match serde_json::from_str::<StatusSet>(json) {
            Ok(set) => set.to_string(),
            Err(error) => error.to_string().split(" at line").next().unwrap().to_owned(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_set_is_a_number_a_text_or_a_list() {
        check("204", "204");
        check(r#""200-299""#, "200-299");
        check(r#""200, 204,300-399""#, "200,204,300-399");
        check(r#"["2xx", 304, "401-403"]"#, "200-299,304,401-403");
    }

    #[test]
    fn a_bad_set_says_what_is_wrong() {
        check(r#""""#, "no status is named; write for example 200-299");
        check("[]", "no status is named; write for example 200-299");
        check("100", "100 is not an HTTP status; they go from 200 to 999");
        check("70000", "70000 is not an HTTP status; they go from 200 to 999");
        check(r#""299-200""#, "the range 299-200 is empty; write the smaller status first");
        check(r#""ok""#, "`ok` is not a status; write 200, 200-299 or 2xx");
        check(r#""200-""#, "`200-` is not a status; write 200, 200-299 or 2xx");
    }

    #[test]
    fn a_set_contains_its_ends() {
        let set: StatusSet = "200-299,304".parse().unwrap();
        assert_eq!(
            [199, 200, 299, 300, 304].map(|code| set.contains(code)),
            [false, true, true, false, true]
        );
    }
}
