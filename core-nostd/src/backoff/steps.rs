//! systemd's curve (`RestartSteps`): from one delay to another in a number of equal factors.
//!
//! Rules (`service_restart_usec_next`):
//! 1. Restart i, counted from 0, waits `initial · (max / initial)^(i / steps)`.
//! 2. Both ends are exact: restart 0 waits `initial`; restart `steps` and all later ones, `max`.
//! 3. The curve is off, and every restart waits `initial`, if `steps` or `initial` is zero, if `max`
//!    is infinite, or if `initial` is not below `max`. Infinite is what nanoseconds in 64 bits can't
//!    count: 584 years.
//!
//! systemd computes this in `long double` at each restart. Here `log2(max / initial)` is computed
//! once, in fixed point by repeated squaring, and a delay is a power of two by repeated
//! multiplication with roots of two: integers alone, so every target waits as long as every other.
//! The result is the nearest nanosecond of a value whose relative error is below 2⁻⁵⁰.

use core::time::Duration;

use crate::time::duration_ns;

/// Binary digits after the point of an exponent. 64 bits hold it: it is at most 64, and not reached.
const EXPONENT_DIGITS: u32 = 58;

/// Binary digits after the point of a mantissa, a number from 1 to 2.
const MANTISSA_DIGITS: u32 = 63;

/// 1, as a mantissa.
const ONE: u64 = 1 << MANTISSA_DIGITS;

/// Entry k is the mantissa of 2^(2^-(k+1)): the square root of 2, its square root and so on.
const ROOTS_OF_TWO: [u64; EXPONENT_DIGITS as usize] = roots_of_two();

/// From one delay to another in equal factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    initial_ns: u64,
    /// The end of the curve; `initial_ns` if it is off.
    max_ns: u64,
    /// Not zero.
    steps: u32,
    /// log2(max / initial).
    growth: u64,
}

impl Steps {
    /// From `initial` to `max` in `steps` restarts; always `initial`, if rule 3 switches it off.
    #[must_use]
    pub fn new(initial: Duration, steps: u32, max: Duration) -> Self {
        let (initial_ns, max_ns) = (duration_ns(initial), duration_ns(max));
        let is_off = steps == 0 || initial_ns == 0 || max_ns == u64::MAX || initial_ns >= max_ns;
        if is_off {
            return Self { initial_ns, max_ns: initial_ns, steps: 1, growth: 0 };
        }
        let growth = log2(max_ns).saturating_sub(log2(initial_ns));
        Self { initial_ns, max_ns, steps, growth }
    }

    pub(super) fn ceiling_ns(&self, restart: u32) -> u64 {
        if restart == 0 {
            return self.initial_ns;
        }
        if restart >= self.steps {
            return self.max_ns;
        }
        // `new` sees that there are steps.
        let exponent = (u128::from(self.growth) * u128::from(restart))
            .checked_div(u128::from(self.steps))
            .unwrap_or(0);
        let whole = u32::try_from(exponent >> EXPONENT_DIGITS).unwrap_or(u32::MAX);
        let fraction = u64::try_from(exponent & ((1 << EXPONENT_DIGITS) - 1)).unwrap_or(0);
        // The exponent is below the distance of the ends, so that the product with 2^whole stays
        // near `max_ns` at most, and `whole` below 64.
        let product = u128::from(self.initial_ns) * u128::from(exp2(fraction));
        let point = MANTISSA_DIGITS.saturating_sub(whole);
        let half = (1_u128 << point) >> 1;
        let delay_ns = product.saturating_add(half) >> point;
        u64::try_from(delay_ns).unwrap_or(u64::MAX).max(self.initial_ns).min(self.max_ns)
    }
}

/// The binary logarithm of a number that is not zero: each squaring gives one digit.
const fn log2(number: u64) -> u64 {
    let whole = (u64::BITS - 1).saturating_sub(number.leading_zeros());
    let mut mantissa = number << number.leading_zeros();
    let mut log2 = whole as u64;
    let mut digit = 0;
    while digit < EXPONENT_DIGITS {
        log2 <<= 1;
        let square = (mantissa as u128) * (mantissa as u128);
        // The square of a number from 1 to 2 is one from 1 to 4.
        let is_two = square >> 127 == 1;
        mantissa = truncated(if is_two { square >> 64 } else { square >> MANTISSA_DIGITS });
        log2 |= is_two as u64;
        digit += 1;
    }
    log2
}

/// 2 to a power from 0 to 1, as a mantissa: the product of the roots that its digits name.
fn exp2(fraction: u64) -> u64 {
    let mut power = ONE;
    for (root, digit) in ROOTS_OF_TWO.iter().zip((0..EXPONENT_DIGITS).rev()) {
        if fraction >> digit & 1 == 1 {
            power = truncated((u128::from(power) * u128::from(*root)) >> MANTISSA_DIGITS);
        }
    }
    power
}

/// Runs at compile time only, where an index out of bounds would be an error.
const fn roots_of_two() -> [u64; EXPONENT_DIGITS as usize] {
    let mut roots = [0; EXPONENT_DIGITS as usize];
    let mut square = 2 << MANTISSA_DIGITS;
    let mut nth = 0;
    while nth < roots.len() {
        let root = u128::isqrt(square << MANTISSA_DIGITS);
        roots[nth] = truncated(root);
        square = root;
        nth += 1;
    }
    roots
}

/// A mantissa, which is below 2 and so has 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "what is cut off is zero")]
const fn truncated(mantissa: u128) -> u64 {
    mantissa as u64
}

#[cfg(test)]
mod tests;
