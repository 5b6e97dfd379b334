//! Of one daemon: which moves between two states want which reason. What is asked of time, and of who may
//! cut it short, is said again here.

use duende_core::lifecycle::{FailureReason, Starting, State, Stopping};
use duende_core::supervise::TerminateCause;
use duende_core::time::Instant;
use duende_world::{End, Input, Process};

use super::verdict::{failure, is_outer};
use crate::failure::{Failure, hold};

/// Whether a move is one for which there was a reason: `input`, or that the time for a thing is over.
/// `input` is none if it was about another process.
pub(super) fn moves(
    from: State,
    to: State,
    now: u64,
    input: Option<&Input>,
) -> Result<(), Failure> {
    let is_killed = |state| {
        matches!(
            state,
            State::Stopping(Stopping::Killing { .. } | Stopping::CondemnedKilling { .. })
        )
    };
    hold!(
        !is_killed(to) || matches!(from, State::Stopping(_)) || input == Some(&Input::KillAll),
        "supervisor: a process is asked before it is killed",
        "{from:?} → {to:?}"
    );
    if let (State::Reloading { deadline }, State::Running) = (from, to) {
        let said = matches!(input, Some(Input::Reloaded(_) | Input::ReloadRefused(_)));
        hold!(
            said || deadline.as_ns() <= now,
            "supervisor: a reload is over when it is said, or when its time is",
            "until {deadline:?} at {now}"
        );
    }
    let (Some(before), Some(after)) = (extendable(from), extendable(to)) else { return Ok(()) };
    let same = core::mem::discriminant(&from) == core::mem::discriminant(&to);
    hold!(
        !same || after == before,
        "supervisor: a deadline moves only when that is asked for, and that is no other state",
        "{from:?} → {to:?} at {now}"
    );
    Ok(())
}

/// Until when what is under way may take, where that can be put off.
fn extendable(mut state: State) -> Option<u64> {
    deadline_mut(&mut state).map(|deadline| deadline.as_ns())
}

/// The same state, in which what is under way may take until then.
pub(super) fn extended(mut state: State, until_ns: u64) -> State {
    if let Some(deadline) = deadline_mut(&mut state) {
        *deadline = Instant::from_ns(deadline.as_ns().max(until_ns));
    }
    state
}

/// The deadline of what is under way, where it can be put off.
const fn deadline_mut(state: &mut State) -> Option<&mut Instant> {
    match state {
        State::Starting(Starting::Spawning { deadline } | Starting::Initialising { deadline })
        | State::Reloading { deadline }
        | State::Stopping(
            Stopping::Asked { deadline, .. } | Stopping::Condemned { deadline, .. },
        ) => Some(deadline),
        _ => None,
    }
}

/// Which process an input is about; none if it is about none, or about all.
pub(super) const fn about(input: &Input) -> Option<&Process> {
    match input {
        Input::Reloaded(of) | Input::ReloadRefused(of) | Input::Exited { of, .. } => Some(of),
        _ => None,
    }
}

/// Whether an exit may concern the group of the daemon: what is clean and what lies outside does not.
pub(super) fn concerns_group(from: State, end: End) -> bool {
    let condemned = matches!(
        from,
        State::Stopping(Stopping::Condemned { .. } | Stopping::CondemnedKilling { .. })
    );
    !is_outer(end) && (condemned || failure(end).is_some())
}

/// Why a process is asked to end that is condemned for this.
pub(super) const fn cause_of(reason: FailureReason) -> TerminateCause {
    match reason {
        FailureReason::StartTimeout => TerminateCause::StartTimeout,
        FailureReason::Watchdog => TerminateCause::Watchdog,
        _ => TerminateCause::Unhealthy,
    }
}
