//! What consumers are told: the board, shown what the agent shows it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    history::Told,
    plan::{Figures, Ms, Subject, World},
};
use crate::{
    doubt::Confidence,
    duration::Period,
    judge::Verdict,
    model::{CheckKey, Outcome},
    publish::{Board, Crowd, Evidence, Place, Sight, damping, guard},
    registry::Registry,
    share::Share,
};

/// Who tells consumers.
#[derive(Debug)]
pub(super) struct Publisher {
    world: Arc<World>,
    board: Board,
    published: BTreeMap<u16, Verdict>,
    told: Vec<Told>,
}

fn period(millis: Ms) -> Period {
    Period::from_millis(millis)
}

fn board(figures: &Figures) -> Board {
    let guard = guard::Config {
        window: period(figures.window),
        max_share: Share::percent(figures.share),
        release_after: period(figures.release_after),
        hold_at_most: period(figures.hold_at_most),
        ..guard::Config::default()
    };
    let damping = damping::Config {
        half_life: period(figures.half_life),
        suppress: figures.suppress,
        reuse: figures.reuse,
        hold_at_most: period(figures.damp_at_most),
        ..damping::Config::default()
    };
    assert!(damping.is_consistent(), "{damping:?}");
    Board::new(guard, damping)
}

pub(super) fn service_of(subject: &Subject) -> String {
    format!("s{}", subject.service)
}

impl Publisher {
    /// One by whom all are told to be well, as before a restart.
    pub(super) fn new(world: Arc<World>) -> Self {
        let published = world.subjects.iter().map(|one| (one.port, Verdict::Passing)).collect();
        Self { board: board(&world.figures), world, published, told: Vec::new() }
    }

    pub(super) fn into_told(self) -> Vec<Told> {
        self.told
    }

    /// The checks to be decided again.
    pub(super) fn pending(&mut self, now: Ms, confidence: Confidence) -> Vec<CheckKey> {
        self.board.begin(Duration::from_millis(now), confidence);
        self.board.pending()
    }

    /// Decides what is told of these checks.
    pub(super) fn decide(
        &mut self,
        (now, confidence): (Ms, Confidence),
        registry: &Registry,
        mut keys: Vec<CheckKey>,
    ) {
        let time = Duration::from_millis(now);
        self.board.begin(time, confidence);
        // Hash sets have no order of their own.
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let check = registry.check(&key).expect("nobody leaves");
            let facts = check.slot.read_numbers();
            if facts.verdict == Verdict::Unknown {
                continue;
            }
            let world = Arc::clone(&self.world);
            let subject = &world.subjects[usize::from(check.target.endpoint().port) - 1];
            let before = self.published[&subject.port];
            let sight = Sight {
                key: &key,
                place: &Place {
                    service: Some(check.instance.service.clone()),
                    zone: Some(format!("z{}", subject.zone).into()),
                },
                observed: facts.verdict,
                published: before,
                flips: check.slot.take_flips(),
                evidence: Evidence::of_last(facts.last_outcome.and_then(Outcome::reason)),
                is_out: self.is_out(subject),
            };
            let crowd = self.crowd(subject);
            let decision = self.board.decide(time, &sight, || crowd);
            self.published.insert(subject.port, decision.status);
            let (observed, published, held) = (facts.verdict, decision.status, decision.held);
            self.told.push(Told { at: now, port: subject.port, observed, published, held });
        }
    }

    /// Whether something else of the instance is told to be critical.
    fn is_out(&self, of: &Subject) -> bool {
        self.world.subjects.iter().any(|one| {
            one.instance == of.instance
                && one.port != of.port
                && self.published[&one.port] == Verdict::Critical
        })
    }

    fn crowd(&self, of: &Subject) -> Crowd {
        let world = &self.world;
        let out = |one: &Subject| self.published[&one.port] == Verdict::Critical;
        Crowd {
            all: world.instances(|_| true),
            service: world.instances(|one| one.service == of.service),
            service_out: world.instances(|one| one.service == of.service && out(one)),
            zone: world.instances(|one| one.zone == of.zone),
        }
    }
}
