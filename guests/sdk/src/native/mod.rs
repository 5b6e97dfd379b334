//! The daemon as a native process: a WOS kernel with this one process, on the link that the manager
//! handed down.
//!
//! One thread. It waits for a command, a signal or the instant that the daemon asked for, and the
//! kernel makes at most one call before it looks at the link again. What a call may do, when it is
//! made and what comes of it are the kernel's rules (`wos_kernel`). Here are those of the process:
//! 1. SIGTERM and the manager's end are taken for the order to stop.
//! 2. A slice leaves this process whole, after its call returned. Log lines leave it at once.
//! 3. Writing to the link may block this thread: the manager promises to read while it writes.

use std::env;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use duende_core::wire::link::{LINK_FD_VARIABLE, Outcome};
use duende_core::wire::{EncodeError, FrameError, HelloError};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketType, sockopt};
use wos_kernel::ProtocolError;

use crate::daemon::Daemon;

mod driver;
mod link;
mod machine;

use driver::Driver;

/// Why the process could not be, or remain, a daemon.
#[derive(Debug, thiserror::Error)]
enum NativeError {
    #[error(
        "this program is a daemon, to be started by duende: list it in a fleet file under \
         `[[daemon]]` with `command = [\"{program}\"]` and run `duende up FILE`"
    )]
    NotStartedByDuende { program: String },
    #[error(
        "{LINK_FD_VARIABLE}={value} is not the number of an open stream socket; duende sets it"
    )]
    Descriptor { value: String },
    #[error("the link to the manager: {0}")]
    Link(#[from] io::Error),
    #[error("the manager sent what cannot be read ({0}); are both from the same release?")]
    Frame(#[from] FrameError),
    #[error("the link to the manager: {0}")]
    Hello(#[from] HelloError),
    #[error("an answer could not be written: {0}")]
    Encode(#[from] EncodeError),
    #[error("the manager broke the protocol of the link: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("a rule of the daemon's kernel is broken; please report this:\n{dump}")]
    Halted { dump: String },
}

/// Runs the daemon `T` to its end: the whole of a native daemon's `main`.
///
/// Exit codes: 0, it ended gracefully; 1, or the code that it says ([`Failure`](crate::Failure)), it failed;
/// 2, it was not started by duende.
#[must_use]
pub fn run<T: Daemon>() -> ExitCode {
    let served = inherited_link().and_then(|link| {
        let (signals, on_signal) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, on_signal)?;
        Driver::<T>::new(link, signals)?.drive()
    });
    match served {
        Ok((Outcome::Graceful, _)) => ExitCode::SUCCESS,
        // What has no code of its own is a failure.
        Ok((_, code)) => ExitCode::from(code.max(1)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(match error {
                NativeError::NotStartedByDuende { .. } | NativeError::Descriptor { .. } => 2,
                NativeError::Link(_)
                | NativeError::Frame(_)
                | NativeError::Hello(_)
                | NativeError::Encode(_)
                | NativeError::Protocol(_)
                | NativeError::Halted { .. } => 1,
            })
        }
    }
}

/// Takes over the descriptor that the manager handed down.
fn inherited_link() -> Result<UnixStream, NativeError> {
    let Ok(value) = env::var(LINK_FD_VARIABLE) else {
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

#[cfg(test)]
mod tests;
