//! How many components this process has room for, by what the system allows it.
//!
//! Two things run out before memory does: addresses (`ulimit -v`), and mappings (`vm.max_map_count`). Who
//! passes the second one is refused even the memory that its own allocator asks for, and dies; so it is
//! looked at beforehand.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::engine::in_gib;

/// Most mappings that a running component takes (`tests/tests/thousand.rs` counts them).
const MAPPINGS_PER_COMPONENT: u64 = 8;
/// Mappings that are left to the process itself: code, heap, threads, and images.
const MAPPINGS_RESERVED: u64 = 4_000;
/// Addresses that are left to the process beside the pool, in bytes: heap, threads, images, and memories on
/// demand in the checked profile.
const ADDRESSES_RESERVED: u64 = 1 << 30;

/// What the system allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Addresses that this process may still take, in bytes; none is no limit.
    pub(super) addresses_left: Option<u64>,
    /// Mappings that a process may have; none is no limit that is known.
    pub(super) mappings_max: Option<u64>,
}

impl Room {
    /// Whatever is asked for.
    #[cfg(test)]
    pub(super) const UNLIMITED: Self = Self { addresses_left: None, mappings_max: None };

    pub(crate) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::As).current;
        let taken = Self::taken_bytes().unwrap_or(0);
        let mappings = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        Self {
            addresses_left: limit.map(|limit| limit.saturating_sub(taken)),
            mappings_max: mappings.trim().parse().ok(),
        }
    }

    /// Addresses that this process has taken, in bytes.
    pub(super) fn taken_bytes() -> Option<u64> {
        let text = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(pages.saturating_mul(rustix::param::page_size() as u64))
    }

    /// Why so many bytes of addresses can't be reserved, as far as a limit says so.
    pub(super) fn refuses_addresses(&self, bytes: u64) -> Option<String> {
        let left = self.addresses_left?;
        (bytes.saturating_add(ADDRESSES_RESERVED) > left).then(|| {
            format!(
                "guard pages take {} of addresses and {} beside them, and `ulimit -v` leaves {}",
                in_gib(bytes),
                in_gib(ADDRESSES_RESERVED),
                in_gib(left),
            )
        })
    }

    /// How many of so many components find room, and why not all.
    pub(crate) fn admits(&self, components: u32) -> (u32, Option<String>) {
        let Some(mappings) = self.mappings_max else { return (components, None) };
        let fitting = u32::try_from(components_within(mappings)).unwrap_or(u32::MAX);
        if components <= fitting {
            return (components, None);
        }
        let wanted = u64::from(components) * MAPPINGS_PER_COMPONENT + MAPPINGS_RESERVED;
        let reason = format!(
            "vm.max_map_count = {mappings} has room for {fitting} of {components} components; all of them \
             need {wanted}: sysctl vm.max_map_count={wanted}"
        );
        (fitting, Some(reason))
    }
}

/// How many components a worker has room for, where a process may have so many mappings.
pub(crate) const fn components_within(mappings_max: u64) -> u64 {
    mappings_max.saturating_sub(MAPPINGS_RESERVED) / MAPPINGS_PER_COMPONENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_admitted_than_the_system_has_mappings_for() {
        let admitted =
            |mappings_max, components| Room { mappings_max, ..Room::UNLIMITED }.admits(components);
        assert_eq!(admitted(None, 1_000), (1_000, None));
        // The kernel's default has room for the largest fleet.
        assert_eq!(admitted(Some(65_530), 1_000), (1_000, None));
        assert_eq!(admitted(Some(12_000), 1_000), (1_000, None));
        let (fitting, reason) = admitted(Some(11_999), 1_000);
        let reason = reason.unwrap();
        assert_eq!(fitting, 999);
        assert!(reason.contains("999 of 1000") && reason.ends_with("=12000"), "{reason}");
        assert_eq!(admitted(Some(100), 3).0, 0);
    }

    #[test]
    fn addresses_are_refused_with_both_numbers() {
        let room = |addresses_left| Room { addresses_left, ..Room::UNLIMITED };
        assert_eq!(room(None).refuses_addresses(u64::MAX), None);
        assert_eq!(room(Some(5 << 30)).refuses_addresses(4 << 30), None);
        let refused = room(Some((5 << 30) - 1)).refuses_addresses(4 << 30).unwrap();
        assert!(refused.contains("4.0 GiB of") && refused.contains("leaves 4.9 GiB"), "{refused}");
    }
}
