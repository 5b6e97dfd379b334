//! What feeds a daemon's channel: lines of a followed file, lines of standard input, or ticks.
//!
//! A [`Source`] yields [`Item`]s. Each carries the position to commit together with the slice that
//! consumed it; a source that is opened at a committed position yields what comes after it. So a line
//! of a followed file is counted once however often the daemon, or the manager, dies. Standard input
//! and ticks cannot be read twice: their positions are empty, and what was not consumed is repeated
//! from the manager's memory.
//!
//! What a reader of the channel cannot see, a file that was truncated, say, is told by [`Notice`]s:
//! nothing is skipped, repeated or cut in silence.

mod interval;
mod lines;
mod position;
mod stdin;
mod tail;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use interval::Interval;
use stdin::Stdin;
use tail::Follower;

/// Longest payload of an item, in bytes: a longer line is delivered in pieces.
pub const ITEM_BYTES_MAX: usize = 65_536;
/// Most notices kept until they are taken; further ones are counted.
pub const NOTICES_MAX: usize = 64;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// The lines of a file, followed by its name.
    Tail {
        /// The file. It may not exist yet.
        path: PathBuf,
    },
    /// The lines of this process's standard input.
    Stdin,
    /// One item in each period.
    Interval {
        /// Its length.
        period: Duration,
    },
}

/// Where a file is read from if no position was ever committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// From its first line.
    #[default]
    Beginning,
    /// From what is appended after the source was opened.
    End,
}

/// One message for the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// At most [`ITEM_BYTES_MAX`] bytes.
    pub payload: Vec<u8>,
    /// What to commit when the item was consumed; empty if the source cannot be read again.
    pub position: Vec<u8>,
}

/// Something that happened to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The file was renamed and read to its end; reading went on with its successor.
    Rotated,
    /// The file became shorter, or its content another; it is read from its beginning.
    Truncated {
        /// How far it had been read.
        offset_bytes: u64,
    },
    /// The file that was being read is gone; what it still held is lost. Reading starts at the
    /// beginning of the file that now has the name.
    Gap {
        /// How far it had been read.
        offset_bytes: u64,
    },
    /// A line longer than [`ITEM_BYTES_MAX`] is delivered in pieces.
    LineTooLong {
        /// Where in the file the line starts; for standard input, always 0.
        offset_bytes: u64,
    },
    /// The file ended within a line and will not be continued; the line was delivered as it is.
    LineUnfinished {
        /// Its length.
        length_bytes: u64,
    },
    /// Changes of the file cannot be watched; it is looked at once a second.
    Polling {
        /// Why.
        reason: String,
    },
    /// Notices that were not taken in time.
    Dropped {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rotated => write!(f, "the file was rotated"),
            Self::Truncated { offset_bytes } => {
                write!(
                    f,
                    "the file was truncated after it had been read up to byte {offset_bytes}: reading from its beginning"
                )
            }
            Self::Gap { offset_bytes } => write!(
                f,
                "the file that had been read up to byte {offset_bytes} is gone, with what followed: reading the present one from its beginning"
            ),
            Self::LineTooLong { offset_bytes } => {
                write!(
                    f,
                    "the line at byte {offset_bytes} is longer than {ITEM_BYTES_MAX} bytes: delivered in pieces"
                )
            }
            Self::LineUnfinished { length_bytes } => {
                write!(
                    f,
                    "the rotated file ends within a line of {length_bytes} bytes: delivered as it is"
                )
            }
            Self::Polling { reason } => {
                write!(f, "the file cannot be watched ({reason}): looking at it once a second")
            }
            Self::Dropped { count } => write!(f, "{count} more notices"),
        }
    }
}

/// The notices that were not taken yet, at most [`NOTICES_MAX`].
#[derive(Debug, Default)]
struct Notices {
    kept: VecDeque<Notice>,
    dropped: u64,
}

