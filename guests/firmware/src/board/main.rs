#![no_std]
#![no_main]
//! The image: [`duende_firmware`] on the board that QEMU calls `mps2-an386`, a Cortex-M4 at 25 MHz.
//!
//! - Time is a count of SysTick's interrupts, one each millisecond; between them the processor sleeps.
//! - Text goes out by semihosting, and so does the exit status: success if all invariants held.
//! - Entropy is xorshift64 from a fixed seed, so that two runs print the same. A product would ask its
//!   random number generator.
//! - **No panic is reachable.** The handler below calls a function that nobody defines. If any code
//!   that can panic were left after optimisation, the image would not link.

mod memory;

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::Peripherals;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{entry, exception};
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio::{self, HostStream};
use duende_core::time::Instant;
use duende_firmware::node::Storage;
use duende_firmware::{Board, run};

/// The processor's clock, and SysTick's.
const CLOCK_HZ: u32 = 25_000_000;
const TICKS_PER_S: u32 = 1000;
const NS_PER_TICK: u64 = 1_000_000;

/// Longest line, in bytes; what is longer is cut.
const LINE_BYTES_MAX: usize = 120;

/// SysTick's interrupts so far. It comes round after 49 days; the board counts on.
static TICKS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

#[entry]
fn main() -> ! {
    let storage = cortex_m::singleton!(: Storage = Storage::EMPTY);
    let (Some(mut board), Some(storage)) = (Mps2::start(), storage) else {
        end(false);
    };
    #[cfg(feature = "prove-panic-check")]
    board.print(format_args!("{}", [1, 2, 3][core::hint::black_box(3)]));
    let outcome = run(&mut board, storage);
    match outcome {
        Ok(()) => end(memory::is_enough(&mut board)),
        Err(epitaph) => {
            board.print(format_args!("epitaph   {epitaph}"));
            end(false);
        }
    }
}

/// Ends with an exit status, where somebody can take it.
fn end(success: bool) -> ! {
    debug::exit(if success { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

/// A fault is no panic: a stack that overflowed, or hardware that is not there.
#[exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    end(false)
}

unsafe extern "C" {
    safe fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    a_panic_is_reachable()
}

/// The board.
struct Mps2 {
    console: HostStream,
    entropy: u64,
    /// What was last read of [`TICKS`], and what that is counted on from the start.
    last_ticks: u32,
    ticks: u64,
}

impl Mps2 {
    /// Starts the timer. `None` if nobody listens, or if the board was started before.
    fn start() -> Option<Self> {
        let console = hio::hstdout().ok()?;
        let mut timer = Peripherals::take()?.SYST;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(CLOCK_HZ / TICKS_PER_S - 1);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Some(Self { console, entropy: 0x9e37_79b9_7f4a_7c15, last_ticks: 0, ticks: 0 })
    }
}

impl Board for Mps2 {
    fn now(&mut self) -> Instant {
        let ticks = TICKS.load(Ordering::Relaxed);
        self.ticks = self.ticks.saturating_add(u64::from(ticks.wrapping_sub(self.last_ticks)));
        self.last_ticks = ticks;
        Instant::from_ns(self.ticks.saturating_mul(NS_PER_TICK))
    }

    fn entropy(&mut self) -> u64 {
        self.entropy ^= self.entropy << 13;
        self.entropy ^= self.entropy >> 7;
        self.entropy ^= self.entropy << 17;
        self.entropy
    }

    fn print(&mut self, line: fmt::Arguments<'_>) {
        let ms = self.now().as_ns() / NS_PER_TICK;
        let mut text = heapless::String::<LINE_BYTES_MAX>::new();
        // What does not fit is cut, and where nobody listens nothing is lost that could be kept.
        let _ = write!(text, "[{:3}.{:03}] {line}", ms / 1000, ms % 1000);
        let _ = self.console.write_all(text.as_bytes());
        let _ = self.console.write_all(b"\n");
    }

    fn sleep_until(&mut self, deadline: Instant) {
        if self.now() < deadline {
            // At the latest, the next tick wakes it.
            cortex_m::asm::wfi();
        }
    }
}
