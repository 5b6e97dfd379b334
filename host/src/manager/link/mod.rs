//! Links: what the manager and a peer, a worker or a native daemon, say to each other.
//!
//! `session` is the machine of a link: who may speak, and what a transaction is. `window` is what was
//! sent to a channel, and `delivery` what of that outlives an incarnation. `peer` moves bytes and hands transactions to the store; `feed` moves a source's
//! items into a channel; `prepare` opens what a daemon needs before it starts.

#[cfg(feature = "manager")]
pub(crate) mod delivery;
#[cfg(feature = "manager")]
pub(crate) mod feed;
#[cfg(feature = "manager")]
pub(crate) mod peer;
#[cfg(feature = "manager")]
pub(crate) mod prepare;
pub mod session;
#[cfg(feature = "manager")]
mod window;
