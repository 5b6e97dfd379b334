//! Every malformed form is refused, and what is printed is parsed again.

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn context() -> impl Strategy<Value = TraceContext> {
    (1_u128.., 1_u64.., any::<u8>()).prop_map(|(trace, span, bits)| TraceContext {
        trace_id: TraceId::new(trace).unwrap(),
        span_id: SpanId::new(span).unwrap(),
        flags: TraceFlags::from_bits_truncate(bits),
    })
}

fn fault(header: impl AsRef<[u8]>) -> Option<(usize, TraceparentFault)> {
    TraceContext::from_traceparent(header).err().map(|error| (error.at, error.fault))
}

proptest! {
    #[test]
    fn printed_is_read_again(context in context()) {
        let header = context.to_traceparent();
        prop_assert_eq!(header.len(), TRACEPARENT_BYTES);
        prop_assert_eq!(TraceContext::from_traceparent(header.as_str()), Ok(context));
    }

    /// Bytes near a sound header, and any at all.
    #[test]
    fn what_is_accepted_is_what_the_grammar_says(
        context in context(),
        version in prop_oneof![Just("00"), Just("01"), Just("ff"), Just("cc")],
        edits in proptest::collection::vec(
            (any::<proptest::sample::Index>(), prop_oneof![Just(b'-'), Just(b'0'), Just(b'F'), any::<u8>()]),
            0..3,
        ),
        tail in proptest::collection::vec(prop_oneof![Just(b'-'), any::<u8>()], 0..3),
        cut in 0..60_usize,
    ) {
        let mut header = context.to_string().into_bytes();
        header[..2].copy_from_slice(version.as_bytes());
        for (place, byte) in edits {
            let place = place.index(header.len());
            header[place] = byte;
        }
        header.extend(tail);
        header.truncate(cut.max(40) + 1);
        match TraceContext::from_traceparent(&header) {
            Ok(read) => {
                prop_assert!(sound(&header), "{}", header.escape_ascii());
                let text = core::str::from_utf8(&header[..TRACEPARENT_BYTES - 2]).unwrap();
                prop_assert_eq!(&read.to_string()[2..TRACEPARENT_BYTES - 2], &text[2..]);
            }
            Err(error) => {
                prop_assert!(!sound(&header), "{}", header.escape_ascii());
                prop_assert!(error.at <= header.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert_eq!(TraceContext::from_traceparent(&bytes).is_ok(), sound(&bytes));
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace(
        parent in context(),
        entropy in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
    ) {
        for entropy in [entropy, parent.span_id.get(), parent.span_id.get().wrapping_sub(1)] {
            let child = parent.child(entropy);
            prop_assert_ne!(child.span_id, parent.span_id);
            prop_assert_eq!(TraceContext { span_id: parent.span_id, ..child }, parent);
            prop_assert!(child.span_id.get().wrapping_sub(entropy) <= 2);
        }
    }
}

/// The grammar once more, by splitting instead of reading on.
fn sound(header: &[u8]) -> bool {
    let fields = header.splitn(5, |byte| *byte == b'-').collect::<Vec<_>>();
    let [version, trace, parent, flags, rest @ ..] = fields.as_slice() else { return false };
    let hex = |field: &[u8], len| {
        field.len() == len && field.iter().all(|byte| b"0123456789abcdef".contains(byte))
    };
    let zeros = |field: &[u8]| field.iter().all(|byte| *byte == b'0');
    (hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2))
        && !(zeros(trace) || zeros(parent) || *version == b"ff")
        && (*version != b"00" || rest.is_empty())
}

#[test]
fn every_cut_of_a_header_ends_too_early() {
    for end in 0..SOUND.len() {
        assert_eq!(fault(&SOUND[..end]), Some((end, TraceparentFault::Ended)));
    }
}

#[test]
fn a_fault_is_named_with_its_place() {
    use TraceparentFault::{AllZeros, NoDash, NotHex, Trailing, VersionForbidden};
    for (header, expected) in [
        (SOUND, None),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some((0, VersionForbidden))),
        (
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            Some((1, NotHex(Field::Version))),
        ),
        (
            "000-bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            Some((2, NoDash(Field::Version))),
        ),
        (
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            Some((4, NotHex(Field::TraceId))),
        ),
        (
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            Some((3, AllZeros(Field::TraceId))),
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e47361-0f067aa0ba902b7-01",
            Some((35, NoDash(Field::TraceId))),
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b -01",
            Some((51, NotHex(Field::ParentId))),
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            Some((36, AllZeros(Field::ParentId))),
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7.01",
            Some((52, NoDash(Field::ParentId))),
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            Some((54, NotHex(Field::Flags))),
        ),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", Some((55, Trailing))),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", None),
        ("fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\u{fc} =", None),
        (
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            Some((55, NoDash(Field::Flags))),
        ),
    ] {
        assert_eq!(fault(header), expected, "{header}");
    }
    let error = TraceContext::from_traceparent("00-x").unwrap_err().to_string();
    assert_eq!(error, "traceparent, byte 3: no lower-case hex digit in the trace-id");
}

#[test]
fn only_flags_with_a_meaning_are_kept() {
    for (version, flags, kept) in
        [("00", "ff", 3), ("00", "fd", 1), ("00", "f8", 0), ("01", "ff", 1), ("01", "02", 0)]
    {
        for tail in if version == "00" { &[""][..] } else { &["", "-x"] } {
            let header = [version, &SOUND[2..53], flags, tail].concat();
            let read = TraceContext::from_traceparent(&header).unwrap();
            assert_eq!(read.flags.bits(), kept, "{header}");
            assert_eq!(read.flags.contains(TraceFlags::SAMPLED), kept & 1 == 1);
        }
    }
}

#[test]
fn the_union_of_flags_has_those_of_both() {
    let both = TraceFlags::SAMPLED.union(TraceFlags::RANDOM);
    for (one, other, union) in [
        (TraceFlags::NONE, TraceFlags::NONE, TraceFlags::NONE),
        (TraceFlags::SAMPLED, TraceFlags::RANDOM, both),
        (both, TraceFlags::SAMPLED, both),
        (TraceFlags::NONE, both, both),
    ] {
        assert_eq!((one.union(other), other.union(one)), (union, union));
    }
}

#[test]
fn a_root_is_made_of_its_entropy() {
    let root = TraceContext::root([1, 2, 3], true);
    assert_eq!((root.trace_id.get(), root.span_id.get()), (1 << 64 | 2, 3));
    assert_eq!(root.to_string(), "00-00000000000000010000000000000002-0000000000000003-03");
    let root = TraceContext::root([0; 3], false);
    assert_eq!(root.to_string(), "00-00000000000000000000000000000001-0000000000000001-02");
    let root = TraceContext::root([u64::MAX; 3], false);
    assert_eq!(TraceContext::from_traceparent(root.to_traceparent().as_str()), Ok(root));
}
