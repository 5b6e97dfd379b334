//! Every bug that is planted in the core is found.
//!
//! One test for all of them, because a plant is armed for the whole program. It is run in release by
//! `cargo xtask test`, apart from everything else: no other build has the feature.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]

use std::time::{Duration, Instant};

use duende_core::planted::{Plant, arm};
use duende_sim::run::{judge, run};
use duende_sim::shrink::shrink;

/// Steps after which a bug counts as not found, and how long each may take.
const STEPS_MAX: u64 = 20_000_000;
const LENGTH_MAX: Duration = Duration::from_secs(60);
/// Runs that shortening may take: enough to tell what is wrong.
const SHRINK_RUNS: u32 = 400;

#[test]
fn every_planted_bug_is_found() {
    println!("{:<22} {:>9} {:>8} {:>6}  found by", "planted bug", "steps", "ms", "short");
    let mut missed = Vec::new();
    for plant in Plant::ALL {
        arm(Some(plant));
        let begun = Instant::now();
        let outcome = run(1, STEPS_MAX, &mut |_| {});
        let length = begun.elapsed();
        let Some((failure, steps)) = outcome.failed else {
            println!(
                "{:<22} {:>9} {:>8}         not found",
                format!("{plant:?}"),
                outcome.steps,
                ""
            );
            missed.push(plant);
            continue;
        };
        let short = shrink(steps, &failure, SHRINK_RUNS);
        println!(
            "{:<22} {:>9} {:>8} {:>6}  {}",
            format!("{plant:?}"),
            outcome.steps,
            length.as_millis(),
            short.len(),
            failure.rule
        );
        if length > LENGTH_MAX {
            missed.push(plant);
        }
        // The same steps are sound without the bug.
        arm(None);
        assert_eq!(judge(&short).map(drop), Ok(()), "{plant:?}");
    }
    assert_eq!(missed, [], "not found, or not within {LENGTH_MAX:?}");
}
