//! A run as bytes: consecutive records in postcard's encoding, a [`Step`] each.
//!
//! Nothing stands between records or around them: a trace that is cut between two is a trace. Whoever
//! has it all in memory takes [`Steps`]; who gets it in pieces, as firmware does, a [`TraceReader`].
//!
//! A trace is read by the version of this crate that wrote it: it goes with a commit.

use crate::input::Step;

/// Longest record, in bytes: two numbers of ten, a tag, and the longest input with its length.
pub const RECORD_BYTES_MAX: usize = 96;

/// A trace can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The bytes are no record.
    #[error("byte {at} of the trace begins no record: was it written by another version?")]
    Malformed {
        /// Where the record would begin.
        at: u64,
    },
    /// It ends in the middle of a record.
    #[error("the trace ends within the record that begins at byte {at}")]
    Truncated {
        /// Where the record begins.
        at: u64,
    },
}

/// Writes a step to the start of `out`. How many bytes it takes; `None` if there is no room for them.
#[must_use]
pub fn write_step(step: &Step, out: &mut [u8]) -> Option<usize> {
    postcard::to_slice(step, out).ok().map(|written| written.len())
}

/// The first record of `bytes` and its length; `None` if it goes on beyond them.
fn read_step(bytes: &[u8], at: u64) -> Result<Option<(Step, usize)>, TraceError> {
    match postcard::take_from_bytes(bytes) {
        Ok((step, rest)) => Ok(Some((step, bytes.len().saturating_sub(rest.len())))),
        // No sound record goes on for so long.
        Err(postcard::Error::DeserializeUnexpectedEnd) if bytes.len() < RECORD_BYTES_MAX => {
            Ok(None)
        }
        Err(_) => Err(TraceError::Malformed { at }),
    }
}

/// The steps of a trace that lies in memory. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Steps<'a> {
    rest: &'a [u8],
    at: u64,
}

impl<'a> Steps<'a> {
    /// From the first on.
    #[must_use]
    pub const fn new(trace: &'a [u8]) -> Self {
        Self { rest: trace, at: 0 }
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        let read = match read_step(self.rest, at) {
            Ok(Some((step, bytes))) => {
                self.rest = self.rest.get(bytes..).unwrap_or_default();
                self.at = at.saturating_add(widen(bytes));
                return Some(Ok(step));
            }
            Ok(None) => Err(TraceError::Truncated { at }),
            Err(error) => Err(error),
        };
        self.rest = &[];
        Some(read)
    }
}

/// Reads steps from a trace that comes in pieces of any size.
///
/// The owner reads bytes into [`spare`](Self::spare), says how many with [`filled`](Self::filled), and
/// takes steps with [`next`](Self::next) until it gives `None`.
#[derive(Clone, Debug)]
pub struct TraceReader {
    storage: [u8; 2 * RECORD_BYTES_MAX],
    /// What was read and not yet taken is `storage[start..end]`.
    start: usize,
    end: usize,
    /// Where in the trace `start` lies.
    at: u64,
}

impl TraceReader {
    /// Before the first step.
    #[must_use]
    pub const fn new() -> Self {
        Self { storage: [0; 2 * RECORD_BYTES_MAX], start: 0, end: 0, at: 0 }
    }

    /// Where the next bytes go. Never empty after [`next`](Self::next) gave `None`.
    pub fn spare(&mut self) -> &mut [u8] {
        // Not `copy_within`, of which the optimiser does not see that it can't panic.
        let unread = self.end.saturating_sub(self.start);
        for to in 0..unread {
            let byte = self.storage.get(self.start.saturating_add(to)).copied().unwrap_or_default();
            if let Some(place) = self.storage.get_mut(to) {
                *place = byte;
            }
        }
        (self.start, self.end) = (0, unread);
        self.storage.get_mut(unread..).unwrap_or_default()
    }

    /// Says that `bytes` bytes were written to the start of what [`spare`](Self::spare) gave last.
    pub fn filled(&mut self, bytes: usize) {
        self.end = self.end.saturating_add(bytes).min(self.storage.len());
    }

    /// The next step; `None` when more bytes are needed for it.
    ///
    /// # Errors
    /// [`TraceError::Malformed`], from then on always.
    // Not an iterator: `None` is not the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Step>, TraceError> {
        let unread = self.storage.get(self.start..self.end).unwrap_or_default();
        let Some((step, bytes)) = read_step(unread, self.at)? else { return Ok(None) };
        self.start = self.start.saturating_add(bytes);
        self.at = self.at.saturating_add(widen(bytes));
        Ok(Some(step))
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    /// [`TraceError::Truncated`], when a record was not complete.
    pub const fn finish(&self) -> Result<(), TraceError> {
        if self.start == self.end { Ok(()) } else { Err(TraceError::Truncated { at: self.at }) }
    }
}

impl Default for TraceReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Lossless: no target has a `usize` of more than 64 bits.
fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::input::{Chunk, End, Input, Process};

    fn steps() -> Vec<Step> {
        let of = Process { slot: 3, incarnation: u32::MAX };
        let chunk = Chunk::from_slice(&[0xff; 64]).unwrap();
        let inputs = [
            Input::Tick,
            Input::Exited { of, end: End::Code(-1) },
            Input::Probed { of, token: u64::MAX, healthy: true },
            Input::Members(chunk),
            Input::Delegate {
                from: 255,
                handle: 255,
                to: 255,
                into: 255,
                rights: 255,
                scoped: true,
            },
        ];
        inputs.map(|input| Step { elapsed_ns: i64::MIN, entropy: u64::MAX, input }).into()
    }

    fn write(steps: &[Step]) -> Vec<u8> {
        let mut trace = Vec::new();
        for step in steps {
            let mut record = [0; RECORD_BYTES_MAX];
            let bytes = write_step(step, &mut record).unwrap();
            trace.extend_from_slice(&record[..bytes]);
        }
        trace
    }

    #[test]
    fn what_was_written_is_read_in_pieces_of_any_size() {
        let steps = steps();
        let trace = write(&steps);
        let read: Result<Vec<_>, _> = Steps::new(&trace).collect();
        assert_eq!(read.as_ref(), Ok(&steps));
        for piece in 1..=trace.len() {
            let (mut reader, mut read) = (TraceReader::new(), Vec::new());
            for mut bytes in trace.chunks(piece) {
                while !bytes.is_empty() {
                    let spare = reader.spare();
                    let taken = spare.len().min(bytes.len());
                    spare[..taken].copy_from_slice(&bytes[..taken]);
                    reader.filled(taken);
                    bytes = &bytes[taken..];
                    while let Some(step) = reader.next().unwrap() {
                        read.push(step);
                    }
                }
            }
            assert_eq!((reader.finish(), &read), (Ok(()), &steps), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let trace = write(&steps());
        let last = Steps::new(&trace[..trace.len() - 1]).last();
        assert!(matches!(last, Some(Err(TraceError::Truncated { .. }))));
        // An input that does not exist, in the second record.
        let mut trace = write(&[steps()[0].clone()]);
        let at = u64::try_from(trace.len()).unwrap();
        trace.extend_from_slice(&[0, 0, 0xff, 0x7f]);
        let last = Steps::new(&trace).last();
        assert_eq!(last, Some(Err(TraceError::Malformed { at })));
        let mut reader = TraceReader::new();
        reader.spare()[..trace.len()].copy_from_slice(&trace);
        reader.filled(trace.len());
        assert!(matches!(reader.next(), Ok(Some(_))));
        assert_eq!(reader.next(), Err(TraceError::Malformed { at }));
    }
}
