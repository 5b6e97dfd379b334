//! What the manager is told. Each event is sent at once, as far as the link takes it.

use std::os::fd::OwnedFd;

use duende_core::wire::link::Address;

use super::link::Outbox;
use super::protocol::KeepEvent;

/// The way to the manager.
#[derive(Debug)]
pub(super) struct Reports {
    /// Absent once the manager is gone.
    pub(super) link: Option<OwnedFd>,
    outbox: Outbox,
}

impl Reports {
    pub(super) fn new(link: OwnedFd) -> Self {
        Self { link: Some(link), outbox: Outbox::new() }
    }

    pub(super) const fn pending_bytes(&self) -> usize {
        self.outbox.pending_bytes()
    }

    pub(super) fn tell(&mut self, event: &KeepEvent) {
        if self.link.is_some() {
            // An event is a few words and one reason, far below the bound of a frame.
            let _ = self.outbox.push(event, None);
            self.flush();
        }
    }

    pub(super) fn tell_dropped(&mut self, at: Address, lines: u64) {
        if lines > 0 {
            self.tell(&KeepEvent::OutputDropped { at, lines });
        }
    }

    /// Sends what the link takes. A broken link shows when it is read.
    pub(super) fn flush(&mut self) {
        if let Some(link) = &self.link {
            let _ = self.outbox.flush(link);
        }
    }
}
