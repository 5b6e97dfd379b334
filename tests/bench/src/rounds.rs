//! How it is measured.
//!
//! Rules:
//! 1. One sample is the mean of a batch of operations that takes about [`BATCH`]: long enough that
//!    reading the clock does not count, short enough that most batches run undisturbed on a busy
//!    machine.
//! 2. The contenders of a measure take turns, batch by batch.
//! 3. What an operation gives and takes goes through `black_box`, so that none is left out.
//! 4. Allocations are counted over operations of their own, before the timing.

use std::hint::black_box;
use std::time::{Duration, Instant};

use duende_report::Measure;

/// How long a batch takes, about.
const BATCH: Duration = Duration::from_micros(25);

/// How many batches of each contender are measured.
const ROUNDS: u32 = 1_500;

/// Over how many operations allocations are counted.
const COUNTED: u32 = 1_000;

/// Something that takes its turns.
pub(crate) struct Contender<'a> {
    name: String,
    /// Nanoseconds of one operation, over one batch.
    sample: Box<dyn FnMut() -> f64 + 'a>,
    rounds: u32,
    allocations: u64,
}

impl<'a> Contender<'a> {
    /// An operation that can be repeated at will.
    pub(crate) fn new<T>(name: impl Into<String>, mut operation: impl FnMut() -> T + 'a) -> Self {
        let allocations = allocations(|| repeat(COUNTED, &mut operation));
        let mut batch = 1_u32;
        while batch < 1 << 24 {
            let began = Instant::now();
            repeat(batch, &mut operation);
            if began.elapsed() >= BATCH {
                break;
            }
            batch *= 2;
        }
        let sample = Box::new(move || {
            let began = Instant::now();
            repeat(batch, &mut operation);
            per_operation(began.elapsed(), batch)
        });
        Self { name: name.into(), sample, rounds: ROUNDS, allocations }
    }

    /// Batches that have to be prepared: `batch` does `operations` of them and says how long they
    /// took; what it prepares is not timed.
    pub(crate) fn prepared(
        name: impl Into<String>,
        rounds: u32,
        operations: u32,
        allocations: u64,
        mut batch: impl FnMut() -> Duration + 'a,
    ) -> Self {
        let sample = Box::new(move || per_operation(batch(), operations));
        Self { name: name.into(), sample, rounds, allocations }
    }
}

/// Lets contenders take turns.
pub(crate) fn measure<'a>(
    name: &str,
    what: &str,
    contenders: impl IntoIterator<Item = Contender<'a>>,
) -> Measure {
    let mut contenders: Vec<_> = contenders.into_iter().collect();
    let rounds = contenders.iter().map(|contender| contender.rounds).min().unwrap_or(0);
    let mut samples = vec![Vec::new(); contenders.len()];
    // The first turns bring the code and the data into the caches.
    for round in 0..rounds + rounds / 10 {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let ns = (contender.sample)();
            if round >= rounds / 10 {
                samples.push(ns);
            }
        }
    }
    let measure = Measure::new(name, what);
    contenders.into_iter().zip(samples).fold(measure, |measure, (contender, samples)| {
        measure.counted(contender.name, samples, Some(contender.allocations))
    })
}

/// How often `operations` goes to the allocator.
pub(crate) fn allocations(operations: impl FnOnce()) -> u64 {
    allocation_counter::measure(operations).count_total
}

/// What all the others include.
pub(crate) fn empty_loop() -> Measure {
    measure("loop", "an operation that does nothing", [Contender::new("empty", || ())])
}

#[inline]
fn repeat<T>(times: u32, operation: &mut impl FnMut() -> T) {
    for _ in 0..times {
        black_box(operation());
    }
}

fn per_operation(length: Duration, operations: u32) -> f64 {
    length.as_nanos() as f64 / f64::from(operations)
}
