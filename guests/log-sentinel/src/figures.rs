//! All figures together, and the one value of `state` that holds them.
//!
//! The value is a sequence of 64-bit words, little endian, always of the same length: a version, the
//! totals, then the words of each part.

use duende_core::metrics::{Histogram, Precision, Tally};

use crate::legibility::{Legibility, Turn};
use crate::rate::Rate;
use crate::record::Record;
use crate::window::{Change, Window};

/// The layout below.
const VERSION: u64 = 3;
/// The version, malformed lines, bytes, the five status classes, and requests of none of them.
const TOTALS_WORDS: usize = 9;
/// Values over the range, their sum (low word, high word), the smallest and the largest one.
const TALLY_WORDS: usize = 5;
const WORDS: usize =
    TOTALS_WORDS + Legibility::WORDS + Window::WORDS + Rate::WORDS + TALLY_WORDS + LATENCY_BUCKETS;
/// The layout before: without the last of the totals, the legibility, and the lines that were too old for the rate.
const VERSION_2: u64 = 2;
const VERSION_2_WORDS: usize = WORDS - 1 - Legibility::WORDS - 1;

/// A percentile of the latency is within 1/32 of the exact one …
const LATENCY_PRECISION: Precision = match Precision::new(4) {
    Some(precision) => precision,
    None => Precision::FINEST,
};
/// … up to this, 134 s; above, it is the largest latency that was seen.
const LATENCY_US_MAX: u64 = (1 << 27) - 1;
const LATENCY_BUCKETS: usize = LATENCY_PRECISION.buckets_for(LATENCY_US_MAX);

/// Everything that is known of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Lines that could not be read.
    pub malformed: u64,
    /// Bytes of all responses.
    pub bytes: u64,
    /// Requests by status: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub status_classes: [u64; 5],
    /// Requests of another status, or of none.
    pub other_statuses: u64,
    /// Whether the lines can be read.
    pub legibility: Legibility,
    /// The error ratio of the last requests.
    pub window: Window,
    /// Requests per second.
    pub rate: Rate,
    /// Of the requests whose line says how long they took.
    pub latency_us: Histogram<Box<[u64]>>,
}

impl Figures {
    /// Before the first line.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            malformed: 0,
            bytes: 0,
            status_classes: [0; 5],
            other_statuses: 0,
            legibility: Legibility::default(),
            window: Window::new(window),
            rate: Rate::default(),
            latency_us: Histogram::new(Box::new([0; LATENCY_BUCKETS]), LATENCY_PRECISION),
        }
    }

    /// Counts a request, when it is `now`, in seconds since 1970. Returns what it did to the alert.
    pub fn count(&mut self, record: &Record, now: u64, error_ratio_alert: f64) -> Option<Change> {
        self.bytes = self.bytes.saturating_add(record.bytes);
        let status = record.status.unwrap_or(0);
        let class = usize::from(status / 100).wrapping_sub(1);
        let count = self.status_classes.get_mut(class).unwrap_or(&mut self.other_statuses);
        *count = count.saturating_add(1);
        self.rate.count(record.second.unwrap_or(now), now);
        if let Some(latency_us) = record.latency_us {
            self.latency_us.record(latency_us);
        }
        self.window.push((500..600).contains(&status), error_ratio_alert)
    }

    /// Counts a line that could not be read.
    pub fn count_malformed(&mut self) {
        self.malformed = self.malformed.saturating_add(1);
    }

    /// Takes in whether a line could be read.
    pub fn look(&mut self, is_read: bool) -> Option<Turn> {
        self.legibility.push(is_read)
    }

    /// Lines that could be read.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.status_classes
            .iter()
            .fold(self.other_statuses, |sum, count| sum.saturating_add(*count))
    }

    /// Requests that the server failed: 5xx.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.status_classes[4]
    }

    /// The value for `state`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Tally { over_range, sum, min, max } = self.latency_us.tally();
        let [sum_low, sum_high] = [low_word(sum), low_word(sum >> u64::BITS)];
        [VERSION, self.malformed, self.bytes]
            .into_iter()
            .chain(self.status_classes)
            .chain([self.other_statuses])
            .chain(self.legibility.words())
            .chain(self.window.words())
            .chain(self.rate.words())
            .chain([over_range, sum_low, sum_high, min, max])
            .chain(self.latency_us.buckets().iter().copied())
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// Reads a value that [`encode`](Self::encode) made, here or in the version before, for a window of `window`
    /// requests; none if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8], window: usize) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        if words.len() == VERSION_2_WORDS && words.first() == Some(&VERSION_2) {
            let totals = TOTALS_WORDS - 1;
            words.splice(totals..totals, [0; 1 + Legibility::WORDS]);
            let stale = TOTALS_WORDS + Legibility::WORDS + Window::WORDS + 1;
            words.insert(stale, 0);
            *words.first_mut()? = VERSION;
        }
        if words.len() != WORDS || words.first() != Some(&VERSION) || !rest.is_empty() {
            return None;
        }
        let (totals, words) = words.split_first_chunk::<TOTALS_WORDS>()?;
        let (legibility, words) = words.split_first_chunk::<{ Legibility::WORDS }>()?;
        let (window_words, words) = words.split_first_chunk::<{ Window::WORDS }>()?;
        let (rate_words, words) = words.split_first_chunk::<{ Rate::WORDS }>()?;
        let ([over_range, sum_low, sum_high, min, max], buckets) =
            words.split_first_chunk::<TALLY_WORDS>()?;
        let sum = u128::from(*sum_high) << u64::BITS | u128::from(*sum_low);
        let tally = Tally { over_range: *over_range, sum, min: *min, max: *max };
        let [_version, malformed, bytes, status_classes @ .., other_statuses] = totals;
        Some(Self {
            malformed: *malformed,
            bytes: *bytes,
            status_classes: *status_classes,
            other_statuses: *other_statuses,
            legibility: Legibility::from_words(*legibility)?,
            window: Window::from_words(window_words, window)?,
            rate: Rate::from_words(rate_words),
            latency_us: Histogram::restore(buckets.into(), LATENCY_PRECISION, tally).ok()?,
        })
    }
}

fn low_word(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}
