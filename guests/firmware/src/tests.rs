//! The whole script on a simulated board, where time passes only when it is asked for.

extern crate std;

use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

/// A board on which asking for the time takes a microsecond.
struct Simulated {
    now: Instant,
    entropy: u64,
    lines: Vec<String>,
}

impl Board for Simulated {
    fn now(&mut self) -> Instant {
        self.now = self.now.saturating_add(Duration::from_micros(1));
        self.now
    }

    fn entropy(&mut self) -> u64 {
        self.entropy
    }

    fn print(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(line.to_string());
    }

    fn sleep_until(&mut self, deadline: Instant) {
        assert_ne!(deadline, Instant::MAX, "asleep for ever");
        self.now = self.now.max(deadline);
    }
}

fn lines(entropy: u64) -> Vec<String> {
    let mut board = Simulated { now: Instant::ZERO, entropy, lines: Vec::new() };
    let mut storage = Storage::EMPTY;
    run(&mut board, &mut storage).unwrap();
    board.lines
}

fn of<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| Some(line.strip_prefix(name)?.trim_start())).collect()
}

#[test]
fn the_radio_fails_in_five_ways_then_rests_and_works_when_released() {
    let failures =
        ["an error", "exit code 3", "a slice over its budget", "unhealthy", "no sign of life"];
    for entropy in [0, 1 << 63, u64::MAX] {
        let lines = lines(entropy);
        let radio = of(&lines, "radio");
        let failed: Vec<_> = radio
            .iter()
            .filter_map(|line| Some(line.strip_prefix("failed: ")?.split("; ").next().unwrap()))
            .collect();
        assert_eq!(failed, failures, "{lines:#?}");
        let rest = radio.iter().skip_while(|line| !line.contains("for good")).copied();
        let expected = [
            "failed for good: quarantined after 5 restarts within 60 s",
            "is to start",
            "starts",
            "initialises",
            "runs",
            "is asked to stop",
            "is stopped",
            "7 starts, 5 restarts",
        ];
        assert_eq!(rest.collect::<Vec<_>>(), expected);
        let quarantined = lines.iter().position(|line| line.contains("quarantined")).unwrap();
        let released = lines.iter().position(|line| line.contains("replaces")).unwrap();
        assert!(quarantined < released, "{lines:#?}");
    }
}

#[test]
fn the_others_do_not_notice() {
    let lines = lines(u64::MAX / 3);
    let of_sensor = of(&lines, "sensor");
    assert_eq!(of_sensor.last(), Some(&"1 starts, 0 restarts"));
    let logger = of(&lines, "logger");
    assert_eq!(logger.first(), Some(&"is to start"));
    let means = logger.iter().filter(|line| line.starts_with("40 readings, mean 2"));
    assert_eq!(means.count(), 4, "{logger:#?}");
    // Ten in a second, for 20 seconds; all but three of the second in which the logger is held still.
    assert_eq!(of(&lines, "readings"), ["200 sent, 193 delivered, 7 dropped"]);
    assert_eq!(of(&lines, "modem"), ["40 beacons sent"]);
}
