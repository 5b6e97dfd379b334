//! The five verbs of a daemon.

use crate::context::Context;
use crate::failure::Failure;
use crate::types::{Health, Instant, Next, Sample, Wake};

/// A daemon: written once, run as a component or as a native process.
///
/// `init`, each `run` and `shutdown` are slices: what one of them received, wrote to `state` and
/// added to its metrics takes effect when it returns `Ok`: all of it together, or nothing. Fields of
/// `self` are not part of that. They die with the incarnation, so what must outlive it goes to
/// `state`, and `init` reads it back.
pub trait Daemon: 'static {
    /// Makes the daemon, once for each incarnation.
    ///
    /// # Errors
    /// The reason with which the incarnation ends; see [`Failure`] for what follows.
    fn init(context: &mut Context<'_>) -> Result<Self, Failure>
    where
        Self: Sized;

    /// Does one slice of work, within the slice budget (default 1 s of running time).
    ///
    /// # Errors
    /// The slice is discarded and the incarnation ends, with this reason.
    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure>;

    /// Called once, when the daemon is asked to stop. With [`Next::Exit`] it ends, which is what it does
    /// if this is left out. With anything else it goes on, and [`run`](Self::run) is told
    /// [`STOPPING`](crate::WakeReasons::STOPPING) until it returns `Exit`: so what was accepted can be
    /// finished. At `deadline` it is killed.
    ///
    /// # Errors
    /// The slice is discarded and the incarnation ends, with this reason.
    fn shutdown(&mut self, deadline: Instant, context: &mut Context<'_>) -> Result<Next, Failure> {
        let _ = (deadline, context);
        Ok(Next::done())
    }

    /// Says how the daemon is. Called between slices, ahead of work.
    fn health_check(&self) -> Health {
        Health::healthy()
    }

    /// The daemon's own figures, at most 64. Called between slices, ahead of work.
    fn metrics(&self) -> Vec<Sample> {
        Vec::new()
    }
}
