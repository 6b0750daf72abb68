//! Single values of definitions: durations as Go writes them, and texts where empty is absent.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

use crate::{
    duration::Period,
    model::{IdError, MAX_ID_LEN},
    probe::Host,
};

/// A duration: a text as Go writes it, or a number of nanoseconds. Shown as Go shows it: `10s`,
/// `1m30s`, `1h0m0s`, `500ms`, `1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub Duration);

impl Time {
    /// Whether it is nothing, which Consul takes for absent.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let small = [(1_000_000_000, 1_000_000, "ms"), (1_000_000, 1000, "µs"), (1000, 1, "ns")];
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (below, size, unit) in small {
            if nanos < below && nanos >= size {
                return write!(f, "{}{unit}", decimal(nanos, size));
            }
        }
        let (hours, minutes) = (self.0.as_secs() / 3600, self.0.as_secs() / 60 % 60);
        let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, minutes) => write!(f, "{minutes}m{seconds}s"),
            (hours, minutes) => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

/// `value / size` as a decimal without needless zeros; `size` is a power of ten.
fn decimal(value: u128, size: u128) -> String {
    let width = size.to_string().len() - 1;
    let fraction = format!("{:0width$}", value % size);
    let fraction = if size == 1 { "" } else { fraction.trim_end_matches('0') };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}", value / size)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Go;

        impl Visitor<'_> for Go {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\"")
            }

            fn visit_u64<E: Error>(self, nanos: u64) -> Result<Time, E> {
                Ok(Time(Duration::from_nanos(nanos)))
            }

            fn visit_i64<E: Error>(self, nanos: i64) -> Result<Time, E> {
                let nanos = u64::try_from(nanos);
                nanos.map_or_else(
                    |_| Err(E::custom("a duration is not negative")),
                    |nanos| self.visit_u64(nanos),
                )
            }

            fn visit_f64<E: Error>(self, nanos: f64) -> Result<Time, E> {
                Duration::try_from_secs_f64(nanos / 1e9).map(Time).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map(|period: Period| Time(period.get())).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Go)
    }
}

/// A text, where an empty one is none.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(text).filter(|text| !text.is_empty()))
}

/// Ids and hosts as texts, where an empty one is none.
pub(super) mod parsed {
    use super::{Deserializer, Serializer, Spelled, text};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(in crate::consul) fn serialize<T: Spelled, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(&value.spelling()),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::consul) fn deserialize<'de, T: Spelled, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        text(deserializer)?.as_deref().map(T::read).transpose()
    }
}

/// What is read from a text and written back as one.
pub(super) trait Spelled: Sized {
    /// Reads it; the error says what is wrong.
    fn read<E: Error>(text: &str) -> Result<Self, E>;

    /// As it is written.
    fn spelling(&self) -> String;
}

impl<T: FromStr<Err = IdError> + fmt::Display> Spelled for T {
    fn read<E: Error>(text: &str) -> Result<Self, E> {
        text.parse().map_err(|error| E::custom(format_args!("this id cannot be used: {error}")))
    }

    fn spelling(&self) -> String {
        self.to_string()
    }
}

/// Without the brackets that a URL gives an IPv6 address. Consul takes any text, as nothing is asked
/// there: a check says itself where it asks.
impl Spelled for Host {
    fn read<E: Error>(text: &str) -> Result<Self, E> {
        if text.len() > MAX_ID_LEN || text.contains(char::is_control) {
            return Err(E::custom(format_args!(
                "an address has at most {MAX_ID_LEN} bytes and no control characters"
            )));
        }
        Ok(Self::as_written(text))
    }

    fn spelling(&self) -> String {
        match self {
            Self::Ip(ip) => ip.to_string(),
            Self::Name(name) => name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000, "1.5ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (10_000_000_000, "10s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_050_000_000, "1h1m1.05s"),
        ] {
            let time = Time(Duration::from_nanos(nanos));
            assert_eq!(time.to_string(), text);
            let read: Time = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(read, time);
        }
    }

    #[test]
    fn a_number_is_of_nanoseconds() {
        let read = |text| serde_json::from_str::<Time>(text).map(|time| time.0);
        assert_eq!(read("10").unwrap(), Duration::from_nanos(10));
        assert_eq!(read("1e10").unwrap(), Duration::from_secs(10));
        let negative = read("-1").unwrap_err().to_string();
        assert!(negative.starts_with("a duration is not negative"), "{negative}");
        assert!(read("1e300").is_err());
    }
}
