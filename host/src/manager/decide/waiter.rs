//! Questions that wait.
//!
//! Rules:
//! 1. A daemon that was found to be settled stays so for its question, whatever happens to it later.
//! 2. What no daemon can get to by itself is not waited for: it failed, waits behind one that does not
//!    come, lacks something outside (that is tried again for ever), or another operator asked for the
//!    opposite.
//! 3. Of a program that is ready because it was started, "started" is said only after [`SETTLE_TIME`]:
//!    not of one that dies at once.
//!    Nor of one whose main process has ended while what that left is being ended.
//! 4. Figures are waited for [`FIGURES_TIME`]; then the answer goes without them.
//! 5. While a fleet comes up, whoever ends before it is ready and is tried again is waited for
//!    [`TRIES_TIME`], and no longer: nothing says that its limit ever ends that
//!    (`tests::who_ends_again_and_again_is_waited_for_its_time_only`).

use std::time::Duration;

use duende_core::{
    lifecycle::{FailureReason, Starting, State, StopCause},
    time::Instant,
    wire::link::Address,
};

use super::{
    Answer, Decider, Effect, Outcome, QuestionId, ReadyBy,
    planted::{self, Plant},
};
use crate::{backend::Abilities, control::protocol::ErrorCode};

/// How long a program must live to be called started, if that is all that it does to be ready.
pub(super) const SETTLE_TIME: Duration = Duration::from_millis(100);
/// How long a daemon may take to tell its own figures.
const FIGURES_TIME: Duration = Duration::from_secs(2);
/// How long is waited for one that fails and is tried again, by a start for its dependency, by a fleet that
/// comes up for each of its daemons: its limit may end that, or it may come.
pub(super) const TRIES_TIME: Duration = Duration::from_secs(30);
/// Most figures of one answer.
const FIGURES_MAX: usize = duende_core::wire::link::METRICS_MAX;

/// What a question waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Each is ready, or can't be.
    Up,
    /// None has a process.
    Down,
    /// None is reading its configuration.
    Reloaded,
    /// Each that is to run is ready, or can't be.
    Settled,
    /// It was done at once.
    Nothing,
}

/// How one daemon of a question is settled: done, with a word, or not.
type Settled = Result<String, (ErrorCode, String)>;

#[derive(Debug)]
struct Figures {
    at: Address,
    token: u64,
    figures: Vec<(String, f64)>,
    /// Whether there are no more figures, and whether its processes are counted.
    done: bool,
    counted: bool,
}

/// One daemon of a question.
#[derive(Debug)]
struct Asked {
    slot: u32,
    /// The incarnation that it had when it was asked about.
    incarnation: u32,
    settled: Option<Settled>,
}

/// A question that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    question: QuestionId,
    since: Instant,
    goal: Goal,
    daemons: Vec<Asked>,
    figures: Option<Figures>,
}

impl Waiter {
    /// A question about these daemons, each with the incarnation that it has.
    pub(super) fn new(
        question: QuestionId,
        since: Instant,
        goal: Goal,
        daemons: Vec<(u32, u32)>,
    ) -> Self {
        let asked = |(slot, incarnation)| Asked { slot, incarnation, settled: None };
        let daemons = daemons.into_iter().map(asked).collect();
        Self { question, since, goal, daemons, figures: None }
    }

    pub(super) fn for_figures(
        question: QuestionId,
        since: Instant,
        at: Address,
        token: u64,
        abilities: Abilities,
    ) -> Self {
        let figures = Some(Figures {
            at,
            token,
            figures: Vec::new(),
            done: !abilities.speaks,
            counted: !abilities.has_process,
        });
        Self { question, since, goal: Goal::Nothing, daemons: Vec::new(), figures }
    }

    pub(super) const fn question(&self) -> QuestionId {
        self.question
    }

    pub(super) fn settle(&mut self, slot: u32, how: &Settled) {
        for asked in &mut self.daemons {
            if asked.slot == slot {
                asked.settled.get_or_insert_with(|| how.clone());
            }
        }
    }

    /// Another operator wants a daemon up or down.
    pub(super) fn other_wants(&mut self, slot: u32, up: bool) {
        let opposite = match self.goal {
            Goal::Up | Goal::Reloaded => !up,
            Goal::Down => up,
            Goal::Settled | Goal::Nothing => false,
        };
        if opposite && !planted::is(Plant::MovedGoal) {
            let what = if up { "started" } else { "stopped" };
            let text = format!("another operator asked for it to be {what}");
            self.settle(slot, &Err((ErrorCode::InvalidState, text)));
        }
    }
}

