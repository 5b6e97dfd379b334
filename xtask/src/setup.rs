//! `cargo xtask setup`: everything that the other verbs need, found or installed.

use std::fs;

use crate::debian;
use crate::shell::{self, Error, say};
use crate::wasm::{THUMBV7EM, Toolchain, WASM32};

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    shell::no_arguments(arguments)?;
    for target in [WASM32, THUMBV7EM] {
        Toolchain::prepare(target)?;
        say(&format!("ready to compile for {}", target.triple));
    }
    libfaketime();
    Ok(())
}

/// The library by which the test of F101 turns a program's clock back. Only that test needs it, and
/// says so where it is not there.
fn libfaketime() {
    const FILE: &str = "faketime/libfaketime.so.1";
    let is_there = || {
        let directories = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        directories.into_iter().any(|directory| directory.path().join(FILE).is_file())
    };
    if !is_there()
        && debian::is_debian()
        && let Err(error) = debian::install(&["faketime"])
    {
        say(&error.to_string());
    }
    let found =
        if is_there() { "libfaketime is there" } else { "no libfaketime: F101 can't be tried" };
    say(found);
}
