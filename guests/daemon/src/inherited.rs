//! What the process that started this one left in the environment.
//!
//! Both variables are meant for this process alone. They are taken out of the environment, and the
//! link's descriptor is closed on exec, so that a child never speaks in this daemon's name.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use duende_core::wire::link::LINK_FD_VARIABLE;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketType, sockopt};

use super::notify::Notifier;
use super::{DaemonError, Priority, log};

/// Names the socket for sd_notify.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// What was found.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) notifier: Notifier,
    pub(super) link: Option<UnixStream>,
}

impl Inherited {
    /// Takes everything. Called once, before the process has a second thread.
    pub(super) fn take() -> Result<Self, DaemonError> {
        let notify_socket = env::var_os(NOTIFY_SOCKET);
        let link_fd = env::var_os(LINK_FD_VARIABLE);
        if notify_socket.is_some() || link_fd.is_some() {
            remove_variables();
        }
        Ok(Self {
            notifier: Notifier::connect(notify_socket.as_deref())?,
            link: link_fd.as_deref().map(take_link).transpose()?,
        })
    }
}

fn remove_variables() {
    if !is_single_threaded() {
        log(
            Priority::Warning,
            format_args!(
                "{NOTIFY_SOCKET} and {LINK_FD_VARIABLE} stay in the environment of children: call \
                 run_daemon before the program starts threads"
            ),
        );
        return;
    }
    for name in [NOTIFY_SOCKET, LINK_FD_VARIABLE] {
        // SAFETY: this is the only thread of the process, as was just seen, so nobody reads or
        // writes the environment at the same time.
        unsafe { env::remove_var(name) };
    }
}

/// Whether the kernel lists this thread alone. Where it can't be asked, it can't be shown.
fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

fn take_link(value: &OsStr) -> Result<UnixStream, DaemonError> {
    // Set once and never cleared: a second owner of the same descriptor can't come to be.
    static IS_TAKEN: AtomicBool = AtomicBool::new(false);
    let fd = parse_fd(value)?;
    if IS_TAKEN.swap(true, Ordering::Relaxed) {
        return Err(DaemonError::Config(
            "the link to the manager was taken already: call run_daemon once".to_owned(),
        ));
    }
    // SAFETY: the descriptor is only looked at; a number that is not open gives EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let checked = sockopt::socket_type(borrowed).and_then(|kind| {
        if kind == SocketType::STREAM {
            fcntl_setfd(borrowed, FdFlags::CLOEXEC)
        } else {
            Err(rustix::io::Errno::PROTOTYPE)
        }
    });
    checked.map_err(|source| DaemonError::Io {
        what: format!(
            "{LINK_FD_VARIABLE}={fd} is not a stream socket: the manager sets this variable; unset it to \
             run without a manager"
        ),
        source: source.into(),
    })?;
    // SAFETY: the descriptor is open, as was just seen; by the variable's meaning it was left to
    // this process for this purpose, and IS_TAKEN makes this its only owner.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let stream = UnixStream::from(owned);
    stream.set_nonblocking(true).map_err(|source| DaemonError::Io {
        what: format!("cannot use the link to the manager ({LINK_FD_VARIABLE}={fd})"),
        source,
    })?;
    Ok(stream)
}

/// Standard input, output and error can't be the link.
fn parse_fd(value: &OsStr) -> Result<RawFd, DaemonError> {
    value.to_str().and_then(|text| text.parse::<RawFd>().ok()).filter(|fd| *fd > 2).ok_or_else(
        || DaemonError::Io {
            what: format!(
                "{LINK_FD_VARIABLE}={} is not the number of an inherited descriptor: unset it to run \
                 without a manager",
                value.display()
            ),
            source: io::Error::from(io::ErrorKind::InvalidInput),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_above_stderr_are_descriptors() {
        assert_eq!(parse_fd(OsStr::new("7")).unwrap(), 7);
        for bad in ["", "x", "-1", "0", "2", "99999999999", "3 "] {
            let error = parse_fd(OsStr::new(bad)).unwrap_err();
            assert!(error.to_string().contains("unset it"), "{bad}: {error}");
        }
    }
}
