//! `duende keep`: the process that holds a fleet's native daemons.
//!
//! One per fleet, single-threaded and small. It starts the daemons, holds their pipes, writes what
//! they print to their logs, and tells the manager at once when one ends. It decides nothing: when
//! to start, to signal or to give up is the manager's.
//!
//! Rules:
//! 1. **A process belongs to its daemon however it moves**: to another group or session, or orphaned.
//!    It is in the daemon's cgroup, or carries its marker.
//! 2. **A stop asks everybody, and everybody keeps the grace** (`ending`). What a dead daemon left
//!    behind ends before the daemon is said to have ended: a start never meets it.
//! 3. **A signal is for whom it is meant for** (`members`), and only this loop reaps.
//! 4. **Deaths and requests before output.** A daemon that prints without end delays nobody's
//!    restart.
//! 5. **When [`KeepEvent::Exited`] is sent, what the daemon had printed is in its log**, and whatever
//!    process of it printed it.
//! 6. **Nothing survives the link.** When the manager is gone every daemon is asked to end, killed
//!    after its own grace, and `keep` ends after the last one. Until then it holds a lock, so that
//!    the next manager can wait ([`wait_for_previous`]).
//! 7. **Nothing leaks into a daemon:** not `keep`'s environment, descriptors, signal mask or raised
//!    descriptor limit.
//! 8. **What can't be made for one daemon** (a process, a descriptor) **is that daemon's failure**.
//!
//! The manager's side is [`KeepClient`].

mod asks;
mod background;
mod cgroup;
mod client;
mod ending;
mod hangup;
mod held;
mod launch;
mod left;
mod lines;
mod link;
mod lock;
mod marker;
mod members;
mod options;
mod output;
mod pid_file;
mod process;
mod protocol;
mod reports;
mod spawn;
mod starts;
#[cfg(test)]
mod stop_tests;
mod sys;
mod table;
#[cfg(test)]
mod tests;

pub use client::KeepClient;
pub(crate) use left::Left;
pub use lock::wait_for_previous;
pub use members::Belonging;
pub use options::KeepOptions;
pub(crate) use output::{Drained, Stream};
pub(crate) use pid_file::remove_pid_file;
pub use protocol::{Exit, KeepEvent, KeepRequest, RunAs, SpawnRequest, StopRule};
pub(crate) use sys::{Which, dead_child, outlive_file_limit, reap_ended};

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use duende_core::wire::{EncodeError, FrameError};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Environment variable by which the processes of a daemon are known where there are no cgroups:
/// `<fleet>/<name>/<incarnation>/<keep>`, the last being a process id: fleets of other users, or in other
/// directories, may have the same names.
pub const DAEMON_VARIABLE: &str = "DUENDE_DAEMON";

/// The marker of the processes of one incarnation.
#[must_use]
pub fn marker_of(fleet: &str, name: &str, incarnation: u32, keep: u32) -> String {
    format!("{fleet}/{name}/{incarnation}/{keep}")
}

/// Why `keep`, or the manager's side of it, can't go on.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Standard input is not a link.
    #[error(
        "standard input is not a link to a manager: `duende keep` is started by `duende`, not by hand"
    )]
    NotALink,
    /// A system call failed.
    #[error("{action} failed: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A message does not fit into a frame.
    #[error("{source}: the command line and environment of a daemon must fit into one message")]
    Encode {
        /// Why.
        #[from]
        source: EncodeError,
    },
    /// The other side sent something that is not a message.
    #[error("the link between manager and keep is damaged: {source}")]
    Frame {
        /// What was found.
        #[from]
        source: FrameError,
    },
    /// More descriptors came than requests that take one.
    #[error("the link between manager and keep is damaged: descriptors without a request")]
    StrayDescriptors,
    /// Another `keep` of this fleet still ends what it holds.
    #[error(
        "another keep of this fleet{} still ends what it started: wait, or end it; it holds {}",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    StillThere {
        /// The lock.
        path: PathBuf,
        /// Its process id, as the lock's file has it.
        pid: Option<u32>,
    },
    /// It was not told whose it is.
    #[error("`duende keep` is started by `duende`, not by hand: it does not know these arguments")]
    Arguments,
    /// `keep` does not read its requests.
    #[error("keep does not answer: {pending_bytes} bytes of requests wait; is it stopped?")]
    Backlog {
        /// Bytes that wait.
        pending_bytes: usize,
    },
    /// The other side closed the link.
    #[error("keep ended ({how}): its daemons have no output and no exit status from here on")]
    Gone {
        /// Its exit status, for people.
        how: String,
    },
}

impl KeepError {
    fn system(action: &'static str, error: impl Into<io::Error>) -> Self {
        Self::System { action, source: error.into() }
    }
}

/// Runs `keep` until its manager is gone and every daemon has ended. Takes over the calling
/// process: its signal mask, its children and its limit of open files.
///
/// # Errors
/// When the process can't be set up, or the manager sends something that is not a request. Every
/// daemon is stopped first.
pub fn run(link: OwnedFd, options: KeepOptions) -> Result<(), KeepError> {
    process::Keeper::new(link, options)?.run()
}

/// The main function of `duende keep`, with what [`KeepClient::start`] gives it: the link as standard
/// input, and arguments.
///
/// # Errors
/// [`KeepError::NotALink`] when standard input is something else, [`KeepError::Arguments`] when the
/// arguments are; else as [`run`].
pub fn main() -> Result<(), KeepError> {
    // After the program and the verb.
    run_on_stdin(std::env::args_os().skip(2))
}

fn run_on_stdin(arguments: impl IntoIterator<Item = OsString>) -> Result<(), KeepError> {
    let stdin = io::stdin();
    let is_link = sockopt::socket_domain(stdin.as_fd()) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(stdin.as_fd()) == Ok(SocketType::STREAM);
    if !is_link {
        return Err(KeepError::NotALink);
    }
    let link = stdin
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| KeepError::system("taking over the link", error))?;
    let options = KeepOptions::parse(arguments).ok_or(KeepError::Arguments)?;
    // The executable's name may be one that says nothing: it is started as what this process runs.
    let _ = rustix::thread::set_name(c"duende-keep");
    run(link, options)
}
