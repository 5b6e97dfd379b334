//! One daemon, as the machine keeps it: what it is, its running incarnation, and what is known of it.
//!
//! Invariants ([`Daemon::check`]): an incarnation is of the slot that it is in; one that waits for the
//! rest of its link has ended; one that is being prepared has no process, and neither has one whose main
//! process has ended.

use std::{collections::BTreeMap, time::Duration};

use duende_core::{
    health::ComponentId,
    restart::{Exit, Unavailable},
    supervise::{DaemonId, Spec},
    time::Instant,
    wire::link::Address,
};

use super::rate::RateMeter;
use crate::{
    backend::{Abilities, Place},
    control::protocol::{HealthState, Rate, RateUnit},
};

/// Longest text that is kept of what a daemon says of itself, in bytes.
pub(super) const SAID_BYTES_MAX: usize = 1_024;

/// Whose datagrams count, as systemd's `NotifyAccess`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyAccess {
    /// Nobody's.
    None,
    /// Its main process's.
    #[default]
    Main,
    /// Those of all its processes.
    All,
}

/// What makes a daemon ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyBy {
    /// That it was started.
    Start,
    /// That it says so, by datagram.
    Datagram,
    /// That it says so, over its link.
    Link,
}

/// What the machine has to know of a daemon.
#[derive(Clone, Debug)]
pub struct DaemonSpec {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub place: Place,
    /// What can be done with it there.
    pub abilities: Abilities,
    /// How it is supervised; what it depends on is filled in from `depends_on`.
    pub supervision: Spec,
    /// The slots of what it depends on, each smaller than its own.
    pub depends_on: Vec<u32>,
    /// The number of its group among those of the fleet.
    pub group: Option<usize>,
    /// What makes it ready.
    pub ready_by: ReadyBy,
    /// Whose datagrams count.
    pub notify_access: NotifyAccess,
    /// Whether it receives messages.
    pub has_channels: bool,
}

/// How far an incarnation is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its image is being made, its state and its sources opened; there is nothing to be ended.
    Preparing,
    /// Its backend was told to start it.
    Placed,
}

/// How a process ended whose link is still being read.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) exit: Exit,
    pub(super) reason: String,
    /// When the link is closed all the same.
    pub(super) until: Instant,
}

/// One start of a daemon.
#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) at: Address,
    pub(super) phase: Phase,
    pub(super) pid: Option<u32>,
    pub(super) began: Instant,
    /// How far its image is, while that is being made.
    pub(super) compiles: Option<String>,
    /// It said over its link that it is ready, and that it was started was not heard yet.
    pub(super) ready_early: bool,
    /// Whether its own link is open.
    pub(super) link_open: bool,
    /// What it said of its own end.
    pub(super) said: Option<String>,
    pub(super) ending: Option<Ending>,
    /// How its main process ended, while what that left is being ended.
    pub(super) main_ended: Option<String>,
    /// It was told to reload in a way that has no answer: when that counts as done, unless it says that
    /// it reloads.
    pub(super) reloaded_at: Option<Instant>,
    /// When a kill that the machine itself asked for is asked for again.
    pub(super) kill_again_at: Option<Instant>,
    /// What lies outside of it and ends it, whatever its end looks like.
    pub(super) obstacle: Option<Unavailable>,
    /// It said that what it is to be kept of was not: once is enough.
    pub(super) fdstore_refused: bool,
    /// It was said in its log that something of its notifications counts for nothing: once is enough.
    pub(super) ignored_told: bool,
}

impl Incarnation {
    pub(super) const fn new(at: Address, now: Instant, phase: Phase, own_link: bool) -> Self {
        Self {
            at,
            phase,
            pid: None,
            began: now,
            compiles: None,
            ready_early: false,
            link_open: own_link,
            said: None,
            ending: None,
            main_ended: None,
            reloaded_at: None,
            kill_again_at: None,
            obstacle: None,
            fdstore_refused: false,
            ignored_told: false,
        }
    }
}

