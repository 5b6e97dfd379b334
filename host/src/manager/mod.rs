//! The manager of a fleet: the machine that decides, and the drivers around it.
//!
//! - [`decide`] is the machine: events in, effects out, no I/O. `plan` is the configuration as it takes
//!   it.
//! - [`link`] is what is said over links: who may speak, transactions, and the feeds of channels.
//! - [`turn`] is whose turn it is to be heard.
//! - `serve` owns the machines, hears everybody in turn, performs its effects, and answers what people
//!   ask.
//! - `control_server` (with `control_client`, one connection, and `control_places`, how many there may be) is
//!   the sockets at which people ask, `notify` the one at which daemons tell; `journal` is what happened.
//!
//! A driver reads, writes and never decides; the machine decides and does neither. Where daemons run is
//! behind [`crate::backend`].

#[cfg(feature = "manager")]
mod control_client;
#[cfg(feature = "manager")]
mod control_places;
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
pub mod turn;

#[cfg(feature = "manager")]
pub use control_server::ReadOnlySocket;
#[cfg(feature = "manager")]
pub(crate) use serve::LOCK as MANAGER_LOCK;
#[cfg(feature = "manager")]
pub use serve::{ManagerError, Outcome, ServeOptions, serve};
