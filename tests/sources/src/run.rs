//! Plays a history, lets everything come to an end, and judges. A history is a list of numbers: the first
//! draws the world, each further one is a step. So it can be shrunk by leaving out steps.

use duende_history::{Draw, Failure, Fault, shrink};

use crate::world::World;

/// Steps of one history.
const STEPS: usize = 120;

/// A history from a seed.
#[must_use]
pub fn history(seed: u64) -> Vec<u64> {
    let mut draw = Draw::new(seed);
    let steps = 1 + draw.below(STEPS);
    (0..=steps).map(|_| draw.word()).collect()
}

/// Plays so many histories, from a seed on. How many steps were taken.
///
/// # Errors
/// One went wrong; it was shrunk.
pub fn run(seed: u64, histories: u64) -> Result<u64, Failure> {
    let mut steps = 0;
    for number in 0..histories {
        let history = history(seed.wrapping_add(number));
        match play(&history) {
            Ok(played) => steps += played,
            Err(fault) => return Err(shrink(history, fault, play)),
        }
    }
    Ok(steps)
}

/// Plays one history. How many steps it had.
///
/// # Errors
/// What went wrong.
pub fn play(history: &[u64]) -> Result<u64, Fault> {
    play_and_tell(history, false)
}

/// Plays one history, and prints it as it goes if it is to be told.
///
/// # Errors
/// What went wrong.
pub fn play_and_tell(history: &[u64], told: bool) -> Result<u64, Fault> {
    let Some((first, steps)) = history.split_first() else { return Ok(0) };
    let mut world = World::new(*first);
    world.told = told;
    world.introduce();
    for step in steps {
        world.act(*step)?;
    }
    world.judge()?;
    Ok(world.steps)
}
