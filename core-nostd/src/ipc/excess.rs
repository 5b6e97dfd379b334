//! What is sent without credit: what the policy makes of it, and the account of what was spilled.

use super::{Overflow, SendError, Spec};
use crate::policy::overflow::{Aside, Excess, Full};

impl Spec {
    /// What becomes of a message of so many bytes that is sent without credit in a queue of so many
    /// places, by a sender that is not parked.
    pub(super) fn excess(
        &self,
        places: usize,
        spilled: Spilled,
        bytes: u64,
    ) -> Result<Excess, SendError> {
        let aside = if let Overflow::Park { .. } = self.overflow {
            // Each sender has a place of its own to wait at.
            Aside { messages: 0, places: 1, bytes: 0 }
        } else {
            let places = places.saturating_sub(self.credits_max);
            Aside { messages: spilled.messages, places, bytes: spilled.bytes }
        };
        self.overflow.excess(aside, bytes).map_err(|full| match full {
            Full::Queue => SendError::NoCredit,
            Full::Places | Full::Bytes { .. } => {
                SendError::SpillIsFull { spilled: spilled.messages, spilled_bytes: spilled.bytes }
            }
        })
    }
}

/// What lies in the places beyond those of the credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spilled {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

impl Spilled {
    pub(super) fn add(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
