//! How a worker gets its images: their names, each with the open file, one to a message. The first one is the
//! [mark](super::mark) of open slices.
//!
//! A worker has no files. What it is to run comes beside its link, in a socket of its own that keeps messages
//! apart (`SOCK_SEQPACKET`), before the daemon that needs it is described over the link. So it is on its way when
//! it is looked for.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

use super::mark::MarkFile;

/// Longest name of an entry, in bytes: a path.
const NAME_BYTES_MAX: usize = 4_096;

/// Both ends.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Hands an image over. Waits for nobody: a worker that takes none is an error.
///
/// # Errors
/// The entry can't be opened, or the worker takes nothing.
pub(crate) fn give(to: BorrowedFd<'_>, entry: &Path) -> io::Result<()> {
    give_file(to, entry.as_os_str().as_encoded_bytes(), File::open(entry)?.as_fd())
}

/// Hands over the mark of open slices: it comes first.
///
/// # Errors
/// The worker takes nothing.
pub(crate) fn give_mark(to: BorrowedFd<'_>, mark: &MarkFile) -> io::Result<()> {
    give_file(to, b"mark", mark.file()?.as_fd())
}

fn give_file(to: BorrowedFd<'_>, name: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(io::Error::other(format!("its name has {} bytes", name.len())));
    }
    let files = [file];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(to, &[IoSlice::new(name)], &mut control, flags)?;
    Ok(())
}

/// The next one; none when there are no more.
pub(super) fn take(from: &OwnedFd) -> io::Result<Option<(String, File)>> {
    loop {
        let mut name = [0; NAME_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut name)];
        let received = match recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) if received.bytes == 0 => return Ok(None),
            Ok(received) => received.bytes,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let name = name.get(..received).unwrap_or_default();
        let name = String::from_utf8(name.to_vec()).map_err(io::Error::other)?;
        let file = file.ok_or_else(|| io::Error::other("no file comes with it"))?;
        return Ok(Some((name, file.into())));
    }
}
