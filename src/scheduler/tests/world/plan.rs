//! From a seed to a world: who is there, how they behave over time, and what befalls us. Pure; the
//! same seed is the same world on every machine. All times are milliseconds since it began.

use crate::model::Tripwire;

/// Milliseconds since the world began.
pub(super) type Ms = u64;

/// `SplitMix64` (Steele, Lea, Flood, 2014): small, and good enough to make up worlds.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From `low` to `high`, both included.
    pub(super) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) const fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.between(0, from.len() as u64 - 1);
        from[usize::try_from(index).unwrap()]
    }

    fn count(&mut self, low: u64, high: u64) -> u32 {
        u32::try_from(self.between(low, high)).unwrap()
    }
}

/// What is true of all targets, beside what befalls us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All are well; we are held up, and fail ourselves.
    Healthy,
    /// All are well; our network goes, all at once.
    Blind,
    /// Some die for good, or for long; nothing befalls us.
    Dead,
    /// Anything.
    Mixed,
}

/// How a target behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Well,
    /// Its process is gone.
    Refuses,
    /// It answers that it is not well.
    Errors,
    Hangs,
    /// It answers that it is struggling.
    Struggles,
    /// It answers after so many thousandths of its timeout, which may be too late.
    Slow(u64),
    /// So many packets of a thousand are lost.
    Lossy(u64),
    /// It is gone and back, for so long each.
    Flaps(Ms),
    /// We fail before we have asked.
    Ours,
    /// It is well and wishes to be asked again after so long.
    Wishes(Ms),
}

impl State {
    /// Whether all that is asked fails.
    pub(super) const fn is_dead(self) -> bool {
        matches!(self, Self::Refuses | Self::Errors | Self::Hangs)
    }
}

/// One check, and its target.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Tells it from all others.
    pub(super) port: u16,
    pub(super) instance: usize,
    pub(super) service: usize,
    pub(super) zone: usize,
    pub(super) interval: Ms,
    pub(super) timeout: Ms,
    /// In percent of the interval.
    pub(super) jitter: u64,
    pub(super) passing: u32,
    pub(super) warning: u32,
    pub(super) critical: u32,
    pub(super) first_at_once: bool,
    pub(super) confirm_probes: u8,
    pub(super) confirm_within: Ms,
    pub(super) max_backoff: u8,
    pub(super) tripwire: Tripwire,
    /// How long it takes to answer: less than half of the timeout.
    pub(super) latency: Ms,
    /// After how long it closes an idle connection, if it does.
    pub(super) patience: Option<Ms>,
    /// Whether it serves one connection at a time.
    pub(super) serves_one: bool,
    /// How it behaves from when on; the first from the beginning.
    pub(super) phases: Vec<(Ms, State)>,
}

impl Subject {
    pub(super) fn state(&self, now: Ms) -> State {
        self.phases.iter().rev().find(|(from, _)| *from <= now).expect("from the beginning").1
    }

    /// Most that two runs may be further from each other than the interval.
    pub(super) const fn sway(&self) -> Ms {
        2 * self.interval * self.jitter / 100
    }

    pub(super) fn is_always_well(&self) -> bool {
        self.phases.iter().all(|(_, state)| *state == State::Well) && !self.serves_one
    }
}

/// Why nobody answers us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The network is gone and we have no way to know.
    Unknown,
    /// The network is gone, and so are the anchors.
    Anchors,
    /// We are out of descriptors: the canary fails.
    Canary,
}

/// A time in which nobody answers us, though they are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blindness {
    pub(super) from: Ms,
    pub(super) until: Ms,
    pub(super) loss: Loss,
}

/// The figures by which the board decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) share: u8,
    pub(super) window: Ms,
    pub(super) release_after: Ms,
    pub(super) hold_at_most: Ms,
    pub(super) half_life: Ms,
    pub(super) suppress: u32,
    pub(super) reuse: u32,
    pub(super) damp_at_most: Ms,
}

/// All there is.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) kind: Kind,
    pub(super) length: Ms,
    /// What the wall clock says at the beginning, in milliseconds: anything.
    pub(super) wall: i64,
    pub(super) has_anchors: bool,
    pub(super) subjects: Vec<Subject>,
    /// When we are not run, and for how long.
    pub(super) stops: Vec<(Ms, Ms)>,
    /// When the wall clock is set, and by how much. No promise excuses anything by it.
    pub(super) jumps: Vec<(Ms, i64)>,
    /// When every other instance is registered again as something slightly else. Nor by that.
    pub(super) reloads: Vec<Ms>,
    pub(super) blind: Vec<Blindness>,
    pub(super) figures: Figures,
}

