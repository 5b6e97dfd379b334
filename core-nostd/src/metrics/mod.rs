//! What is measured, in fixed space: counters, gauges, histograms, the RED set and series.
//!
//! A metric here is a value of its owner, without a name or a registry: names, labels and the text of
//! an exposition belong to the host that publishes them. Everything is whole numbers. Counts stick at
//! `u64::MAX` instead of starting again at zero, so a reader never sees a counter fall.
//!
//! | type | what it keeps |
//! |---|---|
//! | [`Counter`] | how often something happened |
//! | [`Gauge`] | how much of something there is |
//! | [`Histogram`] | how values are distributed, to within a stated relative error |
//! | [`Red`] | of requests: rate, errors, duration |
//! | [`Series`] | the last samples of one figure |

pub mod histogram;
pub mod red;
pub mod series;
pub mod value;

#[doc(inline)]
pub use histogram::{Histogram, MergeError, PPM, Precision, Tally};
#[doc(inline)]
pub use red::{Outcome, Rates, Red, Totals};
#[doc(inline)]
pub use series::{OutOfOrder, Sample, Series};
#[doc(inline)]
pub use value::{Counter, Gauge};
