//! What daemons use and do, sampled at an interval, and the last minutes of it.
//!
//! Rules:
//! 1. A sample is taken once in each interval, on a schedule that does not drift. Ticks that were
//!    missed are counted, not made up for.
//! 2. Processes are looked at in a thread of its own ([`Sampler`]), so that a thousand of them do not
//!    hold up a decision. Its readings wait for nobody: one that finds the one before it not taken yet
//!    is dropped, and counted as missed.
//! 3. Everything is bounded. A figure's samples are a [`Series`](duende_core::metrics::Series) that
//!    reaches [`HISTORY`] back; all of them together are at most [`SAMPLES_MAX`]. A figure for which
//!    there is no room is refused and counted, and what is kept already stays.
//! 4. A figure that a daemon does not have at an instant has no sample there: nothing is invented.

mod history;
mod process;
mod sampler;

use std::time::Duration;

pub use self::{
    history::{DaemonMonitor, Figures},
    process::ProcessFigures,
};
pub(crate) use sampler::{Reading, Sampler};

/// How far back samples are kept.
pub const HISTORY: Duration = Duration::from_secs(5 * 60);
/// Most samples of a fleet, of 16 bytes each: 64 MiB.
pub const SAMPLES_MAX: usize = 4 << 20;
