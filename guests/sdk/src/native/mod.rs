//! The daemon as a native process: the contract's slices, driven over the link that the manager
//! handed down.
//!
//! One thread. It waits for a command, a signal or the instant that the daemon asked for, and runs at
//! most one slice before it looks at the link again. Rules:
//! 1. Questions (health, metrics) and the order to stop are answered at a slice boundary, ahead of
//!    work. A daemon in a long slice does not answer; the manager's own deadline finds it.
//! 2. A slice that failed sends nothing of its transaction and ends the process with exit code 1.
//! 3. SIGTERM, [`Command::Shutdown`] and the manager's end all lead to one call of `shutdown`.
//! 4. Writing to the link may block this thread: the manager promises to read while it writes.

use std::env;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use duende_core::wire::link::{Address, Command, LINK_VERSION, Outcome};
use duende_core::wire::{EncodeError, FrameError};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketType, sockopt};

use crate::daemon::Daemon;

mod driver;
mod link;

use driver::Driver;

/// Names the descriptor of the link to the manager.
const LINK_FD: &str = "DUENDE_LINK_FD";

/// Why the process could not be, or remain, a daemon.
#[derive(Debug, thiserror::Error)]
enum NativeError {
    #[error(
        "this program is a daemon, to be started by duende: list it in a fleet file under \
         `[[daemon]]` with `command = [\"{program}\"]` and run `duende up FILE`"
    )]
    NotStartedByDuende { program: String },
    #[error("{LINK_FD}={value} is not the number of an open stream socket; duende sets it")]
    Descriptor { value: String },
    #[error("the link to the manager: {0}")]
    Link(#[from] io::Error),
    #[error("the manager sent what cannot be read ({0}); are both from the same release?")]
    Frame(#[from] FrameError),
    #[error("an answer could not be written: {0}")]
    Encode(#[from] EncodeError),
    #[error("the manager broke the protocol of the link: {0}")]
    Protocol(&'static str),
}

/// Runs the daemon `T` to its end: the whole of a native daemon's `main`.
///
/// Exit codes: 0, it ended gracefully; 1, it failed; 2, it was not started by duende.
#[must_use]
pub fn run<T: Daemon>() -> ExitCode {
    let served = inherited_link().and_then(|link| {
        let (signals, on_signal) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, on_signal)?;
        serve::<T>(link, signals)
    });
    match served {
        Ok(Outcome::Graceful) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(match error {
                NativeError::NotStartedByDuende { .. } | NativeError::Descriptor { .. } => 2,
                NativeError::Link(_)
                | NativeError::Frame(_)
                | NativeError::Encode(_)
                | NativeError::Protocol(_) => 1,
            })
        }
    }
}

/// Takes over the descriptor that the manager handed down.
fn inherited_link() -> Result<UnixStream, NativeError> {
    let Ok(value) = env::var(LINK_FD) else {
        let program = env::args().next().unwrap_or_default();
        return Err(NativeError::NotStartedByDuende { program });
    };
    let Some(number) = value.parse::<i32>().ok().filter(|number| *number > 2) else {
        return Err(NativeError::Descriptor { value });
    };
    // SAFETY: the manager hands this descriptor down for this process alone, and `run`, the whole of
    // `main`, takes it once. If the number is not an open descriptor it is released again below,
    // before anything but system calls that check it has used it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let is_stream = sockopt::socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM);
    if !is_stream {
        // Not ours to close.
        let _ = descriptor.into_raw_fd();
        return Err(NativeError::Descriptor { value });
    }
    // A child of the daemon must not speak in its name.
    fcntl_setfd(descriptor.as_fd(), FdFlags::CLOEXEC).map_err(io::Error::from)?;
    Ok(UnixStream::from(descriptor))
}

/// Serves the link until the daemon is over. A byte on `signals` means SIGTERM.
fn serve<T: Daemon>(link: UnixStream, signals: UnixStream) -> Result<Outcome, NativeError> {
    let link = link::Link::new(link, signals)?;
    let Some(mut driver) = Driver::prepare(link)? else {
        // Asked to stop before there was anything to stop.
        return Ok(Outcome::Graceful);
    };
    driver.drive::<T>()
}

#[cfg(test)]
mod tests;
