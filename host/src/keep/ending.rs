//! How one daemon ends: who of it is asked, who is killed, and when it is over. No process is touched
//! here, and no clock is read.
//!
//! Rules:
//! 1. A stop asks. Everybody keeps the grace that the stop rule gives, counted from the first time
//!    that somebody was asked, whoever of them dies first.
//! 2. The main process is killed by request, or when there is no manager left to request it and its
//!    grace is over. What it leaves behind is killed when its grace is over.
//! 3. What the main process leaves behind is asked once: with it, or when it is gone. If it ended by
//!    itself and well, that waits for [`HANDOVER_WAIT`]: another may be named the main one.
//! 4. A kill is repeated until nothing is left.
//! 5. It is over when the main process has ended and nothing is left, and that is told once.

use std::time::{Duration, Instant};

use crate::config::StopScope;

use super::protocol::StopRule;

/// How long what a main process left behind when it ended well may take to be named its successor.
pub(super) const HANDOVER_WAIT: Duration = Duration::from_millis(200);

/// How often a kill is repeated while something is left.
pub(super) const KILL_EVERY: Duration = Duration::from_millis(50);

/// How often what is left is looked at. Its last process tells by its death; what a kernel is slow to
/// forget does not.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What happens to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The manager wants it to end, by this signal.
    Stop { signal: i32 },
    /// The manager wants it to be gone.
    Kill,
    /// There is no manager any more, or it wants everybody to end.
    StopAlone,
    /// The main process ended.
    MainEnded { well: bool },
    /// Another process is the main one.
    MainNamed,
    /// Somebody looked whether a process of it is left.
    Looked { left: bool },
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send the main process this signal, and let it go on if it is stopped.
    AskMain { signal: i32 },
    /// The same to every process.
    AskAll { signal: i32 },
    /// Kill every process.
    KillAll,
    /// Look whether a process is left, and say so by [`Event::Looked`].
    Look,
    /// Tell the manager that the main process ended and others are left.
    TellMainEnded,
    /// Tell the manager that it is over.
    TellOver,
}

/// Who has been asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nobody,
    Main,
    All,
}

/// What the main process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Main {
    Lives,
    /// It ended, and whether others are left is not known yet.
    Ended,
    /// It ended, and others are left.
    Survived,
    /// All is told.
    Over,
}

/// One daemon that runs or ends.
#[derive(Debug)]
pub(super) struct Ending {
    rule: StopRule,
    main: Main,
    asked: Asked,
    /// When somebody was asked first.
    asked_at: Option<Instant>,
    /// Whether there is nobody who could request a kill.
    alone: bool,
    killing: bool,
    /// Until when a successor may be named.
    handover_until: Option<Instant>,
    /// When something is to be repeated.
    again_at: Option<Instant>,
}

impl Ending {
    pub(super) const fn new(rule: StopRule) -> Self {
        Self {
            rule,
            main: Main::Lives,
            asked: Asked::Nobody,
            asked_at: None,
            alone: false,
            killing: false,
            handover_until: None,
            again_at: None,
        }
    }

    /// Whether the main process has ended.
    pub(super) fn main_ended(&self) -> bool {
        self.main != Main::Lives
    }

    /// Whether somebody wanted it to end.
    pub(super) fn was_asked(&self) -> bool {
        self.asked != Asked::Nobody || self.killing
    }

    /// Whether it was killed.
    pub(super) const fn was_killed(&self) -> bool {
        self.killing
    }

