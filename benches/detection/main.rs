//! How soon a fault is told, and how often one is told that is none: the real binary, real sockets,
//! and faults made on purpose.
//!
//! ```text
//! cargo bench --profile fast --bench detection [-- [--quick] [--only detection,loss,starved,blackhole,hostile]]
//! ```
//!
//! - `detection`: targets are killed (connections reset, the port refuses) or cut off (a firewall
//!   swallows what is sent to them) at random moments; from there to the wake of a watcher blocked
//!   on `/v1/health/service`, and to `/metrics`, by polling alone, with confirmation, and with the
//!   tripwire; and the probes that are made beyond the schedule. Guard and damping are off.
//! - `loss`: how often lost probes make a verdict, by the judge alone.
//! - `starved`: 500 well targets, while the daemon is held to a tenth of a CPU by a control group, and
//!   while it is stopped for 8 s again and again.
//! - `blackhole`: everything is cut off at once, with the guard as it is by default.
//! - `hostile`: 500 targets that mean harm, of 25 kinds, beside 200 good ones: how late these are
//!   asked, as they see it, and the daemon's memory.
//!
//! Cutting off takes root and iptables, starving takes root and control groups (either version);
//! what cannot be done is said to be skipped. Only addresses in `127.64.0.0/12` are touched.

mod blackhole;
mod client;
mod daemon;
mod detect;
mod dice;
mod fleet;
mod harm;
mod hostile;
mod loss;
mod report;
mod starved;
mod wall;

use tokio::runtime;

use self::report::Report;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Targets of each variant, half of them killed and half of them cut off.
    faults: usize,
    lossy_intervals: u32,
    lossy_probes: u32,
    starved_seconds: u64,
    stops: u32,
    blackhole_seconds: u64,
    hostile_seconds: u64,
}

const WHOLE: Plan = Plan {
    faults: 400,
    lossy_intervals: 6,
    lossy_probes: 100_000_000,
    starved_seconds: 30,
    stops: 5,
    blackhole_seconds: 90,
    hostile_seconds: 60,
};

const QUICK: Plan = Plan {
    faults: 100,
    lossy_intervals: 1,
    lossy_probes: 10_000_000,
    starved_seconds: 10,
    stops: 1,
    blackhole_seconds: 30,
    hostile_seconds: 15,
};

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { WHOLE };
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1)).map_or("", String::as_str);
    let wanted = |what: &str| only.is_empty() || only.split(',').any(|one| one == what);
    raise_limit_of_files();
    daemon::prepare()?;
    let report = &mut Report::new();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    if wanted("loss") {
        loss::measure(plan.lossy_probes, report)?;
    }
    runtime.block_on(async {
        if wanted("detection") {
            detect::measure(plan, report).await?;
        }
        if wanted("starved") {
            starved::measure(plan, report).await?;
        }
        if wanted("blackhole") {
            blackhole::measure(plan, report).await?;
        }
        if wanted("hostile") {
            hostile::measure(plan, report).await?;
        }
        Ok(())
    })
}

/// As many open files as may be: each target and each watcher takes one here.
fn raise_limit_of_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If not, opening says so.
    setrlimit(Resource::Nofile, limit).ok();
}
