//! What a file holds: its bytes, or what they are when they are decompressed.
//!
//! A compressed file is read from its beginning to its end, once: what lies before a place is
//! decompressed and skipped. It does not change while it is read, or it is an error.

use std::{fmt, io, io::Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::files::{LogFile, read_full};

/// Bytes asked of a compressed file at once.
const PACKED_BYTES: usize = 16 << 10;
/// Longest window of a zstd frame, in bytes: what `zstd --long` asks for at most by default. It bounds what
/// one file may take of memory.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Packing {
    Gzip,
    Zstd,
    /// In a form that is not read.
    Other,
}

impl Packing {
    /// By the end of a name, and the name without it.
    pub(super) fn of(name: &[u8]) -> (Option<Self>, &[u8]) {
        const ENDINGS: [(&[u8], Packing); 10] = [
            (b".gz", Packing::Gzip),
            (b".zst", Packing::Zstd),
            (b".zstd", Packing::Zstd),
            (b".bz2", Packing::Other),
            (b".xz", Packing::Other),
            (b".lzma", Packing::Other),
            (b".lz4", Packing::Other),
            (b".br", Packing::Other),
            (b".Z", Packing::Other),
            (b".zip", Packing::Other),
        ];
        ENDINGS
            .iter()
            .find_map(|(ending, packing)| {
                name.strip_suffix(*ending).map(|rest| (Some(*packing), rest))
            })
            .unwrap_or((None, name))
    }
}

/// An open file and what it holds.
#[derive(Debug)]
pub(super) enum Content<H: LogFile> {
    Plain(H),
    Packed(Unpacked<H>),
}

impl<H: LogFile> Content<H> {
    pub(super) fn new(file: H, packing: Option<Packing>) -> Self {
        match packing {
            None => Self::Plain(file),
            Some(packing) => Self::Packed(Unpacked { file, packing, stream: None }),
        }
    }

    pub(super) fn file(&self) -> &H {
        match self {
            Self::Plain(file) => file,
            Self::Packed(unpacked) => &unpacked.file,
        }
    }

    /// Reads what lies at a place, as much as there is or fits. Reading on is cheap, everything else of a
    /// compressed file begins anew.
    pub(super) fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_full(file, buffer, offset),
            Self::Packed(unpacked) => unpacked.read(buffer, offset),
        }
    }
}

pub(super) struct Unpacked<H: LogFile> {
    file: H,
    packing: Packing,
    /// Where it is read, and by what.
    stream: Option<(u64, Decoder<H>)>,
}

impl<H: LogFile> fmt::Debug for Unpacked<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked").field("packing", &self.packing).finish_non_exhaustive()
    }
}

enum Decoder<H: LogFile> {
    Gzip(Box<MultiGzDecoder<InOrder<H>>>),
    Zstd(Frames<H>),
}

impl<H: LogFile> Unpacked<H> {
    fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut at, mut decoder) = match self.stream.take() {
            Some((at, decoder)) if at <= offset => (at, decoder),
            _ => (0, self.begin()?),
        };
        let mut skipped = [0; 4096];
        while at < offset {
            let want =
                usize::try_from(offset - at).map_or(skipped.len(), |left| left.min(skipped.len()));
            match decoder.read(&mut skipped[..want])? {
                0 => return Ok(0),
                bytes => at += bytes as u64,
            }
        }
        let mut read = 0;
        while read < buffer.len() {
            match decoder.read(&mut buffer[read..]) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                // What came before it is taken first; the next call meets it again.
                Err(_) if read > 0 => return Ok(read),
                Err(error) => return Err(error),
            }
        }
        self.stream = Some((at + read as u64, decoder));
        Ok(read)
    }

    fn begin(&self) -> io::Result<Decoder<H>> {
        let source = InOrder::new(self.file.clone());
        match self.packing {
            Packing::Gzip => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))),
            Packing::Zstd => Ok(Decoder::Zstd(Frames { open: None, rest: Some(source) })),
            Packing::Other => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is compressed in a form that is not read here (gzip and zstd are)",
            )),
        }
    }
}

impl<H: LogFile> Decoder<H> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(frames) => frames.read(buffer),
        }
    }
}

