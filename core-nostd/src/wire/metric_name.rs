//! What a metric may be called: `[a-zA-Z_:][a-zA-Z0-9_:]*`, at most [`NAME_BYTES_MAX`] bytes. These
//! are the names that Prometheus can read.

use super::link::NAME_BYTES_MAX;

/// Why a text is not the name of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricNameError {
    /// It is too long.
    #[error("a name of {bytes} bytes, at most {NAME_BYTES_MAX} are taken")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It is empty, begins with a digit, or has another character than letters, digits, `_` and `:`.
    #[error("a name has the form [a-zA-Z_:][a-zA-Z0-9_:]*")]
    Illegal,
}

/// Whether a metric may have this name.
///
/// # Errors
/// [`MetricNameError`], which says why not.
pub fn check_metric_name(name: &str) -> Result<(), MetricNameError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(MetricNameError::TooLong { bytes: name.len() });
    }
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    let first_is_legal = name.bytes().next().is_some_and(begins);
    if first_is_legal && name.bytes().all(|byte| begins(byte) || byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(MetricNameError::Illegal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        for name in ["a", "_", ":", "requests_total", "a:b_C9", "z".repeat(64).as_str()] {
            assert_eq!(check_metric_name(name), Ok(()), "{name}");
        }
        for name in ["", "9a", "a b", "a-b", "é", "a\0", "a.b"] {
            assert_eq!(check_metric_name(name), Err(MetricNameError::Illegal), "{name}");
        }
        let long = "z".repeat(65);
        assert_eq!(check_metric_name(&long), Err(MetricNameError::TooLong { bytes: 65 }));
    }
}
