//! Plays a world: the prober thread, the monitor, the registry, self-doubt and the board as they are,
//! on paused time, with targets that play and a driver in place of what befalls a daemon.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, advance, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    consumers::{Publisher, service_of},
    history::{Changed, History, Noted},
    plan::{Loss, Ms, Subject, World},
    targets::{self, Stage},
};
use crate::{
    clock::{self, Anchor, Timestamp, played},
    doubt::{Doubt, Seen, Sight},
    event::Log,
    judge::{Thresholds, Verdict},
    metrics::{Daemon, Kept},
    model::{Cause, CheckKey, Pace, Schedule},
    monitor::Monitor,
    probe::{Endpoint, Probe, Spec, tcp},
    registry::{
        Assigned, Definition, Instance, Orders, Registration, Registry, snapshot::Snapshot,
    },
    scheduler::{
        deal, pulse,
        shard::{Partners, Settings, Shard},
    },
    tasks::Tasks,
};

/// From one look at ourselves to the next.
const REVIEW: Ms = 1000;

const SETTINGS: Settings = Settings {
    tick: Duration::from_millis(5),
    max_in_flight: 1000,
    max_per_host: 4,
    max_tripwires: 1000,
};

/// The history of a world. Always the same.
pub(super) fn play(world: World) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let _clock = played::begin(Timestamp::from_millis(world.wall));
        Daemonette::start(Arc::new(world)).await.live().await
    })
}

/// What there is of a daemon in a world.
struct Daemonette {
    world: Arc<World>,
    began: Instant,
    stage: Stage,
    registry: Arc<Registry>,
    events: Log,
    doubt: Doubt,
    publisher: Publisher,
    history: History,
    /// The last result of each check that is written down here.
    noted: Vec<Option<Ms>>,
    /// Kept so that its tasks are.
    _tasks: Tasks,
}

impl Daemonette {
    async fn start(world: Arc<World>) -> Self {
        let began = Instant::now();
        let stage = Stage::new(Arc::clone(&world), began);
        let (sender, orders) = mpsc::channel(16);
        let registry = Arc::new(Registry::new(Snapshot::default(), Orders::probed(sender)));
        let (events, metrics, doubt) = (Log::new(100_000), Daemon::new(), Doubt::default());
        let kept: Kept = serde_json::from_str("32").unwrap();
        let monitor = Monitor::new(Arc::clone(&registry), events.clone(), metrics.clone());
        let partners = Partners {
            prober: stage.clone(),
            monitor: monitor.keeping(kept),
            metrics,
            doubt: doubt.clone(),
            beat: pulse::Beat::default(),
        };
        let (shard, receiver) = mpsc::channel(16);
        let anchor = Anchor::new(began, clock::now());
        let mut tasks = Tasks::default();
        let never = CancellationToken::new();
        let shard_runs = Shard::new(SETTINGS, partners, anchor).run(receiver, never.clone());
        tasks.spawn("prober", shard_runs);
        tasks.spawn("dealer", deal(orders, vec![shard], never));
        registry.replace(registrations(&world.subjects, 0)).await;
        Self {
            publisher: Publisher::new(Arc::clone(&world)),
            history: History::default(),
            noted: vec![None; world.subjects.len()],
            world,
            began,
            stage,
            registry,
            events,
            doubt,
            _tasks: tasks,
        }
    }

    async fn live(mut self) -> History {
        let world = Arc::clone(&self.world);
        let (mut acts, mut review) = (acts(&world).into_iter().peekable(), REVIEW);
        while self.stage.now() < world.length {
            let act = acts.peek().map_or(Ms::MAX, |(at, _)| *at);
            let next = self.began + Duration::from_millis(act.min(review));
            tokio::select! {
                biased;
                () = sleep_until(next) => {}
                () = self.registry.news().wait() => {
                    self.publish(Vec::new());
                    continue;
                }
            }
            if self.stage.now() >= act {
                let (_, act) = acts.next().expect("it was there");
                self.befall(act).await;
            } else {
                self.look(review);
                review = self.stage.now() + REVIEW;
            }
        }
        self.note();
        self.history.told = self.publisher.into_told();
        (self.history.starts, self.history.given) = self.stage.seen();
        self.history.changes = changes(&self.events);
        self.history
    }

    async fn befall(&self, act: Act) {
        match act {
            Act::Stop(long) => advance(Duration::from_millis(long)).await,
            Act::Jump(by) => played::jump(by),
            Act::Reload(number) => {
                self.registry.replace(registrations(&self.world.subjects, number)).await;
            }
        }
    }

