#![no_std]
#![forbid(unsafe_code)]
//! Every rule of Duende, as state machines: when a daemon is started, stopped and started again, who
//! runs next, and what the parts of the system say to each other.
//!
//! The same code decides in the manager of a Linux host, in a kernel of WebAssembly processes, in a
//! virtual machine without an operating system and in firmware. It performs nothing itself: whoever
//! owns a machine tells it what happened and when, and does what it answers.
//!
//! # Principles
//!
//! 1. **No I/O, no clock, no randomness.** Machines take `(now, input)` and give effects, and say when
//!    they want to be called next. Time and entropy are arguments, so every run can be replayed from
//!    its inputs, and years pass in a test of a second.
//! 2. **Everything is bounded.** Machines live in storage that the caller gives them: arrays on
//!    firmware, a boxed slice on hosts. A limit that is reached is an error value, never growth.
//! 3. **The same inputs give the same effects on every target.** No float, hash order, pointer or wall
//!    clock takes part in a decision.
//! 4. **Illegal states can't be written down**, and what the types can't say is checked: each machine
//!    has `check_invariants`, called after every step in tests. One that finds a rule broken halts
//!    with an [`Epitaph`](epitaph::Epitaph) instead of going on.
//! 5. **One owner.** Machines are `&mut`, without locks or atomics. Who shares one wraps it.
//! 6. **Input is never trusted.** Names carry generations and news carry incarnations: what is stale
//!    is refused or ignored. A clock that stalls or runs to its end, and entropy of all zeros or ones,
//!    are ordinary inputs.
//!
//! # Map
//!
//! | module | what it decides |
//! |---|---|
//! | [`supervise`] | when each daemon is started, stopped, killed, checked and started again |
//! | [`lifecycle`] | the states of one daemon and the steps between them |
//! | [`restart`] | which exits are failures, and which policy starts what again |
//! | [`backoff`] | how long a daemon waits before it is started again |
//! | [`limiter`] | how many restarts are too many |
//! | [`probe`] | when health is asked for, and when a daemon counts as unhealthy |
//! | [`watchdog`] | when a daemon that should report is taken for stuck |
//! | [`sched`] | which task runs next |
//! | [`policy`] | who may go on, and who has to wait, back off or stop |
//! | [`caps`] | what a process may do with what, who gave it that, and how it is taken away |
//! | [`ipc`] | who may send how much to whom, and what becomes of what is too much |
//! | [`bus`] | who is told what happens in the kernel, and what the slow ones miss |
//! | [`health`] | how the whole is, from how its parts are, and whether it is ready |
//! | [`metrics`] | what is counted and how values are distributed, in fixed space |
//! | [`recorder`] | which events are still known when something goes wrong |
//! | [`trace`] | which trace a piece of work belongs to, across processes and machines |
//! | [`wire`] | how messages between processes are laid out, and which there are |
//! | [`time`] | points in time that never overflow |
//! | [`epitaph`] | the last words of a machine whose rules are broken |
//!
//! [`guide`] goes from one daemon to a node in six steps, with programs that run.
//!
//! # A supervised daemon
//!
//! A daemon that crashes comes back after its backoff. The owner of the supervisor would make a
//! process where this example only takes note.
//!
//! ```
//! use core::time::Duration;
//! use duende_core::restart::Exit;
//! use duende_core::supervise::{Effect, Input, Slot, Spec, Supervisor};
//! use duende_core::time::Instant;
//!
//! // Room for four daemons; a host would say `vec![Slot::default(); 1000].into_boxed_slice()`.
//! let mut supervisor = Supervisor::new([const { Slot::EMPTY }; 4]);
//! let id = supervisor.add(Spec::default())?;
//!
//! // Called for each thing that the supervisor wants done.
//! let mut spawned = None;
//! let mut perform = |effect| {
//!     if let Effect::Spawn { incarnation, .. } = effect {
//!         spawned = Some(incarnation);
//!     }
//! };
//!
//! let entropy = u64::MAX; // fixed here: the longest delay
//! let mut now = Instant::ZERO;
//! supervisor.handle(now, entropy, Input::Start(id), &mut perform)?;
//! supervisor.handle(now, entropy, Input::Ready { id, incarnation: 1 }, &mut perform)?;
//!
//! // An hour later it crashes …
//! now = now.saturating_add(Duration::from_secs(3600));
//! let crash = Input::Exited { id, incarnation: 1, exit: Exit::Signal(11) };
//! supervisor.handle(now, entropy, crash, &mut perform)?;
//!
//! // … and 100 ms after that its owner is asked for a new process.
//! let restart_at = supervisor.view(id).and_then(|view| view.restart_at);
//! assert_eq!(restart_at, Some(now.saturating_add(Duration::from_millis(100))));
//! while let Some(deadline) = supervisor.next_deadline().filter(|at| Some(*at) <= restart_at) {
//!     supervisor.handle(deadline, entropy, Input::Tick, &mut perform)?;
//! }
//! assert_eq!(spawned, Some(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod bus;
pub mod caps;
pub mod epitaph;
pub mod guide;
pub mod health;
pub mod ipc;
pub mod lifecycle;
pub mod limiter;
pub mod metrics;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
#[allow(unreachable_pub, dead_code, reason = "all of it is public with the feature")]
mod planted;
pub mod policy;
pub mod probe;
pub mod recorder;
pub mod restart;
mod ring;
pub mod sched;
pub mod supervise;
pub mod time;
pub mod trace;
pub mod watchdog;
pub mod wire;
