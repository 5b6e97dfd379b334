//! A response's body on its way to the socket.
//!
//! Files are read in chunks, on threads that may block; at most one chunk is read ahead of what the
//! connection takes, so a file larger than memory is served in constant space.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::record::Record;

/// Most bytes that are read from a file at once.
pub(crate) const CHUNK_BYTES_MAX: u64 = 65_536;

/// A stretch of a file; its first chunk is read already.
#[derive(Debug)]
pub(crate) struct FileSlice {
    file: Arc<File>,
    first: Bytes,
    /// Where the next chunk starts.
    offset: u64,
    /// How many bytes follow `first`.
    remaining: u64,
}

impl FileSlice {
    /// `bytes` bytes from `offset`. Reads the first chunk: may block.
    pub(crate) fn read(file: File, offset: u64, bytes: u64) -> io::Result<Self> {
        let first = read_chunk(&file, offset, bytes)?;
        let first_bytes = length(&first);
        Ok(Self {
            file: Arc::new(file),
            first,
            offset: offset.saturating_add(first_bytes),
            remaining: bytes.saturating_sub(first_bytes),
        })
    }
}

/// What a response carries.
#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(Bytes),
    File(FileSlice),
}

impl Payload {
    /// Nothing.
    pub(crate) const fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// A payload that hyper sends, and the record of the request that it answers. Dropping it, sent or
/// not, completes the record.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// Ready to be sent.
    next: Bytes,
    rest: Option<FileSlice>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    record: Record,
}

impl ResponseBody {
    pub(crate) fn new(payload: Payload, record: Record) -> Self {
        let (next, rest) = match payload {
            Payload::Bytes(bytes) => (bytes, None),
            Payload::File(mut slice) => (std::mem::take(&mut slice.first), Some(slice)),
        };
        Self { next, rest, reading: None, record }
    }

    fn remaining(&self) -> u64 {
        let unread = self.rest.as_ref().map_or(0, |rest| rest.remaining);
        unread.saturating_add(length(&self.next))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.next.is_empty()
            && let Some(rest) = body.rest.as_mut().filter(|rest| rest.remaining > 0)
        {
            let reading = body.reading.get_or_insert_with(|| {
                let (file, offset, bytes) = (rest.file.clone(), rest.offset, rest.remaining);
                spawn_blocking(move || read_chunk(&file, offset, bytes))
            });
            let chunk = ready!(Pin::new(reading).poll(cx));
            body.reading = None;
            let chunk = chunk.map_err(io::Error::other).flatten()?;
            rest.offset = rest.offset.saturating_add(length(&chunk));
            rest.remaining = rest.remaining.saturating_sub(length(&chunk));
            body.next = chunk;
        }
        let chunk = std::mem::take(&mut body.next);
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        body.record.add_body_bytes(length(&chunk));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

/// Reads at most one chunk. Never empty unless `bytes` is 0: a file that became shorter than its
/// `Content-Length` is an error, so that the client sees a cut connection and not a short file.
fn read_chunk(file: &File, offset: u64, bytes: u64) -> io::Result<Bytes> {
    let chunk_bytes = usize::try_from(bytes.min(CHUNK_BYTES_MAX)).map_err(io::Error::other)?;
    let mut chunk = vec![0; chunk_bytes];
    file.read_exact_at(&mut chunk, offset)?;
    Ok(chunk.into())
}

/// A length in memory; fits in 64 bits wherever this runs.
fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
