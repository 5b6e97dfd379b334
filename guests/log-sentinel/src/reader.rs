//! From what the channel brings to records: line ends, wrappers, lines in parts, then the format.
//!
//! A line of which parts have come is kept until the last one comes, over restarts too: [`Reader::encode`] is for
//! `state`, in the transaction that consumes the parts (`tests::a_line_in_parts_counts_once`). Of one line at most
//! [`PARTS_BYTES_MAX`] are kept; what counts stands in front.

use crate::format::Format;
use crate::number::Unit;
use crate::record::{Misread, Record};
use crate::wrapper::{Stream, unwrap};

/// Most bytes that are kept of a line that has come in parts. Two such fit into a value of `state`.
pub const PARTS_BYTES_MAX: usize = 32_000;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// A request.
    Request(Record),
    /// A part of a line. More follows.
    Part,
    /// It could not be read. Here it is without what was around it, and how far it could be.
    Malformed(&'a [u8], Misread),
}

/// Reads lines.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    format: Format,
    /// That of a request time that does not say it.
    unit: Option<Unit>,
    /// What has come of a line, by stream.
    parts: [Vec<u8>; 2],
    parts_changed: bool,
    /// A line of Docker's, and one whose parts were put together.
    unescaped: Vec<u8>,
    whole: Vec<u8>,
}

impl Reader {
    /// Reads lines of a format. `unit` is that of a request time that does not say it.
    #[must_use]
    pub fn new(format: Format, unit: Option<Unit>) -> Self {
        Self { format, unit, ..Self::default() }
    }

    /// Another format from the next line on.
    pub fn set_format(&mut self, format: Format, unit: Option<Unit>) {
        self.format = format;
        self.unit = unit;
    }

    /// The format.
    #[must_use]
    pub const fn format(&self) -> &Format {
        &self.format
    }

    /// Reads a line, with or without its end.
    pub fn read<'a>(&'a mut self, line: &'a [u8]) -> Reading<'a> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let Some(unwrapped) = unwrap(line, &mut self.unescaped) else {
            return read(&self.format, line, self.unit, None);
        };
        let parts = match unwrapped.stream {
            Stream::Stdout => &mut self.parts[0],
            Stream::Stderr => &mut self.parts[1],
        };
        let mut text = unwrapped.text;
        if unwrapped.is_part || !parts.is_empty() {
            let room = PARTS_BYTES_MAX.saturating_sub(parts.len());
            parts.extend(text.iter().take(room));
            self.parts_changed = true;
            if unwrapped.is_part {
                return Reading::Part;
            }
            self.whole.clear();
            self.whole.append(parts);
            text = &self.whole;
        }
        read(&self.format, text, self.unit, unwrapped.second)
    }

    /// The parts, for `state`, if they have changed since this was asked last; empty if there are none.
    pub fn take_changed(&mut self) -> Option<Vec<u8>> {
        core::mem::take(&mut self.parts_changed).then(|| self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let [stdout, stderr] = &self.parts;
        if stdout.is_empty() && stderr.is_empty() {
            return Vec::new();
        }
        let length = u32::try_from(stdout.len()).unwrap_or(0).to_le_bytes();
        [&length[..], stdout, stderr].concat()
    }

    /// Goes on with the parts of [`take_changed`](Self::take_changed); none if they are not such.
    #[must_use]
    pub fn with_parts(mut self, bytes: &[u8]) -> Option<Self> {
        let (length, parts) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (stdout, stderr) = parts.split_at_checked(length)?;
        let fits = stdout.len().max(stderr.len()) <= PARTS_BYTES_MAX;
        self.parts = [stdout.to_owned(), stderr.to_owned()];
        fits.then_some(self)
    }
}

/// Reads a line that is whole. `second` is when it was written, for one that does not say it.
fn read<'a>(
    format: &Format,
    line: &'a [u8],
    unit: Option<Unit>,
    second: Option<u64>,
) -> Reading<'a> {
    // Not before: the last byte of a part is its own.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match format.read(line, unit) {
        Ok(record) => Reading::Request(Record { second: record.second.or(second), ..record }),
        Err(misread) => Reading::Malformed(line, misread),
    }
}
