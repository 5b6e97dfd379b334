//! A manager in memory, for a daemon's unit tests: no process, no socket, no clock.
//!
//! ```
//! use duende_sdk::testing::Manager;
//! use duende_sdk::{Context, Daemon, Next, Wake, WakeReasons};
//!
//! struct Counter;
//!
//! impl Daemon for Counter {
//!     fn init(_: &mut Context<'_>) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, String> {
//!         let count = context.receive("lines", 10)?.len() as u64;
//!         context.metric().counter_add("lines_total", count)?;
//!         Ok(Next::Wait)
//!     }
//! }
//!
//! let mut manager = Manager::new().with_channel("lines");
//! manager.send("lines", b"one");
//!
//! // Killed before its slice committed: the line is not lost.
//! let incarnation = manager.start::<Counter>().unwrap();
//! manager.kill_in_slice(incarnation, WakeReasons::MESSAGE);
//! assert_eq!(manager.counter("lines_total"), 0);
//!
//! let mut incarnation = manager.start::<Counter>().unwrap();
//! manager.slice(&mut incarnation, WakeReasons::MESSAGE).unwrap();
//! assert_eq!(manager.counter("lines_total"), 1);
//! ```

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};

use duende_core::wire::link::{Address, CHANNEL_MESSAGES_MAX, Event, Grants};

use crate::context::Context;
use crate::daemon::Daemon;
use crate::ledger::{Ledger, Outside};
use crate::types::{Instant, Level, Next, Wake, WakeReasons};

/// What `state` may hold, in bytes.
const STATE_BYTES_MAX: u64 = 1 << 20;

/// What outlives the incarnations of one daemon. Everything is granted.
#[derive(Debug)]
pub struct Manager {
    config: BTreeMap<String, String>,
    state: BTreeMap<String, Vec<u8>>,
    channels: Vec<(String, VecDeque<Vec<u8>>)>,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    /// Since both clocks' zero.
    now: Duration,
    log: Sender<(Level, String)>,
    lines: Receiver<(Level, String)>,
    incarnations: u32,
}

/// One incarnation of the daemon `T`.
pub struct Incarnation<T> {
    /// The daemon itself, for its `health_check` and `metrics`.
    pub daemon: T,
    ledger: Ledger<TestOutside>,
    /// For each channel, the messages that were delivered and those that were consumed.
    progress: Vec<(u64, u64)>,
}

impl Default for Manager {
    fn default() -> Self {
        Self::new()
    }
}

impl Manager {
    /// A manager without configuration, state or channels, whose clocks show zero.
    #[must_use]
    pub fn new() -> Self {
        let (log, lines) = channel();
        Self {
            config: BTreeMap::new(),
            state: BTreeMap::new(),
            channels: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            now: Duration::ZERO,
            log,
            lines,
            incarnations: 0,
        }
    }

    /// Sets an entry of `[daemon.config]`.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Configures a channel.
    #[must_use]
    pub fn with_channel(mut self, name: &str) -> Self {
        self.channels.push((name.to_owned(), VecDeque::new()));
        self
    }

    /// Puts a message into a channel; without effect if there is no such channel.
    pub fn send(&mut self, channel: &str, payload: &[u8]) {
        if let Some((_, queue)) = self.channels.iter_mut().find(|(name, _)| name == channel) {
            queue.push_back(payload.to_owned());
        }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&mut self, length: Duration) {
        self.now = self.now.saturating_add(length);
    }

    /// Makes the next incarnation. What `init` wrote is committed if it returned normally.
    ///
    /// # Errors
    /// The error of `init`.
    pub fn start<T: Daemon>(&mut self) -> Result<Incarnation<T>, String> {
        self.incarnations = self.incarnations.saturating_add(1);
        let at = Address {
            daemon: 0,
            incarnation: self.incarnations,
        };
        let grants = Grants::LOG.union(Grants::STATE).union(Grants::METRIC);
        let outside = TestOutside {
            now: self.now,
            log: self.log.clone(),
        };
        let mut ledger = Ledger::new(outside, at, grants, STATE_BYTES_MAX);
        for (key, value) in &self.config {
            if !ledger.configure(key, value) {
                return Err("too many entries in the configuration".to_owned());
            }
        }
        for (key, value) in &self.state {
            ledger.load_state(key, value);
        }
        for (name, _) in &self.channels {
            if !ledger.open_channel(name, true) {
                return Err("too many channels".to_owned());
            }
        }
        let daemon = T::init(&mut Context::new(&mut ledger))?;
        let mut incarnation = Incarnation {
            daemon,
            ledger,
            progress: vec![(0, 0); self.channels.len()],
        };
        self.commit(&mut incarnation);
        Ok(incarnation)
    }

