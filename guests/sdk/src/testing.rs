//! A manager in memory, for a daemon's unit tests: no process, no socket, no clock.
//!
//! Each incarnation is the one process of a WOS kernel, the same that runs it in earnest: it is woken
//! for the same reasons, meets the same limits and loses the same slices.
//!
//! ```
//! use duende_sdk::testing::Manager;
//! use duende_sdk::{Context, Daemon, Failure, Next, Wake};
//!
//! struct Counter;
//!
//! impl Daemon for Counter {
//!     fn init(_: &mut Context<'_>) -> Result<Self, Failure> {
//!         Ok(Self)
//!     }
//!
//!     fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
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
//! manager.kill_in_slice(incarnation);
//! assert_eq!(manager.counter("lines_total"), 0);
//!
//! let mut incarnation = manager.start::<Counter>().unwrap();
//! manager.slice(&mut incarnation).unwrap();
//! assert_eq!(manager.counter("lines_total"), 1);
//! ```

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use duende_core::wire::link::{
    Address, CHANNEL_MESSAGES_MAX, Command, Description, Event, Grants, HealthReport, Limits,
    LogLevel, Part, Payloads, ValueKind, WINDOW_MAX, payload_prefix,
};
use duende_core::{metrics::Counter, sched};
use wos_kernel::{
    Call, Ending, Executor, ImageState, Kernel, Machine, Progress, Return, WakeReasons,
};

use crate::daemon::Daemon;
use crate::executor::{Instance, NativeExecutor, PROCESSES};
use crate::failure::{Failure, Outcome};
use crate::types::{Health, Level, Next, Value};

/// Memory and running time of a test are its own affair; `state` holds what it holds by default.
const LIMITS: Limits = Limits { state_bytes_max: 16 << 20, ..Limits::NONE };

/// Why a question has no answer.
const OVER: &str = "the incarnation is over";

/// What outlives the incarnations of one daemon. Everything is granted.
#[derive(Debug, Default)]
pub struct Manager {
    config: BTreeMap<String, Value>,
    state: BTreeMap<String, Vec<u8>>,
    channels: Vec<Channel>,
    counters: BTreeMap<String, Counter>,
    gauges: BTreeMap<String, f64>,
    rejected: Vec<(String, u64, String)>,
    refusal: Option<String>,
    machine: Arc<TestMachine>,
    incarnations: u32,
}

/// A channel, over all incarnations.
#[derive(Debug, Default)]
struct Channel {
    name: String,
    /// What is not consumed.
    queue: VecDeque<Vec<u8>>,
    /// The number of the last message that was consumed.
    consumed: u64,
    /// That of the last one that this incarnation was sent.
    sent: u64,
    /// How far incarnations came that ended without having consumed all that they were sent.
    past: Vec<u64>,
}

impl Channel {
    /// Another incarnation begins.
    fn begin(&mut self) {
        let sent = core::mem::replace(&mut self.sent, self.consumed);
        if sent > self.consumed {
            self.past.push(sent);
        }
        self.past.retain(|last| *last > self.consumed);
    }

