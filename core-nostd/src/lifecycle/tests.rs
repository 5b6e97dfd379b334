//! Every state against every step.

use super::*;
use crate::restart::{Classified, Exit, ExitRules, Unavailable};

const T1: Instant = Instant::from_ns(10);
const T2: Instant = Instant::from_ns(20);
const CRASH: FailureReason = FailureReason::Trap;

const CREATED: State = State::Created;
const WAITING: State = State::Starting(Starting::Waiting);
const SPAWNING: State = State::Starting(Starting::Spawning { deadline: T1 });
const INITIALISING: State = State::Starting(Starting::Initialising { deadline: T1 });
const RUNNING: State = State::Running;
const RELOADING: State = State::Reloading { deadline: T1 };
const PAUSED: State = State::Paused;
const ASKED: State = State::Stopping(Stopping::Asked { deadline: T1, then: Then::Stop });
const ASKED_AGAIN: State = State::Stopping(Stopping::Asked { deadline: T1, then: Then::Start });
const ASKED_TO_GIVE_UP: State =
    State::Stopping(Stopping::Asked { deadline: T1, then: Then::GiveUp });
const KILLING: State = killing(Then::Stop, 1, T1);
const KILLING_AGAIN: State = killing(Then::Start, 1, T1);
const KILLING_TO_GIVE_UP: State = killing(Then::GiveUp, 1, T1);
const CONDEMNED: State = State::Stopping(Stopping::Condemned { reason: CRASH, deadline: T1 });
const CONDEMNED_KILLING: State = condemned_killing(1, T1);
const STOPPED: State = State::Stopped(StopCause::Operator);
const FINISHED: State = State::Stopped(StopCause::Finished);
const GAVE_UP: State = State::Stopped(StopCause::GaveUp);
const BACKOFF: State = State::Backoff { until: T1, failure: Some(CRASH) };
const FAILED: State = State::Failed(CRASH);

/// A stop that begins now has the deadline of the step.
const ASKED_NOW: State = State::Stopping(Stopping::Asked { deadline: T2, then: Then::Stop });
const ASKED_NOW_AGAIN: State = State::Stopping(Stopping::Asked { deadline: T2, then: Then::Start });
const ASKED_NOW_TO_GIVE_UP: State =
    State::Stopping(Stopping::Asked { deadline: T2, then: Then::GiveUp });
const KILLING_NOW: State = killing(Then::Stop, 1, T2);
const KILLING_NOW_AGAIN: State = killing(Then::Start, 1, T2);
const KILLING_NOW_TO_GIVE_UP: State = killing(Then::GiveUp, 1, T2);
const KILLING_TWICE: State = killing(Then::Stop, 2, T2);
const KILLING_TWICE_AGAIN: State = killing(Then::Start, 2, T2);
const KILLING_TWICE_TO_GIVE_UP: State = killing(Then::GiveUp, 2, T2);
const CONDEMNED_NOW: State = State::Stopping(Stopping::Condemned { reason: CRASH, deadline: T2 });
const RELOADING_NOW: State = State::Reloading { deadline: T2 };
const SPAWNING_NOW: State = State::Starting(Starting::Spawning { deadline: T2 });
const INITIALISING_NOW: State = State::Starting(Starting::Initialising { deadline: T2 });
const BACKOFF_NOW: State = State::Backoff { until: T2, failure: None };
const FAILED_NOW: State = State::Failed(FailureReason::Error);
const UNKILLABLE: State = State::Failed(FailureReason::Unkillable);

const fn killing(then: Then, attempt: u8, deadline: Instant) -> State {
    State::Stopping(Stopping::Killing { then, attempt, deadline })
}

const fn condemned_killing(attempt: u8, deadline: Instant) -> State {
    State::Stopping(Stopping::CondemnedKilling { reason: CRASH, attempt, deadline })
}

