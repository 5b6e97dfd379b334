//! Every state against every step.

use super::*;

const T1: Instant = Instant::from_ns(10);
const T2: Instant = Instant::from_ns(20);
const CRASH: FailureReason = FailureReason::Trap;

const CREATED: State = State::Created;
const WAITING: State = State::Starting(Starting::Waiting);
const SPAWNING: State = State::Starting(Starting::Spawning { deadline: T1 });
const INITIALISING: State = State::Starting(Starting::Initialising { deadline: T1 });
const RUNNING: State = State::Running;
const ASKED: State = State::Stopping(Stopping::Asked { deadline: T1, then: Then::Stop });
const ASKED_AGAIN: State = State::Stopping(Stopping::Asked { deadline: T1, then: Then::Start });
const KILLING: State = State::Stopping(Stopping::Killing { then: Then::Stop });
const KILLING_AGAIN: State = State::Stopping(Stopping::Killing { then: Then::Start });
const CONDEMNED: State = State::Stopping(Stopping::Condemned(CRASH));
const STOPPED: State = State::Stopped(StopCause::Operator);
const FINISHED: State = State::Stopped(StopCause::Finished);
const BACKOFF: State = State::Backoff { until: T1, failure: Some(CRASH) };
const FAILED: State = State::Failed(CRASH);

/// A stop that begins now has the deadline of the step.
const ASKED_NOW: State = State::Stopping(Stopping::Asked { deadline: T2, then: Then::Stop });
const ASKED_NOW_AGAIN: State = State::Stopping(Stopping::Asked { deadline: T2, then: Then::Start });
const SPAWNING_NOW: State = State::Starting(Starting::Spawning { deadline: T2 });
const BACKOFF_NOW: State = State::Backoff { until: T2, failure: None };
const FAILED_NOW: State = State::Failed(FailureReason::Error);

const STEPS: [Step; 12] = [
    Step::Start,
    Step::Retry,
    Step::Spawn { deadline: T2 },
    Step::Spawned,
    Step::Ready,
    Step::Stop { deadline: T2 },
    Step::Restart { deadline: T2 },
    Step::Overdue,
    Step::Condemn(CRASH),
    Step::Exited(Verdict::Stop(StopCause::Finished)),
    Step::Exited(Verdict::Retry { until: T2, failure: None }),
    Step::Exited(Verdict::Fail(FailureReason::Error)),
];

/// For each state, what each of `STEPS` leads to. Each row on its own lines: it is read as a table.
#[rustfmt::skip]
fn table() -> [(State, [Result<State, StepError>; 12]); 14] {
    // A step that can't happen, a double start, a start while stopping.
    let no = Err(StepError::Unexpected);
    let twice = Err(StepError::AlreadyStarted);
    let busy = Err(StepError::Stopping);
    let to = Ok::<State, StepError>;
    let (asked, again) = (to(ASKED_NOW), to(ASKED_NOW_AGAIN));
    let (ended, retry, fail) = (to(FINISHED), to(BACKOFF_NOW), to(FAILED_NOW));
    [
        // Start, Retry, Spawn, Spawned, Ready,
        //     Stop, Restart, Overdue, Condemn, Exited (three verdicts)
        (CREATED, [to(WAITING), no, no, no, no,
            to(STOPPED), to(WAITING), no, no, no, no, no]),
        (WAITING, [twice, no, to(SPAWNING_NOW), no, no,
            to(STOPPED), to(WAITING), no, no, no, no, no]),
        (SPAWNING, [twice, no, no, to(INITIALISING), to(RUNNING),
            asked, again, no, to(CONDEMNED), ended, retry, fail]),
        (INITIALISING, [twice, no, no, to(INITIALISING), to(RUNNING),
            asked, again, no, to(CONDEMNED), ended, retry, fail]),
        (RUNNING, [twice, no, no, to(RUNNING), to(RUNNING),
            asked, again, no, to(CONDEMNED), ended, retry, fail]),
        (ASKED, [busy, no, no, to(ASKED), to(ASKED),
            to(ASKED), to(ASKED_AGAIN), to(KILLING), no, to(STOPPED), to(STOPPED), to(STOPPED)]),
        (ASKED_AGAIN, [busy, no, no, to(ASKED_AGAIN), to(ASKED_AGAIN),
            to(ASKED), to(ASKED_AGAIN), to(KILLING_AGAIN), no, to(WAITING), to(WAITING), to(WAITING)]),
        (KILLING, [busy, no, no, to(KILLING), to(KILLING),
            to(KILLING), to(KILLING_AGAIN), no, no, to(STOPPED), to(STOPPED), to(STOPPED)]),
        (KILLING_AGAIN, [busy, no, no, to(KILLING_AGAIN), to(KILLING_AGAIN),
            to(KILLING), to(KILLING_AGAIN), no, no, to(WAITING), to(WAITING), to(WAITING)]),
        (CONDEMNED, [busy, no, no, to(CONDEMNED), to(CONDEMNED),
            to(KILLING), to(KILLING_AGAIN), no, no, ended, retry, fail]),
        (STOPPED, [to(WAITING), no, no, no, no,
            to(STOPPED), to(WAITING), no, no, no, no, no]),
        (FINISHED, [to(WAITING), no, no, no, no,
            to(STOPPED), to(WAITING), no, no, no, no, no]),
        (BACKOFF, [to(WAITING), to(WAITING), no, no, no,
            to(STOPPED), to(WAITING), no, no, no, no, no]),
        (FAILED, [to(WAITING), no, no, no, no,
            to(FAILED), to(WAITING), no, no, no, no, no]),
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
            // A refused step changes nothing; staying in a state does not renew its age.
            let changed = expected.is_ok_and(|next| next != state);
            let (state_after, since) = match expected {
                Ok(next) if changed => (next, now),
                Ok(_) | Err(_) => (state, Instant::ZERO),
            };
            assert_eq!(
                (daemon.state(), daemon.since()),
                (state_after, since),
                "{state:?} {step:?}"
            );
            assert_eq!(daemon.check_invariants(now), Ok(()));
        }
    }
}

#[test]
fn an_exit_is_charged_by_the_state_it_happens_in() {
    let crash = Exit::Signal(11);
    let own = Some(Charge::Failure(FailureReason::Signal(11)));
    for (state, clean, crashed) in [
        (CREATED, None, None),
        (WAITING, None, None),
        (SPAWNING, Some(Charge::Clean), own),
        (INITIALISING, Some(Charge::Clean), own),
        (RUNNING, Some(Charge::Clean), own),
        (ASKED, Some(Charge::Asked), Some(Charge::Asked)),
        (ASKED_AGAIN, Some(Charge::Asked), Some(Charge::Asked)),
        (KILLING, Some(Charge::Asked), Some(Charge::Asked)),
        (CONDEMNED, Some(Charge::Failure(CRASH)), Some(Charge::Failure(CRASH))),
        (STOPPED, None, None),
        (BACKOFF, None, None),
        (FAILED, None, None),
    ] {
        assert_eq!(state.charge(Exit::Code(0)), clean, "{state:?}");
        assert_eq!(state.charge(crash), crashed, "{state:?}");
        assert_eq!(state.has_process(), clean.is_some(), "{state:?}");
    }
}
