//! Runs the engine beside the reference model, with seeded drafts, turns, clocks, faults and crashes.
//!
//! `ZEOLITE_SEEDS=1000` runs more, `ZEOLITE_SEED=17` runs that one alone.

use std::collections::BTreeMap;
use zeolite_tests::model::{Trial, Wear};

const STEPS: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the seeds; every one of `expected` must have happened in them.
#[expect(clippy::print_stdout, reason = "a test prints its seeds")]
fn run(wear: Wear, seeds: u64, expected: &[&str]) {
    let alone = number("ZEOLITE_SEED");
    let seeds = alone.map_or(1..1 + number("ZEOLITE_SEEDS").unwrap_or(seeds), |seed| seed..seed + 1);
    let mut happened: BTreeMap<String, u64> = BTreeMap::new();
    println!("{wear:?}: seeds {seeds:?}");
    for seed in seeds {
        let mut trial = Trial::new(seed, wear);
        if let Err(error) = trial.run(STEPS) {
            panic!("{wear:?}, seed {seed}, step {}: {error}", trial.steps());
        }
        trial.happened().iter().for_each(|(what, times)| *happened.entry(what.clone()).or_default() += times);
    }
    println!("{wear:?}: {happened:?}");
    for what in expected {
        assert!(alone.is_some() || happened.contains_key(*what), "it never happened: {what}");
    }
}

#[test]
fn the_engine_and_the_model_agree() {
    let expected = [
        "committed",
        "committed with a merge",
        "went over a chunk",
        "conflict",
        "read conflict",
        "undo blocked",
        "restored",
        "finished",
        "finished again",
        "prepared durably",
        "packed",
        "moved a pin",
        "copied",
        "closed a gate",
        "was told what is below a gate",
        "the same key again",
        "another draft under a known key",
    ];
    run(Wear::None, 60, &expected);
}

#[test]
fn they_agree_across_crashes() {
    run(
        Wear::Crashes,
        40,
        &[
            "committed",
            "went over a chunk",
            "conflict",
            "crash",
            "kill",
            "restart",
            "finished",
            "restored",
            "the same key again",
            "prepared in the next life",
            "packed",
        ],
    );
}

#[test]
fn they_agree_on_a_disk_that_fails() {
    let expected = [
        "committed",
        "crash",
        "disk full",
        "prepared again",
        "prepared in the next life",
        "a pack ended early",
        "poisoned",
        "outcome unknown",
        "in the log though not acknowledged",
    ];
    run(Wear::Faults, 120, &expected);
}
