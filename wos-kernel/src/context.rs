//! What one daemon can reach: the syscalls behind the imports of the contract, and the open
//! transaction that they fill.
//!
//! The context owns nothing that outlives its incarnation. While a slice is open it belongs to that
//! slice, and the kernel keeps what arrives meanwhile; at the boundary the kernel takes the
//! transaction out with [`Context::commit`]. A slice that is discarded takes the context with it.

#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec, vec::Vec};
#[cfg(test)]
use duende_core::epitaph::Epitaph;
use duende_core::{
    caps::{Handle, Rights},
    metrics::Counter,
    policy::quota::ChargeError,
    wire::{
        MetricNameError, check_metric_name,
        link::{
            Address, CHANNELS_MAX, CONFIG_ENTRIES_MAX, Event, Grants, Limits, LogLevel,
            METRICS_MAX, TEXT_BYTES_MAX,
        },
    },
};

use crate::{
    authority::{Authority, Interface},
    inbox::{Inbox, Message},
    limits::ENTROPY_BYTES_MAX,
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
    /// No channel of that name is configured.
    UnknownChannel,
    /// A name, key, value or line is over its limit.
    TooLarge,
    /// A name is empty or has characters that are not allowed.
    InvalidName,
    /// A quota of the daemon would be passed.
    QuotaExceeded,
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
    grants: Grants,
    authority: Authority,
    config: BTreeMap<String, String>,
    state: State,
    /// The quota of `state`, which counts from the start on.
    state_bytes_max: u64,
    channels: Vec<Channel>,
    counters: BTreeMap<String, Counter>,
    gauges: BTreeMap<String, f64>,
    /// Every metric name that this incarnation used, so that their number is bounded.
    metric_names: BTreeMap<String, ()>,
    shared: Shared,
    /// How far the daemon's clock is behind the kernel's, in nanoseconds.
    behind_ns: u64,
    meter: Meter,
    memory_bytes: usize,
    /// Why it was refused more memory, if it was.
    memory_refused: Option<ChargeError>,
    // Fields are dropped in their order, and a daemon's group goes after those below it.
    memory: Account,
    _daemon: Account,
}

impl Context {
    pub(crate) fn new(
        at: Address,
        grants: Grants,
        limits: Limits,
        accounts: DaemonAccounts,
        shared: Shared,
    ) -> Self {
        let DaemonAccounts { memory, state, daemon } = accounts;
        Self {
            at,
            grants,
            authority: Authority::none(),
            config: BTreeMap::new(),
            state: State::new(state),
            state_bytes_max: limits.state_bytes_max,
            channels: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            metric_names: BTreeMap::new(),
            shared,
            behind_ns: 0,
            meter: Meter::new(limits.slice_budget_ns),
            memory_bytes: 0,
            memory_refused: None,
            memory,
            _daemon: daemon,
        }
    }

    // What the manager says before the start.

    pub(crate) fn configure(&mut self, key: &str, value: &str) -> bool {
        self.config.insert(key.into(), value.into());
        self.config.len() <= CONFIG_ENTRIES_MAX
    }

    /// False if this WOS has no memory left for it.
    pub(crate) fn load_state(&mut self, key: &str, value: &[u8]) -> bool {
        self.state.load(key, value)
    }

    /// Everything was said: from here on the quota counts, and what is granted may be done.
    pub(crate) fn begin(&mut self, pid: Pid) {
        self.state.limit(self.state_bytes_max);
        let granted = self.channels.iter().filter(|channel| channel.granted).count();
        let mut authority = Authority::new(pid, self.grants, granted);
        for (index, channel) in self.channels.iter_mut().enumerate() {
            channel.capability =
                if channel.granted { authority.grant_channel(index) } else { None };
        }
        self.authority = authority;
    }

    pub(crate) fn open_channel(&mut self, name: &str, granted: bool) -> bool {
        self.channels.push(Channel {
            name: name.into(),
            granted,
            capability: None,
            inbox: Inbox::default(),
        });
        self.channels.len() <= CHANNELS_MAX
    }

    /// Puts a message into a channel's inbox. False if the manager broke its promise: no such
    /// channel, or more unconsumed messages than it said it would send.
    pub(crate) fn deliver(&mut self, channel: u8, message: Message) -> bool {
        let channel = self.channels.get_mut(usize::from(channel));
        channel.is_some_and(|channel| channel.inbox.deliver(message))
    }

    // The syscalls.

    /// `log.write`
    ///
    /// # Errors
    /// Denied without the grant; too large over [`TEXT_BYTES_MAX`] bytes.
    pub fn log_write(&mut self, level: LogLevel, text: String) -> Result<(), SyscallError> {
        self.authority.check(Interface::Log, Rights::WRITE)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(SyscallError::TooLarge);
        }
        if !self.shared.machine.take_log(self.at, level, &text) {
            self.shared.log.push(LogLine { at: self.at, level, text });
        }
        Ok(())
    }

    /// `clock.monotonic`, in nanoseconds. It stands while the daemon is paused.
    #[must_use]
    pub fn clock_monotonic(&self) -> u64 {
        self.shared.machine.monotonic_ns().saturating_sub(self.behind_ns)
    }

    /// `clock.wall`, in nanoseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn clock_wall(&self) -> u64 {
        self.shared.machine.wall_ns()
    }

    /// `entropy.bytes`
    #[must_use]
    pub fn entropy(&self, length: u32) -> Vec<u8> {
        let length = usize::try_from(length.min(ENTROPY_BYTES_MAX)).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.shared.machine.entropy(&mut bytes);
        bytes
    }

    /// `config.get`
    #[must_use]
    pub fn config(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
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
        self.state.set(key, value)
    }

    /// `state.delete`
    ///
    /// # Errors
    /// Denied without the grant; an unusable key.
    pub fn state_delete(&mut self, key: &str) -> Result<(), SyscallError> {
        self.authority.check(Interface::State, Rights::WRITE)?;
        self.state.delete(key)
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
        let channel = self
            .channels
            .iter_mut()
            .find(|channel| channel.name == name)
            .ok_or(SyscallError::UnknownChannel)?;
        self.authority.check_channel(channel.capability)?;
        Ok(channel.inbox.receive(usize::try_from(max).unwrap_or(usize::MAX)))
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
    pub(crate) fn set_config(&mut self, config: BTreeMap<String, String>) {
        self.config = config;
    }

    /// Opens a slice of a daemon whose clock is behind the kernel's by so much.
    pub(crate) fn begin_slice(&mut self, behind_ns: u64) {
        self.behind_ns = behind_ns;
        self.meter.begin_slice();
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
        check_metric_name(name).map_err(|error| match error {
            MetricNameError::TooLong { .. } => SyscallError::TooLarge,
            MetricNameError::Illegal => SyscallError::InvalidName,
        })?;
        if !self.metric_names.contains_key(name) {
            if self.metric_names.len() >= METRICS_MAX {
                return Err(SyscallError::QuotaExceeded);
            }
            self.metric_names.insert(name.into(), ());
        }
        Ok(())
    }
}
