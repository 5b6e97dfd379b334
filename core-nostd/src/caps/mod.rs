//! Capabilities: what a process may do with what, who gave it that power, and how it is taken away.
//!
//! There is no other authority. A process names a capability by a [`Handle`], and the kernel asks the
//! [`Table`] before it acts. What a process holds it can hand on, in part; whoever gave something can
//! take it back from everybody who has it from there, at once, however many those are. What was given,
//! taken and refused goes into an [`AuditLog`] that can't be changed unnoticed.
//!
//! | file | idea |
//! |---|---|
//! | `table.rs` | the rules: check, grant, delegate, revoke |
//! | `arena.rs` | the slots, their generations and the lists through them |
//! | `rights.rs` | what a capability lets its holder do |
//! | `scope.rs` | who holds it, and in which part of the process tree it is valid |
//! | `message.rs` | what is asked and answered |
//! | `invariants.rs` | what holds between any two calls |
//! | `audit.rs` | the record of it all, chained by hashes |
//!
//! ```
//! use duende_core::caps::{
//!     Delegation, Grant, Holder, Label, LabelSlot, Lineage, Object, Refusal, Rights, Scope, Slot, Table,
//! };
//! use duende_core::time::Instant;
//!
//! let mut table = Table::new(1, [const { Slot::EMPTY }; 32], [LabelSlot::EMPTY; 4]);
//! let now = Instant::ZERO;
//!
//! // Process 1 may read and write a channel, and hand that on.
//! let parent = Lineage::new(&[Holder(1)])?;
//! let channel = table.grant(Grant {
//!     object: Object(7),
//!     rights: Rights::READ | Rights::WRITE | Rights::DUPLICATE,
//!     holder: parent,
//!     expires_at: Instant::MAX,
//!     scope: Scope::Everywhere,
//!     label: Label(0),
//! })?;
//!
//! // Its child may read, no more.
//! let child = Lineage::new(&[Holder(1), Holder(2)])?;
//! let to_child = Delegation { to: child, rights: Rights::READ, expires_at: None, below: None };
//! let reading = table.delegate(now, parent, channel, to_child)?;
//! assert_eq!(table.check(now, child, reading, Rights::READ), Ok(Object(7)));
//! let missing = Rights::WRITE;
//! assert_eq!(table.check(now, child, reading, missing), Err(Refusal::MissingRights { missing }));
//!
//! // What is revoked is gone for everybody, before any slot is freed.
//! table.revoke(channel)?;
//! assert_eq!(table.check(now, child, reading, Rights::READ), Err(Refusal::Revoked));
//! assert_eq!(table.reclaim(100), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
mod audit;
mod invariants;
mod message;
mod rights;
mod scope;
mod table;
#[cfg(test)]
mod tests;

pub use arena::Slot;
pub use audit::{
    AppendError, AuditLog, AuditSlot, BATCH_MAX, EncodingError, Event, Head, NoSlots, RECORD_BYTES,
    ReadError, Record, Tampered,
};
pub use message::{
    DEPTH_MAX, DelegateError, Delegation, Full, Grant, GrantError, Handle, Label, LabelError,
    Object, Refusal, View,
};
pub use rights::{Rights, UnknownRights};
pub use scope::{EmptyLineage, Holder, Lineage, Scope};
pub use table::{LabelSlot, Table};
