//! The jidoka gate: a line that stops at the first fault, so that nothing faulty goes further.
//!
//! Rules:
//! 1. Checks run in the order in which they were given.
//! 2. Asked whether the subject may pass, the gate stops at the first check that fails; what comes
//!    after it does not run.
//! 3. Asked for a report, it runs all of them and tells of each that failed. It stops what the other
//!    way would stop.
//! 4. It says how many checks ran, so that a gate without checks can't pass for a thorough one.

/// One thing to be found right before a subject goes on.
pub trait Check<T: ?Sized> {
    /// What is wrong, when something is.
    type Violation;

    /// What is checked, for people to read.
    fn name(&self) -> &'static str;

    /// What to do if it fails, for people to read.
    fn way_out(&self) -> &'static str;

    /// Looks at the subject.
    ///
    /// # Errors
    /// What is wrong with it.
    fn verify(&self, subject: &T) -> Result<(), Self::Violation>;
}

/// A check that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{name}: {violation}; {way_out}")]
pub struct Failed<V> {
    /// Which of the gate's checks it was, from 0.
    pub index: usize,
    /// What was checked.
    pub name: &'static str,
    /// What was found.
    pub violation: V,
    /// What to do.
    pub way_out: &'static str,
}

/// What a report of all came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "what failed must not go on"]
pub struct Verdict {
    /// How many checks ran: all.
    pub ran: usize,
    /// How many of them failed.
    pub failed: usize,
}

impl Verdict {
    /// Whether the subject goes on: nothing failed.
    #[must_use]
    pub const fn is_pass(self) -> bool {
        self.failed == 0
    }
}

/// Checks in their order.
///
/// ```
/// use duende_core::policy::jidoka::JidokaGate;
/// use duende_core::policy::thresholds::{Metric, PolicyThresholds, Reading};
///
/// let gate = JidokaGate::new(PolicyThresholds::default().checks_of_a_run());
/// let sound = [Reading::new(Metric::Memory, 90_000_000), Reading::new(Metric::Cpu, 1_200)];
/// assert_eq!(gate.check(&sound[..]), Ok(2));
///
/// let hungry = [Reading::new(Metric::Memory, 900_000_000), Reading::new(Metric::Cpu, 1_200)];
/// assert!(gate.check(&hungry[..]).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct JidokaGate<C> {
    checks: C,
}

impl<C> JidokaGate<C> {
    /// A gate with these checks.
    pub const fn new(checks: C) -> Self {
        Self { checks }
    }

    /// Lets the subject pass, or stops at the first check that fails. How many checks ran.
    ///
    /// # Errors
    /// [`Failed`], with the check that stopped it.
    pub fn check<T, K>(&self, subject: &T) -> Result<usize, Failed<K::Violation>>
    where
        T: ?Sized,
        C: AsRef<[K]>,
        K: Check<T>,
    {
        let checks = self.checks.as_ref();
        for (index, check) in checks.iter().enumerate() {
            run(index, check, subject)?;
        }
        Ok(checks.len())
    }

    /// Runs every check and tells of each that failed, in order.
    pub fn report<T, K>(&self, subject: &T, tell: &mut dyn FnMut(Failed<K::Violation>)) -> Verdict
    where
        T: ?Sized,
        C: AsRef<[K]>,
        K: Check<T>,
    {
        let mut verdict = Verdict { ran: 0, failed: 0 };
        for (index, check) in self.checks.as_ref().iter().enumerate() {
            verdict.ran = verdict.ran.saturating_add(1);
            if let Err(failed) = run(index, check, subject) {
                verdict.failed = verdict.failed.saturating_add(1);
                tell(failed);
            }
        }
        verdict
    }
}

fn run<T, K>(index: usize, check: &K, subject: &T) -> Result<(), Failed<K::Violation>>
where
    T: ?Sized,
    K: Check<T>,
{
    check.verify(subject).map_err(|violation| Failed {
        index,
        name: check.name(),
        violation,
        way_out: check.way_out(),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::string::ToString;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// Fails for subjects that have this bit, and counts how often it ran.
    struct Bit(u32, Cell<u32>);

    impl Check<u32> for Bit {
        type Violation = u32;

        fn name(&self) -> &'static str {
            "bit"
        }

        fn way_out(&self) -> &'static str {
            "clear it"
        }

        fn verify(&self, subject: &u32) -> Result<(), u32> {
            self.1.set(self.1.get() + 1);
            if subject & (1 << self.0) == 0 { Ok(()) } else { Err(self.0) }
        }
    }

    /// Every gate of up to four checks, against every way in which they can fail.
    #[test]
    fn stops_at_the_first_and_reports_all() {
        for count in 0..=4_u32 {
            for subject in 0..1_u32 << count {
                let checks: Vec<Bit> = (0..count).map(|bit| Bit(bit, Cell::new(0))).collect();
                let gate = JidokaGate::new(checks);
                let ran = |gate: &JidokaGate<Vec<Bit>>| -> Vec<u32> {
                    gate.checks.iter().map(|check| check.1.take()).collect()
                };
                let failing: Vec<u32> = (0..count).filter(|bit| subject >> bit & 1 == 1).collect();
                let stopped = gate.check(&subject);
                let before = failing.first().map_or(count, |first| first + 1);
                let once: Vec<u32> = (0..count).map(|bit| u32::from(bit < before)).collect();
                assert_eq!(ran(&gate), once, "what comes after the first failure does not run");
                assert_eq!(
                    stopped.as_ref().err().map(|failed| failed.violation),
                    failing.first().copied()
                );
                if let Err(failed) = &stopped {
                    assert_eq!(u32::try_from(failed.index), Ok(failed.violation));
                } else {
                    assert_eq!(stopped, Ok(usize::try_from(count).unwrap()));
                }
                let mut told = Vec::new();
                let verdict = gate.report(&subject, &mut |failed| told.push(failed.violation));
                assert_eq!(ran(&gate), vec![1; usize::try_from(count).unwrap()]);
                assert_eq!(told, failing);
                assert_eq!((verdict.ran, verdict.failed), (gate.checks.len(), failing.len()));
                assert_eq!(verdict.is_pass(), stopped.is_ok());
            }
        }
    }

    #[test]
    fn a_failure_says_the_way_out() {
        let gate = JidokaGate::new([Bit(0, Cell::new(0))]);
        let failed = gate.check(&1).unwrap_err();
        assert_eq!(failed.to_string(), "bit: 0; clear it");
    }
}
