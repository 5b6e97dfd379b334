//! Reads what is particular to a component on WOS.

use std::path::PathBuf;

use super::diagnostic::Report;
use super::limits::{MEMORY_RANGE, STATE_RANGE, finish_limits, take_limits};
use super::model::{MEMORY_BYTES, PRIORITY, SLICE_BUDGET, STATE_BYTES, WosConfig};
use super::reader::Section;
use super::reading::FROM_1_MS;

/// What only a process of the machine has.
pub(super) const NATIVE_KEYS: [&str; 13] = [
    "args",
    "env",
    "env_file",
    "working_dir",
    "user",
    "group",
    "link",
    "stop_signal",
    "stop_scope",
    "notify_access",
    "pid_file",
    "ready",
    "watchdog",
];

/// Reads the keys of a component.
pub(super) fn read(
    section: &mut Section<'_>,
    image: PathBuf,
    report: &mut Report<'_>,
) -> WosConfig {
    // Of the last two there is more to say.
    for key in NATIVE_KEYS.into_iter().filter(|key| !matches!(*key, "ready" | "watchdog")) {
        let help = "remove the key; what a component needs to know goes into [daemon.config]";
        section.refuse(report, key, "a component has no such thing", help);
    }
    let why = "a component is ready when its `init` returns";
    section.refuse(report, "ready", why, "remove the key");

    let priority = section.take("priority").and_then(|entry| entry.integer(report, 0..=7));
    let slice_budget =
        section.take("slice_budget").and_then(|entry| entry.duration(report, FROM_1_MS));
    let mut memory_bytes = None;
    let mut state_bytes = None;
    if let Some(mut limits) = take_limits(section, report) {
        memory_bytes = limits
            .take_either(report, "memory_bytes", "memory_limit")
            .and_then(|entry| entry.bytes(report, MEMORY_RANGE));
        state_bytes = limits.take("state_bytes").and_then(|entry| entry.bytes(report, STATE_RANGE));
        let why = "a component has no descriptors";
        limits.refuse(report, "open_files_max", why, "remove the key");
        finish_limits(limits, report);
    }
    WosConfig {
        image,
        priority: priority.and_then(|value| u8::try_from(value).ok()).unwrap_or(PRIORITY),
        slice_budget: slice_budget.unwrap_or(SLICE_BUDGET),
        memory_bytes_max: memory_bytes.unwrap_or(MEMORY_BYTES),
        state_bytes_max: state_bytes.unwrap_or(STATE_BYTES),
    }
}
