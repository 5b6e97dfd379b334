//! The socket to the manager: commands in, events out, and one place to wait at.
//!
//! The two directions have an owner each. The [`Inbox`] belongs to the driver, whose commands borrow
//! from it; the [`Outbox`] is shared with the daemon's log, whose lines leave in the middle of a
//! slice. Everything goes out through the one outbox, so the order of frames is the order of sending.

use core::time::Duration;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use duende_core::wire::link::{Command, Event};
use duende_core::wire::{Decoder, EncodeError, FRAME_BYTES_MAX, Hello, Role, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::NativeError;

/// Bytes that are gathered before they are written; one frame more may lie there for a moment.
const OUTBOX_BYTES_MAX: usize = 65_536;

/// What reading the link came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Some bytes arrived: there may be commands.
    Some,
    /// Nothing is there now.
    Nothing,
    /// The manager is gone.
    End,
}

/// What comes in: the link, and the pipe that signals arrive through.
pub(super) struct Inbox {
    socket: Arc<UnixStream>,
    signals: UnixStream,
    decoder: Decoder<Box<[u8]>>,
}

impl Inbox {
    pub(super) fn new(socket: Arc<UnixStream>, signals: UnixStream) -> Self {
        let decoder = Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
        Self { socket, signals, decoder }
    }

    /// Whether the manager has said hello, and speaks a version of the link that is spoken here.
    pub(super) fn hear_hello(&mut self) -> Result<bool, NativeError> {
        Ok(Hello::of(Role::SDK).hear(&mut self.decoder)?.is_some())
    }

    /// The next command that has arrived whole.
    pub(super) fn next_command(&mut self) -> Result<Option<Command<'_>>, NativeError> {
        Ok(self.decoder.next::<Command<'_>>()?)
    }

    /// Reads what is there, without waiting.
    pub(super) fn read(&mut self) -> Result<Read, NativeError> {
        loop {
            match recv(&*self.socket, self.decoder.spare(), RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(Read::End),
                Ok((bytes, _)) => {
                    self.decoder.filled(bytes);
                    return Ok(Read::Some);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Read::Nothing),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Waits until the link can be read or SIGTERM arrives, or for `timeout` at most; without one,
    /// for ever. Returns whether SIGTERM has arrived.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<bool, NativeError> {
        let timeout = timeout.map(|length| Timespec {
            tv_sec: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: length.subsec_nanos().into(),
        });
        let mut sources =
            [PollFd::new(&*self.socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut sources, timeout.as_ref()) {
            // The byte stays in the pipe: once asked to stop is for ever.
            Ok(_) => Ok(sources[1].revents().contains(PollFlags::IN)),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }
}

/// What goes out. Once the manager is gone everything is dropped: nobody is left to hear it.
pub(super) struct Outbox {
    socket: Arc<UnixStream>,
    frame: Box<[u8]>,
    gathered: Vec<u8>,
    is_closed: bool,
    /// The first event that fits no frame.
    failed: Option<EncodeError>,
}

impl Outbox {
    pub(super) fn new(socket: Arc<UnixStream>) -> Self {
        let frame = vec![0; FRAME_BYTES_MAX].into_boxed_slice();
        Self { socket, frame, gathered: Vec::new(), is_closed: false, failed: None }
    }

    /// Gathers the first message.
    pub(super) fn hello(&mut self) {
        let encoded = encode(&Hello::of(Role::SDK), &mut self.frame);
        self.gather(encoded);
    }

    /// Gathers an event.
    pub(super) fn send(&mut self, event: &Event<'_>) {
        let encoded = encode(event, &mut self.frame);
        self.gather(encoded);
    }

    fn gather(&mut self, encoded: Result<usize, EncodeError>) {
        match encoded {
            Ok(bytes) => {
                self.gathered.extend_from_slice(self.frame.get(..bytes).unwrap_or_default());
            }
            Err(error) => self.failed = Some(error),
        }
        if self.gathered.len() >= OUTBOX_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes out what was gathered.
    pub(super) fn flush(&mut self) {
        if matches!(self.is_open(), Ok(true)) {
            self.is_closed = (&*self.socket).write_all(&self.gathered).is_err();
        }
        self.gathered.clear();
    }

    /// Whether the manager hears what is sent.
    ///
    /// # Errors
    /// An event fits no frame. It and what followed were dropped, so no torn slice is committed.
    pub(super) fn is_open(&self) -> Result<bool, EncodeError> {
        self.failed.clone().map_or(Ok(!self.is_closed), Err)
    }
}
