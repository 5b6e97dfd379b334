//! `cargo xtask sim`: the simulator, built in release and run with the arguments that are given.

use std::process::Command;

use crate::shell::{self, Error};

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--release", "-p", "duende-sim", "--"]).args(arguments);
    shell::run(&mut cargo)
}
