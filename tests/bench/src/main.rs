//! The timings of the core's machines, and of the bus that threads share, each beside its peer if
//! there is one.
//!
//! `cargo xtask bench core` builds and runs it. Goals are held against medians. What an operation
//! costs includes the loop around it, which is measured too and stands first in the table.
//!
//! - [`rounds`]: how it is measured
//! - [`rules`]: what decides about daemons and calls: limiter, breaker, bucket, lifecycle, supervisor
//! - [`sched`]: picking the next task, for 10 to 100,000 of them
//! - [`caps`]: checking and revoking capabilities, and the record of it
//! - [`flow`]: what is counted, encoded and told: histogram, frames, bus
//! - [`shared_bus`]: the bus across threads and tasks

mod caps;
mod flow;
mod rounds;
mod rules;
mod sched;
mod shared_bus;

use std::{error::Error, path::PathBuf, process::ExitCode};

use duende_report::Report;

/// The errors of a benchmark are for people only.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The packages compared with, as `Cargo.lock` has them.
const PEERS: [&str; 3] = ["duende-policy", "hdrhistogram", "tokio"];

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
    let json = json_path()?;
    let versions: Vec<_> = PEERS.iter().map(|name| (*name, locked(name))).collect();
    let mut report = Report::new(&versions)?;
    report.add(rounds::empty_loop());
    rules::measure_in(&mut report)?;
    sched::measure_in(&mut report)?;
    caps::measure_in(&mut report)?;
    flow::measure_in(&mut report)?;
    shared_bus::measure_in(&mut report)?;
    std::fs::write(&json, report.to_json()?)
        .map_err(|error| format!("{}: {error}", json.display()))?;
    print!("{report}");
    Ok(report.is_met())
}

/// `--json FILE`: where the result goes.
fn json_path() -> Result<PathBuf> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match words.as_slice() {
        [flag, path] if flag == "--json" => Ok(path.into()),
        _ => Err("this is run by `cargo xtask bench core`".into()),
    }
}

/// The version of a package that this crate is locked to.
fn locked(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let mut lines = lock.lines();
    lines.find(|line| line.strip_prefix("name = \"") == Some(&format!("{package}\"")));
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    version.map_or("of an unknown version", |version| version.trim_end_matches('"'))
}
