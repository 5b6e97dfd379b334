//! Of frames and trace headers: the whole stream kept, and read by plain slices.

use std::collections::VecDeque;

use duende_core::time::Instant;
use duende_core::trace::TraceContext;
use duende_core::wire::link::Event;
use duende_world::{FrameFault, Input, Seen, Step, World};

use super::Oracle;
use crate::failure::{Failure, hold};

/// Bytes that the world's decoder holds, and those of a header.
const STREAM_BYTES: usize = 160;
const HEADER_BYTES: usize = 12;

/// What has to come of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Frame(Vec<u8>),
    Fault(FrameFault),
}

/// The stream of a peer, and the headers of a trace.
#[derive(Debug, Default)]
pub(super) struct Wires {
    stream: VecDeque<u8>,
    fault: Option<FrameFault>,
    owed: VecDeque<Read>,
    input: Option<Input>,
    /// What was read of this step's `traceparent`.
    caller: Option<Option<TraceContext>>,
}

/// CRC-32 as IEEE 802.3 has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

impl Wires {
    fn read(&mut self) {
        if let Some(fault) = self.fault {
            self.owed.push_back(Read::Fault(fault));
            return;
        }
        while let Some(read) = self.read_one() {
            if let Read::Fault(fault) = read {
                self.fault = Some(fault);
            }
            let over = self.fault.is_some();
            self.owed.push_back(read);
            if over {
                return;
            }
        }
    }

    fn read_one(&mut self) -> Option<Read> {
        let bytes = self.stream.make_contiguous();
        let header = bytes.get(..HEADER_BYTES)?;
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (magic, length, crc) =
            (u16::from_le_bytes([header[0], header[1]]), number(4), number(8));
        if &header[..2] != b"Du" {
            return Some(Read::Fault(FrameFault::Magic(magic)));
        }
        if header[2] != 1 {
            return Some(Read::Fault(FrameFault::Version(header[2])));
        }
        // A kind from 64 on may be skipped, once all of it is there and intact.
        if header[3] != 2 && header[3] < 64 {
            return Some(Read::Fault(FrameFault::Kind(header[3])));
        }
        let bytes_of_payload = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes_of_payload > STREAM_BYTES - HEADER_BYTES {
            return Some(Read::Fault(FrameFault::TooLarge(length)));
        }
        let end = HEADER_BYTES + bytes_of_payload;
        let frame = bytes.get(..end)?.to_vec();
        self.stream.drain(..end);
        let mut checked = vec![frame[3]];
        checked.extend_from_slice(&frame[HEADER_BYTES..]);
        let computed = crc32(&checked);
        if computed != crc {
            return Some(Read::Fault(FrameFault::Checksum(computed)));
        }
        if frame[3] != 2 {
            return self.read_one();
        }
        Some(match postcard::take_from_bytes::<Event<'_>>(&frame[HEADER_BYTES..]) {
            Ok((_, [])) => Read::Frame(frame),
            Ok((_, rest)) => Read::Fault(FrameFault::Trailing(rest.len())),
            Err(_) => Read::Fault(FrameFault::Payload),
        })
    }

    fn seen(&mut self, read: &Read) -> Result<(), Failure> {
        let expected = self.owed.pop_front();
        hold!(
            expected.as_ref() == Some(read),
            "wire: every whole frame is read, and nothing else",
            "{read:?} instead of {expected:?}"
        );
        Ok(())
    }
}

/// A `traceparent` by its fields: trace and span.
fn parent(bytes: &[u8]) -> Option<(u128, u64)> {
    // What comes behind is not looked at, in a higher version.
    let (text, tail) = bytes.split_at_checked(55)?;
    let text = std::str::from_utf8(text).ok()?;
    let lower = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let field =
        |from: usize, length: usize| text.get(from..from + length).filter(|field| lower(field));
    let (version, trace) = (field(0, 2)?, field(3, 32)?);
    let (span, _flags) = (field(36, 16)?, field(53, 2)?);
    let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    let ends =
        if version == "00" { tail.is_empty() } else { tail.is_empty() || tail.starts_with(b"-") };
    let trace = u128::from_str_radix(trace, 16).ok()?;
    let span = u64::from_str_radix(span, 16).ok()?;
    (dashes && ends && version != "ff" && trace != 0 && span != 0).then_some((trace, span))
}

/// How many members a `tracestate` has; none if it is malformed.
fn members(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut keys = Vec::new();
    let fields: Vec<&str> = text.split(',').collect();
    for member in &fields {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let initial = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let sound_key =
            key.starts_with(initial) && key.chars().all(|c| initial(c) || "_-*/@".contains(c));
        let sound_value =
            !value.is_empty() && value.chars().all(|c| matches!(c, ' '..='~') && c != '=');
        if !sound_key || !sound_value || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    (fields.len() <= 32).then_some(keys.len())
}

impl Oracle for Wires {
    fn step(&mut self, _: Instant, step: &Step) {
        self.input = Some(step.input.clone());
        self.caller = None;
        match &step.input {
            Input::Connect => (self.stream, self.fault) = (VecDeque::new(), None),
            Input::Frame(bytes) => {
                self.stream.extend(bytes.iter());
                self.read();
            }
            _ => {}
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match *seen {
            Seen::Message(bytes) => self.seen(&Read::Frame(bytes.to_vec())),
            Seen::Frame(fault) => self.seen(&Read::Fault(fault)),
            Seen::Parent(read) => {
                let Some(Input::Parent(bytes)) = &self.input else { return Ok(()) };
                let Some(caller) = self.caller else {
                    let expected = parent(bytes);
                    let found = read.ok().map(|read| (read.trace_id.get(), read.span_id.get()));
                    hold!(
                        found == expected,
                        "traceparent: what is sound is read",
                        "{read:?} instead of {expected:?}"
                    );
                    self.caller = Some(read.ok());
                    return Ok(());
                };
                let Ok(own) = read else {
                    return Err(Failure::new("traceparent: our own is sound", format!("{read:?}")));
                };
                let follows = caller.is_none_or(|caller| {
                    caller.trace_id == own.trace_id && caller.span_id != own.span_id
                });
                hold!(follows, "traceparent: a span follows its parent", "{own:?}, {caller:?}");
                Ok(())
            }
            Seen::Members(read) => {
                let Some(Input::Members(bytes)) = &self.input else { return Ok(()) };
                let expected = members(bytes);
                hold!(
                    read.ok() == expected,
                    "tracestate: what is sound is read",
                    "{read:?} instead of {expected:?}"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, _: &World) -> Result<(), Failure> {
        let owed = &self.owed;
        hold!(owed.is_empty(), "wire: every whole frame is read, and nothing else", "{owed:?}");
        Ok(())
    }
}
