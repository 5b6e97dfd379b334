//! `[compile]`: what making components ready may cost.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::Report;
use super::reader::Section;

/// How components are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileConfig {
    /// Most address space of one compilation, in bytes.
    pub memory_bytes: u64,
    /// Most processor time of one compilation.
    pub cpu_time: Duration,
    /// Most time of one compilation.
    pub timeout: Duration,
    /// How many are compiled at once; none: as many as the machine has processors.
    pub jobs: Option<u32>,
    /// Most bytes of the cache of compiled components.
    pub cache_bytes: u64,
}

impl Default for CompileConfig {
    /// Each language's components get through with these on a machine of 2 processors and 2 GiB:
    /// docs/components.md has what they took.
    fn default() -> Self {
        Self {
            memory_bytes: 1_536 << 20,
            cpu_time: Duration::from_secs(120),
            timeout: Duration::from_secs(300),
            jobs: None,
            cache_bytes: 2 << 30,
        }
    }
}

/// Below the least of it no component of a few bytes is compiled.
const MEMORY: RangeInclusive<u64> = 128 << 20..=64 << 30;
const TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
const JOBS: RangeInclusive<u32> = 1..=256;
const CACHE: RangeInclusive<u64> = 1 << 20..=1 << 40;

pub(super) fn read(mut section: Section<'_>, report: &mut Report<'_>) -> CompileConfig {
    let default = CompileConfig::default();
    let memory_bytes = section.take("memory_bytes").and_then(|entry| entry.bytes(report, MEMORY));
    let cpu_time = section.take("cpu_time").and_then(|entry| entry.duration(report, TIME));
    let timeout = section.take("timeout").and_then(|entry| entry.duration(report, TIME));
    let jobs = section.take("jobs").and_then(|entry| entry.integer_u32(report, JOBS));
    let cache_bytes = section.take("cache_bytes").and_then(|entry| entry.bytes(report, CACHE));
    section.finish(report);
    CompileConfig {
        memory_bytes: memory_bytes.unwrap_or(default.memory_bytes),
        cpu_time: cpu_time.unwrap_or(default.cpu_time),
        timeout: timeout.unwrap_or(default.timeout),
        jobs,
        cache_bytes: cache_bytes.unwrap_or(default.cache_bytes),
    }
}
