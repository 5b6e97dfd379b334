//! A Rust [`Daemon`] as a process of a WOS kernel, without WebAssembly.
//!
//! A daemon outside of WOS is the one process of a kernel of its own: the native runtime and the test
//! manager both run [`Kernel`](wos_kernel::Kernel) over this executor. So transactions, limits, wake
//! reasons and the order of questions are the kernel's, and nothing in this crate knows their rules.

use core::marker::PhantomData;

use duende_core::{
    policy::quota::Pressure,
    wire::link::{self, LogLevel},
};
use wos_kernel::{
    Call, ConfigValue, Ending, Executor, Fault, ImageState, Progress, Return, SyscallError,
};

use crate::context::{Context, Host};
use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};
use crate::types::{
    Datetime, Error, Health, HealthCheck, HealthStatus, Instant, Level, Message, Next, Part,
    Sample, SampleValue, Scarcity, Value, Wake, WakeReasons,
};

/// Processes of a kernel with one daemon: PID 1 and the daemon.
pub(crate) const PROCESSES: u32 = 2;

/// Calls the daemon `T`. A call returns before the kernel goes on: nothing preempts it.
pub(crate) struct NativeExecutor<T>(PhantomData<fn() -> T>);

impl<T> NativeExecutor<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

/// A daemon with what it can reach.
pub(crate) struct Instance<T> {
    syscalls: Box<wos_kernel::Context>,
    /// None until `init` returned.
    daemon: Option<T>,
    /// What the open slice calls.
    call: Option<Call>,
}

impl<T: Daemon> Executor for NativeExecutor<T> {
    /// The program is its own image.
    type Image = ();
    type Instance = Instance<T>;

    fn image(&mut self, _: &str) -> ImageState<()> {
        ImageState::Ready(())
    }

    fn create(&mut self, (): (), context: Box<wos_kernel::Context>) -> Instance<T> {
        Instance { syscalls: context, daemon: None, call: None }
    }

    fn context<'a>(&self, instance: &'a mut Instance<T>) -> Option<&'a mut wos_kernel::Context> {
        instance.call.is_none().then_some(&mut *instance.syscalls)
    }

    fn reasons(&self, _: &Instance<T>) -> wos_kernel::WakeReasons {
        wos_kernel::WakeReasons::OF_0_2
    }

    fn enter(&mut self, instance: &mut Instance<T>, call: Call) {
        instance.call = Some(call);
    }

    fn resume(&mut self, instance: &mut Instance<T>) -> Progress {
        let context = &mut Context::new(&mut *instance.syscalls);
        let returned = match (instance.call.take(), &mut instance.daemon) {
            (Some(Call::Init), daemon) => {
                let made = T::init(context).map(|made| *daemon = Some(made));
                Return::Init(made.map_err(Into::into))
            }
            (Some(Call::Run(wake)), Some(daemon)) => {
                let ran = daemon.run(&wake.into(), context);
                Return::Run(ran.map(Into::into).map_err(Into::into))
            }
            (Some(Call::Shutdown { deadline_ns }), Some(daemon)) => {
                let ran = daemon.shutdown(Instant { nanoseconds: deadline_ns }, context);
                Return::Shutdown(ran.map(Into::into).map_err(Into::into))
            }
            (Some(Call::HealthCheck), Some(daemon)) => {
                Return::HealthCheck(daemon.health_check().into())
            }
            (Some(Call::Metrics), Some(daemon)) => {
                Return::Metrics(daemon.metrics().into_iter().map(Into::into).collect())
            }
            // The kernel enters nothing before `init` returned, and resumes what it entered.
            (None, _) | (Some(_), None) => {
                return Progress::Failed(Fault::Trap("it was entered out of turn".to_owned()));
            }
        };
        Progress::Returned(returned)
    }
}

impl Host for wos_kernel::Context {
    fn log_enabled(&mut self, _: Level) -> bool {
        Self::log_enabled(self)
    }

