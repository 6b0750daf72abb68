//! What a check means here: a definition, where it asks, and how often.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use super::{CheckDefinition, Invalid, Kind, ask, check::set, prepared};
use crate::{
    duration::Period,
    judge::{Thresholds, Verdict},
    model::{CheckId, InstanceId, MAX_ID_LEN, Pace, Schedule, ServiceName, Tripwire},
    probe::{Alias, Spec, egress::Origin},
    registry::{Assigned, Definition},
};

/// Consul's own; ours is shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Consul's own for what runs a program.
const DEFAULT_TIMEOUT_OF_PROGRAMS: Duration = Duration::from_secs(30);

/// The interval of an alias, which follows at once: how long it may go unheard of.
const ALIAS_INTERVAL: Duration = Duration::from_secs(60);

/// Whoever reports less often than in a hundred years is not heard of.
const LONGEST_TTL: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Whether a check may run a program, which hands the rights of the daemon to whoever defines it:
/// for the one who takes a definition in to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// A check that runs one is refused.
    Refused,
    /// It may.
    Allowed,
}

/// What a check is called that has no name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// Its id in the Consul API.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Naming {
    /// For the check of an instance at a place of all its checks, as Consul has it.
    pub fn within(id: &InstanceId, service: &ServiceName, index: usize, count: usize) -> Self {
        let id = match count {
            1 => format!("service:{id}"),
            _ => format!("service:{id}:{}", index + 1),
        };
        Self { id, name: format!("Service '{service}' check") }
    }
}

impl CheckDefinition {
    /// Consul raises shorter intervals to this.
    pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

    /// What it means: what is asked, where, how often, and how many answers in a row decide.
    ///
    /// Reads no file, but sets TLS up if it needs it.
    pub fn assigned(&self, naming: &Naming, programs: Programs) -> Result<Assigned, Invalid> {
        self.assigned_by(Origin::Configuration, naming, programs)
    }

    /// The same, if it was this one who wants it asked.
    pub fn assigned_by(
        &self,
        origin: Origin,
        naming: &Naming,
        programs: Programs,
    ) -> Result<Assigned, Invalid> {
        let kind = self.runnable(programs)?;
        let schedule = self.schedule(kind)?;
        let thresholds = self.thresholds(kind)?;
        let (spec, endpoint) = match ask::asked(self, kind, origin)? {
            Some(asked) => asked,
            None => (self.told(kind, &schedule), None),
        };
        let probe = prepared::probe(spec, origin)
            .map_err(|error| Invalid::new("", error.with_causes(), "cannot be made ready"))?;
        let named = || self.name.as_ref()?.parse().ok();
        let id: CheckId = self.id.clone().or_else(named).map_or_else(
            || {
                let word = probe.protocol().as_str();
                word.parse().map_err(|_| Invalid::new("id", "a check needs an id", ""))
            },
            Ok,
        )?;
        let definition = Definition {
            id,
            name: Some(self.name.as_deref().unwrap_or(&naming.name).into()),
            notes: self.notes.as_deref().map(Into::into),
            probe,
            schedule,
            thresholds,
            slo_objective: Definition::DEFAULT_OBJECTIVE,
        };
        let consul_id = self.id.as_ref().map_or(naming.id.as_str(), CheckId::as_str);
        Ok(Assigned {
            definition: Arc::new(definition),
            endpoint,
            consul_id: Some(consul_id.into()),
            initial: self.status.map_or(Verdict::Unknown, Verdict::from),
        })
    }

    /// The kind, if it is one that can be run.
    fn runnable(&self, programs: Programs) -> Result<Kind, Invalid> {
        const NONE: &str = "a check asks by one of `http`, `tcp`, `udp`, `grpc`, `args` and \
                            `h2ping`, or is told by `ttl`, `alias_service` or `alias_node`";
        let kind = self.kind().ok_or_else(|| Invalid::new("", NONE, "has none of them"))?;
        match kind {
            Kind::Script if programs == Programs::Refused => Err(Invalid::new(
                kind.fields()[0],
                "programs may not be run as checks",
                "would run with the rights of the daemon",
            )),
            Kind::Docker | Kind::OsService => Err(Invalid::new(
                kind.fields()[0],
                format!("checks of the kind {} are not run in this version", kind.as_str()),
                "is not run",
            )),
            Kind::Ttl
            | Kind::Http
            | Kind::Tcp
            | Kind::Udp
            | Kind::Grpc
            | Kind::Script
            | Kind::H2ping
            | Kind::Alias => Ok(kind),
        }
    }

    /// What a check is that asks nothing.
    fn told(&self, kind: Kind, schedule: &Schedule) -> Spec {
        if kind == Kind::Ttl {
            return Spec::Ttl(schedule.interval);
        }
        Spec::Alias(Alias {
            node: self.alias_node.as_deref().map(Into::into),
            service: self.alias_service.clone(),
        })
    }

