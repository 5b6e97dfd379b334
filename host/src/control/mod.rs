//! The control socket: what is said on it, and the side of the command line.

#[cfg(feature = "manager")]
pub mod client;
pub mod protocol;
