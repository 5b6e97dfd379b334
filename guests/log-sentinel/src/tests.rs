use super::*;
use duende_sdk::{HealthStatus, Value, testing::Manager};
use proptest::prelude::*;

fn text(second: u64, status: u16) -> Vec<u8> {
    format!(
        "h - - [01/Jan/1970:00:{:02}:{:02} +0000] \"GET / HTTP/1.1\" {status} 10 \"-\" \"-\" 0.001000",
        second / 60 % 60,
        second % 60
    )
    .into_bytes()
}

/// At a time of day behind that of all lines.
fn manager() -> Manager {
    let mut manager = Manager::new().with_channel("lines");
    manager.advance(Duration::from_secs(3_600));
    manager
}

/// What was logged as a warning or worse.
fn warnings(manager: &mut Manager) -> Vec<String> {
    let lines = manager.take_lines().into_iter();
    lines.filter(|(level, _)| *level >= Level::Warn).map(|(_, text)| text).collect()
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
    let mut manager = manager().with_config("window", 10_i64).with_config("error_ratio_alert", 0.2);
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
    let mut manager = manager().with_config("window", 10_i64).with_config("error_ratio_alert", 0.9);
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    for status in [200, 200, 500, 500, 500] {
        manager.send("lines", &text(1, status));
    }
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("error_ratio"), Some(0.6));
    manager.configure("window", 3_i64);
    manager.configure("error_ratio_alert", 0.5);
    manager.reload(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("error_ratio"), Some(1.0), "of the last three");
    manager.take_lines();
    manager.configure("window", 0_i64);
    manager.reload(&mut sentinel).unwrap();
    let refusal = manager.take_refusal().unwrap();
    assert!(refusal.contains("window = 0"), "{refusal}");
    manager.send("lines", &text(2, 500));
    manager.run_until_idle(&mut sentinel).unwrap();
    let lines = manager.take_lines();
    assert!(matches!(&lines[..], [(Level::Warn, text)] if text.contains("above 0.5")), "{lines:?}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (key, value, configured) in [
        ("window", "0", Value::from(0_i64)),
        ("window", "5000", Value::from(5_000_i64)),
        ("window", "ten", Value::from("ten")),
        ("window", "-1", Value::from(-1_i64)),
        ("error_ratio_alert", "1.5", Value::from(1.5)),
        ("error_ratio_alert", "NaN", Value::from(f64::NAN)),
        ("format", "combind", Value::from("combind")),
        ("format", "column 1", Value::from("$statsu")),
        ("format", "column 7", Value::from("%h %t ")),
        ("request_time", "min", Value::from("min")),
    ] {
        let refused = manager().with_config(key, configured).start::<Sentinel>();
        let Err(failure) = refused else { panic!("{key} = {value} was accepted") };
        let reason = failure.to_string();
        assert!(reason.contains(key) && reason.contains(value), "{reason}");
        assert_eq!(failure.code(), 78);
    }
}

