//! Everything is cut off at once, and the daemon has no anchors to know it by: what consumers are
//! told, beside what is observed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Failure, Plan,
    daemon::{Daemon, services},
    fleet::Fleet,
    report::Report,
    wall::Wall,
};

const TARGETS: usize = 200;
const SERVICES: usize = 20;

/// 15 % of all, `guard.max_share`.
const CAP: usize = TARGETS * 15 / 100;

const NETWORK: u8 = 70;
const CUT: &str = "127.70.0.0/16";

/// What stands at one moment.
struct Moment {
    observed: usize,
    published: usize,
    held: f64,
    score: f64,
}

pub(crate) async fn measure(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let Some(wall) = Wall::raise() else {
        report.say("\nAll cut off at once: SKIPPED, for there are no iptables or no right to.");
        return Ok(());
    };
    let fleet = Fleet::start(NETWORK, TARGETS)?;
    let size = TARGETS / SERVICES;
    let members = |s: usize| (s * size..(s + 1) * size).map(|n| fleet.instance(n)).collect();
    let all = (0..SERVICES).map(|s| (format!("s{s}"), members(s)));
    let daemon = Daemon::start(&services("interval: 10s, timeout: 2s", all))?;
    daemon.is_well(TARGETS, Duration::from_secs(30)).await?;
    sleep(Duration::from_secs(5)).await;
    report.title(
        "200 targets of 20 services cut off, interval 10 s",
        &["observed", "published", "held", "score"],
    );
    wall.swallow(CUT)?;
    let (most, complete) = follow(&daemon, plan, report).await?;
    report.say(&match complete {
        Some(time) => format!("all were observed critical after {:.2} s", time.as_secs_f64()),
        None => "NOT ALL were observed critical".to_owned(),
    });
    report.say(&format!("most published at any time: {most}; the cap is {CAP}"));
    let holds = daemon.metrics().await?.sum("rollcall_guard_holds_total", "");
    report.say(&format!("holds counted: {holds}"));
    wall.heal(CUT)?;
    let healed = Instant::now();
    while healed.elapsed() < Duration::from_secs(120) {
        let now = moment(&daemon).await?;
        if now.observed + now.published == 0 && now.held < 1.0 {
            let time = healed.elapsed().as_secs_f64();
            report.say(&format!("healed: all well, in both views, after {time:.2} s"));
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    report.say("healed: NOT ALL WELL after two minutes");
    Ok(())
}

/// Shows what stands every five seconds. Says how many were published as critical at most, and
/// when all were observed to be.
async fn follow(
    daemon: &Daemon,
    plan: Plan,
    report: &mut Report,
) -> Result<(usize, Option<Duration>), Failure> {
    let (began, mut next) = (Instant::now(), 0);
    let (mut most, mut complete) = (0, None);
    while began.elapsed() < Duration::from_secs(plan.blackhole_seconds) {
        let now = moment(daemon).await?;
        most = most.max(now.published);
        if now.observed == TARGETS {
            complete.get_or_insert(began.elapsed());
        }
        if began.elapsed().as_secs() >= next {
            let Moment { observed, published, held, score } = now;
            let cells =
                [observed.to_string(), published.to_string(), held.to_string(), score.to_string()];
            report.row(&format!("after {next} s"), &cells);
            next += 5;
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok((most, complete))
}

async fn moment(daemon: &Daemon) -> Result<Moment, Failure> {
    let metrics = daemon.metrics().await?;
    Ok(Moment {
        observed: metrics.targets("0").count(),
        published: daemon.published_criticals().await?,
        held: metrics.sum("rollcall_published_held", "by=\"guard\""),
        score: metrics.sum("rollcall_local_health_score", ""),
    })
}
