#![cfg_attr(not(target_arch = "wasm32"), no_std)]
//! One recorded run on every target, and what came of it.
//!
//! The core promises the same effects for the same inputs, everywhere. So one run of the simulator is
//! recorded, and the worlds in it are played again by the same code compiled for three targets: natively,
//! as wasm32 under wasmtime, and for a Cortex-M4 under QEMU. All of them must arrive at the same hash of
//! all effects, every [`CHECKPOINT_STEPS`] steps and at the end; so a difference is also found within that
//! many steps.
//!
//! | file | idea |
//! |---|---|
//! | `lib.rs` | a trace in pieces becomes checkpoints |
//! | `wasm.rs` | the same for a host of WebAssembly |
//! | `metal.rs` | the same as an image, which reads the trace by semihosting |
//! | `tests/same_effects.rs` | records, replays three times, compares |

use duende_core::epitaph::Epitaph;
use duende_world::{Setup, TraceError, TraceReader, World};

#[cfg(target_arch = "wasm32")]
mod wasm;

/// From one checkpoint to the next.
pub const CHECKPOINT_STEPS: u64 = 10_000;

/// How far a replay has come, and the hash of all effects until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many steps were done.
    pub steps: u64,
    /// The hash.
    pub hash: u64,
}

/// Why a replay did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The trace can't be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A machine's invariant is broken.
    #[error("after step {steps}: {epitaph}")]
    Broken {
        /// After how many steps.
        steps: u64,
        /// What was found.
        epitaph: Epitaph,
    },
}

/// A run that is played again.
///
/// Its owner writes bytes of the trace into [`spare`](Self::spare) and says how many with
/// [`filled`](Self::filled), until there are no more; then [`finish`](Self::finish).
#[derive(Debug)]
pub struct Replay {
    world: World,
    reader: TraceReader,
    steps: u64,
}

impl Replay {
    /// Before the first step.
    ///
    /// # Errors
    /// [`ReplayError::Broken`], if a world can't be made.
    pub fn new() -> Result<Self, ReplayError> {
        let world = World::new(Setup::default())
            .map_err(|epitaph| ReplayError::Broken { steps: 0, epitaph })?;
        Ok(Self { world, reader: TraceReader::new(), steps: 0 })
    }

    /// Where the next bytes of the trace go. Never empty.
    pub fn spare(&mut self) -> &mut [u8] {
        self.reader.spare()
    }

    /// Does the steps that are complete now that so many bytes were written to the start of
    /// [`spare`](Self::spare). Gives each checkpoint that it comes to.
    ///
    /// # Errors
    /// [`ReplayError`], from then on always.
    pub fn filled(
        &mut self,
        bytes: usize,
        mut reached: impl FnMut(Checkpoint),
    ) -> Result<(), ReplayError> {
        self.reader.filled(bytes);
        while let Some(step) = self.reader.next()? {
            self.world.apply(&step);
            self.steps = self.steps.saturating_add(1);
            if self.steps.is_multiple_of(CHECKPOINT_STEPS) {
                self.check()?;
                reached(self.checkpoint());
            }
        }
        Ok(())
    }

    /// How far it has come.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        Checkpoint { steps: self.steps, hash: self.world.hash() }
    }

    /// Says that there are no more bytes, and gives the last checkpoint.
    ///
    /// # Errors
    /// [`ReplayError`], when the trace ends within a step or a machine is broken.
    pub fn finish(&self) -> Result<Checkpoint, ReplayError> {
        self.reader.finish()?;
        self.check()?;
        Ok(self.checkpoint())
    }

    fn check(&self) -> Result<(), ReplayError> {
        let steps = self.steps;
        self.world.check_invariants().map_err(|epitaph| ReplayError::Broken { steps, epitaph })
    }
}
