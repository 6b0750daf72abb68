//! From a fault to the word of it: targets are killed or cut off at random moments, and a watcher
//! of each, blocked on `/v1/health/service`, says when it hears that the target is critical.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Failure, Plan,
    client::get,
    daemon::{Daemon, services},
    dice::Dice,
    fleet::Fleet,
    report::{Report, spread},
    wall::Wall,
};

/// How often the metrics are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A way of asking.
struct Variant {
    name: &'static str,
    network: u8,
    interval: u32,
    keys: &'static str,
}

const VARIANTS: [Variant; 4] = [
    Variant {
        name: "10 s, polling alone",
        network: 64,
        interval: 10,
        keys: "confirm_probes: 0, tripwire: false",
    },
    Variant { name: "10 s, with confirmation", network: 65, interval: 10, keys: "tripwire: false" },
    Variant { name: "10 s, with the tripwire", network: 66, interval: 10, keys: "tripwire: true" },
    Variant { name: "60 s, with the tripwire", network: 67, interval: 60, keys: "tripwire: true" },
];

/// What is done to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    CutOff,
}

/// What one variant came to.
struct Measured {
    /// Probes beyond the grid for each of the grid: all well, and one in a hundred reset.
    extra: [Option<f64>; 2],
    /// Fault, to the watcher's wake, to the metrics.
    found: Vec<(Fault, Option<Duration>, Option<Duration>)>,
    /// The mean of what the daemon itself says of it, if it says anything.
    said: Option<Duration>,
}

/// All variants at the same time, each with a daemon and targets of its own.
pub(crate) async fn measure(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let wall = Wall::raise();
    if wall.is_none() {
        report
            .say("\nTargets that are cut off: SKIPPED, for there are no iptables or no right to.");
    }
    let all = VARIANTS.iter().map(|one| Box::pin(variant(one, plan, wall.as_ref())));
    let all = try_join_all(all).await?;
    report.title("Fault to a blocked watcher", &["faults", "p50", "p99", "max"]);
    for fault in [Fault::Killed, Fault::CutOff] {
        for (variant, measured) in VARIANTS.iter().zip(&all) {
            print(report, &format!("{fault:?}, {}", variant.name), measured, fault, true);
        }
    }
    report.title("Fault to /metrics", &["faults", "p50", "p99", "max"]);
    for fault in [Fault::Killed, Fault::CutOff] {
        for (variant, measured) in VARIANTS.iter().zip(&all) {
            print(report, &format!("{fault:?}, {}", variant.name), measured, fault, false);
        }
    }
    report.title("The daemon's own histogram, mean", &["measured", "said"]);
    for (variant, measured) in VARIANTS.iter().zip(&all) {
        print_said(report, variant.name, measured);
    }
    report.title("Probes beyond the schedule", &["all well", "1 % reset"]);
    for (variant, measured) in VARIANTS.iter().zip(&all) {
        let shown = measured.extra.map(|share| match share {
            Some(share) => format!("{:.2} %", share * 100.0),
            None => "-".to_owned(),
        });
        report.row(variant.name, &shown);
    }
    Ok(())
}

fn print(report: &mut Report, name: &str, measured: &Measured, fault: Fault, watcher: bool) {
    let of_kind = measured.found.iter().filter(|(kind, ..)| *kind == fault);
    let times: Vec<_> =
        of_kind.map(|(_, woke, seen)| if watcher { *woke } else { *seen }).collect();
    if times.is_empty() {
        return;
    }
    let missed = times.iter().filter(|time| time.is_none()).count();
    report.row(name, &spread(times.into_iter().flatten().collect()));
    if missed > 0 {
        report.say(&format!("  {missed} of these were NOT FOUND"));
    }
}

/// What the daemon cannot know it says at its longest: a target that is cut off gives no sign.
fn print_said(report: &mut Report, name: &str, measured: &Measured) {
    let times: Vec<_> = measured.found.iter().filter_map(|(_, woke, _)| *woke).collect();
    let sum: Duration = times.iter().sum();
    let mean = u32::try_from(times.len()).ok().and_then(|count| sum.checked_div(count));
    let shown = [mean, measured.said].map(|mean| match mean {
        Some(mean) => format!("{:.2} s", mean.as_secs_f64()),
        None => "-".to_owned(),
    });
    report.row(name, &shown);
}

async fn variant(variant: &Variant, plan: Plan, wall: Option<&Wall>) -> Result<Measured, Failure> {
    let interval = Duration::from_secs(variant.interval.into());
    let fleet = Fleet::start(variant.network, plan.faults)?;
    let one_each = (0..plan.faults).map(|n| (format!("d{n}"), vec![fleet.instance(n)]));
    let check = format!("interval: {}s, timeout: 2s, {}", variant.interval, variant.keys);
    let daemon = Daemon::start(&format!(
        "guard: {{ enabled: false }}\ndamping: {{ enabled: false }}\n{}",
        services(&check, one_each)
    ))?;
    daemon.is_well(plan.faults, interval + Duration::from_secs(20)).await?;
    let quiet = extra(&daemon, interval * if variant.interval > 10 { 1 } else { 2 }).await?;
    let mut lossy = None;
    if variant.interval <= 10 {
        fleet.lose(10);
        lossy = Some(extra(&daemon, interval * plan.lossy_intervals).await?);
        fleet.lose(0);
        sleep(interval).await;
    }
    let window = interval * if variant.interval > 10 { 1 } else { 2 };
    let latest = interval * 3 + Duration::from_secs(20);
    let watched = watch_all(&daemon, plan.faults).await?;
    let began = Instant::now();
    let (faults, mut woken, seen) = tokio::join!(
        strike_all(variant, &fleet, wall, window),
        gather(watched, began + window + latest),
        look(&daemon, plan, began + window + latest),
    );
    let (faults, seen) = (faults?, seen?);
    let found = faults.into_iter().map(|(n, fault, at)| {
        let since = |heard: Option<Instant>| heard.map(|heard| heard.saturating_duration_since(at));
        (fault, since(woken.remove(&n)), since(seen.get(&format!("t{n}")).copied()))
    });
    let said = said(&daemon).await?;
    Ok(Measured { extra: [Some(quiet), lossy], found: found.collect(), said })
}

