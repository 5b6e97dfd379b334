//! Of the supervisor: which daemon should be where, what should become of its exits, and when it may
//! be killed.
//!
//! It also knows which processes there are and what they were told, which is what the environment
//! goes by.

use duende_core::lifecycle::{FailureReason, Starting, State, StopCause, Stopping};
use duende_core::probe::ProbeKind;
use duende_core::supervise::{Effect, InputError};
use duende_core::time::Instant;
use duende_world::{DAEMONS, GROUPS_OF_DAEMONS, Input, Seen, Step, World};

use super::Oracle;
use super::blocks::Blocks;
use super::moves::{about, cause_of, concerns_group, extended, moves};
use super::process::{Process, Told, extension};
use super::verdict::{Plan, Record};
use crate::failure::{Failure, hold};

/// What is known of one daemon.
#[derive(Clone, Debug)]
pub struct Daemon {
    record: Record,
    depends_on: Vec<u32>,
    /// Where it is.
    pub state: State,
    /// Since when.
    since: u64,
    /// Its process.
    pub process: Option<Process>,
    incarnation: u32,
    /// Whether it belongs to a group.
    grouped: bool,
    /// The incarnation that could not be killed, until it has ended after all.
    stayed: Option<u32>,
    /// The last sign of life, put forward by its pauses.
    alive_at: u64,
    /// Questions whether it works since the last answer that said so.
    asked: u32,
    /// Answers in a row, each to an open question, that said that it does not work.
    unwell: u32,
}

/// All daemons.
#[derive(Debug)]
pub struct Daemons {
    /// By slot.
    pub slots: [Option<Daemon>; DAEMONS],
    /// The incarnations of each slot are counted on when it has another daemon.
    incarnations: [u32; DAEMONS],
    now: Instant,
    /// The latest instant that the supervisor was told.
    heard: u64,
    step: Option<Step>,
    /// Some may be on their way out with the others.
    stopping_all: bool,
    /// Some were told to stop before others.
    stopping_chain: bool,
    /// Where the daemon of this step was at its beginning.
    before: Option<State>,
    blocks: Blocks,
}

impl Default for Daemons {
    fn default() -> Self {
        Self {
            slots: Default::default(),
            incarnations: [0; DAEMONS],
            now: Instant::ZERO,
            heard: 0,
            step: None,
            stopping_all: false,
            stopping_chain: false,
            before: None,
            blocks: Blocks::default(),
        }
    }
}

impl Daemons {
    fn daemon(&mut self, slot: u32) -> Option<&mut Daemon> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    /// Whether a process is there, as far as the supervisor knows.
    #[must_use]
    pub fn is_current(&self, of: duende_world::Process) -> bool {
        let daemon = self.slots.get(usize::from(of.slot)).and_then(Option::as_ref);
        let process = daemon.and_then(|daemon| daemon.process);
        process.is_some_and(|process| process.incarnation == of.incarnation)
    }

