//! The machine under a hosted kernel: the clocks and entropy of the host.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use duende_core::wire::link::Address;
use rustix::time::{ClockId, clock_gettime};
use wos_kernel::Machine;

use super::mark::Mark;

/// The host's clocks, its entropy, and the flag by which the ticker asks for the processor.
#[derive(Debug, Default)]
pub struct HostMachine {
    attention: AtomicBool,
    memory_bytes_max: OnceLock<u64>,
    mark: Option<Mark>,
    /// Why not all of the fleet's components find room.
    no_room: Option<String>,
}

impl HostMachine {
    /// A machine that writes down whose slice runs; `no_room` says why not all of the fleet's components find
    /// room on it.
    pub(super) fn new(no_room: Option<String>, mark: Mark) -> Self {
        Self { no_room, mark: Some(mark), ..Self::default() }
    }

    /// Asks for the processor at the next tick, or takes the wish back.
    pub fn set_attention(&self, wanted: bool) {
        self.attention.store(wanted, Ordering::Relaxed);
    }
}

impl HostMachine {
    /// Reads how much memory there is, which is a file: before files can't be read any more.
    pub(super) fn learn_memory(&self) {
        self.memory_bytes_max();
    }
}

impl Machine for HostMachine {
    fn monotonic_ns(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn processor_ns(&self) -> Option<u64> {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(used.tv_sec).ok()?.checked_mul(1_000_000_000)?;
        seconds.checked_add(u64::try_from(used.tv_nsec).ok()?)
    }

    fn wall_ns(&self) -> i64 {
        let now = clock_gettime(ClockId::Realtime);
        now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
    }

    fn entropy(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..)
            && !rest.is_empty()
        {
            // Fails only before the kernel's pool is first seeded, long before a worker runs, or
            // when a signal comes in between: try again.
            if let Ok(count) = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            {
                filled += count;
            }
        }
    }

    /// The memory of the machine; `u64::MAX` where there is no `/proc`.
    fn memory_bytes_max(&self) -> u64 {
        *self.memory_bytes_max.get_or_init(|| {
            let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
            let kibibytes =
                total.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kibibytes.map_or(u64::MAX, |kibibytes| kibibytes.saturating_mul(1_024))
        })
    }

    fn runs(&self, at: Option<Address>) {
        if let Some(mark) = &self.mark {
            mark.set(at);
        }
    }

    fn room(&self) -> Option<&str> {
        self.no_room.as_deref()
    }

    fn attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }
}
