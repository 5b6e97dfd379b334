//! The one suite that every place where daemons run passes: what [`backend`] promises, through the real
//! program. A row of [`PLACES`] says how a daemon of the place is told to behave; each test puts one of
//! each place into a fleet, has the same done to all of them, and expects the same of all. At the end of
//! each, the history is judged by the rules of the seam: an incarnation that was started ends exactly
//! once, and one daemon never has two.
//!
//! A new place is a row here.
//!
//! [`backend`]: ../../host/src/backend/mod.rs

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::collections::BTreeMap;
use std::fs;

use duende_tests::rows::{Check, Event, Row};
use duende_tests::{
    Fleet, Outcome, Process, component, duende, linked, processes_with, script, wait_for,
};

/// How a daemon behaves.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Works until it is asked to end.
    Works,
    /// Ends, as one that has done its work.
    Exits,
    /// Fails.
    Fails,
    /// Stands still, and does not notice that it is asked anything.
    Hangs,
    /// Does not end when it is asked to.
    IgnoresStop,
}

/// A place, and how a daemon of it is told to behave.
struct Place {
    /// The daemon's name, which is the row's.
    name: &'static str,
    /// The TOML of a daemon that behaves so, with further keys and tables.
    daemon: fn(name: &str, does: Does, rest: &str) -> String,
    /// What finds one that hangs: keys and tables.
    finds_hang: &'static str,
    /// Keys that the place can't serve, with values that another place could.
    refuses: &'static [&'static str],
    /// The process that is the place, in its command line; without it all that ran there is lost.
    process: &'static str,
    /// It has state that outlives its incarnations.
    remembers: bool,
}

const PLACES: [Place; 3] = [
    Place {
        name: "plain",
        daemon: plain,
        finds_hang: "watchdog = \"300ms\"\n",
        refuses: &["grant = [\"state\"]\n", "priority = 1\n", "[daemon.health]\nperiod = \"1s\"\n"],
        process: "keep",
        remembers: false,
    },
    Place {
        name: "linked",
        daemon: |name, does, rest| linked(name, "flaky", &flaky(does, rest)),
        finds_hang: "[daemon.health]\nperiod = \"100ms\"\ntimeout = \"100ms\"\nfailures = 2\n",
        refuses: &["priority = 1\n", "slice_budget = \"1s\"\n"],
        process: "keep",
        remembers: true,
    },
    Place {
        name: "wos",
        daemon: |name, does, rest| component(name, "flaky", &flaky(does, rest)),
        finds_hang: "slice_budget = \"300ms\"\n",
        refuses: &[
            "env = { A = \"b\" }\n",
            "pid_file = \"/tmp/p\"\n",
            "user = \"root\"\n",
            "watchdog = \"1s\"\n",
            "stop_signal = \"SIGINT\"\n",
            "[daemon.limits]\nopen_files_max = 10\n",
        ],
        process: "wos-worker",
        remembers: true,
    },
];

/// Restarts follow at once, however many.
const AT_ONCE: &str =
    "[daemon.restart]\nbackoff = \"constant\"\nbackoff_initial = \"0s\"\nlimit = 32\n";
/// After it the kill.
const GRACE: &str = "stop_grace = \"300ms\"\n";

/// A script that says what it does. What it starts belongs to it, also what leaves its session.
fn plain(name: &str, does: Does, rest: &str) -> String {
    let text = match does {
        Does::Works => {
            "trap 'echo asked to stop; exit 0' TERM; trap 'echo reloaded' HUP; \
             setsid sleep 1000 & echo here; \
             while :; do sleep 0.02; done"
        }
        Does::Exits => "echo here; exit 0",
        Does::Fails => "echo here; exit 3",
        Does::Hangs => "echo here; while :; do sleep 1000; done",
        Does::IgnoresStop => {
            "trap 'echo asked to stop' TERM; echo here; while :; do sleep 0.02; done"
        }
    };
    script(name, text, rest)
}

/// Keys of `flaky` that behaves so. What follows are keys, then tables.
fn flaky(does: Does, rest: &str) -> String {
    let (mode, verb) = match does {
        Does::Works => ("none", "run"),
        Does::Exits => ("exit", "run"),
        Does::Fails => ("error", "run"),
        Does::Hangs => ("hang", "run"),
        Does::IgnoresStop => ("hang", "shutdown"),
    };
    format!(
        "grant = [\"log\", \"state\"]\n{rest}\n[daemon.config]\nmode = \"{mode}\"\nverb = \"{verb}\"\n\
         after_slices = 2\ninterval_ms = 20\n"
    )
}

/// A fleet with one daemon in each place, that runs.
fn everywhere(name: &str, does: Does, rest: &str) -> Fleet {
    let daemons: Vec<_> =
        PLACES.iter().map(|place| (place.daemon)(place.name, does, rest)).collect();
    Fleet::up(name, &daemons.concat())
}

