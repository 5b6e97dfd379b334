//! Contract 0.2, generated from `wit/`: the kernel's words are its own.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use duende_core::{
    policy::quota::Pressure,
    wire::link::{LogLevel, Part},
};
use wasmtime::{
    Store,
    component::{Component, InstancePre, Linker},
};

use self::{
    duende::daemon::{channel, clock, config, context, entropy, log, metric, slice, state, types},
    exports::duende::daemon::lifecycle,
};
use super::super::{
    Data,
    contract::{Series, TypeCheck},
    series::Contract,
};
use crate::{
    context::{ConfigValue, SyscallError},
    executor::{
        Call, Check, Ending, Health, HealthStatus, Next, Return, Sample, SampleValue, Wake,
        WakeReasons,
    },
};

wasmtime::component::bindgen!({
    path: "../wit",
    world: "duende:daemon/daemon",
    exports: { default: async },
});

impl From<SyscallError> for types::Error {
    fn from(error: SyscallError) -> Self {
        match error {
            SyscallError::Denied => Self::Denied,
            SyscallError::NotFound => Self::NotFound,
            SyscallError::Invalid(why) => Self::Invalid(why.into()),
            SyscallError::TooLarge(limit) => Self::TooLarge(limit),
            SyscallError::QuotaExceeded(name) => Self::QuotaExceeded(name.into()),
            SyscallError::NotInSlice => Self::Other(SyscallError::NOT_IN_SLICE.into()),
        }
    }
}

impl From<Wake> for lifecycle::Wake {
    fn from(wake: Wake) -> Self {
        let mut reasons = lifecycle::WakeReasons::empty();
        for (ours, theirs) in [
            (WakeReasons::STARTED, lifecycle::WakeReasons::STARTED),
            (WakeReasons::TIMER, lifecycle::WakeReasons::TIMER),
            (WakeReasons::MESSAGE, lifecycle::WakeReasons::MESSAGE),
            (WakeReasons::RELOAD, lifecycle::WakeReasons::RELOAD),
            (WakeReasons::RESUMED, lifecycle::WakeReasons::RESUMED),
            (WakeReasons::PRESSURE, lifecycle::WakeReasons::PRESSURE),
            (WakeReasons::STOPPING, lifecycle::WakeReasons::STOPPING),
        ] {
            if wake.reasons.contains(ours) {
                reasons |= theirs;
            }
        }
        Self { reasons, now: wake.now_ns }
    }
}

impl From<types::Outcome> for Ending {
    fn from(outcome: types::Outcome) -> Self {
        Self { code: outcome.code, text: outcome.text }
    }
}

impl From<lifecycle::Next> for Next {
    fn from(next: lifecycle::Next) -> Self {
        match next {
            lifecycle::Next::Again => Self::Again,
            lifecycle::Next::Until(instant) => Self::Until(instant),
            lifecycle::Next::Wait => Self::Wait,
            lifecycle::Next::Exit(outcome) => Self::Exit(outcome.into()),
        }
    }
}