/// The frames of a zstd file, one after the other.
struct Frames<H: LogFile> {
    open: Option<Box<Frame<H>>>,
    /// What follows, while no frame is open.
    rest: Option<InOrder<H>>,
}

type Frame<H> = StreamingDecoder<InOrder<H>, ruzstd::decoding::FrameDecoder>;

impl<H: LogFile> Frames<H> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(mut frame) = self.open.take() {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    self.open = Some(frame);
                    return Ok(read);
                }
                self.rest = Some(frame.into_inner());
            }
            let Some(mut rest) = self.rest.take() else { return Ok(0) };
            if rest.is_at_end()? {
                return Ok(0);
            }
            let begin = rest.clone();
            match StreamingDecoder::new_with_max_window_size(rest, WINDOW_BYTES_MAX) {
                Ok(frame) => self.open = Some(Box::new(frame)),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    // Its magic number, its length, and what nobody is to read.
                    rest = begin;
                    rest.skip(8 + u64::from(length));
                    self.rest = Some(rest);
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

/// A file that is read from its beginning on.
#[derive(Clone)]
struct InOrder<H> {
    file: H,
    /// Of the first byte after the buffer.
    offset: u64,
    buffer: Vec<u8>,
    cursor: usize,
}

impl<H: LogFile> InOrder<H> {
    fn new(file: H) -> Self {
        Self { file, offset: 0, buffer: Vec::new(), cursor: 0 }
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.cursor == self.buffer.len() {
            self.buffer.resize(PACKED_BYTES, 0);
            self.cursor = 0;
            let read = read_full(&self.file, &mut self.buffer, self.offset);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.offset += read? as u64;
        }
        Ok(&self.buffer[self.cursor..])
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.fill()?.is_empty())
    }

    fn skip(&mut self, bytes: u64) {
        let here = self.offset - (self.buffer.len() - self.cursor) as u64;
        *self = Self { offset: here.saturating_add(bytes), ..Self::new(self.file.clone()) };
    }
}

impl<H: LogFile> Read for InOrder<H> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill()?;
        let read = ready.read(buffer)?;
        self.cursor += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use super::super::{files::Stat, mark::FileId};
    use super::*;

    impl LogFile for Arc<[u8]> {
        fn stat(&self) -> io::Result<Stat> {
            let id = FileId { device: 1, inode: 1, born_ns: 0 };
            Ok(Stat { id, is_file: true, size: self.len() as u64, modified_ns: 0, links: 1 })
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
            rest.unwrap_or_default().read(buffer)
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(bytes, level)
    }

    #[test]
    fn what_was_compressed_is_read_from_any_place() {
        let text: Vec<u8> =
            (0..20_000).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        let (first, second) = text.split_at(70_001);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for (name, packed) in [
            ("a.gz", gzip(&text)),
            ("members.gz", [gzip(first), gzip(second)].concat()),
            ("a.zst", zstd(&text)),
            ("frames.zst", [zstd(first), skippable, zstd(second)].concat()),
        ] {
            let (packing, _) = Packing::of(name.as_bytes());
            let mut content = Content::new(Arc::<[u8]>::from(packed), packing);
            // Onwards, back, at the end and behind it.
            for offset in [0, 5, 69_000, 70_000, 100, text.len() - 3, text.len(), text.len() + 1] {
                let mut buffer = vec![0; 5_000];
                let read = content.read(&mut buffer, offset as u64).unwrap();
                let expected = text.get(offset..).unwrap_or_default();
                assert_eq!(read, expected.len().min(buffer.len()), "{name} at {offset}");
                assert!(expected.starts_with(&buffer[..read]), "{name} at {offset}");
            }
        }
    }

    #[test]
    fn what_is_damaged_or_unknown_is_an_error() {
        let cut = gzip(b"some text that ends too soon");
        for (name, bytes) in [
            ("a.gz", &cut[..cut.len() - 9]),
            ("a.gz", b"plain text"),
            ("a.zst", b"plain text"),
            ("a.xz", b"whatever"),
        ] {
            let mut content =
                Content::new(Arc::<[u8]>::from(bytes), Packing::of(name.as_bytes()).0);
            // What can be read of it comes first.
            let read = content.read(&mut [0; 100], 0).unwrap_or(0) as u64;
            assert!(content.read(&mut [0; 100], read).is_err(), "{name}");
        }
    }
}
