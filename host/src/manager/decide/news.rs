//! What is heard of incarnations and of places.
//!
//! Rules:
//! 1. News count for the incarnation that they name, if it is the one that runs; others are of the
//!    past, and say nothing.
//! 2. An incarnation is let go in [`Decider::ended`], and nowhere else.
//! 3. What a daemon sent over its own link before it ended counts: its end waits until the link is
//!    closed, at most [`LINK_TIME`]. A child that keeps the link open delays nothing longer.
//! 4. A daemon whose link broke the protocol is killed: without a link it is of no use, and its
//!    supervisor decides what follows.
//! 5. A program counts as ready only once it was heard which process it is: its own link may be faster than
//!    the word of its backend, and what belongs to a start (its pid file) is done when that comes
//!    (`tests::ready_counts_however_early_it_comes`).
//! 6. A place that is lost takes what ran in it, and charges nobody: each is `Lost`.
//! 7. What an image takes to be made is not the start of a daemon: the time of that begins, once more, with
//!    each word of it, and when it is there (`tests::start_time_begins_when_the_image_is_there`).
//! 8. A daemon whose slice was open when its place died, not by a signal from outside, twice without a stable run between, is held until an
//!    operator starts it: alone, so that what it does to its place is done to the others no more
//!    (`tests::who_ends_its_place_twice_is_held_alone`).

use std::time::Duration;

use duende_core::{
    restart::{Exit, Unavailable},
    supervise::Input,
    wire::link::{Address, LogLevel},
};

use super::{
    Decider, Effect, ReadyBy,
    daemon::{Ending, Phase, bounded},
    planted::{self, Plant},
    repeat::{To, Words},
};
use crate::{
    backend::{Ask, Heard, News, Obstacle, Place, PlaceNews, Report, SourceWord},
    control::protocol::{EventKind, HealthState},
};

/// How long a program that was told to reload may take to say `RELOADING=1`, and with it that
/// `READY=1` will follow. One that says nothing was told, which is all that there is to know: systemd
/// tells the two apart by `Type=notify-reload`.
pub(super) const RELOADING_TIME: Duration = Duration::from_secs(1);
/// The death of a place with which the daemon is held whose slice was open each time.
const DEATHS_MAX: u8 = 2;
/// How long it may be silent about an image that is being made, of which something is said each second.
const COMPILES_TIME: Duration = Duration::from_secs(3);
/// How long the end of a process waits for the rest of its link.
pub(super) const LINK_TIME: Duration = Duration::from_secs(1);

