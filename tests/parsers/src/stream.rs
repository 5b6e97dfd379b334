//! A stream of frames: any bytes, in any pieces.
//!
//! The input is four bytes and then the stream:
//!
//! | byte | meaning |
//! |---|---|
//! | 0 | which family of messages is read: modulo the number of families |
//! | 1 | even: the rest is the stream as it is; odd: it is a list of payloads, see below |
//! | 2 | the decoder's storage: this many times 16 bytes, and 255 the largest frame |
//! | 3 | the longest piece that the stream is delivered in, in bytes; 0 counts as 1 |
//!
//! A payload in the list is one byte of length and that many bytes; the last one is cut where the
//! input ends. Each is put into a frame of its own with a sound header, which chance would never
//! produce: a checksum is 32 bits.
//!
//! What is promised:
//! 1. How the stream is cut into pieces changes nothing.
//! 2. A message that was read is written and read again as the same one, and, of a family of which that is
//!    promised, is written no longer than it came.
//! 3. An error is for ever: not even a sound frame is read after it.
//! 4. A decoder that wants more bytes has room for them.

use std::marker::PhantomData;

use duende_core::wire::{
    Decoder, EncodeError, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Message, encode,
};
use serde::ser::SerializeTuple as _;
use serde::{Serialize, Serializer};

/// A message as a frame, if there is one yet.
pub(crate) type Next = Result<Option<Vec<u8>>, FrameError>;

/// How one family is read and what its messages are.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    /// A frame of this family around any payload.
    pub(crate) frame: fn(&[u8]) -> Vec<u8>,
    /// Takes the next message and gives it as a frame of its own, having read that again.
    pub(crate) next: fn(&mut Decoder<Vec<u8>>) -> Next,
    /// Whether nothing is written longer than it may come.
    pub(crate) is_shortest: bool,
}

/// A [`Family`] for a type of messages.
macro_rules! family {
    ($message:ty) => {
        $crate::stream::Family {
            frame: |payload| {
                let raw = $crate::stream::Raw::<$message>(payload, std::marker::PhantomData);
                $crate::stream::frame_of(&raw)
            },
            next: |decoder| {
                let Some(message) = decoder.next::<$message>()? else { return Ok(None) };
                let frame = $crate::stream::frame_of(&message);
                let mut again = $crate::stream::decoder_of(&frame);
                match again.next::<$message>() {
                    // By their texts, in which a NaN equals itself.
                    Ok(Some(read)) => assert_eq!(format!("{read:?}"), format!("{message:?}")),
                    other => panic!("{message:?} was written, and read as {other:?}"),
                }
                Ok(Some(frame))
            },
            is_shortest: true,
        }
    };
}
pub(crate) use family;

/// Checks one input against `families`.
pub(crate) fn check(input: &[u8], families: &[Family]) {
    let Some((&[family, framed, storage, piece], rest)) = input.split_first_chunk::<4>() else {
        return;
    };
    let Some(family) = families.get(usize::from(family) % families.len().max(1)) else { return };
    let stream = if framed % 2 == 0 { rest.to_vec() } else { frames(*family, rest) };
    let storage_bytes =
        if storage == u8::MAX { FRAME_BYTES_MAX } else { usize::from(storage) * 16 };

    let in_pieces = read(*family, &stream, storage_bytes, usize::from(piece).max(1));
    let in_one = read(*family, &stream, storage_bytes, usize::MAX);
    assert_eq!(in_pieces, in_one, "the pieces made a difference");
    // Varints may come longer than they need to be; none is ever written so.
    let written: usize = in_one.0.iter().map(Vec::len).sum();
    let is_bounded = !family.is_shortest || written <= stream.len();
    assert!(is_bounded, "{written} bytes were made of {}", stream.len());
}

/// What a stream was read as: each message as a frame, and the error that ended it.
type Reading = (Vec<Vec<u8>>, Option<FrameError>);

fn read(family: Family, stream: &[u8], storage_bytes: usize, piece_bytes_max: usize) -> Reading {
    let mut decoder = Decoder::new(vec![0; storage_bytes]);
    let mut messages = Vec::new();
    let mut rest = stream;
    loop {
        match (family.next)(&mut decoder) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) if rest.is_empty() => return (messages, None),
            Ok(None) => {
                let room = decoder.spare();
                assert!(!room.is_empty(), "no message, and no room for more of it");
                let bytes = rest.len().min(room.len()).min(piece_bytes_max);
                let (piece, behind) = rest.split_at(bytes);
                room[..bytes].copy_from_slice(piece);
                decoder.filled(bytes);
                rest = behind;
            }
            Err(error) => {
                // Its owner closes the stream. One who does not gets nothing out of it either.
                let sound = messages.first().map_or(&[][..], Vec::as_slice);
                let room = decoder.spare();
                let bytes = sound.len().min(room.len());
                room[..bytes].copy_from_slice(&sound[..bytes]);
                decoder.filled(bytes);
                assert_eq!((family.next)(&mut decoder), Err(error.clone()));
                return (messages, Some(error));
            }
        }
    }
}

/// The frames of a list of payloads.
fn frames(family: Family, list: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut rest = list;
    while let Some((&length, behind)) = rest.split_first() {
        let (payload, behind) = behind.split_at(usize::from(length).min(behind.len()));
        stream.extend((family.frame)(payload));
        rest = behind;
    }
    stream
}

/// A payload as it is, in a frame that says it were an `M`.
pub(crate) struct Raw<'a, M>(pub(crate) &'a [u8], pub(crate) PhantomData<M>);

impl<M: Message> Message for Raw<'_, M> {
    const KIND: u8 = M::KIND;
}

impl<M> Serialize for Raw<'_, M> {
    /// A tuple of bytes: in postcard these bytes and nothing else.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for byte in self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

/// A message in its frame.
pub(crate) fn frame_of<M: Message + Serialize>(message: &M) -> Vec<u8> {
    for bytes in [4_096, FRAME_BYTES_MAX] {
        let mut frame = vec![0; bytes];
        match encode(message, &mut frame) {
            Ok(bytes) => {
                frame.truncate(bytes);
                return frame;
            }
            Err(EncodeError::BufferTooSmall { .. }) => {}
            Err(error) => panic!("a message that was read cannot be written: {error}"),
        }
    }
    panic!("a message of a frame does not fit into the largest one");
}

/// A decoder that holds these bytes.
pub(crate) fn decoder_of(bytes: &[u8]) -> Decoder<Vec<u8>> {
    let mut decoder = Decoder::new(vec![0; bytes.len().max(HEADER_BYTES)]);
    decoder.spare()[..bytes.len()].copy_from_slice(bytes);
    decoder.filled(bytes.len());
    decoder
}
