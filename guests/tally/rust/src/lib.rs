//! Counts the lines of its channel, and never forgets the count: the same daemon as the others of this folder.
//!
//! Nothing but the contract: no `std`, no SDK. What `wit_bindgen` makes of `wit/daemon.wit` is all there is.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

wit_bindgen::generate!({ path: "../../../wit", world: "daemon" });

use duende::daemon::types::{Error, Outcome};
use duende::daemon::{channel, log, metric, state};
use exports::duende::daemon::lifecycle::{Guest, Health, HealthStatus, Next, Sample, Wake};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(what: &core::panic::PanicInfo<'_>) -> ! {
    let _ = log::write(log::Level::Error, &what.to_string());
    core::arch::wasm32::unreachable()
}

/// Most messages that one slice takes.
const MESSAGES_MAX: u32 = 100;
/// Where the count lies in `state`, in decimal as in the other languages.
const KEY: &str = "lines";

/// A component has one thread, and no export is entered while another is open.
struct Lines(Cell<u64>);
// SAFETY: nobody shares it, as said above.
unsafe impl Sync for Lines {}
static LINES: Lines = Lines(Cell::new(0));

struct Tally;
export!(Tally);

/// A call that was refused is the failure of the slice.
fn failed(error: Error) -> Outcome {
    Outcome { code: 1, text: format!("{error:?}") }
}

impl Guest for Tally {
    fn init() -> Result<(), Outcome> {
        let kept = state::get(KEY).map_err(failed)?;
        let digits = kept.and_then(|bytes| String::from_utf8(bytes).ok());
        LINES.0.set(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0));
        let told = format!("going on from line {}", LINES.0.get());
        log::write(log::Level::Info, &told).map_err(failed)
    }

    // One slice. Either all of it counts, what was received and what was written too, or nothing does.
    fn run(_: Wake) -> Result<Next, Outcome> {
        let messages = channel::receive("lines", MESSAGES_MAX).map_err(failed)?;
        // A line that is longer than a message may be comes in parts, and is one line all the same.
        let begins = |message: &&channel::Message| {
            matches!(message.part, channel::Part::Whole | channel::Part::First)
        };
        let lines = LINES.0.get() + messages.iter().filter(begins).count() as u64;
        LINES.0.set(lines);
        if !messages.is_empty() {
            state::set(KEY, lines.to_string().as_bytes()).map_err(failed)?;
            metric::gauge_set("lines", lines as f64).map_err(failed)?;
        }
        let full = messages.len() == MESSAGES_MAX as usize;
        Ok(if full { Next::Again } else { Next::Wait })
    }

    fn shutdown(_: u64) -> Result<Next, Outcome> {
        Ok(Next::Exit(Outcome { code: 0, text: String::new() }))
    }

    fn health_check() -> Health {
        Health { status: HealthStatus::Healthy, detail: String::new(), checks: Vec::new() }
    }

    fn metrics() -> Vec<Sample> {
        Vec::new()
    }
}
