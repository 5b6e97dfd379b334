//! What a benchmark measured, where, and whether it is good enough: as a table and as JSON.
//!
//! Rules:
//! 1. A measure has samples of one or more contenders, taken in turns by whoever measured, so that
//!    what slows the machine down slows all of them.
//! 2. What counts against a goal is stated with it: a rank of our samples, the ratio of two medians, or
//!    how often an operation went to the allocator.
//! 3. A goal that is missed is said, and the run does not end well.

use std::{fmt, fs, io, process::Command, thread, time::SystemTime};

use serde::Serialize;

/// A whole run.
#[derive(Serialize)]
pub struct Report {
    date: String,
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    /// Of what is compared with.
    versions: Vec<Version>,
    measures: Vec<Measure>,
}

#[derive(Serialize)]
struct Version {
    package: String,
    version: String,
}

/// One figure of one or more contenders.
#[derive(Serialize)]
pub struct Measure {
    name: String,
    what: String,
    contenders: Vec<Contender>,
    goals: Vec<Goal>,
}

/// The times of one contender, in nanoseconds.
#[derive(Serialize)]
struct Contender {
    name: String,
    samples: usize,
    p50_ns: f64,
    p90_ns: f64,
    p99_ns: f64,
    /// How often the operations went to the allocator; none if that was not counted.
    allocations: Option<u64>,
}

/// What a measure should come to, and whether it does.
#[derive(Serialize)]
struct Goal {
    what: String,
    max: f64,
    found: f64,
    met: bool,
}

/// Which of the sorted samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// The median.
    P50,
    /// What 99 of 100 samples do not exceed.
    P99,
}

impl Report {
    /// A report of this machine, without measures. `versions` are the packages compared with.
    ///
    /// # Errors
    /// When the machine does not say what it is.
    pub fn new(versions: &[(&str, &str)]) -> io::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let cpu =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let rustc = Command::new("rustc").arg("--version").output()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let version = |&(package, version): &(&str, &str)| Version {
            package: package.to_owned(),
            version: version.to_owned(),
        };
        Ok(Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cores: thread::available_parallelism()?.get(),
            kernel: release.trim().to_owned(),
            rustc: String::from_utf8_lossy(&rustc.stdout).trim().to_owned(),
            versions: versions.iter().map(version).collect(),
            measures: Vec::new(),
        })
    }

    /// Adds a measure.
    pub fn add(&mut self, measure: Measure) {
        self.measures.push(measure);
    }

    /// Whether every goal is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.measures.iter().flat_map(|measure| &measure.goals).all(|goal| goal.met)
    }

    /// The report for programs.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Measure {
    /// A measure without contenders: its name, and what one sample is.
    #[must_use]
    pub fn new(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self { name: name.into(), what: what.into(), contenders: Vec::new(), goals: Vec::new() }
    }

    /// Adds a contender with its samples in nanoseconds.
    #[must_use]
    pub fn contender(self, name: impl Into<String>, samples_ns: Vec<f64>) -> Self {
        self.counted(name, samples_ns, None)
    }

    /// Adds a contender of which it is known how often it went to the allocator.
    #[must_use]
    pub fn counted(
        mut self,
        name: impl Into<String>,
        mut samples_ns: Vec<f64>,
        allocations: Option<u64>,
    ) -> Self {
        samples_ns.sort_unstable_by(f64::total_cmp);
        let rank = |percent: usize| {
            let index = (samples_ns.len() * percent).div_ceil(100).saturating_sub(1);
            samples_ns.get(index).copied().unwrap_or(f64::NAN)
        };
        self.contenders.push(Contender {
            name: name.into(),
            samples: samples_ns.len(),
            p50_ns: rank(50),
            p90_ns: rank(90),
            p99_ns: rank(99),
            allocations,
        });
        self
    }

    /// A rank of this contender may be at most so many nanoseconds.
    #[must_use]
    pub fn at_most_ns(self, name: &str, rank: Rank, ns_max: f64) -> Self {
        let found = self.find(name).map(|contender| match rank {
            Rank::P50 => contender.p50_ns,
            Rank::P99 => contender.p99_ns,
        });
        let label = if rank == Rank::P50 { "p50" } else { "p99" };
        self.goal(format!("{label} of {name}, in ns"), ns_max, found)
    }

    /// The median of one contender may be at most `ratio_max` times that of another.
    #[must_use]
    pub fn ratio_at_most(self, name: &str, other: &str, ratio_max: f64) -> Self {
        let found =
            self.find(name).zip(self.find(other)).map(|(ours, other)| ours.p50_ns / other.p50_ns);
        self.goal(format!("ratio of {name} to {other}"), ratio_max, found)
    }

    /// This contender may not go to the allocator.
    #[must_use]
    pub fn without_allocations(self, name: &str) -> Self {
        // A count this small is exact as a float.
        let found = self.find(name).and_then(|contender| contender.allocations);
        self.goal(format!("allocations of {name}"), 0.0, found.map(|count| count as f64))
    }

    fn find(&self, name: &str) -> Option<&Contender> {
        self.contenders.iter().find(|contender| contender.name == name)
    }

    /// A goal whose figure is not there is missed.
    fn goal(mut self, what: String, max: f64, found: Option<f64>) -> Self {
        let found = found.unwrap_or(f64::NAN);
        self.goals.push(Goal { what, max, found, met: found <= max });
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} · {} cores · {}", self.date, self.cores, self.cpu)?;
        write!(f, "Linux {} · {}", self.kernel, self.rustc)?;
        for Version { package, version } in &self.versions {
            write!(f, " · {package} {version}")?;
        }
        writeln!(f)?;
        for measure in &self.measures {
            write!(f, "\n{measure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.what)?;
        writeln!(f, "  {:<32} {:>8} {:>12} {:>12} {:>12}", "", "samples", "p50", "p90", "p99")?;
        for Contender { name, samples, p50_ns, p90_ns, p99_ns, .. } in &self.contenders {
            let [p50, p90, p99] = [p50_ns, p90_ns, p99_ns].map(|ns| duration(*ns));
            writeln!(f, "  {name:<32} {samples:>8} {p50:>12} {p90:>12} {p99:>12}")?;
        }
        for Goal { what, max, found, met } in &self.goals {
            let verdict = if *met { "met" } else { "MISSED" };
            writeln!(f, "  {what}: {found:.2}, at most {max:.2}: {verdict}")?;
        }
        Ok(())
    }
}

/// In the unit that people would choose.
fn duration(ns: f64) -> String {
    if ns < 1_000.0 {
        format!("{ns:.2} ns")
    } else if ns < 1_000_000.0 {
        format!("{:.2} µs", ns / 1_000.0)
    } else {
        format!("{:.2} ms", ns / 1_000_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_held_against_what_was_measured() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let measure = Measure::new("m", "a thing")
            .counted("ours", samples, Some(0))
            .contender("theirs", vec![100.0])
            .at_most_ns("ours", Rank::P50, 50.0)
            .at_most_ns("ours", Rank::P99, 98.0)
            .ratio_at_most("ours", "theirs", 0.5)
            .ratio_at_most("theirs", "ours", 1.9)
            .without_allocations("ours")
            .without_allocations("theirs")
            .at_most_ns("nobody", Rank::P50, 1e9);
        let met: Vec<bool> = measure.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, false, true, false, true, false, false]);
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(duration(3.256), "3.26 ns");
        assert_eq!(duration(20_000.0), "20.00 µs");
        assert_eq!(duration(2_500_000.0), "2.50 ms");
    }
}
