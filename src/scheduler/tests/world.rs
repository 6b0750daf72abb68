//! Worlds: a daemon among targets that die, hang, flap and lie, held up, blinded and starved itself,
//! on paused time. A seed is a world, and the same seed is the same history; what must be true of
//! all of them is in `check`.
//!
//! ```text
//! WORLD_SEEDS=10000 cargo test --profile fast --all-features --lib scheduler::tests::world
//! WORLD_SEED=123    cargo test --all-features --lib scheduler::tests::world
//! ```

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

mod check;
mod consumers;
mod history;
mod plan;
mod run;
mod targets;

use plan::World;

/// Worlds of a run that is not told how many.
const DEFAULT_SEEDS: u64 = 150;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Plays the world of a seed. Says what was broken, with all it takes to find out why.
fn try_out(seed: u64) -> Result<(), String> {
    let world = World::of(seed);
    let again = format!(
        "replay: WORLD_SEED={seed} cargo test --all-features --lib scheduler::tests::world"
    );
    let played = catch_unwind(AssertUnwindSafe(|| run::play(world.clone())));
    let history =
        played.map_err(|_| format!("seed {seed} ({:?}): it panics\n{again}", world.kind))?;
    check::check(&world, &history).map_err(|broken| {
        let subject = broken.port.map(|port| &world.subjects[usize::from(port) - 1]);
        format!(
            "seed {seed} ({:?}): {}\n{}\n{subject:?}\nstops {:?}\njumps {:?}\nreloads {:?}\n\
             blind {:?}\n{:?}\nlast events:\n{}{again}",
            world.kind,
            broken.promise,
            broken.how,
            world.stops,
            world.jumps,
            world.reloads,
            world.blind,
            world.figures,
            history.last_of(broken.port, broken.at),
        )
    })
}

#[test]
fn no_world_breaks_a_promise() {
    let seeds = match number("WORLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WORLD_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return None;
            }
            if let Err(broken) = try_out(seed) {
                // The others need not go on.
                next.store(seeds.end, Relaxed);
                return Some(broken);
            }
        }
    };
    let broken: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// X1.
#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..12 {
        let digest = || run::play(World::of(seed)).digest();
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}
