//! `traceparent`: the trace and the span that a piece of work belongs to.
//!
//! Rules:
//! 1. Version 00 is `00-` 32 digits `-` 16 digits `-` 2 digits, hex in lower case, and nothing more.
//! 2. A higher version is read the same way, if a dash follows or nothing; what is behind is not
//!    looked at. Version ff is invalid. What is printed is always version 00.
//! 3. No identifier is all zeros.
//! 4. Of the flags, `sampled` and `random` are kept; of a higher version only `sampled`, whose
//!    meaning alone is promised. All others are zero in what is printed.

use core::fmt;
use core::num::{NonZeroU64, NonZeroU128};

/// How long a `traceparent` of version 00 is, in bytes.
pub const TRACEPARENT_BYTES: usize = 55;

/// Names a trace. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The trace of this number; zero names none.
    #[must_use]
    pub const fn new(number: u128) -> Option<Self> {
        match NonZeroU128::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Names a span within a trace: the parent of what its receiver does. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// The span of this number; zero names none.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the caller says of a trace. Only flags with a meaning can be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The caller may have recorded the trace.
    pub const SAMPLED: Self = Self(1);
    /// The trace's number is random in its last 7 bytes at least.
    pub const RANDOM: Self = Self(1 << 1);

    /// The flags among these bits that have a meaning.
    #[must_use]
    pub const fn from_bits_truncate(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The trace that a piece of work belongs to, and the span that is its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span: the sender's own, as its receiver's parent.
    pub span_id: SpanId,
    /// What is said of the trace.
    pub flags: TraceFlags,
}

impl TraceContext {
    /// Starts a trace, from 24 bytes of entropy. Where the entropy makes a zero, 1 stands.
    #[must_use]
    pub fn root(entropy: [u64; 3], sampled: bool) -> Self {
        let [high, low, span] = entropy;
        let trace = u128::from(high) << u64::BITS | u128::from(low);
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::NONE };
        Self {
            trace_id: TraceId(NonZeroU128::new(trace).unwrap_or(NonZeroU128::MIN)),
            span_id: SpanId(NonZeroU64::new(span).unwrap_or(NonZeroU64::MIN)),
            flags: flags.union(TraceFlags::RANDOM),
        }
    }

    /// A span of the same trace whose parent is this one, from 8 bytes of entropy. Its number is the
    /// entropy, or the next one that is neither zero nor the parent's.
    #[must_use]
    pub fn child(self, entropy: u64) -> Self {
        let parent = self.span_id;
        let fresh = |step| SpanId::new(entropy.wrapping_add(step)).filter(|id| *id != parent);
        // Two numbers are taken, so one of three is free.
        let span_id = fresh(0).or_else(|| fresh(1)).or_else(|| fresh(2)).unwrap_or(parent);
        Self { span_id, ..self }
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`TraceparentError`]: the trace is to be started again with [`root`](Self::root).
    pub fn from_traceparent(header: impl AsRef<[u8]>) -> Result<Self, TraceparentError> {
        parse(header.as_ref())
    }

    /// The header, of version 00.
    #[must_use]
    pub fn to_traceparent(self) -> heapless::String<TRACEPARENT_BYTES> {
        let mut header = heapless::String::new();
        // Every field has a fixed width, so it fits.
        let _ = fmt::write(&mut header, format_args!("{self}"));
        header
    }
}

impl fmt::Display for TraceContext {
    /// The `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.0)
    }
}

/// A field of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// 2 digits.
    Version,
    /// 32 digits.
    TraceId,
    /// 16 digits.
    ParentId,
    /// 2 digits.
    Flags,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::TraceId => "trace-id",
            Self::ParentId => "parent-id",
            Self::Flags => "trace-flags",
        })
    }
}

/// A `traceparent` is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("traceparent, byte {at}: {fault}")]
pub struct TraceparentError {
    /// The first byte, counted from 0, that is not as it must be; of an invalid number its first.
    pub at: usize,
    /// What is wrong there.
    pub fault: TraceparentFault,
}

/// What is wrong with a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TraceparentFault {
    /// It ends too early.
    #[error("ends before its {TRACEPARENT_BYTES} bytes")]
    Ended,
    /// A byte is no digit of lower-case hex.
    #[error("no lower-case hex digit in the {0}")]
    NotHex(Field),
    /// A field is not followed by a dash.
    #[error("no dash after the {0}")]
    NoDash(Field),
    /// The version is ff.
    #[error("version ff is none")]
    VersionForbidden,
    /// An identifier is zero.
    #[error("the {0} is all zeros")]
    AllZeros(Field),
    /// Version 00 has no more fields.
    #[error("more than version 00 has")]
    Trailing,
}

fn parse(header: &[u8]) -> Result<TraceContext, TraceparentError> {
    let mut reader = Reader { header, at: 0 };
    let version = reader.digits(Field::Version, 2)?;
    if version == 0xff {
        return Err(TraceparentError { at: 0, fault: TraceparentFault::VersionForbidden });
    }
    reader.dash(Field::Version)?;
    let trace_id = reader.identifier(Field::TraceId, 32, TraceId::new)?;
    reader.dash(Field::TraceId)?;
    let span_id = reader.identifier(Field::ParentId, 16, |number| {
        u64::try_from(number).ok().and_then(SpanId::new)
    })?;
    reader.dash(Field::ParentId)?;
    let flags = reader.digits(Field::Flags, 2)?;
    let flags = TraceFlags::from_bits_truncate(u8::try_from(flags).unwrap_or_default());
    if reader.at == header.len() {
        let known = if version == 0 { flags } else { TraceFlags(flags.0 & TraceFlags::SAMPLED.0) };
        return Ok(TraceContext { trace_id, span_id, flags: known });
    }
    if version == 0 {
        return Err(TraceparentError { at: reader.at, fault: TraceparentFault::Trailing });
    }
    reader.dash(Field::Flags)?;
    Ok(TraceContext { trace_id, span_id, flags: TraceFlags(flags.0 & TraceFlags::SAMPLED.0) })
}

struct Reader<'a> {
    header: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn fault<T>(&self, fault: TraceparentFault) -> Result<T, TraceparentError> {
        Err(TraceparentError { at: self.at, fault })
    }

    /// Reads that many digits, at most 32.
    fn digits(&mut self, field: Field, count: usize) -> Result<u128, TraceparentError> {
        let mut number = 0_u128;
        for _ in 0..count {
            let digit = match self.header.get(self.at) {
                Some(byte @ b'0'..=b'9') => byte - b'0',
                Some(byte @ b'a'..=b'f') => byte - b'a' + 10,
                Some(_) => return self.fault(TraceparentFault::NotHex(field)),
                None => return self.fault(TraceparentFault::Ended),
            };
            number = number << 4 | u128::from(digit);
            self.at = self.at.saturating_add(1);
        }
        Ok(number)
    }

    fn identifier<T>(
        &mut self,
        field: Field,
        count: usize,
        name: impl FnOnce(u128) -> Option<T>,
    ) -> Result<T, TraceparentError> {
        let at = self.at;
        let number = self.digits(field, count)?;
        name(number).ok_or(TraceparentError { at, fault: TraceparentFault::AllZeros(field) })
    }

    fn dash(&mut self, after: Field) -> Result<(), TraceparentError> {
        match self.header.get(self.at) {
            Some(b'-') => self.at = self.at.saturating_add(1),
            Some(_) => return self.fault(TraceparentFault::NoDash(after)),
            None => return self.fault(TraceparentFault::Ended),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                Some((0, VersionForbidden)),
            ),
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
}