    /// When [`Event::Tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.main == Main::Over {
            return None;
        }
        [self.kill_at(), self.handover_until, self.again_at].into_iter().flatten().min()
    }

    /// When everybody is killed.
    fn kill_at(&self) -> Option<Instant> {
        let is_due = !self.killing && (self.alone || self.main_ended());
        let grace = Duration::from_millis(self.rule.grace_ms);
        self.asked_at.filter(|_| is_due)?.checked_add(grace)
    }

    /// Takes what happened, and gives what is to be done to `out`.
    pub(super) fn step(&mut self, now: Instant, event: Event, out: &mut impl FnMut(Effect)) {
        if self.main == Main::Over {
            return;
        }
        match event {
            Event::Stop { signal } => self.ask(now, signal, out),
            Event::StopAlone => {
                self.alone = true;
                if !self.was_asked() {
                    self.ask(now, self.rule.signal, out);
                }
            }
            Event::Kill => self.kill(now, out),
            Event::MainEnded { well } => {
                self.main = Main::Ended;
                if well && !self.was_asked() {
                    self.handover_until = now.checked_add(HANDOVER_WAIT);
                }
                out(Effect::Look);
            }
            Event::MainNamed => {
                self.main = Main::Lives;
                self.handover_until = None;
                self.again_at = self.again_at.filter(|_| self.killing);
            }
            Event::Looked { left } => self.looked(now, left, out),
            Event::Tick => self.tick(now, out),
        }
    }

    fn ask(&mut self, now: Instant, signal: i32, out: &mut impl FnMut(Effect)) {
        let main_alone = self.rule.scope == StopScope::Process && !self.main_ended();
        let (asked, effect) = match main_alone {
            true => (Asked::Main, Effect::AskMain { signal }),
            false => (Asked::All, Effect::AskAll { signal }),
        };
        self.asked = self.asked.max(asked);
        self.asked_at.get_or_insert(now);
        self.handover_until = None;
        out(effect);
    }

    fn kill(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.killing = true;
        self.handover_until = None;
        self.again_at = now.checked_add(KILL_EVERY);
        out(Effect::KillAll);
    }

    fn looked(&mut self, now: Instant, left: bool, out: &mut impl FnMut(Effect)) {
        match (self.main, left) {
            (Main::Lives | Main::Over, _) => {}
            (Main::Ended | Main::Survived, false) => {
                self.main = Main::Over;
                out(Effect::TellOver);
            }
            (Main::Ended, true) => {
                self.main = Main::Survived;
                out(Effect::TellMainEnded);
                self.again_at = now.checked_add(LOOK_EVERY);
                if self.killing {
                    self.kill(now, out);
                } else if self.asked != Asked::All && self.handover_until.is_none() {
                    self.ask(now, self.rule.signal, out);
                }
            }
            (Main::Survived, true) => {}
        }
    }

    fn tick(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.handover_until) {
            self.ask(now, self.rule.signal, out);
        }
        if is_due(self.kill_at()) || self.killing && is_due(self.again_at) {
            self.kill(now, out);
        } else if is_due(self.again_at) {
            self.again_at = now.checked_add(LOOK_EVERY);
        } else {
            return;
        }
        if self.main_ended() {
            out(Effect::Look);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(2);
    const TERM: i32 = 15;

    fn ending(scope: StopScope) -> Ending {
        Ending::new(StopRule { signal: TERM, scope, grace_ms: 2_000 })
    }

    /// What a daemon is told, and what it answers at once; times in milliseconds.
    #[track_caller]
    fn check(scope: StopScope, story: &[(u64, Event, &[Effect])]) {
        let (mut ending, began) = (ending(scope), Instant::now());
        for (at_ms, event, expected) in story {
            let mut effects = Vec::new();
            let now = began + Duration::from_millis(*at_ms);
            ending.step(now, *event, &mut |effect| effects.push(effect));
            assert_eq!(effects, *expected, "{at_ms} ms: {event:?} of {story:?}");
        }
    }

    #[test]
    fn everybody_has_the_grace() {
        use Effect::{AskAll, AskMain, KillAll, Look, TellMainEnded, TellOver};
        use Event::{Kill, Looked, MainEnded, MainNamed, Stop, StopAlone, Tick};
        let ended = MainEnded { well: false };
        let well = MainEnded { well: true };
        let (left, none) = (Looked { left: true }, Looked { left: false });
        let stop = Stop { signal: 6 };
        let all = AskAll { signal: TERM };
        let group = StopScope::Group;
        // The leader dies at once; its group has what the leader had.
        check(
            group,
            &[
                (0, stop, &[AskAll { signal: 6 }]),
                (3, ended, &[Look]),
                (3, left, &[TellMainEnded]),
                (1_999, Tick, &[Look]),
                (2_000, Tick, &[KillAll, Look]),
                (2_001, none, &[TellOver]),
                (2_002, Kill, &[]),
            ],
        );
        // The main process alone is asked, then the others.
        check(
            StopScope::Process,
            &[
                (0, stop, &[AskMain { signal: 6 }]),
                (500, ended, &[Look]),
                (500, left, &[TellMainEnded, all]),
                (2_000, Tick, &[KillAll, Look]),
            ],
        );
        // It crashed, and left something; it ended well, and did.
        check(group, &[(0, ended, &[Look]), (0, left, &[TellMainEnded, all])]);
        check(group, &[(0, ended, &[Look]), (0, none, &[TellOver])]);
        check(
            group,
            &[
                (0, well, &[Look]),
                (0, left, &[TellMainEnded]),
                (200, Tick, &[all]),
                (2_200, Tick, &[KillAll, Look]),
                (2_250, Tick, &[KillAll, Look]),
            ],
        );
        // It ended well, and its successor ends later.
        check(
            group,
            &[
                (0, well, &[Look]),
                (0, left, &[TellMainEnded]),
                (100, MainNamed, &[]),
                (9_000, Tick, &[]),
                (9_000, ended, &[Look]),
            ],
        );
        // The manager kills the main process, never the passing of time; without a manager it does.
        check(
            group,
            &[(0, stop, &[AskAll { signal: 6 }]), (9_000, Tick, &[]), (9_001, Kill, &[KillAll])],
        );
        check(
            group,
            &[
                (0, stop, &[AskAll { signal: 6 }]),
                (1_000, StopAlone, &[]),
                (2_000, Tick, &[KillAll]),
            ],
        );
        check(group, &[(0, StopAlone, &[all]), (2_000, Tick, &[KillAll])]);
    }

    proptest! {
        /// In any order of events: once everybody was asked, nobody of it is killed before its grace
        /// is over unless that was requested; it is over once, after the main process ended and
        /// nothing was left; and whoever is left has a deadline.
        #[test]
        fn nobody_is_killed_early_and_nothing_is_left_alone(
            process_scope in any::<bool>(),
            events in proptest::collection::vec((0_usize..9, 0_u64..1_500), 0..40),
        ) {
            let scope = if process_scope { StopScope::Process } else { StopScope::Group };
            let (mut ending, mut now) = (ending(scope), Instant::now());
            let (mut first_asked, mut kill_requested) = (None, false);
            let (mut main_ended, mut over) = (false, 0);
            for (which, passed_ms) in events {
                now += Duration::from_millis(passed_ms);
                let event = match which {
                    0 => Event::Stop { signal: 2 },
                    1 => Event::Kill,
                    2 => Event::StopAlone,
                    3 | 4 if !main_ended => Event::MainEnded { well: which == 3 },
                    5 if over == 0 => Event::MainNamed,
                    6 if main_ended => Event::Looked { left: false },
                    7 if main_ended => Event::Looked { left: true },
                    _ => Event::Tick,
                };
                kill_requested |= event == Event::Kill;
                match event {
                    Event::MainEnded { .. } => main_ended = true,
                    Event::MainNamed => main_ended = false,
                    _ => {}
                }
                let mut effects = Vec::new();
                ending.step(now, event, &mut |effect| effects.push(effect));
                for effect in &effects {
                    match effect {
                        Effect::AskMain { .. } | Effect::AskAll { .. } => {
                            first_asked.get_or_insert(now);
                        }
                        Effect::KillAll => {
                            let grace_over = first_asked.is_some_and(|at| now - at >= GRACE);
                            prop_assert!(kill_requested || grace_over, "{event:?}");
                        }
                        Effect::TellOver => {
                            over += 1;
                            let nothing_left = Event::Looked { left: false };
                            prop_assert!(main_ended && event == nothing_left);
                        }
                        Effect::Look | Effect::TellMainEnded => {}
                    }
                }
                prop_assert!(over <= 1);
                if over == 1 {
                    prop_assert_eq!(ending.next_deadline(), None);
                } else if event == (Event::Looked { left: true }) {
                    prop_assert!(ending.next_deadline().is_some());
                }
            }
        }
    }
}