impl Decider {
    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Of(at, news) => self.hear_of(at, news),
            Heard::Place(place, news) => self.hear_of_place(place, news),
        }
    }

    fn hear_of(&mut self, at: Address, news: News) {
        let now = self.now;
        let Some(daemon) = self.daemon_mut(at) else { return };
        let (name, has_process) = (daemon.spec.name.clone(), daemon.spec.abilities.has_process);
        // Of a program that can say itself when it has reloaded, that it was told is not all.
        let says_reloaded =
            daemon.spec.ready_by == ReadyBy::Datagram && !daemon.spec.abilities.speaks;
        let Some(incarnation) = daemon.current(at) else { return };
        match news {
            News::Compiles { words } => {
                if incarnation.phase == Phase::Preparing {
                    incarnation.compiles = Some(words);
                    self.start_time_begins(at, COMPILES_TIME);
                }
            }
            News::Prepared(Ok(())) => {
                if incarnation.phase == Phase::Preparing {
                    if incarnation.compiles.take().is_some() {
                        self.start_time_begins(at, Duration::ZERO);
                    }
                    self.place(at);
                }
            }
            News::Prepared(Err(Obstacle { exit, text })) => {
                if incarnation.phase == Phase::Preparing {
                    self.ended(at, exit, text);
                }
            }
            News::Started { pid } => {
                incarnation.pid = pid;
                let early = std::mem::take(&mut incarnation.ready_early);
                let is_ready = early || daemon.spec.ready_by == ReadyBy::Start;
                daemon.processes = u32::from(pid.is_some());
                self.effect(Effect::Watch(at, pid));
                self.tell(at, |id, incarnation| Input::Spawned { id, incarnation });
                if is_ready {
                    self.tell(at, |id, incarnation| Input::Ready { id, incarnation });
                }
                if let Some(pid) = pid {
                    self.claim(at, pid);
                }
            }
            News::StartFailed { error, reason } => {
                incarnation.link_open = false;
                let exit = match error.exit() {
                    Exit::Unavailable(Unavailable::Descriptors)
                        if planted::is(Plant::NoRoomIsFinal) =>
                    {
                        Exit::Refused
                    }
                    exit => exit,
                };
                self.ended(at, exit, reason);
            }
            News::Ready { pid } => {
                // The process of a program is known by its backend; what its kernel calls it is not that.
                if pid.is_some() && !has_process {
                    incarnation.pid = pid;
                }
                let known = incarnation.pid.is_some() || incarnation.ending.is_some();
                if has_process && !known {
                    incarnation.ready_early = true;
                    return;
                }
                self.tell(at, |id, incarnation| Input::Ready { id, incarnation });
            }
            News::MainProcess { pid } => {
                incarnation.main_ended = None;
                incarnation.pid = Some(pid);
                self.effect(Effect::Watch(at, Some(pid)));
                self.claim(at, pid);
            }
            News::Reloaded => {
                if says_reloaded {
                    incarnation.reloaded_at = Some(now.saturating_add(RELOADING_TIME));
                } else {
                    self.tell(at, |id, incarnation| Input::Reloaded { id, incarnation });
                }
            }
            News::ReloadRefused { reason } => {
                daemon.reload_failed = Some(bounded(reason));
                self.tell(at, |id, incarnation| Input::ReloadRefused { id, incarnation });
            }
            News::Rejected { message, reason } => {
                let text = bounded(format!("it gives up {message}: {reason}"));
                self.effect(Effect::Log {
                    at,
                    level: LogLevel::Warn,
                    own: false,
                    text: text.clone(),
                });
                self.record(at, EventKind::Rejected, &text);
            }
            News::MainEnded { how } => self.take_main_end(at, how),
            News::Said { reason } => incarnation.said = Some(bounded(reason)),
            News::Exited { exit, reason } => self.process_ended(at, exit, reason),
            News::Health { token, report, memory_bytes } => {
                self.take_health(at, token, report, memory_bytes);
            }
            News::Figure { token, figure } => self.take_figure(at, token, figure.as_ref()),
            News::Used { processor, empty_slices } => daemon.used(now, processor, empty_slices),
            News::Committed { slices, messages, counters, gauges, memory_bytes } => {
                if memory_bytes > 0 {
                    daemon.memory_bytes = Some(memory_bytes);
                }
                daemon.committed(now, slices, messages, counters, gauges);
            }
            News::Log { level, text } => {
                self.effect(Effect::Log { at, level, own: true, text });
            }
            News::Source { word, text } => {
                let level = match word {
                    SourceWord::Gap => return self.record(at, EventKind::SourceGap, &text),
                    SourceWord::Trouble => LogLevel::Warn,
                    SourceWord::Note => LogLevel::Info,
                };
                self.tell_of(at, To::Fleet, level, Words::Sentence(text));
            }
            News::SourceDrained { failure } => {
                match &failure {
                    Some(text) => self.record(at, EventKind::SourceGap, text),
                    None => self.say(LogLevel::Info, format!("{name}: standard input has ended")),
                }
                self.work_has_ended(failure.map(|_| name));
            }
            News::LinkClosed { reason } => self.link_closed(at, reason),
            News::Overfull => self.overfull(at),
            News::Processes { count } => {
                daemon.processes = count;
                self.counted(at);
            }
            News::OutputLost { lines } => {
                daemon.lost_lines = daemon.lost_lines.saturating_add(lines);
                self.tell_of(at, To::Fleet, LogLevel::Warn, Words::LostLines(lines));
            }
        }
    }

    /// Rule 7.
    fn start_time_begins(&mut self, at: Address, at_least: Duration) {
        let Some(daemon) = self.daemon(at.daemon) else { return };
        let by = daemon.spec.supervision.start_timeout.max(at_least);
        self.tell(at, |id, incarnation| Input::Extend { id, incarnation, by });
    }

    pub(super) fn take_store(&mut self, fault: Option<String>) {
        let text = fault.clone().unwrap_or_else(|| "state can be written again".to_owned());
        let (level, kind) = match &fault {
            Some(_) => (LogLevel::Error, EventKind::StateFault),
            None => (LogLevel::Info, EventKind::StateRestored),
        };
        // One that lasts is said ever more rarely, and recorded when it begins and ends.
        if fault.is_some() != self.store_fault.is_some() {
            self.record_of_fleet(kind, text.clone());
        }
        self.say(level, text);
        self.store_fault = fault;
    }

    pub(super) fn take_astray(&mut self, astray: Option<String>) {
        let (level, kind, text) = match &astray {
            Some(how) => {
                let text = format!(
                    "{how}, and what daemons keep goes on into the file that was there: put it back, or `duende \
                     state export` each daemon before the fleet ends"
                );
                (LogLevel::Error, EventKind::StateFault, text)
            }
            None => {
                let text = "the state file is in its place again".to_owned();
                (LogLevel::Info, EventKind::StateRestored, text)
            }
        };
        self.record_of_fleet(kind, text.clone());
        self.say(level, text);
        self.store_astray = astray;
    }

    fn hear_of_place(&mut self, place: Place, news: PlaceNews) {
        match news {
            PlaceNews::Lives => self.place_mut(place).asked_at = None,
            PlaceNews::Lost { how, open } => self.place_is_lost(place, &how, open),
            PlaceNews::Refused { how } => {
                self.say(LogLevel::Error, format!("{} can't be started: {how}", place.process()));
                self.place_is_lost(place, &how, None);
            }
        }
    }

    fn place_is_lost(&mut self, place: Place, how: &str, open: Option<Address>) {
        let state = self.place_mut(place);
        state.asked_at = None;
        state.ask_at = None;
        state.end_again_at = None;
        let kind = match place {
            Place::Native => EventKind::KeepExited,
            Place::Wos => EventKind::WorkerExited,
        };
        self.record_of_fleet(kind, how.to_owned());
        let lost: Vec<Address> = self
            .daemons
            .iter()
            .filter(|daemon| daemon.spec.place == place && daemon.is_placed())
            .filter_map(|daemon| Some(daemon.running()?.0))
            .collect();
        for at in lost {
            let ending = self.daemon_mut(at).and_then(|daemon| daemon.current(at)?.ending.take());
            match ending {
                // It had ended before: that is what counts.
                Some(Ending { exit, reason, .. }) => self.ended(at, exit, reason),
                None if open == Some(at) && self.is_second_death(at) => self.hold(at, place, how),
                None => {
                    let reason = format!("{} ended: {how}", place.process());
                    let charged = planted::is(Plant::ChargedForPlace);
                    self.ended(at, if charged { Exit::Error } else { Exit::Lost }, reason);
                }
            }
        }
    }

    /// Whether this daemon's slice was open when a place died before, too. A run that was stable in between
    /// forgets that.
    fn is_second_death(&mut self, at: Address) -> bool {
        let now = self.now;
        let Some(daemon) = self.daemon_mut(at) else { return false };
        let stable_after = daemon.spec.supervision.stable_after;
        let ran_for = daemon.current(at).map(|incarnation| now.saturating_since(incarnation.began));
        let was_stable = ran_for.is_some_and(|ran_for| ran_for >= stable_after);
        let before = if was_stable { 0 } else { daemon.deaths };
        daemon.deaths = before.saturating_add(1);
        daemon.deaths >= DEATHS_MAX
    }

    /// Rule 8.
    fn hold(&mut self, at: Address, place: Place, how: &str) {
        let process = place.process();
        let reason = format!(
            "{process} ended while a slice of it was open, for the second time: {how}; it is held back, so that the \
             others go on"
        );
        if let Some(daemon) = self.daemon_mut(at) {
            daemon.held = true;
        }
        self.ended(at, Exit::Refused, reason);
    }

    /// Its main process is gone, and with it its number; what that left may live on for its grace.
    fn take_main_end(&mut self, at: Address, how: String) {
        let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
            return;
        };
        let text = format!("{how}; ending the processes that it left");
        incarnation.main_ended = Some(how);
        if let Some(pid) = incarnation.pid.take() {
            self.forget_pid(pid);
        }
        self.effect(Effect::Watch(at, None));
        self.effect(Effect::Log { at, level: LogLevel::Info, own: false, text });
    }

    /// It is over. If it has a link of its own, what it sent last is read first: a slice that it
    /// committed counts, whatever ended it.
    fn process_ended(&mut self, at: Address, exit: Exit, reason: String) {
        // Its number is free from now on.
        let pid = self.daemon_mut(at).and_then(|daemon| daemon.current(at)?.pid.take());
        if let Some(pid) = pid {
            self.forget_pid(pid);
            self.effect(Effect::Watch(at, None));
        }
        let until = self.now.saturating_add(LINK_TIME);
        let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
            return;
        };
        if incarnation.link_open {
            incarnation.ending.get_or_insert(Ending { exit, reason, until });
        } else {
            self.ended(at, exit, reason);
        }
    }

    fn link_closed(&mut self, at: Address, reason: Option<String>) {
        let now = self.now;
        let Some(daemon) = self.daemon_mut(at) else { return };
        let again = now.saturating_add(daemon.spec.supervision.kill_timeout);
        let name = daemon.spec.name.clone();
        let Some(incarnation) = daemon.current(at) else { return };
        if !std::mem::replace(&mut incarnation.link_open, false) {
            return;
        }
        if let Some(Ending { exit, reason, .. }) = incarnation.ending.take() {
            self.ended(at, exit, reason);
        } else if let Some(reason) = reason {
            incarnation.kill_again_at = Some(again);
            let why = format!("its link was closed: {}", bounded(reason));
            self.say(LogLevel::Error, format!("{name}: {why}"));
            self.effect(Effect::Log { at, level: LogLevel::Error, own: false, text: why.clone() });
            if let Some(daemon) = self.daemon_mut(at) {
                daemon.why = Some(why);
            }
            self.ask_backend(at, Ask::Kill);
        }
    }

    /// Too much of what it closed waits for the store. It is ended, and comes back when the store has
    /// room: what it closed is kept, and nobody is charged for a disk.
    fn overfull(&mut self, at: Address) {
        let again = self.now;
        let Some(daemon) = self.daemon_mut(at) else { return };
        let again = again.saturating_add(daemon.spec.supervision.kill_timeout);
        daemon.why = Some("too much of its state waits for the disk".to_owned());
        let Some(incarnation) = daemon.current(at) else { return };
        incarnation.obstacle = Some(Unavailable::Store);
        incarnation.kill_again_at = Some(again);
        self.ask_backend(at, Ask::Kill);
    }

    fn take_health(&mut self, at: Address, token: u64, report: Report, memory_bytes: u64) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let (health, detail) = match report {
            Report::Healthy => (HealthState::Healthy, String::new()),
            Report::Degraded(text) => (HealthState::Degraded, bounded(text)),
            Report::Unhealthy(text) => (HealthState::Unhealthy, bounded(text)),
            // Within its budget a slice is work; over it the kernel ends the daemon.
            Report::Busy(slice_ns) => {
                (HealthState::Healthy, format!("busy for {} ms", slice_ns / 1_000_000))
            }
            Report::Paused => (HealthState::Healthy, "paused".to_owned()),
        };
        let before = std::mem::replace(&mut daemon.health, health);
        daemon.health_detail.clone_from(&detail);
        if memory_bytes > 0 {
            daemon.memory_bytes = Some(memory_bytes);
        }
        let healthy = health != HealthState::Unhealthy;
        if healthy != (before != HealthState::Unhealthy) {
            let kind = if healthy { EventKind::Healthy } else { EventKind::Unhealthy };
            self.record(at, kind, &detail);
        }
        self.tell(at, |id, incarnation| Input::Probed { id, incarnation, token, healthy });
    }

    /// Tells the supervisor something of this incarnation.
    pub(super) fn tell(
        &mut self,
        at: Address,
        input: impl FnOnce(duende_core::supervise::DaemonId, u32) -> Input,
    ) {
        if let Some(daemon) = self.daemon_mut(at) {
            let input = input(daemon.id, at.incarnation);
            self.inputs.push_back(input);
        }
    }

    /// An incarnation is over, in whatever way: this is the one place where it is let go.
    pub(super) fn ended(&mut self, at: Address, exit: Exit, how: String) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let Some(incarnation) = daemon.current(at) else { return };
        let (pid, said) = (incarnation.pid, incarnation.said.take());
        let exit = incarnation.obstacle.map_or(exit, Exit::Unavailable);
        let reason = super::reason::end(daemon.why.take(), said, how);
        daemon.incarnation = None;
        daemon.memory_bytes = None;
        daemon.usage = None;
        daemon.processes = 0;
        daemon.last_exit = Some(reason.clone());
        let failed = exit.failure().is_some() && !matches!(exit, Exit::Unavailable(_));
        let level = if failed { LogLevel::Error } else { LogLevel::Info };
        let text = format!("incarnation {} ended: {reason}", at.incarnation);
        if let Some(pid) = pid {
            self.forget_pid(pid);
        }
        self.effect(Effect::LetGo(at));
        self.effect(Effect::Watch(at, None));
        self.effect(Effect::Log { at, level, own: false, text });
        self.record(at, EventKind::Exited, &reason);
        self.tell(at, |id, incarnation| Input::Exited { id, incarnation, exit });
    }
}
