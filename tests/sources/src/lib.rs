//! The model of followed logs: the machine that follows one,
//! [`Follow`](duende::source::follow::Follow), over a file system that is played from a seed.
//!
//! - `disk` is that file system: inodes that are given again, links, times, compressors, and steps of
//!   others between any two calls of the reader.
//! - `scheme` is how logs are rotated, each scheme as the steps that its program takes.
//! - `world` is a log that is written and rotated, late writers, a reader that is killed at any step and
//!   goes on from what was committed, people who copy and touch files and put the clock back; and what must
//!   hold: each line once, or none could have read it, and it was told.
//! - `run` plays a history. That is a list of numbers, and is drawn and shrunk as one: `duende-history`.

mod disk;
pub mod run;
mod scheme;
mod world;
