//! The targets of a world, as a prober meets them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    history::{Given, Start},
    plan::{Dice, Ms, State, Subject, World},
};
use crate::{
    clock,
    model::{Observation, Outcome, Reason},
    probe::{Held, Prober, Target},
};

/// Plays a world.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    world: Arc<World>,
    began: Instant,
    seen: Arc<Mutex<Seen>>,
}

/// What the targets have seen of us.
#[derive(Debug, Default)]
struct Seen {
    starts: Vec<Start>,
    given: Vec<Given>,
    /// Idle connections held now, by port.
    held: BTreeMap<u16, usize>,
}

/// What a target does when it is asked.
struct Act {
    takes: Ms,
    outcome: Outcome,
    ask_again: Option<Duration>,
}

const fn act(takes: Ms, outcome: Outcome) -> Act {
    Act { takes, outcome, ask_again: None }
}

const NEVER: Ms = 3_600_000;

/// What tells probes of a check apart, for the wall clock does not: the address that answered is
/// made of when it began.
fn mark(began: Ms) -> SocketAddr {
    (Ipv4Addr::from_bits(u32::try_from(began).unwrap()), 1).into()
}

/// When the probe began that left this mark.
pub(super) fn began(found: &Observation) -> Ms {
    match found.peer {
        Some(SocketAddr::V4(mark)) => mark.ip().to_bits().into(),
        other => panic!("{other:?} is no mark"),
    }
}

/// An idle connection that is let go.
struct Let<'a>(&'a Stage, u16);

impl Drop for Let<'_> {
    fn drop(&mut self) {
        *self.0.seen.lock().unwrap().held.entry(self.1).or_default() -= 1;
    }
}

impl Stage {
    pub(super) fn new(world: Arc<World>, began: Instant) -> Self {
        Self { world, began, seen: Arc::default() }
    }

    pub(super) fn now(&self) -> Ms {
        Ms::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// When probes started, and what they were given.
    pub(super) fn seen(&self) -> (Vec<Start>, Vec<Given>) {
        let seen = self.seen.lock().unwrap();
        (seen.starts.clone(), seen.given.clone())
    }

    fn subject(&self, target: &Target) -> &Subject {
        &self.world.subjects[usize::from(target.endpoint().port) - 1]
    }

    fn act(&self, subject: &Subject, now: Ms) -> Act {
        let is_held = self.seen.lock().unwrap().held.get(&subject.port).is_some_and(|n| *n > 0);
        if self.world.blindness(now).is_some() || (subject.serves_one && is_held) {
            return act(NEVER, Outcome::Success);
        }
        let fails = |reason| act(1, Outcome::Failure(reason));
        match subject.state(now) {
            State::Refuses => fails(Reason::ConnectionRefused),
            State::Errors => act(subject.latency, Outcome::Failure(Reason::Status)),
            State::Hangs => act(NEVER, Outcome::Success),
            State::Slow(share) => act(subject.timeout * share / 1000, Outcome::Success),
            State::Struggles => act(subject.latency, Outcome::Warning(Reason::Status)),
            State::Ours => act(1, Outcome::Inconclusive(Reason::Internal)),
            State::Wishes(wish) => Act {
                ask_again: Some(Duration::from_millis(wish)),
                ..act(subject.latency, Outcome::Success)
            },
            State::Lossy(lost) => {
                let draw = Dice::new(self.world.seed ^ now ^ u64::from(subject.port) << 40).next();
                let takes = if draw % 1000 < lost { NEVER } else { subject.latency };
                act(takes, Outcome::Success)
            }
            State::Flaps(period) if (now / period).is_multiple_of(2) => {
                fails(Reason::ConnectionRefused)
            }
            State::Well | State::Flaps(_) => act(subject.latency, Outcome::Success),
        }
    }
}

/// For how long an idle connection that is made now will be left open.
fn patience(subject: &Subject, now: Ms) -> Ms {
    let dies = |(from, state): &&(Ms, State)| *from >= now && *state == State::Refuses;
    let death = subject.phases.iter().find(dies).map_or(NEVER, |(from, _)| from - now);
    death.min(subject.patience.unwrap_or(NEVER))
}

impl Prober for Stage {
    async fn probe(&self, target: &Target, timeout: Duration) -> Observation {
        let (subject, began, started) = (self.subject(target), self.now(), clock::now());
        let limit = Ms::try_from(timeout.as_millis()).unwrap();
        let act = self.act(subject, began);
        self.seen.lock().unwrap().starts.push(Start { at: began, port: subject.port });
        sleep(Duration::from_millis(act.takes.min(limit))).await;
        let ended = self.now();
        // Whoever was not run until the time was over finds that it is over.
        let in_time = act.takes < limit && ended - began < limit;
        let outcome = if in_time { act.outcome } else { Outcome::Failure(Reason::TimeoutResponse) };
        let port = subject.port;
        self.seen.lock().unwrap().given.push(Given { port, began, ended, limit, outcome });
        let duration = Duration::from_millis(ended - began);
        let ask_again = act.ask_again.filter(|_| in_time);
        let peer = Some(mark(began));
        Observation { peer, ask_again, ..Observation::new(started, duration, outcome) }
    }

    async fn hold(&self, target: &Target, _: Duration, life: Duration) -> Held {
        let (subject, now) = (self.subject(target), self.now());
        if self.world.blindness(now).is_some() || subject.state(now).is_dead() {
            return Held::Cut(Duration::ZERO);
        }
        *self.seen.lock().unwrap().held.entry(subject.port).or_default() += 1;
        let _guard = Let(self, subject.port);
        let lives = Duration::from_millis(patience(subject, now));
        sleep(lives.min(life)).await;
        if lives < life { Held::Cut(lives) } else { Held::Expired }
    }
}
