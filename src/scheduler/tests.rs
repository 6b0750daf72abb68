//! The scheduler on paused time, with a prober that plays a script.

mod limits;
mod reload;
mod rhythm;
mod tripwire;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::{
    clock::{Timestamp, played},
    doubt::Doubt,
    event::{Event, Log},
    judge::Thresholds,
    metrics::Skip,
    model::{Observation, Outcome, Pace, Reason, Schedule},
    probe::{Endpoint, Held, Probe, Spec, Target},
    registry::{
        Assigned, Definition, Instance, Orders, Registration, Registry, snapshot::Snapshot,
    },
};

mod stall;
mod world;

/// What the probe of a port does the n-th time.
type Script = dyn Fn(u16, usize) -> Act + Send + Sync;

enum Act {
    /// Takes this long and finds this.
    Finds(Duration, Outcome),
    /// Says nothing until it is given up.
    Hangs,
    /// Answers at once and wants to be asked again so much later.
    Wishes(Duration),
    /// Fails us.
    Panics,
}

const OK: Act = Act::Finds(Duration::from_millis(1), Outcome::Success);
const FAILS: Act = Act::Finds(Duration::from_millis(1), Outcome::Failure(Reason::Status));

#[derive(Clone)]
struct Scripted {
    script: Arc<Script>,
    starts: Arc<Mutex<BTreeMap<u16, Vec<Instant>>>>,
    /// When idle connections were made, by port.
    holds: Arc<Mutex<BTreeMap<u16, Vec<Instant>>>>,
    /// How long the n-th to a port lives.
    lives: Arc<dyn Fn(u16, usize) -> Duration + Send + Sync>,
    /// How many are held now.
    held: Arc<AtomicUsize>,
    timeouts: Arc<Mutex<Vec<Duration>>>,
}

/// Counts a connection that is let go.
struct Let(Arc<AtomicUsize>);

impl Drop for Let {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Prober for Scripted {
    async fn hold(&self, target: &Target, _: Duration, life: Duration) -> Held {
        let port = target.endpoint().port;
        let number = {
            let mut holds = self.holds.lock().unwrap();
            let holds = holds.entry(port).or_default();
            holds.push(Instant::now());
            holds.len()
        };
        self.held.fetch_add(1, Relaxed);
        let _guard = Let(Arc::clone(&self.held));
        let lives = (self.lives)(port, number);
        sleep(lives.min(life)).await;
        if lives < life { Held::Cut(lives) } else { Held::Expired }
    }

