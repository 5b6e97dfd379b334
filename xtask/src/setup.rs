//! `cargo xtask setup`: everything that the other verbs need, found or installed.

use crate::shell::{self, Error, say};
use crate::wasm::{THUMBV7EM, Toolchain, WASM32};

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    shell::no_arguments(arguments)?;
    for target in [WASM32, THUMBV7EM] {
        Toolchain::prepare(target)?;
        say(&format!("ready to compile for {}", target.triple));
    }
    Ok(())
}
