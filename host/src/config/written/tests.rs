//! Two files, and what of the second is not in force.

use super::super::tests::house;
use super::super::{Overrides, check};
use super::*;

const BEFORE: &str = r#"
[fleet]
name = "f"
metrics_interval = "5s"

[[group]]
name = "g"

[[daemon]]
name = "web"
command = ["webd"]
stop_grace = "1min"
member_of = "g"

[[daemon]]
name = "s"
image = "s.wasm"
depends_on = ["web"]
[daemon.limits]
memory_bytes = "32MiB"
[daemon.config]
level = 1
list = [1, 2]
"#;

/// What of `after` a fleet does not do that was started with [`BEFORE`].
fn changes(after: &str) -> Vec<String> {
    let (house, surroundings) = house();
    let read = |text: &str| {
        let path = house.path().join("f.toml");
        std::fs::write(&path, text).unwrap();
        check(&path, &Overrides::default(), &surroundings).unwrap_or_else(|error| panic!("{error}"))
    };
    let (before, now) = (read(BEFORE), read(after));
    let running = |name: &str| before.fleet.daemon(name);
    before
        .written
        .changes(&before.fleet, running, &now)
        .into_iter()
        .map(|Change { daemon, key, line, takes_effect }| {
            let line = line.map_or_else(|| "-".to_owned(), |line| line.to_string());
            format!("{line} {}.{key} {takes_effect:?}", daemon.unwrap_or_default())
        })
        .collect()
}

#[test]
fn what_is_not_in_force_is_told_by_key_and_line() {
    #[track_caller]
    fn check(from: &str, to: &str, expected: &[&str]) {
        assert!(BEFORE.contains(from));
        assert_eq!(changes(&BEFORE.replace(from, to)), expected, "{to}");
    }
    check("\"32MiB\"", "\"16MiB\"", &["20 s.limits.memory_bytes Up"]);
    check("\"5s\"", "\"6s\"", &["4 .fleet.metrics_interval Up"]);
    check("name = \"g\"\n", "name = \"g\"\nrestarts = 3\n", &["8 .group.g.restarts Up"]);
    check("level = 1", "level = 2", &["22 s.config.level Reload"]);
    check("level = 1\n", "", &["- s.config.level Reload"]);
    check("[1, 2]", "[1, 3]", &["23 s.config.list Reload"]);
    check("[1, 2]\n", "[1, 2]\nmore.deep = true\n", &["24 s.config.more.deep Reload"]);
    check("stop_grace = \"1min\"\n", "", &["- web.stop_grace Up"]);
    check("depends_on = [\"web\"]\n", "", &["- s.depends_on Up"]);
    check("member_of = \"g\"\n", "", &["- web.member_of Up"]);
    // One that comes or goes is told once.
    let fleet = format!("{BEFORE}[[daemon]]\nname = \"new\"\ncommand = [\"webd\"]\n");
    assert_eq!(changes(&fleet), ["25 new. Up"]);
    let (web, _) = BEFORE.split_once("[[daemon]]\nname = \"s\"").unwrap();
    assert_eq!(changes(web), ["- s. Up"]);
    // Those that stand in the file come first.
    let both = BEFORE.replace("stop_grace = \"1min\"\n", "").replace("32MiB", "16MiB");
    assert_eq!(changes(&both), ["19 s.limits.memory_bytes Up", "- web.stop_grace Up"]);
}

#[test]
fn what_means_the_same_is_no_change() {
    assert_eq!(changes(BEFORE), [""; 0]);
    for (from, to) in [
        ("\"1min\"", "\"60s\""),
        ("\"5s\"", "\"5000ms\""),
        ("\"32MiB\"", "33554432"),
        ("[daemon.limits]\nmemory_bytes", "# smaller\n[daemon.resources]\nmemory_limit"),
        ("stop_grace = \"1min\"\n", "stop_grace = \"1min\"\nkill_timeout = \"5s\"\n"),
        ("level = 1\nlist = [1, 2]", "list = [ 1, 2 ]\nlevel = 0x1"),
    ] {
        assert!(BEFORE.contains(from));
        assert_eq!(changes(&BEFORE.replace(from, to)), [""; 0], "{to}");
    }
}

/// What a reload handed over is in force, and what it did not is told still.
#[test]
fn a_table_that_was_handed_over_is_in_force() {
    let (house, surroundings) = house();
    let path = house.path().join("f.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        check(&path, &Overrides::default(), &surroundings).unwrap()
    };
    let before = read(BEFORE);
    let now = read(&BEFORE.replace("level = 1", "level = 2").replace("32MiB", "16MiB"));
    let mut running = before.fleet.daemons.clone();
    let told = |running: &[DaemonConfig]| {
        let of = |name: &str| running.iter().find(|daemon| daemon.name == name);
        let changes = before.written.changes(&before.fleet, of, &now);
        changes.into_iter().map(|change| change.key).collect::<Vec<_>>()
    };
    assert_eq!(told(&running), ["limits.memory_bytes", "config.level"]);
    for daemon in &mut running {
        daemon.config = now.fleet.daemon(&daemon.name).unwrap().config.clone();
    }
    assert_eq!(told(&running), ["limits.memory_bytes"]);
}
