//! A file of the queue.

use std::time::Duration;

use super::{
    again::Place,
    files::LogFile,
    mark::{FileId, Mark},
    reader::Reader,
};

#[derive(Debug)]
pub(super) struct Entry<H: LogFile> {
    /// How far it was read, as of the last [`refresh`](Self::refresh).
    pub(super) mark: Mark,
    /// None while it has to be found again, or too many are open.
    pub(super) reader: Option<Reader<H>>,
    /// Since when another file has the name, or none can come back to this one.
    pub(super) left_at: Option<Duration>,
    /// When something was taken from it last.
    pub(super) grew_at: Duration,
    /// It is a copy of some of what others of the queue hold, and nobody has looked yet how much.
    pub(super) copy: Option<Place>,
    /// The content before it was truncated, while nothing has come since.
    pub(super) former: Option<Vec<u8>>,
}

impl<H: LogFile> Entry<H> {
    /// A file that is known from a position.
    pub(super) fn away(mark: Mark) -> Self {
        Self {
            mark,
            reader: None,
            left_at: None,
            grew_at: Duration::ZERO,
            copy: None,
            former: None,
        }
    }

    pub(super) fn new(reader: Reader<H>, now: Duration) -> Self {
        Self {
            mark: reader.mark(),
            reader: Some(reader),
            left_at: None,
            grew_at: now,
            copy: None,
            former: None,
        }
    }

    /// Which file it is, also while it is not open.
    pub(super) fn id(&self) -> FileId {
        self.reader.as_ref().map_or(self.mark.id, Reader::id)
    }

    /// Brings the mark to where the reader is.
    pub(super) fn refresh(&mut self) {
        let Some(reader) = &self.reader else { return };
        let is_same = self.mark.offset == reader.offset()
            && usize::from(self.mark.beginning.length) == reader.head().len()
            && self.mark.id == reader.id();
        if is_same {
            self.mark.modified_ns = reader.stat().modified_ns;
        } else {
            self.mark = reader.mark();
        }
    }
}
