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
//!
//! # What a syscall means
//!
//! A syscall is a function of the contract (`wit/daemon.wit`). None blocks: what would wait ends the slice.
//!
//! | kind | functions | takes effect | if the slice does not return |
//! |---|---|---|---|
//! | reads | `state.get`, `keys`, `entries`; `config`, `context`, `slice` | at once; `state` shows the slice's own writes | nothing was changed |
//! | writes | `state.set`, `delete`; `metric`; `channel.reject` | with the slice's return, all together | they never were |
//! | receives | `channel.receive` | with the slice's return | the same messages come again, with a higher attempt |
//! | says | `log`, what is printed through WASI | at once | it stays said: it is what is known of the end |
//! | asks the machine | `clock`, `entropy` | at once | |
//!
//! An error has changed nothing, and is one of `denied`, `not-found`, `invalid`, `too-large`, `quota-exceeded`
//! and `other` ([`SyscallError`]). Every limit is a number in [`limits`], and passing it is an error value; so
//! is passing a quota, but for linear memory, where the instruction that asks for it is told -1. In `health-check` and `metrics` what
//! writes or receives is refused. WASI 0.2 is served over the same functions (`engine::wasi`).
//!
//! # Who attacks
//!
//! The daemon does: its code, and every value that it passes or returns. What it is worth to it, and what stands
//! against that:
//!
//! | it wants | against it | tried by |
//! |---|---|---|
//! | what it was not granted | a capability for each interface and channel, looked up before anything else (`authority`) | `context::tests` |
//! | others' memory | the engine's bounds of memories and tables; canonical-ABI values that lie are traps | `tests/tests/bad_input.rs`, `engine::wasi::tests` |
//! | all of the processor | slices end at ticks, by level and aging; a budget for each slice; places for more urgent ones (`kernel::places`) | `kernel::tests::turns` |
//! | all of the memory | quotas in a tree: its own, and the whole kernel's (`quota`) | `kernel::tests::pressure` |
//! | to flood | bounded rings and inboxes: lines are dropped and counted, messages wait with their sender | `log_ring::tests`, `inbox` |
//! | to be another | its address is the kernel's, and no argument | `kernel::tests` |
//! | to take the kernel down | no panic is reachable; a broken invariant halts it with its last words, and others come back from what they committed | `kernel::tests`, `duende_core`'s simulator |
//! | the machine | the kernel has none: it opens nothing, and the process that hosts it gives up what it does not need (`duende::confine`) | `confine::tests` |
//!
//! Not defended against here: a bug of the engine or its compiler that lets code out of its memory. Then the
//! host's walls are what is left.

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
