//! What the daemons hold in memory, and how much of it they may.
//!
//! The rules of quotas are the core's ([`policy::quota`](duende_core::policy::quota)). Here is the tree:
//!
//! ```text
//! this WOS ── a daemon ─┬─ its linear memory
//!                       └─ its state, which is resident
//! ```
//!
//! 1. The manager limits a daemon's linear memory and its state; the machine limits the WOS. So one
//!    daemon's growth is refused before the machine runs out and takes all of them.
//! 2. A daemon that grows beyond a limit is refused, and goes on as it can: its contract has words for
//!    that. Nobody is ended here.
//! 3. Before that, and when it is over, its pressure is told to the manager and to the daemon, once for each
//!    change. The contract, version 0.1, has no word for it.
//! 4. State that was kept under a higher limit is taken in. The limit refuses growth; it loses no data.
//! 5. A group ends with its [`Account`], which is dropped with whatever it counts.
//!
//! Not in the tree, and why: *messages* have a window for each channel, and a promise that was given
//! with a window can't be taken back by a quota. *Log bytes* and *processor time* have no limit in the
//! contract with the manager. The *number* of metrics, of keys in a slice and of log lines is bounded by
//! itself, and not part of a whole that could be shared out.

use alloc::{boxed::Box, sync::Arc, vec};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use duende_core::{
    epitaph::Epitaph,
    policy::quota::{
        ChargeError, GroupId, Limits, Pressure, PressureChange, QuotaTree, Resource, Slot,
    },
    time::Instant,
};
use spin::Mutex;

/// Groups of one daemon.
const GROUPS_PER_DAEMON: usize = 3;
/// Nothing here is counted by periods, and nobody is stopped after a grace: time plays no part.
const NOW: Instant = Instant::ZERO;

/// The tree. Shared by the kernel and every context, as an open slice may grow.
pub(crate) struct Quotas {
    tree: Mutex<QuotaTree<Box<[Slot]>>>,
    /// None only without any place.
    wos: Option<GroupId>,
    /// Whether a pressure has changed since [`take_changed`](Self::take_changed).
    is_changed: AtomicBool,
}

impl Quotas {
    /// A tree for so many daemons, on a machine that lends them so much memory.
    pub(crate) fn new(daemons_max: usize, memory_bytes_max: u64) -> Self {
        let groups = daemons_max.saturating_mul(GROUPS_PER_DAEMON).saturating_add(1);
        let slots = vec![Slot::EMPTY; groups].into_boxed_slice();
        let mut tree = QuotaTree::with_default_times(slots);
        let limits = Limits { memory_bytes: memory_bytes_max, ..Limits::NONE };
        let wos = tree.add(None, limits).ok();
        Self { tree: Mutex::new(tree), wos, is_changed: AtomicBool::new(false) }
    }
}

impl Quotas {
    /// Adds the groups of a daemon, without limits of their own. None if there is no place for them.
    pub(crate) fn open(self: &Arc<Self>) -> Option<DaemonAccounts> {
        let daemon = self.group(self.wos?)?;
        let memory = self.group(daemon.group)?;
        let state = self.group(daemon.group)?;
        Some(DaemonAccounts { memory, state, daemon })
    }

    fn group(self: &Arc<Self>, above: GroupId) -> Option<Account> {
        let group = self.tree.lock().add(Some(above), Limits::NONE).ok()?;
        Some(Account { quotas: self.clone(), group })
    }

    /// Whether any pressure has changed since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        self.is_changed.load(Relaxed) && self.is_changed.swap(false, Relaxed)
    }

    /// The pressure on a group: its own, or that of one above it if that is higher.
    pub(crate) fn pressure(&self, group: GroupId) -> Pressure {
        self.tree.lock().pressure(group, Resource::Memory).unwrap_or_default()
    }

    /// Whether the rules of the tree hold.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.tree.lock().check_invariants()
    }

    fn with<R>(
        &self,
        step: impl FnOnce(&mut QuotaTree<Box<[Slot]>>, &mut dyn FnMut(PressureChange)) -> R,
    ) -> R {
        step(&mut self.tree.lock(), &mut |_| self.is_changed.store(true, Relaxed))
    }
}

/// The accounts of one daemon. Fields are dropped in their order: a group goes before the one above it.
pub(crate) struct DaemonAccounts {
    pub(crate) memory: Account,
    pub(crate) state: Account,
    pub(crate) daemon: Account,
}

impl DaemonAccounts {
    /// The groups of memory and of state.
    pub(crate) const fn groups(&self) -> [GroupId; 2] {
        [self.memory.group, self.state.group]
    }
}

