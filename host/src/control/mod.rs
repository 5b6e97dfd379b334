//! The control socket: what is said on it, and the side of the command line.
//!
//! `docs/control.md` is its description for those who write a client.

#[cfg(feature = "manager")]
pub mod client;
pub mod hex;
pub mod message;
pub mod protocol;
pub mod word;