    /// Runs one slice and commits it.
    ///
    /// # Errors
    /// The error of `run`. The incarnation is over then, and nothing was committed: drop it.
    pub fn slice<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
        reasons: WakeReasons,
    ) -> Result<Next, String> {
        let next = self.run(incarnation, reasons)?;
        self.commit(incarnation);
        Ok(next)
    }

    /// Runs slices until the daemon waits for something that is not there, and returns its last word.
    ///
    /// # Errors
    /// As [`slice`](Self::slice).
    pub fn run_until_idle<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
        reasons: WakeReasons,
    ) -> Result<Next, String> {
        let mut reasons = reasons;
        loop {
            let next = self.run(incarnation, reasons)?;
            let left = incarnation.ledger.left_messages();
            self.commit(incarnation);
            reasons = if left {
                WakeReasons::MESSAGE
            } else {
                WakeReasons::empty()
            };
            if next == Next::Exit || (next != Next::Again && !left) {
                return Ok(next);
            }
        }
    }

    /// Runs one slice and kills the daemon before it is committed: nothing that it did stays, but
    /// what it logged.
    pub fn kill_in_slice<T: Daemon>(
        &mut self,
        mut incarnation: Incarnation<T>,
        reasons: WakeReasons,
    ) {
        // Whatever it returned, nobody heard it.
        let _ = self.run(&mut incarnation, reasons);
    }

    /// Asks the daemon to stop within `grace`, and commits that slice.
    ///
    /// # Errors
    /// The error of `shutdown`; nothing was committed.
    pub fn shutdown<T: Daemon>(
        &mut self,
        mut incarnation: Incarnation<T>,
        grace: Duration,
    ) -> Result<(), String> {
        incarnation.ledger.outside.now = self.now;
        let deadline = incarnation.ledger.outside.monotonic() + grace;
        let context = &mut Context::new(&mut incarnation.ledger);
        incarnation.daemon.shutdown(deadline, context)?;
        self.commit(&mut incarnation);
        Ok(())
    }

    /// The committed value of a key of `state`.
    #[must_use]
    pub fn state(&self, key: &str) -> Option<&[u8]> {
        self.state.get(key).map(Vec::as_slice)
    }

    /// The committed value of a counter, 0 if it was never added to.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The committed value of a gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.gauges.get(name).copied()
    }

    /// How many messages of a channel are not consumed.
    #[must_use]
    pub fn waiting(&self, channel: &str) -> usize {
        let found = self.channels.iter().find(|(name, _)| name == channel);
        found.map_or(0, |(_, queue)| queue.len())
    }

    /// Takes the lines that were logged since the last call.
    pub fn take_lines(&mut self) -> Vec<(Level, String)> {
        self.lines.try_iter().collect()
    }

    fn run<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
        reasons: WakeReasons,
    ) -> Result<Next, String> {
        self.deliver(incarnation);
        incarnation.ledger.outside.now = self.now;
        let wake = Wake {
            reasons,
            now: incarnation.ledger.outside.monotonic(),
        };
        let context = &mut Context::new(&mut incarnation.ledger);
        incarnation.daemon.run(&wake, context)
    }

    /// Fills the inboxes from the queues, within the window.
    fn deliver<T>(&mut self, incarnation: &mut Incarnation<T>) {
        let progress = incarnation.progress.iter_mut();
        for ((channel, (_, queue)), (sent, consumed)) in (0_u8..).zip(&self.channels).zip(progress)
        {
            let in_inbox = usize::try_from(*sent - *consumed).unwrap_or(usize::MAX);
            for payload in queue.iter().take(CHANNEL_MESSAGES_MAX).skip(in_inbox) {
                *sent += 1;
                let accepted = incarnation.ledger.deliver(channel, *sent, payload.clone());
                debug_assert!(accepted, "the window is respected");
            }
        }
    }

    fn commit<T>(&mut self, incarnation: &mut Incarnation<T>) {
        let Incarnation {
            ledger, progress, ..
        } = incarnation;
        ledger.commit(&mut |_, event| match event {
            Event::StateSet { key, value, .. } => {
                self.state.insert(key.to_owned(), value.to_owned());
            }
            Event::StateDelete { key, .. } => {
                self.state.remove(key);
            }
            Event::Consumed {
                channel, sequence, ..
            } => {
                let index = usize::from(channel);
                if let (Some((_, queue)), Some((_, consumed))) =
                    (self.channels.get_mut(index), progress.get_mut(index))
                {
                    let newly = sequence.saturating_sub(*consumed);
                    let newly = usize::try_from(newly).unwrap_or(usize::MAX);
                    queue.drain(..newly.min(queue.len()));
                    *consumed = sequence;
                }
            }
            Event::CounterAdd { name, delta, .. } => {
                let total = self.counters.entry(name.to_owned()).or_default();
                *total = total.saturating_add(delta);
            }
            Event::GaugeSet { name, value, .. } => {
                self.gauges.insert(name.to_owned(), value);
            }
            Event::SliceEnd { .. }
            | Event::Hello { .. }
            | Event::Running { .. }
            | Event::Log { .. }
            | Event::Health { .. }
            | Event::Sample { .. }
            | Event::SamplesEnd { .. }
            | Event::Exited { .. } => {}
        });
    }
}

/// The manager's clock and log, lent to an incarnation.
struct TestOutside {
    now: Duration,
    log: Sender<(Level, String)>,
}

impl Outside for TestOutside {
    fn log(&mut self, level: Level, text: &str) {
        // Nobody to read it: the manager is gone.
        let _ = self.log.send((level, text.to_owned()));
    }

    fn monotonic(&mut self) -> Instant {
        Instant { nanoseconds: 0 } + self.now
    }

    fn wall(&mut self) -> Duration {
        self.now
    }

    /// A test repeats itself, so its entropy does too.
    fn entropy(&mut self, bytes: &mut [u8]) {
        bytes.fill(0x5a);
    }
}
