//! What a probe costs: rollcall beside `HAProxy`, `blackbox_exporter`, and what nobody can do without.
//!
//! ```text
//! cargo bench --profile fast --bench compare -- [--quick] [--rounds 5] [--only paced,saturated,…]
//! ```
//!
//! A responder in this process ([`responder`]) is asked by one program after the other, each alone
//! on the other CPU: the bare exchange ([`floor`]), the real rollcall with a generated configuration,
//! HAProxy's checks and `blackbox_exporter` ([`arms`]). Every round runs each once; the order turns.
//! All of it happens in a network name space of its own, if that may be made.
//!
//! CPU time is what the kernel says of a program's threads over a window after a warm-up, divided
//! by the probes of that window. HTTP probes are counted by the responder, which checks every
//! request and knows whom it was meant for, so that a program that does less than it should is found
//! out; TCP checks, which end before a connection is accepted, by the kernel's count of connections
//! begun. Ratios are taken within a round.
//!
//! - `paced`: 10,000 probes a second on fresh connections over HTTP, and over TCP.
//! - `saturated`: as many HTTP probes as a CPU can do.
//! - `kept`: 10,000 HTTP probes a second over connections that are kept.
//! - `blackbox`: probes that `blackbox_exporter` makes when asked, less what asking costs.
//! - `million`: 1,000,000 checks a minute, for ten minutes ([`million`]).

#![expect(clippy::print_stderr, reason = "a program for people")]

mod arms;
mod driver;
mod floor;
mod gauge;
mod million;
mod report;
mod responder;
mod target;

use std::{path::Path, process::Command, time::Duration};

use tokio::time::Instant;

use self::{
    arms::{Arm, Fleet, SERVERS},
    driver::Driver,
    floor::Floor,
    gauge::Cpu,
    report::{Goal, Report},
    responder::Responder,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// rollcall's tick, and so the floor's.
const TICK: Duration = Duration::from_millis(5);

/// Probes a second, where a pace is kept.
const RATE: u32 = 10_000;

/// Marks the run inside a network name space of its own.
const INSIDE: &str = "ROLLCALL_BENCH_INSIDE";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// HTTP on a fresh connection.
    Http,
    /// HTTP on a connection that is kept.
    Kept,
    /// A connection alone.
    Tcp,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Http, Self::Kept, Self::Tcp];

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kept => "kept",
            Self::Tcp => "tcp",
        }
    }
}

/// How often the floor asks.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// So often a second, on ticks.
    Rate { rate: u32, tick: Duration },
    /// As often as so many probes under way at once allow.
    Saturated { flights: usize },
}

/// What is measured.
#[derive(Debug)]
struct Plan {
    only: Option<String>,
    rounds: usize,
    warm_up: Duration,
    window: Duration,
    million: million::Size,
}

impl Plan {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|name| name == part))
    }
}

/// What a run of an arm has cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// CPU of the whole process, microseconds a probe.
    process: f64,
    /// CPU of the threads that probe, microseconds a probe.
    probing: f64,
    /// Probes a second.
    rate: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| text(name).and_then(|value| value.parse::<u32>().ok());
    if let Some(kind) = text("--floor") {
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        let pace = match (number("--rate"), number("--tick"), number("--flights")) {
            (_, _, Some(flights)) => Pace::Saturated { flights: flights as usize },
            (Some(rate), Some(tick), None) => {
                Pace::Rate { rate, tick: Duration::from_millis(u64::from(tick)) }
            }
            _ => return Err("no pace".into()),
        };
        return floor::run(Floor {
            kind: kind.ok_or("no such kind")?,
            port: number("--port").and_then(|port| u16::try_from(port).ok()).ok_or("no port")?,
            targets: number("--targets").ok_or("no targets")?,
            pace,
        });
    }
    if std::env::var_os(INSIDE).is_none() && inside(&arguments)? {
        return Ok(());
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    compare(&Plan {
        only: text("--only"),
        rounds: number("--rounds").map_or(if is_quick { 1 } else { 5 }, |n| n as usize),
        warm_up: Duration::from_secs(2),
        window: Duration::from_secs(if is_quick { 3 } else { 5 }),
        million: million::Size::new(number("--checks"), number("--seconds"), is_quick),
    })
}