    /// What the daemon does every second: looks at itself, and at what it holds.
    fn look(&mut self, due: Ms) {
        let now = self.stage.now();
        self.doubt.woke(Duration::from_millis(now - due));
        let loss = self.world.blindness(now);
        let seen = |fails| Seen {
            sight: if fails { Sight::Fails } else { Sight::Answers },
            ..Seen::default()
        };
        let anchors = if self.world.has_anchors { 3 } else { 0 };
        // Without descriptors the anchors cannot be asked; whoever has no network has a canary.
        let anchor = match loss {
            Some(Loss::Canary) => Seen::default(),
            Some(Loss::Anchors | Loss::Unknown) => seen(true),
            None => seen(false),
        };
        let canary = seen(loss == Some(Loss::Canary));
        let asked = (now / REVIEW).is_multiple_of(2);
        self.doubt.review(Instant::now(), canary, (vec![anchor; anchors], asked));
        self.history.reviews.push(now);
        self.note();
        let pending = self.publisher.pending(now, self.doubt.confidence());
        self.publish(pending);
    }

    fn publish(&mut self, mut keys: Vec<CheckKey>) {
        keys.extend(self.registry.news().take_changed());
        let when = (self.stage.now(), self.doubt.confidence());
        self.publisher.decide(when, &self.registry, keys);
    }

    /// Writes down the results that were written down since the last time.
    fn note(&mut self) {
        for subject in &self.world.subjects {
            let check = self.registry.check(&key(subject)).expect("nobody leaves");
            let last = &mut self.noted[usize::from(subject.port) - 1];
            for attempt in check.slot.attempts() {
                let began = targets::began(&attempt);
                if last.is_none_or(|last| last < began) {
                    *last = Some(began);
                    let (port, outcome) = (subject.port, attempt.outcome);
                    self.history.noted.push(Noted { port, began, outcome });
                }
            }
        }
    }
}

fn changes(events: &Log) -> Vec<Changed> {
    let changed = |event: &Arc<crate::event::Event>| {
        let transition = &event.transition;
        let Cause::Probe { observation, .. } = &transition.cause else {
            panic!("{transition:?} is by no probe")
        };
        let port = transition.key.check.as_str().trim_start_matches('p').parse().unwrap();
        let began = targets::began(observation);
        Changed { port, began, from: transition.from, to: transition.to }
    };
    events.after(0).iter().map(changed).collect()
}

fn key(subject: &Subject) -> CheckKey {
    CheckKey {
        instance: format!("i{}", subject.instance).parse().unwrap(),
        check: format!("p{}", subject.port).parse().unwrap(),
    }
}

/// What befalls us.
enum Act {
    /// We are not run for so long.
    Stop(Ms),
    /// The wall clock is set by so much.
    Jump(i64),
    /// All are registered again, for the so-many-th time.
    Reload(usize),
}

/// All that befalls us, in order.
fn acts(world: &World) -> Vec<(Ms, Act)> {
    let stops = world.stops.iter().map(|(at, long)| (*at, Act::Stop(*long)));
    let jumps = world.jumps.iter().map(|(at, by)| (*at, Act::Jump(*by)));
    let reloads = world.reloads.iter().zip(1..).map(|(at, number)| (*at, Act::Reload(number)));
    let mut acts: Vec<_> = stops.chain(jumps).chain(reloads).collect();
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// All of them, as they are registered for the so-many-th time.
fn registrations(subjects: &[Subject], number: usize) -> Vec<Registration> {
    let mut registrations: Vec<Registration> = Vec::new();
    for subject in subjects {
        let host = format!("10.0.0.{}", subject.port).parse().unwrap();
        let endpoint = Endpoint { host, port: subject.port };
        let assigned = Assigned {
            definition: Arc::new(definition(subject)),
            endpoint: Some(endpoint.clone()),
            consul_id: None,
            initial: Verdict::Unknown,
        };
        let id = key(subject).instance;
        match registrations.last_mut().filter(|last| last.instance.id == id) {
            Some(last) => last.checks.push(assigned),
            None => registrations.push(Registration {
                instance: Instance {
                    id,
                    service: service_of(subject).parse().unwrap(),
                    endpoint,
                    // Every other one changes each time, in what is no matter to probes.
                    tags: Arc::new([usize::midpoint(number, subject.instance).to_string().into()]),
                    meta: Arc::default(),
                },
                checks: vec![assigned],
            }),
        }
    }
    registrations
}

fn definition(subject: &Subject) -> Definition {
    let n = |n| NonZeroU32::new(n).unwrap();
    let counts = Thresholds::new(n(subject.passing), n(subject.warning), n(subject.critical));
    let counts = counts.unwrap();
    Definition {
        id: key(subject).check,
        name: None,
        notes: None,
        probe: Arc::new(Probe::prepare(&Spec::Tcp(tcp::Spec::default())).unwrap()),
        schedule: Schedule {
            interval: Duration::from_millis(subject.interval),
            timeout: Duration::from_millis(subject.timeout),
            jitter: f64::from(u32::try_from(subject.jitter).unwrap()) / 100.0,
            initial_delay: Duration::ZERO,
            pace: Pace {
                confirm_probes: subject.confirm_probes,
                confirm_within: Duration::from_millis(subject.confirm_within),
                max_backoff: subject.max_backoff,
                tripwire: subject.tripwire,
                ..Pace::default()
            },
        },
        thresholds: if subject.first_at_once { counts.first_at_once() } else { counts },
        slo_objective: 0.99,
    }
}