const STEPS: [Step; 20] = [
    Step::Start,
    Step::Retry,
    Step::Spawn { deadline: T2 },
    Step::Spawned,
    Step::Ready,
    Step::Stop { deadline: T2 },
    Step::Restart { deadline: T2 },
    Step::GiveUp { deadline: T2 },
    Step::Overdue { deadline: T2 },
    Step::Pause,
    Step::Resume,
    Step::Reload { deadline: T2 },
    Step::Reloaded,
    Step::Condemn { reason: CRASH, deadline: T2 },
    Step::Kill { deadline: T2 },
    Step::Abandon,
    Step::Extend { deadline: T2 },
    Step::Exited(Verdict::Stop(StopCause::Finished)),
    Step::Exited(Verdict::Retry { until: T2, failure: None }),
    Step::Exited(Verdict::Fail(FailureReason::Error)),
];

/// For each state, what each of `STEPS` leads to. Each row on its own lines: it is read as a table.
#[rustfmt::skip]
fn table() -> [(State, [Result<State, StepError>; 20]); 20] {
    // A step that can't happen, a double start, a start while stopping, and so on.
    let no = Err(StepError::Unexpected);
    let twice = Err(StepError::AlreadyStarted);
    let busy = Err(StepError::Stopping);
    let idle = Err(StepError::NotRunning);
    let awake = Err(StepError::NotPaused);
    let later = Err(StepError::Reloading);
    let to = Ok::<State, StepError>;
    let (stopped, waiting, gave_up) = (to(STOPPED), to(WAITING), to(GAVE_UP));
    let (asked, again, give_up) = (to(ASKED_NOW), to(ASKED_NOW_AGAIN), to(ASKED_NOW_TO_GIVE_UP));
    let (ended, retry, fail) = (to(FINISHED), to(BACKOFF_NOW), to(FAILED_NOW));
    let (condemned, killed, unkillable) = (to(CONDEMNED_NOW), to(KILLING_NOW), to(UNKILLABLE));
    [
        // Start, Retry, Spawn, Spawned, Ready, Stop, Restart, GiveUp,
        //     Overdue, Pause, Resume, Reload, Reloaded, Condemn,
        //     Kill, Abandon, Extend, Exited (three verdicts)
        (CREATED, [waiting, no, no, no, no, stopped, waiting, to(CREATED),
            no, idle, awake, idle, no, no,
            stopped, no, to(CREATED), no, no, no]),
        (WAITING, [twice, no, to(SPAWNING_NOW), no, no, stopped, waiting, gave_up,
            no, idle, awake, idle, no, no,
            stopped, no, waiting, no, no, no]),
        (SPAWNING, [twice, no, no, to(INITIALISING), to(RUNNING), asked, again, give_up,
            no, idle, awake, idle, to(SPAWNING), condemned,
            killed, no, to(SPAWNING_NOW), ended, retry, fail]),
        (INITIALISING, [twice, no, no, to(INITIALISING), to(RUNNING), asked, again, give_up,
            no, idle, awake, idle, to(INITIALISING), condemned,
            killed, no, to(INITIALISING_NOW), ended, retry, fail]),
        (RUNNING, [twice, no, no, to(RUNNING), to(RUNNING), asked, again, give_up,
            no, to(PAUSED), to(RUNNING), to(RELOADING_NOW), to(RUNNING), condemned,
            killed, no, to(RUNNING), ended, retry, fail]),
        (RELOADING, [twice, no, no, to(RELOADING), to(RELOADING), asked, again, give_up,
            to(RUNNING), later, to(RELOADING), later, to(RUNNING), condemned,
            killed, no, to(RELOADING_NOW), ended, retry, fail]),
        (PAUSED, [twice, no, no, to(PAUSED), to(PAUSED), asked, again, give_up,
            no, to(PAUSED), to(RUNNING), idle, to(PAUSED), condemned,
            killed, no, to(PAUSED), ended, retry, fail]),
        (ASKED, [busy, no, no, to(ASKED), to(ASKED), to(ASKED), to(ASKED_AGAIN), to(ASKED),
            to(KILLING_NOW), idle, awake, idle, to(ASKED), no,
            killed, no, asked, stopped, stopped, stopped]),
        (ASKED_AGAIN, [busy, no, no, to(ASKED_AGAIN), to(ASKED_AGAIN), to(ASKED), to(ASKED_AGAIN), to(ASKED_TO_GIVE_UP),
            to(KILLING_NOW_AGAIN), idle, awake, idle, to(ASKED_AGAIN), no,
            killed, no, again, waiting, waiting, waiting]),
        (ASKED_TO_GIVE_UP, [busy, no, no, to(ASKED_TO_GIVE_UP), to(ASKED_TO_GIVE_UP), to(ASKED), to(ASKED_AGAIN), to(ASKED_TO_GIVE_UP),
            to(KILLING_NOW_TO_GIVE_UP), idle, awake, idle, to(ASKED_TO_GIVE_UP), no,
            killed, no, give_up, gave_up, gave_up, gave_up]),
        (KILLING, [busy, no, no, to(KILLING), to(KILLING), to(KILLING), to(KILLING_AGAIN), to(KILLING),
            to(KILLING_TWICE), idle, awake, idle, to(KILLING), no,
            to(KILLING), unkillable, to(KILLING), stopped, stopped, stopped]),
        (KILLING_AGAIN, [busy, no, no, to(KILLING_AGAIN), to(KILLING_AGAIN), to(KILLING), to(KILLING_AGAIN), to(KILLING_TO_GIVE_UP),
            to(KILLING_TWICE_AGAIN), idle, awake, idle, to(KILLING_AGAIN), no,
            to(KILLING), unkillable, to(KILLING_AGAIN), waiting, waiting, waiting]),
        (KILLING_TO_GIVE_UP, [busy, no, no, to(KILLING_TO_GIVE_UP), to(KILLING_TO_GIVE_UP), to(KILLING), to(KILLING_AGAIN), to(KILLING_TO_GIVE_UP),
            to(KILLING_TWICE_TO_GIVE_UP), idle, awake, idle, to(KILLING_TO_GIVE_UP), no,
            to(KILLING), unkillable, to(KILLING_TO_GIVE_UP), gave_up, gave_up, gave_up]),
        (CONDEMNED, [busy, no, no, to(CONDEMNED), to(CONDEMNED), to(ASKED), to(ASKED_AGAIN), to(ASKED_TO_GIVE_UP),
            to(condemned_killing(1, T2)), idle, awake, idle, to(CONDEMNED), no,
            killed, no, condemned, ended, retry, fail]),
        (CONDEMNED_KILLING, [busy, no, no, to(CONDEMNED_KILLING), to(CONDEMNED_KILLING), to(KILLING), to(KILLING_AGAIN), to(KILLING_TO_GIVE_UP),
            to(condemned_killing(2, T2)), idle, awake, idle, to(CONDEMNED_KILLING), no,
            to(KILLING), unkillable, to(CONDEMNED_KILLING), ended, retry, fail]),
        (STOPPED, [waiting, no, no, no, no, stopped, waiting, stopped,
            no, idle, awake, idle, no, no,
            stopped, no, stopped, no, no, no]),
        (FINISHED, [waiting, no, no, no, no, stopped, waiting, to(FINISHED),
            no, idle, awake, idle, no, no,
            stopped, no, to(FINISHED), no, no, no]),
        (GAVE_UP, [waiting, no, no, no, no, stopped, waiting, gave_up,
            no, idle, awake, idle, no, no,
            stopped, no, gave_up, no, no, no]),
        (BACKOFF, [waiting, waiting, no, no, no, stopped, waiting, gave_up,
            no, idle, awake, idle, no, no,
            stopped, no, to(BACKOFF), no, no, no]),
        (FAILED, [waiting, no, no, no, no, to(FAILED), waiting, to(FAILED),
            no, idle, awake, idle, no, no,
            to(FAILED), no, to(FAILED), no, no, no]),
    ]
}

