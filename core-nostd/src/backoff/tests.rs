use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn lengths() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        prop_oneof![Just(1), Just(u64::MAX), any::<u64>(), 0..10_000_000_000_u64]
            .prop_map(Duration::from_nanos),
    ]
}

/// The ceilings of `Exponential`, doubling one at a time.
fn doubling(initial: Duration, cap: Duration, failures: u32) -> u128 {
    let [initial_ns, cap_ns] = [initial, cap].map(|length| u128::from(duration_ns(length)));
    (0..failures.min(64)).fold(initial_ns.min(cap_ns), |delay_ns, _| (delay_ns * 2).min(cap_ns))
}

proptest! {
    #[test]
    fn doubles_up_to_the_cap(
        (initial, cap) in (lengths(), lengths()),
        failures in prop_oneof![0..70_u32, any::<u32>()],
        entropy in any::<u64>(),
    ) {
        let backoff = Backoff::exponential(initial, cap);
        let ceiling = backoff.ceiling(failures);
        prop_assert_eq!(ceiling.as_nanos(), doubling(initial, cap, failures));
        prop_assert!(backoff.delay(failures, entropy) <= ceiling);
        prop_assert_eq!(backoff.delay(failures, 0), Duration::ZERO);
        prop_assert_eq!(backoff.delay(failures, u64::MAX), ceiling);

        let curve = Curve::AtOnceThenExponential { initial, cap };
        let later = Backoff { curve, ..backoff };
        prop_assert_eq!(later.ceiling(0), Duration::ZERO);
        prop_assert_eq!(later.ceiling(failures.saturating_add(1)), backoff.ceiling(failures));
    }

    /// Every curve: total, and never falling but for what the roots of two can't say.
    #[test]
    fn no_curve_falls(
        (one, other) in (lengths(), lengths()),
        count in prop_oneof![0..5_u32, any::<u32>()],
        failures in prop_oneof![0..200_u32, any::<u32>()],
    ) {
        let (initial, cap) = (one.min(other), one.max(other));
        for curve in [
            Curve::Constant(initial),
            Curve::Exponential { initial, cap },
            Curve::AtOnceThenExponential { initial, cap },
            Curve::ByHalf { initial, cap },
            Curve::Linear { step: initial, cap },
            Curve::TwoTier { first: initial, count, then: cap },
            Curve::Steps(Steps::new(initial, count, cap)),
        ] {
            let [before_ns, after_ns] = [failures, failures.saturating_add(1)]
                .map(|failures| u128::from(curve.ceiling_ns(failures)));
            prop_assert!(before_ns <= after_ns + (after_ns >> 50), "{:?}", curve);
            prop_assert!(after_ns <= u128::from(duration_ns(cap)), "{:?}", curve);
        }
    }

    /// pm2's own words: `Math.floor(Math.min(15000, delay * 1.5))`, in milliseconds.
    #[test]
    fn grows_like_pm2(initial_ms in 2..20_000_u64, failures in 0..40_u32) {
        let mut delay_ms = initial_ms.min(15_000);
        for _ in 0..failures {
            delay_ms = (delay_ms * 3 / 2).min(15_000);
        }
        let backoff = Backoff::pm2(Duration::from_millis(initial_ms));
        prop_assert_eq!(backoff.ceiling(failures), Duration::from_millis(delay_ms));
    }
}

#[test]
fn the_named_policies_are_those_of_their_systems() {
    let ms = Duration::from_millis;
    let first = |backoff: Backoff| -> Vec<u128> {
        let delays = (0..8).map(|failures| backoff.delay(failures, 12345).as_millis());
        delays.collect()
    };
    let constant = Backoff::systemd(ms(100), 0, Duration::MAX);
    for (backoff, expected_ms) in [
        (Backoff::NONE, [0; 8]),
        (constant, [100; 8]),
        (Backoff::systemd(ms(100), 2, ms(10_000)), {
            [100, 1000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000]
        }),
        (Backoff::kubernetes(), [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]),
        (Backoff::pm2(ms(100)), [100, 150, 225, 337, 505, 757, 1135, 1702]),
        (Backoff::supervisord(), [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000]),
        (Backoff::finit(), [2000, 2000, 2000, 2000, 2000, 5000, 5000, 5000]),
        (Backoff::dinit(), [200; 8]),
    ] {
        assert_eq!(first(backoff), expected_ms, "{backoff:?}");
    }
    assert_eq!(Backoff::supervisord().ceiling(u32::MAX), Duration::from_secs(1 << 32));
}
