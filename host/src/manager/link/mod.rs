//! Links: what the manager and a peer, a worker or a native daemon, say to each other.
//!
//! `session` is the machine of a link: who may speak, and what a transaction is. `window` is what was
//! sent to a channel. `peer` moves bytes and hands transactions to the store; `feed` moves a source's
//! items into a channel; `prepare` opens what a daemon needs before it starts.

pub(crate) mod feed;
pub(crate) mod peer;
pub(crate) mod prepare;
pub(crate) mod session;
