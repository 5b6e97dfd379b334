//! Bytes from outside: frames and headers, whole, cut and corrupted.

use duende_core::wire::encode;
use duende_core::wire::link::{Address, Event, HealthReport, LogLevel, Outcome};
use duende_world::Chunk;

use crate::draw::Draw;

/// A stream of frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What is still to be sent of the last one.
    rest: Vec<u8>,
}

impl Frames {
    /// Fills a chunk with the next bytes of the stream.
    pub(crate) fn fill(&mut self, draw: &mut Draw, corrupt: u16, chunk: &mut Chunk, bytes: u64) {
        for _ in 0..bytes {
            if self.rest.is_empty() {
                self.rest = frame(draw);
                if draw.per_mille(corrupt) {
                    spoil(draw, &mut self.rest);
                }
            }
            // It is not empty, and a chunk has room for all of its bytes.
            let _ = chunk.push(self.rest.remove(0));
        }
    }
}

fn frame(draw: &mut Draw) -> Vec<u8> {
    let at = Address {
        daemon: u32::try_from(draw.below(9)).unwrap_or(0),
        incarnation: u32::try_from(draw.below(1 << 20)).unwrap_or(0),
        process: 0,
    };
    let text = "a line of some length for the log"
        .get(..usize::try_from(draw.below(33)).unwrap_or(0))
        .unwrap_or_default();
    let event = match draw.below(8) {
        0 => Event::Reloaded { at },
        1 => Event::Running { at, pid: at.incarnation },
        2 => Event::Log { at, level: LogLevel::Info, text },
        3 => Event::StateSet { at, key: text, value: text.as_bytes() },
        4 => Event::CounterAdd { at, name: text, delta: draw.word() },
        5 => Event::GaugeSet { at, name: text, value: 1.5 },
        6 => Event::Health {
            at,
            token: draw.word(),
            report: HealthReport::Degraded(text),
            memory_bytes: 0,
        },
        _ => Event::Exited { at, outcome: Outcome::Trap, code: 0, reason: text },
    };
    let mut bytes = vec![0; 256];
    let written = encode(&event, &mut bytes).unwrap_or(0);
    bytes.truncate(written);
    bytes
}

/// A bit is flipped, a byte lost or one put in.
fn spoil(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let at = usize::try_from(draw.below(u64::try_from(bytes.len()).unwrap_or(0))).unwrap_or(0);
    match draw.below(4) {
        0 if !bytes.is_empty() => drop(bytes.remove(at)),
        1 => bytes.insert(at, draw.byte(255)),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << draw.below(8);
            }
        }
    }
}

/// A `traceparent`.
pub(crate) fn parent(draw: &mut Draw, corrupt: u16) -> Chunk {
    let version = draw.pick(&["00", "00", "00", "01", "ff", "cc"]);
    let tail = draw.pick(&["", "", "", "-", "-more", "x"]);
    let zero = draw.per_mille(50);
    let trace = if zero { 0 } else { draw.word() };
    let mut text = format!(
        "{version}-{:016x}{trace:016x}-{:016x}-{:02x}{tail}",
        if zero { 0 } else { draw.word() },
        if draw.per_mille(50) { 0 } else { draw.word() },
        draw.below(256),
    )
    .into_bytes();
    if draw.per_mille(corrupt) {
        spoil(draw, &mut text);
    }
    text.truncate(Chunk::new().capacity());
    Chunk::from_slice(&text).unwrap_or_default()
}

/// A `tracestate`.
pub(crate) fn members(draw: &mut Draw, corrupt: u16) -> Chunk {
    let mut text = Vec::new();
    for _ in 0..draw.below(5) {
        let key = draw.pick(&["a", "b", "rojo", "t@x", "9/z"]);
        let value = draw.pick(&["1", "00f067aa", " x", "~"]);
        let space = draw.pick(&["", " ", "\t"]);
        text.extend_from_slice(format!("{space}{key}={value}{space},").as_bytes());
    }
    if draw.per_mille(800) {
        text.pop();
    }
    if draw.per_mille(corrupt) {
        spoil(draw, &mut text);
    }
    text.truncate(Chunk::new().capacity());
    Chunk::from_slice(&text).unwrap_or_default()
}
