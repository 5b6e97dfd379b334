//! Names of what a supervisor has: a place in its storage, and how many had that place before.

/// Names one daemon of one supervisor. A slot that is used again has another generation, so an
/// identifier that is kept too long is refused instead of naming a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl DaemonId {
    /// The place in the supervisor's table; [`Address::daemon`](crate::wire::link::Address) on the
    /// link.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Counts the daemons that had the slot before.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl core::fmt::Display for DaemonId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "daemon {}.{}", self.slot, self.generation)
    }
}

/// Names one group of one supervisor. It is as safe to keep as a [`DaemonId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl core::fmt::Display for GroupId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "group {}.{}", self.slot, self.generation)
    }
}