    /// How often the message of this number is delivered.
    fn attempt(&self, sequence: u64) -> u32 {
        let before = self.past.iter().filter(|last| **last >= sequence).count();
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// One incarnation of the daemon `T`.
pub struct Incarnation<T: Daemon> {
    kernel: Kernel<Witness<T>>,
    at: Address,
    /// What it said after its last slice.
    next: Next,
    is_paused: bool,
}

impl Manager {
    /// A manager without configuration, state or channels, whose clocks show zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an entry of `[daemon.config]`.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.configure(key, value);
        self
    }

    /// Configures a channel.
    #[must_use]
    pub fn with_channel(mut self, name: &str) -> Self {
        self.channels.push(Channel { name: name.to_owned(), ..Channel::default() });
        self
    }

    /// Puts a message into a channel; without effect if there is no such channel.
    pub fn send(&mut self, channel: &str, payload: &[u8]) {
        if let Some(found) = self.channels.iter_mut().find(|found| found.name == channel) {
            found.queue.push_back(payload.to_owned());
        }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&mut self, length: Duration) {
        let length_ns = nanoseconds(length);
        self.machine.set_now_ns(self.machine.monotonic_ns().saturating_add(length_ns));
    }

    /// Makes the next incarnation. What `init` wrote is committed if it returned normally.
    ///
    /// # Errors
    /// The error of `init`; a configuration or a number of channels over the limits.
    pub fn start<T: Daemon>(&mut self) -> Result<Incarnation<T>, Failure> {
        self.incarnations = self.incarnations.saturating_add(1);
        let at = Address::of(0, self.incarnations);
        let executor = Witness { inner: NativeExecutor::new(), returned: None };
        let mut kernel = Kernel::new(executor, PROCESSES, self.machine.clone());
        let grants = Grants::LOG.union(Grants::STATE).union(Grants::METRIC);
        let level = sched::Level::default().number();
        let said = Description { at, name: "test", image: "", level, limits: LIMITS, grants };
        for command in said.commands() {
            kernel.command(command, &mut |_| {})?;
        }
        let config: Vec<_> = self.config.iter().map(|(key, value)| (key, written(value))).collect();
        let config = config.iter().map(|(key, (value, kind))| Command::ConfigEntry {
            at,
            key,
            value,
            kind: *kind,
        });
        let state = self.state.iter().map(|(key, value)| Command::StateEntry { at, key, value });
        let channels = self.channels.iter().map(|channel| Command::ChannelOpen {
            at,
            name: &channel.name,
            granted: true,
            window: WINDOW_MAX,
        });
        for command in config.chain(state).chain(channels) {
            kernel.command(command, &mut |_| {})?;
        }
        self.channels.iter_mut().for_each(Channel::begin);
        let mut incarnation = Incarnation { kernel, at, next: Next::Again, is_paused: false };
        self.tell(&mut incarnation, Command::Start { at })?;
        match self.call(&mut incarnation) {
            Some(Return::Init(Ok(()))) => Ok(incarnation),
            Some(Return::Init(Err(ending))) => Err(failure(ending)),
            _ => Err(Failure::new(OVER)),
        }
    }

    /// Runs the next slice and commits it. If none is due, the clocks go on to the instant that the
    /// daemon asked for.
    ///
    /// # Errors
    /// The error of `run`: the incarnation is over then, and nothing was committed. No slice is due
    /// and none will be: send a message.
    pub fn slice<T: Daemon>(&mut self, incarnation: &mut Incarnation<T>) -> Result<Next, Failure> {
        self.wait_for_slice(incarnation)?;
        match self.call(incarnation) {
            Some(Return::Run(result)) => {
                incarnation.next = result.map_err(failure)?.into();
                Ok(incarnation.next.clone())
            }
            _ => Err(Failure::new(OVER)),
        }
    }

    /// Runs slices for as long as one is due, and returns the daemon's last word. Time stands still.
    ///
    /// # Errors
    /// The error of `run`, as with [`slice`](Self::slice).
    pub fn run_until_idle<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
    ) -> Result<Next, Failure> {
        self.deliver(incarnation)?;
        while incarnation.kernel.is_busy() {
            self.slice(incarnation)?;
            self.deliver(incarnation)?;
        }
        Ok(incarnation.next.clone())
    }

    /// Runs the next slice, if there is one, and kills the daemon before it is committed: nothing
    /// that it did stays, but what it logged.
    pub fn kill_in_slice<T: Daemon>(&mut self, mut incarnation: Incarnation<T>) {
        if self.wait_for_slice(&mut incarnation).is_ok() {
            // What the kernel says of it never leaves the process that dies.
            let _ = incarnation.kernel.step(&mut |_| {});
        }
    }

