//! What probes cost that speak more than plain HTTP/1.1 on a fresh connection: gRPC, HTTPS, keep-alive.
//!
//! ```text
//! cargo bench --profile fast --bench protocols -- [--quick] [--only grpc,https,keepalive]
//! ```
//!
//! Each group has a responder in this process, which counts requests and checks their form, and arms
//! that ask it, one after the other, in an order that turns with each round:
//!
//! - `grpc`: tonic with a fresh channel for each call, and the h2 library on a fresh connection (this
//!   program again, see `driver`); rollcall on fresh connections (`keep_alive: false`) and on kept ones;
//! - `https`: rollcall with full handshakes always (`resume: false`), and with sessions resumed;
//! - `keepalive`: the bare exchange on kept connections, and rollcall with `keep_alive: true`.
//!
//! An arm of rollcall is the real binary with a generated configuration of as many instances as probes
//! a second. CPU time is what the kernel says of an arm's threads (`/proc/PID/task/*/schedstat`) over a
//! window after a warm-up, divided by the requests that the responder counted. Arms have one CPU and
//! the responder the other, which it never leaves idle: else waking it would be charged to whoever asks.

mod arm;
mod driver;
mod responder;

use std::{
    collections::BTreeMap, io::Write as _, os::unix::process::CommandExt as _, process::Command,
    time::Duration,
};

use self::{
    arm::{Arm, Cost},
    responder::Responder,
};

type Failure = Box<dyn std::error::Error>;

/// How it is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    warm_up: Duration,
    window: Duration,
}

/// Arms that are compared with each other.
struct Group {
    name: &'static str,
    rate: u32,
    arms: &'static [Arm],
    /// What is told beside the figures: of the first over the second.
    ratios: &'static [(&'static str, &'static str)],
}

const GROUPS: [Group; 3] = [
    Group {
        name: "grpc",
        rate: 4000,
        arms: &[Arm::TonicFresh, Arm::H2Fresh, Arm::GrpcFresh, Arm::GrpcKept],
        ratios: &[
            ("h2 library, fresh", "tonic, fresh channel"),
            ("rollcall gRPC, fresh", "tonic, fresh channel"),
            ("rollcall gRPC, kept", "tonic, fresh channel"),
        ],
    },
    Group {
        name: "https",
        rate: 1000,
        arms: &[Arm::HttpsFull, Arm::HttpsResumed],
        ratios: &[("rollcall HTTPS, resumed", "rollcall HTTPS, full")],
    },
    Group {
        name: "keepalive",
        rate: 4000,
        arms: &[Arm::BareKept, Arm::HttpKept],
        ratios: &[("rollcall HTTP, kept", "bare exchange, kept")],
    },
];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    if let Some(driven) = value("--drive") {
        let number = |name| value(name).and_then(|text| text.parse::<u32>().ok());
        let port = number("--port").and_then(|port| u16::try_from(port).ok());
        return driver::run(&driven, port.ok_or("no port")?, number("--rate").ok_or("no rate")?);
    }
    let is = |name: &str| arguments.iter().any(|argument| argument == name);
    if !is("--pinned") {
        // The responder's CPU. Without taskset it is measured all the same, less well.
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", "1"]).arg(std::env::current_exe()?).args(&arguments).arg("--pinned");
        drop(pinned.exec());
    }
    let quick = is("--quick");
    let rounds = value("--rounds").and_then(|rounds| rounds.parse().ok());
    let plan = Plan {
        rounds: rounds.unwrap_or(if quick { 1 } else { 5 }),
        warm_up: Duration::from_millis(2500),
        window: Duration::from_secs(if quick { 3 } else { 5 }),
    };
    let only = value("--only");
    let is_wanted =
        |group: &Group| only.as_deref().is_none_or(|only| only.split(',').any(|o| o == group.name));
    let mut rows = Vec::new();
    for group in GROUPS.iter().filter(|group| is_wanted(group)) {
        rows.extend(measure(group, plan)?);
    }
    report(&rows, plan)
}

/// A line of the table.
struct Row {
    name: String,
    unit: &'static str,
    figures: Vec<f64>,
}

fn measure(group: &Group, plan: Plan) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let mut costs: BTreeMap<&str, Vec<Cost>> = BTreeMap::new();
    let responder = Responder::start(group.name, folder.path())?;
    for round in 0..plan.rounds {
        for turn in 0..group.arms.len() {
            let arm = group.arms[(round + turn) % group.arms.len()];
            let cost = arm.measure(&responder, group.rate, folder.path(), plan)?;
            costs.entry(arm.name()).or_default().push(cost);
        }
    }
    let figures = |name: &str, of: fn(&Cost) -> f64| -> Vec<f64> {
        costs.get(name).into_iter().flatten().map(of).collect()
    };
    let mut rows = Vec::new();
    for arm in group.arms {
        let name = arm.name();
        rows.push(Row { name: name.to_owned(), unit: "us", figures: figures(name, |c| c.cpu) });
        let made = format!("  {name}, a second");
        rows.push(Row { name: made, unit: "", figures: figures(name, |c| c.rate) });
    }
    for (over, under) in group.ratios {
        let (over_cpu, under_cpu) = (figures(over, |c| c.cpu), figures(under, |c| c.cpu));
        let ratios = over_cpu.iter().zip(&under_cpu).map(|(a, b)| a / b).collect();
        rows.push(Row { name: format!("{over} / {under}"), unit: "x", figures: ratios });
    }
    Ok(rows)
}

fn report(rows: &[Row], plan: Plan) -> Result<(), Failure> {
    let out = &mut std::io::stdout().lock();
    writeln!(out, "{:46} {:>10} {:>18}", "CPU per probe, whole process", "median", "min to max")?;
    let mut json = Vec::new();
    for Row { name, unit, figures } in rows {
        let mut sorted = figures.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (median, low, high) = (at(sorted.len() / 2), at(0), at(sorted.len().saturating_sub(1)));
        writeln!(out, "{name:46} {median:>8.2} {unit:2} {low:>8.2} to {high:.2}")?;
        json.push(serde_json::json!({
            "name": name.trim(), "unit": unit, "median": median, "min": low, "max": high,
            "rounds": figures,
        }));
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let json = serde_json::json!({
        "bench": "protocols", "window_seconds": plan.window.as_secs(), "load": load.trim(),
        "rows": json,
    });
    writeln!(out, "{json}")?;
    Ok(())
}
