//! What one daemon can reach: the syscalls behind the imports of the contract, and the open
//! transaction that they fill.
//!
//! The context owns nothing that outlives its incarnation. While a slice is open it belongs to that
//! slice, and the kernel keeps what arrives meanwhile; at the boundary the kernel takes the
//! transaction out with [`Context::commit`]. A slice that is discarded takes the context with it.
//!
//! `health-check` and `metrics` are no slices: what would become part of a transaction is refused there,
//! so nothing of theirs leaves with the next slice
//! (`tests::a_question_reads_and_logs_and_changes_nothing`).

mod config;
mod fields;
#[cfg(test)]
mod tests;

use self::config::Tables;
pub use self::config::{Config, ConfigValue};

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec, vec::Vec};
#[cfg(test)]
use duende_core::epitaph::Epitaph;
use duende_core::{
    caps::{Handle, Rights},
    metrics::Counter,
    policy::quota::{ChargeError, Pressure},
    wire::{
        MetricNameError, check_metric_name,
        link::{
            Address, CHANNEL_MESSAGES_MAX, CHANNELS_MAX, Event, Grants, KEY_BYTES_MAX, Limits,
            LogLevel, METRICS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX, ValueKind,
        },
    },
};

use crate::{
    authority::{Authority, Interface},
    inbox::{Inbox, Message},
    limits::{ENTROPY_BYTES_MAX, KEYS_MAX, RECEIVE_BYTES_MAX, SLICE_WRITES_MAX},
    log_ring::{LogLine, LogRing},
    machine::Machine,
    meter::{Meter, Tick, Turn},
    process::Pid,
    quota::{Account, DaemonAccounts},
    state::State,
};

/// Why a syscall was refused. It had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallError {
    /// The configuration does not grant the capability.
    Denied,
    /// Nothing of that name or number.
    NotFound,
    /// An argument can't be what it is, and why.
    Invalid(&'static str),
    /// Longer than this limit, in bytes or in elements.
    TooLarge(u64),
    /// The quota of this name would be passed.
    QuotaExceeded(&'static str),
    /// It would be part of a transaction, and no slice is open: this is a question.
    NotInSlice,
}

impl SyscallError {
    /// What is said of [`NotInSlice`](Self::NotInSlice): a word, a colon, and a text for people.
    pub const NOT_IN_SLICE: &'static str = "not-in-slice: health-check and metrics are no slices, and \
         change nothing: do it in run";
}

/// What the kernel says of a call before it makes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opening {
    /// How far the daemon's clock is behind the kernel's, in nanoseconds.
    pub(crate) behind_ns: u64,
    /// When it is opened, on the daemon's clock, in nanoseconds.
    pub(crate) now_ns: u64,
    /// Whether it is a question, and so no slice.
    pub(crate) is_question: bool,
    /// Whether it is `init`: that has all of the daemon's start, whose time its manager knows.
    pub(crate) is_init: bool,
    /// When the daemon is killed, on its clock, if it was asked to stop.
    pub(crate) stop_deadline_ns: Option<u64>,
}

struct Channel {
    name: String,
    granted: bool,
    /// The capability to receive from it, from the start on if it is granted.
    capability: Option<Handle>,
    inbox: Inbox,
}

/// What a kernel and the contexts of its processes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) log: Arc<LogRing>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) turn: Arc<Turn>,
}

/// Everything that one incarnation can reach.
pub struct Context {
    at: Address,
    name: String,
    grants: Grants,
    limits: Limits,
    authority: Authority,
    /// Random bits, once somebody has asked for them: most daemons never do.
    instance: Option<(u64, u64)>,
    config: Tables,
    state: State,
    channels: Vec<Channel>,
    counters: BTreeMap<String, Counter>,
    gauges: BTreeMap<String, f64>,
    /// Every metric name that this incarnation used, so that their number is bounded.
    metric_names: BTreeMap<String, ()>,
    /// Messages that the open slice gives up, with the reason.
    rejected: Vec<(u8, u64, String)>,
    shared: Shared,
    opening: Opening,
    /// Slices that were opened.
    slices: u64,
    meter: Meter,
    memory_bytes: usize,
    /// Why it was refused more memory, if it was.
    memory_refused: Option<ChargeError>,
    // Fields are dropped in their order, and a daemon's group goes after those below it.
    memory: Account,
    _daemon: Account,
}

