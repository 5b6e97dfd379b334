//! Where a log goes on after one of its lines.

use std::sync::Arc;

use super::mark::{Journey, checksum, context_length};

/// The place after one line, and the rest of the journey as it was when the line's chunk was read. The
/// checksums are made when it is encoded: of the lines of a batch mostly one is committed.
#[derive(Clone, Debug)]
pub(in crate::source) struct LogPosition {
    journey: Arc<Journey>,
    /// The file that the line stands in.
    file: usize,
    chunk: Arc<[u8]>,
    /// The place, in the chunk and in the file.
    cursor: usize,
    offset: u64,
}

impl LogPosition {
    pub(super) fn new(
        journey: Arc<Journey>,
        file: usize,
        (chunk, cursor, offset): (Arc<[u8]>, usize, u64),
    ) -> Self {
        Self { journey, file, chunk, cursor, offset }
    }

    pub(in crate::source) fn encode(&self) -> Vec<u8> {
        let mut journey = Journey::clone(&self.journey);
        if let Some(mark) = journey.queue.get_mut(self.file) {
            mark.offset = self.offset;
            mark.before =
                checksum(&self.chunk[self.cursor - context_length(self.offset)..self.cursor]);
        }
        journey.encode()
    }
}
