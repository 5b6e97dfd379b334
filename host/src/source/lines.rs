//! One open file, read line by line from a place in it.
//!
//! Rules:
//! 1. The place is the end of the last line that was taken. What follows it may be in the buffer, but
//!    an unfinished line is read anew when the file has grown: then nothing stale is ever joined with
//!    something new.
//! 2. Each read starts up to [`CONTEXT_BYTES_MAX`] bytes before the place and compares them with what was there: a file
//!    that was truncated and has grown past the place again is noticed.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::position::{CONTEXT_BYTES_MAX, FileId, Position, context_length, fingerprint};
use super::{Batch, ITEM_BYTES_MAX, Notice, Notices, SourceError};

/// Bytes asked for in one read: more than a piece and its newline.
const READ_BYTES: usize = 2 * ITEM_BYTES_MAX;

/// What a read found after the place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// At least one line, or a piece of one.
    Lines,
    /// The end of the file, maybe after the beginning of a line.
    End,
    /// Another content than before. The place is now the beginning.
    Truncated,
}

#[derive(Debug)]
pub(super) struct LineFile {
    file: File,
    id: FileId,
    /// The place: how many bytes lie before it.
    offset: u64,
    /// Up to `CONTEXT_BYTES_MAX` bytes before the place, those of lines taken since the last read, and what follows.
    buffer: Vec<u8>,
    /// The place, in the buffer.
    cursor: usize,
    /// The place is within a line that is delivered in pieces.
    within_line: bool,
}

impl LineFile {
    /// Opens a file at its beginning; none if there is none of that name.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, SourceError> {
        let io_error = |source| SourceError::Io { path: path.to_owned(), source };
        // A pipe must not block the opening; for a regular file the flag means nothing.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let metadata = file.metadata().map_err(io_error)?;
        if !metadata.is_file() {
            return Err(SourceError::NotAFile { path: path.to_owned() });
        }
        let id = FileId::of(&metadata);
        Ok(Some(Self { file, id, offset: 0, buffer: Vec::new(), cursor: 0, within_line: false }))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Goes to a committed place, if that is still in this file.
    pub(super) fn resume(&mut self, position: &Position) -> io::Result<bool> {
        let length = context_length(position.offset);
        let mut context = [0; CONTEXT_BYTES_MAX];
        match self.file.read_exact_at(&mut context[..length], position.offset - length as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        if fingerprint(&context[..length]) != position.fingerprint {
            return Ok(false);
        }
        self.go_to(position.offset, &context[..length]);
        Ok(true)
    }

    /// Goes to the end of the last line that is complete now.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        let mut end = self.file.metadata()?.len();
        let mut chunk = vec![0; READ_BYTES];
        // Backwards, to the newest newline.
        while end > 0 {
            let length = length_up_to(end, READ_BYTES);
            let start = end - length as u64;
            self.file.read_exact_at(&mut chunk[..length], start)?;
            if let Some(newline) = chunk[..length].iter().rposition(|&byte| byte == b'\n') {
                end = start + newline as u64 + 1;
                break;
            }
            end = start;
        }
        let length = context_length(end);
        self.file.read_exact_at(&mut chunk[..length], end - length as u64)?;
        self.go_to(end, &chunk[..length]);
        Ok(())
    }

    fn go_to(&mut self, offset: u64, context: &[u8]) {
        self.offset = offset;
        self.buffer.clear();
        self.buffer.extend_from_slice(context);
        self.cursor = context.len();
        self.within_line = false;
    }

    /// Reads what follows the place.
    pub(super) fn read(&mut self) -> io::Result<Found> {
        let length = context_length(self.offset);
        let mut context = [0; CONTEXT_BYTES_MAX];
        context[..length].copy_from_slice(&self.buffer[self.cursor - length..self.cursor]);
        self.buffer.resize(length + READ_BYTES, 0);
        let read = read_at_most(&self.file, &mut self.buffer, self.offset - length as u64);
        // On an error the buffer still has to hold what lies before the place.
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        self.cursor = length;
        if read.is_err() || !self.buffer.starts_with(&context[..length]) {
            self.buffer.clear();
            self.buffer.extend_from_slice(&context[..length]);
            read?;
            self.go_to(0, &[]);
            return Ok(Found::Truncated);
        }
        Ok(if self.next_length().is_some() { Found::Lines } else { Found::End })
    }

    /// The length of the next line, or piece, in the buffer, and whether its newline follows.
    fn next_length(&self) -> Option<(usize, bool)> {
        let rest = &self.buffer[self.cursor..];
        let head = &rest[..rest.len().min(ITEM_BYTES_MAX + 1)];
        match head.iter().position(|&byte| byte == b'\n') {
            Some(newline) => Some((newline, true)),
            None => (head.len() > ITEM_BYTES_MAX).then_some((ITEM_BYTES_MAX, false)),
        }
    }

    /// Moves lines from the buffer to the batch; true if it stopped because the batch is full.
    pub(super) fn take_lines(&mut self, batch: &mut Batch, notices: &mut Notices) -> bool {
        while let Some((length, ends)) = self.next_length() {
            if !batch.has_room(length) {
                return true;
            }
            if !ends && !self.within_line {
                notices.push(Notice::LineTooLong { offset_bytes: self.offset });
            }
            self.take(length, usize::from(ends), batch);
            self.within_line = !ends;
        }
        false
    }

    /// The file is at its end and will not grow: takes what is left of an unfinished line.
    pub(super) fn take_rest(&mut self, batch: &mut Batch, notices: &mut Notices) -> bool {
        let length = self.buffer.len() - self.cursor;
        if length == 0 {
            return true;
        }
        if !batch.has_room(length) {
            return false;
        }
        notices.push(Notice::LineUnfinished { length_bytes: length as u64 });
        self.take(length, 0, batch);
        true
    }

    fn take(&mut self, length: usize, newline: usize, batch: &mut Batch) {
        let payload = self.buffer[self.cursor..self.cursor + length].to_vec();
        self.cursor += length + newline;
        self.offset += (length + newline) as u64;
        batch.push(payload, self.position().encode());
    }

    /// The place after the last line that was taken.
    pub(super) fn position(&self) -> Position {
        let context = &self.buffer[self.cursor - context_length(self.offset)..self.cursor];
        Position { file: self.id, offset: self.offset, fingerprint: fingerprint(context) }
    }
}

fn length_up_to(end: u64, most: usize) -> usize {
    usize::try_from(end).map_or(most, |end| end.min(most))
}

/// Reads until the buffer is full or the file ends.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
