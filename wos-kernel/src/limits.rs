//! The limits of a WOS, each with its unit. Those that cross the link stand in
//! `duende_core::wire::link`.

use core::num::NonZeroU32;

/// Most processes, PID 1 included: what WOS's authors published.
pub const PROCESSES_MAX: u32 = 1_001;
/// Most slices that are open (preempted) at once: each has an unfinished transaction and pages of a stack
/// in use. Some of the places are kept for the more urgent (`kernel/places.rs`).
pub const OPEN_SLICES_MAX: usize = 256;
/// Most log lines that wait for the kernel's owner. A line over it is dropped and counted.
pub const LOG_LINES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_023);
/// Most keys that one slice writes.
pub const SLICE_WRITES_MAX: usize = 1_024;
/// Most bytes that one `entropy.bytes` yields.
pub const ENTROPY_BYTES_MAX: u32 = 65_536;
/// The same in contract 0.1, which has no word for more.
pub const ENTROPY_BYTES_MAX_0_1: u32 = 1_024;
/// Most payload that one `state.entries` yields, in bytes.
pub const ENTRIES_BYTES_MAX: usize = 1_048_576;
/// Most fields of one line of the log.
pub const LOG_FIELDS_MAX: usize = 32;
/// Most checks of one health report that are told.
pub const HEALTH_CHECKS_MAX: usize = 16;
/// Most labels of one sample.
pub const LABELS_MAX: usize = 8;
/// Most buckets of one histogram.
pub const BUCKETS_MAX: usize = 32;
/// Most payload that one `channel.receive` yields, in bytes.
pub const RECEIVE_BYTES_MAX: usize = 1_048_576;
/// Most questions (health, metrics) that wait for one process. A question over it replaces the
/// oldest, whose asker has given up by then.
pub const QUESTIONS_MAX: usize = 4;
/// Most keys that one `state.keys` yields.
pub const KEYS_MAX: u32 = 1_024;
/// The period of the preemption clock, in nanoseconds.
pub const TICK_NS: u64 = 1_000_000;
/// Entries that the flight recorder keeps.
pub const RECORDS_MAX: usize = 256;
/// Steps of the kernel from one look at a row of the process table to the next.
pub const PATROL_STEPS: u32 = 64;