impl Context {
    pub(crate) fn new(at: Address, name: &str, accounts: DaemonAccounts, shared: Shared) -> Self {
        let DaemonAccounts { memory, state, daemon } = accounts;
        Self {
            at,
            name: name.into(),
            grants: Grants::default(),
            limits: Limits::NONE,
            authority: Authority::none(),
            instance: None,
            config: Tables::default(),
            state: State::new(state),
            channels: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            metric_names: BTreeMap::new(),
            rejected: Vec::new(),
            shared,
            opening: Opening::default(),
            slices: 0,
            meter: Meter::new(Limits::NONE.slice_budget_ns),
            memory_bytes: 0,
            memory_refused: None,
            memory,
            _daemon: daemon,
        }
    }

    // What the manager says before the start.

    pub(crate) fn configure(&mut self, key: &str, value: &str, kind: ValueKind) -> bool {
        self.config.current.insert(key, value, kind)
    }

    /// False if there is no limit of that name.
    pub(crate) fn set_limit(&mut self, name: &str, value: u64) -> bool {
        self.limits.set(name, value)
    }

    /// False if there is no such capability.
    pub(crate) fn grant(&mut self, capability: &str) -> bool {
        let grant = Grants::of_word(capability);
        self.grants = self.grants.union(grant.unwrap_or_default());
        grant.is_some()
    }

    /// False if this WOS has no memory left for it.
    pub(crate) fn load_state(&mut self, key: &str, value: &[u8]) -> bool {
        self.state.load(key, value)
    }

    /// Everything was said: from here on the limits count, and what is granted may be done.
    pub(crate) fn begin(&mut self, pid: Pid) {
        self.meter = Meter::new(self.limits.slice_budget_ns);
        self.memory.limit(self.limits.memory_bytes_max);
        self.state.limit(self.limits.state_bytes_max);
        let granted = self.channels.iter().filter(|channel| channel.granted).count();
        let mut authority = Authority::new(pid, self.grants, granted);
        for (index, channel) in self.channels.iter_mut().enumerate() {
            channel.capability =
                if channel.granted { authority.grant_channel(index) } else { None };
        }
        self.authority = authority;
    }

    /// Opens a channel with a window of so many messages. False if there are too many channels, or it is
    /// larger than any may be.
    pub(crate) fn open_channel(&mut self, name: &str, granted: bool, window: usize) -> bool {
        self.channels.push(Channel {
            name: name.into(),
            granted,
            capability: None,
            inbox: Inbox::new(window),
        });
        self.channels.len() <= CHANNELS_MAX && window <= CHANNEL_MESSAGES_MAX
    }

    /// Puts messages into a channel's inbox. False if the manager broke its promise: no such channel, or
    /// more unconsumed messages than its window.
    pub(crate) fn deliver(
        &mut self,
        channel: u8,
        messages: impl IntoIterator<Item = Message>,
    ) -> bool {
        let channel = self.channels.get_mut(usize::from(channel));
        let mut messages = messages.into_iter();
        channel.is_some_and(|channel| messages.all(|message| channel.inbox.deliver(message)))
    }

    // The syscalls.

    /// `log.enabled`: whether lines are kept at all.
    pub fn log_enabled(&mut self) -> bool {
        self.authority.check(Interface::Log, Rights::WRITE).is_ok()
    }