    fn is_running(&self, slot: u32) -> bool {
        let place = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot));
        place
            .and_then(Option::as_ref)
            .is_some_and(|daemon| matches!(daemon.state, State::Running | State::Reloading { .. }))
    }

    fn added(&mut self, slot: u32, template_number: u8, depends_on: u8, group: u8) {
        let depends_on: Vec<u32> = (0..8_u32)
            .filter(|on| depends_on & (1 << on) != 0)
            .filter(|on| {
                usize::try_from(*on).is_ok_and(|on| self.slots.get(on).is_some_and(Option::is_some))
            })
            .collect();
        let Ok(index) = usize::try_from(slot) else { return };
        let (incarnation, since) = (self.incarnations[index], self.heard);
        self.slots[index] = Some(Daemon {
            record: Record::new(Plan::of(template_number)),
            depends_on,
            state: State::Created,
            since,
            process: None,
            incarnation,
            grouped: usize::from(group) < GROUPS_OF_DAEMONS,
            stayed: None,
            alive_at: 0,
            asked: 0,
            unwell: 0,
        });
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), Failure> {
        self.heard = self.heard.max(self.now.as_ns());
        let heard = self.heard;
        match *effect {
            Effect::Changed { id, from, to } => self.changed(id.slot(), from, to),
            Effect::Spawn { id, incarnation } => {
                let depends_on = self
                    .daemon(id.slot())
                    .map(|daemon| daemon.depends_on.clone())
                    .unwrap_or_default();
                for on in depends_on {
                    hold!(
                        self.is_running(on),
                        "supervisor: spawned before its dependencies ran",
                        "{id} needs {on}"
                    );
                }
                let Some(daemon) = self.daemon(id.slot()) else {
                    return Err(Failure::new("supervisor: effect on nobody", format!("{id}")));
                };
                let (before, stayed) = (daemon.process, daemon.stayed);
                hold!(
                    before.is_none() && stayed.is_none(),
                    "supervisor: two processes",
                    "{id} has {before:?} and {stayed:?}"
                );
                let expected = daemon.incarnation.wrapping_add(1);
                hold!(
                    incarnation == expected,
                    "supervisor: incarnations are counted on",
                    "{id}: {incarnation} for {expected}"
                );
                daemon.incarnation = incarnation;
                daemon.process = Some(Process::new(incarnation));
                self.incarnations[usize::try_from(id.slot()).unwrap_or(0)] = incarnation;
                Ok(())
            }
            Effect::Terminate { id, incarnation, grace, cause } => {
                self.process(id.slot(), incarnation)?.asked(heard, grace.as_nanos())?;
                let state = self.daemon(id.slot()).map(|daemon| daemon.state);
                let (deadline, expected) = match state {
                    Some(State::Stopping(Stopping::Asked { deadline, .. })) => {
                        (deadline, duende_core::supervise::TerminateCause::Stop)
                    }
                    Some(State::Stopping(Stopping::Condemned { reason, deadline })) => {
                        (deadline, cause_of(reason))
                    }
                    _ => {
                        return Err(Failure::new(
                            "supervisor: terminated without stopping",
                            format!("{id} {state:?}"),
                        ));
                    }
                };
                hold!(
                    deadline.as_ns() == heard.saturating_add(GRACE_NS) && cause == expected,
                    "supervisor: a process is told why it is to end",
                    "{id}: {cause:?} for {expected:?}, until {deadline:?} at {heard}"
                );
                Ok(())
            }
            Effect::Kill { id, incarnation } => {
                let by_operator = self.input() == Some(&Input::KillAll);
                self.process(id.slot(), incarnation)?.killed(heard, by_operator)
            }
            Effect::KillTimedOut { id, incarnation, attempt } => {
                self.process(id.slot(), incarnation)?.outlived(heard, attempt)
            }
            Effect::Blocked { id, on } => self.blocks.told(id, on),
            Effect::Probe { id, incarnation, kind, token } => {
                let process = self.process(id.slot(), incarnation)?;
                process.probe = Some((token, kind, heard));
                if let Some(daemon) = self.daemon(id.slot())
                    && kind == ProbeKind::Liveness
                {
                    daemon.asked += 1;
                }
                let startup = kind == ProbeKind::Startup;
                hold!(
                    self.is_running(id.slot()) || startup,
                    "supervisor: probed what does not run",
                    "{id}"
                );
                Ok(())
            }
            Effect::ReloadTimedOut { id, incarnation } => {
                // The tick that finds this leaves the rest to the next one.
                self.process(id.slot(), incarnation)?.is_judged = false;
                Ok(())
            }
            Effect::Pause { id, incarnation }
            | Effect::Resume { id, incarnation }
            | Effect::Reload { id, incarnation } => self.process(id.slot(), incarnation).map(drop),
            Effect::Halt(ref epitaph) => Err(Failure::new("supervisor: halted", epitaph.as_str())),
        }
    }

    fn process(&mut self, slot: u32, incarnation: u32) -> Result<&mut Process, Failure> {
        let process = self.daemon(slot).and_then(|daemon| daemon.process.as_mut());
        match process {
            Some(process) if process.incarnation == incarnation => Ok(process),
            other => Err(Failure::new(
                "supervisor: effect on a process that is not there",
                format!("for {slot}.{incarnation}, there is {other:?}"),
            )),
        }
    }

    fn input(&self) -> Option<&Input> {
        self.step.as_ref().map(|step| &step.input)
    }

    fn changed(&mut self, slot: u32, from: State, to: State) -> Result<(), Failure> {
        let (heard, step, stopping_all) = (self.heard, self.step.clone(), self.stopping_all);
        let (stopping_chain, operator_starts) = (self.stopping_chain, self.operator_starts());
        // What the operator names is forgiven where the answer is seen; this is about the rest.
        let chained = match step.as_ref().map(|step| &step.input) {
            Some(Input::StartChain { .. }) => true,
            Some(Input::RestartChain { slot: named }) => u32::from(*named) != slot,
            _ => false,
        };
        let entropy = step.as_ref().map_or(0, |step| step.entropy);
        let Some(daemon) = self.daemon(slot) else {
            return Err(Failure::new("supervisor: effect on nobody", format!("slot {slot}")));
        };
        let known = daemon.state;
        hold!(
            known == from && from != to,
            "supervisor: a state follows the one before",
            "slot {slot}: {from:?} → {to:?}, was {known:?}"
        );
        (daemon.state, daemon.since) = (to, heard);
        let input = step.map(|step| step.input);
        let news = |of: &duende_world::Process| {
            u32::from(of.slot) == slot
                && daemon.process.is_some_and(|process| process.incarnation == of.incarnation)
        };
        moves(from, to, heard, input.as_ref().filter(|input| about(input).is_none_or(news)))?;
        let exit = match &input {
            Some(Input::Exited { of, end }) if news(of) => Some(*end),
            _ => None,
        };
        if to == State::Failed(FailureReason::Unkillable) {
            let Some(process) = daemon.process.take() else {
                return Err(Failure::new("supervisor: nobody is given up", format!("{slot}")));
            };
            process.given_up(heard)?;
            daemon.stayed = Some(process.incarnation);
        } else if from.has_process() && !to.has_process() {
            let Some(end) = exit else {
                return Err(Failure::new(
                    "supervisor: a process is over without an exit",
                    format!("slot {slot}: {from:?} → {to:?}"),
                ));
            };
            daemon.process = None;
            let kept = daemon.record.clone();
            let expected = daemon.record.verdict(from, end, heard, entropy);
            if to != expected {
                // It was to leave with others, and only waited for its turn: that is no failure of its
                // own. Or it was one too many for its group, which quarantines it.
                let by_group = daemon.grouped
                    && concerns_group(from, end)
                    && matches!(to, State::Failed(FailureReason::Quarantined { restarts: 3, .. }));
                let left = match to {
                    State::Stopped(StopCause::Operator) => stopping_all || stopping_chain,
                    State::Stopped(StopCause::GaveUp) => daemon.grouped,
                    State::Backoff { until, failure: None } => {
                        daemon.grouped && until.as_ns() == heard
                    }
                    _ => false,
                };
                hold!(
                    left || by_group,
                    "supervisor: the verdict on an exit",
                    "slot {slot}: {from:?}, {end:?} → {to:?} instead of {expected:?}"
                );
                if left {
                    daemon.record = kept;
                }
            }
            daemon.record.last_end = Some(end);
        }
        // An operator's start of what has no process forgets what it did before.
        let starts = !from.has_process() && matches!(to, State::Starting(Starting::Waiting));
        if starts && operator_starts && chained {
            daemon.record.started_by_operator(heard);
        }
        match (from, to) {
            (_, State::Paused) => daemon.record.paused_at = Some(heard),
            (State::Paused, _) => {
                let length = daemon.record.resumed(heard);
                daemon.alive_at = daemon.alive_at.saturating_add(length);
                if let Some((_, _, at)) = daemon.process.as_mut().and_then(|p| p.probe.as_mut()) {
                    *at = at.saturating_add(length);
                }
            }
            _ => {}
        }
        if to.is_up() && !from.is_up() {
            daemon.record.came_up(heard);
            daemon.alive_at = heard;
            (daemon.asked, daemon.unwell) = (0, 0);
        }
        if matches!((from, to), (State::Stopping(_), State::Stopping(_))) {
            return Ok(());
        }
        match (from, to) {
            (
                State::Starting(
                    Starting::Spawning { deadline } | Starting::Initialising { deadline },
                ),
                State::Stopping(Stopping::Condemned {
                    reason: FailureReason::StartTimeout, ..
                }),
            ) => {
                hold!(
                    deadline.as_ns() <= heard || daemon.record.plan.comes_up_by_probe,
                    "supervisor: condemned before its start timeout",
                    "slot {slot}: {deadline:?} at {heard}"
                );
            }
            (State::Backoff { until, .. }, State::Starting(_)) => {
                hold!(
                    until.as_ns() <= heard || operator_starts,
                    "supervisor: started again before its backoff is over",
                    "slot {slot}: {until:?} at {heard}"
                );
            }
            (_, State::Stopping(Stopping::Condemned { reason: FailureReason::Unhealthy, .. })) => {
                let (asked, threshold) = (daemon.asked, daemon.record.plan.failures_max);
                hold!(
                    threshold.is_some_and(|threshold| asked >= threshold),
                    "supervisor: condemned before its checks failed often enough",
                    "slot {slot}: asked {asked} times, {threshold:?}"
                );
            }
            (_, State::Stopping(Stopping::Condemned { reason: FailureReason::Watchdog, .. })) => {
                let silent = heard.saturating_sub(daemon.alive_at);
                hold!(
                    daemon.record.plan.watched && (silent >= WATCHDOG_NS || heard == u64::MAX),
                    "supervisor: condemned before its watchdog's time is over",
                    "slot {slot}: {silent} ns after a sign of life"
                );
            }
            (_, State::Starting(Starting::Spawning { .. })) => daemon.record.spawned(),
            _ => {}
        }
        Ok(())
    }

    /// Whether in this step an operator starts a daemon, or several.
    fn operator_starts(&self) -> bool {
        matches!(
            self.step.as_ref().map(|step| &step.input),
            Some(
                Input::Start { .. }
                    | Input::StartChain { .. }
                    | Input::Restart { .. }
                    | Input::RestartChain { .. }
            )
        )
    }

    /// What a process has answered.
    fn answered(&mut self, input: &Input) -> Result<(), Failure> {
        let heard = self.heard;
        match *input {
            Input::Exited { of, end } => {
                if let Some(daemon) = self.daemon(u32::from(of.slot))
                    && daemon.stayed.take_if(|stayed| *stayed == of.incarnation).is_some()
                {
                    daemon.record.last_end = Some(end);
                }
            }
            Input::Extend { of, by_us } => {
                let Some(daemon) = self.daemon(u32::from(of.slot)) else { return Ok(()) };
                let Some(process) = &mut daemon.process else { return Ok(()) };
                if process.incarnation != of.incarnation {
                    return Ok(());
                }
                process.extended(heard, by_us);
                // Nobody is told of that: what can be seen is held against it.
                daemon.state = extended(daemon.state, extension(heard, by_us));
            }
            Input::Alive(of) => {
                if let Some(daemon) = self.daemon(u32::from(of.slot))
                    && daemon.process.is_some_and(|p| p.incarnation == of.incarnation)
                {
                    daemon.alive_at = daemon.record.paused_at.unwrap_or(heard);
                }
            }
            Input::Probed { of, token, healthy } => {
                let Some(daemon) = self.daemon(u32::from(of.slot)) else { return Ok(()) };
                let Some(process) = &mut daemon.process else { return Ok(()) };
                if process.incarnation != of.incarnation {
                    return Ok(());
                }
                let Some((_, kind, _)) = process.probe.take_if(|(asked, _, _)| *asked == token)
                else {
                    return Ok(());
                };
                if kind != ProbeKind::Liveness {
                    return Ok(());
                }
                (daemon.asked, daemon.unwell) =
                    if healthy { (0, 0) } else { (daemon.asked, daemon.unwell + 1) };
            }
            _ => {}
        }
        Ok(())
    }

    /// What is still there though it was given up is not started beside itself, and all else is not
    /// refused for that.
    fn refused(&mut self, input: &Input, handled: Result<(), InputError>) -> Result<(), Failure> {
        let (Input::Start { slot }
        | Input::Restart { slot }
        | Input::StartChain { slot }
        | Input::RestartChain { slot }) = *input
        else {
            return Ok(());
        };
        let Some(daemon) = self.daemon(u32::from(slot)) else { return Ok(()) };
        let refused = matches!(handled, Err(InputError::StillThere(_)));
        hold!(
            refused == daemon.stayed.is_some(),
            "supervisor: what could not be killed is not started before it has ended",
            "{slot}: {handled:?}, {:?}",
            daemon.stayed
        );
        Ok(())
    }
}

