//! The daemon as a component: the contract's exports call the [`Daemon`], its imports are the
//! [`Context`]'s host. Only [`export!`](crate::export) uses this module from outside.

use core::cell::RefCell;
use core::marker::PhantomData;
use core::time::Duration;
use std::panic;

use crate::context::{Context, Host};
use crate::daemon::Daemon;
use crate::types::{Error, Health, Instant, Level, Message, Next, SampleKind, Wake, WakeReasons};

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

impl<T: Daemon> contract::Guest for Component<T> {
    fn init() -> Result<(), String> {
        // A panic traps the component; its message would be lost with it.
        panic::set_hook(Box::new(|what| {
            let _ = Imports.log(Level::Error, &what.to_string());
        }));
        let daemon = T::init(&mut Context::new(&mut Imports))?;
        DAEMON.set(Some(Box::new(daemon)));
        Ok(())
    }

    fn run(wake: contract::Wake) -> Result<contract::Next, String> {
        let wake = Wake {
            reasons: WakeReasons::from_bits_truncate(wake.reasons.bits()),
            now: Instant { nanoseconds: wake.now },
        };
        let next = with_daemon(|daemon| daemon.run(&wake, &mut Context::new(&mut Imports)))?;
        Ok(match next {
            Next::Again => contract::Next::Again,
            Next::Until(instant) => contract::Next::Until(instant.nanoseconds),
            Next::Wait => contract::Next::Wait,
            Next::Exit => contract::Next::Exit,
        })
    }

    fn shutdown(deadline: u64) -> Result<(), String> {
        let deadline = Instant { nanoseconds: deadline };
        with_daemon(|daemon| daemon.shutdown(deadline, &mut Context::new(&mut Imports)))
    }

    fn health_check() -> contract::Health {
        match with_daemon(|daemon| daemon.health_check()) {
            Health::Healthy => contract::Health::Healthy,
            Health::Degraded(text) => contract::Health::Degraded(text),
            Health::Unhealthy(text) => contract::Health::Unhealthy(text),
        }
    }

    fn metrics() -> Vec<contract::Sample> {
        with_daemon(|daemon| daemon.metrics())
            .into_iter()
            .map(|sample| contract::Sample {
                name: sample.name,
                kind: match sample.kind {
                    SampleKind::Counter => import::types::SampleKind::Counter,
                    SampleKind::Gauge => import::types::SampleKind::Gauge,
                },
                value: sample.value,
            })
            .collect()
    }
}

impl From<import::types::Error> for Error {
    fn from(error: import::types::Error) -> Self {
        match error {
            import::types::Error::Denied => Self::Denied,
            import::types::Error::UnknownChannel => Self::UnknownChannel,
            import::types::Error::TooLarge => Self::TooLarge,
            import::types::Error::InvalidName => Self::InvalidName,
            import::types::Error::QuotaExceeded => Self::QuotaExceeded,
        }
    }
}

/// The component's imports.
struct Imports;

impl Host for Imports {
    fn log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        let level = match level {
            Level::Trace => import::log::Level::Trace,
            Level::Debug => import::log::Level::Debug,
            Level::Info => import::log::Level::Info,
            Level::Warn => import::log::Level::Warn,
            Level::Error => import::log::Level::Error,
        };
        Ok(import::log::write(level, text)?)
    }

    fn monotonic(&mut self) -> Instant {
        Instant { nanoseconds: import::clock::monotonic() }
    }

    fn wall(&mut self) -> Duration {
        Duration::from_nanos(import::clock::wall())
    }

    fn entropy(&mut self, length: u32) -> Vec<u8> {
        import::entropy::bytes(length)
    }

    fn config_get(&mut self, key: &str) -> Option<String> {
        import::config::get(key)
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

    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        Ok(import::state::keys(prefix, after, limit)?)
    }

    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        let messages = import::channel::receive(channel, max)?;
        Ok(messages
            .into_iter()
            .map(|message| Message { sequence: message.sequence, payload: message.payload })
            .collect())
    }

    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error> {
        Ok(import::metric::counter_add(name, delta)?)
    }

    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error> {
        Ok(import::metric::gauge_set(name, value)?)
    }
}
