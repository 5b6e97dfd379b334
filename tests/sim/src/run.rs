//! A run: worlds one after the other, each judged after every step, until enough steps are done or one
//! of them fails.
//!
//! Rules:
//! 1. After each step the invariants of every machine are checked, and the oracles are asked about each
//!    answer. Every [`AUDIT_EVERY`] steps the chain of the audit log is computed again.
//! 2. Every world ends with a quiet phase ([`calm`]).
//! 3. A world's steps follow from the run's seed and the world's number. The same steps are judged the
//!    same way however they came about.

use std::panic::{AssertUnwindSafe, catch_unwind};

use duende_world::{Input, Seen, Setup, Step, World};

use crate::calm;
use crate::failure::Failure;
use crate::generator::Generator;
use crate::oracle::{Oracle, Oracles};

/// How many steps lie between two checks of the audit log's chain: it costs as much as all the rest.
pub const AUDIT_EVERY: u64 = 64;

/// A world and who judges it.
#[derive(Debug)]
pub struct Court {
    /// The world.
    pub world: World,
    /// Who judges it.
    pub oracles: Oracles,
}

impl Court {
    /// A world before its first step.
    ///
    /// # Errors
    /// A [`Failure`], if it can't be made.
    pub fn new() -> Result<Self, Failure> {
        let world = World::new(Setup::default())
            .map_err(|epitaph| Failure::new("world: can't be made", epitaph.as_str()))?;
        Ok(Self { world, oracles: Oracles::default() })
    }

    /// Does a step and judges it.
    ///
    /// # Errors
    /// A [`Failure`], when something does not hold.
    pub fn step(
        &mut self,
        step: &Step,
        mut watcher: impl FnMut(u64, &Seen<'_>),
    ) -> Result<(), Failure> {
        let Self { world, oracles } = self;
        let now = duende_core::time::Instant::from_ns(match step.input {
            Input::Begin(_) => 0_u64.saturating_add_signed(step.elapsed_ns),
            _ => world.now().as_ns().saturating_add_signed(step.elapsed_ns),
        });
        oracles.step(now, step);
        let mut judged = Ok(());
        world.apply_watched(step, &mut |seen| {
            watcher(now.as_ns(), seen);
            if judged.is_ok() {
                judged = oracles.see(seen);
            }
        });
        judged?;
        world.check_invariants().map_err(|epitaph| Failure::new("invariant", epitaph.as_str()))?;
        oracles.done(world)
    }
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Steps that were done.
    pub steps: u64,
    /// Worlds that were begun.
    pub worlds: u64,
    /// The hash of all effects and answers.
    pub hash: u64,
    /// What went wrong, and the steps of that world.
    pub failed: Option<(Failure, Vec<Step>)>,
}

/// Runs until `steps` steps are done and the last world is over, or one fails. `record` gets each step.
pub fn run(seed: u64, steps: u64, record: &mut dyn FnMut(&Step)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut court = match Court::new() {
        Ok(court) => court,
        Err(failure) => return Outcome { failed: Some((failure, Vec::new())), ..outcome },
    };
    while outcome.steps < steps {
        let mut done = Vec::new();
        let number = outcome.worlds;
        outcome.worlds += 1;
        let mut made = None;
        let generator = Generator::new(seed, number);
        let judged = guarded(|| one_world(&mut court, generator, &mut done, &mut made));
        for step in &done {
            record(step);
        }
        outcome.steps += u64::try_from(done.len()).unwrap_or(u64::MAX);
        outcome.hash = court.world.hash();
        if let Err(failure) = judged {
            // Who judges them again plays the quiet phase again.
            done.truncate(made.unwrap_or(done.len()));
            outcome.failed = Some((failure, done));
            break;
        }
    }
    outcome
}

fn one_world(
    court: &mut Court,
    mut generator: Generator,
    done: &mut Vec<Step>,
    made: &mut Option<usize>,
) -> Result<(), Failure> {
    while let Some(step) = generator.next(&court.world, &court.oracles) {
        done.push(step.clone());
        court.step(&step, |now_ns, seen| generator.watch(now_ns, seen))?;
        if u64::try_from(done.len()).unwrap_or(0) % AUDIT_EVERY == 0 {
            let audit = Step { elapsed_ns: 0, entropy: 0, input: Input::Audit };
            done.push(audit.clone());
            court.step(&audit, |_, _| {})?;
        }
    }
    *made = Some(done.len());
    calm::calm(court, done)
}

/// Judges steps however they came about, and the quiet phase after them. How many of them were done
/// until something failed.
///
/// # Errors
/// The [`Failure`].
pub fn judge(steps: &[Step]) -> Result<u64, Failure> {
    guarded(|| {
        let mut court = Court::new()?;
        for step in steps {
            court.step(step, |_, _| {})?;
        }
        let hash = court.world.hash();
        calm::calm(&mut court, &mut Vec::new())?;
        Ok(hash)
    })
}

/// A panic is a failure too: no input may lead to one.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without a text");
        Err(Failure::new("panic", text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_can_be_had_again_and_judged_from_its_steps() {
        let mut steps = Vec::new();
        let first = run(3, 2_000, &mut |step| steps.push(step.clone()));
        assert_eq!(first.failed, None);
        assert_eq!(run(3, 2_000, &mut |_| {}).hash, first.hash);
        assert_ne!(run(4, 2_000, &mut |_| {}).hash, first.hash);
        assert_eq!(judge(&steps), Ok(first.hash));
    }
}