    fn schedule(&self, kind: Kind) -> Result<Schedule, Invalid> {
        let fixed = |interval| Schedule {
            interval,
            timeout: DEFAULT_TIMEOUT.min(interval),
            jitter: 0.0,
            initial_delay: Duration::ZERO,
            pace: Pace::STEADY,
        };
        match (kind, set(self.ttl)) {
            (Kind::Ttl, Some(ttl)) if ttl > LONGEST_TTL => {
                Err(Invalid::new("ttl", "`ttl` must be at most 100 years", ""))
            }
            (Kind::Ttl, Some(ttl)) => Ok(fixed(ttl)),
            (Kind::Alias, _) => Ok(fixed(ALIAS_INTERVAL)),
            _ => self.active_schedule(kind),
        }
    }

    fn active_schedule(&self, kind: Kind) -> Result<Schedule, Invalid> {
        let none =
            || Invalid::new("interval", "a check needs an `interval` above zero", "has none");
        let interval = set(self.interval).ok_or_else(none)?.max(Self::MIN_INTERVAL);
        let timeout = set(self.timeout).unwrap_or(match kind {
            Kind::Script => DEFAULT_TIMEOUT_OF_PROGRAMS,
            // A probe of a silent UDP target, which is well, takes nearly its timeout: Consul then
            // asks less often than it says, and here every other run would be skipped.
            Kind::Udp => DEFAULT_TIMEOUT.min(interval * 4 / 5),
            Kind::Ttl
            | Kind::Http
            | Kind::Tcp
            | Kind::Grpc
            | Kind::Docker
            | Kind::OsService
            | Kind::H2ping
            | Kind::Alias => DEFAULT_TIMEOUT,
        });
        for (field, value) in [("interval", interval), ("timeout", timeout)] {
            Schedule::vet(value).map_err(|rule| Invalid {
                note: format!("{} is given", Period::from(value)).into(),
                ..Invalid::new(field, format!("`{field}` {rule}"), "")
            })?;
        }
        Ok(Schedule {
            interval,
            timeout,
            jitter: Schedule::DEFAULT_JITTER,
            initial_delay: Duration::ZERO,
            pace: self.pace()?,
        })
    }

    /// Consul's counts are of runs, each an interval after the one before; so are ours, unless the
    /// check says otherwise.
    fn pace(&self) -> Result<Pace, Invalid> {
        const MOST: u8 = Pace::MOST_CONFIRM_PROBES;
        let confirm_probes = u8::try_from(self.confirm_probes).ok().filter(|n| *n <= MOST);
        let confirm_probes = confirm_probes.ok_or_else(|| {
            let rule = format!("`confirm_probes` must be at most {MOST}");
            Invalid {
                note: format!("{} is given", self.confirm_probes).into(),
                ..Invalid::new("confirm_probes", rule, "")
            }
        })?;
        let tripwire = if self.tripwire { Tripwire::On } else { Tripwire::Off };
        Ok(Pace { confirm_probes, tripwire, ..Pace::STEADY })
    }

    /// Consul counts from zero where we count from one: 0 and 1 both mean "at once". What is pushed
    /// is not counted.
    fn thresholds(&self, kind: Kind) -> Result<Thresholds, Invalid> {
        let counted = |n: u32| if kind.is_pushed() { 1 } else { n };
        let at_least_one = |n| NonZeroU32::new(counted(n)).unwrap_or(NonZeroU32::MIN);
        let critical = at_least_one(self.failures_before_critical);
        let warning = match self.failures_before_warning {
            0 => critical,
            n => at_least_one(n),
        };
        let passing = at_least_one(self.success_before_passing);
        Thresholds::new(passing, warning, critical)
            .map(Thresholds::first_at_once)
            .map_err(|error| Invalid::new("failures_before_warning", error.to_string(), ""))
    }
}

/// Adds a check under an id that the instance does not have yet: Consul's ids need not be unique
/// where they come from names, ours are labels of metrics.
pub fn add(all: &mut Vec<Assigned>, mut assigned: Assigned) {
    let taken: HashSet<_> = all.iter().map(|other| other.definition.id.clone()).collect();
    let base = assigned.definition.id.to_string();
    // One more number than there are ids: one of them is free.
    for n in 2..=taken.len() + 1 {
        if !taken.contains(&assigned.definition.id) {
            break;
        }
        if let Some(definition) = Arc::get_mut(&mut assigned.definition)
            && let Ok(id) = numbered(&base, n).parse()
        {
            definition.id = id;
        }
    }
    all.push(assigned);
}

/// An id with a number, cut to the length an id may have.
pub fn numbered(base: &str, n: usize) -> String {
    let suffix = format!("-{n}");
    let most = (MAX_ID_LEN - suffix.len()).min(base.len());
    let end = (0..=most).rev().find(|&at| base.is_char_boundary(at)).unwrap_or_default();
    format!("{}{suffix}", &base[..end])
}
