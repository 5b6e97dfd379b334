//! What a process may do: its capabilities, in a table of the core's ([`caps`](duende_core::caps)).
//!
//! Rules:
//! 1. A process gets its capabilities when it starts: one for each interface that the configuration
//!    grants, and one for each channel. Nothing else gives it any, and it can hand none on.
//! 2. Every import asks for the capability, with the right that it needs, before it does anything.
//!    Without one the call is denied. `clock`, `entropy` and `config` are for everybody.
//! 3. The table is the process's own. A slice asks it without a lock, although an open slice lies out of
//!    the kernel's reach; and with the process go the table and all that it holds, at once. A table for
//!    the whole kernel is for processes that hand capabilities to each other, which the contract does
//!    not let them do.

use alloc::{boxed::Box, vec};

use duende_core::{
    caps::{Grant, Handle, Holder, Label, LabelSlot, Lineage, Object, Rights, Scope, Slot, Table},
    time::Instant,
    wire::link::Grants,
};

use crate::{context::SyscallError, process::Pid};

/// Capabilities do not expire, so time plays no part.
const NOW: Instant = Instant::ZERO;
/// The one label.
const LABEL: Label = Label(0);
/// What channels are numbered from, among a process's objects.
const CHANNELS_FROM: u64 = 16;

/// The interfaces that are granted as a whole, each with its object, its bit in the configuration and the
/// rights that come with it.
const INTERFACES: [(Interface, Grants, Rights); 3] = [
    (Interface::Log, Grants::LOG, Rights::WRITE),
    (Interface::State, Grants::STATE, Rights::READ.union(Rights::WRITE)),
    (Interface::Metric, Grants::METRIC, Rights::WRITE),
];

/// An interface of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    Log,
    State,
    Metric,
}

/// The capabilities of one process.
pub(crate) struct Authority {
    table: Table<Box<[Slot]>, [LabelSlot; 1]>,
    /// PID 1, and the process.
    lineage: [Holder; 2],
    interfaces: [Option<Handle>; INTERFACES.len()],
}

impl Authority {
    /// None at all: what a process has before its start.
    pub(crate) fn none() -> Self {
        Self::new(Pid::INIT, Grants::default(), 0)
    }

    /// The capabilities of `pid`, with room for those of so many channels.
    pub(crate) fn new(pid: Pid, grants: Grants, channels: usize) -> Self {
        let granted = INTERFACES.iter().filter(|(_, granted, _)| grants.contains(*granted)).count();
        let slots = vec![Slot::EMPTY; granted.saturating_add(channels)];
        let table = Table::new(pid.0, slots.into_boxed_slice(), [LabelSlot::EMPTY]);
        let lineage = [Pid::INIT, pid].map(|pid| Holder(pid.0.into()));
        let mut authority = Self { table, lineage, interfaces: [None; INTERFACES.len()] };
        for (interface, granted, rights) in INTERFACES {
            if grants.contains(granted) {
                let handle = authority.grant(Object(interface as u64), rights);
                if let Some(place) = authority.interfaces.get_mut(interface as usize) {
                    *place = handle;
                }
            }
        }
        authority
    }

    /// Gives the capability to receive from a channel.
    pub(crate) fn grant_channel(&mut self, index: usize) -> Option<Handle> {
        let number = u64::try_from(index).unwrap_or(u64::MAX);
        self.grant(Object(CHANNELS_FROM.saturating_add(number)), Rights::RECEIVE)
    }

    /// Whether the process may do this with an interface.
    ///
    /// # Errors
    /// [`SyscallError::Denied`].
    pub(crate) fn check(&mut self, what: Interface, needed: Rights) -> Result<(), SyscallError> {
        let handle = self.interfaces.get(what as usize).copied().flatten();
        self.check_handle(handle, needed)
    }

    /// Whether the process may receive from the channel that this capability is for.
    ///
    /// # Errors
    /// [`SyscallError::Denied`].
    pub(crate) fn check_channel(&mut self, handle: Option<Handle>) -> Result<(), SyscallError> {
        self.check_handle(handle, Rights::RECEIVE)
    }

    fn check_handle(&mut self, handle: Option<Handle>, needed: Rights) -> Result<(), SyscallError> {
        let lineage = Lineage::new(&self.lineage).map_err(|_| SyscallError::Denied)?;
        let handle = handle.ok_or(SyscallError::Denied)?;
        let checked = self.table.check(NOW, lineage, handle, needed);
        checked.map(drop).map_err(|_| SyscallError::Denied)
    }

    /// None if there is no place, which no process comes to see: it has one for each.
    fn grant(&mut self, object: Object, rights: Rights) -> Option<Handle> {
        let holder = Lineage::new(&self.lineage).ok()?;
        let (expires_at, scope) = (Instant::MAX, Scope::Everywhere);
        self.table.grant(Grant { object, rights, holder, expires_at, scope, label: LABEL }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_may_be_done_and_nothing_else() {
        for bits in 0..8 {
            let grants = Grants(bits);
            let mut authority = Authority::new(Pid(7), grants, 1);
            for (interface, granted, rights) in INTERFACES {
                for needed in [Rights::READ, Rights::WRITE, Rights::RECEIVE] {
                    let may = grants.contains(granted) && rights.contains(needed);
                    let checked = authority.check(interface, needed);
                    assert_eq!(checked.is_ok(), may, "{interface:?} {needed} of {bits:03b}");
                }
            }
            let channel = authority.grant_channel(0);
            assert!(channel.is_some());
            assert_eq!(authority.check_channel(channel), Ok(()));
            assert_eq!(authority.check_channel(None), Err(SyscallError::Denied));
            // A capability of another process is worth nothing here.
            let foreign = Authority::new(Pid(8), grants, 1).grant_channel(0);
            assert_eq!(authority.check_channel(foreign), Err(SyscallError::Denied));
        }
    }
}