/// Runs all of this in a network name space of its own; says whether it could.
fn inside(arguments: &[String]) -> Result<bool, Failure> {
    let flags = if rustix::process::geteuid().is_root() { "-n" } else { "-rn" };
    let may = Command::new("unshare").args([flags, "ip", "link", "set", "lo", "up"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("no network name space of its own: others' connections may count as TCP checks");
        return Ok(false);
    }
    let status = Command::new("unshare")
        .args([flags, "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .env(INSIDE, "1")
        .status()?;
    if status.success() { Ok(true) } else { Err("the run has failed".into()) }
}

fn compare(plan: &Plan) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let responder = Responder::start(1, plan.million.checks as usize)?;
    let mut report = Report::default();
    let bench = Bench { plan, responder: &responder, folder: folder.path() };
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        if plan.wants("paced") {
            bench.paced(Kind::Http, round, &mut report)?;
            bench.paced(Kind::Tcp, round, &mut report)?;
        }
        if plan.wants("saturated") {
            bench.saturated(round, &mut report)?;
        }
        if plan.wants("kept") {
            bench.paced(Kind::Kept, round, &mut report)?;
        }
        if plan.wants("blackbox") {
            bench.blackbox(round, &mut report)?;
        }
    }
    if plan.wants("million") {
        million::run(&plan.million, &responder, folder.path(), &mut report)?;
    }
    match responder.malformed() {
        0 => report.print(),
        malformed => Err(format!("{malformed} requests were not the one to be asked").into()),
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    responder: &'a Responder,
    folder: &'a Path,
}

impl Bench<'_> {
    /// The floor, rollcall and HAProxy at one pace.
    fn paced(&self, kind: Kind, round: usize, report: &mut Report) -> Result<(), Failure> {
        let pace = Pace::Rate { rate: RATE, tick: TICK };
        let name = kind.as_str();
        let (mut bare, mut ours, mut haproxy) = (None, None, None);
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => bare = Some(self.measure(kind, &mut self.floor(kind, pace)?)?),
                1 => ours = Some(self.measure(kind, &mut self.rollcall(kind, SERVERS, RATE)?)?),
                _ if kind == Kind::Kept => {}
                _ => {
                    let port = self.responder.port;
                    if let Some(mut arm) = arms::haproxy(kind, port, RATE, self.folder)? {
                        haproxy = Some(self.measure(kind, &mut arm)?);
                    }
                }
            }
        }
        let (Some(bare), Some(ours)) = (bare, ours) else { return Err("an arm is missing".into()) };
        report.add(&format!("{name}: floor"), "us", bare.process);
        report.add(&format!("{name}: rollcall"), "us", ours.process);
        report.add(&format!("{name}: rollcall, prober thread"), "us", ours.probing);
        report.add(&format!("{name}: rollcall, probes a second"), "", ours.rate);
        let (floor_goal, haproxy_goal) = match kind {
            Kind::Http => (Some(Goal::AtMost(1.25, 1.12)), Goal::AtMost(0.9, 0.8)),
            Kind::Tcp => (None, Goal::AtMost(1.0, 0.9)),
            Kind::Kept => (Some(Goal::AtMost(1.35, 1.2)), Goal::AtMost(1.0, 1.0)),
        };
        let to_floor = ours.process / bare.process;
        report.put(&format!("{name}: rollcall / floor"), "x", floor_goal, to_floor);
        if let Some(haproxy) = haproxy {
            report.add(&format!("{name}: HAProxy"), "us", haproxy.process);
            report.add(&format!("{name}: HAProxy, checks a second"), "", haproxy.rate);
            let ratio = ours.process / haproxy.process;
            report.aim(&format!("{name}: rollcall / HAProxy"), haproxy_goal, ratio);
        }
        Ok(())
    }

    /// The floor and rollcall, each as quick as it can.
    fn saturated(&self, round: usize, report: &mut Report) -> Result<(), Failure> {
        /// More probes a second than one CPU can do.
        const TOO_MANY: u32 = 60_000;
        let pace = Pace::Saturated { flights: 64 };
        let (mut bare, mut ours) = (None, None);
        for turn in 0..2 {
            if (round + turn).is_multiple_of(2) {
                bare = Some(self.measure(Kind::Http, &mut self.floor(Kind::Http, pace)?)?);
            } else {
                let mut arm = self.rollcall(Kind::Http, 6 * SERVERS, TOO_MANY)?;
                ours = Some(self.measure(Kind::Http, &mut arm)?);
            }
        }
        let (Some(bare), Some(ours)) = (bare, ours) else { return Err("an arm is missing".into()) };
        report.add("saturated: floor", "us", bare.process);
        report.add("saturated: rollcall", "us", ours.process);
        report.add("saturated: floor, probes a second", "", bare.rate);
        report.add("saturated: rollcall, probes a second", "", ours.rate);
        let goal = Goal::AtMost(1.30, 1.15);
        report.aim("saturated: rollcall / floor", goal, ours.process / bare.process);
        Ok(())
    }

    /// Probes by `blackbox_exporter`, less what asking it costs; beside rollcall at a pace.
    fn blackbox(&self, round: usize, report: &mut Report) -> Result<(), Failure> {
        const PORT: u16 = 19_115;
        let Some(mut arm) = arms::blackbox(PORT, self.folder)? else { return Ok(()) };
        // It shares the CPU with those who ask it, and takes its time.
        self.responder.spin(false);
        std::thread::sleep(self.plan.warm_up);
        let target = format!("{}:{}", target::address(0), self.responder.port);
        let http = format!("/probe?module=http_2xx&target=http://{target}/health");
        let tcp = format!("/probe?module=tcp_connect&target={target}");
        let mut costs = [0.0; 3];
        for turn in 0..3 {
            let which = (round + turn) % 3;
            let path = ["/-/healthy", &http, &tcp][which];
            let driver = Driver::start(PORT, path);
            std::thread::sleep(Duration::from_secs(1));
            let (cpu, answers) = (Cpu::read(arm.pid())?, driver.answers());
            std::thread::sleep(self.plan.window);
            let (used, answers) = (Cpu::read(arm.pid())?.since(cpu), driver.answers() - answers);
            costs[which] = used.process.as_secs_f64() * 1e6 / figure(answers);
        }
        arm.lives()?;
        drop(arm);
        self.responder.spin(true);
        let [healthy, http, tcp] = costs;
        report.add("blackbox: /-/healthy", "us", healthy);
        for (kind, cost, goal) in [
            (Kind::Http, http, Goal::AtLeast(15.0, 18.0)),
            (Kind::Tcp, tcp, Goal::AtLeast(9.0, 15.0)),
        ] {
            let ours = self.measure(kind, &mut self.rollcall(kind, SERVERS, RATE)?)?;
            let name = kind.as_str();
            report.add(&format!("blackbox: /probe, {name}"), "us", cost);
            let ratio = (cost - healthy) / ours.process;
            report.aim(&format!("blackbox / rollcall, {name}"), goal, ratio);
        }
        Ok(())
    }

    fn floor(&self, kind: Kind, pace: Pace) -> Result<Arm, Failure> {
        arms::floor(Floor { kind, port: self.responder.port, targets: SERVERS, pace })
    }

    fn rollcall(&self, kind: Kind, checks: u32, rate: u32) -> Result<Arm, Failure> {
        let interval = Duration::from_secs(1) * checks / rate;
        let port = self.responder.port;
        arms::rollcall(Fleet { kind, port, checks, interval, api: 0 }, self.folder)
    }

    /// What an arm costs over the window, after the warm-up.
    fn measure(&self, kind: Kind, arm: &mut Arm) -> Result<Cost, Failure> {
        let count = || match kind {
            Kind::Http | Kind::Kept => Ok(self.responder.requests()),
            Kind::Tcp => gauge::connections(),
        };
        std::thread::sleep(self.plan.warm_up);
        let (start, cpu, counted) = (Instant::now(), Cpu::read(arm.pid())?, count()?);
        std::thread::sleep(self.plan.window);
        let (used, counted) = (Cpu::read(arm.pid())?.since(cpu), count()? - counted);
        let elapsed = start.elapsed().as_secs_f64();
        arm.lives()?;
        let probes = figure(counted);
        let rate = probes / elapsed;
        if rate < f64::from(RATE) * 0.75 {
            return Err(format!("only {rate:.0} {} probes a second", kind.as_str()).into());
        }
        Ok(Cost {
            process: used.process.as_secs_f64() * 1e6 / probes,
            probing: used.probing.as_secs_f64() * 1e6 / probes,
            rate,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn figure(count: u64) -> f64 {
    count as f64
}
