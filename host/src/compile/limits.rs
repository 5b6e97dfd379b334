//! What one compilation may use.

use std::time::Duration;

/// The limits of one `duende compile-worker`: their defaults stand in
/// [`CompileConfig`](crate::config::CompileConfig).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space, in bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// Processor time, of all its threads together (`RLIMIT_CPU`, which counts whole seconds).
    pub cpu: Duration,
    /// From its start to its end.
    pub wall: Duration,
}

/// Machine code of one component, in bytes (`RLIMIT_FSIZE`): Python's, of 18 MB, comes to 60 MB.
pub(super) const CODE_BYTES_MAX: u64 = 1 << 30;
