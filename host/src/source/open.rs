//! A source of any kind.

use std::{path::PathBuf, time::Duration};

use super::{
    Batch, Item, Notice, Notices, Position,
    follow::{OPEN_MAX, Settings},
    interval::Interval,
    stdin::Stdin,
    tail::Tail,
};
use crate::config::TailConfig;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// The lines of a log, followed by its name.
    Tail(TailConfig),
    /// The lines of this process's standard input.
    Stdin,
    /// One item in each period.
    Interval {
        /// Its length.
        period: Duration,
    },
}

/// Why a source cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The committed position was written by another version of this program.
    #[error("the committed position of {} is in a form that this version of duende does not know: use the version that wrote it, or remove the daemon's state", path.display())]
    Position {
        /// The log that is followed.
        path: PathBuf,
    },
    /// A period of length zero.
    #[error("the period of an interval must be longer than zero")]
    PeriodZero,
    /// Standard input is read by another channel.
    #[error("standard input already feeds another channel: only one can read it")]
    StdinTaken,
    /// Standard input can't be read on; every line before that was delivered.
    #[error("cannot read standard input: {0}; what follows in it is lost")]
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
    Tail(Box<Tail>),
    Stdin(Stdin),
    Interval(Interval),
}

impl Source {
    /// Opens a source after a committed position; without one, or with an empty one, at its start.
    /// Must be called within a tokio runtime with time enabled. What is wrong with a log's files is no
    /// error: it is told, and waited for.
    ///
    /// # Errors
    /// Anything of [`SourceError`] but [`StdinIo`](SourceError::StdinIo) and
    /// [`Ended`](SourceError::Ended).
    pub fn open(spec: SourceSpec, position: Option<&[u8]>) -> Result<Self, SourceError> {
        let mut notices = Notices::default();
        let position = position.filter(|bytes| !bytes.is_empty());
        let kind = match spec {
            SourceSpec::Tail(TailConfig { path, start, rotate_wait }) => {
                let settings = Settings { start, rotate_wait, open_max: OPEN_MAX };
                let tail = Tail::open(path.clone(), position, settings, &mut notices)
                    .map_err(|_| SourceError::Position { path })?;
                Kind::Tail(Box::new(tail))
            }
            SourceSpec::Stdin => Kind::Stdin(Stdin::take()?),
            SourceSpec::Interval { period } => Kind::Interval(Interval::new(period)?),
        };
        Ok(Self { kind, notices })
    }

    /// Where it goes on. To be committed before anything is delivered if that was not: what is rotated
    /// before the first slice commits is then found again. Empty for a source that cannot be read twice.
    pub fn position(&mut self) -> Position {
        match &mut self.kind {
            Kind::Tail(tail) => tail.position(),
            Kind::Stdin(_) | Kind::Interval(_) => Position::default(),
        }
    }

    /// Waits for at least one item and returns what is there, at most `items_max` items (at least
    /// one) and, unless the first alone is larger, `bytes_max` bytes of payload. Returns nothing only
    /// if there is a new notice to take. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// [`StdinIo`](SourceError::StdinIo), [`Ended`](SourceError::Ended).
    pub async fn next_batch(
        &mut self,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Item>, SourceError> {
        let mut batch = Batch::new(items_max, bytes_max);
        let notices = &mut self.notices;
        match &mut self.kind {
            Kind::Tail(tail) => tail.fill(&mut batch, notices).await,
            Kind::Stdin(stdin) => stdin.fill(&mut batch, notices).await?,
            Kind::Interval(interval) => interval.fill(&mut batch).await,
        }
        Ok(batch.into_items())
    }

    /// Does what has to be done while nobody wants items, for ever or until there is a notice: a log's
    /// files are opened when they come, so that none is lost. Cancelling the call loses nothing.
    pub async fn attend(&mut self) {
        match &mut self.kind {
            Kind::Tail(tail) => tail.attend(&mut self.notices).await,
            Kind::Stdin(_) | Kind::Interval(_) => std::future::pending().await,
        }
    }

    /// What happened since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.take()
    }

    /// Bytes that were seen and not given yet, and why nothing can be read, if it can't; none for what
    /// is no log.
    #[must_use]
    pub fn standing(&self) -> Option<(u64, Option<&str>)> {
        match &self.kind {
            Kind::Tail(tail) => Some(tail.standing()),
            Kind::Stdin(_) | Kind::Interval(_) => None,
        }
    }
}
