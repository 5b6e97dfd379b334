//! The simulator finds each planted bug within its events, and shrinks what it found.
#![cfg(feature = "planted")]

use duende::manager::decide::planted::{Plant, arm};
use duende_fleets::run::run;

/// In how many events each must be found: a minute at the slowest.
const EVENTS_MAX: u64 = 3_000_000;
/// How short a history must get.
const STEPS_MAX: usize = 60;

#[test]
fn every_planted_bug_is_found_and_shrunk() {
    let mut missed = Vec::new();
    for plant in Plant::ALL {
        arm(Some(plant));
        match run(1, EVENTS_MAX) {
            Ok(_) => missed.push(plant),
            Err(failure) => {
                println!("{plant:?}: {} steps: {}", failure.history.len() - 1, failure.fault);
                assert!(failure.history.len() <= STEPS_MAX, "{plant:?}: {}", failure.history.len());
            }
        }
    }
    arm(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
    run(1, 100_000).expect("without a planted bug nothing is found");
}