impl Notices {
    fn push(&mut self, notice: Notice) {
        if self.kept.len() < NOTICES_MAX {
            self.kept.push_back(notice);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn take(&mut self) -> Vec<Notice> {
        let count = std::mem::take(&mut self.dropped);
        let dropped = (count > 0).then_some(Notice::Dropped { count });
        self.kept.drain(..).chain(dropped).collect()
    }

    /// Everything ever pushed and not taken.
    fn count(&self) -> u64 {
        self.dropped.saturating_add(self.kept.len() as u64)
    }
}

/// Why a source cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file system refuses. The source keeps its place: reading may be tried again.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A directory, a device, a pipe: there is nothing to go back to.
    #[error("cannot follow {}: it is not a regular file", path.display())]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// The committed position was written by another version of this program.
    #[error("the committed position of {} is in a form that this version of duende does not know: use the version that wrote it, or remove the daemon's state", path.display())]
    Position {
        /// The file that is followed.
        path: PathBuf,
    },
    /// A period of length zero.
    #[error("the period of an interval must be longer than zero")]
    PeriodZero,
    /// Standard input is read by another channel.
    #[error("standard input already feeds another channel: only one can read it")]
    StdinTaken,
    /// Standard input could not be read.
    #[error("cannot read standard input: {0}")]
    StdinIo(std::io::Error),
    /// Standard input ended; every line was delivered.
    #[error("standard input has ended")]
    Ended,
}

/// An open source.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    notices: Notices,
}

#[derive(Debug)]
enum Kind {
    Tail(Box<Follower>),
    Stdin(Stdin),
    Interval(Interval),
}

impl Source {
    /// Opens a source after a committed position; without one, or with an empty one, at `start_at`.
    /// Must be called within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// Anything of [`SourceError`] but [`Ended`](SourceError::Ended). A file that does not exist is
    /// none: it is waited for.
    pub fn open(
        spec: SourceSpec,
        position: Option<&[u8]>,
        start_at: StartAt,
    ) -> Result<Self, SourceError> {
        let mut notices = Notices::default();
        let position = position.filter(|bytes| !bytes.is_empty());
        let kind = match spec {
            SourceSpec::Tail { path } => {
                Kind::Tail(Box::new(Follower::open(path, position, start_at, &mut notices)?))
            }
            SourceSpec::Stdin => Kind::Stdin(Stdin::take()?),
            SourceSpec::Interval { period } => Kind::Interval(Interval::new(period)?),
        };
        Ok(Self { kind, notices })
    }

    /// Where it goes on. To be committed before anything is delivered if no position was: a file that
    /// is rotated before the first slice commits is then found again. None for a source that cannot
    /// be read twice, and for a file that does not exist yet.
    #[must_use]
    pub fn position(&self) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Tail(tail) => tail.position().map(|position| position.encode()),
            Kind::Stdin(_) | Kind::Interval(_) => None,
        }
    }

    /// Waits for at least one item and returns what is there, at most `items_max` items (at least
    /// one) and, unless the first alone is larger, `bytes_max` bytes of payload. Returns nothing only
    /// if there is a new notice to take. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// [`SourceError::Io`], [`NotAFile`](SourceError::NotAFile),
    /// [`StdinIo`](SourceError::StdinIo), [`Ended`](SourceError::Ended).
    pub async fn next_batch(
        &mut self,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Item>, SourceError> {
        let mut batch = Batch::new(items_max, bytes_max);
        let notices = &mut self.notices;
        match &mut self.kind {
            Kind::Tail(tail) => tail.fill(&mut batch, notices).await?,
            Kind::Stdin(stdin) => stdin.fill(&mut batch, notices).await?,
            Kind::Interval(interval) => interval.fill(&mut batch).await,
        }
        Ok(batch.items)
    }

    /// What happened since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.take()
    }
}

/// The items of one answer, and the room that is left in it.
#[derive(Debug)]
struct Batch {
    items: Vec<Item>,
    items_max: usize,
    bytes_left: usize,
}

impl Batch {
    fn new(items_max: usize, bytes_max: usize) -> Self {
        Self { items: Vec::new(), items_max: items_max.max(1), bytes_left: bytes_max }
    }

    /// Whether an item of this size still fits. The first always does.
    fn has_room(&self, bytes: usize) -> bool {
        self.items.is_empty() || (self.items.len() < self.items_max && bytes <= self.bytes_left)
    }

    fn push(&mut self, payload: Vec<u8>, position: Vec<u8>) {
        self.bytes_left = self.bytes_left.saturating_sub(payload.len());
        self.items.push(Item { payload, position });
    }
}
