//! How a daemon ends, and why it failed: one table of codes for components, natives and processes.

use core::fmt;

use crate::types::Error;

/// It ended as it should.
const DONE: u8 = 0;
/// It failed.
const FAILED: u8 = 1;
/// Something outside is missing (`EX_TEMPFAIL` of `sysexits.h`).
const LATER: u8 = 75;
/// It may not (`EX_NOPERM`).
const NOT_ALLOWED: u8 = 77;
/// Its configuration can't work (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// How a daemon says that it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0: it is done. 75: something outside is missing, and it is started again later, for ever, charged to
    /// nobody. 77 and 78: not before somebody asks for it. Any other is a failure.
    pub code: u8,
    /// For people; may be empty.
    pub text: String,
}

impl Outcome {
    /// It has done its work.
    #[must_use]
    pub const fn done() -> Self {
        Self { code: DONE, text: String::new() }
    }
}

/// Why a slice failed: nothing of it takes effect, and the incarnation ends.
///
/// `?` makes one of any error. What it is like decides when the daemon is started again:
///
/// | made by | code | started again |
/// |---|---|---|
/// | `?`, [`new`](Self::new) | 1 | by its restart policy, within its limit |
/// | [`later`](Self::later) | 75 | with a growing wait, for ever; charged to nobody |
/// | [`not_allowed`](Self::not_allowed), `?` of [`Error::Denied`] | 77 | when somebody asks for it |
/// | [`config`](Self::config) | 78 | when somebody asks for it |
///
/// ```
/// use duende_sdk::Failure;
///
/// fn ratio(text: &str) -> Result<f64, Failure> {
///     let ratio: f64 = text.parse()?;
///     if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(Failure::config("not a ratio")) }
/// }
/// assert_eq!(ratio("x").unwrap_err().to_string(), "invalid float literal");
/// assert_eq!(ratio("2").unwrap_err().code(), 78);
/// ```
// Not an error itself: `From` of every error would then be that of its own, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn of(code: u8, text: &dyn fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// It failed.
    #[must_use]
    pub fn new(text: impl fmt::Display) -> Self {
        Self::of(FAILED, &text)
    }

    /// Something outside is missing, and may come.
    #[must_use]
    pub fn later(text: impl fmt::Display) -> Self {
        Self::of(LATER, &text)
    }

    /// It may not do what it must.
    #[must_use]
    pub fn not_allowed(text: impl fmt::Display) -> Self {
        Self::of(NOT_ALLOWED, &text)
    }

    /// Its configuration can't work.
    #[must_use]
    pub fn config(text: impl fmt::Display) -> Self {
        Self::of(CONFIG, &text)
    }

    /// As a kernel tells it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const fn with_code(code: u8, text: String) -> Self {
        Self { code, text }
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }

    /// The same, as an end.
    #[must_use]
    pub fn into_outcome(self) -> Outcome {
        Outcome { code: self.code, text: self.text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: core::error::Error + 'static> From<E> for Failure {
    /// With its causes behind it.
    fn from(error: E) -> Self {
        let error: &(dyn core::error::Error + 'static) = &error;
        let denied = matches!(error.downcast_ref::<Error>(), Some(Error::Denied));
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self { code: if denied { NOT_ALLOWED } else { FAILED }, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the port")
        }
    }
    impl core::error::Error for Outer {
        fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn any_error_is_a_failure_with_its_causes() {
        let failure = Failure::from(Outer("x".parse::<u16>().unwrap_err()));
        assert_eq!(failure.to_string(), "the port: invalid digit found in string");
        assert_eq!(failure.code(), 1);
        for (failure, code) in [
            (Failure::from(Error::Denied), 77),
            (Failure::from(Error::NotFound), 1),
            (Failure::new("x"), 1),
            (Failure::later("x"), 75),
            (Failure::not_allowed("x"), 77),
            (Failure::config("x"), 78),
        ] {
            assert_eq!(failure.into_outcome().code, code);
        }
    }
}
