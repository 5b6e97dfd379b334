//! What crosses crates: the claims of the specification and the behaviour of the whole program.
//!
//! This library is the harness; the tests lie in `tests/`, one file for each subject. A test runs
//! the real `duende` on a fleet of its own ([`Fleet`]), asks as people do, by the command line, and
//! reads what `--json` prints by types of its own ([`rows`]): a renamed field is a failing test.
//!
//! Rules:
//! - **No test waits for time to pass.** It waits for an event, a row or a line, with a deadline that
//!   only a failure reaches.
//! - **No test passes silently.** What a machine cannot do is a failure with a text that says so.
//! - **Nothing is left behind.** Each fleet has directories of its own, and when it is dropped, no
//!   process that was started under them may be alive.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what can't be done fails the test that wanted it, with its text"
)]

mod daemons;
pub mod emulator;
mod figure;
mod fleet;
mod process;
pub mod rows;
mod traffic;

pub use daemons::{
    artifact, component, image_at, libfaketime, linked, program, script, tool, unpacked,
};
pub use figure::{Figures, report};
pub use fleet::{Fleet, Outcome, TIMEOUT, duende, under, wait_for};
pub use process::{Process, processes_with};
pub use traffic::{AccessLog, Total, get, line, numbered};
