//! Write a daemon once; run it as a WebAssembly component or as a native process.
//!
//! A daemon implements [`Daemon`]: it is called for one slice of work at a time and says what it
//! waits for. It reaches the world through the [`Context`] that it is given. In the daemon's
//! `lib.rs`:
//!
//! ```
//! use duende_sdk::{Context, Daemon, Failure, Level, Next, Wake};
//!
//! struct Greeter;
//!
//! impl Daemon for Greeter {
//!     fn init(_: &mut Context<'_>) -> Result<Self, Failure> {
//!         Ok(Self)
//!     }
//!
//!     fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
//!         context.log(Level::Info, "hello");
//!         Ok(Next::Wait)
//!     }
//! }
//!
//! duende_sdk::export!(Greeter);
//! ```
//!
//! `export!` makes the crate's `cdylib` a component of the world in `wit/daemon.wit`; on other
//! targets it expands to nothing. The native program of the same daemon is its `main.rs`:
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     duende_sdk::native::run::<greeter::Greeter>()
//! }
//! ```
//!
//! Its tests drive it through `testing::Manager`, in memory.

mod context;
mod daemon;
mod durable;
mod failure;
mod program;
mod settings;
mod types;

#[cfg(not(target_arch = "wasm32"))]
mod executor;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use context::{Config, Context, Metric, State};
pub use daemon::Daemon;
pub use durable::{Durable, Kept, PREFIX as DURABLE_PREFIX};
pub use failure::{Failure, Outcome};
pub use program::{EVENT_MESSAGES_MAX, Event, Handle, Program, Running};
pub use types::{
    Datetime, Error, Health, HealthCheck, HealthStatus, Instant, Level, Message, Next, Part,
    Sample, SampleValue, Scarcity, Value, Wake, WakeReasons,
};

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod component;

/// Makes the crate a component whose daemon is the given type; `durable TYPE` if it is a [`Durable`], `program
/// TYPE` if it is a [`Program`]. Once in a crate's `lib.rs`.
#[macro_export]
macro_rules! export {
    (durable $daemon:ty) => {
        $crate::export!($crate::Kept<$daemon>);
    };
    (program $daemon:ty) => {
        $crate::export!($crate::Running<$daemon>);
    };
    ($daemon:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::component::Component<$daemon>;
            $crate::component::bindings::export_world!(
                Exported with_types_in $crate::component::bindings
            );
        };
    };
}