    /// `log.event`
    ///
    /// # Errors
    /// Denied without the grant; a field's name that is none; too many fields, or a line over
    /// [`TEXT_BYTES_MAX`] bytes with them.
    pub fn log_event(
        &mut self,
        level: LogLevel,
        text: &str,
        fields: &[(&str, ConfigValue<'_>)],
    ) -> Result<(), SyscallError> {
        self.authority.check(Interface::Log, Rights::WRITE)?;
        self.log_write(level, fields::line(text, fields)?)
    }

    /// `log.write`
    ///
    /// # Errors
    /// Denied without the grant; too large over [`TEXT_BYTES_MAX`] bytes.
    pub fn log_write(&mut self, level: LogLevel, text: String) -> Result<(), SyscallError> {
        self.authority.check(Interface::Log, Rights::WRITE)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(SyscallError::TooLarge(TEXT_BYTES_MAX as u64));
        }
        self.say(level, text);
        Ok(())
    }

    /// A line that a standard library prints. It needs no grant: it is what is left of a panic.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn printed(&mut self, is_error: bool, text: String) {
        let level = if is_error { LogLevel::Error } else { LogLevel::Info };
        self.say(level, text);
    }

    fn say(&mut self, level: LogLevel, text: String) {
        if !self.shared.machine.take_log(self.at, level, &text) {
            self.shared.log.push(LogLine { at: self.at, level, text });
        }
    }

    /// `clock.monotonic`, in nanoseconds. It stands while the daemon is paused.
    #[must_use]
    pub fn clock_monotonic(&self) -> u64 {
        self.shared.machine.monotonic_ns().saturating_sub(self.opening.behind_ns)
    }

    /// `clock.wall`, in nanoseconds since 1970-01-01T00:00:00Z; negative before.
    #[must_use]
    pub fn clock_wall(&self) -> i64 {
        self.shared.machine.wall_ns()
    }

    /// The same as seconds, and the nanoseconds forward from them.
    #[must_use]
    pub fn clock_datetime(&self) -> (i64, u32) {
        let wall_ns = self.clock_wall();
        let nanoseconds = u32::try_from(wall_ns.rem_euclid(1_000_000_000)).unwrap_or(0);
        (wall_ns.div_euclid(1_000_000_000), nanoseconds)
    }

