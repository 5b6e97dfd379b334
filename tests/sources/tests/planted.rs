//! The model finds each planted bug within its schedules, and shrinks what it found.
#![cfg(feature = "planted")]

use duende::source::follow::planted::{Plant, arm};
use duende_sources::run::run;

/// In how many schedules each must be found: seconds at the slowest.
const HISTORIES_MAX: u64 = 20_000;
/// How short a history must get.
const STEPS_MAX: usize = 60;

#[test]
fn every_planted_bug_is_found_and_shrunk() {
    let mut missed = Vec::new();
    for plant in Plant::ALL {
        arm(Some(plant));
        match run(1, HISTORIES_MAX) {
            Ok(_) => missed.push(plant),
            Err(failure) => {
                println!("{plant:?}: {} steps: {}", failure.history.len() - 1, failure.fault);
                assert!(failure.history.len() <= STEPS_MAX, "{plant:?}: {}", failure.history.len());
            }
        }
    }
    arm(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
    run(1, 2_000).expect("without a planted bug nothing is found");
}
