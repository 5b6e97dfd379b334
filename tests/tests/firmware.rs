//! The core in firmware: the image of `guests/firmware` on an emulated Cortex-M4, by what it prints.

#![allow(clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::path::Path;

use duende_tests::emulator::{Emulated, emulate, image};

/// Runs an image that reads no files.
fn run(name: &str) -> Emulated {
    emulate(&image(name), Path::new("."), "")
}

/// What stands after the time and `name` in the lines of that name.
fn of<'a>(ran: &'a Emulated, name: &str) -> Vec<&'a str> {
    let texts = ran.lines.iter().filter_map(|line| line.split_once("] ").map(|(_, text)| text));
    texts.filter_map(|text| Some(text.strip_prefix(name)?.trim_start())).collect()
}

/// The seconds since the start in front of the line that holds `text`.
fn seconds(ran: &Emulated, text: &str) -> f64 {
    let line = ran.lines.iter().find(|line| line.contains(text)).unwrap();
    line[1..].split(']').next().unwrap().trim().parse().unwrap()
}

#[test]
fn three_tasks_are_supervised_on_a_cortex_m4() {
    let ran = run("firmware");
    assert!(ran.success, "{ran:#?}");

    // The radio fails in each of its ways, is started again, and then is not.
    let radio = of(&ran, "radio");
    let failures: Vec<_> =
        radio.iter().filter_map(|line| line.strip_prefix("failed: ")?.split("; ").next()).collect();
    let expected =
        ["an error", "exit code 3", "a slice over its budget", "unhealthy", "no sign of life"];
    assert_eq!(failures, expected);
    // It is asked to end before it is killed; only where it is deaf to that it has to be.
    assert_eq!(of(&ran, "radio     is killed"), [": unhealthy"]);
    let quarantined = seconds(&ran, "failed for good: quarantined after 5 restarts within 60 s");
    let released = seconds(&ran, "operator  replaces the modem, releases the radio");
    assert!(quarantined < released);
    assert_eq!(released, 12.0, "the tick is a millisecond");
    assert_eq!(radio.last(), Some(&"7 starts, 5 restarts"));

    // The others do their work meanwhile; what the logger misses while it is held still is counted.
    let means = of(&ran, "logger").iter().filter(|line| line.starts_with("40 readings")).count();
    assert_eq!(means, 4);
    assert_eq!(of(&ran, "readings"), ["200 sent, 193 delivered, 7 dropped"]);
    assert_eq!(of(&ran, "sensor").last(), Some(&"1 starts, 0 restarts"));
    assert_eq!(of(&ran, "logger").last(), Some(&"1 starts, 0 restarts"));
    assert_eq!(of(&ran, "modem"), ["40 beacons sent"]);

    // Each stops after those that depend on it.
    assert!(of(&ran, "logger").contains(&"is stopped"));
    let order = |text| ran.lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(order("logger    is stopped") < order("sensor    is asked to stop"));
}

#[test]
fn two_runs_are_alike() {
    assert_eq!(run("firmware"), run("firmware"));
}

#[test]
fn the_image_needs_less_than_64_kib_of_flash_and_16_kib_of_ram() {
    let ran = run("firmware");
    let bytes = |what: &str| -> u32 {
        let line = ran.lines.iter().find_map(|line| line.split_once(what)).unwrap();
        line.1.split(" bytes").next().unwrap().parse().unwrap()
    };
    // The linker and the image itself refuse more; this one says how far away that is.
    let (flash, ram) = (bytes("memory    flash "), bytes("memory    RAM "));
    println!("flash {flash} of {} bytes, RAM {ram} of {}", 64 << 10, 16 << 10);
    assert!((1..=64 << 10).contains(&flash));
    assert!((1..=16 << 10).contains(&ram));
}

#[test]
fn a_broken_invariant_ends_in_an_epitaph() {
    // This image forgets to end a task that is to be killed.
    let ran = run("firmware-broken");
    assert!(!ran.success, "{ran:#?}");
    let epitaph = of(&ran, "epitaph");
    assert_eq!(epitaph, ["radio: incarnation 4 runs, the supervisor knows 0"]);
    assert!(ran.lines.last().unwrap().contains("epitaph"), "it goes on: {ran:#?}");
}
