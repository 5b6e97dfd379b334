//! The quiet phase at the end of every world: faults end, and what was promised has to come.
//!
//! The environment now does what it is told, at once: what was asked to be made is made and gets ready,
//! what was told to end ends, what is asked for its health is well. It answers from what it was told,
//! not from what it meant to do before, so that a run that was shortened has a quiet phase too.
//!
//! What has to hold after it:
//! 1. A daemon that had not come to its end runs, or waits for one that has.
//! 2. The channel is empty, nobody waits for a credit, and every message was accounted for on the way.
//! 3. Every subscriber has heard all that it could.
//! 4. Every task runs within the time that the scheduler states.

use duende_core::lifecycle::{Starting, State};
use duende_world::{DAEMONS, End, Input, LISTENERS, Process, Step};

use crate::failure::{Failure, hold};
use crate::oracle::Told;
use crate::run::Court;

/// Rounds until everything has come to rest: a stop, a kill, a backoff, a start, for each daemon in a
/// chain of as many as there are; and while one waits for the end of the longest backoff, 400 ms, the
/// checks and watchdogs of the others, each of which wakes the supervisor every 4 ms and every 6 ms.
const ROUNDS: usize = (12 + 400 / 4 + 400 / 6) * DAEMONS;

/// Plays the quiet phase and adds its steps to those that were done.
///
/// # Errors
/// A [`Failure`], when something that was promised did not come.
pub fn calm(court: &mut Court, done: &mut Vec<Step>) -> Result<(), Failure> {
    let mut play = |court: &mut Court, elapsed_ns: i64, input: Input| {
        let step = Step { elapsed_ns, entropy: u64::MAX / 3, input };
        done.push(step.clone());
        court.step(&step, |_, _| {})
    };
    let mut rests = false;
    for _ in 0..ROUNDS {
        let answers = answers(court);
        // At the end of the clock a health check is always due.
        let idle = answers.iter().all(|answer| matches!(answer, Input::Probed { .. }));
        for answer in answers {
            play(court, 0, answer)?;
        }
        let unfinished = !settled(&states(court)) || waits_for_nothing(court).is_err();
        let at_ns = court.world.next_deadline().map(duende_core::time::Instant::as_ns);
        let at_ns = at_ns.filter(|_| unfinished);
        let elapsed_ns = at_ns.map_or(0, |at| {
            i64::try_from(at.saturating_sub(court.world.now().as_ns())).unwrap_or(i64::MAX)
        });
        // Time passes, and then comes a sign of life from all that owe one.
        play(court, elapsed_ns, Input::Dump)?;
        for sign in signs(court) {
            play(court, 0, sign)?;
        }
        play(court, 0, Input::Tick)?;
        rests = idle && settled(&states(court)) && waits_for_nothing(court).is_ok();
        if rests {
            break;
        }
    }
    waits_for_nothing(court)?;
    hold!(
        rests,
        "liveness: a daemon runs again once faults end",
        "{:?} after {ROUNDS} rounds",
        states(court)
    );
    drain(court, &mut play)
}

/// What the environment owes the supervisor.
fn answers(court: &Court) -> Vec<Input> {
    let mut answers = Vec::new();
    for (slot, daemon) in (0..).zip(&court.oracles.daemons.slots) {
        let Some((state, process)) = daemon.as_ref().and_then(|d| Some((d.state, d.process?)))
        else {
            continue;
        };
        let of = Process { slot, incarnation: process.incarnation };
        let probed = process.probe.map(|(token, ..)| Input::Probed { of, token, healthy: true });
        match process.told {
            Told::Terminate => answers.push(Input::Exited { of, end: End::Code(0) }),
            Told::Kill => answers.push(Input::Exited { of, end: End::Signal(9) }),
            Told::Nothing => match state {
                State::Starting(Starting::Spawning { .. }) => {
                    answers.extend([Input::Spawned(of), Input::Ready(of)]);
                }
                State::Starting(Starting::Initialising { .. }) => {
                    answers.push(Input::Ready(of));
                    answers.extend(probed);
                }
                State::Reloading { .. } => answers.push(Input::Reloaded(of)),
                _ => answers.extend(probed),
            },
        }
    }
    answers
}

/// A sign of life of every process that is watched.
fn signs(court: &Court) -> Vec<Input> {
    let watched = (0..).zip(&court.oracles.daemons.slots).filter_map(|(slot, daemon)| {
        let process = daemon.as_ref().filter(|daemon| daemon.is_watched())?.process?;
        Some(Input::Alive(Process { slot, incarnation: process.incarnation }))
    });
    watched.collect()
}

fn states(court: &Court) -> Vec<Option<State>> {
    let slots = court.oracles.daemons.slots.iter();
    slots.map(|daemon| daemon.as_ref().map(|daemon| daemon.state)).collect()
}

/// Whether every daemon is where it may stay.
fn settled(states: &[Option<State>]) -> bool {
    states.iter().flatten().all(|state| {
        matches!(
            state,
            State::Created
                | State::Running
                | State::Paused
                | State::Stopped(_)
                | State::Failed(_)
                | State::Starting(Starting::Waiting)
        )
    })
}

/// Who waits, waits for one that does not run and will not.
fn waits_for_nothing(court: &Court) -> Result<(), Failure> {
    (0..DAEMONS).try_for_each(|slot| check(court, slot))
}

fn check(court: &Court, slot: usize) -> Result<(), Failure> {
    let Some(daemon) = &court.oracles.daemons.slots[slot] else { return Ok(()) };
    // At the end of the clock nobody is asked any more, so nobody gets ready by an answer.
    let ends = court.world.now() == duende_core::time::Instant::MAX;
    if daemon.state != State::Starting(Starting::Waiting) || ends {
        return Ok(());
    }
    let running = |on: &u32| {
        let on = usize::try_from(*on).ok().and_then(|on| court.oracles.daemons.slots.get(on));
        on.and_then(Option::as_ref).is_some_and(|daemon| daemon.state == State::Running)
    };
    hold!(
        !daemon.depends_on().iter().all(running),
        "liveness: a daemon whose dependencies run is started",
        "slot {slot} waits"
    );
    Ok(())
}

/// Receives all there is to receive.
fn drain(
    court: &mut Court,
    play: &mut impl FnMut(&mut Court, i64, Input) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Those that wait for a credit either get one, or their time is over; and no clock that stands at
    // its end keeps them waiting, for then all deadlines are past.
    for _ in 0..20 {
        play(court, 0, Input::Receive)?;
    }
    play(court, 1_000_000, Input::Tick)?;
    let left = court.oracles.undelivered();
    hold!(left == 0, "liveness: every message is delivered or counted", "{left} are left");
    // Who takes a message of the fan-out may let a parked one in, for those that had taken all.
    for _ in 0..2 {
        for from in (0..LISTENERS).filter_map(|from| u8::try_from(from).ok()) {
            for _ in 0..10 {
                play(court, 0, Input::Listen { from })?;
                play(court, 0, Input::Take { from })?;
            }
        }
    }
    let unheard = court.oracles.unheard();
    hold!(unheard == 0, "liveness: a subscriber that listens hears all", "{unheard} are left");
    play(court, 0, Input::Audit)?;
    // Now every daemon that runs wants the processor, and each gets it in its time: the oracle of the
    // scheduler looks at all that wait.
    for slot in (0..DAEMONS).filter_map(|slot| u8::try_from(slot).ok()) {
        play(court, 0, Input::Wake { slot })?;
    }
    for _ in 0..48 {
        play(court, 0, Input::Run { ran_us: u16::MAX, waits: false })?;
    }
    Ok(())
}
