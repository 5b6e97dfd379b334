//! One open file, read line by line from a place in it.
//!
//! Rules:
//! 1. The place is the end of the last line that was taken. What follows it may be in the chunk, but an
//!    unfinished line is read anew when the file has grown: then nothing stale is ever joined with
//!    something new (`tests/sources`, which writes lines in parts).
//! 2. Each read starts up to [`CONTEXT_BYTES_MAX`] bytes before the place and compares them with what was
//!    there: a file that was truncated and has grown past the place again is noticed.
//! 3. A chunk is never changed once it was read, so the place after any of its lines can be told later
//!    without a copy: see [`Position`](super::Position).

use std::{io, sync::Arc};

use super::{
    content::{Content, Packing},
    files::{LogFile, Stat},
    mark::{Beginning, CONTEXT_BYTES_MAX, FileId, Mark, checksum, context_length},
    planted::{self, Plant},
};
use crate::source::ITEM_BYTES_MAX;

/// Bytes asked for in one read: more than a piece and its newline.
const READ_BYTES: usize = 2 * ITEM_BYTES_MAX;

/// What a read found after the place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// At least one line, or a piece of one.
    Lines,
    /// The end of the file, maybe after the beginning of a line.
    End,
    /// Another content than before.
    Rewritten,
}

/// A line, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) length: usize,
    /// Whether its newline follows.
    pub(super) ends: bool,
    /// Whether it begins here.
    pub(super) begins: bool,
}

#[derive(Debug)]
pub(super) struct Reader<H: LogFile> {
    content: Content<H>,
    id: FileId,
    is_packed: bool,
    /// The first bytes, as far as they were seen.
    head: Vec<u8>,
    /// The place: how many bytes lie before it.
    offset: u64,
    /// Up to `CONTEXT_BYTES_MAX` bytes before the place, those of lines taken since the last read, and what
    /// follows.
    chunk: Arc<[u8]>,
    /// The place, in the chunk.
    cursor: usize,
    /// The place is within a line that is delivered in pieces.
    within_line: bool,
    /// What the file was when it was looked at last.
    stat: Stat,
    /// It was then read to its end.
    is_read_to_end: bool,
}

impl<H: LogFile> Reader<H> {
    /// At the beginning of a file.
    pub(super) fn new(file: H, packing: Option<Packing>) -> io::Result<Self> {
        let stat = file.stat()?;
        let mut reader = Self {
            content: Content::new(file, packing),
            id: stat.id,
            is_packed: packing.is_some(),
            head: Vec::new(),
            offset: 0,
            chunk: Arc::from([]),
            cursor: 0,
            within_line: false,
            stat,
            is_read_to_end: false,
        };
        reader.grow_head()?;
        Ok(reader)
    }

    pub(super) fn file(&self) -> &H {
        self.content.file()
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// What the file was when it was looked at last.
    pub(super) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Bytes that were seen and not taken; of a compressed file none are seen before they are read.
    pub(super) fn unread(&self) -> u64 {
        let buffered = (self.chunk.len() - self.cursor) as u64;
        if self.is_packed { buffered } else { self.stat.size.saturating_sub(self.offset) }
    }

    /// Whether everything that was seen is taken, but for an unfinished line.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_read_to_end && self.next().is_none()
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Reads what was added to a short beginning.
    pub(super) fn grow_head(&mut self) -> io::Result<()> {
        if self.head.len() < CONTEXT_BYTES_MAX
            && (self.is_packed || self.stat.size > self.head.len() as u64)
        {
            let mut head = [0; CONTEXT_BYTES_MAX];
            let length = self.content.read(&mut head, 0)?;
            // What has another beginning by now is noticed when it is read.
            if head[..length].starts_with(self.start()) {
                self.head = head[..length].to_vec();
            }
        }
        Ok(())
    }

    /// What is known to stand at its beginning.
    fn start(&self) -> &[u8] {
        let is_near = self.offset <= CONTEXT_BYTES_MAX as u64;
        let context = if is_near { self.context() } else { &[] };
        if context.len() > self.head.len() { context } else { &self.head }
    }

    /// Goes to a place, if what stood around it stands in this file.
    pub(super) fn resume(&mut self, mark: &Mark) -> io::Result<bool> {
        // Near the beginning, what lies before the place is all of it.
        let is_near = (1..=CONTEXT_BYTES_MAX as u64).contains(&mark.offset);
        if !is_near && mark.beginning.length > 0 && !mark.beginning.is_of(&self.head) {
            return Ok(false);
        }
        let Some(context) = self.context_at(mark.offset)? else { return Ok(false) };
        let stands = mark.offset == 0 || checksum(&context) == mark.before;
        if stands {
            self.go_to(mark.offset, &context);
        }
        Ok(stands)
    }

    /// The bytes before a place; none if the file is shorter.
    pub(super) fn context_at(&mut self, offset: u64) -> io::Result<Option<Vec<u8>>> {
        let length = context_length(offset);
        let mut context = vec![0; length];
        let read = self.content.read(&mut context, offset - length as u64)?;
        Ok((read == length).then_some(context))
    }

    /// The bytes before the place.
    pub(super) fn context(&self) -> &[u8] {
        &self.chunk[self.cursor - context_length(self.offset)..self.cursor]
    }

    /// Goes to the end of the last line that is complete now.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        let mut end = self.stat.size;
        let mut chunk = vec![0; READ_BYTES];
        // Backwards, to the newest newline.
        while end > 0 {
            let length = usize::try_from(end).map_or(READ_BYTES, |end| end.min(READ_BYTES));
            let start = end - length as u64;
            let read = self.content.read(&mut chunk[..length], start)?;
            if let Some(newline) = chunk[..read].iter().rposition(|&byte| byte == b'\n') {
                end = start + newline as u64 + 1;
                break;
            }
            end = start;
        }
        self.skip_to(end)
    }