impl World {
    /// The world of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x726f_6c6c_6361_6c6c);
        let kind = dice.pick(&[Kind::Healthy, Kind::Blind, Kind::Dead, Kind::Mixed, Kind::Mixed]);
        let length = dice.between(180, 480) * 1000;
        let figures = figures(&mut dice);
        let wall = dice.pick(&[1_795_183_200_000, 0, -86_400_123, 4_102_444_800_777, 999]);
        let mut world = Self {
            seed,
            kind,
            length,
            wall,
            has_anchors: dice.one_in(2),
            subjects: subjects(&mut dice, kind, length),
            stops: Vec::new(),
            jumps: Vec::new(),
            reloads: Vec::new(),
            blind: Vec::new(),
            figures,
        };
        if kind == Kind::Dead && dice.one_in(2) {
            mass_death(&mut dice, &mut world);
        }
        if matches!(kind, Kind::Healthy | Kind::Mixed) {
            world.stops = stops(&mut dice, length);
        }
        if kind == Kind::Blind || (kind == Kind::Mixed && dice.one_in(2)) {
            world.blind = blindnesses(&mut dice, &world);
        }
        // Of dice of their own, so that a seed is otherwise the world that it was without them.
        let mut dice = Dice::new(seed ^ 0x6a75_6d70);
        world.jumps = jumps(&mut dice, length);
        world.reloads = reloads(&mut dice, &world);
        world
    }

    pub(super) fn blindness(&self, now: Ms) -> Option<Loss> {
        let is_now = |blind: &&Blindness| (blind.from..blind.until).contains(&now);
        self.blind.iter().find(is_now).map(|blind| blind.loss)
    }

    /// Whether nothing befell us from `from` to `until`.
    pub(super) fn is_calm(&self, from: Ms, until: Ms) -> bool {
        self.stops.iter().all(|(at, long)| at + long < from || *at > until)
            && self.blind.iter().all(|blind| blind.until < from || blind.from > until)
    }

    /// How many instances there are.
    pub(super) fn instances(&self, of: impl Fn(&Subject) -> bool) -> usize {
        let ids: std::collections::BTreeSet<usize> =
            self.subjects.iter().filter(|one| of(one)).map(|one| one.instance).collect();
        ids.len()
    }
}

fn figures(dice: &mut Dice) -> Figures {
    let half_life = dice.between(30, 60) * 1000;
    Figures {
        share: u8::try_from(dice.between(10, 30)).unwrap(),
        window: dice.between(20, 60) * 1000,
        release_after: dice.between(10, 30) * 1000,
        hold_at_most: dice.between(90, 200) * 1000,
        half_life,
        suppress: dice.count(3, 5) * 1000,
        reuse: dice.count(1, 2) * 1000,
        damp_at_most: half_life * dice.between(3, 5),
    }
}

fn subjects(dice: &mut Dice, kind: Kind, length: Ms) -> Vec<Subject> {
    let services = dice.between(1, 4);
    let same = dice.one_in(2).then(|| dice.between(2, 8) * 1000);
    let is_steady = dice.one_in(3);
    let mut subjects = Vec::new();
    for instance in 0..usize::try_from(dice.between(5, 24)).unwrap() {
        let (service, zone) = (dice.between(0, services - 1), dice.between(0, 1));
        let mut phases = phases(dice, kind, length);
        for _ in 0..dice.pick(&[1, 1, 1, 2]) {
            let port = u16::try_from(subjects.len() + 1).unwrap();
            let mut one = subject(dice, port, same);
            one.instance = instance;
            one.service = usize::try_from(service).unwrap();
            one.zone = usize::try_from(zone).unwrap();
            if is_steady {
                one.jitter = 0;
            }
            one.phases.clone_from(&phases);
            if dice.one_in(2) {
                phases = self::phases(dice, kind, length);
            }
            subjects.push(one);
        }
    }
    subjects
}

fn subject(dice: &mut Dice, port: u16, interval: Option<Ms>) -> Subject {
    let interval = interval.unwrap_or_else(|| dice.between(2, 10) * 1000);
    let timeout = dice.between(400, (interval * 6 / 10).min(2000));
    let critical = dice.count(1, 4);
    Subject {
        port,
        instance: 0,
        service: 0,
        zone: 0,
        interval,
        timeout,
        jitter: dice.pick(&[0, 5, 5, 10]),
        passing: dice.count(1, 3),
        warning: dice.count(1, u64::from(critical)),
        critical,
        first_at_once: dice.one_in(3),
        confirm_probes: dice.pick(&[0, 1, 3, 3, 3]),
        confirm_within: dice.pick(&[500, 1000, 1000]),
        max_backoff: dice.pick(&[1, 2, 4, 4]),
        tripwire: dice.pick(&[Tripwire::Auto, Tripwire::Auto, Tripwire::Off]),
        latency: dice.between(1, timeout * 45 / 100),
        patience: dice.one_in(6).then(|| dice.between(3, 60) * 1000),
        serves_one: dice.one_in(12),
        phases: Vec::new(),
    }
}

