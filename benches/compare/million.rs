//! A million checks, on the machine that also answers them.
//!
//! rollcall asks 1,000,000 targets with an address each once a minute. Of every single target the
//! responder knows how often it was asked, which must be the time divided by the interval, give or
//! take one. Lateness is what rollcall says of itself, from the moment a probe was planned to start
//! to the moment it did, beside that of a loop that does nothing but wait for a timer of 1 ms, on
//! the same CPU in the same run. Targets are left out of `/metrics` (`per_target: off`), so that reading
//! it does not take the very CPU whose lateness is read; what a whole scrape does is in `benches/load`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use rustix::{
    event::Timespec,
    thread::CpuSet,
    time::{self, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags},
};
use tokio::time::Instant;

use super::{
    Failure, Kind, TICK,
    arms::{self, Fleet},
    figure,
    gauge::{self, Cpu},
    report::{Goal, Report},
    responder::Responder,
};

const INTERVAL: Duration = Duration::from_secs(60);
const API: u16 = 18_500;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) checks: u32,
    window: Duration,
}

impl Size {
    pub(super) fn new(checks: Option<u32>, seconds: Option<u32>, is_quick: bool) -> Self {
        let usual = if is_quick { 60 } else { 600 };
        Self {
            checks: checks.unwrap_or(1_000_000),
            window: Duration::from_secs(u64::from(seconds.unwrap_or(usual))),
        }
    }
}

/// What the daemon says of itself.
struct Account {
    /// Starts by lateness: upper bounds in seconds, and how many were no later.
    lag: Vec<(f64, f64)>,
    skipped: f64,
    checks: f64,
}

pub(super) fn run(
    size: &Size,
    responder: &Responder,
    folder: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let Size { checks, window } = *size;
    let bare = bare_lateness(Duration::from_secs(5))?;
    let fleet =
        Fleet { kind: Kind::Http, port: responder.port, checks, interval: INTERVAL, api: API };
    let began = Instant::now();
    let mut arm = arms::rollcall(fleet, folder)?;
    let first = loop {
        if responder.by_target().iter().any(|count| *count > 0) {
            break began.elapsed();
        }
        arm.lives()?;
        std::thread::sleep(Duration::from_millis(20));
    };
    // One interval, and what it takes to begin.
    std::thread::sleep(INTERVAL + Duration::from_secs(10));
    let before = (account()?, responder.by_target(), Cpu::read(arm.pid())?, Instant::now());
    std::thread::sleep(window);
    let used = Cpu::read(arm.pid())?.since(before.2);
    let (counts, elapsed) = (responder.by_target(), before.3.elapsed());
    let (account, memory) = (account()?, gauge::memory(arm.pid())?);
    arm.lives()?;
    drop(arm);
    let asked: Vec<u32> = counts.iter().zip(&before.1).map(|(now, then)| now - then).collect();
    let total = figure(asked.iter().map(|count| u64::from(*count)).sum());
    let due = u32::try_from(elapsed.as_secs() / INTERVAL.as_secs())?;
    let wrong = asked.iter().filter(|count| count.abs_diff(due) > 1).count();
    let late = quantile(&before.0.lag, &account.lag, 0.99);
    let bound = (2.5 * bare).max(TICK.as_secs_f64());
    report.add("million: checks", "", account.checks);
    report.add("million: to the first probe", "s", first.as_secs_f64());
    report.add("million: probes a second", "", total / elapsed.as_secs_f64());
    let core = used.process.as_secs_f64() / elapsed.as_secs_f64();
    report.put("million: cores", "", Some(Goal::AtMost(0.6, 0.45)), core);
    report.add("million: CPU a probe", "us", used.process.as_secs_f64() * 1e6 / total);
    let none = Some(Goal::AtMost(0.0, 0.0));
    report.put("million: runs skipped", "", none, account.skipped - before.0.skipped);
    report.put("million: checks asked too often or seldom", "", none, figure(wrong as u64));
    report.add("million: lateness p99 of a bare timer", "ms", bare * 1e3);
    let goal = Some(Goal::AtMost(bound * 1e3, 1.5 * bare * 1e3));
    report.put("million: lateness p99", "ms", goal, late * 1e3);
    let per_check = figure(memory.0) / f64::from(checks);
    report.put("million: resident a check", "B", Some(Goal::AtMost(512.0, 300.0)), per_check);
    let peak = figure(memory.1) / figure(memory.0);
    report.aim("million: most ever / resident", Goal::AtMost(1.5, 1.5), peak);
    Ok(())
}

/// Reads `/metrics`.
fn account() -> Result<Account, Failure> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], API)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut account = Account { lag: Vec::new(), skipped: 0.0, checks: 0.0 };
    let mut rest = Vec::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = stream.read(&mut piece)?;
        rest.extend_from_slice(&piece[..read]);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n') {
            account.take(line)?;
        }
        rest.drain(..whole);
        if read == 0 {
            return Ok(account);
        }
    }
}

impl Account {
    fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        if !line.starts_with(b"rollcall_scheduler_") {
            return Ok(());
        }
        let line = std::str::from_utf8(line)?;
        let (name, value) = line.rsplit_once(' ').ok_or("a sample without a value")?;
        let value: f64 = value.parse()?;
        if let Some(bound) = name.strip_prefix("rollcall_scheduler_lag_seconds_bucket{le=\"") {
            let bound = bound.trim_end_matches("\"}");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
            self.lag.push((bound, value));
        } else if name.starts_with("rollcall_scheduler_skipped_runs_total") {
            self.skipped += value;
        } else if name == "rollcall_scheduler_queue_length" {
            self.checks = value;
        }
        Ok(())
    }
}

/// A quantile of what came between two readings, linear within a bucket.
fn quantile(before: &[(f64, f64)], after: &[(f64, f64)], share: f64) -> f64 {
    let counts: Vec<(f64, f64)> =
        before.iter().zip(after).map(|((_, then), (bound, now))| (*bound, now - then)).collect();
    let wanted = counts.last().map_or(0.0, |(_, all)| all * share);
    let mut below = (0.0, 0.0);
    for (bound, count) in counts {
        if count >= wanted {
            let within = (wanted - below.1) / (count - below.1).max(1.0);
            return below.0 + (bound - below.0) * within;
        }
        below = (bound, count);
    }
    f64::NAN
}

/// How late a loop is at the 99th percentile that does nothing but wait for a timer of 1 ms, where
/// what it waits for is due at any moment within the millisecond.
fn bare_lateness(lasting: Duration) -> Result<f64, Failure> {
    const PERIOD: Duration = Duration::from_millis(1);
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut cpu = CpuSet::new();
    cpu.set(0);
    rustix::thread::sched_setaffinity(None, &cpu)?;
    let timer = time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty())?;
    let every = Timespec { tv_sec: 0, tv_nsec: i64::from(PERIOD.subsec_nanos()) };
    let setting = Itimerspec { it_interval: every, it_value: every };
    time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
    let start = Instant::now();
    let (mut late, mut due) = (Vec::new(), Duration::ZERO);
    while start.elapsed() < lasting {
        rustix::io::read(&timer, &mut [0; 8])?;
        let now = start.elapsed();
        // Twenty a millisecond, as many as a daemon with 20,000 probes a second has.
        while due <= now {
            late.push(now.saturating_sub(due).as_secs_f64());
            due += PERIOD / 20;
        }
    }
    rustix::thread::sched_setaffinity(None, &all)?;
    late.sort_by(f64::total_cmp);
    Ok(late[late.len() * 99 / 100])
}