    /// Goes to a place that is within the file.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        if let Some(context) = self.context_at(offset)? {
            self.go_to(offset, &context);
        }
        Ok(())
    }

    /// The file has another content: it is read from its beginning.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.go_to(0, &[]);
        self.head.clear();
        self.stat = self.file().stat()?;
        self.grow_head()
    }

    fn go_to(&mut self, offset: u64, context: &[u8]) {
        self.offset = offset;
        self.chunk = context.into();
        self.cursor = context.len();
        self.within_line = context.last().is_some_and(|&last| last != b'\n');
        self.is_read_to_end = false;
    }

    /// Reads what follows the place. `scratch` is only room.
    pub(super) fn read(&mut self, scratch: &mut Vec<u8>) -> io::Result<Found> {
        scratch.resize(CONTEXT_BYTES_MAX + READ_BYTES, 0);
        let found =
            if self.is_packed { self.read_packed(scratch)? } else { self.read_plain(scratch)? };
        Ok(match found {
            Found::End if self.next().is_some() => Found::Lines,
            found => found,
        })
    }

    fn read_plain(&mut self, scratch: &mut [u8]) -> io::Result<Found> {
        let stat = self.file().stat()?;
        let unchanged = (stat.size, stat.modified_ns) == (self.stat.size, self.stat.modified_ns);
        if self.is_read_to_end && unchanged {
            self.stat = stat;
            return Ok(Found::End);
        }
        if stat.size < self.offset.max(self.stat.size) {
            return Ok(Found::Rewritten);
        }
        let context = self.context();
        let length = context.len();
        let read = self.content_read(scratch, length)?;
        let context = self.context();
        // Near the beginning, what was seen of it and not taken yet has to stand there too.
        let is_near = self.offset < CONTEXT_BYTES_MAX as u64;
        let start = if is_near { self.start() } else { &[] };
        let is_other = !scratch[..read].starts_with(context) || !scratch[..read].starts_with(start);
        if is_other && !planted::is(Plant::LengthAlone) {
            return Ok(Found::Rewritten);
        }
        self.chunk = scratch[..read].into();
        self.cursor = length;
        self.stat = stat;
        // More may have come meanwhile: then the size does not fit, and it is read again.
        self.is_read_to_end = self.offset - length as u64 + read as u64 >= stat.size;
        Ok(Found::End)
    }

    fn content_read(&mut self, scratch: &mut [u8], context: usize) -> io::Result<usize> {
        let start = self.offset - context as u64;
        self.content.read(&mut scratch[..context + READ_BYTES], start)
    }

    /// A compressed file is not read twice: what is in hand stays.
    fn read_packed(&mut self, scratch: &mut [u8]) -> io::Result<Found> {
        if self.is_read_to_end {
            return Ok(Found::End);
        }
        let context = context_length(self.offset);
        let mut chunk = self.chunk[self.cursor - context..].to_vec();
        loop {
            let start = self.offset + (chunk.len() - context) as u64;
            let read = self.content.read(&mut scratch[..READ_BYTES], start);
            // On an error what came before stays in hand.
            chunk.extend_from_slice(&scratch[..*read.as_ref().unwrap_or(&0)]);
            self.cursor = context;
            self.chunk = chunk.as_slice().into();
            self.is_read_to_end = read? == 0;
            if self.is_read_to_end || self.next().is_some() {
                return Ok(Found::End);
            }
        }
    }

    /// The next line, or piece of one, in the chunk.
    pub(super) fn next(&self) -> Option<Line> {
        let rest = &self.chunk[self.cursor..];
        let head = &rest[..rest.len().min(ITEM_BYTES_MAX + 1)];
        let begins = !self.within_line;
        match head.iter().position(|&byte| byte == b'\n') {
            Some(length) => Some(Line { length, ends: true, begins }),
            None => (head.len() > ITEM_BYTES_MAX).then_some(Line {
                length: ITEM_BYTES_MAX,
                ends: false,
                begins,
            }),
        }
    }

    /// What is left of an unfinished line.
    pub(super) fn rest(&self) -> Option<Line> {
        let length = self.chunk.len() - self.cursor;
        (length > 0).then_some(Line { length, ends: false, begins: !self.within_line })
    }

    /// Takes a line that [`next`](Self::next) or [`rest`](Self::rest) gave: its bytes.
    pub(super) fn take(&mut self, line: Line) -> &[u8] {
        let start = self.cursor;
        let length = line.length + usize::from(line.ends);
        self.cursor += length;
        self.offset += length as u64;
        self.within_line = !line.ends;
        &self.chunk[start..start + line.length]
    }

    /// The chunk and the place in it.
    pub(super) fn place(&self) -> (Arc<[u8]>, usize, u64) {
        (self.chunk.clone(), self.cursor, self.offset)
    }

    /// The place, to be found again.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            id: self.id,
            beginning: Beginning::of(&self.head),
            offset: self.offset,
            before: checksum(self.context()),
            modified_ns: self.stat.modified_ns,
        }
    }
}
