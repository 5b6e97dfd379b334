//! Sets of exit codes and signals, as configurations name them.

use core::fmt;

use super::Exit;

/// Most signals that are told apart: Linux has 64, numbered from 1.
const SIGNAL_MAX: i32 = 64;

/// Exit codes from 0 to 255 and signals from 1 to 64.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExitSet {
    /// Bit c % 64 of word c / 64 is exit code c.
    codes: [u64; 4],
    /// Bit s - 1 is signal s.
    signals: u64,
}

/// What no process exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ExitSetError {
    /// Codes have eight bits.
    #[error("exit codes go from 0 to 255, not {0}")]
    Code(i32),
    /// There are 64 signals.
    #[error("signals go from 1 to 64, not {0}")]
    Signal(i32),
}

impl ExitSet {
    /// Nothing.
    pub const EMPTY: Self = Self { codes: [0; 4], signals: 0 };

    /// This one and the exit code.
    ///
    /// # Errors
    /// [`ExitSetError`], when there is no such code.
    pub const fn with_code(mut self, code: i32) -> Result<Self, ExitSetError> {
        if code < 0 || code > 255 {
            return Err(ExitSetError::Code(code));
        }
        let bit = 1 << (code & 63);
        let [a, b, c, d] = &mut self.codes;
        let word = match code >> 6 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        *word |= bit;
        Ok(self)
    }

    /// This one and the signal.
    ///
    /// # Errors
    /// [`ExitSetError`], when there is no such signal.
    pub const fn with_signal(mut self, signal: i32) -> Result<Self, ExitSetError> {
        if signal < 1 || signal > SIGNAL_MAX {
            return Err(ExitSetError::Signal(signal));
        }
        self.signals |= 1 << (signal - 1);
        Ok(self)
    }

    /// Whether the exit is one of these. An error, a trap and the like never are.
    #[must_use]
    pub const fn contains(&self, exit: Exit) -> bool {
        match exit {
            Exit::Code(code) if 0 <= code && code <= 255 => {
                let [a, b, c, d] = self.codes;
                let word = match code >> 6 {
                    0 => a,
                    1 => b,
                    2 => c,
                    _ => d,
                };
                word >> (code & 63) & 1 == 1
            }
            Exit::Signal(signal) if 1 <= signal && signal <= SIGNAL_MAX => {
                self.signals >> (signal - 1) & 1 == 1
            }
            Exit::Code(_)
            | Exit::Signal(_)
            | Exit::Error
            | Exit::Trap
            | Exit::SliceBudget
            | Exit::Refused
            | Exit::Lost
            | Exit::Unavailable(_) => false,
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let [a, b, c, d] = self.codes;
        a | b | c | d | self.signals == 0
    }

    /// For this module's constants, whose numbers are all good: what is not, is left out.
    pub(super) const fn and(self, exit: Exit) -> Self {
        let more = match exit {
            Exit::Code(code) => self.with_code(code),
            Exit::Signal(signal) => self.with_signal(signal),
            _ => Ok(self),
        };
        match more {
            Ok(more) => more,
            Err(_) => self,
        }
    }
}

impl fmt::Debug for ExitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = (0..=255).map(Exit::Code);
        let signals = (1..=SIGNAL_MAX).map(Exit::Signal);
        f.debug_set().entries(codes.chain(signals).filter(|exit| self.contains(*exit))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::restart::Unavailable;

    const OTHERS: [Exit; 6] = [
        Exit::Error,
        Exit::Trap,
        Exit::SliceBudget,
        Exit::Refused,
        Exit::Lost,
        Exit::Unavailable(Unavailable::Other),
    ];

    #[test]
    fn holds_each_exit_apart_from_every_other() {
        let all = || (-300..=300).flat_map(|number| [Exit::Code(number), Exit::Signal(number)]);
        for exit in all() {
            let (set, error) = match exit {
                Exit::Code(code) => {
                    let error = (!(0..=255).contains(&code)).then_some(ExitSetError::Code(code));
                    (ExitSet::EMPTY.with_code(code), error)
                }
                Exit::Signal(signal) => {
                    let error =
                        (!(1..=64).contains(&signal)).then_some(ExitSetError::Signal(signal));
                    (ExitSet::EMPTY.with_signal(signal), error)
                }
                _ => unreachable!(),
            };
            assert_eq!(set.err(), error);
            assert!(!ExitSet::EMPTY.contains(exit));
            if let Ok(set) = set {
                assert!(!set.is_empty());
                for other in all().chain(OTHERS) {
                    assert_eq!(set.contains(other), other == exit, "{other:?} in {set:?}");
                }
            }
        }
        for number in [i32::MIN, i32::MAX] {
            assert!(ExitSet::EMPTY.with_code(number).is_err());
            assert!(ExitSet::EMPTY.with_signal(number).is_err());
            assert!(!ExitSet::EMPTY.contains(Exit::Code(number)));
            assert!(!ExitSet::EMPTY.contains(Exit::Signal(number)));
        }
    }

    #[test]
    fn grows_by_what_is_added() {
        let set = ExitSet::EMPTY.and(Exit::Code(0)).and(Exit::Signal(15)).and(Exit::Code(255));
        assert_eq!(set, set.and(Exit::Trap).and(Exit::Code(256)).and(Exit::Signal(0)));
        assert_eq!(format!("{set:?}"), "{Code(0), Code(255), Signal(15)}");
        assert!(ExitSet::EMPTY.is_empty());
        // The same bit in two of its words is not nothing.
        let words =
            [Exit::Code(0), Exit::Code(64), Exit::Code(128), Exit::Code(192), Exit::Signal(1)];
        for (first, second) in words.iter().flat_map(|first| words.map(|second| (*first, second))) {
            assert!(!ExitSet::EMPTY.and(first).and(second).is_empty(), "{first:?}, {second:?}");
        }
    }
}
