//! What is wrong is told clearly, and harms nobody else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its helpers fail it too")]

use std::fs;
use std::path::Path;

use duende_tests::rows::{Check, Row, Table};
use duende_tests::{AccessLog, Fleet, Outcome, artifact, component, duende, image_at};

/// A sentinel that follows the fleet's access log: the one that must not be harmed.
const SENTINEL: &str = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                        [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n";

/// A component as text, in its binary form.
fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A component that exports an empty instance of this name, and imports these.
fn exporting(name: &str, imports: &str) -> Vec<u8> {
    wat(&format!("(component {imports} (instance $i) (export \"{name}\" (instance $i)))"))
}

/// Each component that is none that can run, and a part of what is said of it.
fn bad_components() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = fs::read(artifact("log-sentinel")).unwrap();
    let cut = |at: usize| whole[..at].to_vec();
    let lifecycle = "duende:daemon/lifecycle@0.1.0";
    let sockets = "(import \"wasi:sockets/tcp@0.3.0\" (instance))";
    vec![
        ("empty", Vec::new(), "not a WebAssembly file"),
        ("text", b"#!/bin/sh\necho hello\n".to_vec(), "not a WebAssembly file"),
        ("cut-in-magic", cut(3), "not a WebAssembly file"),
        ("cut-after-magic", cut(4), "ends after its magic"),
        ("cut-after-header", cut(8), "exports nothing"),
        ("cut-early", cut(100), "not a valid component"),
        ("cut-in-half", cut(whole.len() / 2), "not a valid component"),
        ("cut-at-the-end", cut(whole.len() - 1), "not a valid component"),
        ("core-module", wat("(module (func (export \"run\")))"), "a core module, not a component"),
        ("other-world", exporting("wasi:cli/run@0.2.0", ""), "another world"),
        ("newer-contract", exporting("duende:daemon/lifecycle@0.3.0", ""), "lifecycle@0.3.0"),
        ("not-offered", exporting(lifecycle, sockets), "wasi:sockets/tcp@0.3.0"),
        ("other-types", exporting(lifecycle, ""), "do not fit the contract 0.1: lifecycle"),
    ]
}

#[test]
fn bad_components_are_refused_and_harm_nobody() {
    let mut fleet = Fleet::new("bad", "");
    let components = bad_components();
    let mut daemons = component("good", "log-sentinel", SENTINEL);
    for (name, bytes, _) in &components {
        let file = fleet.home().join(format!("{name}.wasm"));
        fs::write(&file, bytes).unwrap();
        daemons += &image_at(name, &file, "");
    }
    fleet.configure(&daemons);

    // `check` says it of each of them, before anything runs.
    let mut check = duende(fleet.home());
    let outcome = Outcome::of(check.args(["--json", "check"]).arg(fleet.file()));
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let report: Check = outcome.json();
    assert!(!report.valid);
    for checked in &report.daemons {
        let expected = components.iter().find(|(name, ..)| *name == checked.name);
        match (expected, &checked.error) {
            (None, None) => assert_eq!(checked.name, "good"),
            (Some((_, _, part)), Some(error)) => {
                assert!(error.contains(part), "{}: {error}", checked.name);
                assert!(error.contains(&format!("{}.wasm", checked.name)), "{error}");
            }
            _ => panic!("{checked:?}"),
        }
    }

    // They are not tried again: each fails once, for the same reason, and the other one works.
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    fleet.start();
    for (name, _, part) in &components {
        let row = fleet.wait_state(name, "failed");
        assert_eq!((row.incarnation, row.restarts), (1, 0), "{row:?}");
        assert!(row.last_exit.as_ref().is_some_and(|exit| exit.contains(part)), "{row:?}");
    }
    log.write(100);
    let good = fleet.wait_row("good", |row| row.count("requests_total") == 100);
    assert_eq!((good.state.as_str(), good.incarnation), ("running", 1));
    fleet.down();
}

#[test]
fn without_a_grant_calls_are_denied_and_the_daemon_goes_on() {
    // `flaky` counts its slices in `state` if it may, reads `commands` if there is one, and logs.
    let fleet_text =
        component("denied", "flaky", "grant = [\"log\"]\n[daemon.config]\ninterval_ms = 1\n");
    let mut fleet = Fleet::up("denied", &fleet_text);
    let slices = |fleet: &Fleet| {
        let table: Table = fleet.run(&["status", "denied"]).done().json();
        table.daemons[0].count("slices_total")
    };
    duende_tests::wait_for("three slices", || (slices(&fleet) >= 3).then_some(()));
    let row = fleet.row("denied");
    assert_eq!((row.state.as_str(), row.incarnation), ("running", 1), "{row:?}");
    fleet.down();

    let mut check = duende(fleet.home());
    let outcome = Outcome::of(check.args(["--json", "check"]).arg(fleet.file())).done();
    let report: Check = outcome.json();
    assert!(report.valid);
    let denied = &report.daemons[0].imports_denied;
    for import in ["state", "channel"] {
        assert!(denied.iter().any(|name| name == import), "{denied:?}");
    }
    assert!(!denied.iter().any(|name| name == "log"), "{denied:?}");
    // Started anew, it begins from nothing: what was denied was not stored either.
    fleet.start();
    fleet.wait_state("denied", "running");
    let log = fs::read_to_string(fleet.row("denied").log_path).unwrap();
    assert_eq!(log.matches("here, after 0 slices").count(), 2, "{log}");
    fleet.down();
}

