//! A replay behind functions of numbers, for a host of WebAssembly: the host asks for [`spare`], writes
//! bytes there, says so by [`filled`], and asks for the last checkpoint.
//!
//! Whatever goes wrong is a trap: the host's call fails.

use std::cell::RefCell;

use crate::{Checkpoint, Replay};

thread_local! {
    static REPLAY: RefCell<Option<Replay>> = RefCell::new(Replay::new().ok());
    static REACHED: RefCell<Checkpoint> = const { RefCell::new(Checkpoint { steps: 0, hash: 0 }) };
}

/// Runs `body` on the replay.
fn with<T>(body: impl FnOnce(&mut Replay) -> T) -> T {
    REPLAY.with_borrow_mut(|replay| match replay {
        Some(replay) => body(replay),
        None => std::process::abort(),
    })
}

/// Where the next bytes of the trace go.
#[unsafe(no_mangle)]
extern "C" fn spare() -> *mut u8 {
    with(|replay| replay.spare().as_mut_ptr())
}

/// How many of them at most.
#[unsafe(no_mangle)]
extern "C" fn spare_bytes() -> usize {
    with(|replay| replay.spare().len())
}

/// Says that so many were written.
#[unsafe(no_mangle)]
extern "C" fn filled(bytes: usize) {
    let reached = |checkpoint| REACHED.set(checkpoint);
    if with(|replay| replay.filled(bytes, reached)).is_err() {
        std::process::abort();
    }
}

/// Says that there are no more: the last checkpoint is the end.
#[unsafe(no_mangle)]
extern "C" fn finish() {
    match with(|replay| replay.finish()) {
        Ok(end) => REACHED.set(end),
        Err(_) => std::process::abort(),
    }
}

/// After how many steps the last checkpoint was reached; zero before the first one.
#[unsafe(no_mangle)]
extern "C" fn checkpoint_steps() -> u64 {
    REACHED.with_borrow(|reached| reached.steps)
}

/// Its hash.
#[unsafe(no_mangle)]
extern "C" fn checkpoint_hash() -> u64 {
    REACHED.with_borrow(|reached| reached.hash)
}
