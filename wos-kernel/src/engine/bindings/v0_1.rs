//! Contract 0.1, generated from `wit/0.1`: what the kernel's words become in it.
//!
//! - What has no word here is left out: reasons to be woken that came later, and nobody is woken for
//!   them alone.
//! - A refusal that came later is the nearest one: what a question may not do is `denied`.
//! - Times before 1970 are 1970, and entropy is cut at 1,024 bytes, as that contract says.
//! - An error is exit code 1, an end is code 0.
//! - Numbers of messages begin with 1 in each incarnation.

use alloc::{string::String, vec::Vec};
use duende_core::wire::link::LogLevel;
use wasmtime::{
    Store,
    component::{Component, InstancePre, Linker},
};

use self::duende::daemon::{channel, clock, config, entropy, log, metric, state, types};
use super::super::{
    Data,
    contract::{Series, TypeCheck},
    series::Contract,
};
use crate::{
    context::SyscallError,
    executor::{
        Call, Ending, Health, HealthStatus, Next, Return, Sample, SampleValue, Wake, WakeReasons,
    },
    limits::ENTROPY_BYTES_MAX_0_1,
};

wasmtime::component::bindgen!({
    path: "../wit/0.1",
    world: "duende:daemon/daemon",
    exports: { default: async },
});

impl From<SyscallError> for types::Error {
    fn from(error: SyscallError) -> Self {
        match error {
            SyscallError::Denied | SyscallError::NotInSlice => Self::Denied,
            SyscallError::NotFound => Self::UnknownChannel,
            SyscallError::TooLarge(_) => Self::TooLarge,
            SyscallError::Invalid(_) => Self::InvalidName,
            SyscallError::QuotaExceeded(_) => Self::QuotaExceeded,
        }
    }
}

impl From<Wake> for types::Wake {
    fn from(wake: Wake) -> Self {
        let mut reasons = types::WakeReasons::empty();
        for (ours, theirs) in [
            (WakeReasons::STARTED, types::WakeReasons::STARTED),
            (WakeReasons::TIMER, types::WakeReasons::TIMER),
            (WakeReasons::MESSAGE, types::WakeReasons::MESSAGE),
            (WakeReasons::RELOAD, types::WakeReasons::RELOAD),
            (WakeReasons::RESUMED, types::WakeReasons::RESUMED),
        ] {
            if wake.reasons.contains(ours) {
                reasons |= theirs;
            }
        }
        Self { reasons, now: wake.now_ns }
    }
}

impl From<types::Next> for Next {
    fn from(next: types::Next) -> Self {
        match next {
            types::Next::Again => Self::Again,
            types::Next::Until(instant) => Self::Until(instant),
            types::Next::Wait => Self::Wait,
            types::Next::Exit => Self::Exit(Ending::done()),
        }
    }
}

impl From<types::Health> for Health {
    fn from(health: types::Health) -> Self {
        let (status, detail) = match health {
            types::Health::Healthy => (HealthStatus::Healthy, String::new()),
            types::Health::Degraded(text) => (HealthStatus::Degraded, text),
            types::Health::Unhealthy(text) => (HealthStatus::Unhealthy, text),
        };
        Self { status, detail, checks: Vec::new() }
    }
}

impl From<types::Sample> for Sample {
    fn from(sample: types::Sample) -> Self {
        let value = match sample.kind {
            types::SampleKind::Counter => SampleValue::Counter(sample.value),
            types::SampleKind::Gauge => SampleValue::Gauge(sample.value),
        };
        Self { name: sample.name, labels: Vec::new(), value }
    }
}

/// This series.
pub(super) struct V0_1;

impl Contract for V0_1 {
    const SERIES: Series = Series::new(
        "0.1",
        &["types", "log", "clock", "entropy", "config", "state", "channel", "metric"],
    );
    const REASONS: WakeReasons = WakeReasons::OF_0_1;

    generated!();

    fn check_exports(component: &Component) -> Result<(), String> {
        let check = TypeCheck::of(component)?;
        check.function::<(), (Result<(), String>,)>("init")?;
        check.function::<(types::Wake,), (Result<types::Next, String>,)>("run")?;
        check.function::<(u64,), (Result<(), String>,)>("shutdown")?;
        check.function::<(), (types::Health,)>("health-check")?;
        check.function::<(), (Vec<types::Sample>,)>("metrics")
    }

    async fn invoke(
        store: &mut Store<Data>,
        daemon: &Daemon,
        call: Call,
    ) -> wasmtime::Result<Return> {
        let lifecycle = daemon.duende_daemon_lifecycle();
        Ok(match call {
            Call::Init => Return::Init(lifecycle.call_init(store).await?.map_err(Ending::failed)),
            Call::Run(wake) => {
                let returned = lifecycle.call_run(store, wake.into()).await?;
                Return::Run(returned.map(Into::into).map_err(Ending::failed))
            }
            Call::Shutdown { deadline_ns } => {
                let returned = lifecycle.call_shutdown(store, deadline_ns).await?;
                let done = |()| Next::Exit(Ending::done());
                Return::Shutdown(returned.map(done).map_err(Ending::failed))
            }
            Call::HealthCheck => {
                Return::HealthCheck(lifecycle.call_health_check(store).await?.into())
            }
            Call::Metrics => {
                let samples = lifecycle.call_metrics(store).await?;
                Return::Metrics(samples.into_iter().map(Into::into).collect())
            }
        })
    }
}

impl types::Host for Data {}

impl log::Host for Data {
    fn write(&mut self, level: log::Level, text: String) -> Result<(), types::Error> {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        Ok(self.context.log_write(level, text)?)
    }
}

impl clock::Host for Data {
    fn monotonic(&mut self) -> u64 {
        self.context.clock_monotonic()
    }

    fn wall(&mut self) -> u64 {
        u64::try_from(self.context.clock_wall()).unwrap_or(0)
    }
}

impl entropy::Host for Data {
    fn bytes(&mut self, length: u32) -> Vec<u8> {
        // So few are not refused.
        self.context.entropy(length.min(ENTROPY_BYTES_MAX_0_1)).unwrap_or_default()
    }
}

impl config::Host for Data {
    fn get(&mut self, key: String) -> Option<String> {
        self.context.config().text(&key).map(Into::into)
    }
}

impl state::Host for Data {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, types::Error> {
        Ok(self.context.state_get(&key)?.map(<[u8]>::to_vec))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), types::Error> {
        Ok(self.context.state_set(&key, value)?)
    }

    fn delete(&mut self, key: String) -> Result<(), types::Error> {
        Ok(self.context.state_delete(&key)?)
    }

    fn keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, types::Error> {
        Ok(self.context.state_keys(&prefix, after.as_deref(), limit)?)
    }
}

impl channel::Host for Data {
    fn receive(
        &mut self,
        channel: String,
        max: u32,
    ) -> Result<Vec<channel::Message>, types::Error> {
        let messages = self.context.channel_receive(&channel, max)?;
        Ok(messages
            .into_iter()
            .map(|message| channel::Message {
                sequence: self.numbers.of(&channel, message.sequence),
                payload: message.payload,
            })
            .collect())
    }
}

impl metric::Host for Data {
    fn counter_add(&mut self, name: String, delta: u64) -> Result<(), types::Error> {
        Ok(self.context.counter_add(&name, delta)?)
    }

    fn gauge_set(&mut self, name: String, value: f64) -> Result<(), types::Error> {
        Ok(self.context.gauge_set(&name, value)?)
    }
}
