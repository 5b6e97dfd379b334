//! Plays a history, lets all faults end, and judges. A history is a list of numbers: the first draws
//! the fleet, each further one is a step. So it can be shrunk by leaving out steps.

use duende::{
    backend::Place,
    manager::{
        decide::{Daemon, Event, Notice, ReadyBy, Verb},
        turn::SOURCES,
    },
};
use duende_core::{
    lifecycle::{FailureReason, State},
    restart::{Exit, RestartPolicy, StartError},
    wire::link::Address,
};

use duende_history::{Draw, Failure, Fault, shrink};

use crate::{
    fleet::draw_fleet,
    world::{OnLink, World, key},
};

/// Steps of one history.
const STEPS: usize = 200;
/// How long the world is left in peace, in milliseconds: longer than any backoff, and than the window
/// of the restart limit.
const PEACE_MS: u64 = 40_000;
/// Within what time a fleet ends in which nobody is stubborn: the graces of a chain, in milliseconds.
const END_MS: u64 = 5_000;
/// Within what time it ends after the second signal, whatever hangs: a few kills of each.
const END_AT_ONCE_MS: u64 = 1_000;

/// What was played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Played {
    /// Histories.
    pub histories: u64,
    /// Events that the machines took.
    pub events: u64,
}

/// A history from a seed.
#[must_use]
pub fn history(seed: u64) -> Vec<u64> {
    let mut draw = Draw::new(seed);
    (0..=STEPS).map(|_| draw.word()).collect()
}

/// Plays histories from a seed on, until so many events were taken.
///
/// # Errors
/// One went wrong; it was shrunk.
pub fn run(seed: u64, events: u64) -> Result<Played, Failure> {
    let mut played = Played::default();
    while played.events < events {
        let history = history(seed.wrapping_add(played.histories));
        match play(&history) {
            Ok(events) => played.events += events,
            Err(fault) => return Err(shrink(history, fault, play)),
        }
        played.histories += 1;
    }
    Ok(played)
}

/// Plays one history. How many events the machine took.
///
/// # Errors
/// What went wrong.
pub fn play(history: &[u64]) -> Result<u64, Fault> {
    play_and_tell(history, false)
}

/// Plays one history, and prints it as it goes if it is to be told.
///
/// # Errors
/// What went wrong.
pub fn play_and_tell(history: &[u64], told: bool) -> Result<u64, Fault> {
    let Some((first, steps)) = history.split_first() else { return Ok(0) };
    let mut draw = Draw::new(*first);
    let specs = draw_fleet(&mut draw);
    let mut world = World::new(specs, draw.word())?;
    world.told = told;
    world.event(Event::Begin)?;
    for step in steps {
        if world.over {
            break;
        }
        act(&mut world, *step)?;
    }
    if !world.over {
        peace(&mut world)?;
        farewell(&mut world, *first)?;
    }
    Ok(world.steps)
}

/// One step.
fn act(world: &mut World, step: u64) -> Result<(), Fault> {
    let mut draw = Draw::new(step);
    let slots = world.specs.len();
    let slot = u32::try_from(draw.below(slots)).unwrap_or(0);
    let living = world.living();
    let one = living.get(draw.below(living.len())).copied();
    match draw.below(64) {
        0..=19 => {
            world.hear(draw.below(1_000))?;
        }
        20..=31 => {
            let until = world.later(1 + u64::try_from(draw.below(300)).unwrap_or(0));
            world.pass(until)?;
        }
        32..=45 => {
            if let Some(at) = one {
                world.behave(at);
            }
        }
        46..=50 => {
            if let Some(at) = one {
                misbehave(world, at, &mut draw);
            }
        }
        51 | 52 => place(world, &mut draw),
        53 => {
            world.store_down = !world.store_down;
            let fault = world.store_down.then(|| "no space left on device".to_owned());
            world.event(Event::Store(fault))?;
        }
        54 => {
            let errors = [StartError::NoDescriptors, StartError::NotFound, StartError::NoProcesses];
            let error = errors[draw.below(errors.len())];
            world.no_room = if world.no_room.is_some() { None } else { Some(error) };
        }
        55 => {
            // Whoever it is, it speaks for nobody here.
            let pid = u32::try_from(draw.below(100)).unwrap_or(0);
            world.datagram(pid, Notice { ready: true, ..Notice::default() });
        }
        56..=62 => operator(world, slot, &mut draw)?,
        _ => match draw.below(32) {
            0..=3 => {
                world.asked_to_end += 1;
                world.event(Event::Interrupted { signal: "SIGTERM" })?;
            }
            5..=8 => world.forget()?,
            4 => world.flooded(SOURCES[draw.below(SOURCES.len())], slot)?,
            _ => {}
        },
    }
    Ok(())
}

fn misbehave(world: &mut World, at: Address, draw: &mut Draw) {
    let own_link = world.spec(at.daemon).abilities.own_link;
    let Some(proc) = world.procs.get_mut(&key(at)) else { return };
    match draw.below(8) {
        0 => world.end(at, Exit::Code(1), "exit code 1", true),
        1 => world.end(at, Exit::Code(0), "exit code 0", true),
        2 => proc.stubborn = true,
        3 => proc.unkillable = true,
        4 => proc.hung = true,
        5 => proc.link_kept = true,
        6 if own_link => {
            let other = Address::of(at.daemon.wrapping_add(1) % 3, 1);
            world
                .on_link(at, if draw.once_in(2) { OnLink::Log(other) } else { OnLink::End(other) });
        }
        _ if own_link => world.on_link(at, OnLink::End(at)),
        _ => {}
    }
}

