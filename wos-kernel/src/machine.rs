//! What the kernel needs of the machine it runs on.

use duende_core::wire::link::{Address, LogLevel};

/// The machine's clocks and entropy. Its owner implements it; a simulator implements it with a seed.
pub trait Machine: Send + Sync {
    /// Nanoseconds on a clock that never goes backwards.
    fn monotonic_ns(&self) -> u64;

    /// Processor time of the thread that runs the kernel, in nanoseconds; none where the machine does not
    /// count it. Asked after long turns alone, to leave out what others had of the processor meanwhile.
    fn processor_ns(&self) -> Option<u64> {
        None
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z; negative before.
    fn wall_ns(&self) -> i64;

    /// Fills `bytes` with entropy fit for keys.
    fn entropy(&self, bytes: &mut [u8]);

    /// How much memory the machine has for all daemons together, in bytes. Their linear memory and
    /// their state may not pass it, whatever each of them may. The default is no limit.
    fn memory_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// Why the kernel has room for no more processes than it was made for, if there is more to say than
    /// their number.
    fn room(&self) -> Option<&str> {
        None
    }

    /// Whether the kernel's owner wants the processor back at the next tick: a command arrived, or a
    /// more urgent process woke.
    fn attention(&self) -> bool;

    /// Whose slice runs from here on; none: nobody's does. What dies with the machine can then be told from what
    /// killed it. The default forgets it.
    fn runs(&self, at: Option<Address>) {
        let _ = at;
    }

    /// Takes a log line out at once. False if the machine cannot: the line then waits in the kernel
    /// for its owner. A machine that dies with its daemon takes it: what the daemon logged last is
    /// what its people need.
    fn take_log(&self, at: Address, level: LogLevel, text: &str) -> bool {
        let _ = (at, level, text);
        false
    }
}
