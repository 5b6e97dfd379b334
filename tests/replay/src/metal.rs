#![no_std]
#![no_main]
//! The replay as an image for a Cortex-M4: reads the file `trace` of its host's folder by semihosting and
//! prints each checkpoint as a line, `STEPS HASH`; the end as `end STEPS HASH`.
//!
//! Its panic handler calls a function that nobody defines. So the image links only if no panic is
//! reachable in any machine of the core, nor in the world that wires them together.

use core::fmt::Write;
use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio::{self, HostStream};
use cortex_m_semihosting::nr::open;
use cortex_m_semihosting::syscall;
use duende_replay::{Checkpoint, Replay};

/// The trace, with the NUL that semihosting wants.
const TRACE: &[u8] = b"trace\0";

#[entry]
fn main() -> ! {
    let success = replay();
    debug::exit(if success.is_some() { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

/// Reads, replays and prints. `None` if that failed; why was printed if that was possible.
fn replay() -> Option<()> {
    let mut console = hio::hstdout().ok()?;
    let Some(trace) = File::open() else {
        writeln!(console, "cannot open the file `trace`").ok()?;
        return None;
    };
    let replay = cortex_m::singleton!(: Option<Replay> = None)?;
    let replay = replay.insert(Replay::new().ok()?);
    loop {
        let bytes = trace.read(replay.spare());
        if bytes == 0 {
            break;
        }
        let filled = replay.filled(bytes, |Checkpoint { steps, hash }| {
            // Who reads the lines misses what is lost.
            let _ = writeln!(console, "{steps} {hash:016x}");
        });
        if let Err(error) = filled {
            return fail(&mut console, &error);
        }
    }
    match replay.finish() {
        Ok(Checkpoint { steps, hash }) => writeln!(console, "end {steps} {hash:016x}").ok(),
        Err(error) => fail(&mut console, &error),
    }
}

fn fail(console: &mut HostStream, error: &duende_replay::ReplayError) -> Option<()> {
    writeln!(console, "{error}").ok()?;
    None
}

/// A file of the host.
struct File(usize);

impl File {
    fn open() -> Option<Self> {
        let length = TRACE.len().saturating_sub(1);
        // SAFETY: SYS_OPEN takes the address of a text that ends in NUL, a mode and the text's length
        // without the NUL, and reads no more than that.
        let handle = unsafe { syscall!(OPEN, TRACE.as_ptr(), open::R_BINARY, length) };
        (handle != usize::MAX).then_some(Self(handle))
    }

    /// Reads the next bytes into `buffer`. How many; zero at the end.
    fn read(&self, buffer: &mut [u8]) -> usize {
        let length = buffer.len();
        // SAFETY: SYS_READ takes a handle, the address of a buffer and its length, and writes no more than
        // that; the buffer is borrowed exclusively.
        let left = unsafe { syscall!(READ, self.0, buffer.as_mut_ptr(), length) };
        length.saturating_sub(left)
    }
}

#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    debug::exit(EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}

unsafe extern "C" {
    safe fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    a_panic_is_reachable()
}
