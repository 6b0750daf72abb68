//! What consumers are told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, History, Kind, Ms, World, broken};
use crate::{
    judge::Verdict,
    publish::Brake,
    scheduler::tests::world::{
        history::Told,
        plan::{Loss, Subject},
    },
};

const fn is_critical(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Critical)
}

fn subject_of<'a>(world: &'a World, told: &Told) -> &'a Subject {
    &world.subjects[usize::from(told.port) - 1]
}

pub(super) fn held_as_it_was(world: &World, history: &History) -> Finding {
    let mut before = BTreeMap::new();
    let mut flips: BTreeMap<u16, u32> = BTreeMap::new();
    let mut was_critical = BTreeMap::new();
    for told in &history.told {
        let was = before.insert(told.port, told.published).unwrap_or(Verdict::Passing);
        let now_critical = is_critical(told.observed);
        let turned = was_critical.insert(told.port, now_critical).unwrap_or(false) != now_critical;
        *flips.entry(told.port).or_default() += u32::from(turned);
        let is_right = match told.held {
            None => told.published == told.observed,
            Some(Brake::Guard) => {
                now_critical && told.published == was && !is_critical(told.published)
            }
            Some(Brake::Damping) => {
                !now_critical && is_critical(told.published) && is_critical(was)
            }
        };
        if !is_right {
            return broken(subject_of(world, told), told.at, format!("{told:?}, {was} before"));
        }
        // Changes between two looks are counted by the changes themselves.
        let changes = history.changes.iter().filter(|one| one.port == told.port);
        let changes = changes.filter(|one| one.began <= told.at).count();
        if told.held == Some(Brake::Damping)
            && changes * 1000 < usize::try_from(world.figures.suppress).unwrap()
        {
            return broken(subject_of(world, told), told.at, format!("{told:?}, not flapping"));
        }
    }
    Ok(())
}

/// When the daemon began to trust itself again, if it has had reason for doubt before a moment: a score
/// of eight falls to nothing within eight seconds, and what it goes by is looked at every few.
fn trusted_since(world: &World, at: Ms) -> Ms {
    const AFTERMATH: Ms = 15_000;
    let known = world.blind.iter().filter(|blind| blind.loss != Loss::Unknown);
    let blind = known.map(|blind| (blind.from, blind.until));
    let stops = world.stops.iter().map(|(from, long)| (*from, from + long));
    let before = blind.chain(stops).filter(|(from, _)| *from <= at);
    before.map(|(_, until)| until + AFTERMATH).max().unwrap_or(0).min(at)
}

/// The longest that what is observed and what is published may differ: of a failure, counted from when
/// the daemon trusts itself.
pub(super) fn holds_end(world: &World, history: &History) -> Finding {
    const SLACK: Ms = 3000;
    let mut since: BTreeMap<(u16, bool), Ms> = BTreeMap::new();
    let stopped: Ms = world.stops.iter().map(|(_, long)| long).max().copied().unwrap_or(0);
    for told in &history.told {
        let critical = is_critical(told.observed);
        since.remove(&(told.port, !critical));
        let began = *since.entry((told.port, critical)).or_insert(told.at);
        let (most, began) = if critical {
            (world.figures.hold_at_most, began.max(trusted_since(world, told.at)))
        } else {
            (world.figures.damp_at_most, began)
        };
        let lasts = told.at - began;
        if critical != is_critical(told.published) && lasts > most + SLACK + stopped {
            return broken(subject_of(world, told), told.at, format!("{told:?} for {lasts} ms"));
        }
    }
    // Whoever is held is looked at every second.
    let mut last: BTreeMap<u16, &Told> = BTreeMap::new();
    last.extend(history.told.iter().map(|told| (told.port, told)));
    for told in last.values().filter(|told| told.held.is_some()) {
        if told.at + SLACK + stopped < world.length {
            return broken(subject_of(world, told), told.at, format!("{told:?} and forgotten"));
        }
    }
    Ok(())
}

/// The instances that are published as critical, kept up to date.
#[derive(Default)]
struct Outs {
    checks: BTreeMap<usize, BTreeSet<u16>>,
    /// When an instance went out without having been held.
    went: BTreeMap<usize, Ms>,
    held: BTreeSet<u16>,
}

impl Outs {
    fn take(&mut self, world: &World, told: &Told) {
        let instance = subject_of(world, told).instance;
        let checks = self.checks.entry(instance).or_default();
        let was_out = !checks.is_empty();
        if is_critical(told.published) {
            checks.insert(told.port);
        } else {
            checks.remove(&told.port);
        }
        let was_held = self.held.contains(&told.port);
        if !was_out && !checks.is_empty() {
            if was_held {
                self.went.remove(&instance);
            } else {
                self.went.insert(instance, told.at);
            }
        }
        if told.held == Some(Brake::Guard) {
            self.held.insert(told.port);
        } else {
            self.held.remove(&told.port);
        }
    }