impl Decider {
    /// Looks at every question that waits.
    pub(super) fn answer_waiters(&mut self) {
        for mut waiter in std::mem::take(&mut self.waiters) {
            match self.look_at(&mut waiter) {
                Some(answer) => self.effect(Effect::Answer(waiter.question, answer)),
                None => self.waiters.push(waiter),
            }
        }
    }

    /// When a question is to be looked at although nothing happens.
    pub(super) fn waiter_deadline(&self) -> Option<Instant> {
        let of = |waiter: &Waiter| {
            if waiter.figures.is_some() {
                return Some(waiter.since.saturating_add(FIGURES_TIME));
            }
            if !matches!(waiter.goal, Goal::Up | Goal::Settled) {
                return None;
            }
            let settling = waiter.daemons.iter().filter(|asked| asked.settled.is_none());
            // What has come was looked at when it came.
            let to_come = |at: &Instant| *at > self.now;
            let patience = waiter.since.saturating_add(TRIES_TIME);
            let all = settling.filter_map(|asked| self.settles_at(asked.slot)).chain([patience]);
            all.filter(to_come).min()
        };
        self.waiters.iter().filter_map(of).min()
    }

    /// A daemon told one of its figures, or that there are no more.
    pub(super) fn take_figure(
        &mut self,
        of: Address,
        of_token: u64,
        figure: Option<&(String, f64)>,
    ) {
        for waiter in &mut self.waiters {
            let Some(asked) = &mut waiter.figures else { continue };
            if (asked.at, asked.token) != (of, of_token) {
                continue;
            }
            match figure {
                Some(figure) if asked.figures.len() < FIGURES_MAX => {
                    asked.figures.push(figure.clone());
                }
                Some(_) => {}
                None => asked.done = true,
            }
        }
    }

    /// The processes of a daemon were counted.
    pub(super) fn counted(&mut self, at: Address) {
        for asked in self.waiters.iter_mut().filter_map(|waiter| waiter.figures.as_mut()) {
            asked.counted |= asked.at == at;
        }
    }

    fn look_at(&self, waiter: &mut Waiter) -> Option<Answer> {
        if let Some(asked) = &mut waiter.figures {
            let there = self.daemon(asked.at.daemon).and_then(super::Daemon::running);
            let gone = there.is_none_or(|(at, _, _)| at != asked.at);
            let late = self.now.saturating_since(waiter.since) >= FIGURES_TIME;
            let slot = asked.at.daemon;
            return ((asked.done && asked.counted) || gone || late)
                .then(|| Answer::Figures { slot, figures: std::mem::take(&mut asked.figures) });
        }
        for asked in &mut waiter.daemons {
            if asked.settled.is_none() {
                asked.settled = self.settled(asked, waiter.goal, waiter.since);
            }
        }
        let outcomes: Option<Vec<Outcome>> = waiter
            .daemons
            .iter()
            .map(|asked| {
                let slot = asked.slot;
                Some(match asked.settled.as_ref()? {
                    Ok(detail) => Outcome { slot, refused: None, detail: detail.clone() },
                    Err((code, detail)) => {
                        Outcome { slot, refused: Some(*code), detail: detail.clone() }
                    }
                })
            })
            .collect();
        outcomes.map(Answer::Outcomes)
    }

    /// How a daemon stands to a goal; none while it is on its way.
    fn settled(&self, asked: &Asked, goal: Goal, since: Instant) -> Option<Settled> {
        let slot = asked.slot;
        let Some(view) = self.view(slot) else { return Some(Ok(String::new())) };
        match goal {
            Goal::Nothing => Some(Ok(String::new())),
            Goal::Up => self.up(slot, since),
            Goal::Settled => match view.state {
                State::Created => Some(Ok(String::new())),
                // The fleet comes up as a whole: a next try may do.
                State::Backoff { failure, .. }
                    if failure.is_none_or(|one| !one.is_outer()) && !self.has_tried(since) =>
                {
                    None
                }
                _ => self.up(slot, since),
            },
            Goal::Down => match view.state {
                State::Failed(FailureReason::Unkillable) if view.unkillable => {
                    let text = format!("{}: its process can't be killed", self.name(slot));
                    Some(Err((ErrorCode::Failed, text)))
                }
                State::Created | State::Stopped(_) | State::Failed(_) | State::Backoff { .. } => {
                    Some(Ok(String::new()))
                }
                // Perhaps for the sake of another daemon, which depends on it.
                state
                    if !planted::is(Plant::MovedGoal) && view.incarnation != asked.incarnation
                        || state == State::Starting(Starting::Waiting) =>
                {
                    let text = format!("{} was started again meanwhile", self.name(slot));
                    Some(Err((ErrorCode::InvalidState, text)))
                }
                State::Starting(_)
                | State::Running
                | State::Reloading { .. }
                | State::Paused
                | State::Stopping(_) => None,
            },
            Goal::Reloaded => match view.state {
                State::Reloading { .. } => None,
                state => {
                    let daemon = self.daemon(slot)?;
                    if let Some(why) = &daemon.reload_failed {
                        let text = format!("{} was not reloaded: {why}", daemon.spec.name);
                        return Some(Err((ErrorCode::Failed, text)));
                    }
                    if state.is_up() {
                        return Some(Ok(String::new()));
                    }
                    let text = format!("{} was not reloaded: it ended", daemon.spec.name);
                    Some(Err((ErrorCode::Failed, text)))
                }
            },
        }
    }

