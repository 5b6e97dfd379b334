//! `duende keep`: the process that holds a fleet's native daemons.
//!
//! One per fleet, single-threaded and small. It starts the daemons, holds their pipes, writes what
//! they print to their logs, and tells the manager at once when one ends. It decides nothing: when
//! to start, to signal or to give up is the manager's.
//!
//! Rules:
//! 1. **Every process is in a group of its own,** which its daemon leads. When the leader is dead,
//!    what is left of the group is killed; `keep` is the subreaper, so what lost its parent comes
//!    to it and is reaped.
//! 2. **A process id is used only while its process is unreaped,** and only this loop reaps: a
//!    signal never meets a stranger.
//! 3. **Deaths and requests before output.** A daemon that prints without end delays nobody's
//!    restart.
//! 4. **When [`KeepEvent::Exited`] is sent, what the daemon had printed is in its log.**
//! 5. **Nothing survives the link.** When the manager is gone, every daemon gets SIGTERM, after its
//!    own grace SIGKILL, and `keep` ends after the last one.
//! 6. **Nothing leaks into a daemon:** not `keep`'s environment, descriptors, signal mask or raised
//!    descriptor limit.
//!
//! The manager's side is [`KeepClient`].

mod client;
mod lines;
mod link;
mod process;
mod protocol;
mod spawn;
mod sys;
#[cfg(test)]
mod tests;

pub use client::KeepClient;
pub use protocol::{Exit, KeepEvent, KeepRequest, RunAs, SpawnRequest, StopRule};

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use duende_core::wire::{EncodeError, FrameError};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Environment variable that tells a daemon the number of its link's descriptor.
pub const LINK_FD_VARIABLE: &str = "DUENDE_LINK_FD";

/// Environment variable by which the processes of a daemon are known where there are no cgroups:
/// `<fleet>/<name>/<incarnation>`.
pub const DAEMON_VARIABLE: &str = "DUENDE_DAEMON";

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
pub fn run(link: OwnedFd) -> Result<(), KeepError> {
    process::Keeper::new(link)?.run()
}

/// [`run`] with the link that [`KeepClient::start`] passes as standard input.
///
/// # Errors
/// [`KeepError::NotALink`] when standard input is something else; else as [`run`].
pub fn run_on_stdin() -> Result<(), KeepError> {
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
    run(link)
}