/// One daemon of the fleet.
#[derive(Debug)]
pub struct Daemon {
    pub(super) id: DaemonId,
    pub(super) spec: DaemonSpec,
    /// Its place in the health of the whole.
    pub(super) component: ComponentId,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) gauges: BTreeMap<String, f64>,
    pub(super) health: HealthState,
    pub(super) health_detail: String,
    /// Whether its last incarnation was ready once.
    pub(super) was_ready: bool,
    /// A process that said that it is ready, and whose word does not count.
    pub(super) unheeded: Option<u32>,
    /// `STATUS=` of this incarnation.
    pub(super) status: String,
    pub(super) memory_bytes: Option<u64>,
    /// What a component's incarnation has used.
    pub(super) usage: Option<Usage>,
    /// Why it is being ended, or was, in the words of the rule that decided.
    pub(super) why: Option<String>,
    pub(super) last_exit: Option<String>,
    /// Why its last reload was not done.
    pub(super) reload_failed: Option<String>,
    /// Deaths of its place with a slice of it open, since its last stable run.
    pub(super) deaths: u8,
    /// Whether that is why it does not run.
    pub(super) held: bool,
    /// Processes that belong to it.
    pub(super) processes: u32,
    /// Lines of its output that were lost since the manager began.
    pub(super) lost_lines: u64,
    rate: RateMeter,
}

/// Slices a second that change nothing and ask for the next one at once: from here on it is a busy loop.
const EMPTY_SLICES_MAX: u64 = 500;

/// What a component has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    at: Instant,
    processor: Duration,
    empty_slices: u64,
    is_empty_loop: bool,
}

impl Daemon {
    pub(super) fn new(id: DaemonId, spec: DaemonSpec, component: ComponentId) -> Self {
        Self {
            id,
            spec,
            component,
            incarnation: None,
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            health: HealthState::Unknown,
            health_detail: String::new(),
            was_ready: false,
            unheeded: None,
            status: String::new(),
            memory_bytes: None,
            usage: None,
            why: None,
            last_exit: None,
            reload_failed: None,
            deaths: 0,
            held: false,
            processes: 0,
            lost_lines: 0,
            rate: RateMeter::default(),
        }
    }

    /// How far its image is, while that is being made.
    #[must_use]
    pub fn compiles(&self) -> Option<&str> {
        self.incarnation.as_ref()?.compiles.as_deref()
    }

    /// What it is.
    #[must_use]
    pub const fn spec(&self) -> &DaemonSpec {
        &self.spec
    }

    /// Its identifier in the supervisor.
    #[must_use]
    pub const fn id(&self) -> DaemonId {
        self.id
    }

    /// Its incarnation, if one is there: address, process, and since when.
    #[must_use]
    pub fn running(&self) -> Option<(Address, Option<u32>, Instant)> {
        let incarnation = self.incarnation.as_ref()?;
        Some((incarnation.at, incarnation.pid, incarnation.began))
    }

    /// How its main process ended, while what that left is being ended: it does its work no longer.
    #[must_use]
    pub fn main_ended(&self) -> Option<&str> {
        self.incarnation.as_ref()?.main_ended.as_deref()
    }

