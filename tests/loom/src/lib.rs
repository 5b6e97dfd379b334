//! What threads share, tried in every order in which they can come by.
//!
//! The sources are the products' own, included by their paths, with loom's lock in the place of std's:
//! they know it by `cfg(duende_loom)`, which `build.rs` sets for this crate alone.
//!
//! A test is a few threads with a few steps each, run again and again until no order is left in which
//! their steps can be done. A thread that nobody wakes is found as a deadlock. So no event may be lost
//! or doubled and no count be wrong in any of them.
//!
//! What is not here shares nothing but std's `Mutex` around data of its own, or tokio's channels.

extern crate alloc;
// `wos-kernel` locks by `spin::Mutex`; here that is the one below.
extern crate self as spin;

#[path = "../../../host/src/bus/mod.rs"]
pub mod bus;
#[path = "../../../wos-kernel/src/log_ring.rs"]
pub mod log_ring;

/// What `wos-kernel` bounds its log ring by, smaller.
mod limits {
    use core::num::NonZeroU32;

    pub(crate) const LOG_LINES_MAX: NonZeroU32 = NonZeroU32::MIN;
}

/// Loom's lock behind the face of `spin`'s.
#[derive(Debug)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Of a value.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
