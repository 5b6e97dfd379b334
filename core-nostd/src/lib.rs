#![no_std]
#![forbid(unsafe_code)]
//! Every rule of Duende, as state machines.

#[cfg(test)]
extern crate std;

pub mod wire;
