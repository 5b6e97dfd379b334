//! What a run ends with when something does not hold.

/// Something does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {what}")]
pub struct Failure {
    /// Which rule: the same for the same kind of failure, so that a shorter run that breaks another
    /// one is told from a shorter run that fails the same way.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl Failure {
    /// A failure of a rule.
    #[must_use]
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// Fails with a rule and what was seen, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $rule:literal, $($what:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::new($rule, format!($($what)+)));
        }
    };
}
pub(crate) use hold;
