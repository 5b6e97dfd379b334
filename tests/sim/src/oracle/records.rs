//! Of the recorder and the histogram: everything that was recorded, kept and sorted.

use std::collections::VecDeque;

use duende_core::time::Instant;
use duende_world::{Input, News, Seen, Step};

use super::Oracle;
use crate::failure::{Failure, hold};

/// What the world gives them.
const RECORDS: usize = 8;
const DUMP_BYTES_MAX: usize = 256;
const ERROR_DIVISOR: u64 = 8;
/// The smallest value without a bucket.
const OVER_RANGE: u64 = 67_108_864;

/// What was recorded.
#[derive(Debug, Default)]
pub(super) struct Records {
    now: Instant,
    input: Option<Input>,
    kept: VecDeque<(u64, Instant, News)>,
    count: u64,
    /// In order of size.
    durations: Vec<u64>,
    /// The last seal, which no later one may be behind.
    sealed: u64,
    audited: u64,
}

impl Oracle for Records {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.input = Some(step.input.clone());
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match *seen {
            Seen::Published { news, .. } => {
                self.count += 1;
                self.kept.push_back((self.count, self.now, news));
                if self.kept.len() > RECORDS {
                    self.kept.pop_front();
                }
            }
            Seen::Dumped(text) => {
                let mut expected = String::new();
                for (number, at, news) in self.kept.iter().rev() {
                    expected.push_str(&format!("#{number} {} {news}\n", at.as_ns()));
                }
                expected.truncate(DUMP_BYTES_MAX);
                hold!(
                    text == expected,
                    "recorder: the last events, the newest first",
                    "{text:?} instead of {expected:?}"
                );
            }
            Seen::Measured(median) => {
                let Some(Input::Measure { value_ns }) = self.input else { return Ok(()) };
                let value = u64::from(value_ns);
                let at = self.durations.partition_point(|kept| *kept < value);
                self.durations.insert(at, value);
                let rank = self.durations.len().div_ceil(2);
                let exact = self.durations[rank - 1];
                let largest = self.durations.last().copied().unwrap_or(0);
                let near = median.is_some_and(|median| {
                    if exact >= OVER_RANGE {
                        median == largest
                    } else {
                        median.abs_diff(exact) <= exact / ERROR_DIVISOR
                    }
                });
                hold!(near, "histogram: within its error", "{median:?} for {exact}");
            }
            Seen::Audited(appended) => {
                let expected = self.audited;
                hold!(
                    appended == Ok(expected),
                    "audit: records are numbered without a gap",
                    "{appended:?} for {expected}"
                );
                self.audited += 1;
            }
            Seen::Sealed(head, verified) => {
                hold!(verified.is_ok(), "audit: the chain holds", "{verified:?}");
                hold!(
                    head.records == self.audited && head.records >= self.sealed,
                    "audit: a seal vouches for every record",
                    "{} of {}",
                    head.records,
                    self.audited
                );
                self.sealed = head.records;
            }
            _ => {}
        }
        Ok(())
    }
}
