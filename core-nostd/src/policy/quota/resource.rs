//! What is limited, and how much of it a group may use.

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Processor time, in nanoseconds per period. Spent.
    CpuTime,
    /// Memory, in bytes. Held.
    Memory,
    /// Messages sent and not yet received. Held.
    Messages,
    /// What was written to logs, in bytes per period. Spent.
    LogBytes,
}

/// How many resources there are.
pub const RESOURCES: usize = 4;

impl Resource {
    /// All of them.
    pub const ALL: [Self; RESOURCES] =
        [Self::CpuTime, Self::Memory, Self::Messages, Self::LogBytes];

    /// Whether it can be given back. What can't is forgotten at the end of each period.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Memory | Self::Messages)
    }

    /// Its name, as in configuration and output, with its unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuTime => "cpu time (ns)",
            Self::Memory => "memory (bytes)",
            Self::Messages => "messages",
            Self::LogBytes => "log bytes",
        }
    }
}

/// The most that a group may use of each resource; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Processor time per period, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Messages under way.
    pub messages: u64,
    /// Bytes written to logs, per period.
    pub log_bytes: u64,
}

impl Limits {
    /// No limit on anything.
    pub const NONE: Self = Self {
        cpu_time_ns: u64::MAX,
        memory_bytes: u64::MAX,
        messages: u64::MAX,
        log_bytes: u64::MAX,
    };

    pub(super) const fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::CpuTime => self.cpu_time_ns,
            Resource::Memory => self.memory_bytes,
            Resource::Messages => self.messages,
            Resource::LogBytes => self.log_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}