#[test]
fn every_state_answers_every_step_as_in_the_table() {
    let now = Instant::from_ns(5);
    for (state, expected) in table() {
        for (step, expected) in STEPS.into_iter().zip(expected) {
            let mut daemon = Lifecycle { state, since: Instant::ZERO };
            let before = daemon.step(now, step);
            assert_eq!(before.map(|_| daemon.state()), expected, "{state:?} {step:?}");
            // A refused step changes nothing; neither staying in a state nor more time renews its age.
            let state_after = expected.unwrap_or(state);
            let is_new = state_after != state && !matches!(step, Step::Extend { .. });
            let since = if is_new { now } else { Instant::ZERO };
            assert_eq!(
                (daemon.state(), daemon.since()),
                (state_after, since),
                "{state:?} {step:?}"
            );
            assert_eq!(daemon.check_invariants(now), Ok(()));
        }
    }
}

/// A daemon is up from readiness until it is asked to end, and has a process as long as one may live.
#[test]
fn who_is_up_has_a_process() {
    for (state, _) in table() {
        let up = [RUNNING, RELOADING, PAUSED].contains(&state);
        let more = [SPAWNING, INITIALISING].contains(&state) || matches!(state, State::Stopping(_));
        assert_eq!((state.is_up(), state.has_process()), (up, up || more), "{state:?}");
    }
}

