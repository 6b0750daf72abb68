//! What survives: the real daemon, written to over several connections as quickly as it answers,
//! and ended at a random moment.
//!
//! After each restart every acknowledged write must be there, or one that the same writer made
//! later; what was under way must be there wholly or not at all; and the index must not be smaller
//! than any that was seen.
//!
//! ```text
//! cargo test --all-features --test crash -- --nocapture                     # 40 rounds
//! CRASH_ROUNDS=1000 cargo test --profile fast --all-features --test crash -- --nocapture kill
//! ```
//!
//! `CRASH_SEED` repeats a run's writes, though not the machine's timing. `tests/powercut.sh` runs
//! the same with power cuts in the place of kills, by `CRASH_CUT`: a program that is called with
//! `cut`, cuts when it reads a line, and is called with `restore` once the daemon is gone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is a test, which the lints see only inside of test functions"
)]

mod client;
mod daemon;
mod fault;
mod writer;

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crate::{
    client::Client,
    daemon::Daemon,
    writer::{Chance, Moment, OnError, Writer, Wrong},
};

const WRITERS: usize = 6;

/// Longest time that is written in a round; long enough that a snapshot ends in some rounds.
const ROUND: Duration = Duration::from_millis(150);

/// Rounds after which it begins with an empty directory: so that the start of the log is tried as
/// often as what comes later.
const FRESH_AFTER: u32 = 100;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// What came of all rounds.
#[derive(Debug, Default)]
struct Tally {
    rounds: u32,
    acknowledged: u64,
    lost: Vec<String>,
    inconsistent: Vec<String>,
}

impl Tally {
    fn add(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Lost(text) => self.lost.push(text),
            Wrong::Inconsistent(text) => self.inconsistent.push(text),
        }
    }
}

#[test]
fn no_acknowledged_write_is_lost_by_a_kill() {
    let rounds = number("CRASH_ROUNDS").map_or(40, |rounds| u32::try_from(rounds).unwrap());
    let seed = number("CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{rounds} rounds, CRASH_SEED={seed}");
    let own = tempfile::tempdir().unwrap();
    let data = env::var("CRASH_DIR").map_or_else(|_| own.path().to_owned(), PathBuf::from);
    let mut tally = Tally::default();
    let mut chance = Chance(seed);
    while tally.rounds < rounds {
        let some = FRESH_AFTER.min(rounds - tally.rounds);
        kill_again_and_again(
            &data.join(format!("{}", tally.rounds)),
            some,
            &mut chance,
            &mut tally,
        );
        println!(
            "{} rounds, {} writes acknowledged: {} lost, {} inconsistent",
            tally.rounds,
            tally.acknowledged,
            tally.lost.len(),
            tally.inconsistent.len()
        );
    }
    assert!(tally.lost.is_empty() && tally.inconsistent.is_empty(), "seed {seed}: {tally:#?}");
    assert!(tally.acknowledged > u64::from(rounds) * 10, "it has hardly written: {tally:?}");
}

/// Rounds on one directory, which must be absent and is deleted in the end if all is well.
fn kill_again_and_again(data: &Path, rounds: u32, chance: &mut Chance, tally: &mut Tally) {
    let mut writers: Vec<_> =
        (0..WRITERS).map(|number| Writer::new(number, chance.below(u64::MAX))).collect();
    let mut daemon = Daemon::start(data);
    for _ in 0..rounds {
        let time = Duration::from_millis(chance.below(ROUND.as_millis().try_into().unwrap()));
        let wrong = write_until_killed(&mut daemon, &mut writers, time);
        for wrong in wrong {
            tally.add(wrong);
        }
        daemon = Daemon::start(data);
        let (shown, index) = writer::shown(&mut daemon.connect());
        for writer in &mut writers {
            for wrong in writer.compare(&shown) {
                tally.add(wrong);
            }
            if index < writer.index {
                let text = format!("index {index} after {} had been seen", writer.index);
                tally.add(Wrong::Inconsistent(text));
            }
        }
        tally.rounds += 1;
    }
    tally.acknowledged += writers.iter().map(|writer| writer.acknowledged).sum::<u64>();
    drop(daemon);
    if tally.lost.is_empty() && tally.inconsistent.is_empty() {
        fs::remove_dir_all(data).unwrap();
    }
}

/// Lets all writers write until the daemon is killed after a time.
fn write_until_killed(daemon: &mut Daemon, writers: &mut [Writer], time: Duration) -> Vec<Wrong> {
    let address = daemon.http;
    let mut power = env::var("CRASH_CUT").ok().map(Power::new);
    let is_cut = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing: Vec<_> = writers
            .iter_mut()
            .map(|writer| {
                let mut client = Client::connect(address).unwrap();
                let moment = || if is_cut.load(SeqCst) { Moment::Cut } else { Moment::Well };
                scope.spawn(move || writer.write(&mut client, OnError::Stop, &moment))
            })
            .collect();
        thread::sleep(time);
        if let Some(power) = &mut power {
            is_cut.store(true, SeqCst);
            power.cut();
        }
        daemon.kill();
        let ended = writing.into_iter().map(|writing| writing.join().unwrap());
        let wrong = ended.filter_map(Result::err).collect();
        if let Some(power) = &mut power {
            power.restore();
        }
        wrong
    })
}

/// The program that cuts the power.
struct Power {
    program: String,
    /// Waits for a line.
    cut: Child,
}

impl Power {
    fn new(program: String) -> Self {
        let cut = Command::new(&program).arg("cut").stdin(Stdio::piped()).spawn().unwrap();
        Self { program, cut }
    }

    fn cut(&mut self) {
        self.cut.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.cut.wait().unwrap().success(), "{} cut", self.program);
    }

    fn restore(&self) {
        let status = Command::new(&self.program).arg("restore").status().unwrap();
        assert!(status.success(), "{} restore", self.program);
    }
}
