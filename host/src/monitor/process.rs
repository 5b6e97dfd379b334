//! What the system knows of a process.

use std::fs;
use std::time::Duration;

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Its resident set, in bytes.
    pub memory_bytes: u64,
    /// The processor time that it has used since it began, in user mode and for it in the kernel.
    pub processor_time: Duration,
    /// How many threads it has.
    pub threads: u32,
}

impl ProcessFigures {
    /// Looks at a process; `None` if it has ended.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads a line of `/proc/PID/stat`. The name in it, in parentheses, may hold anything: what
    /// follows the last parenthesis counts, from the state on, which is the third field.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        let tick_ns = 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second())?;
        let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Self {
            memory_bytes: field(24)?.saturating_mul(page_bytes),
            processor_time: Duration::from_nanos(ticks.saturating_mul(tick_ns)),
            threads: u32::try_from(field(20)?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b) R {}", numbers.join(" "));
        let figures = ProcessFigures::parse(&stat).unwrap();
        let tick = Duration::from_secs(1)
            / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        assert_eq!(figures.processor_time, tick * (14 + 15));
        assert_eq!(figures.memory_bytes, 24 * rustix::param::page_size() as u64);
        assert_eq!(figures.threads, 20);
        for broken in ["", "7 (a", "7 (a) R 4 5", "7 (a) R x"] {
            assert_eq!(ProcessFigures::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_living_process_has_figures_and_a_dead_one_none() {
        let own = ProcessFigures::of(std::process::id()).unwrap();
        assert!(own.memory_bytes > 0 && own.threads >= 1);
        assert_eq!(ProcessFigures::of(u32::MAX), None);
    }
}