    fn out(&self, of: impl Fn(usize) -> bool) -> usize {
        self.checks.iter().filter(|(id, checks)| of(**id) && !checks.is_empty()).count()
    }

    fn recent(&self, now: Ms, window: Ms, of: impl Fn(usize) -> bool) -> usize {
        self.went.iter().filter(|(id, at)| of(**id) && now - **at < window).count()
    }
}

/// The crowds an instance belongs to, and how many of each may be out at once.
fn crowds(world: &World) -> Vec<(String, usize, BTreeSet<usize>)> {
    let members = |of: &dyn Fn(&Subject) -> bool| -> BTreeSet<usize> {
        world.subjects.iter().filter(|one| of(one)).map(|one| one.instance).collect()
    };
    let all = members(&|_| true);
    let share = usize::from(world.figures.share);
    let mut crowds = vec![("all".to_owned(), (all.len() * share / 100).max(1), all)];
    for n in 0..4 {
        crowds.push((format!("service {n}"), 0, members(&|one| one.service == n)));
        crowds.push((format!("zone {n}"), 0, members(&|one| one.zone == n)));
    }
    for (_, most, members) in crowds.iter_mut().skip(1) {
        *most = if members.len() < 3 { members.len() } else { members.len() / 2 };
    }
    crowds
}

pub(super) fn caps_hold(world: &World, history: &History) -> Finding {
    let (mut outs, crowds) = (Outs::default(), crowds(world));
    for told in &history.told {
        outs.take(world, told);
        for (name, most, members) in &crowds {
            let window = world.figures.window;
            let recent = outs.recent(told.at, window, |id| members.contains(&id));
            if recent > *most {
                let how = format!("{recent} of {name} went out within {window} ms, not {most}");
                return broken(subject_of(world, told), told.at, how);
            }
        }
    }
    Ok(())
}

pub(super) fn blindness_is_capped(world: &World, history: &History) -> Finding {
    if world.kind != Kind::Blind || world.subjects.iter().any(|one| one.serves_one) {
        return Ok(());
    }
    let (mut outs, crowds) = (Outs::default(), crowds(world));
    for told in &history.told {
        outs.take(world, told);
        for (name, most, members) in &crowds {
            let out = outs.out(|id| members.contains(&id));
            if out > *most {
                let how = format!("{out} of {name} are out, not {most}");
                return broken(subject_of(world, told), told.at, how);
            }
        }
    }
    Ok(())
}

pub(super) fn doubt_takes_nothing_out(world: &World, history: &History) -> Finding {
    if world.kind != Kind::Blind {
        return Ok(());
    }
    for blind in world.blind.iter().filter(|blind| blind.loss != Loss::Unknown) {
        let mut looked = history.reviews.iter().filter(|at| (blind.from..blind.until).contains(at));
        let Some(first) = looked.next().copied() else { continue };
        let mut was: BTreeMap<u16, bool> = BTreeMap::new();
        for told in &history.told {
            let out = is_critical(told.published);
            let went = out && !was.insert(told.port, out).unwrap_or(false);
            if went && told.at > first && told.at < blind.until {
                return broken(subject_of(world, told), told.at, format!("{told:?} in {blind:?}"));
            }
        }
    }
    Ok(())
}

/// A failure is held only where a limit would be exceeded by it, or the daemon is in doubt.
pub(super) fn nothing_is_held_for_nothing(world: &World, history: &History) -> Finding {
    let (mut outs, crowds) = (Outs::default(), crowds(world));
    let mut last_held: Option<Ms> = None;
    for told in &history.told {
        let is_new = told.held == Some(Brake::Guard) && !outs.held.contains(&told.port);
        let instance = subject_of(world, told).instance;
        let is_quiet = last_held.is_none_or(|at| at + 2000 < told.at);
        if is_new && is_quiet && super::is_untroubled(world, told.at, told.at) {
            // Who was out at any time lately may count, also when it is back or was held.
            let counts = |id: &&usize| {
                history.told.iter().any(|one| {
                    subject_of(world, one).instance == **id
                        && **id != instance
                        && is_critical(one.published)
                        && one.at <= told.at
                        && one.at + world.figures.window + 2000 > told.at
                }) || outs.checks.get(id).is_some_and(|checks| {
                    checks
                        .iter()
                        .any(|port| world.subjects[usize::from(*port) - 1].instance != instance)
                })
            };
            let room = crowds
                .iter()
                .filter(|(_, _, members)| members.contains(&instance))
                .all(|(_, most, members)| members.iter().filter(counts).count() < *most);
            if room {
                return broken(subject_of(world, told), told.at, format!("{told:?}"));
            }
        }
        if told.held == Some(Brake::Guard) {
            last_held = Some(told.at);
        }
        outs.take(world, told);
    }
    Ok(())
}