    fn log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        Ok(self.log_write(level.into(), text.to_owned())?)
    }

    fn log_event(
        &mut self,
        level: Level,
        text: &str,
        fields: &[(&str, Value)],
    ) -> Result<(), Error> {
        let value = |value| match value {
            &Value::Integer(value) => ConfigValue::Integer(value),
            &Value::Number(value) => ConfigValue::Number(value),
            &Value::Boolean(value) => ConfigValue::Boolean(value),
            Value::Text(text) => ConfigValue::Text(text),
        };
        let fields: Vec<_> = fields.iter().map(|(name, of)| (*name, value(of))).collect();
        Ok(Self::log_event(self, level.into(), text, &fields)?)
    }

    fn monotonic(&mut self) -> Instant {
        Instant { nanoseconds: self.clock_monotonic() }
    }

    fn wall(&mut self) -> Datetime {
        let (seconds, nanoseconds) = self.clock_datetime();
        Datetime { seconds, nanoseconds }
    }

    fn entropy(&mut self, length: u32) -> Result<Vec<u8>, Error> {
        Ok(Self::entropy(self, length)?)
    }

    fn entropy_number(&mut self) -> u64 {
        Self::entropy_number(self)
    }

    fn config_get(&mut self, key: &str) -> Option<Value> {
        Some(match self.config().get(key)? {
            ConfigValue::Text(text) => Value::Text(text.to_owned()),
            ConfigValue::Integer(value) => Value::Integer(value),
            ConfigValue::Number(value) => Value::Number(value),
            ConfigValue::Boolean(value) => Value::Boolean(value),
        })
    }

    fn config_text(&mut self, key: &str) -> Option<String> {
        self.config().text(key).map(str::to_owned)
    }

    fn config_keys(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        self.config().keys(prefix, after, limit)
    }

    fn config_refuse(&mut self, reason: &str) {
        Self::config_refuse(self, reason.to_owned());
    }

    fn state_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(Self::state_get(self, key)?.map(<[u8]>::to_vec))
    }

    fn state_set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(Self::state_set(self, key, value.to_vec())?)
    }

    fn state_delete(&mut self, key: &str) -> Result<(), Error> {
        Ok(Self::state_delete(self, key)?)
    }

    fn state_delete_all(&mut self, prefix: &str) -> Result<u64, Error> {
        Ok(Self::state_delete_all(self, prefix)?)
    }

    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        Ok(Self::state_keys(self, prefix, after, limit)?)
    }

    fn state_entries(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        Ok(Self::state_entries(self, prefix, after, limit)?)
    }

    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        let messages = self.channel_receive(channel, max)?;
        Ok(messages
            .into_iter()
            .map(|message| Message {
                sequence: message.sequence,
                attempt: message.attempt,
                part: match message.part {
                    link::Part::Whole => Part::Whole,
                    link::Part::First => Part::First,
                    link::Part::Middle => Part::Middle,
                    link::Part::Last => Part::Last,
                },
                payload: message.payload,
            })
            .collect())
    }

    fn reject(&mut self, channel: &str, sequence: u64, reason: &str) -> Result<(), Error> {
        Ok(self.channel_reject(channel, sequence, reason.to_owned())?)
    }

    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error> {
        Ok(Self::counter_add(self, name, delta)?)
    }

    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error> {
        Ok(Self::gauge_set(self, name, value)?)
    }

    fn slice_number(&mut self) -> u64 {
        Self::slice_number(self)
    }

    fn slice_deadline(&mut self) -> Instant {
        Instant { nanoseconds: self.slice_deadline_ns() }
    }

    fn stop_deadline(&mut self) -> Option<Instant> {
        self.stop_deadline_ns().map(|nanoseconds| Instant { nanoseconds })
    }

    fn ready(&mut self) -> Vec<String> {
        self.ready_channels()
    }

    fn name(&mut self) -> String {
        Self::name(self).to_owned()
    }

    fn incarnation(&mut self) -> u64 {
        self.address().incarnation.into()
    }

    fn instance(&mut self) -> (u64, u64) {
        Self::instance(self)
    }

    fn granted(&mut self, capability: &str) -> bool {
        self.is_granted(capability)
    }

    fn limit(&mut self, name: &str) -> Option<u64> {
        Self::limit(self, name)
    }

    fn used(&mut self, name: &str) -> Option<u64> {
        Self::used(self, name)
    }

    fn pressure(&mut self, name: &str) -> Scarcity {
        match Self::pressure(self, name) {
            Pressure::Calm => Scarcity::Calm,
            Pressure::Elevated => Scarcity::Elevated,
            Pressure::Critical => Scarcity::Critical,
        }
    }
}

