//! `sd_notify`: how a native program says that it is ready, has reloaded, and lives.
//!
//! One datagram socket serves the fleet. Who sent a datagram is told by the kernel (`SCM_CREDENTIALS`),
//! so no daemon can speak for another; a datagram of a process that no daemon is, is ignored.

use std::{
    fs, io,
    mem::MaybeUninit,
    path::{Path, PathBuf},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use tokio::{io::Interest, net::UnixDatagram};

/// Longest datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 4_096;

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) pid: u32,
    pub(crate) ready: bool,
    /// A sign of life for its watchdog.
    pub(crate) alive: bool,
    pub(crate) status: Option<String>,
}

/// The fleet's notification socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    path: PathBuf,
    socket: UnixDatagram,
}

impl NotifySocket {
    /// Opens the socket. Whoever runs as another user can write to it too: the credentials tell who
    /// it is.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(path)?;
        sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self { path: path.to_owned(), socket })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next notification. Cancel-safe.
    pub(crate) async fn next(&self) -> io::Result<Notification> {
        loop {
            let received =
                self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await?;
            if let Some(notification) = received {
                return Ok(notification);
            }
        }
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // If it is gone already, that is what was wanted.
        let _ = fs::remove_file(&self.path);
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<Option<Notification>> {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    // Descriptors that came along are closed when the messages are dropped.
    let pid = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => {
            u32::try_from(credentials.pid.as_raw_pid()).ok()
        }
        _ => None,
    });
    let text = String::from_utf8_lossy(bytes.get(..received.bytes).unwrap_or_default());
    Ok(pid.map(|pid| parse(pid, &text)))
}

fn parse(pid: u32, text: &str) -> Notification {
    let mut notification = Notification { pid, ready: false, alive: false, status: None };
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => notification.ready = true,
            Some(("STATUS", status)) => notification.status = Some(status.to_owned()),
            Some(("WATCHDOG", "1")) => notification.alive = true,
            // `RELOADING=1` begins what `READY=1` ends: the manager asked for it and waits for the
            // end. The descriptor store comes with what uses it.
            Some(_) | None => {}
        }
    }
    notification
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_datagram_tells_who_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::open(&path).unwrap();
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=up\nREADY=1\nFOO=2\n", &path).unwrap();
        let expected = Notification {
            pid: std::process::id(),
            ready: true,
            alive: false,
            status: Some("up".to_owned()),
        };
        assert_eq!(socket.next().await.unwrap(), expected);
        sender.send_to(b"WATCHDOG=1", &path).unwrap();
        let expected = Notification { ready: false, alive: true, status: None, ..expected };
        assert_eq!(socket.next().await.unwrap(), expected);
        drop(socket);
        assert!(!path.exists());
    }
}
