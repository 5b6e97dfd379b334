//! The last words of a machine whose invariant is broken.
//!
//! A machine that finds itself in a state that its rules exclude can't be trusted to go on. It says
//! so in an [`Epitaph`], a bounded text that needs no heap, and refuses all further input.

use core::fmt::{self, Write};

/// Longest epitaph, in bytes. What is longer is cut at the end of a character.
pub const EPITAPH_BYTES_MAX: usize = 64;

/// What was found broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0}")]
pub struct Epitaph(heapless::String<EPITAPH_BYTES_MAX>);

impl Epitaph {
    /// Writes the epitaph, as far as it fits.
    #[must_use]
    pub fn new(what: fmt::Arguments<'_>) -> Self {
        let mut text = Cut(heapless::String::new());
        // `Cut` does not fail: what is over is left out.
        let _ = text.write_fmt(what);
        Self(text.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

struct Cut(heapless::String<EPITAPH_BYTES_MAX>);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.push(character).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Refuses with an [`Epitaph`] unless the condition holds.
macro_rules! invariant {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::epitaph::Epitaph::new(format_args!($($what)+)));
        }
    };
}
pub(crate) use invariant;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut() {
        let words = "ü".repeat(40);
        let epitaph = Epitaph::new(format_args!("slot {}: {words}", 7));
        assert!(epitaph.as_str().starts_with("slot 7: üü"));
        assert_eq!(epitaph.as_str().len(), EPITAPH_BYTES_MAX);
    }
}
