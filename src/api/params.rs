//! Query parameters, read as Consul reads them.

use std::time::Duration;

use http::StatusCode;

use super::router::Refusal;

/// The query of a request, decoded, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes a query; what is no UTF-8 is replaced, never refused.
    pub(super) fn parse(query: Option<&str>) -> Self {
        Self(
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// All parameters in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether a parameter is there, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number; zero if it is missing or empty.
    pub(super) fn number(&self, name: &str) -> Result<u64, Refusal> {
        match self.get(name) {
            None | Some("") => Ok(0),
            Some(text) => text.parse().map_err(|_| Refusal::bad(format!("Invalid {name}"))),
        }
    }

    /// A flag that is on when it is there without a value.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some("") => Ok(true),
            Some(text) => {
                truth(text).ok_or_else(|| Refusal::bad(format!("Invalid value for ?{name}")))
            }
        }
    }

    /// Whether `?enable=` says on or off; it must be there.
    pub(super) fn enable(&self) -> Result<bool, Refusal> {
        match self.get("enable") {
            None | Some("") => Err(Refusal::bad("Missing value for enable")),
            Some(text) => truth(text)
                .ok_or_else(|| Refusal::bad(format!("Invalid value for enable: {text:?}"))),
        }
    }

    /// How long a blocking query may be held, as Consul bounds it; `now` picks the share by which
    /// waits are spread.
    pub(super) fn wait(&self, now: u64) -> Result<Duration, Refusal> {
        const DEFAULT: Duration = Duration::from_secs(300);
        const LONGEST: Duration = Duration::from_secs(600);
        let invalid = || Refusal::bad("Invalid wait time");
        let wait = match self.get("wait") {
            None | Some("") => DEFAULT,
            Some(text) => {
                // A negative one is a duration too, and stands for none.
                let positive = text.strip_prefix('-').unwrap_or(text);
                let wait = positive.parse::<crate::duration::Period>().map_err(|_| invalid())?;
                if positive == text { wait.get() } else { Duration::ZERO }
            }
        };
        let wait = if wait.is_zero() { DEFAULT } else { wait.min(LONGEST) };
        Ok(wait + wait * u32::try_from(now % 16).unwrap_or(0) / 256)
    }

    /// Refuses what contradicts itself, and another data centre than ours.
    pub(super) fn vet_read(&self, datacenter: &str) -> Result<(), Refusal> {
        if self.has("stale") && self.has("consistent") {
            return Err(Refusal::bad(
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ));
        }
        if self.has("cached") && self.has("consistent") {
            return Err(Refusal::bad(
                "Cannot specify ?cached with ?consistent, conflicting semantics.",
            ));
        }
        if let Some(longest) = self.get("max_stale").filter(|text| !text.is_empty())
            && longest.parse::<crate::duration::Period>().is_err()
        {
            return Err(Refusal::bad(format!("Invalid max_stale value {longest:?}")));
        }
        match self.get("dc") {
            None | Some("") => Ok(()),
            Some(dc) if dc == datacenter => Ok(()),
            Some(_) => {
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "No path to datacenter"))
            }
        }
    }
}

/// A truth value as Go's `strconv.ParseBool` reads it.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_on_without_a_value_and_refused_with_a_strange_one() {
        let flag = |query| Params::parse(Some(query)).flag("passing").ok();
        assert_eq!(flag("passing"), Some(true));
        assert_eq!(flag("passing=1"), Some(true));
        assert_eq!(flag("passing=False"), Some(false));
        assert_eq!(flag("x=1"), Some(false));
        assert_eq!(flag("passing=yes"), None);
    }

    #[test]
    fn a_wait_is_bounded_and_spread_by_at_most_a_sixteenth() {
        let wait = |query, now| Params::parse(Some(query)).wait(now).ok();
        assert_eq!(wait("wait=10s", 0), Some(Duration::from_secs(10)));
        assert_eq!(wait("wait=120000ms", 0), Some(Duration::from_secs(120)));
        assert_eq!(wait("", 0), Some(Duration::from_secs(300)));
        assert_eq!(wait("wait=1h", 0), Some(Duration::from_secs(600)));
        assert!(wait("wait=16s", 15).unwrap() < Duration::from_secs(17));
        assert_eq!(wait("wait=-10s", 0), Some(Duration::from_secs(300)));
        for invalid in ["wait=10", "wait=-10", "wait=-", "wait=--1s"] {
            assert_eq!(wait(invalid, 0), None, "{invalid}");
        }
    }
}
