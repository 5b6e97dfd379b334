use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// OTP's `add_restart`, to the letter: keep what lies in the window, add, compare. The supervisor
/// that it ends is not asked again, so what a refusal leaves is ours to say: nothing.
struct Otp(Vec<u64>);

impl Otp {
    fn admit(&mut self, limit: RestartLimit, now_ns: u64) -> bool {
        let threshold = i128::from(now_ns) - i128::try_from(limit.period.as_nanos()).unwrap();
        let mut restarts = self.0.clone();
        restarts.retain(|stamp| i128::from(*stamp) >= threshold);
        restarts.push(now_ns);
        let admitted = restarts.len() <= usize::try_from(limit.intensity).unwrap();
        if admitted {
            self.0 = restarts;
        }
        admitted || limit.period.is_zero()
    }
}

/// systemd's `ratelimit_below`, to the letter, but that `begin` = 0 is no special instant.
struct Systemd {
    begin: Option<u64>,
    num: u32,
}

impl Systemd {
    fn below(&mut self, limit: RestartLimit, now_ns: u64) -> bool {
        let interval_ns = limit.period.as_nanos();
        let is_configured = interval_ns > 0 && limit.intensity > 0;
        if !is_configured {
            return true;
        }
        if self.begin.is_none_or(|begin| u128::from(now_ns - begin) > interval_ns) {
            self.begin = Some(now_ns);
            self.num = 0;
        } else if self.num >= limit.intensity {
            return false;
        }
        self.num += 1;
        true
    }
}

fn periods() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        6 => (1..50_u64).prop_map(Duration::from_nanos),
        1 => Just(Duration::MAX),
    ]
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX - 200), Just(u64::MAX), any::<u64>()]
}

proptest! {
    #[test]
    fn counts_like_otp(
        intensity in 0..8_u32,
        spare in 0..3_usize,
        period in periods(),
        start_ns in starts(),
        steps in proptest::collection::vec((0..20_u64, 0..40_u8), 0..200),
    ) {
        let limit = RestartLimit { intensity, period, window: Window::Sliding };
        let places = usize::try_from(intensity).unwrap() + spare;
        let mut limiter = Limiter::new(vec![Instant::MAX; places], limit).unwrap();
        let mut otp = Otp(Vec::new());
        let mut now_ns = start_ns;
        for (step_ns, chance) in steps {
            now_ns = now_ns.saturating_add(step_ns);
            let now = Instant::from_ns(now_ns);
            match chance {
                0 => {
                    limiter.clear();
                    otp.0.clear();
                }
                1 => {
                    prop_assert!(limiter.start_by_operator(now));
                    otp.0.clear();
                }
                _ => prop_assert_eq!(limiter.admit(now), otp.admit(limit, now_ns)),
            }
            prop_assert_eq!(limiter.check_invariants(), Ok(()));
        }
    }

    #[test]
    fn counts_like_systemd(
        intensity in prop_oneof![8 => 0..8_u32, 1 => Just(u32::MAX)],
        period in periods(),
        start_ns in starts(),
        steps in proptest::collection::vec((0..20_u64, 0..40_u8), 0..200),
    ) {
        let limit = RestartLimit { intensity, period, window: Window::Fixed };
        let mut limiter = Limiter::new([], limit).unwrap();
        let mut systemd = Systemd { begin: None, num: 0 };
        let mut now_ns = start_ns;
        for (step_ns, chance) in steps {
            now_ns = now_ns.saturating_add(step_ns);
            let now = Instant::from_ns(now_ns);
            if chance == 0 {
                limiter.clear();
                systemd = Systemd { begin: None, num: 0 };
            }
            let admitted =
                if chance == 1 { limiter.start_by_operator(now) } else { limiter.admit(now) };
            prop_assert_eq!(admitted, systemd.below(limit, now_ns));
            prop_assert_eq!(limiter.check_invariants(), Ok(()));
        }
    }
}

#[test]
fn a_limit_that_cannot_be_kept_is_refused() {
    let limit = RestartLimit { intensity: 3, ..RestartLimit::default() };
    let error = IntensityError { intensity: 3, intensity_max: 2 };
    assert_eq!(Limiter::new([Instant::ZERO; 2], limit).err(), Some(error));
    assert!(Limiter::new([Instant::ZERO; 3], limit).is_ok());
    assert!(Limiter::new([], RestartLimit::UNLIMITED).unwrap().admit(Instant::MAX));
    let fixed = RestartLimit { intensity: u32::MAX, ..RestartLimit::SYSTEMD };
    assert!(Limiter::new([], fixed).unwrap().admit(Instant::MAX), "it needs no storage");
}

#[test]
fn zero_restarts_are_none_in_otp_and_any_number_in_systemd() {
    for (window, admitted) in [(Window::Sliding, false), (Window::Fixed, true)] {
        let limit = RestartLimit { intensity: 0, period: Duration::from_nanos(5), window };
        let mut limiter = Limiter::new([], limit).unwrap();
        assert_eq!([0, 0, u64::MAX].map(|at| limiter.admit(Instant::from_ns(at))), [admitted; 3]);
    }
}

#[test]
fn a_clock_that_steps_back_opens_no_window() {
    for window in [Window::Sliding, Window::Fixed] {
        let limit = RestartLimit { intensity: 1, period: Duration::from_nanos(5), window };
        let mut limiter = Limiter::new([Instant::ZERO; 1], limit).unwrap();
        let admitted = [100, 3, 105, 106].map(|at| limiter.admit(Instant::from_ns(at)));
        assert_eq!(admitted, [true, false, false, true], "{window:?}");
    }
}

#[test]
fn an_operator_counts_only_where_every_start_does() {
    let now = Instant::from_ns(7);
    for (window, counts) in [(Window::Sliding, false), (Window::Fixed, true)] {
        assert_eq!(window.counts_every_start(), counts);
        let limit = RestartLimit { intensity: 2, period: Duration::from_nanos(5), window };
        let mut limiter = Limiter::new([Instant::ZERO; 2], limit).unwrap();
        assert!(limiter.start_by_operator(now));
        assert!(limiter.admit(now));
        assert_eq!(limiter.admit(now), !counts);
        assert_eq!(limiter.start_by_operator(now), !counts);
        limiter.clear();
        assert!(limiter.start_by_operator(now));
    }
}
