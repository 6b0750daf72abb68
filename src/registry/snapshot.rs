//! What survives a restart: the state of every check, and what operators have taken out.
//!
//! A JSON file in the data directory, replaced atomically (written beside, synced, renamed), with
//! its own wire types. It is written when something has changed and when the daemon stops, so
//! what a kill can lose is bounded by the interval of saving. A file that cannot be understood is
//! set aside under another name and never overwritten.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::{self, Timestamp},
    judge::{Machine, Maintenance, Streak, Verdict},
    metrics::{Facts, Slot},
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
    checks: HashMap<CheckKey, Facts>,
    maintenance: Maintained,
    now: Timestamp,
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
    pub fn take(checks: impl IntoIterator<Item = Arc<Check>>, maintenance: Maintained) -> Self {
        let checks =
            checks.into_iter().map(|check| (check.key.clone(), check.slot.read())).collect();
        Self { checks, maintenance, now: clock::now() }
    }

    /// What operators have taken out.
    pub fn maintenance(&self) -> &Maintained {
        &self.maintenance
    }

    /// The state a check goes on from: where it was, if that is not too long ago; its counters in
    /// any case. Each check is recalled once.
    pub fn recall(
        &mut self,
        key: &CheckKey,
        schedule: &Schedule,
        maintenance: Maintenance,
    ) -> (Slot, Machine) {
        let facts = self.checks.remove(key).unwrap_or_default();
        let fresh =
            facts.last_started.is_some_and(|last| self.now.since(last) <= evidence_bound(schedule));
        let (verdict, streak) =
            if fresh { (facts.verdict, facts.streak) } else { Default::default() };
        let machine = Machine::restore(verdict, streak, maintenance);
        let slot = Slot::resume(&facts);
        slot.judged(&machine);
        (slot, machine)
    }

    /// Reads the state from a data directory; an empty one if there is none.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { now: clock::now(), ..Self::default() });
            }
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        };
        match serde_json::from_slice::<wire::State>(&text).and_then(wire::State::into_snapshot) {
            Ok(snapshot) => Ok(snapshot),
            Err(source) => {
                let aside = path.with_extension("json.damaged");
                fs::rename(&path, &aside).map_err(|source| Error::Io {
                    doing: "set aside",
                    path: path.clone(),
                    source,
                })?;
                Err(Error::Damaged { path, aside, source })
            }
        }
    }

    /// Writes the state to a data directory: wholly, durably, or not at all.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let beside = path.with_extension("json.new");
        let failed = |doing| {
            let path = beside.clone();
            move |source| Error::Io { doing, path, source }
        };
        let mut file = fs::File::create(&beside).map_err(failed("create"))?;
        let mut buffered = io::BufWriter::new(&mut file);
        serde_json::to_writer(&mut buffered, &wire::State::of(self))
            .map_err(io::Error::from)
            .and_then(|()| buffered.flush())
            .map_err(failed("write"))?;
        drop(buffered);
        file.sync_all().map_err(failed("sync"))?;
        fs::rename(&beside, &path).map_err(failed("rename"))?;
        fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("sync"))
    }
}

/// Evidence older than this says nothing any more: three intervals and a timeout, so that two
/// lost probes in a row do not age it.
fn evidence_bound(schedule: &Schedule) -> Duration {
    schedule.interval * 3 + schedule.timeout
}

/// The file's own types: the domain may change without the file's form doing so.
mod wire {
    use super::{
        BTreeMap, CheckKey, Deserialize, Duration, Facts, Maintained, Serialize, Snapshot, Streak,
        Timestamp, VERSION, Verdict, clock,
    };

    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        version: u32,
        saved: i64,
        node_maintenance: Option<String>,
        maintenance: BTreeMap<String, String>,
        checks: Vec<Check>,
    }

    #[derive(Serialize, Deserialize)]
    struct Check {
        instance: String,
        #[serde(rename = "check")]
        id: String,
        verdict: String,
        successes: u32,
        failures_in_a_row: u32,
        probes: u64,
        failures: u64,
        changes: u32,
        changed: Option<i64>,
        last_started: Option<i64>,
        last_duration_nanos: u64,
        certificate_expiry: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    }

    impl State {
        pub(super) fn of(snapshot: &Snapshot) -> Self {
            let maintenance = &snapshot.maintenance.instances;
            Self {
                version: VERSION,
                saved: snapshot.now.millis(),
                node_maintenance: snapshot.maintenance.node.as_deref().map(str::to_owned),
                maintenance: maintenance
                    .iter()
                    .map(|(id, reason)| (id.to_string(), reason.to_string()))
                    .collect(),
                checks: snapshot.checks.iter().map(|(key, facts)| Check::of(key, facts)).collect(),
            }
        }

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
            let checks = self.checks.into_iter().filter_map(Check::into_facts).collect();
            Ok(Snapshot { checks, maintenance, now: clock::now() })
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
                probes: facts.probes,
                failures: facts.failures,
                changes: facts.changes,
                changed: facts.changed.map(Timestamp::millis),
                last_started: facts.last_started.map(Timestamp::millis),
                last_duration_nanos: u64::try_from(facts.last_duration.as_nanos())
                    .unwrap_or(u64::MAX),
                certificate_expiry: facts.certificate_expiry.map(Timestamp::millis),
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
                probes: self.probes,
                failures: self.failures,
                changes: self.changes,
                changed: self.changed.map(Timestamp::from_millis),
                last_started: self.last_started.map(Timestamp::from_millis),
                last_duration: Duration::from_nanos(self.last_duration_nanos),
                certificate_expiry: self.certificate_expiry.map(Timestamp::from_millis),
                detail: self.detail.map(Into::into),
                streak,
                verdict,
                ..Facts::default()
            };
            Some((key, facts))
        }
    }
}
