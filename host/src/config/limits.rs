//! Reads `limits`. A limit that nothing enforces is refused, not ignored.

use std::ops::RangeInclusive;

use super::diagnostic::Report;
use super::model::{LinkConfig, STATE_BYTES};
use super::reader::Section;
use super::schema::Table;

/// Linear memory, in bytes: from one page to what 32 bits address.
pub(super) const MEMORY_RANGE: RangeInclusive<u64> = 65_536..=4 << 30;
/// State, in bytes. All of it is handed over at each start, hence the upper end.
pub(super) const STATE_RANGE: RangeInclusive<u64> = 1_024..=256 << 20;

/// Reads `limits` of a native program: the link's, and the most open descriptors.
pub(super) fn read_native_limits(
    section: &mut Section<'_>,
    linked: bool,
    report: &mut Report<'_>,
) -> (Option<LinkConfig>, Option<u64>) {
    let mut state_bytes = None;
    let mut open_files_max = None;
    if let Some(mut limits) = take_limits(section, report) {
        for key in ["memory_bytes", "memory_limit"] {
            let why = "not enforced for native programs in this version";
            limits.refuse(report, key, why, "remove the key, or run a component on WOS");
        }
        if linked {
            state_bytes =
                limits.take("state_bytes").and_then(|entry| entry.bytes(report, STATE_RANGE));
        } else {
            let why = "a native program that is not built with the SDK has no state";
            limits.refuse(report, "state_bytes", why, "remove the key");
        }
        open_files_max =
            limits.take("open_files_max").and_then(|entry| entry.integer(report, 16..=1 << 20));
        finish_limits(limits, report);
    }
    let link = LinkConfig { state_bytes_max: state_bytes.unwrap_or(STATE_BYTES) };
    (linked.then_some(link), open_files_max)
}

/// `limits`, or `resources` as the specification's `DaemonConfig` calls it.
pub(super) fn take_limits<'t>(
    section: &mut Section<'t>,
    report: &mut Report<'_>,
) -> Option<Section<'t>> {
    section.take_either(report, "limits", "resources")?.section(
        Table::Limits,
        report,
        "{ memory_bytes = \"64MiB\" }",
    )
}

/// The limits of `ResourceConfig` that nothing enforces yet are refused, not ignored.
pub(super) fn finish_limits(mut limits: Section<'_>, report: &mut Report<'_>) {
    for key in [
        "memory_swap_limit",
        "cpu_quota_percent",
        "cpu_shares",
        "io_read_bps",
        "io_write_bps",
        "pids_max",
    ] {
        limits.refuse(report, key, "not enforced in this version", "remove the key");
    }
    limits.finish(report);
}