    /// Whether its incarnation is in its place; else it is being prepared, or there is none.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.incarnation.as_ref().is_some_and(|incarnation| incarnation.phase == Phase::Placed)
    }

    /// What its health check found last, and its words.
    #[must_use]
    pub fn health(&self) -> (HealthState, &str) {
        (self.health, &self.health_detail)
    }

    /// Its `STATUS=`.
    #[must_use]
    pub fn status(&self) -> &str {
        &self.status
    }

    /// Its linear memory, in bytes, if it has one.
    #[must_use]
    pub const fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// The processor time that it has used, if it is a component.
    #[must_use]
    pub fn processor(&self) -> Option<Duration> {
        self.usage.map(|usage| usage.processor)
    }

    /// Takes what it has used so far.
    pub(super) fn used(&mut self, now: Instant, processor: Duration, empty_slices: u64) {
        let before = self.usage.unwrap_or_default();
        let empty = empty_slices.saturating_sub(before.empty_slices);
        let elapsed = now.saturating_since(before.at).max(Duration::from_secs(1));
        let is_empty_loop =
            self.usage.is_some() && empty / elapsed.as_secs().max(1) >= EMPTY_SLICES_MAX;
        self.usage = Some(Usage { at: now, processor, empty_slices, is_empty_loop });
    }

    /// Whether it takes slice after slice and does nothing in them.
    pub(super) fn is_empty_loop(&self) -> bool {
        self.usage.is_some_and(|usage| usage.is_empty_loop)
    }

    /// How its last incarnation ended.
    #[must_use]
    pub fn last_exit(&self) -> Option<&str> {
        self.last_exit.as_deref()
    }

    /// Its processes, the main one included.
    #[must_use]
    pub const fn processes(&self) -> u32 {
        self.processes
    }

    /// Lines of its output that were lost.
    #[must_use]
    pub const fn lost_lines(&self) -> u64 {
        self.lost_lines
    }

    /// Its counters and gauges.
    #[must_use]
    pub const fn figures(&self) -> (&BTreeMap<String, u64>, &BTreeMap<String, f64>) {
        (&self.counters, &self.gauges)
    }

    /// The totals and levels that it goes on from.
    pub fn go_on_from(
        &mut self,
        counters: impl IntoIterator<Item = (String, u64)>,
        gauges: impl IntoIterator<Item = (String, f64)>,
    ) {
        self.counters = counters.into_iter().collect();
        self.gauges = gauges.into_iter().collect();
    }

    /// The running incarnation, if it is this one.
    pub(super) fn current(&mut self, at: Address) -> Option<&mut Incarnation> {
        self.incarnation.as_mut().filter(|incarnation| incarnation.at == at)
    }

    /// Slices were committed.
    pub(super) fn committed(
        &mut self,
        now: Instant,
        slices: u64,
        messages: u64,
        counters: Vec<(String, u64)>,
        gauges: Vec<(String, f64)>,
    ) {
        self.rate.add(now, if self.spec.has_channels { messages } else { slices });
        for (name, delta) in counters {
            let total = self.counters.entry(name).or_default();
            *total = total.saturating_add(delta);
        }
        self.gauges.extend(gauges);
    }

    /// How much the daemon does; none for one that has no channel and never committed a slice: what
    /// it does cannot be seen.
    #[must_use]
    pub fn rate(&self, now: Instant) -> Option<Rate> {
        let per_second = self.rate.per_second(now);
        if self.spec.has_channels {
            return Some(Rate { per_second: per_second.unwrap_or(0.0), unit: RateUnit::Messages });
        }
        per_second.map(|per_second| Rate { per_second, unit: RateUnit::Slices })
    }

    /// Everything that the daemon has published, counters and gauges.
    #[expect(clippy::cast_precision_loss, reason = "shown as a float; exact below 2^53")]
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let counters = self.counters.iter().map(|(name, total)| (name.clone(), *total as f64));
        counters.chain(self.gauges.iter().map(|(name, level)| (name.clone(), *level))).collect()
    }

    /// What holds between any two events; the first thing that does not, in words.
    pub(super) fn check(&self, slot: u32) -> Result<(), String> {
        let Some(incarnation) = &self.incarnation else { return Ok(()) };
        let name = &self.spec.name;
        if incarnation.at.daemon != slot {
            return Err(format!("{name}: its incarnation is of slot {}", incarnation.at.daemon));
        }
        if incarnation.phase == Phase::Preparing && incarnation.pid.is_some() {
            return Err(format!("{name}: it is being prepared and has a process"));
        }
        if incarnation.main_ended.is_some() && incarnation.pid.is_some() {
            return Err(format!("{name}: its main process has ended and has a number"));
        }
        if incarnation.ending.is_some() && !incarnation.link_open {
            return Err(format!("{name}: it has ended and waits for a link that is closed"));
        }
        Ok(())
    }
}

/// Cuts a text that came from outside, at a character.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > SAID_BYTES_MAX {
        let mut end = SAID_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A length of time for people: `2 s`, `1.5 s`, `250 ms`.
pub(super) fn in_words(length: Duration) -> String {
    let ms = length.as_millis();
    if ms >= 1_000 && ms.is_multiple_of(1_000) {
        format!("{} s", ms / 1_000)
    } else if ms >= 1_000 {
        format!("{:.1} s", length.as_secs_f64())
    } else {
        format!("{ms} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_people_say_them() {
        for (ms, words) in [
            (0, "0 ms"),
            (1, "1 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_500, "1.5 s"),
            (60_000, "60 s"),
            (60_040, "60.0 s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(ms)), words);
        }
    }

    /// At a character, wherever the limit falls.
    #[test]
    fn what_is_said_is_cut_at_a_character() {
        for before in 0..4 {
            let short = "x".repeat(before) + &"€".repeat((SAID_BYTES_MAX - before) / "€".len());
            assert_eq!(bounded(short.clone()), short);
            let cut = bounded(short.clone() + "€€");
            assert_eq!(cut, short + "…");
        }
    }
}
