//! The scheduler against a model that was written from the rules alone.

mod bounds;
mod edges;
mod exhaustive;
mod histories;
mod model;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::time::Instant;

/// A millisecond, in nanoseconds.
const MS: u64 = 1_000_000;

type Tested = Scheduler<Vec<Slot>, Vec<Server>>;

fn scheduler(tasks: usize, servers: usize, rules: Rules) -> Tested {
    Scheduler::with_servers(vec![Slot::EMPTY; tasks], vec![Server::EMPTY; servers], rules)
}

fn level(number: u8) -> Level {
    Level::new(number).unwrap()
}

fn at(ns: u64) -> Instant {
    Instant::from_ns(ns)
}

fn any_level() -> impl Strategy<Value = Level> {
    (0..LEVELS).prop_map(level)
}
