//! What processes of Duende say to each other, and how it is laid out in bytes.
//!
//! - [`link`]: the messages between the manager and a place where daemons run.
//! - The frame around each message: [`encode`] writes one, a [`Decoder`] reads them back from a
//!   stream that delivers bytes in pieces of any size.
//!
//! # A frame
//!
//! Twelve bytes of header, little endian, then the payload in [postcard](https://postcard.rs)'s
//! encoding (that of the control socket is JSON: `docs/control.md`):
//!
//! | offset | bytes | field | meaning |
//! |---|---|---|---|
//! | 0 | 2 | magic | `Du`: this is a frame of ours |
//! | 2 | 1 | version | [`WIRE_VERSION`] |
//! | 3 | 1 | kind | [`Message::KIND`]: which family of messages the payload belongs to |
//! | 4 | 4 | length | bytes of payload |
//! | 8 | 4 | checksum | CRC-32 (IEEE) of kind and payload |
//!
//! | kind | family |
//! |---|---|
//! | 1, 2 | [`link::Command`], [`link::Event`] |
//! | 3, 4 | what a manager and `keep` say to each other |
//! | 5, 6 | the control socket, before its version 4 |
//! | 7, 8 | the control socket |
//! | 9 | [`Hello`]: the first message in either direction of a link |
//! | from [`SKIPPABLE_FROM`] | what may be skipped: a decoder that is not asked for it counts it and goes on |
//!
//! The checksum finds faults of software and of storage, not an attacker: who may write to a stream
//! is decided where the stream is opened.

mod frame;
mod hello;
pub mod link;
mod metric_name;

pub use frame::{
    Decoder, EncodeError, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, SKIPPABLE_FROM, WIRE_VERSION,
    encode, encode_payload,
};
pub use hello::{Agreed, Disagreement, Hello, HelloError, LINK_VERSION_MIN, Role};
pub use metric_name::{MetricNameError, check_metric_name};

/// A family of messages that can travel in frames.
///
/// The kind keeps families apart, so that a stream that was wired to the wrong reader is refused
/// instead of misread. The table is above: a number is used for one family, and for no other when that is
/// gone.
pub trait Message {
    /// The family's number in the frame's header.
    const KIND: u8;
}

impl Message for link::Command<'_> {
    const KIND: u8 = 1;
}

impl Message for link::Event<'_> {
    const KIND: u8 = 2;
}

impl Message for link::Usage {
    /// Whoever does not know it shows no usage.
    const KIND: u8 = 64;
}
