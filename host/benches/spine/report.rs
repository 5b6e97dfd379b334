//! What was measured, where, and whether it is good enough: as a table and as JSON.

use std::{fmt, fs, process::Command, thread, time::SystemTime};

use serde::Serialize;

use super::Result;

/// A whole run.
#[derive(Serialize)]
pub(crate) struct Report {
    date: String,
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    wasmtime: String,
    measures: Vec<Measure>,
}

/// One figure of several contenders; the first one is ours.
#[derive(Serialize)]
struct Measure {
    name: &'static str,
    what: &'static str,
    contenders: Vec<Contender>,
    goals: Vec<Goal>,
}

/// The times of one contender, in nanoseconds.
#[derive(Serialize)]
struct Contender {
    name: &'static str,
    samples: usize,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
}

/// Our median may be at most `ratio_max` times the other's.
#[derive(Serialize)]
struct Goal {
    against: &'static str,
    ratio_max: f64,
    ratio_p50: f64,
    ratio_p90: f64,
    met: bool,
}

impl Report {
    /// A report of this machine, without measures.
    pub(crate) fn new() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let cpu =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let rustc = Command::new("rustc").arg("--version").output()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cores: thread::available_parallelism()?.get(),
            kernel: release.trim().to_owned(),
            rustc: String::from_utf8_lossy(&rustc.stdout).trim().to_owned(),
            wasmtime: locked_version("wasmtime")?,
            measures: Vec::new(),
        })
    }

    /// Adds a measure. `contenders` are the names and the samples in nanoseconds, ours first;
    /// `ratios_max` are the goals against the others, in their order.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        what: &'static str,
        contenders: Vec<(&'static str, Vec<u64>)>,
        ratios_max: &[f64],
    ) {
        let contenders: Vec<Contender> =
            contenders.into_iter().map(|(name, samples)| Contender::new(name, samples)).collect();
        let goals = match contenders.split_first() {
            Some((ours, others)) => others
                .iter()
                .zip(ratios_max)
                .map(|(other, ratio_max)| Goal::new(ours, other, *ratio_max))
                .collect(),
            None => Vec::new(),
        };
        self.measures.push(Measure { name, what, contenders, goals });
    }

    /// Whether every goal is met.
    pub(crate) fn is_met(&self) -> bool {
        self.measures.iter().flat_map(|measure| &measure.goals).all(|goal| goal.met)
    }

    /// The report for programs.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Contender {
    fn new(name: &'static str, mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let rank = |percent: usize| {
            let index = (samples.len() * percent).div_ceil(100).saturating_sub(1);
            samples.get(index).copied().unwrap_or(0)
        };
        Self { name, samples: samples.len(), p50_ns: rank(50), p90_ns: rank(90), p99_ns: rank(99) }
    }
}

impl Goal {
    fn new(ours: &Contender, other: &Contender, ratio_max: f64) -> Self {
        let ratio_p50 = ours.p50_ns as f64 / other.p50_ns as f64;
        let ratio_p90 = ours.p90_ns as f64 / other.p90_ns as f64;
        Self { against: other.name, ratio_max, ratio_p50, ratio_p90, met: ratio_p50 <= ratio_max }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} · {} cores · {}", self.date, self.cores, self.cpu)?;
        writeln!(formatter, "Linux {} · {} · wasmtime {}", self.kernel, self.rustc, self.wasmtime)?;
        for measure in &self.measures {
            writeln!(formatter, "\n{}: {}", measure.name, measure.what)?;
            writeln!(
                formatter,
                "  {:<24} {:>8} {:>12} {:>12} {:>12}",
                "", "samples", "p50 µs", "p90 µs", "p99 µs"
            )?;
            for contender in &measure.contenders {
                let us = |ns: u64| ns as f64 / 1_000.0;
                writeln!(
                    formatter,
                    "  {:<24} {:>8} {:>12.2} {:>12.2} {:>12.2}",
                    contender.name,
                    contender.samples,
                    us(contender.p50_ns),
                    us(contender.p90_ns),
                    us(contender.p99_ns)
                )?;
            }
            for goal in &measure.goals {
                writeln!(
                    formatter,
                    "  ratio to {}: {:.2} (p90: {:.2}), at most {:.2}: {}",
                    goal.against,
                    goal.ratio_p50,
                    goal.ratio_p90,
                    goal.ratio_max,
                    if goal.met { "met" } else { "MISSED" }
                )?;
            }
        }
        Ok(())
    }
}

/// The version of a package that this repository is locked to.
fn locked_version(package: &str) -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock: toml::Table = fs::read_to_string(path)?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let found = packages
        .into_iter()
        .flatten()
        .find(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(package));
    let version = found.and_then(|entry| entry.get("version")?.as_str());
    Ok(version.ok_or("Cargo.lock does not name wasmtime")?.to_owned())
}
