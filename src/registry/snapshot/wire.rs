//! The file's own types: the domain may change without the file's form doing so.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Deserializer, Serializer,
    de::{SeqAccess, Visitor},
    ser::SerializeSeq as _,
};

use super::{
    Arc, BTreeMap, CheckKey, Deserialize, Duration, Facts, HashMap, Maintained, Serialize,
    Snapshot, Streak, VERSION, Verdict, clock,
};
use crate::{
    clock::Timestamp,
    model::{self, Reason, Serving},
    registry,
};

/// As it is read.
#[derive(Deserialize)]
pub(super) struct State {
    version: u32,
    node_maintenance: Option<String>,
    maintenance: BTreeMap<String, String>,
    checks: Checks,
}

/// As it is written, once.
#[derive(Serialize)]
pub(super) struct Written<'a, C: Iterator<Item = Arc<registry::Check>>> {
    version: u32,
    saved: i64,
    node_maintenance: Option<&'a str>,
    maintenance: BTreeMap<&'a str, &'a str>,
    #[serde(serialize_with = "each")]
    checks: Cell<Option<C>>,
}

/// Checks as they are remembered, without a list of them in between.
struct Checks(HashMap<CheckKey, Facts, foldhash::fast::RandomState>);

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Checks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of checks")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Checks, A::Error> {
                let mut checks = HashMap::default();
                while let Some(check) = all.next_element::<Check<'static>>()? {
                    checks.extend(check.into_facts());
                }
                Ok(Checks(checks))
            }
        }

        deserializer.deserialize_seq(All)
    }
}

fn each<S: Serializer, C: Iterator<Item = Arc<registry::Check>>>(
    checks: &Cell<Option<C>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for check in checks.take().into_iter().flatten() {
        list.serialize_element(&Check::of(&check.key, &check.slot.read()))?;
    }
    list.end()
}

#[derive(Serialize, Deserialize)]
struct Check<'a> {
    instance: Cow<'a, str>,
    #[serde(rename = "check")]
    id: Cow<'a, str>,
    verdict: Cow<'a, str>,
    successes: u32,
    failures_in_a_row: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_started: Option<i64>,
    /// Where that is another one than the last; zero if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_conclusive: Option<i64>,
    last_duration_nanos: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_expiry: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain_expiry: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    answer: Answer,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
}

type Word = Cow<'static, str>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Success,
    Warning(Word),
    Failure(Word),
    Inconclusive(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    None,
    Http(u16),
    Grpc(Word),
}

impl<'a, C: Iterator<Item = Arc<registry::Check>>> Written<'a, C> {
    pub(super) fn of(checks: C, maintenance: &'a Maintained) -> Self {
        let out = maintenance.instances.iter();
        Self {
            version: VERSION,
            saved: clock::now().millis(),
            node_maintenance: maintenance.node.as_deref(),
            maintenance: out.map(|(id, reason)| (id.as_str(), &**reason)).collect(),
            checks: Cell::new(Some(checks)),
        }
    }
}

impl State {
    pub(super) fn into_snapshot(self) -> serde_json::Result<Snapshot> {
        if self.version != VERSION {
            let found = self.version;
            let text = format!("it has version {found}; this daemon reads {VERSION}");
            return Err(serde::de::Error::custom(text));
        }
        let mut maintenance =
            Maintained { node: self.node_maintenance.map(Into::into), ..Maintained::default() };
        for (id, reason) in self.maintenance {
            if let Ok(id) = id.parse() {
                maintenance.set(&id, Some(reason.into()));
            }
        }
        Ok(Snapshot { checks: self.checks.0, maintenance })
    }
}

impl<'a> Check<'a> {
    fn of(key: &'a CheckKey, facts: &'a Facts) -> Self {
        let (successes, failures_in_a_row) = match facts.streak {
            Streak::None => (0, 0),
            Streak::Successes(n) => (n, 0),
            Streak::Failures(n) => (0, n),
        };
        Self {
            instance: key.instance.as_str().into(),
            id: key.check.as_str().into(),
            verdict: facts.verdict.as_str().into(),
            successes,
            failures_in_a_row,
            changed: facts.changed.map(Timestamp::millis),
            last_started: facts.last_started.map(Timestamp::millis),
            last_conclusive: (facts.last_conclusive != facts.last_started)
                .then(|| facts.last_conclusive.map_or(0, Timestamp::millis)),
            last_duration_nanos: u64::try_from(facts.last_duration.as_nanos()).unwrap_or(u64::MAX),
            certificate_expiry: facts.certificate_expiry.map(Timestamp::millis),
            chain_expiry: facts.chain_expiry.map(Timestamp::millis),
            outcome: facts.last_outcome.map(Outcome::of),
            answer: Answer::of(facts.answer),
            detail: facts.detail.as_deref().map(Into::into),
        }
    }

    fn into_facts(self) -> Option<(CheckKey, Facts)> {
        let key = CheckKey { instance: self.instance.parse().ok()?, check: self.id.parse().ok()? };
        let verdict = Verdict::ALL.iter().copied().find(|v| v.as_str() == self.verdict)?;
        let streak = match (self.successes, self.failures_in_a_row) {
            (0, 0) => Streak::None,
            (n, 0) => Streak::Successes(n),
            (_, n) => Streak::Failures(n),
        };
        let facts = Facts {
            changed: self.changed.map(Timestamp::from_millis),
            last_started: self.last_started.map(Timestamp::from_millis),
            last_conclusive: match self.last_conclusive {
                Some(0) => None,
                other => other.or(self.last_started).map(Timestamp::from_millis),
            },
            last_duration: Duration::from_nanos(self.last_duration_nanos),
            certificate_expiry: self.certificate_expiry.map(Timestamp::from_millis),
            chain_expiry: self.chain_expiry.map(Timestamp::from_millis),
            last_outcome: self.outcome.and_then(Outcome::into_model),
            answer: self.answer.into_model(),
            detail: self.detail.map(|detail| detail.into_owned().into_boxed_str()),
            streak,
            verdict,
            ..Facts::default()
        };
        Some((key, facts))
    }
}

impl Outcome {
    fn of(outcome: model::Outcome) -> Self {
        match outcome {
            model::Outcome::Success => Self::Success,
            model::Outcome::Warning(reason) => Self::Warning(reason.as_str().into()),
            model::Outcome::Failure(reason) => Self::Failure(reason.as_str().into()),
            model::Outcome::Inconclusive(reason) => Self::Inconclusive(reason.as_str().into()),
        }
    }

    fn into_model(self) -> Option<model::Outcome> {
        let named = |word: &str| Reason::ALL.iter().copied().find(|r| r.as_str() == word);
        match self {
            Self::Success => Some(model::Outcome::Success),
            Self::Warning(reason) => named(&reason).map(model::Outcome::Warning),
            Self::Failure(reason) => named(&reason).map(model::Outcome::Failure),
            Self::Inconclusive(reason) => named(&reason).map(model::Outcome::Inconclusive),
        }
    }
}

impl Answer {
    fn of(answer: model::Answer) -> Self {
        match answer {
            model::Answer::None => Self::None,
            model::Answer::Http(code) => Self::Http(code),
            model::Answer::Grpc(serving) => Self::Grpc(serving.as_str().into()),
        }
    }

    fn into_model(self) -> model::Answer {
        let named = |word: &str| Serving::ALL.iter().copied().find(|s| s.as_str() == word);
        match self {
            Self::None => model::Answer::None,
            Self::Http(code) => model::Answer::Http(code),
            Self::Grpc(word) => named(&word).map_or(model::Answer::None, model::Answer::Grpc),
        }
    }
}
