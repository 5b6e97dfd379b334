//! No machine of the core goes to the allocator, whatever it is told.
//!
//! A world has every machine; the simulator's steps lead through all that they do, errors included. They
//! are made first and applied under a counting allocator then.

use duende_sim::run::run;
use duende_world::{Setup, World};

const SEED: u64 = 7;
const STEPS: u64 = 20_000;

#[test]
fn a_whole_world_runs_without_an_allocation() {
    let mut steps = Vec::new();
    let outcome = run(SEED, STEPS, &mut |step| steps.push(step.clone()));
    assert!(outcome.failed.is_none());
    assert!(steps.len() as u64 >= STEPS);

    let mut hash = 0;
    let counted = allocation_counter::measure(|| {
        let mut world = World::new(Setup::default()).unwrap();
        for step in &steps {
            world.apply(step);
        }
        world.check_invariants().unwrap();
        hash = world.hash();
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));

    // It was the same run, and the allocator does count.
    let mut again = World::new(Setup::default()).unwrap();
    let counted = allocation_counter::measure(|| {
        steps.clone().iter().for_each(|step| again.apply(step));
    });
    assert_eq!(again.hash(), hash);
    assert_eq!(counted.count_total, 1);
}
