//! Some schedules from a fixed seed hold, in every run of the tests: what `cargo xtask sim sources` plays by
//! the hundred thousand.

use duende_sources::run::run;

/// A few seconds, also where nothing is optimised.
const HISTORIES: u64 = 1_000;

#[test]
fn schedules_from_a_fixed_seed_hold() {
    if let Err(failure) = run(1, HISTORIES) {
        panic!("{}: --replay {:?}", failure.fault, failure.history);
    }
}
