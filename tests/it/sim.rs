//! The simulation: seeds with faults keep every invariant, and every planted bug is found within them.

use errand_engine::Bug;
use errand_sim::{Stats, Violation, simulate};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Seeds 0 to this one are lived through by the test command.
const SEEDS: u64 = 10_000;

/// Seeds that once showed a bug, whatever it was; they are lived through first.
const ONCE_FAILED: &str = include_str!("../cases/sim_seeds.txt");

#[test]
fn every_invariant_holds_in_thousands_of_seeds() {
    let failed: Vec<u64> = ONCE_FAILED.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    assert!(!failed.is_empty(), "the list of seeds that once failed cannot be read");
    let (sum, violation) = live(failed.into_iter().chain(0..SEEDS).collect(), None);
    if let Some(violation) = violation {
        panic!("{violation}\nreplay it with: cargo xtask sim --seed {}", violation.seed);
    }
    // A world in which nothing happens would keep every invariant too.
    assert!(sum.runs > 3 * SEEDS && sum.commits > 15 * SEEDS && sum.tool_calls > 4 * SEEDS, "{sum:?}");
}

#[tokio::test]
async fn the_simulated_store_is_right_about_conditions() {
    crate::conformance::store(async || errand_sim::store()).await;
}

#[test]
fn a_seed_repeats_to_the_last_byte() {
    for seed in 0..40 {
        let (first, _) = simulate(seed, None, false).expect("seeds are checked above");
        let (again, trace) = simulate(seed, None, true).expect("seeds are checked above");
        assert_eq!(first, again, "seed {seed}");
        assert!(!trace.is_empty());
    }
}

#[test]
fn every_planted_bug_is_found_within_those_seeds() {
    let missed: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| live((0..SEEDS).collect(), Some(*bug)).1.is_none()).collect();
    assert!(Bug::ALL.len() >= 20);
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}

/// Lives through seeds on both cores until one does not hold.
fn live(seeds: Vec<u64>, bug: Option<Bug>) -> (Stats, Option<Violation>) {
    let next = AtomicU64::new(0);
    let worker = || {
        let mut sum = Stats::default();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            match simulate(*seed, bug, false) {
                Ok((stats, _)) => sum += stats,
                Err(violation) => {
                    next.store(u64::from(u32::MAX), Ordering::Relaxed);
                    return (sum, Some(violation));
                }
            }
        }
        (sum, None)
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        let mut all = (Stats::default(), None);
        for worker in workers {
            let (stats, violation) = worker.join().expect("a worker reports a violation, it does not panic");
            all.0 += stats;
            all.1 = all.1.or(violation);
        }
        all
    })
}
