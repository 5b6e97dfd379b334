//! Frames and descriptors over a stream socket that never blocks; both ends use it.
//!
//! The kernel delivers an attached descriptor together with the byte that it was attached to, which
//! is the first of its frame. So descriptors arrive in the order of the requests that take one.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use duende_core::wire::{Decoder, EncodeError, FRAME_BYTES_MAX, Message, encode};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::KeepError;

/// Most descriptors that wait for the rest of their request.
const WAITING_FDS_MAX: usize = 64;

/// A sent part is dropped from the buffer once it is this long, in bytes.
const COMPACT_BYTES: usize = 64 << 10;

/// What waits to be sent.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Descriptors, and where in `bytes` the frame of each begins; ascending.
    fds: VecDeque<(usize, OwnedFd)>,
    frame: Box<[u8]>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            sent: 0,
            fds: VecDeque::new(),
            frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
        }
    }

    pub(super) const fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.pending_bytes() == 0
    }

    /// Adds a frame, and the descriptor that travels with it.
    pub(super) fn push<T: Message + Serialize>(
        &mut self,
        message: &T,
        fd: Option<OwnedFd>,
    ) -> Result<(), EncodeError> {
        let length = encode(message, &mut self.frame)?;
        if let Some(fd) = fd {
            self.fds.push_back((self.bytes.len(), fd));
        }
        let frame = self.frame.get(..length).unwrap_or_default();
        self.bytes.extend_from_slice(frame);
        Ok(())
    }

    /// Sends what the socket takes now. `WouldBlock` when something is left.
    pub(super) fn flush(&mut self, socket: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            let (end, fd) = match self.fds.front() {
                Some((start, fd)) if *start == self.sent => {
                    let next = self.fds.get(1).map_or(self.bytes.len(), |(start, _)| *start);
                    (next, Some(fd.as_fd()))
                }
                Some((start, _)) => (*start, None),
                None => (self.bytes.len(), None),
            };
            let part = self.bytes.get(self.sent..end).unwrap_or_default();
            let attached = fd.is_some();
            match send(socket.as_fd(), part, fd) {
                Ok(sent) => {
                    self.sent = self.sent.saturating_add(sent);
                    if attached {
                        self.fds.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.compact();
                    return Err(error.into());
                }
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }

    /// Gives up what was not sent: nobody will take it.
    pub(super) fn abandon(&mut self) {
        self.bytes.clear();
        self.fds.clear();
        self.sent = 0;
    }

    fn compact(&mut self) {
        if self.sent >= COMPACT_BYTES {
            self.bytes.drain(..self.sent);
            for (start, _) in &mut self.fds {
                *start -= self.sent;
            }
            self.sent = 0;
        }
    }
}

fn send(socket: BorrowedFd<'_>, part: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(part)], &mut control, flags)
}

/// What one look at the socket gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// More bytes.
    Some,
    /// The other side is gone.
    Closed,
}

/// What was received and not yet taken.
#[derive(Debug)]
pub(super) struct Inbox {
    decoder: Decoder<Box<[u8]>>,
    /// One for each message that came with one; none for one that this process had no room for.
    fds: VecDeque<Option<OwnedFd>>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            decoder: Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice()),
            fds: VecDeque::new(),
        }
    }

    /// Receives what is there. Call it after [`next`](Self::next) gave `None`. `WouldBlock` when
    /// there is nothing.
    pub(super) fn receive(&mut self, socket: impl AsFd) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let spare = self.decoder.spare();
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(socket.as_fd(), &mut [IoSliceMut::new(spare)], &mut control, flags)
        });
        let received = match received {
            Ok(received) => received,
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(error.into()),
        };
        self.decoder.filled(received.bytes);
        let before = self.fds.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds.map(Some));
            }
        }
        // The kernel delivers at most one attachment at a time, so it is clear whose is missing.
        if received.flags.contains(ReturnFlags::CTRUNC) && self.fds.len() == before {
            self.fds.push_back(None);
        }
        Ok(match received.bytes {
            0 => Received::Closed,
            _ => Received::Some,
        })
    }

    /// Takes the next message.
    pub(super) fn next<T: Message + DeserializeOwned>(&mut self) -> Result<Option<T>, KeepError> {
        if self.fds.len() > WAITING_FDS_MAX {
            return Err(KeepError::StrayDescriptors);
        }
        Ok(self.decoder.next()?)
    }

    /// Takes the descriptor of the message that was taken last. None when it was lost on the way: this
    /// process may have no more of them.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use duende_core::wire::link::Address;

    use super::super::KeepEvent;
    use super::*;

    /// Far more than a socket takes at once, with a descriptor on every third message: all arrive
    /// whole, and each descriptor belongs to its message.
    #[test]
    fn frames_and_descriptors_arrive_in_order_through_a_full_socket() {
        const MESSAGES: u32 = 600;
        let (one, other) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::new();
        let mut inbox = Inbox::new();
        let mut ends = Vec::new();
        let mut expected = 0;
        let mut blocked = 0;
        for number in 0..=MESSAGES {
            let finished = number == MESSAGES;
            if !finished {
                let fd = (number % 3 == 0).then(|| {
                    let (mut mine, theirs) = UnixStream::pair().unwrap();
                    mine.write_all(&number.to_le_bytes()).unwrap();
                    ends.push(mine);
                    OwnedFd::from(theirs)
                });
                let event = KeepEvent::SpawnFailed {
                    at: Address::of(number, 1),
                    errno: 2,
                    reason: "r".repeat(4_000),
                };
                outbox.push(&event, fd).unwrap();
            }
            let full = outbox.flush(&one).is_err();
            blocked += u32::from(full);
            if !full && !finished {
                continue;
            }
            loop {
                while let Some(event) = inbox.next::<KeepEvent>().unwrap() {
                    let KeepEvent::SpawnFailed { at, .. } = event else {
                        panic!("{event:?}");
                    };
                    assert_eq!(at.daemon, expected);
                    if expected.is_multiple_of(3) {
                        let mut word = [0; 4];
                        let mut end = File::from(inbox.take_fd().unwrap());
                        end.read_exact(&mut word).unwrap();
                        assert_eq!(u32::from_le_bytes(word), expected);
                    }
                    expected += 1;
                }
                match inbox.receive(&other) {
                    Ok(received) => assert_eq!(received, Received::Some),
                    Err(_) if outbox.is_empty() || !finished => break,
                    Err(_) => outbox.flush(&one).unwrap_or_default(),
                }
            }
        }
        assert!(blocked > 1);
        assert_eq!(expected, MESSAGES);
        drop(one);
        assert_eq!(inbox.receive(&other).unwrap(), Received::Closed);
    }
}
