//! A Rust [`Daemon`] as a process of a WOS kernel, without WebAssembly.
//!
//! A daemon outside of WOS is the one process of a kernel of its own: the native runtime and the test
//! manager both run [`Kernel`](wos_kernel::Kernel) over this executor. So transactions, limits, wake
//! reasons and the order of questions are the kernel's, and nothing in this crate knows their rules.

use core::marker::PhantomData;
use core::time::Duration;

use duende_core::wire::link::LogLevel;
use wos_kernel::{Call, Executor, Fault, ImageState, Progress, Return, SyscallError};

use crate::context::{Context, Host};
use crate::daemon::Daemon;
use crate::types::{
    Error, Health, Instant, Level, Message, Next, Sample, SampleKind, Wake, WakeReasons,
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

    fn enter(&mut self, instance: &mut Instance<T>, call: Call) {
        instance.call = Some(call);
    }

    fn resume(&mut self, instance: &mut Instance<T>) -> Progress {
        let context = &mut Context::new(&mut *instance.syscalls);
        let returned = match (instance.call.take(), &mut instance.daemon) {
            (Some(Call::Init), daemon) => {
                Return::Init(T::init(context).map(|made| *daemon = Some(made)))
            }
            (Some(Call::Run(wake)), Some(daemon)) => {
                Return::Run(daemon.run(&wake.into(), context).map(Into::into))
            }
            (Some(Call::Shutdown { deadline_ns }), Some(daemon)) => {
                Return::Shutdown(daemon.shutdown(Instant { nanoseconds: deadline_ns }, context))
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
    fn log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        Ok(self.log_write(level.into(), text.to_owned())?)
    }

    fn monotonic(&mut self) -> Instant {
        Instant { nanoseconds: self.clock_monotonic() }
    }

    fn wall(&mut self) -> Duration {
        Duration::from_nanos(self.clock_wall())
    }

    fn entropy(&mut self, length: u32) -> Vec<u8> {
        Self::entropy(self, length)
    }

    fn config_get(&mut self, key: &str) -> Option<String> {
        self.config(key).map(str::to_owned)
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

    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        Ok(Self::state_keys(self, prefix, after, limit)?)
    }

    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        let messages = self.channel_receive(channel, max)?;
        Ok(messages
            .into_iter()
            .map(|message| Message { sequence: message.sequence, payload: message.payload })
            .collect())
    }

    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error> {
        Ok(Self::counter_add(self, name, delta)?)
    }

    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error> {
        Ok(Self::gauge_set(self, name, value)?)
    }
}

// The kernel's words are plain; those of the SDK are for people who write daemons.

impl From<SyscallError> for Error {
    fn from(error: SyscallError) -> Self {
        match error {
            SyscallError::Denied => Self::Denied,
            SyscallError::UnknownChannel => Self::UnknownChannel,
            SyscallError::TooLarge => Self::TooLarge,
            SyscallError::InvalidName => Self::InvalidName,
            SyscallError::QuotaExceeded => Self::QuotaExceeded,
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
        }
    }
}

impl From<wos_kernel::Wake> for Wake {
    fn from(wake: wos_kernel::Wake) -> Self {
        let mut reasons = WakeReasons::empty();
        for (theirs, ours) in [
            (wos_kernel::WakeReasons::STARTED, WakeReasons::STARTED),
            (wos_kernel::WakeReasons::TIMER, WakeReasons::TIMER),
            (wos_kernel::WakeReasons::MESSAGE, WakeReasons::MESSAGE),
            (wos_kernel::WakeReasons::RELOAD, WakeReasons::RELOAD),
            (wos_kernel::WakeReasons::RESUMED, WakeReasons::RESUMED),
        ] {
            reasons.set(ours, wake.reasons.contains(theirs));
        }
        Self { reasons, now: Instant { nanoseconds: wake.now_ns } }
    }
}

impl From<Next> for wos_kernel::Next {
    fn from(next: Next) -> Self {
        match next {
            Next::Again => Self::Again,
            Next::Until(instant) => Self::Until(instant.nanoseconds),
            Next::Wait => Self::Wait,
            Next::Exit => Self::Exit,
        }
    }
}

impl From<wos_kernel::Next> for Next {
    fn from(next: wos_kernel::Next) -> Self {
        match next {
            wos_kernel::Next::Again => Self::Again,
            wos_kernel::Next::Until(nanoseconds) => Self::Until(Instant { nanoseconds }),
            wos_kernel::Next::Wait => Self::Wait,
            wos_kernel::Next::Exit => Self::Exit,
        }
    }
}

impl From<Health> for wos_kernel::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Degraded(text) => Self::Degraded(text),
            Health::Unhealthy(text) => Self::Unhealthy(text),
        }
    }
}

impl From<Sample> for wos_kernel::Sample {
    fn from(sample: Sample) -> Self {
        Self { name: sample.name, counter: sample.kind == SampleKind::Counter, value: sample.value }
    }
}
