//! The socket to the manager: frames out, commands in, and one place to wait at.

use core::time::Duration;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

use duende_core::wire::link::{Command, Event};
use duende_core::wire::{Decoder, FRAME_BYTES_MAX, encode};
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

/// Both directions of the link, and the pipe that signals arrive through.
pub(super) struct Link {
    socket: UnixStream,
    signals: UnixStream,
    decoder: Decoder<Box<[u8]>>,
    frame: Box<[u8]>,
    outbox: Vec<u8>,
    /// The first failure to write; reported when the owner flushes.
    failed: Option<NativeError>,
}

impl Link {
    pub(super) fn new(socket: UnixStream, signals: UnixStream) -> io::Result<Self> {
        // Reads say per call that they do not wait; writes wait.
        socket.set_nonblocking(false)?;
        Ok(Self {
            socket,
            signals,
            decoder: Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice()),
            frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
            outbox: Vec::new(),
            failed: None,
        })
    }

    /// Puts an event into the outbox. A failure is kept for [`flush`](Self::flush).
    pub(super) fn send(&mut self, event: &Event<'_>) {
        if self.failed.is_some() {
            return;
        }
        match encode(event, &mut self.frame) {
            Ok(bytes) => self
                .outbox
                .extend_from_slice(self.frame.get(..bytes).unwrap_or_default()),
            Err(error) => self.failed = Some(error.into()),
        }
        if self.outbox.len() >= OUTBOX_BYTES_MAX {
            self.write_now();
        }
    }

    /// Writes the outbox out.
    pub(super) fn flush(&mut self) -> Result<(), NativeError> {
        self.write_now();
        match self.failed.take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Writes the outbox out; a failure is kept for [`flush`](Self::flush).
    pub(super) fn write_now(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.socket.write_all(&self.outbox)
        {
            self.failed = Some(error.into());
        }
        self.outbox.clear();
    }

    /// The next command that has arrived whole.
    pub(super) fn next_command(&mut self) -> Result<Option<Command<'_>>, NativeError> {
        Ok(self.decoder.next::<Command<'_>>()?)
    }

    /// Reads what is there, without waiting.
    pub(super) fn read(&mut self) -> Result<Read, NativeError> {
        loop {
            match recv(&self.socket, self.decoder.spare(), RecvFlags::DONTWAIT) {
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
        let mut sources = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        match poll(&mut sources, timeout.as_ref()) {
            // The byte stays in the pipe: once asked to stop is for ever.
            Ok(_) => Ok(sources[1].revents().contains(PollFlags::IN)),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }
}
