//! The socket of `sd_notify`: who said what. What it means is [`Notification`]'s.
//!
//! Rules:
//! 1. One datagram socket serves the fleet. Who sent a datagram is told by the kernel
//!    (`SCM_CREDENTIALS`); to name another process the sender needs `CAP_SYS_ADMIN`, so that a daemon
//!    that runs as root could speak for another. Whoever runs as another user can write to the socket
//!    too: its file has mode 0666.
//! 2. The descriptors of a datagram are taken out of it, whatever it says and however many they are,
//!    and closed; the one of `BARRIER=1` is handed over in [`Datagram::barrier`], and whoever drops it
//!    has handled everything that came before.
//! 3. Nothing is dropped because the manager is slow: a datagram socket of this family holds
//!    `net.unix.max_dgram_qlen` datagrams, and a sender beyond that waits in `sendmsg`, as long as it
//!    wants to. (`SO_RCVBUF` has no say here.)
//! 4. A socket file that was removed is made again by [`NotifySocket::ensure_present`], and what had
//!    come before is still read, until the file is removed once more. What is no socket is left where it
//!    stands (`tests::a_removed_socket_is_made_again_and_nothing_is_lost`).

use std::{
    fs, io,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg, sockopt,
};
use tokio::{io::Interest, net::UnixDatagram};

use crate::notification::{DATAGRAM_BYTES_MAX, Ignored, Notification};

/// Most descriptors that the kernel carries with one datagram (`SCM_MAX_FD`).
const DESCRIPTORS_MAX: usize = 253;
/// Everybody may write to the socket.
const SOCKET_MODE: u32 = 0o666;

/// A notification, and who sent it.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// The sending process, by the kernel's word.
    pub(crate) pid: u32,
    /// What it says.
    pub(crate) notification: Notification,
    /// Of `BARRIER=1`: the sender waits until this is closed.
    pub(crate) barrier: Option<OwnedFd>,
}

/// The fleet's notification socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    path: PathBuf,
    socket: Bound,
    /// A socket whose file was removed: what it holds, and what those bring who had found it before,
    /// is still read. The one before that is closed.
    before: Option<Bound>,
}

/// A socket and the file that it was bound to.
#[derive(Debug)]
struct Bound {
    socket: UnixDatagram,
    device: u64,
    inode: u64,
}

