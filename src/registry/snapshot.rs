//! What survives a restart: the state of every check, and what operators have taken out.
//!
//! A JSON file in the data directory, replaced atomically (written beside, synced, renamed), with
//! its own wire types. Counters for metrics are not in it: those of a new process start at zero, as
//! Prometheus expects. A file that cannot be understood is set aside under another name and never
//! overwritten.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::{self, Timestamp},
    judge::{Machine, Maintenance, Streak, Verdict},
    metrics::Facts,
    model::{CheckKey, InstanceId, Schedule},
};

use super::Check;

const FILE: &str = "state.json";
const VERSION: u32 = 1;

/// What operators have taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Why the whole node is out, if it is.
    pub node: Option<Arc<str>>,
    instances: BTreeMap<InstanceId, Arc<str>>,
}

impl Maintained {
    /// Takes an instance out with a reason, or puts it back with none.
    pub fn set(&mut self, instance: &InstanceId, reason: Option<Arc<str>>) {
        match reason {
            Some(reason) => self.instances.insert(instance.clone(), reason),
            None => self.instances.remove(instance),
        };
    }

    /// Why an instance is out on its own account.
    pub fn get(&self, instance: &InstanceId) -> Option<Arc<str>> {
        self.instances.get(instance).cloned()
    }

    /// Whether an instance is out, on its own account or with the node.
    pub fn of(&self, instance: &InstanceId) -> Maintenance {
        if self.node.is_some() || self.instances.contains_key(instance) {
            Maintenance::On
        } else {
            Maintenance::Off
        }
    }
}

/// The state of all checks at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    checks: HashMap<CheckKey, Facts, foldhash::fast::RandomState>,
    maintenance: Maintained,
}

/// What is known of a check from elsewhere.
#[derive(Debug, Clone)]
pub struct Known {
    /// What was last said of it.
    pub verdict: Verdict,
    /// Since when, if anything was.
    pub since: Option<Timestamp>,
    /// How its results stood on the way to something else and when the last of them began, if
    /// they were on the way.
    pub streak: Option<(Streak, Timestamp)>,
    /// What the last result said.
    pub output: Option<Box<str>>,
}

/// Why the state could not be saved or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not one of ours, or damaged; it has been set aside.
    #[error("{path} cannot be understood and was renamed to {aside}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its new name.
        aside: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Snapshot {
    /// Reads the state of these checks.
    #[cfg(test)]
    pub(super) fn take(
        checks: impl IntoIterator<Item = Arc<Check>>,
        maintenance: Maintained,
    ) -> Self {
        let checks =
            checks.into_iter().map(|check| (check.key.clone(), check.slot.read())).collect();
        Self { checks, maintenance }
    }

    /// What operators have taken out.
    pub fn maintenance(&self) -> &Maintained {
        &self.maintenance
    }

    /// Puts right what newer sources know better; of which they know nothing is forgotten.
    pub(super) fn correct(&mut self, checks: impl IntoIterator<Item = (CheckKey, Option<Known>)>) {
        for (key, known) in checks {
            let Some(known) = known else {
                self.checks.remove(&key);
                continue;
            };
            let facts = self.checks.entry(key).or_default();
            let is_other = facts.verdict != known.verdict;
            if let Some((streak, last)) = known.streak {
                facts.streak = streak;
                facts.last_started = facts.last_started.max(Some(last));
            } else if Machine::restore(known.verdict, facts.streak, Maintenance::Off).is_wavering()
            {
                // It has come to its verdict since: what comes now is not the first of all.
                facts.streak = match known.verdict {
                    Verdict::Unknown => Streak::None,
                    Verdict::Passing | Verdict::Warning => Streak::Successes(1),
                    Verdict::Critical => Streak::Failures(1),
                };
            }
            // What was wrong is said by both; what was well by the newer source alone.
            if is_other || facts.detail.is_some() || facts.last_outcome.is_none() {
                facts.detail = known.output;
            }
            facts.verdict = known.verdict;
            facts.changed = known.since;
        }
    }

    /// The machine a check goes on with, and its slot filled with what is remembered. Each check is
    /// recalled once.
    pub(super) fn recall(&mut self, check: &Check, maintenance: Maintenance) -> Machine {
        let lasting = lasting(&check.definition.schedule);
        let remembered = self.checks.remove(&check.key).map(|facts| {
            // What was seen too long ago still stands, but does not add up with what comes now.
            let is_recent =
                facts.last_started.is_some_and(|last| clock::now().since(last) <= lasting);
            Facts { streak: if is_recent { facts.streak } else { Streak::None }, ..facts }
        });
        let machine = match &remembered {
            Some(facts) => Machine::restore(facts.verdict, facts.streak, maintenance),
            None => Machine::new(maintenance),
        };
        check.slot.overwrite(&remembered.unwrap_or_default());
        check.slot.judged(&machine);
        machine
    }

    /// Reads the state from a data directory; an empty one if there is none.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        };
        match serde_json::from_slice::<wire::State>(&text).and_then(wire::State::into_snapshot) {
            Ok(snapshot) => Ok(snapshot),
            Err(source) => {
                let aside = path.with_extension(format!("json.damaged-{}", clock::now().millis()));
                fs::rename(&path, &aside).map_err(|source| Error::Io {
                    doing: "set aside",
                    path: path.clone(),
                    source,
                })?;
                Err(Error::Damaged { path, aside, source })
            }
        }
    }

    /// Lets go of the room that has become free.
    pub(super) fn shrink(&mut self) {
        if self.checks.capacity() > 4 * self.checks.len() {
            self.checks.shrink_to_fit();
        }
    }
}

