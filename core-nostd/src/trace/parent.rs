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
mod tests;
