//! The state file of a fleet, from the command line: who may open it, what becomes of an older one and of one
//! that is not ours, and daemons out of it and into it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its helpers fail it too")]

use std::fs;
use std::path::{Path, PathBuf};

use duende_tests::{AccessLog, Fleet, Outcome, duende, linked};
use serde_json::Value;

/// A sentinel that follows the fleet's access log.
const SENTINEL: &str = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                        [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n";

/// A fleet of one sentinel, and its log.
fn sentinel(name: &str) -> (Fleet, AccessLog) {
    let fleet = Fleet::new(name, &linked("web", "log-sentinel", SENTINEL));
    let log = AccessLog::create(&fleet.home().join("access.log"));
    (fleet, log)
}

/// Lets it run until it has counted so many lines in all its runs, and leaves it running.
fn count(fleet: &mut Fleet, log: &mut AccessLog, lines: u64, total: u64) {
    fleet.start();
    log.write(lines);
    // A count that is passed never comes back.
    let row = fleet.wait_row("web", |row| row.count("requests_total") >= total);
    assert_eq!(row.count("requests_total"), total);
}

fn state_file(fleet: &Fleet) -> PathBuf {
    fleet.home().join("state").join(&fleet.name).join("state.redb")
}

/// The names that `state ls` shows.
fn names(fleet: &Fleet) -> Vec<String> {
    let listed: Value = fleet.run(&["state", "ls"]).done().json();
    let daemons = listed["daemons"].as_array().unwrap();
    daemons.iter().map(|daemon| daemon["name"].as_str().unwrap().to_owned()).collect()
}

/// Runs a verb that is refused, and says these.
#[track_caller]
fn refused(fleet: &Fleet, arguments: &[&str], code: u8, expected: &[&str]) {
    let message = fleet.run(arguments).refused(code).error.message;
    for expected in expected {
        assert!(message.contains(expected), "{expected:?} is not said: {message}");
    }
}

#[test]
fn a_fleet_that_runs_keeps_its_state_to_itself() {
    let (mut fleet, mut log) = sentinel("busy");
    refused(&fleet, &["state", "ls"], 1, &["state.redb does not exist", "--state-dir"]);
    count(&mut fleet, &mut log, 3, 3);
    let holder = format!("manager {}", fleet.manager().id());
    for verb in [&["state", "ls"][..], &["state", "ls", "web"], &["state", "check"]] {
        refused(&fleet, verb, 6, &["is in use by", &holder, "`duende down` first"]);
    }
    refused(&fleet, &["state", "export", "nobody"], 5, &["nothing is kept of a daemon `nobody`"]);
    fleet.run(&["state", "export", "web"]).done();
    refused(&fleet, &["state", "export", "web"], 1, &["it exists already"]);
    let import = ["state", "import", "web.duende-state", "--as", "other"];
    refused(&fleet, &import, 6, &[&holder]);
    fleet.down();
}

/// What is exported while lines come as fast as they are written goes on elsewhere, with the same log, without one
/// lost or counted twice: its figures and its position are of one commit.
#[test]
fn a_fleet_that_runs_is_exported_as_of_one_commit() {
    let (mut fleet, mut log) = sentinel("hot");
    count(&mut fleet, &mut log, 10, 10);
    let mut total = 10;
    for export in 0..4 {
        log.write(5_000);
        total += 5_000;
        let file = format!("hot-{export}");
        fleet.run(&["state", "export", "web", "-o", &file]).done();
    }
    fleet.wait_row("web", |row| row.count("requests_total") == total);
    fleet.down();
    let mut before = 0.0;
    for export in 0..4 {
        let file = fleet.home().join(format!("hot-{export}"));
        let file = file.display().to_string();
        fleet.run(&["state", "import", &file, "--replace"]).done();
        let shown: Value = fleet.run(&["state", "ls", "web"]).done().json();
        let counted = shown["gauges"]["requests_total"].as_f64().unwrap();
        assert!(counted >= before && counted > 0.0, "{counted} after {before}");
        before = counted;
        count(&mut fleet, &mut log, 0, total);
        fleet.down();
    }
}

#[test]
fn an_export_goes_in_again_once() {
    let (mut fleet, mut log) = sentinel("moving");
    count(&mut fleet, &mut log, 30, 30);
    fleet.down();
    let before = fs::read(state_file(&fleet)).unwrap();
    let shown: Value = fleet.run(&["state", "ls", "web"]).done().json();
    assert!(shown["position_bytes"]["lines"].as_u64().unwrap() > 0, "{shown}");

    let file = fleet.home().join("web.duende-state");
    fleet.run(&["state", "export", "web"]).done();
    let whole = fs::read(&file).unwrap();
    refused(&fleet, &["state", "export", "web"], 1, &["it exists already", "--output"]);
    refused(&fleet, &["state", "export", "nobody"], 5, &["nothing of a daemon `nobody`"]);
    let piped = duende(fleet.home())
        .args(["state", "export", "web", "-o", "-", "--fleet", &fleet.name])
        .output()
        .unwrap();
    assert!(piped.status.success() && piped.stdout == whole, "{piped:?}");
    assert!(fs::read(state_file(&fleet)).unwrap() == before, "looking changed the file");

    let import = |more: &[&'static str]| [&["state", "import", "web.duende-state"], more].concat();
    refused(&fleet, &import(&[]), 1, &["holds state of `web` already", "--as", "--replace"]);
    fleet.run(&import(&["--as", "copy"])).done();
    refused(&fleet, &import(&["--as", "copy"]), 1, &["holds state of `copy` already"]);
    refused(&fleet, &import(&["--as", "../copy"]), 2, &["can't be the name of a daemon"]);
    assert_eq!(names(&fleet), ["copy", "web"]);
    for (bytes, expected) in [
        (&whole[..whole.len() / 2], "cut short"),
        (&[&whole[..100], b"?", &whole[101..]].concat()[..], "altered"),
        (b"#!/bin/sh", "not an export"),
    ] {
        fs::write(fleet.home().join("bad"), bytes).unwrap();
        refused(&fleet, &["state", "import", "bad", "--as", "bad"], 1, &["bad: ", expected]);
    }
    assert_eq!(names(&fleet), ["copy", "web"]);

    // What was counted since the export is counted again after it was put back, and nothing else.
    count(&mut fleet, &mut log, 5, 35);
    fleet.down();
    fleet.run(&import(&["--replace"])).done();
    count(&mut fleet, &mut log, 0, 35);
    fleet.down();

    // Another fleet goes on with it, on a log of its own.
    let (mut next, mut next_log) = sentinel("moved");
    fs::copy(&file, next.home().join("web.duende-state")).unwrap();
    next.run(&import(&[])).done();
    count(&mut next, &mut next_log, 7, 37);
    next.down();
}

/// What `up` says of a state file, which stays as it is.
#[track_caller]
fn check_up_refused(fleet: &Fleet, expected: &[&str]) {
    let before = fs::read(state_file(fleet)).unwrap();
    let mut up = duende(fleet.home());
    let outcome = Outcome::of(up.arg("up").arg(fleet.file()));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for expected in expected {
        assert!(outcome.stderr.contains(expected), "{expected:?} is not said: {outcome:?}");
    }
    assert!(fs::read(state_file(fleet)).unwrap() == before, "the file was changed");
}

#[test]
fn a_state_file_of_another_kind_is_refused_and_left_alone() {
    let (mut fleet, mut log) = sentinel("kinds");
    count(&mut fleet, &mut log, 3, 3);
    fleet.down();
    let whole = fs::read(state_file(&fleet)).unwrap();
    let mut older = whole.clone();
    (older[64], older[192]) = (2, 2);
    fs::write(state_file(&fleet), older).unwrap();
    check_up_refused(
        &fleet,
        &["is not damaged", "redb's file format 2", "use the version that wrote it"],
    );
    refused(&fleet, &["state", "ls"], 1, &["is not damaged"]);
    fs::write(state_file(&fleet), &whole[..whole.len() / 3]).unwrap();
    check_up_refused(&fleet, &["is damaged"]);
    fs::write(state_file(&fleet), &whole).unwrap();

    // Another fleet, with the same directory.
    let (other, _) = sentinel("thieves");
    fs::create_dir_all(state_file(&other).parent().unwrap()).unwrap();
    fs::write(state_file(&other), &whole).unwrap();
    check_up_refused(&other, &["holds the state of fleet `kinds`, not of `thieves`"]);
}

#[test]
fn a_file_of_an_older_schema_is_migrated_when_the_fleet_starts() {
    let (mut fleet, mut log) = sentinel("old");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let old = fs::read(root.join("host/src/store/fixtures/schema-1.redb")).unwrap();
    let state = state_file(&fleet);
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, &old).unwrap();
    assert_eq!(names(&fleet), ["edge", "edge-2", "web"]);
    let shown: Value = fleet.run(&["state", "ls", "edge"]).done().json();
    assert!(shown["id"].is_null(), "it has none before it is migrated: {shown}");
    assert!(fs::read(&state).unwrap() == old, "looking changed the file");
    // Its `web` was no sentinel.
    fleet.run(&["state", "export", "edge"]).done();
    fleet.configure(&linked("line-counter", "log-sentinel", SENTINEL));
    fleet.start();
    log.write(4);
    fleet.wait_row("line-counter", |row| row.count("requests_total") == 4);
    fleet.down();
    assert!(fs::read(state.with_extension("redb.schema-1")).unwrap() == old);
    assert_eq!(names(&fleet), ["edge", "edge-2", "line-counter", "web"]);
    let shown: Value = fleet.run(&["state", "ls", "edge"]).done().json();
    assert_eq!(shown["id"].as_str().map(str::len), Some(32), "{shown}");
    assert_eq!(shown["counters"]["slices"], u64::MAX, "{shown}");
    assert_eq!(shown["state_bytes"]["large"], 6_000, "{shown}");
}

/// Native daemons may outlive a manager that was killed; what they have state of is not replaced under them.
#[test]
fn nothing_is_imported_under_daemons_that_may_run() {
    let (mut fleet, mut log) = sentinel("orphans");
    count(&mut fleet, &mut log, 3, 3);
    fleet.down();
    fleet.run(&["state", "export", "web"]).done();
    let import = ["state", "import", "web.duende-state", "--as", "other"];
    // As a `keep` leaves it that is killed together with its manager.
    let lock = state_file(&fleet).with_file_name("keep.lock");
    fs::write(&lock, "4242\n").unwrap();
    refused(&fleet, &import, 6, &["may still run", "(4242)", "`duende up` ends them"]);
    // And while one is ending what it held.
    let held = fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    refused(&fleet, &import, 6, &["still ending", "keep 4242"]);
    assert_eq!(names(&fleet), ["web"]);
    drop(held);
    // Whoever comes next ends what was left, and says so there.
    fleet.start();
    fleet.wait_state("web", "running");
    fleet.down();
    fleet.run(&import).done();
    assert_eq!(names(&fleet), ["other", "web"]);
}

/// Makes each key of a daemon's `state` another one, wherever the file has it.
fn damage_keys(file: &Path, id: &str) {
    let mut bytes = fs::read(file).unwrap();
    // The key of a row: the id, little-endian, and the kind of the row.
    let mut key = u128::from_str_radix(id, 16).unwrap().to_le_bytes().to_vec();
    key.push(2);
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&key)).collect();
    assert!(!places.is_empty(), "the daemon has no keys");
    for at in places {
        bytes[at + key.len() - 1] ^= 0x40;
    }
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_is_damaged_of_one_daemon_keeps_that_one_alone_from_starting() {
    let both = format!(
        "{}{}",
        linked("web", "log-sentinel", SENTINEL),
        linked("other", "log-sentinel", SENTINEL)
    );
    let mut fleet = Fleet::new("hurt", &both);
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    count(&mut fleet, &mut log, 20, 20);
    fleet.wait_row("other", |row| row.count("requests_total") == 20);
    fleet.down();
    fleet.run(&["state", "check"]).done();
    let shown: Value = fleet.run(&["state", "ls", "web"]).done().json();
    damage_keys(&state_file(&fleet), shown["id"].as_str().unwrap());
    let damaged = fs::read(state_file(&fleet)).unwrap();

    let says = |outcome: &Outcome| {
        let path = state_file(&fleet).display().to_string();
        for expected in [&*path, "daemon `web`", "`figures`", "duende state reset web"] {
            assert!(outcome.stderr.contains(expected), "{expected:?} is not said: {outcome:?}");
        }
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
    };
    says(&fleet.run(&["state", "ls"]));
    says(&fleet.run(&["state", "check"]));
    says(&fleet.run(&["state", "check", "web"]));
    fleet.run(&["state", "check", "other"]).done();
    refused(&fleet, &["state", "export", "web"], 1, &["daemon `web`", "`figures`"]);
    fleet.run(&["state", "export", "other"]).done();
    assert!(fs::read(state_file(&fleet)).unwrap() == damaged, "looking changed the file");

    fleet.start();
    log.write(5);
    fleet.wait_row("other", |row| row.count("requests_total") == 25);
    fleet.wait_state("web", "waiting");
    let status = fleet.run(&["status", "web"]).done();
    assert!(status.stdout.contains("duende state reset web"), "{status:?}");
    fleet.down();

    // The way out, which leaves behind what it took away.
    let reset: Value = fleet.run(&["state", "reset", "web"]).done().json();
    assert!(Path::new(reset["kept"].as_str().unwrap()).exists(), "{reset}");
    fleet.run(&["state", "check"]).done();
    assert_eq!(names(&fleet), ["other"]);
    count(&mut fleet, &mut log, 0, 25);
    fleet.wait_row("other", |row| row.count("requests_total") == 25);
    fleet.down();
}

