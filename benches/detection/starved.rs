//! False criticals while the daemon is short of CPU or stopped, and whether it still finds what is
//! really dead afterwards.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::{
    time::{Instant, sleep, timeout},
    try_join,
};

use crate::{
    Failure, Plan,
    daemon::{Daemon, services},
    fleet::Fleet,
    report::Report,
    wall::Starved,
};

const TARGETS: usize = 500;

/// So many are killed in the end.
const KILLED: usize = 10;

const STOPPED: Duration = Duration::from_secs(8);

/// How long targets take to answer, so that many probes are under way when the daemon is stopped.
const DELAY: Duration = Duration::from_millis(300);

/// Scrapes at the same time while the daemon is starved: they take all the CPU it is given.
const SCRAPES: usize = 4;

struct Measured {
    threshold: u32,
    starved: Option<Counted>,
    throttled: (u64, u64),
    stopped: Counted,
    found_after: Option<Duration>,
}

/// What a trial brought about.
struct Counted {
    probes: f64,
    criticals: f64,
    void: f64,
}

pub(crate) async fn measure(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let (three, one) = try_join!(Box::pin(trial(plan, 68, 3)), Box::pin(trial(plan, 69, 1)))?;
    report.title(
        "False criticals of 500 targets asked every second",
        &["probes", "criticals", "void"],
    );
    for measured in [three, one] {
        let threshold = format!("{} in a row decide", measured.threshold);
        match &measured.starved {
            Some(starved) => {
                let (held, all) = measured.throttled;
                report.row(&format!("held to 10 % of a CPU, {threshold}"), &starved.cells());
                report.say(&format!("  held up in {held} of {all} periods"));
            }
            None => report.say("held to 10 % of a CPU: SKIPPED, for no control group can be made"),
        }
        report.row(&format!("stopped for 8 s, {threshold}"), &measured.stopped.cells());
        report.say(&match measured.found_after {
            Some(time) => {
                format!("  {KILLED} killed then: found after {:.2} s", time.as_secs_f64())
            }
            None => format!("  {KILLED} killed then: NOT ALL FOUND"),
        });
    }
    Ok(())
}

impl Counted {
    fn cells(&self) -> [String; 3] {
        [self.probes.to_string(), self.criticals.to_string(), self.void.to_string()]
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            probes: self.probes - before.probes,
            criticals: self.criticals - before.criticals,
            void: self.void - before.void,
        }
    }
}

async fn trial(plan: Plan, network: u8, threshold: u32) -> Result<Measured, Failure> {
    let fleet = Fleet::start(network, TARGETS)?;
    fleet.delay(DELAY);
    let check = format!("interval: 1s, timeout: 800ms, failures_before_critical: {threshold}");
    let all = (0..TARGETS).map(|n| fleet.instance(n)).collect();
    let daemon = Daemon::start(&services(&check, [("starved".to_owned(), all)]))?;
    daemon.is_well(TARGETS, Duration::from_secs(20)).await?;
    sleep(Duration::from_secs(3)).await;
    let mut throttled = (0, 0);
    let before = count(&daemon).await?;
    let starved = match Starved::hold(daemon.pid()) {
        Ok(group) => {
            let hunger = (0..SCRAPES).map(|_| scrape_all_along(&daemon));
            // It goes on until the time is over.
            let time = Duration::from_secs(plan.starved_seconds);
            drop(timeout(time, join_all(hunger)).await);
            throttled = group.throttled()?;
            drop(group);
            sleep(Duration::from_secs(10)).await;
            Some(count(&daemon).await?.since(&before))
        }
        Err(_) => None,
    };
    let before = count(&daemon).await?;
    for _ in 0..plan.stops {
        daemon.signal(Signal::STOP)?;
        sleep(STOPPED).await;
        daemon.signal(Signal::CONT)?;
        sleep(Duration::from_secs(5)).await;
    }
    let stopped = count(&daemon).await?.since(&before);
    (0..KILLED).for_each(|n| fleet.kill(n));
    let found_after = all_found(&daemon).await?;
    Ok(Measured { threshold, starved, throttled, stopped, found_after })
}

async fn scrape_all_along(daemon: &Daemon) {
    loop {
        // What is cut short is part of the trial.
        drop(daemon.metrics().await);
    }
}

async fn count(daemon: &Daemon) -> Result<Counted, Failure> {
    let metrics = daemon.metrics().await?;
    Ok(Counted {
        probes: metrics.sum("rollcall_probe_duration_seconds_count", ""),
        criticals: metrics.sum("rollcall_transitions_total", "to=\"critical\""),
        void: metrics.sum("rollcall_probe_failures_void_total", ""),
    })
}

/// How long it takes until all that were killed, and no others, are known to be critical.
async fn all_found(daemon: &Daemon) -> Result<Option<Duration>, Failure> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if daemon.metrics().await?.targets("0").count() == KILLED {
            return Ok(Some(began.elapsed()));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}
