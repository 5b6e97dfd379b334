//! What is kept of a line, and why one could not be read.

/// What is kept of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When, in seconds since 1970; none if the line does not say.
    pub second: Option<u64>,
    /// The HTTP status, 100 to 999; none if no answer was sent (`-`, 0).
    pub status: Option<u16>,
    /// Bytes of the response.
    pub bytes: u64,
    /// How long the request took, in microseconds, if the line says so.
    pub latency_us: Option<u64>,
}

/// How far a line could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misread {
    /// How many bytes of it could.
    pub at: usize,
    /// What should have followed.
    pub expected: &'static str,
}

impl Misread {
    /// At byte `at`, `expected` was not there.
    #[must_use]
    pub const fn new(at: usize, expected: &'static str) -> Self {
        Self { at, expected }
    }

    /// The one of both that came further.
    #[must_use]
    pub(crate) const fn or_further(self, other: Self) -> Self {
        if other.at > self.at { other } else { self }
    }
}