#[test]
fn a_reset_leaves_what_it_removes_beside_the_file() {
    let (mut fleet, mut log) = sentinel("anew");
    count(&mut fleet, &mut log, 6, 6);
    refused(&fleet, &["state", "reset", "web"], 6, &["`duende down` first"]);
    fleet.down();
    refused(&fleet, &["state", "reset", "nobody"], 5, &["nothing of a daemon `nobody`"]);
    for number in ["", ".1"] {
        let reset: Value = fleet.run(&["state", "reset", "web"]).done().json();
        assert!(names(&fleet).is_empty());
        let kept = state_file(&fleet).with_file_name(format!("web{number}.duende-state"));
        assert_eq!(reset["kept"], kept.display().to_string());
        fleet.run(&["state", "import", &kept.display().to_string()]).done();
    }
    count(&mut fleet, &mut log, 1, 7);
    fleet.down();
}

/// Whatever page of a file is lost: the program says which file it is, and never panics.
#[test]
fn no_damage_ends_the_program() {
    let (mut fleet, mut log) = sentinel("pages");
    count(&mut fleet, &mut log, 30, 30);
    fleet.down();
    let whole = fs::read(state_file(&fleet)).unwrap();
    let path = state_file(&fleet).display().to_string();
    let (mut refused, mut found) = (0, 0);
    for page in 0..whole.len() / 4_096 {
        let mut bytes = whole.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0);
        // A page that nobody uses.
        if bytes == whole {
            continue;
        }
        fs::write(state_file(&fleet), &bytes).unwrap();
        let checked = fleet.run(&["state", "check"]);
        match checked.code {
            Some(0) => {}
            Some(1) => {
                found += 1;
                let said = format!("{}{}", checked.stdout, checked.stderr);
                assert!(said.contains(&path), "page {page}: {checked:?}");
            }
            _ => panic!("page {page}: {checked:?}"),
        }
        if page % 4 != 0 {
            continue;
        }
        let mut up = duende(fleet.home());
        let up = Outcome::of(up.args(["up", "--detach"]).arg(fleet.file()));
        match up.code {
            Some(0 | 7) => {
                let down = fleet.run(&["down"]);
                assert!(matches!(down.code, Some(0 | 1)), "page {page}: {down:?}");
            }
            Some(1) => {
                refused += 1;
                assert!(up.stderr.contains(&path), "page {page}: {up:?}");
            }
            _ => panic!("page {page}: {up:?}"),
        }
    }
    assert!(found > 5 && refused > 0, "{found} found, {refused} refused");
}

