//! The lines of standard input.
//!
//! A thread reads, because standard input may be anything, and making it non-blocking would change it
//! for every process that shares it. It reads at most [`CHUNKS_MAX`] chunks ahead, and runs until the
//! input ends. So standard input is taken once in the life of a process.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::{Batch, ITEM_BYTES_MAX, Notice, Notices, Position, SourceError};

/// Most bytes read at once.
const CHUNK_BYTES: usize = 65_536;
/// Most chunks read ahead.
const CHUNKS_MAX: usize = 4;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Lines of a stream that can be read once.
#[derive(Debug)]
pub(super) struct Stdin {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    /// What arrived and was not taken: at most an unfinished piece and a chunk.
    buffer: Vec<u8>,
    taken: usize,
    within_line: bool,
    ended: bool,
}

impl Stdin {
    /// This process's standard input.
    pub(super) fn take() -> Result<Self, SourceError> {
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(SourceError::StdinTaken);
        }
        Self::over(io::stdin()).map_err(SourceError::StdinIo)
    }

    fn over(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        std::thread::Builder::new()
            .name("duende-stdin".to_owned())
            .spawn(move || read_all(input, &sender))?;
        Ok(Self { chunks, buffer: Vec::new(), taken: 0, within_line: false, ended: false })
    }

    pub(super) async fn fill(
        &mut self,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> Result<(), SourceError> {
        loop {
            let full = self.take_lines(batch, notices);
            if full || !batch.is_empty() {
                return Ok(());
            }
            if self.ended {
                return Err(SourceError::Ended);
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            match self.chunks.recv().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(SourceError::StdinIo(error)),
                None => self.ended = true,
            }
        }
    }

    fn take_lines(&mut self, batch: &mut Batch, notices: &mut Notices) -> bool {
        loop {
            let rest = &self.buffer[self.taken..];
            let head = &rest[..rest.len().min(ITEM_BYTES_MAX + 1)];
            let (length, newline) = match head.iter().position(|&byte| byte == b'\n') {
                Some(newline) => (newline, 1),
                None if head.len() > ITEM_BYTES_MAX => (ITEM_BYTES_MAX, 0),
                // The last line is complete: nothing can follow.
                None if self.ended && !head.is_empty() => (head.len(), 0),
                None => return false,
            };
            if !batch.has_room(length) {
                return true;
            }
            let piece = newline == 0 && rest.len() > length;
            if piece && !self.within_line {
                notices.push(Notice::LineTooLong { offset_bytes: 0 });
            }
            batch.push(rest[..length].to_vec(), Position::default());
            self.taken += length + newline;
            self.within_line = piece;
        }
    }
}

fn read_all(mut input: impl Read, chunks: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let chunk = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one part for each read, as a pipe does.
    struct Parts(Vec<Vec<u8>>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let part = self.0.remove(0);
            buffer[..part.len()].copy_from_slice(&part);
            Ok(part.len())
        }
    }

    fn check(parts: &[&[u8]], items_max: usize, expected: &[&[u8]], expected_notices: &[Notice]) {
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        let mut stdin = Stdin::over(Parts(parts)).unwrap();
        let mut notices = Notices::default();
        let mut payloads = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        loop {
            let mut batch = Batch::new(items_max, usize::MAX);
            match runtime.block_on(stdin.fill(&mut batch, &mut notices)) {
                Ok(()) => {
                    let items = batch.into_items();
                    assert!(!items.is_empty() && items.len() <= items_max);
                    payloads.extend(items.into_iter().map(|item| item.payload));
                }
                Err(SourceError::Ended) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(payloads == expected, "other lines than expected");
        assert_eq!(notices.take(), expected_notices);
    }

    #[test]
    fn lines_are_whole_whatever_the_reads_are() {
        check(&[], 10, &[], &[]);
        check(&[b"one\ntwo\n"], 10, &[b"one", b"two"], &[]);
        check(&[b"one\ntwo\nthree\n"], 1, &[b"one", b"two", b"three"], &[]);
        check(&[b"on", b"e\n\ntw", b"o\n"], 10, &[b"one", b"", b"two"], &[]);
        check(&[b"one\nlast"], 10, &[b"one", b"last"], &[]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_is_told() {
        let full = vec![b'x'; ITEM_BYTES_MAX];
        check(&[&full, b"\ny\n"], 10, &[&full, b"y"], &[]);
        check(&[&full], 10, &[&full], &[]);
        let told = [Notice::LineTooLong { offset_bytes: 0 }];
        check(&[&full, &full, b"z\ny\n"], 10, &[&full, &full, b"z", b"y"], &told);
    }
}
