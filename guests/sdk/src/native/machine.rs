//! This process, as the machine under its kernel.

use std::sync::{Arc, Mutex, PoisonError};

use duende_core::wire::link::{Address, Event, LogLevel};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use wos_kernel::Machine;

use super::link::Outbox;

/// The clocks and entropy of the system; log lines go to the manager.
pub(super) struct ProcessMachine {
    outbox: Arc<Mutex<Outbox>>,
}

impl ProcessMachine {
    pub(super) fn new(outbox: Arc<Mutex<Outbox>>) -> Self {
        Self { outbox }
    }
}

impl Machine for ProcessMachine {
    fn monotonic_ns(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    }

    fn wall_ns(&self) -> i64 {
        let now = clock_gettime(ClockId::Realtime);
        now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
    }

    fn entropy(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // Fails only when interrupted, and not at all for so few bytes.
            filled += getrandom(rest, GetRandomFlags::empty()).unwrap_or(0);
        }
    }

    /// The one thread of this process runs the slice: nothing else could use it.
    fn attention(&self) -> bool {
        false
    }

    /// The process may be killed in the middle of a slice, and its kernel with it: a line does not
    /// wait for the end.
    fn take_log(&self, at: Address, level: LogLevel, text: &str) -> bool {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.send(&Event::Log { at, level, text });
        outbox.flush();
        true
    }
}