/// A manager that was killed leaves a file and a journal, which belong together: whoever looks sees both as one.
#[test]
fn a_journal_that_is_lost_is_told_and_can_be_done_without() {
    let (mut fleet, mut log) = sentinel("journals");
    count(&mut fleet, &mut log, 1, 1);
    let state = state_file(&fleet);
    let journal = state.with_extension("redb.journal");
    let mut lines = 1;
    // It begins with the store's use.
    duende_tests::wait_for("a journal", || {
        log.write(1);
        lines += 1;
        fleet.wait_row("web", |row| row.count("requests_total") == lines);
        journal.exists().then_some(())
    });
    for _ in 0..5 {
        log.write(1);
        lines += 1;
        fleet.wait_row("web", |row| row.count("requests_total") == lines);
    }
    // So that all of it is on the disk, wherever.
    fleet.run(&["state", "export", "web", "-o", "before"]).done();
    fleet.kill_manager();
    let before = (fs::read(&state).unwrap(), fs::read(&journal).unwrap());
    let counted = |fleet: &Fleet| {
        let shown: Value = fleet.run(&["state", "ls", "web"]).done().json();
        shown["gauges"]["requests_total"].as_f64().unwrap()
    };
    assert_eq!(counted(&fleet), f64::from(u32::try_from(lines).unwrap()));
    fleet.run(&["state", "check"]).done();
    assert!(before == (fs::read(&state).unwrap(), fs::read(&journal).unwrap()));

    let away = journal.with_extension("away");
    fs::rename(&journal, &away).unwrap();
    let expected = ["state.redb.journal", "it is not there", "state reset --journal"];
    for verb in [&["state", "ls"][..], &["state", "check"], &["state", "export", "web"]] {
        refused(&fleet, verb, 1, &expected);
    }
    check_up_refused(&fleet, &expected);
    // The file alone is missing.
    fs::rename(&away, &journal).unwrap();
    fs::rename(&state, &away).unwrap();
    refused(&fleet, &["state", "ls"], 1, &["state.redb is not there", "move the journal away too"]);
    fs::rename(&away, &state).unwrap();
    // A byte of the first record.
    let mut bytes = before.1.clone();
    bytes[4_096 + 40] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    check_up_refused(&fleet, &["is not what was written", "state reset --journal"]);
    let reset: Value = fleet.run(&["state", "reset", "--journal"]).done().json();
    assert_eq!(fs::read(reset["kept"].as_str().unwrap()).unwrap(), bytes);
    assert!(counted(&fleet) < f64::from(u32::try_from(lines).unwrap()));
    // Its source gives again what came since.
    count(&mut fleet, &mut log, 2, lines + 2);
    fleet.down();
    assert!(!journal.exists());
    fleet.run(&["state", "check"]).done();
}

