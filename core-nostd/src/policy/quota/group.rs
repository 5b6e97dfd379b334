//! A group: where it stands in its tree, and a meter for each resource.

use super::meter::Meter;
use super::{GroupId, RESOURCES, Resource};

/// A place for one group in a tree's storage.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(super) generation: u32,
    pub(super) group: Option<Group>,
}

impl Slot {
    /// A slot that is free.
    pub const EMPTY: Self = Self { generation: 0, group: None };
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) parent: Option<GroupId>,
    /// 1 for one with nothing above it.
    pub(super) depth: u8,
    pub(super) children: u32,
    /// In the order of [`Resource::ALL`].
    pub(super) meters: [Meter; RESOURCES],
}

impl Group {
    pub(super) const fn meter(&self, resource: Resource) -> &Meter {
        let [cpu_time, memory, messages, log_bytes] = &self.meters;
        match resource {
            Resource::CpuTime => cpu_time,
            Resource::Memory => memory,
            Resource::Messages => messages,
            Resource::LogBytes => log_bytes,
        }
    }

    pub(super) const fn meter_mut(&mut self, resource: Resource) -> &mut Meter {
        let [cpu_time, memory, messages, log_bytes] = &mut self.meters;
        match resource {
            Resource::CpuTime => cpu_time,
            Resource::Memory => memory,
            Resource::Messages => messages,
            Resource::LogBytes => log_bytes,
        }
    }
}
