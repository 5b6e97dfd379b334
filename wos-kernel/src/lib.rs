#![no_std]
#![deny(unsafe_code)]
//! WOS, the WebAssembly OS: a kernel whose processes are components.
//!
//! 1. **The kernel is pure.** It takes commands and the time, runs one slice when told to
//!    ([`Kernel::step`]), and hands out events. It opens nothing, reads no clock by itself and starts
//!    no thread: what it needs of the machine is the [`Machine`] trait.
//! 2. **A slice is a transaction.** [`Context`] gathers what one call of an export received, wrote
//!    and counted; it becomes one run of events when the call returns, and nothing otherwise.
//! 3. **An [`Executor`] runs slices.** The wasmtime executor (feature `wasmtime`, module
//!    [`engine`]) is the only one that ships; the kernel's own tests use a scripted one.
//! 4. **The manager decides about restarts.** PID 1 is the parent of what the manager creates: it
//!    reaps and reports, and starts nothing again by itself.
//! 5. **Everything is bounded**, by named limits: see [`limits`].
//! 6. **The rules are the core's.** Who runs next (`duende_core::sched`), how much of a channel waits
//!    (`ipc`), what a process may call (`caps`) and hold (`policy::quota`), which lines of a log are
//!    dropped (`policy::gate`), what is remembered for a halt (`recorder`): the kernel says what
//!    happened, and does what they answer. Its own are the transaction, the order of questions, pauses,
//!    and the bound on open slices.
//!
//! The same crate is hosted by `duende wos-worker` and, without `std`, boots on bare metal.

extern crate alloc;
#[cfg(test)]
extern crate std;

mod authority;
mod context;
#[cfg(feature = "wasmtime")]
pub mod engine;
mod executor;
mod inbox;
mod kernel;
pub mod limits;
mod log_ring;
mod machine;
mod meter;
mod paging;
mod process;
mod quota;
mod state;

pub use context::{Config, ConfigValue, Context, SyscallError};
pub use executor::{
    Call, Check, Ending, Executor, Fault, Health, HealthStatus, ImageState, Next, Progress, Return,
    Sample, SampleValue, Wake, WakeReasons,
};
pub use inbox::Message;
pub use kernel::{Emit, Kernel, ProtocolError};
pub use log_ring::LogRing;
pub use machine::Machine;
pub use process::{Pid, ProcessState, ProcessView};
