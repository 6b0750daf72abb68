//! Whether probes are on time, whatever else the daemon does: the real binary with many checks, a
//! responder on loopback addresses, one for each check, and the same two CPUs for all.
//!
//! ```text
//! cargo bench --profile fast --bench load [-- [--quick] [--only start,api,blackhole]]
//! ```
//!
//! It prints a table, and the same figures as JSON in one line. Lateness is what the daemon counts
//! itself, `rollcall_scheduler_lag_seconds`, over a window; between two bounds of the histogram it
//! is interpolated. Each window ends with the scrape that reads it.
//!
//! - `start`: from the start of the process to the first probe, and from there until each of
//!   100,000 checks was asked once, in an interval of 20 s.
//! - `api`: lateness with those checks: quiet, while scrape follows scrape, and while 100 clients
//!   ask for services without a pause.
//! - `blackhole`: 20,000 checks every 5 s with a timeout of 2 s; packets to 30 % of them are
//!   dropped by a firewall rule (iptables, so root). Lateness, runs left out, and how often the
//!   others were asked.

mod client;
mod daemon;
mod responder;
mod wall;

use std::{io::Write as _, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use self::{
    daemon::{Daemon, Lag},
    responder::Responder,
    wall::Wall,
};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 100;

/// The network of those that are cut off.
const DARK: u8 = 80;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    checks: usize,
    interval: Duration,
    window: Duration,
    few: usize,
}

const WHOLE: Plan = Plan {
    checks: 100_000,
    interval: Duration::from_secs(20),
    window: Duration::from_secs(20),
    few: 20_000,
};

const QUICK: Plan = Plan {
    checks: 20_000,
    interval: Duration::from_secs(5),
    window: Duration::from_secs(5),
    few: 5_000,
};

/// Figures as they are found.
struct Report(Map<String, Value>);

impl Report {
    fn say(&mut self, name: &str, value: f64, unit: &str) -> Result<(), Failure> {
        writeln!(std::io::stdout().lock(), "{name:<64} {value:10.2} {unit}")?;
        self.0.insert(name.to_owned(), json!(value));
        Ok(())
    }

    fn lag(&mut self, name: &str, lag: &Lag) -> Result<(), Failure> {
        self.say(&format!("{name}: lateness p50"), lag.quantile(0.5) * 1e3, "ms")?;
        self.say(&format!("{name}: lateness p99"), lag.quantile(0.99) * 1e3, "ms")?;
        self.say(&format!("{name}: probes"), lag.count(), "")
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { WHOLE };
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1)).map_or("", String::as_str);
    let wanted = |what: &str| only.is_empty() || only.split(',').any(|one| one == what);
    raise_limit_of_files();
    let mut report = Report(Map::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if wanted("start") || wanted("api") {
            many(plan, &mut report, wanted("api")).await?;
        }
        if wanted("blackhole") {
            blackhole(plan, &mut report).await?;
        }
        Ok::<_, Failure>(())
    })?;
    writeln!(std::io::stdout().lock(), "{}", Value::Object(report.0))?;
    Ok(())
}

/// The start of a daemon with very many checks, and how late they are while its API is used.
async fn many(plan: Plan, report: &mut Report, with_api: bool) -> Result<(), Failure> {
    let responder = Responder::start()?;
    let addresses = (0..plan.checks).map(|n| responder::address(responder::WELL, n));
    let timeout = Duration::from_secs(2);
    let config = daemon::config(addresses, responder.port, (plan.interval, timeout));
    let started = Instant::now();
    let daemon = Daemon::start(&config)?;
    let first = responder.first(Duration::from_secs(60)).await?;
    report.say("start: to the first probe", (first - started).as_secs_f64() * 1e3, "ms")?;
    let all = responder.all(plan.checks, first + plan.interval * 3).await?;
    report.say("start: until all are asked", (all - first).as_secs_f64(), "s")?;
    report.say("start: one interval", plan.interval.as_secs_f64(), "s")?;
    if !with_api {
        return Ok(());
    }
    let lag = daemon.lag_while(sleep(plan.window)).await?;
    report.lag("quiet", &lag)?;
    for (name, accept) in [("identity", ""), ("gzip", "Accept-Encoding: gzip\r\n")] {
        let mut scrapes = 0_u32;
        let cpu = daemon.cpu()?;
        let lag = daemon
            .lag_while(async {
                let end = Instant::now() + plan.window;
                while Instant::now() < end && daemon.scrape(accept).await.is_ok() {
                    scrapes += 1;
                }
            })
            .await?;
        report.lag(&format!("scraped without a pause, {name}"), &lag)?;
        report.say(&format!("scrapes, {name}"), f64::from(scrapes), "")?;
        let spent = (daemon.cpu()? - cpu) / plan.window.as_secs_f64();
        report.say(&format!("CPU of the daemon meanwhile, {name}"), spent, "cores")?;
    }
    let mut answers = 0;
    let lag = daemon
        .lag_while(async {
            answers = hammer(&daemon, plan).await;
        })
        .await?;
    report.lag("hammered by 100 clients", &lag)?;
    report.say("answers a second", f64::from(answers) / plan.window.as_secs_f64(), "")?;
    report.say("runs left out", daemon.skipped().await?, "")
}

/// Lets the clients ask for services without a pause. Says how many answers they got.
async fn hammer(daemon: &Daemon, plan: Plan) -> u32 {
    let mut clients = JoinSet::new();
    let end = Instant::now() + plan.window;
    for n in 0..CLIENTS {
        let address = daemon.address;
        let path = format!("/v1/health/service/{}?passing", daemon::service(n % plan.few));
        clients.spawn(async move { client::ask_until(address, &path, end).await.unwrap_or(0) });
    }
    clients.join_all().await.into_iter().sum()
}

/// Three of ten are cut off: whether the others notice.
async fn blackhole(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let Some(wall) = Wall::raise() else {
        writeln!(
            std::io::stdout().lock(),
            "blackhole: SKIPPED, there are no iptables or no right"
        )?;
        return Ok(());
    };
    let responder = Responder::start()?;
    let dark = plan.few * 3 / 10;
    let addresses = (0..plan.few - dark)
        .map(|n| responder::address(responder::WELL, n))
        .chain((0..dark).map(|n| responder::address(DARK, n)));
    let times = (Duration::from_secs(5), Duration::from_secs(2));
    let daemon = Daemon::start(&daemon::config(addresses, responder.port, times))?;
    let first = responder.first(Duration::from_secs(60)).await?;
    responder.all(plan.few - dark, first + Duration::from_secs(20)).await?;
    let lag = daemon.lag_while(sleep(plan.window)).await?;
    report.lag("all well", &lag)?;
    let skipped = daemon.skipped().await?;
    wall.swallow(DARK)?;
    // Past the first timeouts, and what confirms them.
    sleep(Duration::from_secs(6)).await;
    let asked = responder.requests();
    let lag = daemon.lag_while(sleep(plan.window)).await?;
    report.lag("30 % cut off", &lag)?;
    let due = f64::from(u32::try_from(plan.few - dark)?) * plan.window.as_secs_f64()
        / times.0.as_secs_f64();
    let share = f64::from(u32::try_from(responder.requests() - asked)?) / due;
    report.say("those that are well: probes made of those due", share * 100.0, "%")?;
    report.say("runs left out", daemon.skipped().await? - skipped, "")
}

/// As many open files as may be.
fn raise_limit_of_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If not, opening says so.
    setrlimit(Resource::Nofile, limit).ok();
}
