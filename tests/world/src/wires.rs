//! What comes from outside as bytes: frames of the link, and the headers of a trace.

use duende_core::trace::{TraceContext, TraceState};
use duende_core::wire::link::Event;
use duende_core::wire::{Decoder, encode};

use crate::seen::{Out, Seen};

const STREAM_BYTES: usize = 160;

/// The stream of one peer.
#[derive(Debug)]
pub(crate) struct Wires {
    decoder: Decoder<[u8; STREAM_BYTES]>,
    trace: Option<TraceContext>,
}

impl Wires {
    pub(crate) fn new() -> Self {
        Self { decoder: Decoder::new([0; STREAM_BYTES]), trace: None }
    }

    /// A new stream.
    pub(crate) fn connect(&mut self) {
        self.decoder = Decoder::new([0; STREAM_BYTES]);
    }

    /// Bytes of the stream, and the messages that they complete.
    pub(crate) fn frame(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let mut rest = bytes;
        loop {
            let spare = self.decoder.spare();
            let taken = spare.len().min(rest.len());
            for (place, byte) in spare.iter_mut().zip(rest) {
                *place = *byte;
            }
            self.decoder.filled(taken);
            rest = rest.get(taken..).unwrap_or_default();
            loop {
                match self.decoder.next::<Event<'_>>() {
                    Ok(None) => break,
                    Ok(Some(event)) => {
                        let mut again = [0; STREAM_BYTES];
                        let bytes = encode(&event, &mut again).unwrap_or_default();
                        out.tell(&Seen::Message(again.get(..bytes).unwrap_or_default()));
                    }
                    Err(error) => return out.tell(&Seen::Frame(error.into())),
                }
            }
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The trace that a caller names. A span of it follows, or, if it is refused, a trace of our own.
    pub(crate) fn parent(&mut self, header: &[u8], entropy: u64, out: &mut Out<'_>) {
        let parent = TraceContext::from_traceparent(header);
        out.tell(&Seen::Parent(parent));
        let own = match (parent, self.trace) {
            (Ok(caller), _) => caller.child(entropy),
            (Err(_), Some(before)) => before.child(entropy),
            (Err(_), None) => TraceContext::root([entropy; 3], true),
        };
        self.trace = Some(own);
        // What is printed is read back as what it was, but for the flags that version 00 has not.
        let again = TraceContext::from_traceparent(own.to_traceparent().as_bytes());
        out.tell(&Seen::Parent(again));
    }

    pub(crate) fn members(header: &[u8], out: &mut Out<'_>) {
        let state = TraceState::from_tracestate(header);
        out.tell(&Seen::Members(state.map(|state| state.members().count())));
    }
}
