//! Why a slice failed, in words: what the engine says, what the daemon said, and where it was.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use wasmtime::{Error, Trap, WasmBacktrace};

use super::Data;
use crate::executor::Fault;

/// Most frames that are named: the innermost. What called them is the contract's glue soon.
const FRAMES_MAX: usize = 6;
/// Longest name of a frame, in bytes: generated names have no end.
const FRAME_BYTES_MAX: usize = 120;

/// Raised at a tick: the slice is over its budget.
#[derive(Debug)]
pub(super) struct OverBudget;

impl fmt::Display for OverBudget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the slice is over its budget")
    }
}

impl core::error::Error for OverBudget {}

/// What a slice failed of.
pub(super) fn of(error: &Error, data: &Data) -> Fault {
    if error.is::<OverBudget>() {
        return Fault::SliceBudget;
    }
    let cause = error
        .downcast_ref::<Trap>()
        .map_or_else(|| error.root_cause().to_string(), ToString::to_string);
    let refusal = data.context.memory_refusal();
    // What the pooling allocator and the system say when the kernel, not the daemon, has run out.
    let whole = format!("{error:#}");
    if refusal.is_none()
        && (whole.contains("maximum concurrent") || whole.contains("(os error 12)"))
    {
        return Fault::NoRoom(format!("this WOS is full: {whole}"));
    }
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    // What has no frames was no call: the text is all that there is.
    let cause = if frames.is_empty() && !error.is::<Trap>() { whole } else { cause };
    let mut text = cause;
    for (before, part) in [("; it said: ", data.last_words.clone()), ("; ", refusal)] {
        if let Some(part) = part {
            text.push_str(before);
            text.push_str(&part);
        }
    }
    if !frames.is_empty() {
        text.push_str("; in ");
        text.push_str(&frames);
    }
    Fault::Trap(text)
}

/// The innermost frames by name, as far as the component has names: one that is stripped has numbers.
fn frames(backtrace: &WasmBacktrace) -> String {
    let frames = backtrace.frames().iter().take(FRAMES_MAX);
    let names: Vec<String> = frames
        .map(|frame| match frame.func_name() {
            Some(name) => {
                name.get(..name.floor_char_boundary(FRAME_BYTES_MAX)).unwrap_or(name).to_string()
            }
            None => format!("function {}", frame.func_index()),
        })
        .collect();
    names.join(" < ")
}