    /// Sets an entry of `[daemon.config]` for the incarnations to come, and for this one once it is
    /// [reloaded](Self::reload).
    pub fn configure(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Tells the daemon that its configuration changed, and runs the slice that sees it.
    ///
    /// # Errors
    /// The error of `run`, as with [`slice`](Self::slice). The daemon is paused: a paused daemon is
    /// not reloaded.
    pub fn reload<T: Daemon>(&mut self, incarnation: &mut Incarnation<T>) -> Result<Next, Failure> {
        if incarnation.is_paused {
            return Err(Failure::new("the daemon is paused: resume it first"));
        }
        let at = incarnation.at;
        for (key, value) in self.config.clone() {
            let (value, kind) = written(&value);
            let entry = Command::ConfigEntry { at, key: &key, value: &value, kind };
            self.tell(incarnation, entry)?;
        }
        self.tell(incarnation, Command::Reload { at })?;
        self.slice(incarnation)
    }

    /// Holds the daemon still: it runs no slice, and its clock stands, until it is
    /// [resumed](Self::resume).
    pub fn pause<T: Daemon>(&mut self, incarnation: &mut Incarnation<T>) {
        incarnation.is_paused = true;
        // A pause breaks no protocol, whatever the daemon does.
        let _ = self.tell(incarnation, Command::Pause { at: incarnation.at });
    }

    /// Lets a paused daemon go on, and runs the slice that is told so.
    ///
    /// # Errors
    /// The error of `run`, as with [`slice`](Self::slice). The daemon is not paused.
    pub fn resume<T: Daemon>(&mut self, incarnation: &mut Incarnation<T>) -> Result<Next, Failure> {
        if !core::mem::take(&mut incarnation.is_paused) {
            return Err(Failure::new("the daemon is not paused"));
        }
        self.tell(incarnation, Command::Resume { at: incarnation.at })?;
        self.slice(incarnation)
    }

    /// Asks the daemon to stop within `grace`, and commits the slices that it takes for that. How it
    /// ended.
    ///
    /// # Errors
    /// The error of `shutdown` or `run`: that slice was not committed. The grace was over: it was killed.
    pub fn shutdown<T: Daemon>(
        &mut self,
        mut incarnation: Incarnation<T>,
        grace: Duration,
    ) -> Result<Outcome, Failure> {
        let deadline_ns = self.machine.monotonic_ns().saturating_add(nanoseconds(grace));
        let shutdown = Command::Shutdown { at: incarnation.at, grace_ns: nanoseconds(grace) };
        self.tell(&mut incarnation, shutdown)?;
        loop {
            let next = match self.call(&mut incarnation) {
                Some(Return::Shutdown(result) | Return::Run(result)) => result.map_err(failure)?,
                _ => return Err(Failure::new(OVER)),
            };
            if let Next::Exit(outcome) = next.into() {
                return Ok(outcome);
            }
            let is_due = self.wait_for_slice(&mut incarnation).is_ok();
            if !is_due || self.machine.monotonic_ns() >= deadline_ns {
                return Err(Failure::new("it did not end within its grace, and was killed"));
            }
        }
    }

    /// Asks for the daemon's health, as it is told: with its checks behind the detail.
    ///
    /// # Errors
    /// The incarnation is over.
    pub fn health<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
    ) -> Result<Health, Failure> {
        let check = Command::HealthCheck { at: incarnation.at, token: 0 };
        self.tell(incarnation, check)?;
        let mut health = None;
        let stepped = incarnation.kernel.step(&mut |event| {
            if let Event::Health { report, .. } = event {
                health = match report {
                    HealthReport::Healthy => Some(Health::healthy()),
                    HealthReport::Degraded(text) => Some(Health::degraded(text)),
                    HealthReport::Unhealthy(text) => Some(Health::unhealthy(text)),
                    HealthReport::Busy { .. } | HealthReport::Paused => None,
                };
            }
        });
        stepped.map_err(Failure::new)?;
        health.ok_or_else(|| Failure::new(OVER))
    }

