//! The due-queue, beside a binary heap: a million checks of one interval, for three intervals.
//!
//! ```text
//! cargo bench --profile fast --bench wheel [-- --quick]
//! ```
//!
//! It prints a table, and the same figures as JSON in one line. An operation is one check that
//! fires and is inserted again an interval later, moved by a jitter of 5 %, as the scheduler does;
//! the time is that of the whole run, ticks at which nothing fires included. Bytes are what the
//! process grew by.

#[expect(unused_imports, reason = "its own tests, which are not run here, need them")]
#[path = "../src/scheduler/wheel.rs"]
mod wheel;

use std::{cmp::Reverse, collections::BinaryHeap, fs, io::Write as _};

use tokio::time::Instant;

use self::wheel::Wheel;

type Failure = Box<dyn std::error::Error>;

const ENTRIES: u32 = 1_000_000;

/// 60 s of ticks of 5 ms.
const INTERVAL: u32 = 12_000;

/// How far a run may be moved either way.
const JITTER: u32 = INTERVAL / 20;

const LAPS: u32 = 3;

/// What one queue did.
struct Figures {
    bytes: f64,
    insert: f64,
    fire: f64,
}

/// Pseudo-random numbers: xorshift by Marsaglia (2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(((self.0 >> 32) * u64::from(n)) >> 32).unwrap_or(0)
    }

    /// When the run after the one at `tick` is due.
    fn next(&mut self, tick: u32) -> u32 {
        tick + INTERVAL - JITTER + self.below(2 * JITTER + 1)
    }
}

fn main() -> Result<(), Failure> {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 1 } else { 5 };
    let mut wheels = Vec::new();
    let mut heaps = Vec::new();
    for _ in 0..rounds {
        wheels.push(run_wheel()?);
        heaps.push(run_heap()?);
    }
    let mut out = std::io::stdout().lock();
    let mut json = serde_json::Map::new();
    writeln!(out, "{ENTRIES} entries, {rounds} rounds: median (min to max)")?;
    for (name, rounds) in [("wheel", &wheels), ("heap", &heaps)] {
        let of = |figure: fn(&Figures) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
        let figures = [
            ("bytes", "B an entry", of(|f| f.bytes)),
            ("insert", "ns to insert", of(|f| f.insert)),
            ("fire", "ns to fire and insert again", of(|f| f.fire)),
        ];
        for (figure, unit, mut values) in figures {
            values.sort_by(f64::total_cmp);
            let (least, median, most) =
                (values[0], values[values.len() / 2], values[values.len() - 1]);
            writeln!(out, "{name:<6} {median:8.1} ({least:.1} to {most:.1}) {unit}")?;
            json.insert(format!("{name}_{figure}"), serde_json::json!([least, median, most]));
        }
    }
    writeln!(out, "{}", serde_json::Value::Object(json))?;
    Ok(())
}

fn run_wheel() -> Result<Figures, Failure> {
    let before = resident()?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut wheel = Wheel::default();
    let start = Instant::now();
    for entry in 0..ENTRIES {
        wheel.insert(entry, dice.below(INTERVAL));
    }
    let insert = per_entry(start, ENTRIES);
    let bytes = grown(before)?;
    let (mut fired, mut count, start) = (Vec::new(), 0, Instant::now());
    for tick in 0..LAPS * INTERVAL {
        wheel.advance(tick, &mut fired);
        count += u32::try_from(fired.len())?;
        for entry in fired.drain(..) {
            wheel.insert(entry, dice.next(tick));
        }
    }
    Ok(Figures { bytes, insert, fire: per_entry(start, count) })
}

fn run_heap() -> Result<Figures, Failure> {
    let before = resident()?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut heap = BinaryHeap::new();
    let start = Instant::now();
    for entry in 0..ENTRIES {
        heap.push(Reverse((dice.below(INTERVAL), entry)));
    }
    let insert = per_entry(start, ENTRIES);
    let bytes = grown(before)?;
    let (mut count, start) = (0, Instant::now());
    for tick in 0..LAPS * INTERVAL {
        while let Some(Reverse((due, entry))) = heap.peek().copied()
            && due <= tick
        {
            heap.pop();
            heap.push(Reverse((dice.next(tick), entry)));
            count += 1;
        }
    }
    Ok(Figures { bytes, insert, fire: per_entry(start, count) })
}

fn per_entry(start: Instant, count: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

fn grown(before: u32) -> Result<f64, Failure> {
    Ok(f64::from(resident()?.saturating_sub(before)) * 4096.0 / f64::from(ENTRIES))
}

/// Pages of memory that the process has.
fn resident() -> Result<u32, Failure> {
    let text = fs::read_to_string("/proc/self/statm")?;
    Ok(text.split(' ').nth(1).ok_or("no statm")?.parse()?)
}
