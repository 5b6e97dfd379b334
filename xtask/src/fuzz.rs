//! `cargo xtask fuzz [TARGET …] [--seconds N]`: the fuzz targets of `tests/fuzz`, ten minutes each.
//!
//! Rules:
//! - The targets are cargo-fuzz's, in its layout: `cargo +nightly fuzz run --fuzz-dir tests/fuzz NAME`
//!   works as everywhere. This verb adds what one would have to remember: the tool, the dictionary,
//!   the committed corpus, and as many targets side by side as there are processors.
//! - The verb compiles with nightly and the address sanitizer. `cargo xtask test` runs the same
//!   targets for [`SMOKE_SECONDS`] each without either: coverage alone is a matter of stable flags,
//!   so that a machine with nothing but this project's toolchain runs them too.
//! - What the fuzzer finds interesting goes to `target/fuzz/found`, never into the committed corpus.
//!   `cargo +nightly fuzz cmin` makes a small corpus of it.
//! - A finding is kept as a file, and named with the command that runs it again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, Error, at, say};
use crate::tools;
use crate::wasm::rustup_may_install;

/// The targets: one for each parser, or family of them.
const TARGETS: &[&str] =
    &["access_line", "control", "fleet", "link", "log_entry", "message", "notification", "trace"];

/// How long each target runs in `cargo xtask test`.
const SMOKE_SECONDS: u32 = 20;
/// How long each target runs in this verb, unless said otherwise.
const SECONDS: u32 = 600;

/// What an input may take, in seconds and in MiB: more is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MIB_MAX: u32 = 1_024;
/// Longest input that is tried, in bytes. Longer ones find little here, and later.
const INPUT_BYTES_MAX: u32 = 4_096;

/// The flags by which coverage is counted: those of `cargo fuzz --sanitizer none`.
const COVERAGE_FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let (targets, seconds) = parse(arguments)?;
    let results = sanitized(&targets, seconds, &place())?;
    for (target, passed) in &results {
        let log = log_path(&place(), target);
        say(&format!("{target}: {} ({})", verdict(*passed), log.display()));
    }
    if results.iter().all(|(_, passed)| *passed) { Ok(()) } else { Err(Error::Reported) }
}

/// Every target with the address sanitizer for that long each, with its log in `logs`: whether it passed.
pub(crate) fn all(seconds: u32, logs: &Path) -> Result<Vec<(&'static str, bool)>, Error> {
    sanitized(TARGETS, seconds, logs)
}

fn sanitized(
    targets: &[&'static str],
    seconds: u32,
    logs: &Path,
) -> Result<Vec<(&'static str, bool)>, Error> {
    let cargo_fuzz = shell::cargo_tool("cargo-fuzz")?;
    nightly()?;
    let engine = engine()?;
    let cargo_fuzz = |verb: &str| {
        let mut command = Command::new("rustup");
        command
            .current_dir(shell::root())
            // Cargo hands these down; they name this project's compiler.
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN")
            .envs(engine.clone())
            .args(["run", "nightly"])
            .arg(&cargo_fuzz)
            .args(["fuzz", verb, "--fuzz-dir", "tests/fuzz", "--target-dir"])
            .arg(place().join("nightly"));
        command
    };
    shell::run(&mut cargo_fuzz("build"))?;
    side_by_side(targets, logs, |target| {
        let mut command = cargo_fuzz("run");
        command.arg(target).args(corpora(target)).arg("--").args(options(target, seconds));
        command
    })
}

/// Each target for a few seconds, with its log in `logs`: whether it passed.
pub(crate) fn smoke(logs: &Path) -> Result<Vec<(&'static str, bool)>, Error> {
    let host = shell::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let built = place().join("stable");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(shell::root())
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE_FLAGS.join("\u{1f}"))
        .envs(engine()?)
        // With a target named, the flags are not those of build scripts and macros.
        .args(["build", "--quiet", "--release", "--target", &host])
        .args(["--manifest-path", "tests/fuzz/Cargo.toml", "--target-dir"])
        .arg(&built);
    shell::run(&mut cargo)?;
    let programs = built.join(host).join("release");
    side_by_side(TARGETS, logs, |target| {
        // What an earlier run found would take its time to read.
        let _ = fs::remove_dir_all(found(target));
        let mut command = Command::new(programs.join(target));
        command.current_dir(shell::root()).args(corpora(target));
        command.args(options(target, SMOKE_SECONDS));
        command
    })
}

/// What builds the fuzzer's engine, which is written in C++: its compiler, which is its linker too, as it
/// knows where its library is.
fn engine() -> Result<[(String, PathBuf); 2], Error> {
    let host = shell::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let linker = format!("CARGO_TARGET_{}_LINKER", host.to_uppercase().replace('-', "_"));
    let compiler = tools::CXX.prepare()?;
    Ok([("CXX".to_owned(), compiler.clone()), (linker, compiler)])
}

