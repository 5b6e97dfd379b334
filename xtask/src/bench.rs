//! `cargo xtask bench`: timings, each beside what it is measured against.
//!
//! - `bench`: the spine, by the benchmark `spine` of crate `duende`. The verb gets together what that
//!   needs: the components, a C compiler, runit.
//! - `bench sources`: what a line costs from a followed file to durable state, by the benchmark `sources` of
//!   crate `duende`.
//! - `bench core`: the core's machines and the bus that threads share, by the crate `duende-bench` in
//!   `tests/bench`. It is a workspace of its own, for its peers bring 150 packages; they are built
//!   below `target/bench-core`.

use std::fs;
use std::process::Command;

use crate::shell::{self, Error, at, say};
use crate::{guests, tools};

/// The benchmark of the core.
const CORE_MANIFEST: &str = "tests/bench/Cargo.toml";

/// What `--help` says.
const HELP: &str = "\
usage: cargo xtask bench [core|sources]
  cargo xtask bench           the spine: deploy, slice, restart -> artifacts/bench.json
  cargo xtask bench core      the core's machines and the bus   -> artifacts/bench-core.json
  cargo xtask bench sources   a line of a log, 150 idle logs    -> artifacts/bench-sources.json
The exit status is 0 only if every goal was met.";

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments {
        [] => spine(),
        [word] if word == "core" => core(),
        [word] if word == "sources" => sources(),
        [flag] if flag == "--help" || flag == "-h" => {
            eprintln!("{HELP}");
            Ok(())
        }
        [other, ..] => Err(Error::Usage(format!("no such benchmark: `{other}`\n{HELP}"))),
    }
}

/// The core's machines, and the bus.
fn core() -> Result<(), Error> {
    let artifacts = shell::root().join("artifacts");
    fs::create_dir_all(&artifacts).map_err(at(&artifacts))?;
    let json = artifacts.join("bench-core.json");
    say("building the benchmark and its peers in release; the first time takes several minutes");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(shell::root())
        .args(["run", "--quiet", "--release", "--locked", "--manifest-path", CORE_MANIFEST])
        .arg("--target-dir")
        .arg(shell::target_dir().join("bench-core"))
        .arg("--")
        .arg("--json")
        .arg(&json);
    shell::run(&mut cargo)?;
    say(&format!("written: {}", json.display()));
    Ok(())
}

/// Followed files.
fn sources() -> Result<(), Error> {
    guests::build()?;
    let artifacts = shell::root().join("artifacts");
    let json = artifacts.join("bench-sources.json");
    say("building the program and the benchmark in release; the first time takes several minutes");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(["build", "--quiet", "--release", "-p", "log-sentinel"]);
    shell::run(&mut cargo)?;
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(shell::root())
        .args(["bench", "--quiet", "-p", "duende", "--bench", "sources", "--"])
        .arg("--artifacts")
        .arg(artifacts)
        .arg("--log-sentinel")
        .arg(shell::target_dir().join("release/log-sentinel"))
        .arg("--json")
        .arg(&json);
    shell::run(&mut cargo)?;
    say(&format!("written: {}", json.display()));
    Ok(())
}

/// The spine.
fn spine() -> Result<(), Error> {
    guests::build()?;
    let artifacts = shell::root().join("artifacts");
    let json = artifacts.join("bench.json");
    let runit = tools::RUNIT.prepare()?;
    say("building the benchmark in release; the first time takes several minutes");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(shell::root())
        .args(["bench", "--quiet", "-p", "duende", "--bench", "spine", "--"])
        .arg("--artifacts")
        .arg(artifacts)
        .arg("--runit")
        .arg(runit.parent().unwrap_or(&runit))
        .arg("--json")
        .arg(&json);
    shell::run(&mut cargo)?;
    say(&format!("written: {}", json.display()));
    Ok(())
}
