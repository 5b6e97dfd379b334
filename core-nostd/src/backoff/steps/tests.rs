use proptest::prelude::*;

use super::*;

fn steps(initial_ns: u64, steps: u32, max_ns: u64) -> Steps {
    Steps::new(Duration::from_nanos(initial_ns), steps, Duration::from_nanos(max_ns))
}

/// The formula, in floating point: `powl` of systemd, as far as 53 digits go.
#[expect(clippy::cast_precision_loss, reason = "the oracle is a float")]
fn formula(initial_ns: u64, steps: u32, max_ns: u64, restart: u32) -> f64 {
    // The logarithm of what the ratio is above 1 keeps its digits where both ends are close.
    let above_one = (max_ns - initial_ns) as f64 / initial_ns as f64;
    let exponent = f64::from(restart) / f64::from(steps);
    initial_ns as f64 * (above_one.ln_1p() * exponent).exp()
}

/// Ends of a curve: over the whole range, close together, and far apart.
fn ends() -> impl Strategy<Value = (u64, u64)> {
    let any_ns = || (0..64_u32, any::<u64>()).prop_map(|(shift, bits)| (bits >> shift).max(1));
    let pair = prop_oneof![
        4 => (any_ns(), any_ns()),
        1 => (any_ns(), 1..1000_u64).prop_map(|(ns, more)| (ns, ns.saturating_add(more))),
        1 => Just((1, u64::MAX - 1)),
        1 => any_ns().prop_map(|ns| (ns, u64::MAX - 1)),
    ];
    pair.prop_map(|(one, other)| (one.min(other), one.max(other).min(u64::MAX - 1)))
        .prop_filter("a curve", |(initial_ns, max_ns)| initial_ns < max_ns)
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..100_u32, 2 => 1..=u32::MAX, 1 => Just(u32::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    #[expect(clippy::cast_precision_loss, reason = "the oracle is a float")]
    fn follows_the_formula(
        (initial_ns, max_ns) in ends(),
        count in counts(),
        part in any::<u32>(),
    ) {
        let curve = steps(initial_ns, count, max_ns);
        prop_assert_eq!(curve.ceiling_ns(0), initial_ns);
        prop_assert_eq!(curve.ceiling_ns(count), max_ns);
        prop_assert_eq!(curve.ceiling_ns(count.saturating_add(1)), max_ns);
        prop_assert_eq!(curve.ceiling_ns(u32::MAX), max_ns);
        let restart = part % count;
        let expected = formula(initial_ns, count, max_ns, restart);
        let actual = curve.ceiling_ns(restart);
        prop_assert!((initial_ns..=max_ns).contains(&actual));
        // Half a nanosecond is rounded away; what the float itself can't say is below 1e-13.
        let error = (actual as f64 - expected).abs();
        prop_assert!(error <= 0.5 + expected * 1e-13, "{} instead of {}", actual, expected);
        // It does not fall by more than its own error.
        let next = curve.ceiling_ns(restart + 1);
        prop_assert!(u128::from(next) + (u128::from(actual) >> 50) >= u128::from(actual));
    }

    /// Two steps: the middle is the geometric mean, so its square is known exactly. Up to 2^46 ns (19
    /// hours) the result is the nearest nanosecond but for 1/64.
    #[test]
    fn the_middle_of_two_steps_is_the_geometric_mean(
        one in 1..(1_u64 << 46),
        other in 1..(1_u64 << 46),
    ) {
        let (initial_ns, max_ns) = (one.min(other), one.max(other) + 1);
        let middle = u128::from(steps(initial_ns, 2, max_ns).ceiling_ns(1));
        let square = u128::from(initial_ns) * u128::from(max_ns);
        // In 64ths, half a nanosecond is 32.
        prop_assert!((64 * middle - 33).pow(2) <= 4096 * square);
        prop_assert!(4096 * square <= (64 * middle + 33).pow(2));
    }
}

#[test]
fn powers_of_two_are_exact() {
    for (initial_ns, growth) in [(1, 62), (3, 61), (1_000_000, 40)] {
        let curve = steps(initial_ns, growth, initial_ns << growth);
        for restart in 0..=growth {
            assert_eq!(curve.ceiling_ns(restart), initial_ns << restart);
        }
    }
}

#[test]
fn off_means_always_the_first() {
    for (initial_ns, count, max_ns) in
        [(5, 0, 10), (0, 3, 10), (5, 3, u64::MAX), (5, 3, 5), (5, 3, 4), (u64::MAX, 3, u64::MAX)]
    {
        let curve = steps(initial_ns, count, max_ns);
        for restart in [0, 1, 2, 3, 4, u32::MAX] {
            assert_eq!(curve.ceiling_ns(restart), initial_ns, "{curve:?}");
        }
    }
    let infinite = Steps::new(Duration::from_secs(1), 3, Duration::MAX);
    assert_eq!(infinite.ceiling_ns(7), 1_000_000_000);
}

#[test]
fn logarithms_and_powers_are_each_others_inverse() {
    assert_eq!(log2(1), 0);
    assert_eq!(log2(1 << 63), 63 << EXPONENT_DIGITS);
    assert_eq!(exp2(0), ONE);
    // The square root of 2 with 63 digits, rounded down.
    assert_eq!(exp2(1 << (EXPONENT_DIGITS - 1)), 0xB504_F333_F9DE_6484);
    for mantissa in [ONE, ONE + 1, ONE + (ONE >> 1), u64::MAX] {
        let fraction = log2(mantissa) - (63 << EXPONENT_DIGITS);
        assert!(exp2(fraction).abs_diff(mantissa) < 1 << 8, "{mantissa:x}");
    }
}
