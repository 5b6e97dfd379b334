//! What feeds a daemon's channel: lines of a followed log, lines of standard input, or ticks.
//!
//! A `Source` yields [`Item`]s. Each carries the position to commit together with the slice that
//! consumed it; a source that is opened at a committed position yields what comes after it. So a line
//! of a followed log is counted once however often the daemon, or the manager, dies. Standard input
//! and ticks cannot be read twice: their positions are empty, and what was not consumed is repeated
//! from the manager's memory.
//!
//! [`follow`] decides what of a log is read; it is a machine without I/O, which a model can drive where the
//! manager is not built. `tail` puts it on the system's files (`system`) and wakes it (`watch`).
//! What a reader of the channel cannot see, a file that was truncated, say, is told by [`Notice`]s.

#[cfg(feature = "sources")]
mod batch;
#[cfg(feature = "sources")]
pub mod follow;
#[cfg(feature = "manager")]
mod interval;
#[cfg(feature = "sources")]
mod notice;
#[cfg(feature = "manager")]
mod open;
#[cfg(feature = "manager")]
mod stdin;
#[cfg(feature = "manager")]
mod system;
#[cfg(feature = "manager")]
mod tail;
#[cfg(feature = "manager")]
mod watch;

#[cfg(test)]
#[cfg(feature = "manager")]
mod tests;

#[cfg(feature = "sources")]
pub use batch::{Batch, Item, Position};
#[cfg(feature = "sources")]
pub use notice::{Gap, NOTICES_MAX, Notice, Notices};
#[cfg(feature = "manager")]
pub use open::{Source, SourceError, SourceSpec};

/// Longest payload of an item, in bytes: a longer line is delivered in pieces.
#[cfg(feature = "sources")]
pub const ITEM_BYTES_MAX: usize = 65_536;

/// Where a log is read from if no position of it was ever committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// From the first line of the file that has the name.
    #[default]
    Beginning,
    /// From what is appended after it was opened.
    End,
}
