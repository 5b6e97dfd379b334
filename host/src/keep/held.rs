//! One slot: what is started there, what runs there, and its log, which outlives what runs.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use duende_core::wire::link::{Address, LogLevel};
use rustix::event::epoll;
use rustix::process::{Signal, kill_process, pidfd_send_signal};

use super::ending::Ending;
use super::members::{Mains, Members, as_pid};
use super::output::{Drained, Stream};
use super::pid_file::PidFile;
use super::protocol::SpawnRequest;
use super::spawn::{Prepared, Started};
use super::sys::Death;
use crate::daemon_log::{LogOrigin, LogWriter};

/// What an epoll event is about: a slot, and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
    /// A main process that is no child of `keep`.
    Watch,
}

impl Source {
    pub(super) const fn token(self, slot: u32) -> u64 {
        (slot as u64) << 2 | self as u64
    }

    pub(super) fn of(token: u64) -> Option<(u32, Self)> {
        let source = match token & 3 {
            0 => Self::Stdout,
            1 => Self::Stderr,
            2 => Self::Watch,
            _ => return None,
        };
        Some((u32::try_from(token >> 2).ok()?, source))
    }
}

/// One slot.
#[derive(Debug)]
pub(super) struct Slot {
    /// What was last asked to be started here.
    pub(super) request: Box<SpawnRequest>,
    /// The same, prepared, if it could be started.
    pub(super) prepared: Option<Prepared>,
    pub(super) log: LogWriter,
    /// What runs here, or is not gone yet.
    pub(super) held: Option<Held>,
}

impl Slot {
    pub(super) fn new(request: Box<SpawnRequest>) -> Self {
        let log = LogWriter::new(Path::new(&request.log_path));
        Self { request, prepared: None, log, held: None }
    }

    /// Takes another request. What was lost of the log until now stays counted.
    pub(super) fn renew(&mut self, request: Box<SpawnRequest>) {
        if self.request.log_path != request.log_path {
            self.log = LogWriter::new(Path::new(&request.log_path));
        }
        self.request = request;
        self.prepared = None;
    }

    /// Reads from one of its pipes. Whether that pipe has ended.
    pub(super) fn read(&mut self, source: Source, epoll: &OwnedFd, buffer: &mut [u8]) {
        let Some(held) = &mut self.held else { return };
        let [stdout, stderr] = &mut held.streams;
        let slot = if source == Source::Stdout { stdout } else { stderr };
        let Some(stream) = slot else { return };
        if stream.read(buffer, &mut self.log) == Drained::Ended {
            let _ = epoll::delete(epoll, &stream.pipe);
            *slot = None;
        }
        self.log.flush();
    }
}

/// A daemon from its start until nothing of it is left.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) at: Address,
    /// The main process; of a dead one until its successor is named.
    pub(super) pid: u32,
    pub(super) began: Instant,
    pub(super) members: Members,
    pub(super) ending: Ending,
    /// How the main process ended.
    pub(super) death: Option<Death>,
    pub(super) hint: Option<String>,
    /// Standard output and standard error, each until its end.
    pub(super) streams: [Option<Stream>; 2],
    pub(super) pid_file: Option<PidFile>,
    /// The main process, if it is not a child of `keep`.
    pub(super) watch: Option<OwnedFd>,
}

impl Held {
    pub(super) fn new(
        request: &SpawnRequest,
        started: Started,
        members: Members,
        pid_file: Option<PidFile>,
    ) -> Self {
        Self {
            at: request.at,
            pid: started.pid,
            began: Instant::now(),
            members,
            ending: Ending::new(request.stop),
            death: None,
            hint: None,
            streams: [
                Some(Stream::new(started.stdout, LogOrigin::Stdout, LogLevel::Info)),
                Some(Stream::new(started.stderr, LogOrigin::Stderr, LogLevel::Warn)),
            ],
            pid_file,
            watch: None,
        }
    }

    /// Has its pipes watched.
    pub(super) fn listen(&self, epoll: &OwnedFd) -> io::Result<()> {
        for (source, stream) in [Source::Stdout, Source::Stderr].into_iter().zip(&self.streams) {
            if let Some(stream) = stream {
                let token = epoll::EventData::new_u64(source.token(self.at.daemon));
                epoll::add(epoll, &stream.pipe, token, epoll::EventFlags::IN)?;
            }
        }
        Ok(())
    }

    /// Sends the main process these signals, if it lives.
    pub(super) fn signal_main(&self, signals: &[Signal]) {
        if self.ending.main_ended() {
            return;
        }
        for signal in signals {
            match (&self.watch, as_pid(self.pid)) {
                (Some(process), _) => drop(pidfd_send_signal(process, *signal)),
                // A child that is unreaped: the worst that this can meet is a zombie.
                (None, Some(pid)) => drop(kill_process(pid, *signal)),
                (None, None) => {}
            }
        }
    }

    /// Sends every process these signals. The main one is always meant, wherever it moved.
    pub(super) fn signal_all(&self, signals: &[Signal], mains: Mains<'_>) {
        let told = self.members.signal(signals, mains);
        if !told.contains(&self.pid) {
            self.signal_main(signals);
        }
    }

    /// Kills every process.
    pub(super) fn kill_all(&self, mains: Mains<'_>) {
        self.members.kill(mains);
        self.signal_main(&[Signal::KILL]);
    }
}
