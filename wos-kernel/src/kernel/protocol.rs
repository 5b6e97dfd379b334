//! What the manager may not say.

use duende_core::wire::link::Address;

/// The manager said something that the protocol does not allow; the link is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An address was created that is in use.
    #[error("address {0:?} is in use")]
    AddressInUse(Address),
    /// A priority that is no level.
    #[error("priority {0} is not in 0..=7")]
    NoSuchLevel(u8),
    /// More channels or configuration entries than the protocol's limits allow.
    #[error("{0:?} has too many channels or entries")]
    TooMany(Address),
    /// A message for a channel that was not opened, or more of them than its window.
    #[error("a message to {0:?} is outside its window")]
    OutsideWindow(Address),
    /// Payloads that are cut, too long, or none.
    #[error("messages to {0:?} that can't be read")]
    Malformed(Address),
    /// A description or a start came after the start.
    #[error("{0:?} is started already")]
    AlreadyStarted(Address),
    /// A reload came before the start.
    #[error("{0:?} is not started yet, so there is nothing to reload")]
    NotStarted(Address),
}
