//! What programs say of themselves by datagram (`sd_notify`).
//!
//! Rules:
//! 1. A datagram counts for the daemon whose main process sent it; with
//!    [`NotifyAccess::All`], for the daemon of which its sender is a process; with
//!    [`NotifyAccess::None`], for nobody.
//! 2. Datagrams and the news of a start come over different descriptors, in any order. What a process
//!    says before its backend has said who it is waits, at most [`UNCLAIMED_TIME`] and
//!    [`UNCLAIMED_MAX`] at a time, the oldest given up first.
//! 3. What is left of a process that has ended counts for nobody: its number may be another's soon. The
//!    owner hands over what had arrived before the end that it hands over, so what comes later from the
//!    same number is another's. (A number that the system gives again before the end was heard can't be
//!    told apart; Linux gives all others first.)
//! 4. `READY=1` of a daemon that reloads ends the reload; one that was told to and does not say
//!    `RELOADING=1` in time is not waited for. `STATUS=` is for people, and is of one
//!    incarnation.

use std::{collections::VecDeque, time::Duration};

use duende_core::{
    lifecycle::State,
    supervise::Input,
    time::Instant,
    wire::link::{Address, LogLevel},
};

use super::{
    Daemon, Decider, Notice, NotifyAccess, ReadyBy,
    daemon::{Phase, bounded},
    planted::{self, Plant},
    repeat::{To, Words},
};
use crate::backend::Ask;

/// Most datagrams of unknown processes that wait: a few for each of many daemons that start at once.
pub const UNCLAIMED_MAX: usize = 4_096;
/// How long they wait: longer than a backend takes from a start to its word.
pub const UNCLAIMED_TIME: Duration = Duration::from_secs(5);
/// What a process said that is not known yet.
#[derive(Clone, Debug)]
struct Unheard {
    since: Instant,
    pid: u32,
    /// The start of which it is a part, if that is known and may speak.
    of: Option<Address>,
    notice: Notice,
}

/// What unknown processes said.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    waiting: VecDeque<Unheard>,
    given_up: u64,
}

impl Unclaimed {
    fn keep(&mut self, now: Instant, pid: u32, of: Option<Address>, notice: Notice) {
        self.expire(now);
        if planted::is(Plant::LostReady) {
            return;
        }
        if self.waiting.len() == UNCLAIMED_MAX {
            self.waiting.pop_front();
            self.given_up = self.given_up.saturating_add(1);
        }
        self.waiting.push_back(Unheard { since: now, pid, of, notice });
    }

    fn claim(&mut self, now: Instant, pid: u32, at: Address) -> Vec<Notice> {
        self.expire(now);
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let (its, others): (VecDeque<_>, VecDeque<_>) = self
            .waiting
            .drain(..)
            .partition(|unheard| unheard.pid == pid || unheard.of == Some(at));
        self.waiting = others;
        its.into_iter().map(|unheard| unheard.notice).collect()
    }

    fn forget(&mut self, pid: u32) {
        self.waiting.retain(|unheard| unheard.pid != pid);
    }

    fn expire(&mut self, now: Instant) {
        let is_old = |since: &Instant| now.saturating_since(*since) > UNCLAIMED_TIME;
        while self.waiting.front().is_some_and(|unheard| is_old(&unheard.since)) {
            self.waiting.pop_front();
        }
    }

    /// One more than there may be.
    #[cfg(test)]
    pub(super) fn overfill(&mut self) {
        let unheard = Unheard { since: Instant::ZERO, pid: 1, of: None, notice: Notice::default() };
        self.waiting = std::iter::repeat_n(unheard, UNCLAIMED_MAX + 1).collect();
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.waiting.len() > UNCLAIMED_MAX {
            return Err(format!("{} datagrams wait", self.waiting.len()));
        }
        Ok(())
    }
}

impl Decider {
    /// Whether it matters of which daemon a process is a part: it is nobody's main process, and somebody
    /// lets all of its processes speak, or is not ready yet and is to be told whose word does not count.
    /// To find out costs the owner a look at the process.
    #[must_use]
    pub fn asks_whose(&self, pid: u32) -> bool {
        let speaks = |daemon: &Daemon| {
            daemon.spec.notify_access == NotifyAccess::All
                || (daemon.spec.ready_by == ReadyBy::Datagram
                    && daemon.incarnation.is_some()
                    && !daemon.was_ready
                    && daemon.unheeded.is_none())
        };
        self.daemons.iter().any(speaks) && self.main_process(pid).is_none()
    }

    /// The incarnation whose main process this is.
    fn main_process(&self, pid: u32) -> Option<Address> {
        self.daemons.iter().find_map(|daemon| {
            let incarnation = daemon.incarnation.as_ref()?;
            let is_main = daemon.spec.abilities.notifies && incarnation.pid == Some(pid);
            is_main.then_some(incarnation.at)
        })
    }