    fn up(&self, slot: u32, since: Instant) -> Option<Settled> {
        let (view, daemon) = (self.view(slot)?, self.daemon(slot)?);
        let name = &daemon.spec.name;
        let last = daemon.last_exit.as_deref().unwrap_or("it ended");
        let failed = |text: String| Some(Err((ErrorCode::Failed, text)));
        match view.state {
            // What becomes of it is decided once all of it has ended.
            State::Running | State::Reloading { .. } if daemon.main_ended().is_some() => None,
            State::Running | State::Reloading { .. } => {
                let settles_at = self.settles_at(slot);
                settles_at.is_none_or(|at| at <= self.now).then(|| Ok(String::new()))
            }
            State::Paused => failed(format!("{name} is paused; `duende resume {name}`")),
            State::Stopped(StopCause::Finished) if !daemon.was_ready => {
                failed(format!("{name} ended before it was ready: {last}"))
            }
            State::Stopped(StopCause::Finished) => Some(Ok("it has done its work".to_owned())),
            State::Stopped(StopCause::Operator) => {
                failed(format!("{name} was stopped by an operator"))
            }
            State::Stopped(StopCause::GaveUp) => {
                failed(format!("{name} was stopped: its group failed too often"))
            }
            State::Failed(failure) => failed(format!(
                "{name} failed: {}; see `duende status {name}`",
                super::reason::failed(failure, daemon.last_exit.as_deref().unwrap_or_default())
            )),
            State::Backoff { failure: Some(FailureReason::Unavailable(_)), .. } => {
                failed(format!("{name} is waiting: {last}; it is tried again and again"))
            }
            State::Backoff { .. } => {
                failed(format!("{name} ended before it was ready: {last}; it is tried again"))
            }
            State::Starting(Starting::Waiting) => {
                let on = view.blocked_by.or_else(|| self.tried_again(slot, since))?;
                if planted::is(Plant::SilentBlock) {
                    return None;
                }
                let state = self.supervisor.view(on).map(|view| view.state);
                failed(format!(
                    "{name} waits for {}, which {}",
                    self.name(on.slot()),
                    super::reason::why_it_does_not_come(state)
                ))
            }
            State::Created | State::Starting(_) | State::Stopping(_) => None,
        }
    }

    /// Whether who was tried again and again has had its time.
    fn has_tried(&self, since: Instant) -> bool {
        self.now.saturating_since(since) >= TRIES_TIME
    }

    /// The daemon for which this one waits, directly or through others, if that one has ended and is
    /// tried again: how long that goes on is nobody's to say.
    fn tried_again(&self, slot: u32, since: Instant) -> Option<duende_core::supervise::DaemonId> {
        if !self.has_tried(since) {
            return None;
        }
        let mut on = self.view(slot)?.waits_for?;
        // Dependencies form no circle: there are no more steps than daemons.
        for _ in &self.daemons {
            let view = self.supervisor.view(on)?;
            match view.state {
                State::Backoff { .. } => return Some(on),
                State::Starting(Starting::Waiting) => on = view.waits_for?,
                _ => return None,
            }
        }
        None
    }

    /// When a program that runs counts as started, if its start is all that makes it ready.
    fn settles_at(&self, slot: u32) -> Option<Instant> {
        let daemon = self.daemon(slot)?;
        if daemon.spec.ready_by != ReadyBy::Start {
            return None;
        }
        let up_since = self.view(slot)?.up_since?;
        Some(up_since.saturating_add(SETTLE_TIME))
    }
}