/// A group, for as long as this is there.
pub(crate) struct Account {
    quotas: Arc<Quotas>,
    group: GroupId,
}

impl Account {
    /// Which group it is.
    pub(crate) const fn group(&self) -> GroupId {
        self.group
    }

    /// Changes what is held by this much. Giving back always succeeds.
    ///
    /// # Errors
    /// [`ChargeError`], when a limit would be passed; nothing has changed then.
    pub(crate) fn resize(&self, from_bytes: u64, to_bytes: u64) -> Result<(), ChargeError> {
        self.quotas.with(|tree, tell| match to_bytes.checked_sub(from_bytes) {
            Some(0) => Ok(()),
            Some(more) => tree.charge(NOW, self.group, Resource::Memory, more, tell),
            None => {
                let less = from_bytes.saturating_sub(to_bytes);
                // Nobody gives back more than was charged.
                let _ = tree.refund(NOW, self.group, Resource::Memory, less, tell);
                Ok(())
            }
        })
    }

    /// Limits what is held from now on.
    pub(crate) fn limit(&self, bytes_max: u64) {
        let limits = Limits { memory_bytes: bytes_max, ..Limits::NONE };
        self.quotas.with(|tree, tell| tree.set_limits(NOW, self.group, limits, tell));
    }

    /// How scarce room is: its own, or what is above it if that is scarcer.
    pub(crate) fn pressure(&self) -> Pressure {
        self.quotas.pressure(self.group)
    }

    /// How much is held, in bytes.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.quotas.tree.lock().used(self.group, Resource::Memory).unwrap_or(0)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Refused only while there are groups below, which go first.
        let _ = self.quotas.with(|tree, tell| tree.remove(NOW, self.group, tell));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(daemons_max: usize, memory_bytes_max: u64) -> Arc<Quotas> {
        Arc::new(Quotas::new(daemons_max, memory_bytes_max))
    }

    fn open(quotas: &Arc<Quotas>, memory_bytes_max: u64) -> DaemonAccounts {
        let accounts = quotas.open().unwrap();
        accounts.memory.limit(memory_bytes_max);
        accounts
    }

    #[test]
    fn a_daemon_and_the_whole_are_limited_and_what_ends_gives_back() {
        let quotas = quotas(2, 150);
        let first = open(&quotas, 100);
        let second = open(&quotas, 100);
        assert!(quotas.open().is_none(), "there is room for two");
        assert_eq!(first.memory.resize(0, 100), Ok(()));
        assert!(first.memory.resize(100, 101).is_err(), "its own limit");
        assert_eq!(second.memory.resize(0, 40), Ok(()));
        let refused = second.state.resize(0, 11).unwrap_err();
        assert!(
            matches!(refused, ChargeError::OverLimit { limit: 150, used: 140, .. }),
            "{refused}"
        );
        assert_eq!(quotas.check_invariants(), Ok(()));
        drop(first);
        assert_eq!(second.state.resize(0, 110), Ok(()));
        assert_eq!(second.daemon.used_bytes(), 150);
        drop(second);
        assert_eq!(quotas.check_invariants(), Ok(()));
        assert!(quotas.open().is_some());
    }

    #[test]
    fn pressure_is_known_before_the_limit_and_after() {
        let quotas = quotas(1, u64::MAX);
        let daemon = open(&quotas, 100);
        let at = |bytes: u64| {
            let before = daemon.memory.used_bytes();
            let refused = daemon.memory.resize(before, bytes).is_err();
            (quotas.take_changed(), quotas.pressure(daemon.memory.group()), refused)
        };
        assert_eq!(at(79), (false, Pressure::Calm, false));
        assert_eq!(at(80), (true, Pressure::Elevated, false));
        assert_eq!(at(90), (false, Pressure::Elevated, false));
        assert_eq!(at(101), (true, Pressure::Critical, true));
        assert_eq!(at(10), (true, Pressure::Calm, false));
        daemon.state.limit(10);
        assert_eq!(quotas.pressure(daemon.state.group()), Pressure::Calm);
    }

    #[test]
    fn what_was_there_before_the_limit_stays() {
        let quotas = quotas(1, u64::MAX);
        let daemon = open(&quotas, 0);
        assert_eq!(daemon.state.resize(0, 50), Ok(()));
        daemon.state.limit(40);
        assert_eq!(quotas.pressure(daemon.state.group()), Pressure::Critical);
        assert!(daemon.state.resize(50, 51).is_err());
        assert_eq!(daemon.state.resize(50, 45), Ok(()));
        assert_eq!(daemon.state.used_bytes(), 45);
    }
}
