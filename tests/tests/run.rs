//! `duende run`: a component that works through what it is given, and how it is told that this was not done.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its helpers fail it too")]

use std::fs::{self, File};
use std::path::Path;

use duende_tests::{Outcome, artifact, duende};
use serde_json::Value;

/// The exit code for a daemon that failed.
const DAEMON_FAILED: i32 = 7;

/// Runs an image over this input. What its daemon published is the last line of standard output.
fn run(home: &Path, image: &Path, input: &Path) -> (Outcome, Value) {
    let mut command = duende(home);
    command.args(["--json", "run"]).arg(image).args(["--name", "it", "--stdin", "lines"]);
    let outcome = Outcome::of(command.stdin(File::open(input).unwrap()));
    let figures = outcome.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (outcome, figures.unwrap_or_default())
}

/// Nothing to do is not done by what can't run, and input that can't be read on has not ended.
#[test]
fn what_was_not_done_is_a_failure() {
    let home = tempfile::TempDir::new().unwrap();
    let sentinel = artifact("log-sentinel");
    let [broken, empty, line] = ["broken.wasm", "empty", "line"].map(|name| home.path().join(name));
    fs::write(&broken, &fs::read(&sentinel).unwrap()[..2_000]).unwrap();
    fs::write(&empty, "").unwrap();
    fs::write(&line, "one\n").unwrap();
    for (image, input, code, says) in [
        (&sentinel, &*empty, 0, "\"running\""),
        (&sentinel, &*line, 0, "\"running\""),
        (&broken, &*empty, DAEMON_FAILED, "not a valid component"),
        (&broken, &*line, DAEMON_FAILED, "not a valid component"),
        // Reading a directory fails.
        (
            &sentinel,
            home.path(),
            DAEMON_FAILED,
            "Is a directory (os error 21); what follows in it is lost",
        ),
    ] {
        let (outcome, _) = run(home.path(), image, input);
        assert_eq!(outcome.code, Some(code), "{input:?}: {outcome:?}");
        assert!(outcome.stdout.contains(says), "{input:?}: {outcome:?}");
    }
}

/// A line that comes in pieces is one line for whoever counts lines.
#[test]
fn a_line_of_many_pieces_is_one() {
    let home = tempfile::TempDir::new().unwrap();
    let input = home.path().join("access.log");
    let request =
        "127.0.0.1 - - [21/Nov/2026:09:15:00 +0000] \"GET / HTTP/1.1\" 200 10 \"-\" \"a\"\n";
    let long = "x".repeat(300_000);
    fs::write(&input, format!("{request}{long}\n{request}{long}\n{request}")).unwrap();
    let (outcome, figures) = run(home.path(), &artifact("log-sentinel"), &input);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let metrics = &figures["metrics"];
    let counts = ["requests_total", "malformed_total"].map(|name| metrics[name].as_f64());
    assert_eq!(counts, [Some(3.0), Some(2.0)], "{outcome:?}");
}
