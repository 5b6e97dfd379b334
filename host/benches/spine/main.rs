//! The timings of the spine, each beside what it is measured against, in one run.
//!
//! `cargo xtask bench` builds what this needs and runs it. The contenders of a measure take turns,
//! round by round, so that whatever slows the machine down slows all of them; what counts is the
//! ratio of their medians.
//!
//! - [`wos`]: deploying a component and running a slice, against wasmtime alone
//! - [`restart`]: from the kill of a native daemon to its next process, against a loop in C and runit

mod restart;
mod wos;

use std::{error::Error, path::PathBuf, process::ExitCode};

use duende_report::Report;

/// The errors of a benchmark are for people only.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where what the run needs lies, and where its result goes.
struct Arguments {
    /// `--artifacts`: the components.
    artifacts: PathBuf,
    /// `--runit`: the directory of `runsvdir` and `runsv`.
    runit: PathBuf,
    /// `--json`: the file to write.
    json: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every goal is met.
fn run() -> Result<bool> {
    let arguments = arguments()?;
    let wasmtime = locked_version("wasmtime")?;
    let mut report = Report::new(&[("wasmtime", &wasmtime)])?;
    wos::measure(&arguments.artifacts, &mut report)?;
    restart::measure(&arguments.runit, &mut report)?;
    std::fs::write(&arguments.json, report.to_json()?)
        .map_err(|error| format!("{}: {error}", arguments.json.display()))?;
    print!("{report}");
    Ok(report.is_met())
}

fn arguments() -> Result<Arguments> {
    let (mut artifacts, mut runit, mut json) = (None, None, None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let place = match word.to_str() {
            // What cargo adds.
            Some("--bench") => continue,
            Some("--artifacts") => &mut artifacts,
            Some("--runit") => &mut runit,
            Some("--json") => &mut json,
            _ => return Err(format!("no such argument: {}", word.display()).into()),
        };
        *place = words.next().map(PathBuf::from);
    }
    match (artifacts, runit, json) {
        (Some(artifacts), Some(runit), Some(json)) => Ok(Arguments { artifacts, runit, json }),
        _ => Err("this is run by `cargo xtask bench`".into()),
    }
}

/// The version of a package that this repository is locked to.
fn locked_version(package: &str) -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock: toml::Table = std::fs::read_to_string(path)?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let found = packages
        .into_iter()
        .flatten()
        .find(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(package));
    let version = found.and_then(|entry| entry.get("version")?.as_str());
    Ok(version.ok_or("Cargo.lock does not name wasmtime")?.to_owned())
}
