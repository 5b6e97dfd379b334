//! The five verbs of a daemon.

use crate::context::Context;
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
    /// The text is the reason with which the incarnation ends as a failure.
    fn init(context: &mut Context<'_>) -> Result<Self, String>
    where
        Self: Sized;

    /// Does one slice of work, within the slice budget (default 1 s of running time).
    ///
    /// # Errors
    /// The slice is discarded and the incarnation ends as a failure, with the text as the reason.
    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, String>;

    /// Called once, when the daemon is asked to stop; nothing is called afterwards. At `deadline` it
    /// is killed.
    ///
    /// # Errors
    /// The slice is discarded and the incarnation ends as a failure, with the text as the reason.
    fn shutdown(&mut self, deadline: Instant, context: &mut Context<'_>) -> Result<(), String> {
        let _ = (deadline, context);
        Ok(())
    }

    /// Says how the daemon is. Called between slices, ahead of work.
    fn health_check(&self) -> Health {
        Health::Healthy
    }

    /// The daemon's own figures, at most 64. Called between slices, ahead of work.
    fn metrics(&self) -> Vec<Sample> {
        Vec::new()
    }
}