impl From<lifecycle::HealthStatus> for HealthStatus {
    fn from(status: lifecycle::HealthStatus) -> Self {
        match status {
            lifecycle::HealthStatus::Healthy => Self::Healthy,
            lifecycle::HealthStatus::Degraded => Self::Degraded,
            lifecycle::HealthStatus::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<lifecycle::Health> for Health {
    fn from(health: lifecycle::Health) -> Self {
        let checks = health.checks.into_iter().map(|check| Check {
            name: check.name,
            status: check.status.into(),
            detail: check.detail,
        });
        Self { status: health.status.into(), detail: health.detail, checks: checks.collect() }
    }
}

impl From<lifecycle::Sample> for Sample {
    fn from(sample: lifecycle::Sample) -> Self {
        let value = match sample.value {
            lifecycle::SampleValue::Counter(value) => SampleValue::Counter(value),
            lifecycle::SampleValue::Gauge(value) => SampleValue::Gauge(value),
            lifecycle::SampleValue::Histogram(histogram) => SampleValue::Histogram {
                count: histogram.count,
                sum: histogram.sum,
                buckets: histogram
                    .buckets
                    .into_iter()
                    .map(|bucket| (bucket.upper, bucket.count))
                    .collect(),
            },
        };
        let labels = sample.labels.into_iter().map(|label| (label.name, label.value)).collect();
        Self { name: sample.name, labels, value }
    }
}

/// This series.
pub(super) struct V0_2;

impl Contract for V0_2 {
    const SERIES: Series = Series::new(
        "0.2",
        &[
            "types", "log", "clock", "entropy", "config", "state", "channel", "metric", "slice",
            "context",
        ],
    );
    const REASONS: WakeReasons = WakeReasons::OF_0_2;

    generated!();

    fn check_exports(component: &Component) -> Result<(), String> {
        use types::Outcome;
        let check = TypeCheck::of(component)?;
        check.function::<(), (Result<(), Outcome>,)>("init")?;
        check.function::<(lifecycle::Wake,), (Result<lifecycle::Next, Outcome>,)>("run")?;
        check.function::<(u64,), (Result<lifecycle::Next, Outcome>,)>("shutdown")?;
        check.function::<(), (lifecycle::Health,)>("health-check")?;
        check.function::<(), (Vec<lifecycle::Sample>,)>("metrics")
    }

    async fn invoke(
        store: &mut Store<Data>,
        daemon: &Daemon,
        call: Call,
    ) -> wasmtime::Result<Return> {
        let lifecycle = daemon.duende_daemon_lifecycle();
        Ok(match call {
            Call::Init => Return::Init(lifecycle.call_init(store).await?.map_err(Into::into)),
            Call::Run(wake) => {
                let returned = lifecycle.call_run(store, wake.into()).await?;
                Return::Run(returned.map(Into::into).map_err(Into::into))
            }
            Call::Shutdown { deadline_ns } => {
                let returned = lifecycle.call_shutdown(store, deadline_ns).await?;
                Return::Shutdown(returned.map(Into::into).map_err(Into::into))
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

impl slice::Host for Data {
    fn number(&mut self) -> u64 {
        self.context.slice_number()
    }

    fn deadline(&mut self) -> u64 {
        self.context.slice_deadline_ns()
    }

    fn stop_deadline(&mut self) -> Option<u64> {
        self.context.stop_deadline_ns()
    }

    fn ready(&mut self) -> Vec<String> {
        self.context.ready_channels()
    }
}

impl context::Host for Data {
    fn name(&mut self) -> String {
        self.context.name().into()
    }

    fn incarnation(&mut self) -> u64 {
        self.context.address().incarnation.into()
    }

    fn instance(&mut self) -> (u64, u64) {
        self.context.instance()
    }

    fn granted(&mut self, capability: String) -> bool {
        self.context.is_granted(&capability)
    }

    fn limit(&mut self, name: String) -> Option<u64> {
        self.context.limit(&name)
    }

    fn used(&mut self, name: String) -> Option<u64> {
        self.context.used(&name)
    }

    fn pressure(&mut self, name: String) -> context::Scarcity {
        match self.context.pressure(&name) {
            Pressure::Calm => context::Scarcity::Calm,
            Pressure::Elevated => context::Scarcity::Elevated,
            Pressure::Critical => context::Scarcity::Critical,
        }
    }
}

impl From<log::Level> for LogLevel {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::Trace,
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
            log::Level::Critical => Self::Critical,
        }
    }
}

impl log::Host for Data {
    fn enabled(&mut self, _: log::Level) -> bool {
        self.context.log_enabled()
    }

    fn write(&mut self, level: log::Level, text: String) -> Result<(), types::Error> {
        Ok(self.context.log_write(level.into(), text)?)
    }

    fn event(
        &mut self,
        level: log::Level,
        text: String,
        fields: Vec<log::Field>,
    ) -> Result<(), types::Error> {
        let fields: Vec<_> =
            fields.iter().map(|field| (field.name.as_str(), value(&field.value))).collect();
        Ok(self.context.log_event(level.into(), &text, &fields)?)
    }
}

fn value(scalar: &types::Scalar) -> ConfigValue<'_> {
    match scalar {
        types::Scalar::Text(text) => ConfigValue::Text(text),
        types::Scalar::Integer(value) => ConfigValue::Integer(*value),
        types::Scalar::Number(value) => ConfigValue::Number(*value),
        types::Scalar::Boolean(value) => ConfigValue::Boolean(*value),
    }
}

impl clock::Host for Data {
    fn monotonic(&mut self) -> u64 {
        self.context.clock_monotonic()
    }

    fn wall(&mut self) -> clock::Datetime {
        let (seconds, nanoseconds) = self.context.clock_datetime();
        clock::Datetime { seconds, nanoseconds }
    }
}

impl entropy::Host for Data {
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, types::Error> {
        Ok(self.context.entropy(length)?)
    }

    fn number(&mut self) -> u64 {
        self.context.entropy_number()
    }
}

impl config::Host for Data {
    fn get(&mut self, key: String) -> Option<types::Scalar> {
        Some(match self.context.config().get(&key)? {
            ConfigValue::Text(text) => types::Scalar::Text(text.to_string()),
            ConfigValue::Integer(value) => types::Scalar::Integer(value),
            ConfigValue::Number(value) => types::Scalar::Number(value),
            ConfigValue::Boolean(value) => types::Scalar::Boolean(value),
        })
    }

    fn text(&mut self, key: String) -> Option<String> {
        self.context.config().text(&key).map(Into::into)
    }

    fn keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Vec<String> {
        self.context.config().keys(&prefix, after.as_deref(), limit)
    }

    fn refuse(&mut self, reason: String) {
        self.context.config_refuse(reason);
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

    fn delete_all(&mut self, prefix: String) -> Result<u64, types::Error> {
        Ok(self.context.state_delete_all(&prefix)?)
    }

    fn keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, types::Error> {
        Ok(self.context.state_keys(&prefix, after.as_deref(), limit)?)
    }

    fn entries(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<state::Entry>, types::Error> {
        let entries = self.context.state_entries(&prefix, after.as_deref(), limit)?;
        Ok(entries.into_iter().map(|(key, value)| state::Entry { key, value }).collect())
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
                sequence: message.sequence,
                attempt: message.attempt,
                part: match message.part {
                    Part::Whole => channel::Part::Whole,
                    Part::First => channel::Part::First,
                    Part::Middle => channel::Part::Middle,
                    Part::Last => channel::Part::Last,
                },
                payload: message.payload,
            })
            .collect())
    }

    fn reject(
        &mut self,
        channel: String,
        sequence: u64,
        reason: String,
    ) -> Result<(), types::Error> {
        Ok(self.context.channel_reject(&channel, sequence, reason)?)
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
