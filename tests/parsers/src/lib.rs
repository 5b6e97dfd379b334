//! What every parser promises, whatever bytes it is given.
//!
//! Each module is one parser, or a family of them, with a function `check` that takes any bytes and
//! panics if a promise is broken. It goes beyond "does not crash": what is accepted is printed and
//! read again, what is refused is refused at a place that exists, and how the bytes arrive makes no
//! difference.
//!
//! Three callers share these functions:
//!
//! - the fuzz targets of `tests/fuzz`, one for each row of [`PARSERS`], run by `cargo fuzz run NAME`,
//!   `cargo xtask fuzz` and, for a few seconds each, `cargo xtask test`;
//! - this crate's own test, which puts every input of `tests/fuzz/corpus` through them, so that
//!   `cargo test` alone keeps a finding from coming back;
//! - whoever looks into a finding: `cargo fuzz run NAME FILE`.
//!
//! Input that needs structure has a simple one, said in the module's header, so that a corpus can be
//! written by hand.

// Panicking is how a broken promise is told here.
#![allow(clippy::panic)]

pub mod access_line;
pub mod control;
pub mod fleet;
pub mod link;
pub mod log_entry;
pub mod message;
pub mod notification;
mod stream;
pub mod trace;

/// A parser's name, which is that of its fuzz target and of its corpus, and its check.
pub type Parser = (&'static str, fn(&[u8]));

/// All of them.
pub const PARSERS: &[Parser] = &[
    ("access_line", access_line::check),
    ("control", control::check),
    ("fleet", fleet::check),
    ("link", link::check),
    ("log_entry", log_entry::check),
    ("message", message::check),
    ("notification", notification::check),
    ("trace", trace::check),
];
