//! A few fleets from a fixed seed hold, in every run of the tests: what `cargo xtask sim fleets` plays by the
//! million. It is also the judge of mutants of the machine (`cargo xtask mutants manager/decide`).

use duende_fleets::run::run;

/// A thousand histories: a few seconds, also where nothing is optimised.
const EVENTS: u64 = 200_000;

#[test]
fn fleets_from_a_fixed_seed_hold() {
    if let Err(failure) = run(1, EVENTS) {
        panic!("{}: --replay {:?}", failure.fault, failure.history);
    }
}
