//! A trace for each probe, so that it can be found in the target's logs
//! (<https://www.w3.org/TR/trace-context/>, version 00).

use std::{borrow::Cow, fmt};

use serde::de;
use uuid::Uuid;

/// Whether a probe sends a `traceparent`: `false`, `true` or `sampled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Traceparent {
    /// None is sent.
    #[default]
    Off,
    /// One is sent; nobody is asked to record the trace.
    Unsampled,
    /// One is sent, with the flag that asks for the trace to be recorded.
    Sampled,
}

/// The ids of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) struct Ids {
    trace: u128,
    parent: u64,
    sampled: bool,
}

impl Traceparent {
    /// Ids for one probe, if it is to send any.
    pub(super) fn begin(self) -> Option<Ids> {
        match self {
            Self::Off => None,
            Self::Unsampled => Some(Ids::new(false)),
            Self::Sampled => Some(Ids::new(true)),
        }
    }
}

impl Ids {
    /// Random but for six bits of each, which are those of a UUID and never all zero: an id of
    /// zeros would be invalid.
    fn new(sampled: bool) -> Self {
        let (_, parent) = Uuid::new_v4().as_u64_pair();
        Self { trace: Uuid::new_v4().as_u128(), parent, sampled }
    }

    /// The trace's id, as a log shows it.
    pub(in crate::probe) fn trace(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The header's value.
    pub(super) fn header(&self) -> String {
        let flags = if self.sampled { "01" } else { "00" };
        format!("00-{:032x}-{:016x}-{flags}", self.trace, self.parent)
    }
}

impl<'de> de::Deserialize<'de> for Traceparent {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SwitchOrWord)
    }
}

struct SwitchOrWord;

impl de::Visitor<'_> for SwitchOrWord {
    type Value = Traceparent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or sampled")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<Traceparent, E> {
        Ok(if on { Traceparent::Unsampled } else { Traceparent::Off })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Traceparent, E> {
        match text {
            "sampled" => Ok(Traceparent::Sampled),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

impl schemars::JsonSchema for Traceparent {
    fn schema_name() -> Cow<'static, str> {
        "Traceparent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [false, true, "sampled"] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_header_is_as_the_standard_has_it() {
        let trace = "4b".repeat(16);
        let number = u128::from_be_bytes([0x4b; 16]);
        let ids = |sampled| Ids { trace: number, parent: 0x00f0_67aa_0ba9_02b7, sampled };
        assert_eq!(ids(false).header(), format!("00-{trace}-00f067aa0ba902b7-00"));
        assert_eq!(ids(true).header(), format!("00-{trace}-00f067aa0ba902b7-01"));
        assert_eq!(ids(true).trace(), trace);
    }

    #[test]
    fn each_probe_has_ids_of_its_own() {
        assert_eq!(Traceparent::Off.begin(), None);
        let (one, other) = (Ids::new(true), Ids::new(true));
        assert!(one.trace != other.trace && one.parent != other.parent);
        assert!(one.trace != 0 && one.parent != 0);
    }

    #[test]
    fn it_is_a_switch_or_a_word() {
        let read = |written| from_value::<Traceparent>(written);
        assert_eq!(read(json!(false)).unwrap(), Traceparent::Off);
        assert_eq!(read(json!(true)).unwrap(), Traceparent::Unsampled);
        assert_eq!(read(json!("sampled")).unwrap(), Traceparent::Sampled);
        let error = read(json!("yes")).unwrap_err().to_string();
        assert!(error.ends_with("expected true, false or sampled"), "{error}");
    }
}
