//! A scrape of 100,000 targets beside the `prometheus` crate that holds the same data.
//!
//! ```text
//! cargo bench --profile fast --bench exposition [-- --quick]
//! ```
//!
//! It prints a table, and the same figures as JSON in one line. Each side is a process of its own,
//! in turns; it makes its data, scrapes once unmeasured and then thrice. CPU time is what the
//! kernel says of the thread (`/proc/thread-self/schedstat`), extra memory the peak of the resident
//! set during the scrapes (`VmHWM`, set back before) above what it was before them. Rollcall's
//! scrape gives each chunk away and forgets it, as the connection does; the crate's encoder
//! writes into a vector, as its users do. What sending costs is not in either. Before that, both
//! texts for some thousand targets are compared sample by sample: every sample of the crate's must
//! be in rollcall's with the same labels and value, and no others of these families.

mod compare;
mod fleet;
mod peer;

use std::{fs, hint::black_box, io::Write as _, process::Command, sync::Arc};

use flate2::{Compression, write::GzEncoder};
use rollcall::{
    api::exposition::Scrape,
    metrics::{Config, Daemon},
    registry::Registry,
    store::Store,
};
use serde_json::{Value, json};

use self::peer::Peer;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const SCRAPES: usize = 3;

/// What is measured: a name and how one scrape is made. The result is the length of the answer.
const ARMS: [&str; 4] = ["rollcall", "rollcall gzip", "crate", "crate gzip"];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--arm") {
        let (arm, targets) = (&arguments[at + 1], arguments[at + 2].parse()?);
        return measure(arm, targets);
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let (targets, rounds) = if is_quick { (20_000, 1) } else { (100_000, 5) };
    let samples = compare::run(5_000)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{samples} samples of 5000 targets are the same on both sides\n")?;
    let mut results: Vec<Vec<Value>> = ARMS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for n in 0..ARMS.len() {
            // Each round begins with another.
            let arm = (n + round) % ARMS.len();
            let output = Command::new(std::env::current_exe()?)
                .args(["--arm", ARMS[arm], &targets.to_string()])
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            results[arm].push(serde_json::from_slice(&output.stdout)?);
        }
    }
    report(&mut out, targets, &results)
}

/// One arm in a process of its own.
fn measure(arm: &str, targets: usize) -> Result<(), Failure> {
    let is_packed = arm.ends_with("gzip");
    let figures = if arm.starts_with("rollcall") {
        let registry = block_on(fleet::registry(targets))??;
        scrapes(|| Ok(ours(&registry, is_packed, &mut |_| {})))?
    } else {
        let peer = peer(targets)?;
        scrapes(|| {
            let text = peer.encode()?;
            Ok(if is_packed { pack(&text)?.len() } else { text.len() })
        })?
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{figures}")?;
    Ok(())
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(future))
}

/// The crate's side with all its data.
pub(crate) fn peer(targets: usize) -> Result<Peer, Failure> {
    let peer = Peer::new()?;
    let mut last = String::new();
    for n in 0..targets {
        let seen = fleet::seen(n);
        if seen.service != last {
            peer.take_in_service(&seen.service);
        }
        peer.take_in(&seen);
        last = seen.service;
    }
    Ok(peer)
}

/// One scrape of rollcall's. Says how long the answer was.
pub(crate) fn ours(registry: &Registry, is_packed: bool, look: &mut dyn FnMut(&str)) -> usize {
    let (store, daemon) = (Arc::new(Store::in_memory()), Daemon::new());
    let mut scrape = Scrape::new(registry, store, daemon, &Config::default());
    let mut length = 0;
    if is_packed {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        while scrape.refill() {
            gzip.write_all(scrape.chunk().as_bytes()).unwrap_or_default();
            length += black_box(gzip.get_ref()).len();
            gzip.get_mut().clear();
        }
        return length + gzip.finish().unwrap_or_default().len();
    }
    while let Some(chunk) = scrape.next_chunk() {
        length += chunk.len();
        look(black_box(&chunk));
    }
    length
}

fn pack(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text)?;
    Ok(gzip.finish()?)
}

/// What several scrapes cost.
fn scrapes(mut scrape: impl FnMut() -> Result<usize, Failure>) -> Result<Value, Failure> {
    let before = memory("VmRSS:")?;
    // Sets the peak back to what there is.
    fs::write("/proc/self/clear_refs", "5")?;
    let bytes = scrape()?;
    let mut seconds = Vec::new();
    for _ in 0..SCRAPES {
        let start = cpu()?;
        scrape()?;
        seconds.push(cpu()? - start);
    }
    seconds.sort_by(f64::total_cmp);
    let extra = memory("VmHWM:")? - before;
    Ok(json!({
        "seconds": seconds[SCRAPES / 2],
        "bytes": bytes,
        "extra_mb": extra / 1024.0,
        "held_mb": before / 1024.0,
    }))
}

/// CPU time of this thread so far, in seconds.
fn cpu() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = stat.split(' ').next().ok_or("no schedstat")?.parse()?;
    Ok(nanos / 1e9)
}

/// A line of the kernel's figures on memory, in KiB.
fn memory(line: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|held| held.strip_prefix(line)).ok_or("no such line")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

fn report(
    out: &mut impl std::io::Write,
    targets: usize,
    results: &[Vec<Value>],
) -> Result<(), Failure> {
    let spread = |arm: usize, figure: &str| {
        let mut values: Vec<f64> =
            results[arm].iter().filter_map(|round| round[figure].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        [values[0], values[values.len() / 2], values[values.len() - 1]]
    };
    writeln!(
        out,
        "a scrape of {targets} targets, {} rounds: median (min to max)",
        results[0].len()
    )?;
    let mut json = serde_json::Map::new();
    for (arm, name) in ARMS.iter().enumerate() {
        let [least, median, most] = spread(arm, "seconds").map(|seconds| seconds * 1e3);
        let [_, extra, _] = spread(arm, "extra_mb");
        let [_, held, _] = spread(arm, "held_mb");
        let [_, bytes, _] = spread(arm, "bytes");
        writeln!(
            out,
            "{name:<14} {median:8.1} ms CPU ({least:.1} to {most:.1}), {:.1} MB, extra memory \
             {extra:.1} MB over {held:.0} MB",
            bytes / 1e6,
        )?;
        json.insert((*name).to_owned(), json!(results[arm]));
    }
    for (ours, theirs) in [(0, 2), (1, 3)] {
        let mut ratios: Vec<f64> = results[theirs]
            .iter()
            .zip(&results[ours])
            .filter_map(|(t, o)| Some(t["seconds"].as_f64()? / o["seconds"].as_f64()?))
            .collect();
        ratios.sort_by(f64::total_cmp);
        writeln!(
            out,
            "{} to {}: {:.1} x ({:.1} to {:.1})",
            ARMS[theirs],
            ARMS[ours],
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
        )?;
    }
    writeln!(out, "{}", Value::Object(json))?;
    Ok(())
}
