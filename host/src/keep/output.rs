//! What a daemon prints: its pipes, each until its end, and the lines on their way to its log.

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use duende_core::wire::link::LogLevel;
use rustix::io::Errno;

use super::lines::LineSplitter;
use crate::daemon_log::{LogOrigin, LogWriter};

/// Reads of one pipe after the end of its daemon. A megabyte is the most that a pipe can hold without
/// privileges; a writer that is not of the daemon must not hold up its restart.
const READS_AFTER_END_MAX: usize = 16;

/// One pipe.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) pipe: OwnedFd,
    origin: LogOrigin,
    lines: LineSplitter,
}

/// What a read of a pipe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    Some,
    Empty,
    Ended,
}

impl Stream {
    pub(crate) const fn new(pipe: OwnedFd, origin: LogOrigin, level: LogLevel) -> Self {
        Self { pipe, origin, lines: LineSplitter::new(level) }
    }

    /// Reads once, and adds the lines to the log.
    pub(crate) fn read(&mut self, buffer: &mut [u8], log: &mut LogWriter) -> Drained {
        match rustix::io::read(&self.pipe, &mut *buffer) {
            Ok(0) => {
                self.finish(log);
                Drained::Ended
            }
            Ok(count) => {
                let (now, origin) = (SystemTime::now(), self.origin);
                let bytes = buffer.get(..count).unwrap_or_default();
                self.lines.push(bytes, &mut |line| {
                    log.append(now, line.level, origin, line.text, line.continues);
                });
                Drained::Some
            }
            Err(Errno::INTR) => Drained::Some,
            Err(_) => Drained::Empty,
        }
    }

    /// Reads what the dead left.
    pub(super) fn drain(&mut self, buffer: &mut [u8], log: &mut LogWriter) {
        for _ in 0..READS_AFTER_END_MAX {
            if self.read(buffer, log) != Drained::Some {
                break;
            }
        }
        self.finish(log);
    }

    fn finish(&mut self, log: &mut LogWriter) {
        let (now, origin) = (SystemTime::now(), self.origin);
        self.lines.finish(&mut |line| {
            log.append(now, line.level, origin, line.text, line.continues);
        });
    }
}