    /// `entropy.bytes`
    ///
    /// # Errors
    /// Too large over [`ENTROPY_BYTES_MAX`] bytes.
    pub fn entropy(&self, length: u32) -> Result<Vec<u8>, SyscallError> {
        if length > ENTROPY_BYTES_MAX {
            return Err(SyscallError::TooLarge(ENTROPY_BYTES_MAX.into()));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.shared.machine.entropy(&mut bytes);
        Ok(bytes)
    }

    /// `entropy.number`
    #[must_use]
    pub fn entropy_number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.shared.machine.entropy(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// `config.get`, `config.text` and `config.keys`.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config.current
    }

    /// `config.refuse`
    pub fn config_refuse(&mut self, reason: String) {
        self.config.refuse(reason);
    }

    /// `slice.number`
    #[must_use]
    pub const fn slice_number(&self) -> u64 {
        if self.opening.is_question { 0 } else { self.slices }
    }

    /// `slice.deadline`, in nanoseconds on the daemon's clock.
    #[must_use]
    pub const fn slice_deadline_ns(&self) -> u64 {
        self.opening.now_ns.saturating_add(self.limits.slice_budget_ns)
    }

    /// `slice.stop-deadline`, in nanoseconds on the daemon's clock.
    #[must_use]
    pub const fn stop_deadline_ns(&self) -> Option<u64> {
        self.opening.stop_deadline_ns
    }

    /// `slice.ready`
    #[must_use]
    pub fn ready_channels(&self) -> Vec<String> {
        let ready = self
            .channels
            .iter()
            .filter(|channel| channel.capability.is_some() && !channel.inbox.is_empty());
        let mut names: Vec<String> = ready.map(|channel| channel.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// `context.name`
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `context.instance`
    pub fn instance(&mut self) -> (u64, u64) {
        if let Some(instance) = self.instance {
            return instance;
        }
        let instance = (self.entropy_number(), self.entropy_number());
        *self.instance.insert(instance)
    }

    /// `context.granted`
    #[must_use]
    pub fn is_granted(&self, capability: &str) -> bool {
        match capability {
            "log" => self.grants.contains(Grants::LOG),
            "state" => self.grants.contains(Grants::STATE),
            "metric" => self.grants.contains(Grants::METRIC),
            other => other.strip_prefix("channel:").is_some_and(|name| {
                self.channels.iter().any(|channel| channel.granted && channel.name == name)
            }),
        }
    }

    /// `context.limit`; a limit that is no limit has none.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<u64> {
        let limit = match name {
            "memory" => self.limits.memory_bytes_max,
            "state" => self.limits.state_bytes_max,
            "slice" => self.limits.slice_budget_ns,
            "state-key" => KEY_BYTES_MAX as u64,
            "state-value" | "message" => VALUE_BYTES_MAX as u64,
            "receive" => RECEIVE_BYTES_MAX as u64,
            "log-line" => TEXT_BYTES_MAX as u64,
            "entropy" => ENTROPY_BYTES_MAX.into(),
            "name" => NAME_BYTES_MAX as u64,
            "channels" => CHANNELS_MAX as u64,
            "metrics" => METRICS_MAX as u64,
            "slice-writes" => SLICE_WRITES_MAX as u64,
            "keys" => KEYS_MAX.into(),
            _ => return None,
        };
        (limit < u64::MAX).then_some(limit)
    }

    /// `context.used`
    #[must_use]
    pub fn used(&self, name: &str) -> Option<u64> {
        match name {
            // Of a process the kernel in it knows nothing.
            "memory" => self.limit("memory").map(|_| self.memory_bytes()),
            "state" => Some(self.state.used_bytes()),
            "channels" => Some(self.channels.len() as u64),
            "metrics" => Some(self.metric_names.len() as u64),
            _ => None,
        }
    }

    /// `context.pressure`
    #[must_use]
    pub fn pressure(&self, name: &str) -> Pressure {
        match name {
            "memory" => self.memory.pressure(),
            "state" => self.state.pressure(),
            _ => Pressure::Calm,
        }
    }

    /// `state.get`
    ///
    /// # Errors
    /// Denied without the grant.
    pub fn state_get(&mut self, key: &str) -> Result<Option<&[u8]>, SyscallError> {
        self.authority.check(Interface::State, Rights::READ)?;
        Ok(self.state.get(key))
    }

    /// `state.set`
    ///
    /// # Errors
    /// Denied without the grant; an unusable key; a value that is too large; the quota.
    pub fn state_set(&mut self, key: &str, value: Vec<u8>) -> Result<(), SyscallError> {
        self.authority.check(Interface::State, Rights::WRITE)?;
        self.check_slice()?;
        self.state.set(key, value)
    }

    /// `state.delete`
    ///
    /// # Errors
    /// Denied without the grant; an unusable key.
    pub fn state_delete(&mut self, key: &str) -> Result<(), SyscallError> {
        self.authority.check(Interface::State, Rights::WRITE)?;
        self.check_slice()?;
        self.state.delete(key)
    }

    /// `state.delete-all`
    ///
    /// # Errors
    /// Denied without the grant; more keys than one slice may write.
    pub fn state_delete_all(&mut self, prefix: &str) -> Result<u64, SyscallError> {
        self.authority.check(Interface::State, Rights::WRITE)?;
        self.check_slice()?;
        self.state.delete_all(prefix)
    }

    /// `state.entries`
    ///
    /// # Errors
    /// Denied without the grant.
    pub fn state_entries(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, SyscallError> {
        self.authority.check(Interface::State, Rights::READ)?;
        Ok(self.state.entries(prefix, after, limit))
    }

    /// `state.keys`
    ///
    /// # Errors
    /// Denied without the grant.
    pub fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, SyscallError> {
        self.authority.check(Interface::State, Rights::READ)?;
        Ok(self.state.keys(prefix, after, limit))
    }

    /// `channel.receive`
    ///
    /// # Errors
    /// No channel of that name; denied without its grant.
    pub fn channel_receive(&mut self, name: &str, max: u32) -> Result<Vec<Message>, SyscallError> {
        let index = self.granted_channel(name)?;
        self.check_slice()?;
        let channel = self.channels.get_mut(index).ok_or(SyscallError::NotFound)?;
        Ok(channel.inbox.receive(usize::try_from(max).unwrap_or(usize::MAX)))
    }

    /// `channel.reject`
    ///
    /// # Errors
    /// No channel of that name, or no message of that number that this slice received; denied without
    /// the grant; a reason over [`TEXT_BYTES_MAX`] bytes.
    pub fn channel_reject(
        &mut self,
        name: &str,
        sequence: u64,
        reason: String,
    ) -> Result<(), SyscallError> {
        let index = self.granted_channel(name)?;
        self.check_slice()?;
        if reason.len() > TEXT_BYTES_MAX {
            return Err(SyscallError::TooLarge(TEXT_BYTES_MAX as u64));
        }
        let channel = self.channels.get(index).ok_or(SyscallError::NotFound)?;
        let number = u8::try_from(index).map_err(|_| SyscallError::NotFound)?;
        let already = |(channel, of, _): &(u8, u64, String)| (*channel, *of) == (number, sequence);
        if !channel.inbox.has_received(sequence) || self.rejected.iter().any(already) {
            return Err(SyscallError::NotFound);
        }
        self.rejected.push((number, sequence, reason));
        Ok(())
    }

    fn granted_channel(&mut self, name: &str) -> Result<usize, SyscallError> {
        let index = self.channels.iter().position(|channel| channel.name == name);
        let index = index.ok_or(SyscallError::NotFound)?;
        let capability = self.channels.get(index).and_then(|channel| channel.capability);
        self.authority.check_channel(capability)?;
        Ok(index)
    }

    /// What would be part of a transaction wants one.
    const fn check_slice(&self) -> Result<(), SyscallError> {
        if self.opening.is_question { Err(SyscallError::NotInSlice) } else { Ok(()) }
    }

    /// `metric.counter-add`
    ///
    /// # Errors
    /// Denied without the grant; an unusable name; too many metrics.
    pub fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), SyscallError> {
        self.check_metric(name)?;
        self.counters.entry(name.into()).or_default().add(delta);
        Ok(())
    }

    /// `metric.gauge-set`
    ///
    /// # Errors
    /// Denied without the grant; an unusable name; too many metrics.
    pub fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), SyscallError> {
        self.check_metric(name)?;
        self.gauges.insert(name.into(), value);
        Ok(())
    }

    // What the kernel does at a slice boundary.

    /// Hands out the open transaction as events, closed by [`Event::SliceEnd`], and opens the next
    /// one. `slice` counts those that had anything in them.
    pub(crate) fn commit(&mut self, slice: &mut u64, emit: &mut dyn FnMut(Event<'_>)) {
        let at = self.at;
        let mut any = self.state.drain_written(|key, value| {
            emit(match value {
                Some(value) => Event::StateSet { at, key, value },
                None => Event::StateDelete { at, key },
            });
        });
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if let Some(sequence) = channel.inbox.commit()
                && let Ok(channel) = u8::try_from(index)
            {
                emit(Event::Consumed { at, channel, sequence });
                any = true;
            }
        }
        for (channel, sequence, reason) in self.rejected.drain(..) {
            emit(Event::Rejected { at, channel, sequence, reason: &reason });
            any = true;
        }
        while let Some((name, delta)) = self.counters.pop_first() {
            emit(Event::CounterAdd { at, name: &name, delta: delta.get() });
            any = true;
        }
        while let Some((name, value)) = self.gauges.pop_first() {
            emit(Event::GaugeSet { at, name: &name, value });
            any = true;
        }
        if any {
            *slice = slice.saturating_add(1);
            emit(Event::SliceEnd { at, slice: *slice, memory_bytes: self.memory_bytes() });
        }
    }

    /// Whether the rules of what it holds are kept.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.channels.iter().try_for_each(|channel| channel.inbox.check_invariants())
    }