    pub(super) fn notice(&mut self, pid: u32, part_of: Option<Address>, notice: Notice) {
        match (self.main_process(pid), part_of) {
            (Some(at), _) => {
                if self.access(at) != NotifyAccess::None {
                    self.heed(at, notice);
                }
            }
            (None, Some(at)) if self.access(at) == NotifyAccess::All => {
                let there = self.daemon(at.daemon).and_then(Daemon::running);
                if there.is_some_and(|(there, pid, _)| there == at && pid.is_none()) {
                    // Its backend has not said yet that it was started.
                    self.unclaimed.keep(self.now, pid, Some(at), notice);
                } else {
                    self.heed(at, notice);
                }
            }
            (None, Some(at)) => {
                // Whoever wonders why it is not ready is told.
                if let (true, Some(daemon)) = (notice.ready, self.daemon_mut(at)) {
                    daemon.unheeded = Some(pid);
                }
                self.unclaimed.keep(self.now, pid, None, notice);
            }
            // It may be the main process of a start whose word is still on its way.
            (None, None) => self.unclaimed.keep(self.now, pid, None, notice),
        }
    }

    fn access(&self, at: Address) -> NotifyAccess {
        self.daemon(at.daemon).map_or(NotifyAccess::None, |daemon| daemon.spec.notify_access)
    }

    /// A process is known from now on: what it said already counts.
    pub(super) fn claim(&mut self, at: Address, pid: u32) {
        let said = self.unclaimed.claim(self.now, pid, at);
        if self.access(at) == NotifyAccess::None {
            return;
        }
        for notice in said {
            self.heed(at, notice);
        }
    }

    pub(super) fn forget_pid(&mut self, pid: u32) {
        self.unclaimed.forget(pid);
    }

    fn heed(&mut self, at: Address, notice: Notice) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let is_new = daemon.status.is_empty();
        let Some(incarnation) = daemon.current(at) else { return };
        if incarnation.phase != Phase::Placed {
            return;
        }
        if notice.reloading || notice.ready {
            incarnation.reloaded_at = None;
        }
        let refuses = notice.fdstore && !incarnation.fdstore_refused;
        incarnation.fdstore_refused |= notice.fdstore;
        let ignored =
            notice.ignored.filter(|_| !std::mem::replace(&mut incarnation.ignored_told, true));
        let pid = incarnation.pid;
        if let Some(status) = notice.status {
            daemon.status = bounded(status);
        } else if is_new && notice.stopping {
            daemon.status = "it is stopping by itself".to_owned();
        }
        if let Some(text) = ignored {
            self.tell_of(at, To::Daemon, LogLevel::Warn, Words::Sentence(text));
        }
        if refuses {
            let text =
                "FDSTORE=1: descriptors are not kept over a restart; those that came were closed";
            let words = Words::Sentence(text.to_owned());
            self.tell_of(at, To::Fleet, LogLevel::Warn, words);
        }
        if notice.alive {
            self.tell(at, |id, incarnation| Input::Alive { id, incarnation });
        }
        if let Some(by) = notice.extend {
            self.tell(at, |id, incarnation| Input::Extend { id, incarnation, by });
        }
        if let Some(main) = notice.main_pid
            && pid.is_some_and(|pid| pid != main)
        {
            self.ask_backend(at, Ask::MainProcess { pid: main });
        }
        if notice.ready {
            // Inputs that wait are of the same incarnation and change nothing about a reload.
            let reloading = self
                .view(at.daemon)
                .is_some_and(|view| matches!(view.state, State::Reloading { .. }));
            if reloading {
                self.tell(at, |id, incarnation| Input::Reloaded { id, incarnation });
            } else {
                self.tell(at, |id, incarnation| Input::Ready { id, incarnation });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_ns(ms * 1_000_000)
    }

    const AT: Address = Address::of(0, 1);

    fn ready() -> Notice {
        Notice { ready: true, ..Notice::default() }
    }

    #[test]
    fn early_words_wait_for_their_owner_and_for_nobody_else() {
        let mut unclaimed = Unclaimed::default();
        unclaimed.keep(ms(0), 7, None, ready());
        unclaimed.keep(ms(1), 8, None, Notice { alive: true, ..Notice::default() });
        assert_eq!(unclaimed.claim(ms(2), 9, AT), []);
        assert_eq!(unclaimed.claim(ms(2), 7, AT), [ready()]);
        assert_eq!(unclaimed.claim(ms(2), 7, AT), []);
        // At the last moment, too late, and of one that is dead.
        unclaimed.keep(ms(1), 9, None, ready());
        assert_eq!(unclaimed.claim(ms(5_001), 9, AT), [ready()]);
        assert_eq!(unclaimed.claim(ms(5_002), 8, AT), []);
        unclaimed.keep(ms(6_000), 8, None, ready());
        unclaimed.forget(8);
        assert_eq!(unclaimed.claim(ms(6_001), 8, AT), []);
        // The number is given to another.
        unclaimed.keep(ms(6_002), 8, None, ready());
        assert_eq!(unclaimed.claim(ms(6_003), 8, AT), [ready()]);
    }

    #[test]
    fn the_oldest_is_given_up_at_the_limit() {
        let mut unclaimed = Unclaimed::default();
        for pid in 0..=u32::try_from(UNCLAIMED_MAX).unwrap() {
            unclaimed.keep(ms(0), pid, None, ready());
        }
        assert_eq!(unclaimed.check(), Ok(()));
        assert_eq!(unclaimed.given_up, 1);
        assert_eq!(unclaimed.claim(ms(0), 0, AT), []);
        assert_eq!(unclaimed.claim(ms(0), 1, AT), [ready()]);
    }
}
