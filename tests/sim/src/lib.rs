#![forbid(unsafe_code)]
//! The simulator: whole worlds of the core's machines, driven from a seed through faults of every kind
//! and judged after every step.
//!
//! A run that fails can be had again from its seed, and is shortened: see [`shrink`].
//!
//! | module | idea |
//! |---|---|
//! | [`draw`] | chance from a seed |
//! | [`swarm`] | which faults and inputs are likely in one world |
//! | [`generator`] | the environment that is played by chance |
//! | [`oracle`] | independent opinions of what the world should answer |
//! | [`calm`] | the quiet phase, in which what was promised has to come |
//! | [`run`] | worlds one after the other, and steps judged |
//! | [`shrink`] | a failing run made short |
//! | [`trace`] | runs in files |

// A test program: a broken promise of its own is a panic.
#![allow(clippy::indexing_slicing)]

mod bytes;
pub mod calm;
pub mod draw;
pub mod failure;
pub mod generator;
pub mod oracle;
pub mod run;
pub mod shrink;
pub mod swarm;
pub mod trace;
