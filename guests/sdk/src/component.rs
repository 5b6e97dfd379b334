//! The daemon as a component: the contract's exports call the [`Daemon`], its imports are the
//! [`Context`]'s host. Only [`export!`](crate::export) uses this module from outside.

use core::cell::RefCell;
use core::marker::PhantomData;
use core::time::Duration;
use std::panic;

use crate::context::{Context, Host};
use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};
use crate::types::{
    Datetime, Error, HealthStatus, Instant, Level, Message, Next, Part, SampleValue, Scarcity,
    Value, Wake, WakeReasons,
};

/// Generated from `wit/`: the canonical ABI.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    reason = "generated; the contract itself is documented"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "daemon",
        pub_export_macro: true,
        export_macro_name: "export_world",
        default_bindings_module: "duende_sdk::component::bindings",
    });
}

use bindings::duende::daemon as import;
use bindings::exports::duende::daemon::lifecycle as contract;

thread_local! {
    /// The one daemon of this component; empty until `init` returned.
    static DAEMON: RefCell<Option<Box<dyn Daemon>>> = const { RefCell::new(None) };
}

/// The exports, for the daemon `T`.
pub struct Component<T>(PhantomData<T>);

/// Calls into the daemon. The contract enters no export before `init` returned, nor one while
/// another is open; a kernel that does is answered with a trap.
fn with_daemon<R>(call: impl FnOnce(&mut dyn Daemon) -> R) -> R {
    DAEMON.with_borrow_mut(|daemon| match daemon {
        Some(daemon) => call(daemon.as_mut()),
        None => core::arch::wasm32::unreachable(),
    })
}

fn outcome(outcome: Outcome) -> import::types::Outcome {
    import::types::Outcome { code: outcome.code, text: outcome.text }
}

fn failed(failure: Failure) -> import::types::Outcome {
    outcome(failure.into_outcome())
}

fn next(next: Next) -> contract::Next {
    match next {
        Next::Again => contract::Next::Again,
        Next::Until(instant) => contract::Next::Until(instant.nanoseconds),
        Next::Wait => contract::Next::Wait,
        Next::Exit(end) => contract::Next::Exit(outcome(end)),
    }
}

fn attributes(pairs: Vec<(String, String)>) -> Vec<import::types::Attribute> {
    pairs.into_iter().map(|(name, value)| import::types::Attribute { name, value }).collect()
}

fn status(status: HealthStatus) -> contract::HealthStatus {
    match status {
        HealthStatus::Healthy => contract::HealthStatus::Healthy,
        HealthStatus::Degraded => contract::HealthStatus::Degraded,
        HealthStatus::Unhealthy => contract::HealthStatus::Unhealthy,
    }
}

fn sample_value(value: SampleValue) -> contract::SampleValue {
    match value {
        SampleValue::Counter(value) => contract::SampleValue::Counter(value),
        SampleValue::Gauge(value) => contract::SampleValue::Gauge(value),
        SampleValue::Histogram { count, sum, buckets } => {
            let bucket = |(upper, count)| contract::Bucket { upper, count };
            let buckets = buckets.into_iter().map(bucket).collect();
            contract::SampleValue::Histogram(contract::Histogram { count, sum, buckets })
        }
    }
}

impl<T: Daemon> contract::Guest for Component<T> {
    fn init() -> Result<(), import::types::Outcome> {
        // A panic traps the component; its message would be lost with it.
        panic::set_hook(Box::new(|what| {
            Context::new(&mut Imports).log(Level::Error, what);
        }));
        let daemon = T::init(&mut Context::new(&mut Imports)).map_err(failed)?;
        DAEMON.set(Some(Box::new(daemon)));
        Ok(())
    }

    fn run(wake: contract::Wake) -> Result<contract::Next, import::types::Outcome> {
        let wake = Wake {
            reasons: WakeReasons::from_bits_truncate(wake.reasons.bits()),
            now: Instant { nanoseconds: wake.now },
        };
        let ran = with_daemon(|daemon| daemon.run(&wake, &mut Context::new(&mut Imports)));
        ran.map(next).map_err(failed)
    }

    fn shutdown(deadline: u64) -> Result<contract::Next, import::types::Outcome> {
        let deadline = Instant { nanoseconds: deadline };
        let ran = with_daemon(|daemon| daemon.shutdown(deadline, &mut Context::new(&mut Imports)));
        ran.map(next).map_err(failed)
    }

    fn health_check() -> contract::Health {
        let health = with_daemon(|daemon| daemon.health_check());
        let check = |check: crate::HealthCheck| contract::Check {
            name: check.name,
            status: status(check.status),
            detail: check.detail,
        };
        contract::Health {
            status: status(health.status),
            detail: health.detail,
            checks: health.checks.into_iter().map(check).collect(),
        }
    }

    fn metrics() -> Vec<contract::Sample> {
        with_daemon(|daemon| daemon.metrics())
            .into_iter()
            .map(|sample| contract::Sample {
                name: sample.name,
                labels: attributes(sample.labels),
                value: sample_value(sample.value),
            })
            .collect()
    }
}

impl From<import::types::Error> for Error {
    fn from(error: import::types::Error) -> Self {
        match error {
            import::types::Error::Denied => Self::Denied,
            import::types::Error::NotFound => Self::NotFound,
            import::types::Error::Invalid(why) => Self::Invalid(why),
            import::types::Error::TooLarge(limit) => Self::TooLarge(limit),
            import::types::Error::QuotaExceeded(name) => Self::QuotaExceeded(name),
            import::types::Error::Full => Self::Full,
            import::types::Error::Unavailable(wait) => {
                Self::Unavailable(wait.map(Duration::from_nanos))
            }
            import::types::Error::Other(text) => Self::Other(text),
        }
    }
}