#[test]
fn a_file_that_was_moved_is_noticed() {
    let (mut fleet, mut log) = sentinel("moves");
    count(&mut fleet, &mut log, 4, 4);
    let file = state_file(&fleet);
    let away = file.with_extension("away");
    let health = |fleet: &Fleet| {
        let ps: Value = fleet.run(&["ps"]).done().json();
        ps["fleet"]["health"]["state_fault"].clone()
    };
    fs::rename(&file, &away).unwrap();
    let event = fleet.next_event(|event| event.kind == "state_fault");
    assert!(event.detail.contains("was moved or removed"), "{event:?}");
    assert!(health(&fleet).as_str().is_some_and(|fault| fault.contains("moved")));
    fs::rename(&away, &file).unwrap();
    fleet.next_event(|event| event.kind == "state_restored");
    assert!(health(&fleet).is_null());

    // What is written now has no name any more.
    fs::remove_file(&file).unwrap();
    fs::write(&file, "another").unwrap();
    let event = fleet.next_event(|event| event.kind == "state_fault");
    assert!(event.detail.contains("another file stands"), "{event:?}");
    log.write(1);
    fleet.wait_row("web", |row| row.count("requests_total") == 5);
    refused(&fleet, &["down"], 1, &["another file stands", "is lost"]);
    assert_eq!(fleet.wait_end(), Some(1));
}
