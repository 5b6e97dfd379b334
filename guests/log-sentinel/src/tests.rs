use super::*;
use duende_sdk::testing::Manager;
use proptest::prelude::*;

fn text(second: u64, status: u16) -> Vec<u8> {
    format!(
        "h - - [01/Jan/1970:00:{:02}:{:02} +0000] \"GET / HTTP/1.1\" {status} 10 \"-\" \"-\" 0.001000",
        second / 60 % 60,
        second % 60
    )
    .into_bytes()
}

fn manager() -> Manager {
    Manager::new().with_channel("lines")
}

#[test]
fn the_figures_are_published() {
    let mut manager = manager();
    for second in 0..20 {
        manager.send("lines", &text(second, if second % 4 == 0 { 500 } else { 200 }));
    }
    manager.send("lines", b"nonsense");
    manager.send("lines", &text(20, 404));
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    let next = manager.run_until_idle(&mut sentinel).unwrap();
    assert!(matches!(next, Next::Until(_)));
    for (name, expected) in [
        ("requests_total", 21.0),
        ("malformed_total", 1.0),
        ("errors_total", 5.0),
        ("status_2xx", 15.0),
        ("status_4xx", 1.0),
        ("status_5xx", 5.0),
        ("bytes_total", 210.0),
        ("error_ratio", 5.0 / 21.0),
        ("rate_per_s", 1.0),
    ] {
        assert_eq!(manager.gauge(name), Some(expected), "{name}");
    }
    let p99 = manager.gauge("latency_p99_us").unwrap();
    assert!((p99 - 1_000.0).abs() <= 1_000.0 / 32.0, "{p99}");

    // Nothing more arrives: the rate falls to nothing, and then the daemon sleeps.
    manager.advance(Duration::from_secs(65));
    let next = manager.slice(&mut sentinel).unwrap();
    assert_eq!((manager.gauge("rate_per_s"), next), (Some(0.0), Next::Wait));
}

#[test]
fn the_alert_is_logged_once_and_survives_a_restart() {
    let mut manager = manager().with_config("window", "10").with_config("error_ratio_alert", "0.2");
    let mut run = |statuses: &[u16]| {
        statuses.iter().for_each(|status| manager.send("lines", &text(1, *status)));
        let mut sentinel = manager.start::<Sentinel>().unwrap();
        manager.run_until_idle(&mut sentinel).unwrap();
        let lines = manager.take_lines();
        lines.into_iter().map(|(level, _)| level).collect::<Vec<_>>()
    };
    assert_eq!(run(&[200, 503, 503]), [Level::Info, Level::Warn]);
    assert_eq!(run(&[503]), [Level::Info]);
    assert_eq!(run(&[200; 10]), [Level::Info, Level::Info]);
}

#[test]
fn a_reload_takes_effect_and_one_that_makes_no_sense_changes_nothing() {
    let mut manager = manager().with_config("window", "10").with_config("error_ratio_alert", "0.9");
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    for status in [200, 200, 500, 500, 500] {
        manager.send("lines", &text(1, status));
    }
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("error_ratio"), Some(0.6));
    manager.configure("window", "3");
    manager.configure("error_ratio_alert", "0.5");
    manager.reload(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("error_ratio"), Some(1.0), "of the last three");
    manager.take_lines();
    manager.configure("window", "0");
    manager.reload(&mut sentinel).unwrap();
    let lines = manager.take_lines();
    assert!(
        matches!(&lines[..], [(Level::Error, text)] if text.contains("window = 0")),
        "{lines:?}"
    );
    manager.send("lines", &text(2, 500));
    manager.run_until_idle(&mut sentinel).unwrap();
    let lines = manager.take_lines();
    assert!(matches!(&lines[..], [(Level::Warn, text)] if text.contains("above 0.5")), "{lines:?}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (key, value) in [
        ("window", "0"),
        ("window", "5000"),
        ("window", "ten"),
        ("error_ratio_alert", "1.5"),
        ("error_ratio_alert", "NaN"),
    ] {
        let refused = manager().with_config(key, value).start::<Sentinel>();
        let Err(reason) = refused else { panic!("{key} = {value} was accepted") };
        assert!(reason.contains(key) && reason.contains(value), "{reason}");
    }
}

#[test]
fn a_state_of_another_version_is_refused() {
    let mut figures = Figures::new(100);
    for seconds in ["0.000000", "0.001000", "18446744073709.551615"] {
        let line = text(1, 200);
        let line = [line.strip_suffix(b"0.001000").unwrap(), seconds.as_bytes()].concat();
        figures.count(&line, 0.5);
        let bytes = figures.encode();
        assert_eq!(Figures::decode(&bytes, 100), Some(figures.clone()));
    }
    assert_eq!(figures.latency_us.quantile_ppm(990_000), Some(u64::MAX));
    let bytes = figures.encode();
    assert_eq!(Figures::decode(&bytes[1..], 100), None);
    let mut newer = bytes;
    newer[0] += 1;
    assert_eq!(Figures::decode(&newer, 100), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However often it dies, between slices or in one, no line is lost and none counted twice.
    #[test]
    fn each_line_counts_once(
        bursts in proptest::collection::vec((1_usize..700, 0_u8..3), 1..8),
    ) {
        let mut manager = manager();
        let mut sent = 0_u64;
        let mut errors = 0_u64;
        let mut living = None;
        for (lines, fate) in bursts {
            for index in 0..lines {
                let is_error = index % 7 == 0;
                manager.send("lines", &text(sent / 50, if is_error { 500 } else { 200 }));
                sent += 1;
                errors += u64::from(is_error);
            }
            let mut sentinel = match living.take() {
                Some(sentinel) => sentinel,
                None => manager.start::<Sentinel>().unwrap(),
            };
            manager.slice(&mut sentinel).unwrap();
            match fate {
                0 => living = Some(sentinel),
                1 => drop(sentinel),
                _ => manager.kill_in_slice(sentinel),
            }
            let counted = to_f64(sent - manager.waiting("lines") as u64);
            prop_assert_eq!(manager.gauge("requests_total"), Some(counted));
        }
        let mut sentinel = match living {
            Some(sentinel) => sentinel,
            None => manager.start::<Sentinel>().unwrap(),
        };
        manager.run_until_idle(&mut sentinel).unwrap();
        prop_assert_eq!(manager.waiting("lines"), 0);
        prop_assert_eq!(manager.gauge("requests_total"), Some(to_f64(sent)));
        prop_assert_eq!(manager.gauge("errors_total"), Some(to_f64(errors)));
    }
}
