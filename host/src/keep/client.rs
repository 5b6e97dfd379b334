//! The manager's side of `keep`.
//!
//! Latency is what counts here: a request is written to the socket before [`KeepClient::send`]
//! returns, and an event is read by whoever awaits it, without a task or a queue in between.
//!
//! Once the link is broken nothing is left to be sent: what waits for a socket that takes nothing any more would
//! be tried again and again, without the thread ever looking what else there is to hear
//! (`tests::a_broken_link_is_not_written_to_for_ever`).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::link::{Inbox, Outbox, Received};
use super::{KeepError, KeepEvent, KeepOptions, KeepRequest};
use crate::children::Own;
use crate::platform;

/// Most bytes of requests that wait while `keep` does not read them.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// How long `keep` may take from the end of its link to its end.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);
const REAP_EVERY: Duration = Duration::from_millis(1);

/// What is read of the last words of `keep`, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 1_024;

/// A running `keep`. When this is dropped the link closes, and `keep` stops every daemon and ends
/// on its own.
#[derive(Debug)]
pub struct KeepClient {
    process: Child,
    _own: Own,
    stream: UnixStream,
    last_words: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
}

impl KeepClient {
    /// Starts `duende keep`, from the executable that this process runs: it may have been replaced or
    /// removed meanwhile. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`KeepError::System`], when there are no resources for it.
    pub fn start(options: &KeepOptions) -> Result<Self, KeepError> {
        let mut command = platform::own_command();
        command.arg("keep").args(options.arguments());
        Self::start_command(&mut command)
    }

    pub(super) fn start_command(command: &mut Command) -> Result<Self, KeepError> {
        let link = |error| KeepError::system("making the link to keep", error);
        let (ours, theirs) = StdUnixStream::pair().map_err(link)?;
        ours.set_nonblocking(true).map_err(link)?;
        let stream = UnixStream::from_std(ours).map_err(link)?;
        // A pipe that is only looked at when `keep` has ended, for its last words. Nobody's terminal
        // can hold it up, and a full pipe can't either.
        let (last_words, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|error| KeepError::system("making a pipe for keep", error))?;
        // The link is standard input, so no descriptor ever is without close-on-exec in a process
        // that has threads. In a group of its own, `keep` is spared what a terminal sends.
        let process = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(stderr))
            .process_group(0)
            .spawn()
            .map_err(|error| KeepError::system("starting keep", error))?;
        // The command holds the other ends, which must close here for their end to be seen.
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let own = Own::register(process.id());
        let (inbox, outbox) = (Inbox::new(), Outbox::new());
        Ok(Self { process, _own: own, stream, last_words, inbox, outbox })
    }

    /// The process id of `keep`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
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
                self.outbox.abandon();
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
                let flushed = stream.try_io(Interest::WRITABLE, || outbox.flush(stream));
                // A broken link shows when reading, after the last events.
                if flushed.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                    outbox.abandon();
                }
            }
            if ready.is_readable() {
                let (inbox, stream) = (&mut self.inbox, &self.stream);
                match stream.try_io(Interest::READABLE, || inbox.receive(stream)) {
                    Ok(Received::Some) => {}
                    Ok(Received::Closed) => return Err(self.gone().await),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
    }

    /// Kills `keep`, which does not answer. What it held is ended by the next one.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
    }

    /// Reaps `keep`. Its end of the link closes when it ends, so this waits for an instant; one that
    /// hangs in its end is killed, and one that can't even be killed is left.
    async fn gone(&mut self) -> KeepError {
        let mut status = self.reap().await;
        if status.is_none() {
            self.kill();
            status = self.reap().await;
        }
        let mut how = match status {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => format!("its exit status is unknown: {error}"),
            None => "it closed its link, and can't be killed".to_owned(),
        };
        let mut words = [0; LAST_WORDS_BYTES_MAX];
        let said = rustix::io::read(&self.last_words, &mut words).unwrap_or(0);
        let words = String::from_utf8_lossy(words.get(..said).unwrap_or_default());
        if let Some(word) = words.lines().map(str::trim).find(|line| !line.is_empty()) {
            how = format!("{how}: {}", word.trim_start_matches("duende: ").escape_debug());
        }
        KeepError::Gone { how }
    }

    /// The exit status; none if it does not end within [`REAP_TIMEOUT`].
    async fn reap(&mut self) -> Option<io::Result<ExitStatus>> {
        let deadline = Instant::now() + REAP_TIMEOUT;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(Ok(status)),
                Err(error) => return Some(Err(error)),
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(REAP_EVERY).await,
                Ok(None) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use duende_core::wire::link::Address;

    use super::*;

    /// Whichever of the two meets the broken link first, the end of `keep` is heard.
    #[test]
    fn a_broken_link_is_not_written_to_for_ever() {
        for is_sent_before in [false, true] {
            let (sender, heard) = mpsc::channel();
            // A loop that never yields could not be timed out by its own runtime.
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let error = runtime.unwrap().block_on(async {
                    let mut keep = KeepClient::start_command(&mut Command::new("cat")).unwrap();
                    let request = KeepRequest::Kill { at: Address::of(0, 1) };
                    // The runtime knows that the socket takes something, and nothing else yet.
                    keep.stream.writable().await.unwrap();
                    if is_sent_before {
                        keep.outbox.push(&request, None).unwrap();
                    }
                    keep.process.kill().unwrap();
                    keep.process.wait().unwrap();
                    if !is_sent_before {
                        keep.send(&request, None).unwrap_err();
                    }
                    keep.next_event().await.unwrap_err()
                });
                sender.send(error.to_string()).unwrap();
            });
            let error = heard.recv_timeout(Duration::from_secs(20)).expect("an end");
            assert!(error.contains("signal: 9"), "{error}");
        }
    }
}