#[test]
fn an_exit_is_charged_by_the_state_it_happens_in() {
    let crash = Exit::Signal(11);
    let rules = ExitRules::default();
    let own = |exit| Some(Charge::Unasked(rules.classify(exit)));
    for state in [CREATED, WAITING, STOPPED, FINISHED, GAVE_UP, BACKOFF, FAILED] {
        assert_eq!(state.charge(crash, &rules), None, "{state:?}");
        assert!(!state.has_process(), "{state:?}");
    }
    for exit in [crash, Exit::Code(0), Exit::Trap] {
        for state in [SPAWNING, INITIALISING, RUNNING, RELOADING, PAUSED] {
            assert_eq!(state.charge(exit, &rules), own(exit), "{state:?}");
        }
        for state in
            [ASKED, ASKED_AGAIN, ASKED_TO_GIVE_UP, KILLING, KILLING_AGAIN, KILLING_TO_GIVE_UP]
        {
            assert_eq!(state.charge(exit, &rules), Some(Charge::Asked), "{state:?}");
        }
        // What it was condemned for, whatever its last word.
        let expected = Some(Charge::Unasked(Classified::failure(CRASH)));
        for state in [CONDEMNED, CONDEMNED_KILLING] {
            assert_eq!(state.charge(exit, &rules), expected, "{state:?}");
        }
    }
    // Unless what happened to it came from outside: then it was condemned for that.
    for exit in [Exit::Lost, Exit::Unavailable(Unavailable::Link)] {
        for state in [RUNNING, CONDEMNED, CONDEMNED_KILLING] {
            assert_eq!(state.charge(exit, &rules), own(exit), "{state:?}");
        }
    }
}

#[test]
fn only_an_operator_has_a_process_killed_without_being_asked() {
    let is_killed = |state| {
        matches!(
            state,
            State::Stopping(Stopping::Killing { .. } | Stopping::CondemnedKilling { .. })
        )
    };
    for (state, row) in table() {
        for (step, next) in STEPS.into_iter().zip(row) {
            if !matches!(state, State::Stopping(_)) && !matches!(step, Step::Kill { .. }) {
                assert!(!next.is_ok_and(is_killed), "{state:?} {step:?}");
            }
        }
    }
}

#[test]
fn an_extension_shortens_nothing() {
    for (state, _) in table() {
        for deadline in [Instant::ZERO, T1] {
            assert_eq!(state.after(Step::Extend { deadline }), Ok(state), "{state:?}");
        }
    }
}