/// The same, once each runs and has said so.
fn here_everywhere(name: &str, does: Does, rest: &str) -> Fleet {
    let fleet = everywhere(name, does, rest);
    for name in names() {
        let row = fleet.wait_state(name, "running");
        wait_for("its start", || log_of(&row).contains("here").then_some(()));
    }
    fleet
}

fn names() -> [&'static str; PLACES.len()] {
    PLACES.map(|place| place.name)
}

fn log_of(row: &Row) -> String {
    fs::read_to_string(&row.log_path).unwrap_or_default()
}

/// Ends the fleet, and judges its history.
fn judge(mut fleet: Fleet) {
    fleet.down();
    let mut open: BTreeMap<String, u32> = BTreeMap::new();
    let mut ended = Vec::new();
    let story = fleet.story();
    for Event { daemon, incarnation, kind, .. } in fleet.events() {
        let current = open.get(daemon).copied();
        match kind.as_str() {
            "started" => {
                assert_eq!(current, None, "{daemon} was started twice\n{story}");
                open.insert(daemon.clone(), *incarnation);
            }
            "running" | "stopping" => {
                assert_eq!(current, Some(*incarnation), "{kind} of who is not there\n{story}");
            }
            "exited" => {
                assert_eq!(current, Some(*incarnation), "an end of who is not there\n{story}");
                open.remove(daemon);
                ended.push((daemon.clone(), *incarnation));
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "without an end: {open:?}\n{story}");
    for place in PLACES {
        assert!(ended.iter().any(|(daemon, _)| daemon == place.name), "{}\n{story}", place.name);
    }
}

/// Start, ready, output, figures; and a stop that is obeyed, with what it says as its last words.
#[test]
fn starts_works_and_ends_as_asked() {
    let fleet = everywhere("works", Does::Works, "");
    for place in &PLACES {
        let row = fleet.wait_state(place.name, "running");
        assert_eq!((row.incarnation, row.restarts), (1, 0), "{row:?}");
        assert!(row.pid.is_some(), "{row:?}");
        wait_for("its output", || log_of(&row).contains("here").then_some(()));
        wait_for("its figures", || {
            let status = fleet.run(&["status", place.name]).done();
            let table: duende_tests::rows::Table = status.json();
            let row = &table.daemons[0];
            let speaks = row.metrics.contains_key("slices_total") || !place.remembers;
            (speaks && row.memory_bytes.is_some_and(|bytes| bytes > 0)).then_some(())
        });
    }
    fleet.run(&[&["stop"][..], &names()].concat()).done();
    for place in &PLACES {
        let row = fleet.row(place.name);
        assert_eq!((row.state.as_str(), row.restarts), ("stopped", 0), "{row:?}");
        assert!(log_of(&row).contains("asked to stop"), "{}: {}", place.name, log_of(&row));
        let last = row.last_exit.clone().unwrap_or_default();
        assert!(!last.contains("killed"), "{row:?}");
    }
    judge(fleet);
}

#[test]
fn an_end_by_itself_is_told_from_a_failure() {
    let fleet = everywhere("ends", Does::Exits, "");
    for name in names() {
        let row = fleet.wait_state(name, "stopped");
        assert_eq!(row.incarnation, 1, "{row:?}");
    }
    judge(fleet);
    let fleet = everywhere("fails", Does::Fails, AT_ONCE);
    for place in &PLACES {
        let row = fleet.wait_row(place.name, |row| row.incarnation >= 3);
        assert!(row.restarts >= 2, "{row:?}");
        assert!(row.last_exit.is_some(), "{row:?}");
        if place.remembers {
            wait_for("its memory", || log_of(&row).contains("here, after 2 slices").then_some(()));
        }
    }
    judge(fleet);
}

#[test]
fn a_hang_is_found_and_ended() {
    let daemons = PLACES.iter().map(|place| {
        // Keys first, then tables.
        let rest = format!("{GRACE}{}{AT_ONCE}", place.finds_hang);
        (place.daemon)(place.name, Does::Hangs, &rest)
    });
    let mut fleet = Fleet::up("hangs", &daemons.collect::<Vec<_>>().concat());
    for name in names() {
        let row = fleet.wait_row(name, |row| row.incarnation >= 2);
        assert!(row.restarts >= 1, "{row:?}");
    }
    for name in names() {
        let events = fleet.events();
        let end = events.iter().find(|event| event.is(name, "exited")).expect("an end");
        assert!(!end.detail.is_empty(), "{end:?}");
    }
    judge(fleet);
}

#[test]
fn who_ignores_a_stop_is_killed_after_its_grace() {
    let fleet = here_everywhere("stubborn", Does::IgnoresStop, GRACE);
    for place in &PLACES {
        let row = fleet.row(place.name);
        // What misbehaves does so after two slices.
        if place.remembers {
            wait_for("two slices", || {
                let table: duende_tests::rows::Table =
                    fleet.run(&["status", place.name]).done().json();
                (table.daemons[0].count("slices_total") > 2).then_some(())
            });
        }
        let begun = std::time::Instant::now();
        fleet.run(&["stop", place.name]).done();
        assert!(begun.elapsed().as_millis() >= 300, "{} had no grace", place.name);
        let stopped = fleet.row(place.name);
        assert_eq!(stopped.state, "stopped", "{stopped:?}");
        assert!(log_of(&row).contains("asked to stop"), "{}", log_of(&row));
    }
    judge(fleet);
}

#[test]
fn what_is_paused_stands_still_and_goes_on() {
    let fleet = everywhere("pauses", Does::Works, "");
    for name in names() {
        fleet.wait_state(name, "running");
    }
    fleet.run(&[&["pause"][..], &names()].concat()).done();
    for name in names() {
        assert_eq!(fleet.row(name).state, "paused");
    }
    fleet.run(&[&["resume"][..], &names()].concat()).done();
    for name in names() {
        let row = fleet.row(name);
        assert_eq!((row.state.as_str(), row.incarnation), ("running", 1), "{row:?}");
    }
    // Who is held still can be stopped like everybody.
    fleet.run(&[&["pause"][..], &names()].concat()).done();
    fleet.run(&[&["stop"][..], &names()].concat()).done();
    for name in names() {
        let row = fleet.row(name);
        assert_eq!(row.state, "stopped", "{row:?}");
        assert!(log_of(&row).contains("asked to stop"), "{name}: {}", log_of(&row));
    }
    judge(fleet);
}

#[test]
fn a_reload_leaves_its_incarnation_alone() {
    let fleet = here_everywhere("reloads", Does::Works, "");
    fleet.run(&[&["reload"][..], &names()].concat()).done();
    for name in names() {
        let row = fleet.wait_state(name, "running");
        assert_eq!((row.incarnation, row.restarts), (1, 0), "{row:?}");
    }
    let row = fleet.row("plain");
    wait_for("SIGHUP", || log_of(&row).contains("reloaded").then_some(()));
    judge(fleet);
}

/// The place itself is killed: whatever ran there runs again, and nobody is charged for it.
#[test]
fn a_lost_place_is_nobodys_failure() {
    let fleet = everywhere("lost", Does::Works, "[daemon.restart]\nlimit = 1\n");
    for name in names() {
        fleet.wait_state(name, "running");
    }
    let run = fleet.home().join("run").display().to_string();
    let mut processes: Vec<_> = PLACES.iter().map(|place| place.process).collect();
    processes.dedup();
    for round in 1..=3 {
        for process in &processes {
            let is_it = |found: &Process| found.command().split(' ').nth(1) == Some(process);
            let place = wait_for("the place", || {
                processes_with("DUENDE_RUNTIME_DIR", &run).into_iter().find(is_it)
            });
            let before: Vec<Row> = names().map(|name| fleet.row(name)).into();
            let _ = place.kill();
            for (place, before) in PLACES.iter().zip(before) {
                if place.process == *process {
                    let again =
                        |row: &Row| row.incarnation > before.incarnation && row.state == "running";
                    let row = fleet.wait_row(place.name, again);
                    let why = row.last_exit.clone().unwrap_or_default();
                    assert_eq!(why.matches("ended").count(), 1, "round {round}: {row:?}");
                }
            }
        }
    }
    judge(fleet);
}

/// A manager that is killed takes everything along, wherever it runs.
#[test]
fn nothing_outlives_its_manager() {
    let mut fleet = everywhere("leaves", Does::IgnoresStop, GRACE);
    for name in names() {
        fleet.wait_state(name, "running");
    }
    fleet.kill_manager();
    fleet.start();
    for name in names() {
        fleet.wait_state(name, "running");
    }
    fleet.down();
}

/// What a place can't do is refused before anything starts: by key, with what would do it.
#[test]
fn what_a_place_cannot_do_is_refused_by_name() {
    for place in &PLACES {
        for keys in place.refuses {
            let fleet = Fleet::new("refuses", &(place.daemon)(place.name, Does::Works, keys));
            let outcome =
                Outcome::of(duende(fleet.home()).args(["--json", "check"]).arg(fleet.file()));
            let refused = outcome.refused(3);
            let [problem] = &refused.error.problems[..] else {
                panic!("{}: {keys}: {refused:?}", place.name)
            };
            assert!(problem.line.is_some() && !problem.help.is_empty(), "{problem:?}");
            let key = keys.rsplit('\n').nth(1).unwrap_or(keys).split(' ').next().unwrap();
            let named = format!("{} {}", problem.key, problem.message);
            assert!(named.contains(key) || named.contains("health"), "{keys}: {problem:?}");
        }
        let fleet = Fleet::new("takes", &(place.daemon)(place.name, Does::Works, place.finds_hang));
        let outcome = Outcome::of(duende(fleet.home()).args(["--json", "check"]).arg(fleet.file()));
        assert!(outcome.done().json::<Check>().valid);
    }
}