fn place(world: &mut World, draw: &mut Draw) {
    let (place, index) = if draw.once_in(2) { (Place::Native, 0) } else { (Place::Wos, 1) };
    if draw.once_in(2) {
        world.lose(place);
    } else {
        world.hung[index] = true;
    }
}

fn operator(world: &mut World, slot: u32, draw: &mut Draw) -> Result<(), Fault> {
    let slots = if draw.once_in(4) { Vec::new() } else { vec![slot] };
    world.operator(match draw.below(10) {
        0 | 1 => Verb::Start(slots),
        2 => Verb::Stop(slots),
        3 | 4 => Verb::Restart(slots),
        5 => Verb::Pause(slots),
        6 => Verb::Resume(slots),
        7 => Verb::Reload(slots),
        8 => Verb::Settled,
        _ => Verb::Figures(slot),
    })
}

/// All faults end, and everybody does as it should.
fn peace(world: &mut World) -> Result<(), Fault> {
    // A place that hangs does so until somebody ends it.
    world.store_down = false;
    world.no_room = None;
    for proc in world.procs.values_mut() {
        (proc.stubborn, proc.unkillable, proc.hung) = (false, false, false);
    }
    // What could not be killed ends now, and its place says so.
    for at in world.living() {
        let gone = world.decider.daemon(at.daemon).and_then(Daemon::running);
        let abandoned = world.decider.view(at.daemon).is_some_and(|view| view.unkillable);
        if abandoned || gone.is_none_or(|(there, ..)| there != at) {
            world.end(at, Exit::Signal(9), "killed by SIGKILL", false);
        }
    }
    world.hear_all()?;
    let end = world.later(PEACE_MS);
    while world.now < end && !world.over {
        for at in world.living() {
            world.behave(at);
        }
        let until = world.later(50);
        world.hear_all()?;
        world.pass(until)?;
        world.hear_all()?;
        world.forget_the_dead();
    }
    if world.over {
        return Ok(());
    }
    if world.asked_to_end > 0 {
        return Err("it was told to end, and does not".to_owned());
    }
    judge(world)
}

/// Every daemon that may run runs.
fn judge(world: &World) -> Result<(), Fault> {
    for (slot, spec) in (0_u32..).zip(&world.specs) {
        let Some(view) = world.decider.view(slot) else { continue };
        let there = world.decider.daemon(slot).and_then(Daemon::running);
        let lives =
            there.is_some_and(|(at, ..)| world.procs.get(&key(at)).is_some_and(|proc| proc.alive));
        if view.state.is_up() && !lives {
            return Err(format!("{} is said to run, and is dead", spec.name));
        }
        let is_fine = match view.state {
            State::Running | State::Paused | State::Stopped(_) => true,
            State::Failed(FailureReason::Quarantined { .. }) => true,
            // Its policy was asked.
            State::Failed(FailureReason::Unkillable) => true,
            State::Failed(_) if world.decider.detail(slot).held => true,
            State::Failed(_) => spec.supervision.restart == RestartPolicy::Never,
            State::Starting(_) => view.blocked_by.is_some() || view.waits_for.is_some(),
            // Who has no watchdog and is not asked for its health may be silent for ever.
            State::Reloading { .. } => spec.ready_by == ReadyBy::Datagram,
            State::Created | State::Stopping(_) | State::Backoff { .. } => false,
        };
        if !is_fine {
            return Err(format!("all is well, and {} is {:?}", spec.name, view.state));
        }
        // Who waits, waits for one that does not come.
        if let State::Starting(_) = view.state {
            let on = view.blocked_by.or(view.waits_for);
            let on = on.and_then(|on| world.decider.view(on.slot()));
            if on.is_some_and(|on| on.state == State::Running && on.is_ready) {
                return Err(format!("{} waits for one that is there", spec.name));
            }
        }
    }
    if let Some((question, (_, verb))) = world.questions.first_key_value() {
        return Err(format!("all is well, and {question:?} ({verb:?}) is open"));
    }
    Ok(())
}

/// The fleet is told to end, and some of it hangs.
fn farewell(world: &mut World, seed: u64) -> Result<(), Fault> {
    if world.over {
        return Ok(());
    }
    let mut draw = Draw::new(seed ^ 0x5eed);
    let hangs = draw.once_in(2);
    for proc in world.procs.values_mut() {
        proc.stubborn = hangs && draw.once_in(2);
        proc.unkillable = hangs && draw.once_in(3);
    }
    let begun = world.now;
    world.asked_to_end += 1;
    world.event(Event::Interrupted { signal: "SIGTERM" })?;
    let at_once = draw.once_in(2);
    let time = if at_once {
        world.event(Event::Interrupted { signal: "SIGTERM" })?;
        END_AT_ONCE_MS
    } else {
        END_MS
    };
    while !world.over && world.now < begun.saturating_add(crate::fleet::ms(time)) {
        if !at_once {
            for at in world.living() {
                world.behave(at);
            }
        }
        world.hear_all()?;
        let until = world.later(20);
        world.pass(until)?;
    }
    if world.over {
        return Ok(());
    }
    let left = world.living();
    Err(format!(
        "told to end{}, and {left:?} are left after {time} ms",
        if at_once { " twice" } else { "" }
    ))
}