// The kernel's words are plain; those of the SDK are for people who write daemons.

impl From<SyscallError> for Error {
    fn from(error: SyscallError) -> Self {
        match error {
            SyscallError::Denied => Self::Denied,
            SyscallError::NotFound => Self::NotFound,
            SyscallError::Invalid(why) => Self::Invalid(why.to_owned()),
            SyscallError::TooLarge(limit) => Self::TooLarge(limit),
            SyscallError::QuotaExceeded(name) => Self::QuotaExceeded(name.to_owned()),
            SyscallError::NotInSlice => Self::Other(SyscallError::NOT_IN_SLICE.to_owned()),
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
            LogLevel::Critical => Self::Critical,
        }
    }
}

impl From<wos_kernel::Wake> for Wake {
    fn from(wake: wos_kernel::Wake) -> Self {
        // Both have them in the contract's order, as a component has.
        let reasons = WakeReasons::from_bits_truncate(wake.reasons.bits());
        Self { reasons, now: Instant { nanoseconds: wake.now_ns } }
    }
}

impl From<Next> for wos_kernel::Next {
    fn from(next: Next) -> Self {
        match next {
            Next::Again => Self::Again,
            Next::Until(instant) => Self::Until(instant.nanoseconds),
            Next::Wait => Self::Wait,
            Next::Exit(outcome) => Self::Exit(outcome.into()),
        }
    }
}

impl From<wos_kernel::Next> for Next {
    fn from(next: wos_kernel::Next) -> Self {
        match next {
            wos_kernel::Next::Again => Self::Again,
            wos_kernel::Next::Until(nanoseconds) => Self::Until(Instant { nanoseconds }),
            wos_kernel::Next::Wait => Self::Wait,
            wos_kernel::Next::Exit(Ending { code, text }) => Self::Exit(Outcome { code, text }),
        }
    }
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        Self { code: outcome.code, text: outcome.text }
    }
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        failure.into_outcome().into()
    }
}

impl From<HealthStatus> for wos_kernel::HealthStatus {
    fn from(status: HealthStatus) -> Self {
        match status {
            HealthStatus::Healthy => Self::Healthy,
            HealthStatus::Degraded => Self::Degraded,
            HealthStatus::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<Health> for wos_kernel::Health {
    fn from(health: Health) -> Self {
        let check = |check: HealthCheck| wos_kernel::Check {
            name: check.name,
            status: check.status.into(),
            detail: check.detail,
        };
        Self {
            status: health.status.into(),
            detail: health.detail,
            checks: health.checks.into_iter().map(check).collect(),
        }
    }
}

impl From<Sample> for wos_kernel::Sample {
    fn from(sample: Sample) -> Self {
        let value = match sample.value {
            SampleValue::Counter(value) => wos_kernel::SampleValue::Counter(value),
            SampleValue::Gauge(value) => wos_kernel::SampleValue::Gauge(value),
            SampleValue::Histogram { count, sum, buckets } => {
                wos_kernel::SampleValue::Histogram { count, sum, buckets }
            }
        };
        Self { name: sample.name, labels: sample.labels, value }
    }
}
