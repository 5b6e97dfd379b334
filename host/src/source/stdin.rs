//! The lines of standard input.
//!
//! A thread reads, because standard input may be anything, and making it non-blocking would change it
//! for every process that shares it. It reads at most [`CHUNKS_MAX`] chunks ahead, and runs until the
//! input ends. So standard input is taken once in the life of a process.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use duende_core::wire::link::Part;
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
    end: Option<End>,
}

/// Why nothing follows.
#[derive(Debug)]
enum End {
    Reached,
    /// It can't be read on: what follows is lost.
    Failed(io::Error),
}

impl End {
    fn said(&self) -> SourceError {
        match self {
            Self::Reached => SourceError::Ended,
            Self::Failed(error) => {
                let number = error.raw_os_error();
                let again = number.map(io::Error::from_raw_os_error);
                SourceError::StdinIo(again.unwrap_or_else(|| io::Error::from(error.kind())))
            }
        }
    }
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
        Ok(Self { chunks, buffer: Vec::new(), taken: 0, within_line: false, end: None })
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
            if let Some(end) = &self.end {
                return Err(end.said());
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            match self.chunks.recv().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => self.end = Some(End::Failed(error)),
                None => self.end = Some(End::Reached),
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
                None if self.end.is_some() && !head.is_empty() => (head.len(), 0),
                None => return false,
            };
            if !batch.has_room(length) {
                return true;
            }
            let piece = newline == 0 && rest.len() > length;
            if piece && !self.within_line {
                notices.push(Notice::LineTooLong { offset_bytes: 0 });
            }
            let part = Part::of(!self.within_line, !piece);
            batch.push(part, rest[..length].to_vec(), Position::default());
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

    /// Fails behind the parts, as a terminal does that is gone.
    struct Broken(Parts);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(rustix::io::Errno::IO.into()),
                count => Ok(count),
            }
        }
    }

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
        let mut parts = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        loop {
            let mut batch = Batch::new(items_max, usize::MAX);
            match runtime.block_on(stdin.fill(&mut batch, &mut notices)) {
                Ok(()) => {
                    let items = batch.into_items();
                    assert!(!items.is_empty() && items.len() <= items_max);
                    parts.extend(items.iter().map(|item| item.part));
                    payloads.extend(items.into_iter().map(|item| item.payload));
                }
                Err(SourceError::Ended) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(payloads == expected, "other lines than expected");
        assert_eq!(notices.take(), expected_notices);
        // A piece is as long as an item may be, and no line here is exactly twice that.
        let is_piece = |index: usize| {
            expected_notices.len() == 1
                && payloads.get(index).is_some_and(|one| one.len() == ITEM_BYTES_MAX)
        };
        for (index, part) in parts.into_iter().enumerate() {
            let continues = index > 0 && is_piece(index - 1);
            assert_eq!(part, Part::of(!continues, !is_piece(index)), "{index}");
        }
    }

    #[test]
    fn lines_are_whole_whatever_the_reads_are() {
        check(&[], 10, &[], &[]);
        check(&[b"one\ntwo\n"], 10, &[b"one", b"two"], &[]);
        check(&[b"one\ntwo\nthree\n"], 1, &[b"one", b"two", b"three"], &[]);
        check(&[b"on", b"e\n\ntw", b"o\n"], 10, &[b"one", b"", b"two"], &[]);
        check(&[b"one\nlast"], 10, &[b"one", b"last"], &[]);
    }

    /// What was read is given; the failure is told after it, to whoever asks and as often.
    #[test]
    fn a_failure_is_no_end() {
        let mut stdin = Stdin::over(Broken(Parts(vec![b"one\nhalf".to_vec()]))).unwrap();
        let mut notices = Notices::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut next = || {
            let mut batch = Batch::new(10, usize::MAX);
            runtime.block_on(stdin.fill(&mut batch, &mut notices))?;
            Ok(batch.into_items().into_iter().map(|item| item.payload).collect::<Vec<_>>())
        };
        assert_eq!(next().unwrap(), [b"one".to_vec()]);
        assert_eq!(next().unwrap(), [b"half".to_vec()]);
        for _ in 0..2 {
            let failure = next().map_err(|error: SourceError| error.to_string()).unwrap_err();
            assert!(failure.contains("Input/output error"), "{failure}");
        }
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