impl Daemon {
    /// A tick ends a question whose time is over. For what is paused, time stands still.
    fn judge_question(&mut self, now: u64) {
        let is_paused = self.record.paused_at.is_some();
        let Some(process) = &mut self.process else { return };
        let judged = core::mem::replace(&mut process.is_judged, true);
        if judged && !is_paused {
            process.probe.take_if(|(_, _, at)| at.saturating_add(PROBE_TIMEOUT_NS) <= now);
        }
    }

    /// Whether it has to give signs of life.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.record.plan.watched && self.state.is_up()
    }

    /// The slots of what it depends on.
    #[must_use]
    pub fn depends_on(&self) -> &[u32] {
        &self.depends_on
    }
}

const WATCHDOG_NS: u64 = 6_000_000;
const PROBE_TIMEOUT_NS: u64 = 1_000_000;
const GRACE_NS: u64 = 5_000_000;

impl Oracle for Daemons {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.step = Some(step.clone());
        self.before = match step.input {
            Input::Start { slot } | Input::Restart { slot } | Input::RestartChain { slot } => {
                self.daemon(u32::from(slot)).map(|daemon| daemon.state)
            }
            Input::StopAll => {
                self.stopping_all = true;
                None
            }
            Input::StopChain { .. } => {
                self.stopping_chain = true;
                None
            }
            _ => None,
        };
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match seen {
            Seen::Effect(effect) => self.effect(effect),
            Seen::Supervised(handled) => {
                self.heard = self.heard.max(self.now.as_ns());
                let input = self.step.as_ref().map(|step| step.input.clone());
                if let Some(input) = &input {
                    self.answered(input)?;
                    self.refused(input, *handled)?;
                }
                if let (Ok(()), Some(Input::Forgive { slot })) = (handled, &input)
                    && let Some(daemon) = self.daemon(u32::from(*slot))
                {
                    daemon.record.forgive();
                }
                // A restart of what waits changes no state, and forgives it too.
                if let (
                    Ok(()),
                    Some(
                        Input::Start { slot }
                        | Input::Restart { slot }
                        | Input::RestartChain { slot },
                    ),
                ) = (handled, &input)
                    && self.before.is_some_and(|state| !state.has_process())
                {
                    let heard = self.heard;
                    if let Some(daemon) = self.daemon(u32::from(*slot)) {
                        daemon.record.started_by_operator(heard);
                    }
                }
                Ok(())
            }
            Seen::Added(Ok(id)) => {
                if let Some(Input::Add { template, depends_on, group }) =
                    self.step.as_ref().map(|step| step.input.clone())
                {
                    self.added(id.slot(), template, depends_on, group);
                }
                Ok(())
            }
            Seen::Removed(Ok(())) => {
                if let Some(Input::Remove { slot }) = self.step.as_ref().map(|step| &step.input)
                    && let Some(place) = self.slots.get_mut(usize::from(*slot))
                {
                    *place = None;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, world: &World) -> Result<(), Failure> {
        self.blocks.done(&self.slots, world)?;
        let (judged, heard) = (self.input() == Some(&Input::Tick), self.heard);
        if judged {
            self.slots.iter_mut().flatten().for_each(|daemon| daemon.judge_question(heard));
        }
        let all_killed = self.input() == Some(&Input::KillAll);
        for (slot, daemon) in (0..).zip(&self.slots) {
            let process = daemon.as_ref().and_then(|daemon| daemon.process);
            if let Some(process) = process {
                if judged {
                    process.in_time(heard)?;
                }
                hold!(
                    !all_killed || process.told == Told::Kill,
                    "supervisor: all are killed when an operator wants that",
                    "{slot}: {process:?}"
                );
            }
            let stayed = daemon.as_ref().is_some_and(|daemon| daemon.stayed.is_some());
            hold!(
                world.view(slot).is_some_and(|view| view.unkillable) == stayed,
                "supervisor: what could not be killed can be seen",
                "{slot}"
            );
            if let Some(daemon) = daemon
                && let Some(threshold) = daemon.record.plan.failures_max
            {
                let unwell = daemon.unwell;
                hold!(
                    unwell < threshold || !daemon.state.is_up(),
                    "supervisor: who is unwell often enough is condemned",
                    "{slot}: {unwell} times in a row"
                );
            }
            let seen = world.view(slot).map(|view| (view.state, view.since.as_ns()));
            let known = daemon.as_ref().map(|daemon| (daemon.state, daemon.since));
            hold!(
                seen == known,
                "supervisor: changes are told, and more time is none",
                "{slot}: {seen:?}, {known:?}"
            );
        }
        Ok(())
    }
}