#[test]
fn a_state_of_another_version_is_refused() {
    let mut figures = Figures::new(100);
    for latency_us in [0, 1_000, u64::MAX] {
        let record =
            Record { latency_us: Some(latency_us), status: Some(500), ..Record::default() };
        figures.count(&record, 7, 0.5);
        figures.look(false);
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

/// What version 2 wrote is read: it had no other statuses, no legibility, and no lines too old for the rate.
#[test]
fn a_state_of_the_version_before_is_read() {
    let mut figures = Figures::new(100);
    for (status, second) in [(200, 5), (503, 6), (404, 6)] {
        let record =
            Record { status: Some(status), bytes: 9, second: Some(second), latency_us: Some(3) };
        figures.count(&record, 7, 0.5);
    }
    figures.count_malformed();
    let now = figures.encode();
    let words: Vec<&[u8]> = now.chunks(8).collect();
    let window = 2 + Window::REQUESTS_MAX / 64;
    let version: [&[u8]; 1] = [&[2, 0, 0, 0, 0, 0, 0, 0]];
    let (to_newest, counts) = (&words[12..12 + window + 1], &words[12 + window + 2..]);
    let before = [&version, &words[1..8], to_newest, counts].concat().concat();
    assert_eq!(before.len(), now.len() - 5 * 8);
    assert_eq!(Figures::decode(&before, 100), Some(figures));
}

#[test]
fn a_log_that_cannot_be_read_is_told_of_once() {
    let mut manager = manager();
    let mut told = Vec::new();
    let mut run = |manager: &mut Manager, lines: &[(usize, &[u8])]| {
        for (count, line) in lines {
            (0..*count).for_each(|_| manager.send("lines", line));
        }
        // A new incarnation each time: it is not told again by the next one.
        let mut sentinel = manager.start::<Sentinel>().unwrap();
        manager.run_until_idle(&mut sentinel).unwrap();
        told.extend(warnings(manager));
        let health = manager.health(&mut sentinel).unwrap();
        (health.status, health.detail)
    };
    let good = text(1, 200);
    let foreign = br#"192.0.2.9 - - [21/nov./2026:09:15:15 +0000] "GET /?'\x1b[2J" 200 1"#;
    let (status, _) = run(&mut manager, &[(40, &good), (7, foreign)]);
    assert_eq!(status, HealthStatus::Healthy);
    let (status, detail) = run(&mut manager, &[(60, foreign)]);
    assert_eq!(status, HealthStatus::Degraded);
    assert!(detail.contains("64 of the last 64 lines could not be read"), "{detail}");
    let (status, _) = run(&mut manager, &[(40, &good), (30, foreign)]);
    assert_eq!(status, HealthStatus::Degraded, "not yet");
    let (status, _) = run(&mut manager, &[(60, &good)]);
    assert_eq!(status, HealthStatus::Healthy);
    let [text] = &told[..] else { panic!("{told:?}") };
    for part in
        ["33 of the last 64 lines", "[21/nov./2026:", "column 16: a time in brackets", "`common`"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        text.chars().all(|character| character == '…' || (' '..='~').contains(&character)),
        "{text}"
    );
}

#[test]
fn a_format_that_makes_no_sense_changes_nothing() {
    let mut manager = manager().with_config("format", "$status $request_time");
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    manager.send("lines", b"200 0.001");
    manager.run_until_idle(&mut sentinel).unwrap();
    for (format, part) in [
        ("$status$", "column 8"),
        ("%h", "no status"),
        ("comon", "no format `comon`; there are `auto`"),
    ] {
        manager.configure("format", format);
        manager.reload(&mut sentinel).unwrap();
        let refusal = manager.take_refusal().unwrap();
        assert!(refusal.contains("`format`") && refusal.contains(part), "{refusal}");
    }
    manager.configure("format", "$status $request_time");
    manager.configure("request_time", "us");
    manager.reload(&mut sentinel).unwrap();
    assert!(manager.take_refusal().unwrap().contains("`request_time`"));
    manager.send("lines", b"200 0.001");
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("requests_total"), Some(2.0));
}

#[test]
fn a_format_takes_effect_with_a_reload() {
    let mut manager = manager();
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    (0..20).for_each(|_| manager.send("lines", b"200 77"));
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.health(&mut sentinel).unwrap().status, HealthStatus::Degraded);
    manager.configure("format", "%>s %D");
    manager.reload(&mut sentinel).unwrap();
    assert_eq!(manager.health(&mut sentinel).unwrap().status, HealthStatus::Healthy);
    (0..20).for_each(|_| manager.send("lines", b"200 77"));
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("requests_total"), Some(20.0));
    assert_eq!(manager.gauge("malformed_total"), Some(20.0));
    assert_eq!(manager.gauge("latency_p50_us"), Some(77.0));
}

#[test]
fn a_key_that_is_none_is_told_of() {
    let mut manager = manager().with_config("fromat", "json").with_config("window", 7_i64);
    manager.start::<Sentinel>().unwrap();
    let [text] = &warnings(&mut manager)[..] else { panic!("not one warning") };
    assert!(text.contains("no key `fromat`") && text.contains("`format`"), "{text}");
}

#[test]
fn a_request_without_a_time_counts_when_it_comes() {
    let mut manager = manager();
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    for _ in 0..20 {
        manager.advance(Duration::from_secs(1));
        (0..5).for_each(|_| manager.send("lines", br#"{"status":200}"#));
        manager.run_until_idle(&mut sentinel).unwrap();
    }
    assert_eq!(manager.gauge("rate_per_s"), Some(5.0));
}

/// However the parts are spread over slices and incarnations.
#[test]
fn a_line_in_parts_counts_once() {
    let mut manager = manager();
    let line = text(1, 404);
    let parts: Vec<&[u8]> = line.chunks(20).collect();
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    for (index, part) in parts.iter().enumerate() {
        let tag = if index + 1 == parts.len() { "F" } else { "P" };
        let part = [b"2026-11-21T09:15:15Z stdout ", tag.as_bytes(), b" ", part].concat();
        manager.send("lines", &part);
        match index % 3 {
            0 => manager.kill_in_slice(sentinel),
            1 => drop(sentinel),
            _ => {
                manager.run_until_idle(&mut sentinel).unwrap();
                continue;
            }
        }
        sentinel = manager.start::<Sentinel>().unwrap();
        manager.run_until_idle(&mut sentinel).unwrap();
    }
    assert_eq!(manager.gauge("status_4xx"), Some(1.0));
    assert_eq!(manager.gauge("malformed_total"), Some(0.0));
    assert_eq!(manager.gauge("bytes_total"), Some(10.0));
    assert_eq!(manager.state(PARTS_KEY), None);
}

/// A line that never ends is kept within bounds.
#[test]
fn a_line_that_never_ends_is_bounded() {
    let mut manager = manager();
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    for stream in ["stdout", "stderr"] {
        for _ in 0..10 {
            let part = format!("2026-11-21T09:15:15Z {stream} P {}", "x".repeat(16_384));
            manager.send("lines", part.as_bytes());
        }
    }
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.state(PARTS_KEY).map(<[u8]>::len), Some(4 + 2 * PARTS_BYTES_MAX));
    let mut sentinel = manager.start::<Sentinel>().unwrap();
    manager.send("lines", b"2026-11-21T09:15:15Z stdout F x");
    manager.run_until_idle(&mut sentinel).unwrap();
    assert_eq!(manager.gauge("malformed_total"), Some(1.0));
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
