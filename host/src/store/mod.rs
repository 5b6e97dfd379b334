//! The durable `state` of daemons: one database, one writer thread, one fsync for many slices.
//!
//! Rules:
//! 1. **A commit is atomic.** What one slice wrote, the positions of its sources and its metrics
//!    become durable together or not at all.
//! 2. **Order is kept.** Commits become durable in the order in which [`Store::commit`] accepted
//!    them; a later one is never durable without the earlier ones.
//! 3. **Groups.** The first commit that arrives opens a group; it closes after the store's window
//!    ([`GROUP_WINDOW`], unless it was opened with another) or [`GROUP_COMMITS_MAX`] commits, whichever is
//!    first, and costs one fsync: a small one that of the [journal], any other that of redb. A lone commit waits
//!    out its window too, which bounds the fsyncs (`a_window_is_how_long_a_lone_commit_waits`); nothing that a
//!    daemon does waits for it.
//!    [`load`](Store::load), [`snapshot`](Store::snapshot), [`flush`](Store::flush), [`forget`](Store::forget) and
//!    [`close`](Store::close) close the group at once, because somebody waits for them.
//! 4. **A failing disk reorders nothing, and loses nothing while the store is open.** The writer keeps
//!    the group, says so through [`Store::fault`], and tries again until it succeeds. Meanwhile commits
//!    queue up to [`QUEUE_COMMITS_MAX`] and [`QUEUE_BYTES_MAX`]; then `commit` waits, and
//!    [`try_commit`](Store::try_commit) gives the commit back.
//! 5. **A fault of writing stops no reading.** While a group fails, a load waits only if a commit of
//!    its own daemon does.
//! 6. **The end comes in time.** [`Store::close`] does not wait for a disk longer than it is told to;
//!    what may not be on it then is counted.
//!
//! `handle` is what daemons are given of it, `commit` what they hand over, `error` what is said of failures. `writer`
//! is the thread, its groups and its retries; `groups` is how these reach the tables, by way of the `journal` or past
//! it, and `pending` what is read of those that are in the journal alone. `database` is the open file, on a `disk` as
//! redb sees it: `file` is how it comes to be and whose it is, `about` what it says of itself, `daemons` what is done
//! to them in it, `check` how it is looked through. `tables` is its layout, `seal` how damage is found, `rows` what is
//! done to them, `record` who a daemon is in it, `migrate` the way from older layouts, `fault` what a failure of redb
//! means. `export` is the form in which a daemon leaves a file, and `state_file` what the command line does with the
//! file of a fleet that does not run.

mod about;
mod check;
mod commit;
mod daemons;
mod database;
mod disk;
mod error;
mod export;
mod fault;
mod file;
mod groups;
mod handle;
mod journal;
mod migrate;
mod pending;
mod record;
mod rows;
mod seal;
mod snapshot;
mod state_file;
mod tables;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod journal_crash_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod migrate_tests;
#[cfg(test)]
mod state_file_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use commit::{Commit, Loaded, Write};
pub use error::{FaultKind, Refused, StoreError, StoreFault};
pub use export::{EXPORT_BYTES_MAX, Export, ExportError};
pub use handle::Store;
pub use record::{DaemonId, Record};
pub use rows::{Kept, Listed};
pub use snapshot::{Snapshot, SnapshotError};
pub use state_file::{Checked, ImportError, StateFile};

/// The state of a fleet is this file in its state directory.
pub const STATE_FILE: &str = "state.redb";

/// How long a group stays open, unless the store is told otherwise.
pub const GROUP_WINDOW: Duration = Duration::from_millis(5);
/// Most commits in one group.
pub const GROUP_COMMITS_MAX: usize = 1_000;
/// Most commits accepted and not yet durable.
pub const QUEUE_COMMITS_MAX: usize = 10_000;
/// Most bytes of commits accepted and not yet durable. A single larger commit is accepted when the
/// queue is empty.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Called on the writer thread once a commit is durable. It must not block: all daemons wait for it.
pub type Done = Box<dyn FnOnce() + Send>;