    async fn probe(&self, target: &Target, timeout: Duration) -> Observation {
        let port = target.endpoint().port;
        self.timeouts.lock().unwrap().push(timeout);
        let number = {
            let mut starts = self.starts.lock().unwrap();
            let starts = starts.entry(port).or_default();
            starts.push(Instant::now());
            starts.len()
        };
        match (self.script)(port, number) {
            Act::Panics => panic!("scripted"),
            Act::Hangs => {
                sleep(timeout).await;
                let late = Outcome::Failure(Reason::TimeoutResponse);
                Observation::new(Timestamp::from_seconds(1), timeout, late)
            }
            Act::Wishes(wish) => Observation {
                ask_again: Some(wish),
                ..Observation::new(Timestamp::from_seconds(1), Duration::ZERO, Outcome::Success)
            },
            Act::Finds(duration, outcome) => {
                sleep(duration).await;
                Observation::new(Timestamp::from_seconds(1), duration, outcome)
            }
        }
    }
}

struct Rig {
    registry: Arc<Registry>,
    events: Log,
    metrics: Daemon,
    doubt: Doubt,
    prober: Scripted,
    began: Instant,
    tasks: Tasks,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Rig {
    fn new(settings: Settings, script: impl Fn(u16, usize) -> Act + Send + Sync + 'static) -> Self {
        Self::with_lives(settings, script, |_, _| Duration::MAX)
    }

    /// The same with idle connections that live as long as is said.
    fn with_lives(
        settings: Settings,
        script: impl Fn(u16, usize) -> Act + Send + Sync + 'static,
        lives: impl Fn(u16, usize) -> Duration + Send + Sync + 'static,
    ) -> Self {
        let (sender, orders) = mpsc::channel(16);
        let registry = Arc::new(Registry::new(Snapshot::default(), Orders::probed(sender)));
        let (events, metrics, doubt) = (Log::new(100), Daemon::new(), Doubt::default());
        let prober = Scripted {
            script: Arc::new(script),
            starts: Arc::default(),
            holds: Arc::default(),
            lives: Arc::new(lives),
            held: Arc::default(),
            timeouts: Arc::default(),
        };
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let monitor = Monitor::new(Arc::clone(&registry), events.clone(), metrics.clone());
        let partners = Partners {
            prober: prober.clone(),
            monitor,
            metrics: metrics.clone(),
            doubt: doubt.clone(),
            beat: pulse::Beat::default(),
        };
        let (shard, receiver) = mpsc::channel(16);
        let anchor = Anchor::new(Instant::now(), Timestamp::from_seconds(1_795_183_200));
        let mut tasks = Tasks::default();
        tasks.spawn("prober", Shard::new(settings, partners, anchor).run(receiver, cut.clone()));
        tasks.spawn("dealer", deal(orders, vec![shard], stop.clone()));
        let began = Instant::now();
        Self { registry, events, metrics, doubt, prober, began, tasks, stop, cut }
    }

    fn starts(&self, port: u16) -> Vec<Instant> {
        self.prober.starts.lock().unwrap().get(&port).cloned().unwrap_or_default()
    }

    fn holds(&self, port: u16) -> Vec<Instant> {
        self.prober.holds.lock().unwrap().get(&port).cloned().unwrap_or_default()
    }

    fn told(&self) -> Vec<String> {
        let line = |event: &Arc<Event>| {
            let t = &event.transition;
            format!("{} {} to {} ({})", t.key, t.from, t.to, t.cause.word())
        };
        self.events.after(0).iter().map(line).collect()
    }
}

const SETTINGS: Settings = Settings {
    tick: Duration::from_millis(5),
    max_in_flight: 1000,
    max_per_host: 1000,
    max_tripwires: 100,
};

const TEN: Duration = Duration::from_secs(10);

fn schedule(interval: Duration) -> Schedule {
    Schedule {
        interval,
        timeout: interval,
        jitter: 0.05,
        initial_delay: Duration::ZERO,
        pace: Pace::STEADY,
    }
}

fn registration(port: u16, schedule: Schedule) -> Registration {
    let n = |n| NonZeroU32::new(n).unwrap();
    let definition = Definition {
        id: "up".parse().unwrap(),
        name: None,
        notes: None,
        probe: Arc::new(Probe::prepare(&Spec::Tcp(crate::probe::tcp::Spec::default())).unwrap()),
        schedule,
        thresholds: Thresholds::new(n(1), n(3), n(3)).unwrap(),
        slo_objective: 0.99,
    };
    Registration {
        instance: Instance {
            id: format!("web-{port}").parse().unwrap(),
            service: "web".parse().unwrap(),
            endpoint: Endpoint { host: "127.0.0.1".parse().unwrap(), port },
            tags: Arc::default(),
            meta: Arc::default(),
        },
        checks: vec![Assigned {
            definition: Arc::new(definition),
            endpoint: None,
            consul_id: None,
            initial: crate::judge::Verdict::Unknown,
        }],
    }
}

/// The longest and the shortest time between starts.
fn gaps(starts: &[Instant]) -> (Duration, Duration) {
    let gaps = || starts.windows(2).map(|pair| pair[1] - pair[0]);
    (gaps().min().unwrap(), gaps().max().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_does_not_shift_its_schedule() {
    let rig = Rig::new(SETTINGS, |_, _| Act::Finds(TEN * 7 / 10, Outcome::Success));
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 1000).await;
    let starts = rig.starts(1);
    assert!((999..=1001).contains(&starts.len()), "{}", starts.len());
    let (shortest, longest) = gaps(&starts);
    assert!(shortest >= TEN * 89 / 100 && longest <= TEN * 111 / 100, "{shortest:?} {longest:?}");
    assert_eq!(rig.metrics.skipped(Skip::Overrun), 0);
}

#[tokio::test(start_paused = true)]
async fn a_mass_registration_makes_no_burst_and_all_run_within_one_interval() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    let start = Instant::now();
    rig.registry.replace((1..=5000).map(|port| registration(port, schedule(TEN))).collect()).await;
    sleep(TEN * 3).await;
    let mut all = Vec::new();
    for port in 1..=5000 {
        let starts = rig.starts(port);
        assert!(starts[0] - start <= TEN + SETTINGS.tick, "{port}: {:?}", starts[0] - start);
        all.extend(starts);
    }
    all.sort_unstable();
    let mean = 50.0_f64;
    let bound = mean + 6.0 * mean.sqrt() + 1.0;
    for (index, first) in all.iter().enumerate() {
        let window = *first + Duration::from_millis(100);
        let within = all[index..].partition_point(|other| *other < window);
        assert!(f64::from(u32::try_from(within).unwrap()) <= bound, "{within} > {bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_run_waits_for_the_initial_delay() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    let start = Instant::now();
    let delayed = Schedule { initial_delay: TEN * 6, ..schedule(TEN) };
    rig.registry.replace(vec![registration(1, delayed)]).await;
    sleep(TEN * 8).await;
    let first = rig.starts(1)[0] - start;
    assert!((TEN * 6..=TEN * 7 + SETTINGS.tick).contains(&first), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn status_changes_after_exactly_the_threshold() {
    let rig = Rig::new(SETTINGS, |_, n| match n {
        1..=3 | 7.. => OK,
        4..=6 => FAILS,
        0 => unreachable!("counted from one"),
    });
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 20).await;
    assert_eq!(
        rig.told(),
        [
            "web-1:up unknown to passing (ok)",
            "web-1:up passing to critical (status)",
            "web-1:up critical to passing (ok)",
        ]
    );
    let events = rig.events.after(0);
    let crate::model::Cause::Probe { consecutive, .. } = &events[1].transition.cause else {
        panic!("not a probe");
    };
    assert_eq!(*consecutive, 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_contained_counted_and_judged_as_nothing() {
    let rig = Rig::new(SETTINGS, |_, n| if n.is_multiple_of(2) { Act::Panics } else { FAILS });
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 6).await;
    assert_eq!(rig.metrics.panics.get(), 3);
    assert_eq!(rig.told(), ["web-1:up unknown to critical (status)"]);
    assert_eq!(rig.metrics.in_flight(crate::probe::Protocol::Tcp).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn our_own_fault_says_nothing_of_the_target() {
    let ours = || Act::Finds(Duration::from_millis(1), Outcome::Inconclusive(Reason::Internal));
    let rig = Rig::new(SETTINGS, move |_, n| if n == 1 { OK } else { ours() });
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 10).await;
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    let check = &rig.registry.instance("web-1").unwrap().checks[0];
    let facts = check.slot.read();
    assert_eq!((facts.failures, facts.inconclusive), (0, facts.probes - 1));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_check_runs_no_more_and_its_last_probe_is_not_judged() {
    let rig = Rig::new(SETTINGS, |_, _| Act::Finds(TEN / 2, Outcome::Success));
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    while rig.starts(1).is_empty() {
        sleep(SETTINGS.tick).await;
    }
    rig.registry.replace(Vec::new()).await;
    sleep(TEN * 5).await;
    assert_eq!(rig.starts(1).len(), 1);
    assert!(rig.told().is_empty());
    assert_eq!(rig.metrics.queue_length.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_nothing_is_caught_up_with() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    rig.registry.replace((1..=100).map(|port| registration(port, schedule(TEN))).collect()).await;
    sleep(TEN * 2).await;
    let count = |rig: &Rig| (1..=100).map(|port| rig.starts(port).len()).sum::<usize>();
    let before = count(&rig);
    advance(TEN * 6).await;
    sleep(Duration::from_millis(1)).await;
    let caught_up = count(&rig) - before;
    assert!(caught_up <= 15, "{caught_up} started at once");
    assert!(rig.metrics.skipped(Skip::Late) >= 85);
    sleep(TEN * 2).await;
    assert!((1..=100).all(|port| rig.starts(port).last().unwrap().elapsed() <= TEN * 12 / 10));
}

#[tokio::test(start_paused = true)]
async fn an_operator_takes_an_instance_out_and_puts_it_back() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 2).await;
    rig.registry.maintain("web-1", Some("new disk".into())).await.unwrap();
    sleep(TEN).await;
    rig.registry.maintain("web-1", None).await.unwrap();
    sleep(TEN).await;
    assert_eq!(
        rig.told(),
        [
            "web-1:up unknown to passing (ok)",
            "web-1:up passing to maintenance (operator)",
            "web-1:up maintenance to passing (operator)",
        ]
    );
    assert!(rig.registry.maintain("web-2", None).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_probes_finish_and_starts_no_more() {
    let mut rig = Rig::new(SETTINGS, |_, _| Act::Finds(TEN / 2, Outcome::Success));
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    while rig.starts(1).is_empty() {
        sleep(SETTINGS.tick).await;
    }
    rig.stop.cancel();
    while rig.tasks.next_ended().await.is_some() {}
    assert_eq!(rig.told(), ["web-1:up unknown to passing (ok)"]);
    assert_eq!(rig.starts(1).len(), 1);
    assert_eq!(rig.metrics.skipped(Skip::Shutdown), 0);
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_probes_that_take_too_long() {
    let mut rig = Rig::new(SETTINGS, |_, _| Act::Finds(TEN * 100, Outcome::Success));
    rig.registry.replace(vec![registration(1, schedule(TEN))]).await;
    sleep(TEN * 2).await;
    rig.stop.cancel();
    rig.cut.cancel();
    while rig.tasks.next_ended().await.is_some() {}
    assert!(rig.told().is_empty());
    assert_eq!(rig.metrics.skipped(Skip::Shutdown), 1);
}

/// Six days on a tick of 100 µs are more ticks than 32 bits hold.
#[tokio::test(start_paused = true)]
async fn the_wheel_does_not_run_out_of_ticks() {
    const DAY: Duration = Duration::from_secs(86_400);
    let settings = Settings { tick: Duration::from_micros(100), ..SETTINGS };
    let rig = Rig::new(settings, |_, _| OK);
    rig.registry.replace(vec![registration(1, schedule(DAY / 24))]).await;
    sleep(DAY * 6).await;
    let starts = rig.starts(1);
    assert!((143..=145).contains(&starts.len()), "{}", starts.len());
}

/// Half of all runs start early by an eighth of a tick on the average, and are not late; the others are
/// late by as much. If all waited for the tick after their time, they would be late by half a tick.
#[tokio::test(start_paused = true)]
async fn a_run_starts_at_the_tick_nearest_to_its_time() {
    let settings = Settings { tick: TEN / 20, ..SETTINGS };
    let rig = Rig::new(settings, |_, _| OK);
    rig.registry.replace((1..=200).map(|port| registration(port, schedule(TEN))).collect()).await;
    sleep(TEN * 10).await;
    let lag = &rig.metrics.lag;
    assert!(lag.get_sample_count() > 1900);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let mean = lag.get_sample_sum() / lag.get_sample_count() as f64;
    let tick = settings.tick.as_secs_f64();
    assert!((0.1 * tick..0.15 * tick).contains(&mean), "{mean} of {tick}");
}

/// A run may start half a tick from its time; an interval of the order of the tick must bear that.
#[tokio::test(start_paused = true)]
async fn intervals_of_a_few_ticks_are_kept() {
    for millis in [10, 12, 25] {
        let rig = Rig::new(SETTINGS, |_, _| Act::Finds(Duration::ZERO, Outcome::Success));
        let interval = Duration::from_millis(millis);
        rig.registry.replace(vec![registration(1, schedule(interval))]).await;
        sleep(interval * 1000).await;
        let starts = rig.starts(1).len();
        assert!(starts >= 990, "{starts} of 1000 runs at {interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_run_that_a_pause_has_cost_is_counted() {
    let rig = Rig::new(SETTINGS, |_, _| OK);
    rig.registry.replace(vec![registration(1, schedule(TEN / 10))]).await;
    sleep(TEN).await;
    let before = rig.starts(1).len() as u64;
    advance(TEN * 6).await;
    sleep(TEN).await;
    let after = rig.starts(1).len() as u64 - before;
    let skipped = rig.metrics.skipped(Skip::Late);
    assert!((69..=71).contains(&(after + skipped)), "{after} + {skipped} of 70");
}

#[test]
fn a_row_of_the_schedule_stays_small() {
    assert!(size_of::<row::Row>() <= 120, "{}", size_of::<row::Row>());
}
