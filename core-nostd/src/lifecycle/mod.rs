//! The states of one daemon, and every step between them.
//!
//! ```text
//!            Start                 Ready                     Exited
//!  Created ────────▶ Starting ────────────▶ Running ─────────────────┐
//!                    ▲ │ │                 ▲ │ │ ▲                   │
//!                    │ │ │           Pause │ │ │ │ Reload            │
//!                    │ │ │          Resume ▼ │ ▼ │ Reloaded, Overdue │
//!                    │ │ │           Paused  │  Reloading            │
//!         Retry,     │ │ │ Stop, Restart     │ (of all three)        │ the verdict of the
//!         Start      │ │ │ Condemn           ▼                       ▼ restart policy
//!                    │ │ └──────▶ Stopping ◀─┘          Stopped · Backoff · Failed
//!                    │ │ Exited      │ Exited                      ▲ │
//!                    │ └─────────────┴─────────────────────────────┘ │
//!                    └───────────────────────────────────────────────┘
//! ```
//!
//! Rules:
//! 1. A state carries its evidence: a daemon that is stopping has a deadline, one that failed has a
//!    reason; no field is meaningless in any state.
//! 2. Each start is answered: a start of what runs is an error, a stop of what is stopped is none.
//! 3. What an operator asked for wins: an exit while a stop is under way is that stop, whatever the
//!    exit looks like, and is charged to nobody.
//! 4. Deadlines are data. This machine sets none and watches none; its owner does both.
//! 5. Doing twice is defined: a second start is an error, a second stop, pause or resume is none, and
//!    a reload during a reload is refused, because the first may have read the old configuration.
//! 6. A reload that takes too long ends, and the daemon runs on, as under systemd.
//! 7. Whatever the reason, a process is asked to end before it is killed; only an operator's second
//!    word ([`Step::Kill`]) leaves that out. A kill that is not answered is repeated, and in the end
//!    the daemon is given up ([`Step::Abandon`]).
//! 8. A state is as old as what goes on in it: more time for that ([`Step::Extend`]) moves its
//!    deadline and leaves its age.

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

mod state;
mod step;

pub use crate::restart::FailureReason;
pub use state::{Charge, Starting, State, StopCause, Stopping, Then};
pub use step::{Step, StepError, Verdict};

/// The lifecycle of one daemon.
#[derive(Clone, Copy, Debug)]
pub struct Lifecycle {
    state: State,
    since: Instant,
}
impl Lifecycle {
    /// A daemon that was never started.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { state: State::Created, since: now }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Since when.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Does one step, and returns the state before it.
    ///
    /// # Errors
    /// [`StepError`], when the step is refused; the state is then as before.
    pub fn step(&mut self, now: Instant, step: Step) -> Result<State, StepError> {
        let next = match self.state.after(step)? {
            State::Starting(Starting::Waiting)
                if planted::is(Plant::LifecycleRestart) && matches!(step, Step::Exited(_)) =>
            {
                State::Stopped(StopCause::Operator)
            }
            next => next,
        };
        let since = if matches!(step, Step::Extend { .. }) { self.since } else { now };
        Ok(self.set_state(since, next))
    }

    /// What holds between any two steps.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self, now: Instant) -> Result<(), Epitaph> {
        let (since, now) = (self.since.as_ns(), now.as_ns());
        invariant!(since <= now, "state since {since}, now {now}");
        Ok(())
    }

    /// The one place where the state changes. Staying in it does not renew its age.
    fn set_state(&mut self, since: Instant, next: State) -> State {
        let before = self.state;
        if next != before {
            self.state = next;
            self.since = since;
        }
        before
    }
}
#[cfg(test)]
mod tests;
