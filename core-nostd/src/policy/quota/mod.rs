//! Quotas in a tree: what a daemon uses is used by its group, and by the group's group.
//!
//! Rules:
//! 1. A charge is within the limit of its group and of every group above, or it is refused and nothing
//!    is charged anywhere.
//! 2. Memory and messages are *held*: charged when they are taken, refunded when they are given back.
//!    Processor time and log bytes are *spent*: they can't be given back, and every group begins each
//!    period with nothing spent.
//! 3. Before it is refused, a group is asked to back off: its pressure is told each time that it
//!    changes. A level is left a little below where it is entered, so that a group at its edge does not
//!    swing.
//! 4. A refusal makes the pressure critical where it happened, and says what to do: back off, or, once
//!    the pressure has been critical for the grace, stop. So no group loses a daemon before it was asked.
//! 5. A group that is removed gives back what it held. What it spent stays spent.
//!
//! A call costs a step for each group above, at most [`DEPTH_MAX`]; except [`QuotaTree::add`], which
//! looks for a free slot behind those that it knows to be taken, and the first call of a period, which
//! looks at every group once.

mod group;
mod invariants;
mod message;
mod meter;
mod resource;
mod tree;

pub use group::Slot;
pub use message::{
    AddError, ChargeError, GroupId, PeriodIsZero, PressureChange, QuotaSpec, RefundError, Remedy,
    RemoveError,
};
pub use meter::Pressure;
pub use resource::{Limits, RESOURCES, Resource};
pub use tree::QuotaTree;

/// How many groups may stand one above the other.
pub const DEPTH_MAX: u8 = 8;

#[cfg(test)]
mod tests;
