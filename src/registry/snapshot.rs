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

mod wire;

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
                facts.last_conclusive = facts.last_conclusive.max(Some(last));
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
                facts.last_conclusive.is_some_and(|last| clock::now().since(last) <= lasting);
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
    checks: impl Iterator<Item = Arc<Check>>,
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