/// Writes the state of these checks to a data directory: wholly, durably, or not at all. Each is
/// read as it is written: there is never a second copy of all of it.
pub(super) fn save(
    checks: &[Arc<Check>],
    maintenance: &Maintained,
    directory: &Path,
) -> Result<(), Error> {
    let path = directory.join(FILE);
    let beside = path.with_extension("json.new");
    let failed = |doing| {
        let path = beside.clone();
        move |source| Error::Io { doing, path, source }
    };
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(failed("create"))?;
    let mut buffered = io::BufWriter::with_capacity(1 << 16, &mut file);
    serde_json::to_writer(&mut buffered, &wire::Written::of(checks, maintenance))
        .map_err(io::Error::from)
        .and_then(|()| buffered.flush())
        .map_err(failed("write"))?;
    drop(buffered);
    file.sync_all().map_err(failed("sync"))?;
    fs::rename(&beside, &path).map_err(failed("rename"))?;
    fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("sync"))
}

/// How long what was found stays true without being asked again: three intervals and a timeout,
/// so that two lost probes in a row do not age it; and long enough for a daemon to be replaced.
fn lasting(schedule: &Schedule) -> Duration {
    const REPLACEMENT: Duration = Duration::from_secs(300);
    (schedule.interval * 3 + schedule.timeout).max(REPLACEMENT)
}

/// The file's own types: the domain may change without the file's form doing so.
mod wire {
    use std::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{SeqAccess, Visitor},
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

    /// As it is written.
    #[derive(Serialize)]
    pub(super) struct Written<'a> {
        version: u32,
        saved: i64,
        node_maintenance: Option<&'a str>,
        maintenance: BTreeMap<&'a str, &'a str>,
        #[serde(serialize_with = "each")]
        checks: &'a [Arc<registry::Check>],
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
                    while let Some(check) = all.next_element::<Check>()? {
                        checks.extend(check.into_facts());
                    }
                    Ok(Checks(checks))
                }
            }

            deserializer.deserialize_seq(All)
        }
    }

    fn each<S: Serializer>(
        checks: &&[Arc<registry::Check>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(checks.iter().map(|check| Check::of(&check.key, &check.slot.read())))
    }

    #[derive(Serialize, Deserialize)]
    struct Check {
        instance: String,
        #[serde(rename = "check")]
        id: String,
        verdict: String,
        successes: u32,
        failures_in_a_row: u32,
        changed: Option<i64>,
        last_started: Option<i64>,
        last_duration_nanos: u64,
        certificate_expiry: Option<i64>,
        chain_expiry: Option<i64>,
        outcome: Option<Outcome>,
        answer: Answer,
        detail: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Outcome {
        Success,
        Warning(String),
        Failure(String),
        Inconclusive(String),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Answer {
        None,
        Http(u16),
        Grpc(String),
    }

    impl<'a> Written<'a> {
        pub(super) fn of(checks: &'a [Arc<registry::Check>], maintenance: &'a Maintained) -> Self {
            let out = maintenance.instances.iter();
            Self {
                version: VERSION,
                saved: clock::now().millis(),
                node_maintenance: maintenance.node.as_deref(),
                maintenance: out.map(|(id, reason)| (id.as_str(), &**reason)).collect(),
                checks,
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

    impl Check {
        fn of(key: &CheckKey, facts: &Facts) -> Self {
            let (successes, failures_in_a_row) = match facts.streak {
                Streak::None => (0, 0),
                Streak::Successes(n) => (n, 0),
                Streak::Failures(n) => (0, n),
            };
            Self {
                instance: key.instance.to_string(),
                id: key.check.to_string(),
                verdict: facts.verdict.to_string(),
                successes,
                failures_in_a_row,
                changed: facts.changed.map(Timestamp::millis),
                last_started: facts.last_started.map(Timestamp::millis),
                last_duration_nanos: u64::try_from(facts.last_duration.as_nanos())
                    .unwrap_or(u64::MAX),
                certificate_expiry: facts.certificate_expiry.map(Timestamp::millis),
                chain_expiry: facts.chain_expiry.map(Timestamp::millis),
                outcome: facts.last_outcome.map(Outcome::of),
                answer: Answer::of(facts.answer),
                detail: facts.detail.as_deref().map(str::to_owned),
            }
        }

        fn into_facts(self) -> Option<(CheckKey, Facts)> {
            let key =
                CheckKey { instance: self.instance.parse().ok()?, check: self.id.parse().ok()? };
            let verdict = Verdict::ALL.iter().copied().find(|v| v.as_str() == self.verdict)?;
            let streak = match (self.successes, self.failures_in_a_row) {
                (0, 0) => Streak::None,
                (n, 0) => Streak::Successes(n),
                (_, n) => Streak::Failures(n),
            };
            let facts = Facts {
                changed: self.changed.map(Timestamp::from_millis),
                last_started: self.last_started.map(Timestamp::from_millis),
                last_duration: Duration::from_nanos(self.last_duration_nanos),
                certificate_expiry: self.certificate_expiry.map(Timestamp::from_millis),
                chain_expiry: self.chain_expiry.map(Timestamp::from_millis),
                last_outcome: self.outcome.and_then(Outcome::into_model),
                answer: self.answer.into_model(),
                detail: self.detail.map(Into::into),
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
                model::Outcome::Warning(reason) => Self::Warning(reason.to_string()),
                model::Outcome::Failure(reason) => Self::Failure(reason.to_string()),
                model::Outcome::Inconclusive(reason) => Self::Inconclusive(reason.to_string()),
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
                model::Answer::Grpc(serving) => Self::Grpc(serving.to_string()),
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
}
