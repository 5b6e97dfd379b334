//! What is said to a capability table and what it answers.

use serde::{Deserialize, Serialize};

use super::rights::Rights;
use super::scope::{Holder, Lineage, Scope};
use crate::time::Instant;

/// How often a capability can be handed on, the grant itself included.
pub const DEPTH_MAX: u8 = 8;

/// What a capability is for: the owner's number of a channel, a process, a region …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object(pub u64);

/// What capabilities are revoked by in bulk: a number below the count of label slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label(pub u16);

/// Names a capability. It is no secret: who guesses one is refused, for it is not the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handle {
    pub(super) table: u32,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Handle {
    /// The handle with these parts, as a guest passed them. A check tells what it is worth.
    #[must_use]
    pub const fn from_parts(table: u32, slot: u32, generation: u32) -> Self {
        Self { table, slot, generation }
    }

    /// Table, slot and generation.
    #[must_use]
    pub const fn parts(self) -> (u32, u32, u32) {
        (self.table, self.slot, self.generation)
    }
}

/// A first capability for an object, given by the owner of the table.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// What it is for.
    pub object: Object,
    /// What it lets its holder do.
    pub rights: Rights,
    /// Who gets it.
    pub holder: Lineage<'a>,
    /// Valid before this instant. [`Instant::MAX`] never comes.
    pub expires_at: Instant,
    /// Where it is valid. The holder must be in it.
    pub scope: Scope,
    /// What it and everything delegated from it is revoked by in bulk.
    pub label: Label,
}

/// What a delegated capability keeps of the one that it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Delegation<'a> {
    /// Who gets it. In its scope.
    pub to: Lineage<'a>,
    /// A part of the rights.
    pub rights: Rights,
    /// Not later than that of the origin. `None`: the same.
    pub expires_at: Option<Instant>,
    /// Only below this process, which is in the origin's scope. `None`: the origin's scope.
    pub below: Option<Lineage<'a>>,
}

/// What a live capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// What it is for.
    pub object: Object,
    /// Who holds it.
    pub holder: Holder,
    /// What it lets its holder do.
    pub rights: Rights,
    /// Valid before this instant. [`Instant::MAX`] never comes.
    pub expires_at: Instant,
    /// Where it is valid.
    pub scope: Scope,
    /// What it is revoked by in bulk.
    pub label: Label,
    /// 1 if it was granted, one more for each delegation.
    pub depth: u8,
}

/// Why a capability is of no use. The first reason that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The handle is of another table.
    #[error("the handle is of table {table}, this is table {this}")]
    ForeignTable {
        /// The handle's table.
        table: u32,
        /// The table that was asked.
        this: u32,
    },
    /// The table never gave out such a handle.
    #[error("there was never such a handle")]
    Unknown,
    /// It, or one that it comes from, was revoked: ask for a new one.
    #[error("the capability was revoked")]
    Revoked,
    /// Another process holds it.
    #[error("the process does not hold the capability")]
    NotHolder,
    /// The holder is outside the capability's scope.
    #[error("the process is outside the capability's scope")]
    OutOfScope,
    /// Its time is over: ask for a new one.
    #[error("the capability has expired")]
    Expired,
    /// It does not include these rights.
    #[error("the capability lacks: {missing}")]
    MissingRights {
        /// What it lacks.
        missing: Rights,
    },
}

/// Why there is no place for one more capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("all {capacity} slots of the table are in use: revoke some, or make it larger")]
pub struct Full {
    /// How many slots there are.
    pub capacity: usize,
}

/// Why a capability was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GrantError {
    /// There is no such label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The holder is outside the scope, and could never use it.
    #[error("the holder is outside the scope of the grant")]
    HolderOutOfScope,
    /// No slot is left.
    #[error(transparent)]
    Full(#[from] Full),
}

/// Why a label can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LabelError {
    /// It is beyond the table's labels.
    #[error("label {}, the table has {labels}", label.0)]
    NoSuchLabel {
        /// What was asked for.
        label: Label,
        /// How many there are.
        labels: usize,
    },
    /// It was revoked as often as can be counted, and is used no more.
    #[error("label {} is worn out: use another", label.0)]
    WornOut {
        /// Which one.
        label: Label,
    },
}

/// Why a capability was not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DelegateError {
    /// The origin may not be used so; handing on needs [`Rights::DUPLICATE`].
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was handed on as often as is allowed.
    #[error("handed on {} deep already: delegate from one nearer to the grant", DEPTH_MAX)]
    TooDeep,
    /// More rights than the origin has.
    #[error("the origin lacks: {beyond}")]
    RightsExceed {
        /// What the origin lacks.
        beyond: Rights,
    },
    /// Valid longer than the origin.
    #[error("it would outlive its origin")]
    ExpiryExceeds {
        /// When the origin expires.
        origin: Instant,
    },
    /// Valid where the origin is not.
    #[error("its scope would lie outside that of its origin")]
    ScopeExceeds,
    /// The recipient is outside the scope, and could never use it.
    #[error("the recipient is outside the scope")]
    RecipientOutOfScope,
    /// No slot is left.
    #[error(transparent)]
    Full(#[from] Full),
}
