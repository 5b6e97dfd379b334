//! Where below its ceiling a delay lies.
//!
//! The names are those of AWS's «Exponential Backoff And Jitter» (2015): full jitter spreads the
//! load best; equal jitter keeps a delay from being next to nothing.

/// How a delay is spread, by entropy that the caller gives.
///
/// ```
/// use core::time::Duration;
/// use duende_core::backoff::{Backoff, Curve, Jitter};
///
/// let curve = Curve::Constant(Duration::from_secs(8));
/// let delays_s = |jitter| {
///     let backoff = Backoff { curve, jitter };
///     [0, u64::MAX / 2, u64::MAX].map(|entropy| backoff.delay(0, entropy).as_secs_f32().round())
/// };
/// assert_eq!(delays_s(Jitter::Full), [0.0, 4.0, 8.0]);
/// assert_eq!(delays_s(Jitter::Equal), [4.0, 6.0, 8.0]);
/// assert_eq!(delays_s(Jitter::None), [8.0, 8.0, 8.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Jitter {
    /// Uniform between zero and the ceiling, both included.
    #[default]
    Full,
    /// Uniform between half of the ceiling and all of it, both included.
    Equal,
    /// Not at all: the delay is the ceiling.
    None,
}

impl Jitter {
    pub(super) fn below(self, ceiling_ns: u64, entropy: u64) -> u64 {
        match self {
            Self::Full => scaled(ceiling_ns, entropy),
            Self::Equal => {
                let half_ns = ceiling_ns / 2;
                let rest_ns = ceiling_ns.saturating_sub(half_ns);
                half_ns.saturating_add(scaled(rest_ns, entropy))
            }
            Self::None => ceiling_ns,
        }
    }
}

/// One of `0..=most`. Multiply-shift maps 2^64 values onto `most` + 1 ones; no value is favoured by
/// more than one part in 2^64 / `most`.
fn scaled(most: u64, entropy: u64) -> u64 {
    let scaled = (u128::from(entropy) * (u128::from(most) + 1)) >> u64::BITS;
    u64::try_from(scaled).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ceilings() -> impl Strategy<Value = u64> {
        prop_oneof![0..10_u64, Just(u64::MAX), any::<u64>()]
    }

    proptest! {
        #[test]
        fn delays_keep_their_bounds(
            ceiling_ns in ceilings(),
            entropy in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        ) {
            for (jitter, floor_ns) in
                [(Jitter::Full, 0), (Jitter::Equal, ceiling_ns / 2), (Jitter::None, ceiling_ns)]
            {
                let delay_ns = jitter.below(ceiling_ns, entropy);
                prop_assert!((floor_ns..=ceiling_ns).contains(&delay_ns));
                prop_assert_eq!(jitter.below(ceiling_ns, 0), floor_ns);
                prop_assert_eq!(jitter.below(ceiling_ns, u64::MAX), ceiling_ns);
            }
        }
    }

    #[test]
    fn the_jitter_is_uniform() {
        // Each delay has an equal part of the entropy: 3 ns have four, half of 7 ns has five.
        for (jitter, ceiling_ns, first_ns, delays) in
            [(Jitter::Full, 3, 0, 4), (Jitter::Equal, 7, 3, 5), (Jitter::Equal, 1, 0, 2)]
        {
            for nth in 0..delays {
                let [first, end] = [nth, nth + 1]
                    .map(|part| (u128::from(part) << 64).div_ceil(u128::from(delays)));
                for entropy in [first, end - 1] {
                    let entropy = u64::try_from(entropy).unwrap();
                    let delay_ns = jitter.below(ceiling_ns, entropy);
                    assert_eq!(delay_ns, first_ns + nth, "{jitter:?} of {ceiling_ns}");
                }
            }
        }
    }
}
