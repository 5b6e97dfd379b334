#![no_std]
#![forbid(unsafe_code)]
//! A whole world of the core's machines behind one input that can be written down.
//!
//! The core decides the same on every target: that is its promise, and this crate is what it is held
//! to. A [`World`] owns a machine of every kind in fixed arrays and wires them together where that
//! means something; a [`Step`] is what happens to it; what it answers is hashed. `duende-sim` drives
//! worlds through millions of steps and looks at every answer; `duende-replay` takes one recorded run
//! through a native build, wasm32 and a Cortex-M, and compares the hashes.
//!
//! # How the machines are wired
//!
//! - A process that was spawned gets a holder's number. Once it is Running it is a task of the
//!   scheduler, holds a capability to send, has a seat and credits in the channel, and is reported
//!   healthy.
//! - A message is sent if the capability table lets its sender and the channel has a credit for it, or
//!   the policy does without.
//! - When a process ends its task is taken out, its capabilities are revoked and its seat is given up.
//!   If it failed, that is published on the bus, recorded, and reported as ill health.
//! - Every grant, delegation, revocation and refusal goes into the audit log.
//! - A lamp of the andon board that is lit or goes out is published and recorded.
//! - What comes of a call through the breaker is a request of the RED set.
//!
//! # Map
//!
//! | file | idea |
//! |---|---|
//! | `input.rs` | what a world is told |
//! | `seen.rs` | what it answers |
//! | `world.rs` | which machine is told what |
//! | `daemons.rs` | the supervisor's owner: what its effects lead to elsewhere |
//! | `powers.rs` | capabilities and their audit log |
//! | `mail.rs` | the channel and the fan-out |
//! | `news.rs` | the bus, the recorder, health |
//! | `policies.rs` | breaker, bucket, gate, quotas, andon, metrics |
//! | `wires.rs` | frames and trace headers |
//! | `digest.rs` | the hash of a run |
//! | `trace.rs` | a run as bytes |

#[cfg(test)]
extern crate std;

mod daemons;
mod digest;
mod input;
mod mail;
mod news;
mod policies;
mod powers;
mod seen;
mod trace;
mod wires;
mod world;

pub use daemons::{GROUPS_OF_DAEMONS, TEMPLATES, template};
pub use digest::Digest;
pub use input::{
    CHUNK_BYTES_MAX, Chunk, DAEMONS, End, Flow, GROUPS, HANDLES, Input, LISTENERS, OWN,
    PAYLOAD_BYTES_MAX, PERMITS, Process, REMOVED, Setup, Step,
};
pub use mail::Payload;
pub use news::News;
pub use seen::{FrameFault, Seen};
pub use trace::{RECORD_BYTES_MAX, Steps, TraceError, TraceReader, write_step};
pub use world::World;
