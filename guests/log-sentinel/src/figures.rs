//! All figures together, and the one value of `state` that holds them.
//!
//! The value is a sequence of 64-bit words, little endian, always of the same length: a version, the
//! totals, then the words of each part.

use duende_core::metrics::{Histogram, Precision, Tally};

use crate::line::Line;
use crate::rate::Rate;
use crate::window::{Change, Window};

/// The layout below.
const VERSION: u64 = 2;
/// The version, malformed lines, bytes, and the five status classes.
const TOTALS_WORDS: usize = 8;
/// Values over the range, their sum (low word, high word), the smallest and the largest one.
const TALLY_WORDS: usize = 5;
const WORDS: usize = TOTALS_WORDS + Window::WORDS + Rate::WORDS + TALLY_WORDS + LATENCY_BUCKETS;

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
            window: Window::new(window),
            rate: Rate::default(),
            latency_us: Histogram::new(Box::new([0; LATENCY_BUCKETS]), LATENCY_PRECISION),
        }
    }

    /// Counts a line, whatever it holds. Returns what it did to the alert.
    pub fn count(&mut self, line: &[u8], error_ratio_alert: f64) -> Option<Change> {
        let Some(line) = Line::parse(line) else {
            self.malformed = self.malformed.saturating_add(1);
            return None;
        };
        self.bytes = self.bytes.saturating_add(line.bytes);
        let class = usize::from(line.status / 100).saturating_sub(1);
        if let Some(count) = self.status_classes.get_mut(class) {
            *count = count.saturating_add(1);
        }
        self.rate.count(line.second);
        if let Some(latency_us) = line.latency_us {
            self.latency_us.record(latency_us);
        }
        self.window.push(line.status >= 500, error_ratio_alert)
    }

    /// Lines that could be read.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.status_classes.iter().fold(0, |sum, count| sum.saturating_add(*count))
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
            .chain(self.window.words())
            .chain(self.rate.words())
            .chain([over_range, sum_low, sum_high, min, max])
            .chain(self.latency_us.buckets().iter().copied())
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// Reads a value that [`encode`](Self::encode) made, for a window of `window` requests; none if
    /// it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8], window: usize) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        if chunks.len() != WORDS || !rest.is_empty() {
            return None;
        }
        let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        let (totals, words) = words.split_first_chunk::<TOTALS_WORDS>()?;
        let (window_words, words) = words.split_first_chunk::<{ Window::WORDS }>()?;
        let (rate_words, words) = words.split_first_chunk::<{ Rate::WORDS }>()?;
        let ([over_range, sum_low, sum_high, min, max], buckets) =
            words.split_first_chunk::<TALLY_WORDS>()?;
        let sum = u128::from(*sum_high) << u64::BITS | u128::from(*sum_low);
        let tally = Tally { over_range: *over_range, sum, min: *min, max: *max };
        let [version, malformed, bytes, status_classes @ ..] = totals;
        (*version == VERSION).then_some(())?;
        Some(Self {
            malformed: *malformed,
            bytes: *bytes,
            status_classes: *status_classes,
            window: Window::from_words(window_words, window)?,
            rate: Rate::from_words(rate_words),
            latency_us: Histogram::restore(buckets.into(), LATENCY_PRECISION, tally).ok()?,
        })
    }
}

fn low_word(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}
