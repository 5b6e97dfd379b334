//! The manager's side of `keep`.
//!
//! Latency is what counts here: a request is written to the socket before [`KeepClient::send`]
//! returns, and an event is read by whoever awaits it, without a task or a queue in between.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::link::{Inbox, Outbox, Received};
use super::{KeepError, KeepEvent, KeepRequest};

/// Most bytes of requests that wait while `keep` does not read them.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// A running `keep`. When this is dropped the link closes, and `keep` stops every daemon and ends
/// on its own.
#[derive(Debug)]
pub struct KeepClient {
    process: Child,
    stream: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
}

impl KeepClient {
    /// Starts `<executable> keep`. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`KeepError::System`], when there is no such program or no resources for it.
    pub fn start(executable: &Path) -> Result<Self, KeepError> {
        let mut command = Command::new(executable);
        command.arg("keep");
        Self::start_command(&mut command)
    }

    pub(super) fn start_command(command: &mut Command) -> Result<Self, KeepError> {
        let link = |error| KeepError::system("making the link to keep", error);
        let (ours, theirs) = StdUnixStream::pair().map_err(link)?;
        ours.set_nonblocking(true).map_err(link)?;
        let stream = UnixStream::from_std(ours).map_err(link)?;
        // The link is standard input, so no descriptor ever is without close-on-exec in a process
        // that has threads. In a group of its own, `keep` is spared what a terminal sends.
        let process = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| KeepError::system("starting keep", error))?;
        Ok(Self { process, stream, inbox: Inbox::new(), outbox: Outbox::new() })
    }

    /// The process id of `keep`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it now; what it held is left behind.
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.process.kill();
    }

    /// Sends a request without waiting. `link` goes with a
    /// [`SpawnRequest`](super::SpawnRequest) that has `link` set, and with no other.
    ///
    /// What the socket does not take now is sent by [`next_event`](Self::next_event).
    ///
    /// # Errors
    /// [`KeepError::Encode`] when the request is too large, and [`KeepError::Backlog`] when `keep`
    /// does not read; nothing was sent then. [`KeepError::System`] when the link is broken;
    /// `next_event` then says how `keep` ended.
    pub fn send(&mut self, request: &KeepRequest, link: Option<OwnedFd>) -> Result<(), KeepError> {
        let pending_bytes = self.outbox.pending_bytes();
        if pending_bytes > PENDING_BYTES_MAX {
            return Err(KeepError::Backlog { pending_bytes });
        }
        self.outbox.push(request, link)?;
        match self.outbox.flush(&self.stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                Err(KeepError::system("sending to keep", error))
            }
            _ => Ok(()),
        }
    }

    /// The next event. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`KeepError::Gone`] when `keep` has ended, else when the link is damaged. There are no more
    /// events after an error.
    pub async fn next_event(&mut self) -> Result<KeepEvent, KeepError> {
        let failed = |error| KeepError::system("receiving from keep", error);
        loop {
            if let Some(event) = self.inbox.next()? {
                return Ok(event);
            }
            let interest = match self.outbox.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = self.stream.ready(interest).await.map_err(failed)?;
            if ready.is_writable() && !self.outbox.is_empty() {
                let (outbox, stream) = (&mut self.outbox, &self.stream);
                // A broken link shows when reading, after the last events.
                let _ = stream.try_io(Interest::WRITABLE, || outbox.flush(stream));
            }
            if ready.is_readable() {
                let (inbox, stream) = (&mut self.inbox, &self.stream);
                match stream.try_io(Interest::READABLE, || inbox.receive(stream)) {
                    Ok(Received::Some) => {}
                    Ok(Received::Closed) => return Err(self.gone()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
    }

    /// Reaps `keep`. Its end of the link closes only when it ends, so this does not wait.
    fn gone(&mut self) -> KeepError {
        let how = match self.process.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("its exit status is unknown: {error}"),
        };
        KeepError::Gone { how }
    }
}
