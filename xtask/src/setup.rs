//! `cargo xtask setup`: everything that the other verbs need, found or fetched. Nothing is installed.

use crate::shell::{self, Error, say};
use crate::tools;
use crate::wasm::{THUMBV7EM, Toolchain, WASM32};

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    shell::no_arguments(arguments)?;
    for target in [WASM32, THUMBV7EM] {
        let toolchain = Toolchain::prepare(target)?;
        say(&format!("ready to compile for {} with {toolchain}", target.triple));
    }
    // What tests run; what only a benchmark runs is fetched for it.
    let rotating = [tools::LOGROTATE, tools::ZSTD, tools::SVLOGD, tools::MULTILOG, tools::S6_LOG];
    for tool in [tools::QEMU, tools::FAKETIME, tools::CXX, tools::PYTHON].iter().chain(&rotating) {
        say(&format!("ready: {}", tool.prepare()?.display()));
    }
    Ok(())
}
