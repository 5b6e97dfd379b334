//! `cargo xtask bench`: timings, each beside what it is measured against.
//!
//! - `bench`: the spine, by the benchmark `spine` of crate `duende`. The verb gets together what that
//!   needs: the components, a C compiler, runit.
//! - `bench core`: the core's machines and the bus that threads share, by the crate `duende-bench` in
//!   `tests/bench`. It is a workspace of its own, for its peers bring 150 packages; they are built
//!   below `target/bench-core`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::guests;
use crate::shell::{self, Error, at, say};

/// What is compared against, as Debian packages it.
const RUNIT: &str = "runit";

/// The benchmark of the core.
const CORE_MANIFEST: &str = "tests/bench/Cargo.toml";

/// What `--help` says.
const HELP: &str = "\
usage: cargo xtask bench [core]
  cargo xtask bench        the spine: deploy, slice, restart -> artifacts/bench.json
  cargo xtask bench core   the core's machines and the bus   -> artifacts/bench-core.json
The exit status is 0 only if every goal was met.";

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments {
        [] => spine(),
        [word] if word == "core" => core(),
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

/// The spine.
fn spine() -> Result<(), Error> {
    guests::build()?;
    let artifacts = shell::root().join("artifacts");
    let json = artifacts.join("bench.json");
    let runit = runit()?;
    say("building the benchmark in release; the first time takes several minutes");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(shell::root())
        .args(["bench", "--quiet", "-p", "duende", "--bench", "spine", "--"])
        .arg("--artifacts")
        .arg(artifacts)
        .arg("--runit")
        .arg(runit)
        .arg("--json")
        .arg(&json);
    shell::run(&mut cargo)?;
    say(&format!("written: {}", json.display()));
    Ok(())
}

/// The directory of runit's programs. If it is not installed its package is fetched and unpacked
/// beside what is built: nothing of it is set up, and no service of the machine is touched.
fn runit() -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(installed) = std::env::split_paths(&path).find(|dir| has_runit(dir)) {
        return Ok(installed);
    }
    let scratch = shell::target_dir().join("bench");
    let programs = scratch.join("usr/bin");
    if has_runit(&programs) {
        return Ok(programs);
    }
    say("fetching runit, to compare with");
    fs::create_dir_all(&scratch).map_err(at(&scratch))?;
    let mut apt = Command::new("apt-get");
    // Root downloads as another user otherwise, who may not write here.
    apt.args(["--quiet=2", "--option", "APT::Sandbox::User=root", "download", RUNIT]);
    shell::run(apt.current_dir(&scratch))?;
    for entry in fs::read_dir(&scratch).map_err(at(&scratch))? {
        let package = entry.map_err(at(&scratch))?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            shell::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&scratch))?;
        }
    }
    Ok(programs)
}

fn has_runit(dir: &Path) -> bool {
    ["runsvdir", "runsv"].iter().all(|program| dir.join(program).is_file())
}