fn phases(dice: &mut Dice, kind: Kind, length: Ms) -> Vec<(Ms, State)> {
    let dead = |dice: &mut Dice| dice.pick(&[State::Refuses, State::Errors, State::Hangs]);
    let mut phases = vec![(0, State::Well)];
    match kind {
        Kind::Healthy if dice.one_in(4) => {
            let from = dice.between(0, length / 2);
            phases.push((from, State::Ours));
            phases.push((from + dice.between(5, 60) * 1000, State::Well));
        }
        Kind::Healthy | Kind::Blind => {}
        Kind::Dead => {
            if dice.one_in(4) {
                let from = dice.between(60_000, length / 2);
                phases.push((from, dead(dice)));
                if dice.one_in(2) {
                    phases.push((from + dice.between(40, 200) * 1000, State::Well));
                }
            }
        }
        Kind::Mixed => {
            let mut now = 0;
            while dice.one_in(2) {
                now += dice.between(20, 120) * 1000;
                let state = match dice.between(0, 8) {
                    0 => State::Struggles,
                    1 => State::Lossy(dice.between(10, 500)),
                    2 => State::Flaps(dice.between(3, 40) * 1000),
                    3 => State::Ours,
                    4 => State::Wishes(dice.between(50, 25_000)),
                    5 => State::Slow(dice.between(500, 1100)),
                    _ => dead(dice),
                };
                phases.push((now, state));
                now += dice.between(5, 90) * 1000;
                phases.push((now, State::Well));
            }
        }
    }
    phases
}

/// A service dies at once, for good or until all of it is back at once.
fn mass_death(dice: &mut Dice, world: &mut World) {
    let service = world.subjects[0].service;
    let state = dice.pick(&[State::Refuses, State::Errors, State::Hangs, State::Hangs]);
    let from = dice.between(30_000, 90_000);
    let mut phases = vec![(0, State::Well), (from, state)];
    if dice.one_in(2) {
        phases.push((from + dice.between(40, 300) * 1000, State::Well));
    }
    for subject in world.subjects.iter_mut().filter(|one| one.service == service) {
        subject.phases.clone_from(&phases);
    }
}

fn stops(dice: &mut Dice, length: Ms) -> Vec<(Ms, Ms)> {
    let mut stops = Vec::new();
    let mut now = 0;
    while dice.between(0, 3) > 0 {
        now += dice.between(10, 120) * 1000 + dice.between(0, 999);
        if now >= length {
            break;
        }
        if dice.one_in(3) {
            // Starved: run for a moment, not run for a moment.
            let jump = dice.between(30, 900);
            for _ in 0..dice.between(3, 25) {
                stops.push((now, jump));
                now += jump + dice.between(5, 60);
            }
        } else {
            let long = dice.pick(&[300, 700, 1500, 5000, 20_000, 60_000]);
            stops.push((now, long));
            now += long;
        }
    }
    stops
}

fn jumps(dice: &mut Dice, length: Ms) -> Vec<(Ms, i64)> {
    const SIZES: [i64; 6] = [120, 3000, 90_000, 3_600_000, 86_400_000, 315_360_000_000];
    let (mut jumps, mut now) = (Vec::new(), 0);
    while !dice.one_in(3) {
        now += dice.between(1, 120_000);
        if now >= length {
            break;
        }
        let by = dice.pick(&SIZES) + dice.between(0, 999).cast_signed();
        jumps.push((now, if dice.one_in(2) { by } else { -by }));
    }
    jumps
}

/// Some at any time, and some when it matters most: while somebody is being found dead.
fn reloads(dice: &mut Dice, world: &World) -> Vec<Ms> {
    let mut reloads = Vec::new();
    while dice.one_in(2) {
        reloads.push(dice.between(0, world.length));
    }
    let phases = || world.subjects.iter().flat_map(|one| one.phases.get(1..).unwrap_or_default());
    let dead: Vec<Ms> = phases().filter(|(_, s)| s.is_dead()).map(|(from, _)| *from).collect();
    if !dead.is_empty() {
        for _ in 0..dice.between(0, 4) {
            reloads.push(dice.pick(&dead) + dice.between(0, 10_000));
        }
    }
    reloads.sort_unstable();
    reloads
}

fn blindnesses(dice: &mut Dice, world: &World) -> Vec<Blindness> {
    let mut blind = Vec::new();
    let mut now = 30_000;
    while now + 60_000 < world.length && !dice.one_in(4) {
        now += dice.between(0, 60) * 1000;
        let most = world.figures.hold_at_most / 1000 - 15;
        let until = now + dice.between(5, most) * 1000;
        let loss = match (world.has_anchors, dice.one_in(3)) {
            (_, true) => Loss::Canary,
            (true, false) => Loss::Anchors,
            (false, false) => Loss::Unknown,
        };
        blind.push(Blindness { from: now, until, loss });
        now = until + dice.between(20, 120) * 1000;
    }
    blind
}