    /// Whether the open slice received from a channel that still holds messages: the daemon drained
    /// a part, so `wait` has something to return for.
    pub(crate) fn left_messages(&self) -> bool {
        self.channels.iter().any(|channel| channel.inbox.is_partly_drained())
    }

    /// Puts another configuration in force.
    pub(crate) fn set_config(&mut self, config: Config) {
        self.config.replace(config);
    }

    /// A slice that was told of the configuration has committed: the reason, if it refused it.
    pub(crate) fn settle_config(&mut self) -> Option<String> {
        self.config.settle()
    }

    /// Opens a slice, or asks a question.
    pub(crate) fn begin_slice(&mut self, opening: Opening) {
        self.opening = opening;
        if !opening.is_question {
            self.slices = self.slices.saturating_add(1);
        }
        self.meter.begin_slice(opening.is_init);
    }

    /// What is to be done at a tick of the preemption clock.
    #[cfg_attr(
        not(any(test, feature = "wasmtime")),
        expect(dead_code, reason = "called by the engine")
    )]
    pub(crate) fn tick(&mut self) -> Tick {
        self.meter.tick(
            &self.shared.turn,
            self.shared.machine.monotonic_ns(),
            self.shared.machine.attention(),
        )
    }

    /// Asks for linear memory. Whether the daemon may grow from `current` to `desired` bytes.
    #[cfg_attr(not(feature = "wasmtime"), expect(dead_code, reason = "called by the engine"))]
    pub(crate) fn grow_memory(&mut self, current: usize, desired: usize) -> bool {
        let total = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        match self.memory.resize(self.memory_bytes as u64, total as u64) {
            Ok(()) => {
                self.memory_bytes = total;
                true
            }
            Err(refused) => {
                self.memory_refused = Some(refused);
                false
            }
        }
    }

    /// Why it was refused more memory, if it was: at the end, that is often why it ended.
    #[cfg_attr(not(feature = "wasmtime"), expect(dead_code, reason = "called by the engine"))]
    pub(crate) fn memory_refusal(&self) -> Option<String> {
        let ChargeError::OverLimit { at, limit, .. } = self.memory_refused? else { return None };
        Some(if at == self.memory.group() {
            format!("it had asked for more memory than its {limit} bytes")
        } else {
            format!("it had asked for memory, and all {limit} bytes of this WOS are in use")
        })
    }

    /// Linear memory in use, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes as u64
    }

    /// Whose context this is.
    #[must_use]
    pub fn address(&self) -> Address {
        self.at
    }

    fn check_metric(&mut self, name: &str) -> Result<(), SyscallError> {
        self.authority.check(Interface::Metric, Rights::WRITE)?;
        self.check_slice()?;
        check_metric_name(name).map_err(|error| match error {
            MetricNameError::TooLong { .. } => SyscallError::TooLarge(NAME_BYTES_MAX as u64),
            MetricNameError::Illegal => {
                SyscallError::Invalid("a name has the form [a-zA-Z_:][a-zA-Z0-9_:]*")
            }
        })?;
        if !self.metric_names.contains_key(name) {
            if self.metric_names.len() >= METRICS_MAX {
                return Err(SyscallError::QuotaExceeded("metrics"));
            }
            self.metric_names.insert(name.into(), ());
        }
        Ok(())
    }
}
