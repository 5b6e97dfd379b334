//! What the bus shares by. `tests/loom` compiles the bus with loom's in place of std's, which then tries
//! every order in which threads can come by; there are no tasks of tokio's there.

#[cfg(duende_loom)]
pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(duende_loom))]
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(duende_loom))]
pub(super) use tokio::task::coop::poll_proceed;

#[cfg(duende_loom)]
pub(super) struct Turn;

#[cfg(duende_loom)]
impl Turn {
    pub(super) fn made_progress(&self) {}
}

#[cfg(duende_loom)]
pub(super) fn poll_proceed(_: &mut std::task::Context<'_>) -> std::task::Poll<Turn> {
    std::task::Poll::Ready(Turn)
}
