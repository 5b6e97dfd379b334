//! The control socket: what is said on it, and the side of the command line.

pub mod client;
pub mod protocol;
