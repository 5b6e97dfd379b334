//! The manager of a fleet: the machine that decides, and the drivers around it.
//!
//! - [`decide`] is the machine: events in, effects out, no I/O. `plan` is the configuration as it takes
//!   it.
//! - [`link`] is what is said over links: who may speak, transactions, and the feeds of channels.
//! - `serve` owns the machine, hears everybody in turn, performs its effects, and answers what people
//!   ask.
//! - `control_server` (and `control_client`, one connection) and `notify` are the two sockets; `journal` is
//!   what happened.
//!
//! A driver reads, writes and never decides; the machine decides and does neither. Where daemons run is
//! behind [`crate::backend`].

#[cfg(feature = "manager")]
mod control_client;
#[cfg(feature = "manager")]
mod control_server;
pub mod decide;
#[cfg(feature = "manager")]
mod journal;
pub mod link;
#[cfg(feature = "manager")]
mod notify;
#[cfg(feature = "manager")]
mod plan;
#[cfg(feature = "manager")]
pub(crate) mod printer;
#[cfg(feature = "manager")]
mod scribe;
#[cfg(feature = "manager")]
mod serve;

#[cfg(feature = "manager")]
pub use serve::{ManagerError, Outcome, ServeOptions, serve};
