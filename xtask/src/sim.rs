//! `cargo xtask sim`: the simulators, built in release and run with the arguments that are given: that of
//! the core, or with `fleets` in front that of whole fleets under the manager, with `sources` that of followed
//! logs.

use std::process::Command;

use crate::shell::{self, Error};

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let (package, arguments) = match arguments.split_first() {
        Some((first, rest)) if first == "fleets" => ("duende-fleets", rest),
        Some((first, rest)) if first == "sources" => ("duende-sources", rest),
        _ => ("duende-sim", arguments),
    };
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--release", "-p", package, "--"]).args(arguments);
    shell::run(&mut cargo)
}