impl NotifySocket {
    /// Opens the socket; the file of one that nobody serves any more is replaced.
    ///
    /// # Errors
    /// It can't be made, or something that is no socket stands in its place.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        make_room(path)?;
        Ok(Self { path: path.to_owned(), socket: Bound::new(path)?, before: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the socket again if its file is gone; true if it had to. Costs one look at the file.
    ///
    /// # Errors
    /// As [`open`](Self::open). What has come and what comes to the old socket is read on.
    pub(crate) fn ensure_present(&mut self) -> io::Result<bool> {
        if self.socket.is_at(&self.path) {
            return Ok(false);
        }
        make_room(&self.path)?;
        let new = Bound::new(&self.path)?;
        self.before = Some(std::mem::replace(&mut self.socket, new));
        Ok(true)
    }

    /// The first directory above the socket that a program of another user can't pass; none: it can
    /// reach the socket.
    pub(crate) fn barred_by(&self) -> Option<PathBuf> {
        let barred = |directory: &&Path| {
            fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 0o001 == 0)
        };
        self.path.ancestors().skip(1).find(barred).map(Path::to_owned)
    }

    /// Waits for the next datagram. Cancel-safe.
    pub(crate) async fn next(&self) -> io::Result<Datagram> {
        let before = self.before.as_ref();
        loop {
            let received = tokio::select! {
                biased;
                received = wait(before) => received?,
                received = wait(Some(&self.socket)) => received?,
            };
            if let Some(datagram) = received {
                return Ok(datagram);
            }
        }
    }

    /// The next datagram, if one is there.
    ///
    /// # Errors
    /// The socket fails.
    pub(crate) fn try_next(&self) -> io::Result<Option<Datagram>> {
        for bound in self.before.iter().chain([&self.socket]) {
            loop {
                match receive(&bound.socket) {
                    Ok(Some(datagram)) => return Ok(Some(datagram)),
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

async fn wait(bound: Option<&Bound>) -> io::Result<Option<Datagram>> {
    match bound {
        Some(Bound { socket, .. }) => socket.async_io(Interest::READABLE, || receive(socket)).await,
        None => std::future::pending().await,
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if self.socket.is_at(&self.path) {
            // If it is gone already, that is what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        sockopt::set_socket_passcred(&socket, true)?;
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { socket, device: metadata.dev(), inode: metadata.ino() })
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

/// Removes a socket that a manager left behind, and nothing else.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket stands there; move it away",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The next datagram; none if it does not say who sent it.
fn receive(socket: &UnixDatagram) -> io::Result<Option<Datagram>> {
    // One byte more than may come, so that one that is too long shows.
    let mut bytes = [0; DATAGRAM_BYTES_MAX + 1];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut sender = None;
    let mut descriptors = Vec::new();
    // To the last message: one that is left in the buffer is read from the wrong place when the buffer
    // is dropped, because the messages' padding is not counted then, and its descriptors stay open.
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
            _ => {}
        }
    }
    let Some(sender) = sender else { return Ok(None) };
    // Of a process in a namespace of which we see nothing the number is 0.
    let Some(pid) = u32::try_from(sender.pid.as_raw_pid()).ok().filter(|pid| *pid != 0) else {
        return Ok(None);
    };
    let datagram = bytes.get(..received.bytes).unwrap_or_default();
    let mut notification = Notification::parse(datagram, descriptors.len());
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The buffer holds as many as can come: the manager has no descriptors left.
        notification.ignored = Some(Ignored::NoDescriptors);
    }
    let barrier = if notification.barrier { descriptors.pop() } else { None };
    Ok(Some(Datagram { pid, notification, barrier }))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSlice, Read as _},
        os::fd::{AsFd, BorrowedFd},
        os::unix::net::UnixDatagram as StdDatagram,
        time::Duration,
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};

    use super::*;
    use crate::notification::Phase;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        (directory, path)
    }

    fn send(path: &Path, text: &[u8]) {
        StdDatagram::unbound().unwrap().send_to(text, path).unwrap();
    }

    fn send_with(path: &Path, text: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        rustix::net::sendmsg_addr(
            StdDatagram::unbound().unwrap(),
            &SocketAddrUnix::new(path).unwrap(),
            &[IoSlice::new(text)],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
    }

    async fn next(socket: &NotifySocket) -> Datagram {
        tokio::time::timeout(DEADLINE, socket.next()).await.expect("a datagram").unwrap()
    }

    #[tokio::test]
    async fn a_datagram_tells_who_says_what() {
        let (_directory, path) = place();
        let socket = NotifySocket::open(&path).unwrap();
        assert!(socket.try_next().unwrap().is_none());
        send(&path, b"STATUS=up\nREADY=1\nFOO=2\n");
        let datagram = next(&socket).await;
        assert_eq!(datagram.pid, std::process::id());
        assert_eq!(datagram.notification.phase, Some(Phase::Ready));
        assert_eq!(datagram.notification.status.as_deref(), Some("up"));
        send(&path, &[b'x'; DATAGRAM_BYTES_MAX + 100]);
        assert_eq!(next(&socket).await.notification.ignored, Some(Ignored::TooLong));
        send(&path, b"");
        assert_eq!(next(&socket).await.notification, Notification::default());
        drop(socket);
        assert!(!path.exists());
    }

    /// Whatever comes along is closed once the datagram is read: the other end of the pipe sees it.
    #[tokio::test]
    async fn descriptors_that_come_along_are_closed() {
        let (_directory, path) = place();
        let socket = NotifySocket::open(&path).unwrap();
        for count in [1, 2, 7, 8, 9, 50, DESCRIPTORS_MAX] {
            for text in [&b"FDSTORE=1"[..], b"READY=1", b"BARRIER=1\nREADY=1", b"\0\0"] {
                let (mut reader, writer) = io::pipe().unwrap();
                send_with(&path, text, &vec![writer.as_fd(); count]);
                drop(writer);
                let datagram = next(&socket).await;
                assert!(datagram.barrier.is_none());
                let stored = if text == b"FDSTORE=1" { count } else { 0 };
                assert_eq!(datagram.notification.fdstore, stored);
                rustix::io::ioctl_fionbio(&reader, true).unwrap();
                assert_eq!(reader.read(&mut [0]).expect("closed"), 0, "{count} with {text:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_barrier_is_open_until_it_is_dropped() {
        let (_directory, path) = place();
        let socket = NotifySocket::open(&path).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&path, b"READY=1");
        send_with(&path, b"BARRIER=1", &[writer.as_fd()]);
        drop(writer);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        assert!(next(&socket).await.barrier.is_none());
        let barrier = next(&socket).await.barrier.expect("a descriptor");
        let open = reader.read(&mut [0]).unwrap_err();
        assert_eq!(open.kind(), io::ErrorKind::WouldBlock);
        drop(barrier);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    /// Far more than the queue of the socket holds: the senders wait, and nothing is lost.
    #[tokio::test]
    async fn a_thousand_that_are_ready_at_once_are_all_heard() {
        const DAEMONS: usize = 1_000;
        let (_directory, path) = place();
        let socket = NotifySocket::open(&path).unwrap();
        let senders = std::thread::spawn(move || {
            let senders: Vec<_> =
                (0..DAEMONS / 10).map(|_| StdDatagram::unbound().unwrap()).collect();
            for sender in senders.iter().cycle().take(DAEMONS) {
                sender.send_to(b"READY=1", &path).unwrap();
            }
        });
        for _ in 0..DAEMONS {
            assert_eq!(next(&socket).await.notification.phase, Some(Phase::Ready));
        }
        senders.join().unwrap();
        assert!(socket.try_next().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_removed_socket_is_made_again_and_nothing_is_lost() {
        let (_directory, path) = place();
        let mut socket = NotifySocket::open(&path).unwrap();
        assert!(!socket.ensure_present().unwrap());
        send(&path, b"STATUS=before");
        fs::remove_file(&path).unwrap();
        assert!(socket.ensure_present().unwrap());
        send(&path, b"STATUS=after");
        for expected in ["before", "after"] {
            assert_eq!(next(&socket).await.notification.status.as_deref(), Some(expected));
        }
        // Somebody else's file in its place is left, at the end too.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(socket.ensure_present().unwrap_err().to_string().contains("move it away"));
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(NotifySocket::open(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn every_user_may_write_to_it_if_the_directories_let_them() {
        let (directory, path) = place();
        let socket = NotifySocket::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
        let set = |mode| {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        set(0o700);
        assert_eq!(socket.barred_by().as_deref(), Some(directory.path()));
        set(0o711);
        assert_ne!(socket.barred_by().as_deref(), Some(directory.path()));
    }
}