/// The mean of the daemon's own histogram of detection.
async fn said(daemon: &Daemon) -> Result<Option<Duration>, Failure> {
    let metrics = daemon.metrics().await?;
    let of = |suffix: &str| {
        metrics.sum(&format!("rollcall_detection_seconds_{suffix}"), "stage=\"published\"")
    };
    Ok(Duration::try_from_secs_f64(of("sum") / of("count")).ok())
}

/// Probes beyond the schedule in a time, as a share of those on it.
async fn extra(daemon: &Daemon, time: Duration) -> Result<f64, Failure> {
    let read = async || -> Result<(f64, f64), Failure> {
        let metrics = daemon.metrics().await?;
        let extra = metrics.sum("rollcall_scheduler_extra_probes_total", "");
        Ok((metrics.sum("rollcall_probe_duration_seconds_count", ""), extra))
    };
    let (all_before, extra_before) = read().await?;
    sleep(time).await;
    let (all, extra) = read().await?;
    let extra = extra - extra_before;
    Ok(extra / (all - all_before - extra))
}

/// Does every target its harm, at a moment of its own within the window. Says when that was.
async fn strike_all(
    variant: &Variant,
    fleet: &Fleet,
    wall: Option<&Wall>,
    window: Duration,
) -> Result<Vec<(usize, Fault, Instant)>, Failure> {
    let mut dice = Dice::new(u64::from(variant.network));
    let millis = u64::try_from(window.as_millis())?;
    let began = Instant::now();
    let mut plan: Vec<_> = (0..fleet.addresses.len())
        .map(|n| (began + Duration::from_millis(dice.below(millis)), n))
        .collect();
    plan.sort_unstable();
    let mut faults = Vec::new();
    for (moment, n) in plan {
        sleep_until(moment).await;
        if n % 2 == 0 {
            faults.push((n, Fault::Killed, Instant::now()));
            fleet.kill(n);
        } else if let Some(wall) = wall {
            // Later than the rule is in force, so that detection is not made to look quicker.
            let before = Instant::now();
            wall.swallow(&fleet.addresses[n].ip().to_string())?;
            faults.push((n, Fault::CutOff, before));
        }
    }
    Ok(faults)
}

type Watchers = JoinSet<Option<(usize, Instant)>>;

/// A blocking query for each service; all of them are held when this returns.
async fn watch_all(daemon: &Daemon, targets: usize) -> Result<Watchers, Failure> {
    let mut watchers = JoinSet::new();
    for n in 0..targets {
        let address = daemon.address;
        watchers.spawn(async move { watch(address, n).await.ok().map(|at| (n, at)) });
    }
    let began = Instant::now();
    loop {
        let held = daemon.metrics().await?.sum("rollcall_blocking_queries", "");
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        if held >= targets as f64 {
            return Ok(watchers);
        }
        if began.elapsed() > Duration::from_secs(20) {
            return Err(format!("only {held} of {targets} watchers are held").into());
        }
        sleep(LOOK).await;
    }
}

async fn watch(daemon: SocketAddr, n: usize) -> Result<Instant, Failure> {
    let mut index = 0;
    loop {
        let path = format!("/v1/health/service/d{n}?index={index}&wait=10m");
        let answer = get(daemon, &path).await?;
        if answer.body.contains("\"Status\":\"critical\"") {
            return Ok(Instant::now());
        }
        index = answer.index;
    }
}

async fn gather(mut watchers: Watchers, until: Instant) -> HashMap<usize, Instant> {
    let mut woken = HashMap::new();
    let left = until.saturating_duration_since(Instant::now());
    let all = timeout(left, async {
        while let Some(heard) = watchers.join_next().await {
            woken.extend(heard.ok().flatten());
        }
    });
    // Those that are still waiting have heard nothing.
    drop(all.await);
    woken
}

/// When each target was first seen to be critical in the metrics.
async fn look(
    daemon: &Daemon,
    plan: Plan,
    until: Instant,
) -> Result<HashMap<String, Instant>, Failure> {
    let mut seen = HashMap::new();
    while seen.len() < plan.faults && Instant::now() < until {
        let metrics = daemon.metrics().await?;
        let now = Instant::now();
        for target in metrics.targets("0") {
            seen.entry(target.to_owned()).or_insert(now);
        }
        sleep(LOOK).await;
    }
    Ok(seen)
}