/// Which targets, and for how many seconds each.
fn parse(arguments: &[String]) -> Result<(Vec<&'static str>, u32), Error> {
    let (mut targets, mut seconds) = (Vec::new(), SECONDS);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let number = arguments.next().and_then(|number| number.parse().ok());
            // Zero would be without end for libFuzzer.
            seconds = number.filter(|seconds| *seconds > 0).ok_or_else(|| {
                Error::Usage("--seconds wants a whole number of seconds, from 1".to_owned())
            })?;
        } else if let Some(target) = TARGETS.iter().find(|target| *target == argument) {
            targets.push(*target);
        } else {
            let all = TARGETS.join(", ");
            return Err(Error::Usage(format!("no fuzz target `{argument}`; there are: {all}")));
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    Ok((targets, seconds))
}

/// Runs one command for each target, as many at a time as there are processors. Their output goes to
/// files; that of one which fails is shown.
fn side_by_side(
    targets: &[&'static str],
    logs: &Path,
    command: impl Fn(&str) -> Command,
) -> Result<Vec<(&'static str, bool)>, Error> {
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    fs::create_dir_all(logs).map_err(at(logs))?;
    let mut results = Vec::new();
    for batch in targets.chunks(at_a_time) {
        let mut running = Vec::new();
        for &target in batch {
            let mut command = command(target);
            for directory in [found(target), findings(target)] {
                fs::create_dir_all(&directory).map_err(at(&directory))?;
            }
            let path = log_path(logs, target);
            let log = File::create(&path).map_err(at(&path))?;
            let copy = log.try_clone().map_err(at(&path))?;
            command.stdin(Stdio::null()).stdout(copy).stderr(log);
            say(&format!("fuzzing {target}: {}", path.display()));
            let child = command.spawn().map_err(|source| shell::start_error(&command, source))?;
            running.push((target, child, path));
        }
        for (target, mut child, path) in running {
            let passed = child.wait().map_err(at(&path))?.success();
            if !passed {
                let log = fs::read(&path).map_err(at(&path))?;
                eprint!("{}", last_lines(&String::from_utf8_lossy(&log), LOG_LINES_SHOWN));
                say(&format!(
                    "{target}: a finding; its input is in {}: run it again with \
                     `cargo +nightly fuzz run --fuzz-dir tests/fuzz {target} INPUT`",
                    findings(target).display()
                ));
            }
            results.push((target, passed));
        }
    }
    Ok(results)
}

/// How much of a failed run's log is shown.
const LOG_LINES_SHOWN: usize = 40;

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines[lines.len().saturating_sub(count)..].concat()
}

const fn verdict(passed: bool) -> &'static str {
    if passed { "no finding" } else { "A FINDING" }
}

/// Where new inputs go, and the committed corpus. The fuzzer writes to the first only.
fn corpora(target: &str) -> [PathBuf; 2] {
    [found(target), shell::root().join("tests/fuzz/corpus").join(target)]
}

fn options(target: &str, seconds: u32) -> Vec<String> {
    let mut options = vec![
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-artifact_prefix={}/", findings(target).display()),
    ];
    let dictionary = shell::root().join("tests/fuzz/dictionary").join(format!("{target}.txt"));
    if dictionary.exists() {
        options.push(format!("-dict={}", dictionary.display()));
    }
    options
}

fn place() -> PathBuf {
    shell::target_dir().join("fuzz")
}

fn found(target: &str) -> PathBuf {
    place().join("found").join(target)
}

fn findings(target: &str) -> PathBuf {
    place().join("findings").join(target)
}

fn log_path(logs: &Path, target: &str) -> PathBuf {
    logs.join(format!("fuzz-{target}.txt"))
}

/// Sees to it that there is a nightly compiler: the address sanitizer is one of its flags.
fn nightly() -> Result<(), Error> {
    let there = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if there {
        return Ok(());
    }
    if !rustup_may_install() {
        return Err(Error::Usage(
            "the address sanitizer needs nightly: `rustup toolchain install nightly --profile \
             minimal`; `cargo xtask test` runs the targets without it"
                .to_owned(),
        ));
    }
    say("installing nightly, for the address sanitizer");
    let arguments = ["toolchain", "install", "nightly", "--profile", "minimal"];
    shell::run(Command::new("rustup").args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_targets_and_a_time() {
        let parse = |arguments: &[&str]| {
            parse(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(parse(&[]), Some((TARGETS.to_vec(), SECONDS)));
        assert_eq!(parse(&["trace", "--seconds", "5"]), Some((vec!["trace"], 5)));
        assert_eq!(parse(&["trase"]), None);
        assert_eq!(parse(&["--seconds"]), None);
        assert_eq!(parse(&["--seconds", "0"]), None);
    }

    /// The list here is that of the manifest, and each target has a corpus to begin with.
    #[test]
    fn every_target_is_known() {
        let fuzz = shell::root().join("tests/fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let declared: Vec<_> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
            .collect();
        assert_eq!(declared, TARGETS);
        assert!(TARGETS.iter().all(|target| fuzz.join("corpus").join(target).is_dir()));
    }
}
