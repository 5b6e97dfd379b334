//! The contract in Rust, generated from `wit/`, and the syscalls behind its imports.

use alloc::{string::String, vec::Vec};
use duende_core::wire::link::LogLevel;

use self::duende::daemon::{channel, clock, config, entropy, log, metric, state, types};
use super::Data;
use crate::{
    context::SyscallError,
    executor::{Health, Next, Sample, Wake, WakeReasons},
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
            SyscallError::UnknownChannel => Self::UnknownChannel,
            SyscallError::TooLarge => Self::TooLarge,
            SyscallError::InvalidName => Self::InvalidName,
            SyscallError::QuotaExceeded => Self::QuotaExceeded,
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
            types::Next::Exit => Self::Exit,
        }
    }
}

impl From<types::Health> for Health {
    fn from(health: types::Health) -> Self {
        match health {
            types::Health::Healthy => Self::Healthy,
            types::Health::Degraded(text) => Self::Degraded(text),
            types::Health::Unhealthy(text) => Self::Unhealthy(text),
        }
    }
}

impl From<types::Sample> for Sample {
    fn from(sample: types::Sample) -> Self {
        Self {
            name: sample.name,
            counter: matches!(sample.kind, types::SampleKind::Counter),
            value: sample.value,
        }
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
        self.context.clock_wall()
    }
}

impl entropy::Host for Data {
    fn bytes(&mut self, length: u32) -> Vec<u8> {
        self.context.entropy(length)
    }
}

impl config::Host for Data {
    fn get(&mut self, key: String) -> Option<String> {
        self.context.config(&key).map(Into::into)
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
                sequence: message.sequence,
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