    /// Asks for the daemon's own figures, as they are told: labels behind the name, a histogram as its
    /// buckets. Those that the contract does not allow are missing, as they are in earnest.
    ///
    /// # Errors
    /// The incarnation is over.
    pub fn samples<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
    ) -> Result<Vec<(String, f64)>, Failure> {
        self.tell(incarnation, Command::Metrics { at: incarnation.at, token: 0 })?;
        let mut samples = Vec::new();
        let mut is_answered = false;
        let stepped = incarnation.kernel.step(&mut |event| match event {
            Event::Sample { name, value, .. } => samples.push((name.to_owned(), value)),
            Event::SamplesEnd { .. } => is_answered = true,
            _ => {}
        });
        stepped.map_err(Failure::new)?;
        is_answered.then_some(samples).ok_or_else(|| Failure::new(OVER))
    }

    /// Takes the messages that were given up since the last call: channel, number, reason.
    pub fn take_rejected(&mut self) -> Vec<(String, u64, String)> {
        core::mem::take(&mut self.rejected)
    }

    /// Takes the reason for which the last configuration was refused, if it was.
    pub fn take_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    /// The committed value of a key of `state`.
    #[must_use]
    pub fn state(&self, key: &str) -> Option<&[u8]> {
        self.state.get(key).map(Vec::as_slice)
    }

    /// The committed value of a counter, 0 if it was never added to.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default().get()
    }

    /// The committed value of a gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.gauges.get(name).copied()
    }

    /// How many messages of a channel are not consumed.
    #[must_use]
    pub fn waiting(&self, channel: &str) -> usize {
        let found = self.channels.iter().find(|found| found.name == channel);
        found.map_or(0, |channel| channel.queue.len())
    }

    /// Takes the lines that were logged since the last call.
    pub fn take_lines(&mut self) -> Vec<(Level, String)> {
        core::mem::take(&mut *self.machine.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
        command: Command<'_>,
    ) -> Result<(), Failure> {
        incarnation.kernel.command(command, &mut |event| self.book(&event))?;
        Ok(())
    }

    /// Lets the kernel make one call, keeps what it commits, and returns what the daemon returned.
    fn call<T: Daemon>(&mut self, incarnation: &mut Incarnation<T>) -> Option<Return> {
        incarnation.kernel.step(&mut |event| self.book(&event)).ok()?;
        incarnation.kernel.executor().returned.take()
    }

    /// Makes a slice due, if need be by letting time pass.
    fn wait_for_slice<T: Daemon>(
        &mut self,
        incarnation: &mut Incarnation<T>,
    ) -> Result<(), Failure> {
        self.deliver(incarnation)?;
        if !incarnation.kernel.is_busy() {
            let Some(deadline_ns) = incarnation.kernel.next_deadline_ns() else {
                return Err(Failure::new(
                    "no slice is due: the daemon is over or paused, or waits for a message",
                ));
            };
            self.machine.set_now_ns(deadline_ns);
        }
        Ok(())
    }

    /// Fills the inboxes from the queues, within the window.
    fn deliver<T: Daemon>(&mut self, incarnation: &mut Incarnation<T>) -> Result<(), Failure> {
        let Incarnation { kernel, at, .. } = incarnation;
        for (number, channel) in (0..).zip(&mut self.channels) {
            let in_inbox = usize::try_from(channel.sent - channel.consumed).unwrap_or(usize::MAX);
            for index in in_inbox..channel.queue.len().min(CHANNEL_MESSAGES_MAX) {
                channel.sent += 1;
                let (sequence, attempt) = (channel.sent, channel.attempt(channel.sent));
                let Some(payload) = channel.queue.get(index) else { break };
                let joined = [&payload_prefix(Part::Whole, payload.len())[..], payload].concat();
                let payloads = Payloads::new(&joined);
                let message =
                    Command::Messages { at: *at, channel: number, sequence, attempt, payloads };
                kernel.command(message, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// Keeps what an event commits. The kernel hands a slice out whole.
    fn book(&mut self, event: &Event<'_>) {
        match *event {
            Event::StateSet { key, value, .. } => {
                self.state.insert(key.to_owned(), value.to_owned());
            }
            Event::StateDelete { key, .. } => {
                self.state.remove(key);
            }
            Event::Consumed { channel, sequence, .. } => {
                if let Some(channel) = self.channels.get_mut(usize::from(channel)) {
                    let newly = sequence.saturating_sub(channel.consumed);
                    let newly = usize::try_from(newly).unwrap_or(usize::MAX);
                    channel.queue.drain(..newly.min(channel.queue.len()));
                    channel.consumed = sequence;
                }
            }
            Event::Rejected { channel, sequence, reason, .. } => {
                let channel = self.channels.get(usize::from(channel));
                let name = channel.map(|channel| channel.name.clone()).unwrap_or_default();
                self.rejected.push((name, sequence, reason.to_owned()));
            }
            Event::ReloadRefused { reason, .. } => self.refusal = Some(reason.to_owned()),
            Event::CounterAdd { name, delta, .. } => {
                self.counters.entry(name.to_owned()).or_default().add(delta);
            }
            Event::GaugeSet { name, value, .. } => {
                self.gauges.insert(name.to_owned(), value);
            }
            Event::SliceEnd { .. }
            | Event::Running { .. }
            | Event::Log { .. }
            | Event::Health { .. }
            | Event::Sample { .. }
            | Event::SamplesEnd { .. }
            | Event::Pressure { .. }
            | Event::Reloaded { .. }
            | Event::Exited { .. } => {}
        }
    }
}

fn failure(ending: Ending) -> Failure {
    Failure::with_code(ending.code, ending.text)
}

/// A value as the manager writes it.
fn written(value: &Value) -> (String, ValueKind) {
    match value {
        Value::Text(text) => (text.clone(), ValueKind::Text),
        Value::Integer(value) => (value.to_string(), ValueKind::Integer),
        Value::Number(value) => (value.to_string(), ValueKind::Number),
        Value::Boolean(value) => (value.to_string(), ValueKind::Boolean),
    }
}

fn nanoseconds(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

/// A clock that stands until it is set, and the lines that were logged.
#[derive(Debug, Default)]
struct TestMachine {
    now_ns: AtomicU64,
    lines: Mutex<Vec<(Level, String)>>,
}

impl TestMachine {
    /// Sets the clock on. It does not go back.
    fn set_now_ns(&self, now_ns: u64) {
        self.now_ns.fetch_max(now_ns, Ordering::Relaxed);
    }
}

impl Machine for TestMachine {
    fn monotonic_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn wall_ns(&self) -> i64 {
        i64::try_from(self.monotonic_ns()).unwrap_or(i64::MAX)
    }

    /// A test repeats itself, so its entropy does too.
    fn entropy(&self, bytes: &mut [u8]) {
        bytes.fill(0x5a);
    }

    fn attention(&self) -> bool {
        false
    }

    fn take_log(&self, _: Address, level: LogLevel, text: &str) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((level.into(), text.to_owned()));
        true
    }
}

/// Runs a daemon and remembers what it returned last: the kernel keeps that to itself.
struct Witness<T> {
    inner: NativeExecutor<T>,
    returned: Option<Return>,
}

impl<T: Daemon> Executor for Witness<T> {
    type Image = ();
    type Instance = Instance<T>;

    fn image(&mut self, name: &str) -> ImageState<()> {
        self.inner.image(name)
    }

    fn create(&mut self, image: (), context: Box<wos_kernel::Context>) -> Instance<T> {
        self.inner.create(image, context)
    }

    fn context<'a>(&self, instance: &'a mut Instance<T>) -> Option<&'a mut wos_kernel::Context> {
        self.inner.context(instance)
    }

    fn reasons(&self, instance: &Instance<T>) -> WakeReasons {
        self.inner.reasons(instance)
    }

    fn enter(&mut self, instance: &mut Instance<T>, call: Call) {
        self.inner.enter(instance, call);
    }

    fn resume(&mut self, instance: &mut Instance<T>) -> Progress {
        let progress = self.inner.resume(instance);
        if let Progress::Returned(returned) = &progress {
            self.returned = Some(returned.clone());
        }
        progress
    }
}