/// A configuration, and where and what is said of it: line, column and a part of the message.
type BadConfiguration = (&'static str, Vec<u8>, (usize, usize), &'static str);

fn bad_configurations() -> Vec<BadConfiguration> {
    let daemon = "[[daemon]]\nname = \"a\"\ncommand = [\"true\"]\n";
    let text = |text: &str| format!("[fleet]\nname = \"f\"\n{text}").into_bytes();
    let mut latin1 = text("# caf");
    latin1.extend(b"\xe9\n");
    vec![
        ("an unknown key", text(&format!("{daemon}  restrat = 1\n")), (6, 3), "unknown key"),
        ("a duplicate name", text(&format!("{daemon}{daemon}")), (7, 8), "a"),
        (
            "a missing image",
            text("[[daemon]]\nname = \"a\"\nimage = \"no.wasm\"\n"),
            (5, 9),
            "no.wasm",
        ),
        (
            "a missing program",
            text("[[daemon]]\nname = \"a\"\ncommand = [\"./no\"]\n"),
            (5, 11),
            "does not exist",
        ),
        ("not UTF-8", latin1, (3, 6), "not UTF-8"),
        ("not TOML", text("[[daemon]\n"), (3, 10), ""),
    ]
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() {
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join("bad.toml");
    let refused = |verb: &str, file: &Path| {
        Outcome::of(duende(home.path()).args(["--json", verb]).arg(file)).refused(3).error
    };
    for (what, bytes, (line, column), part) in bad_configurations() {
        fs::write(&file, bytes).unwrap();
        for verb in ["check", "up"] {
            let error = refused(verb, &file);
            assert_eq!(error.kind, "config_invalid", "{what}");
            let problem = &error.problems[0];
            assert_eq!(problem.file.as_deref(), file.to_str(), "{what}");
            assert_eq!(
                (problem.line, problem.column),
                (Some(line), Some(column)),
                "{what}: {problem:?}"
            );
            assert!(problem.message.contains(part), "{what}: {problem:?}");
            assert!(!problem.help.is_empty(), "{what}: no way out: {problem:?}");
            // People read the same, as compilers write it.
            let said = Outcome::of(duende(home.path()).arg(verb).arg(&file)).stderr;
            assert!(said.contains(&format!("{}:{line}:{column}", file.display())), "{said}");
        }
    }
    for verb in ["check", "up"] {
        let error = refused(verb, &home.path().join("missing.toml"));
        assert!(error.message.contains("missing.toml"), "{error:?}");
        assert_eq!(error.problems[0].line, None);
    }
    // Refused before anything was made.
    assert!(!home.path().join("run").exists() && !home.path().join("state").exists());
}

/// What a failing daemon does, in which export, and a part of what its end is called.
const FAILURES: [(&str, &str, &str); 12] = [
    ("crash", "init", "unreachable"),
    ("crash", "run", "unreachable"),
    ("crash", "shutdown", "unreachable"),
    ("crash", "health-check", "unreachable"),
    ("crash", "metrics", "unreachable"),
    ("hang", "init", "not ready within 1 s"),
    ("hang", "run", "budget"),
    ("hang", "shutdown", "budget"),
    ("hang", "health-check", "budget"),
    ("hang", "metrics", "budget"),
    ("leak", "init", "memory"),
    ("leak", "run", "memory"),
];

#[test]
fn whatever_a_daemon_does_the_others_are_unharmed() {
    let mut daemons = component("sentinel", "log-sentinel", SENTINEL)
        + &component(
            "steady",
            "flaky",
            "grant = [\"log\", \"state\"]\n[daemon.config]\ninterval_ms = 5\n",
        );
    let name = |mode: &str, verb: &str| format!("{mode}-{verb}");
    for (mode, verb, _) in FAILURES {
        let rest = format!(
            "grant = [\"log\"]\nslice_budget = \"100ms\"\nstart_timeout = \"1s\"\nstop_grace = \"100ms\"\n\
             [daemon.limits]\nmemory_bytes = \"4MiB\"\n\
             [daemon.health]\nperiod = \"50ms\"\n\
             [daemon.restart]\nlimit = 2\nbackoff_initial = \"1ms\"\nbackoff_max = \"1ms\"\n\
             [daemon.config]\nmode = \"{mode}\"\nverb = \"{verb}\"\n"
        );
        daemons += &component(&name(mode, verb), "flaky", &rest);
    }
    let mut fleet = Fleet::new("unharmed", &daemons);
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    fleet.start();
    let worker = fleet.wait_state("sentinel", "running").worker_pid;

    for (mode, verb, part) in FAILURES {
        let daemon = name(mode, verb);
        log.write(50);
        // Two exports are called only if somebody asks for them.
        match verb {
            "shutdown" => {
                fleet.wait_state(&daemon, "running");
                // A stop that was asked for is done, whatever the daemon does.
                fleet.run(&["stop", &daemon]).done();
                let row = fleet.wait_state(&daemon, "stopped");
                assert!(row.last_exit.as_ref().is_some_and(|exit| exit.contains(part)), "{row:?}");
                continue;
            }
            "metrics" => {
                for incarnation in 1..=3 {
                    fleet.wait_row(&daemon, |row| {
                        row.incarnation == incarnation && row.state == "running"
                    });
                    // It dies while it is asked: the answer is there all the same.
                    fleet.run(&["status", &daemon]).done();
                }
            }
            _ => {}
        }
        let row = fleet.wait_state(&daemon, "quarantined");
        assert_eq!((row.incarnation, row.restarts), (3, 2), "{row:?}");
        assert!(row.last_exit.as_ref().is_some_and(|exit| exit.contains(part)), "{row:?}");
    }

    // The others: same process, same incarnation, every line counted, every slice in its state.
    let sentinel = fleet.wait_row("sentinel", |row| row.count("requests_total") == log.lines);
    let unharmed = |row: &Row| (row.state.clone(), row.incarnation, row.worker_pid);
    let expected = ("running".to_owned(), 1, worker);
    assert_eq!(unharmed(&sentinel), expected);
    assert_eq!(unharmed(&fleet.row("steady")), expected);
    assert_eq!(sentinel.count("errors_total"), log.lines / 10);
    assert_eq!(sentinel.count("malformed_total"), 0);
    fleet.down();
}

#[test]
fn quarantine_is_released_by_restart() {
    let told = "grant = [\"log\", \"channel:commands\"]\n\
                [daemon.channel.commands]\nfrom = { tail = \"{home}/commands\" }\n\
                [daemon.restart]\nlimit = 1\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\n";
    let mut fleet = Fleet::new("release", &component("d", "flaky", told));
    let commands = fleet.home().join("commands");
    fs::write(&commands, "crash\n").unwrap();
    fleet.start();
    let row = fleet.wait_state("d", "quarantined");
    assert_eq!((row.incarnation, row.restarts), (2, 1), "{row:?}");
    assert!(row.detail.contains("1 restart was not enough, within 60 s"), "{row:?}");
    // The command that killed it is still there: it was never consumed. Somebody takes it away.
    fs::write(&commands, "").unwrap();
    fleet.run(&["restart", "d"]).done();
    let row = fleet.wait_state("d", "running");
    assert_eq!(row.incarnation, 3, "{row:?}");
    fleet.down();
}

/// What a component, a file's name or a path says drives no terminal, whoever prints it.
#[test]
fn text_from_outside_drives_no_terminal() {
    let home = tempfile::TempDir::new().unwrap();
    let evil = "\x1b]0;pwn\x07\x1b[31m\u{202e}";
    let image = home.path().join(format!("y{evil}.wasm"));
    fs::write(&image, "no component").unwrap();
    let file = home.path().join(format!("f{evil}.toml"));
    fs::write(&file, "[fleet]\nname = \"f\"\n").unwrap();
    let mode = format!("mode={evil}");
    let flaky = artifact("flaky");
    let flaky = flaky.to_str().unwrap();
    for arguments in [
        &["run", flaky, "-c", &mode][..],
        &["run", image.to_str().unwrap(), "--name", "y"],
        &["check", file.to_str().unwrap()],
        &["check", &format!("nowhere{evil}")],
        &["status", "--fleet", evil],
    ] {
        let mut command = duende(home.path());
        let outcome = Outcome::of(command.args(arguments));
        for printed in [&outcome.stdout, &outcome.stderr] {
            let drives = |character: char| {
                (character.is_control() && character != '\n') || character == '\u{202e}'
            };
            assert!(!printed.contains(drives), "{arguments:?}: {printed:?}");
        }
        assert!(!outcome.stdout.is_empty() || !outcome.stderr.is_empty(), "{arguments:?}");
    }
}
