#![no_std]
#![forbid(unsafe_code)]
//! Every rule of Duende, as state machines.

#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod epitaph;
pub mod lifecycle;
pub mod limiter;
pub mod probe;
pub mod restart;
pub mod supervise;
pub mod time;
pub mod wire;