fn level(level: Level) -> import::log::Level {
    match level {
        Level::Trace => import::log::Level::Trace,
        Level::Debug => import::log::Level::Debug,
        Level::Info => import::log::Level::Info,
        Level::Warn => import::log::Level::Warn,
        Level::Error => import::log::Level::Error,
        Level::Critical => import::log::Level::Critical,
    }
}

fn scalar(value: &Value) -> import::types::Scalar {
    match value {
        Value::Text(text) => import::types::Scalar::Text(text.clone()),
        Value::Integer(value) => import::types::Scalar::Integer(*value),
        Value::Number(value) => import::types::Scalar::Number(*value),
        Value::Boolean(value) => import::types::Scalar::Boolean(*value),
    }
}

/// The component's imports.
struct Imports;

impl Host for Imports {
    fn log_enabled(&mut self, of: Level) -> bool {
        import::log::enabled(level(of))
    }

    fn log(&mut self, of: Level, text: &str) -> Result<(), Error> {
        Ok(import::log::write(level(of), text)?)
    }

    fn log_event(&mut self, of: Level, text: &str, fields: &[(&str, Value)]) -> Result<(), Error> {
        let field = |(name, value): &(&str, Value)| import::types::Field {
            name: (*name).to_owned(),
            value: scalar(value),
        };
        let fields: Vec<_> = fields.iter().map(field).collect();
        Ok(import::log::event(level(of), text, &fields)?)
    }

    fn monotonic(&mut self) -> Instant {
        Instant { nanoseconds: import::clock::monotonic() }
    }

    fn wall(&mut self) -> Datetime {
        let now = import::clock::wall();
        Datetime { seconds: now.seconds, nanoseconds: now.nanoseconds }
    }

    fn entropy(&mut self, length: u32) -> Result<Vec<u8>, Error> {
        Ok(import::entropy::bytes(length)?)
    }

    fn entropy_number(&mut self) -> u64 {
        import::entropy::number()
    }

    fn config_get(&mut self, key: &str) -> Option<Value> {
        Some(match import::config::get(key)? {
            import::types::Scalar::Text(text) => Value::Text(text),
            import::types::Scalar::Integer(value) => Value::Integer(value),
            import::types::Scalar::Number(value) => Value::Number(value),
            import::types::Scalar::Boolean(value) => Value::Boolean(value),
        })
    }

    fn config_text(&mut self, key: &str) -> Option<String> {
        import::config::text(key)
    }

    fn config_keys(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        import::config::keys(prefix, after, limit)
    }

    fn config_refuse(&mut self, reason: &str) {
        import::config::refuse(reason);
    }

    fn state_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(import::state::get(key)?)
    }

    fn state_set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(import::state::set(key, value)?)
    }

    fn state_delete(&mut self, key: &str) -> Result<(), Error> {
        Ok(import::state::delete(key)?)
    }

    fn state_delete_all(&mut self, prefix: &str) -> Result<u64, Error> {
        Ok(import::state::delete_all(prefix)?)
    }

    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        Ok(import::state::keys(prefix, after, limit)?)
    }

    fn state_entries(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let entries = import::state::entries(prefix, after, limit)?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
    }

    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        let messages = import::channel::receive(channel, max)?;
        Ok(messages
            .into_iter()
            .map(|message| Message {
                sequence: message.sequence,
                attempt: message.attempt,
                part: match message.part {
                    import::channel::Part::Whole => Part::Whole,
                    import::channel::Part::First => Part::First,
                    import::channel::Part::Middle => Part::Middle,
                    import::channel::Part::Last => Part::Last,
                },
                payload: message.payload,
            })
            .collect())
    }

    fn reject(&mut self, channel: &str, sequence: u64, reason: &str) -> Result<(), Error> {
        Ok(import::channel::reject(channel, sequence, reason)?)
    }

    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error> {
        Ok(import::metric::counter_add(name, delta)?)
    }

    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error> {
        Ok(import::metric::gauge_set(name, value)?)
    }

    fn slice_number(&mut self) -> u64 {
        import::slice::number()
    }

    fn slice_deadline(&mut self) -> Instant {
        Instant { nanoseconds: import::slice::deadline() }
    }

    fn stop_deadline(&mut self) -> Option<Instant> {
        import::slice::stop_deadline().map(|nanoseconds| Instant { nanoseconds })
    }

    fn ready(&mut self) -> Vec<String> {
        import::slice::ready()
    }

    fn name(&mut self) -> String {
        import::context::name()
    }

    fn incarnation(&mut self) -> u64 {
        import::context::incarnation()
    }

    fn instance(&mut self) -> (u64, u64) {
        import::context::instance()
    }

    fn granted(&mut self, capability: &str) -> bool {
        import::context::granted(capability)
    }

    fn limit(&mut self, name: &str) -> Option<u64> {
        import::context::limit(name)
    }

    fn used(&mut self, name: &str) -> Option<u64> {
        import::context::used(name)
    }

    fn pressure(&mut self, name: &str) -> Scarcity {
        match import::context::pressure(name) {
            import::context::Scarcity::Calm => Scarcity::Calm,
            import::context::Scarcity::Elevated => Scarcity::Elevated,
            import::context::Scarcity::Critical => Scarcity::Critical,
        }
    }
}
