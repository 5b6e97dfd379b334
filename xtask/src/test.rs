//! `cargo xtask test`: everything that must hold before a change lands.
//!
//! Rules:
//! - The steps run in the order of [`STEPS`], cheap ones first. A step that fails does not hide the
//!   ones after it.
//! - Dependencies are compiled twice in all, once to check and once to run: every step asks for the
//!   same packages with the same features and profile, so that it finds what an earlier one built.
//! - A step's output goes to a file below `target/xtask-test/` and is shown when the step fails, or
//!   at once with `-v`.
//! - The last line is the count, `N passed, N failed`, summed over every `test result:` line. What
//!   fails without such a line, a test program that dies or a step before the tests, counts as one
//!   failure each. The exit status is zero only if nothing failed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::shell::{self, Error, at, say};
use crate::wasm::{self, THUMBV7EM, Toolchain, WASM32};
use crate::{firmware, fuzz, guests, setup};

/// A step: its name, and what it does.
type Step = (&'static str, fn(&mut Run) -> Result<(), Error>);

const STEPS: &[Step] = &[
    ("format", |run| run.cargo("format", &["fmt", "--all", "--check", "--", "-l"])),
    ("set-up", |_| setup::run(&[])),
    ("guests", |_| guests::build().map(drop)),
    ("firmware", images),
    // Also every program that a test starts.
    ("build", |run| run.cargo("build", &[&["build"], EVERYTHING, &["--all-targets"]].concat())),
    ("clippy", |run| {
        let warnings = ["--all-targets", "--", "-D", "warnings"];
        run.cargo("clippy", &[&["clippy"], EVERYTHING, &warnings].concat())
    }),
    ("clippy of guests", |_| guests::clippy().and_then(|()| firmware::clippy())),
    ("tests", Run::tests),
    ("simulator", simulator),
    ("simulator finds planted bugs", planted),
    ("fuzz targets", fuzz_targets),
    // Alone, a package has only the features that it asks for itself.
    ("core alone", |run| run.cargo("core", &["build", "-p", "duende-core"])),
    ("core for wasm32", |_| wasm::check_core(WASM32)),
    ("core for thumbv7em", |_| wasm::check_core(THUMBV7EM)),
    ("kernel without an engine", kernel),
    ("documentation", documentation),
    ("dependencies", dependencies),
];

/// What is built, linted and tested: the slow tests too. Always the same, see above.
pub(crate) const EVERYTHING: &[&str] = &["--workspace", "--features", "duende-tests/falsification"];

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let verbose = match arguments {
        [] => false,
        [flag] if flag == "-v" || flag == "--verbose" => true,
        [other, ..] => return Err(Error::Usage(format!("takes only `-v`, but got `{other}`"))),
    };
    let logs = shell::target_dir().join("xtask-test");
    fs::create_dir_all(&logs).map_err(at(&logs))?;
    let mut run = Run { verbose, count: Count::default() };
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        say(&format!("{name} …"));
        let begun = Instant::now();
        let before = run.count.failed;
        let result = step(&mut run);
        let seconds = begun.elapsed().as_secs_f32();
        match result {
            Ok(()) => say(&format!("{name}: ok ({seconds:.1} s)")),
            Err(error) => {
                say(&format!("{name}: FAILED ({seconds:.1} s): {error}"));
                failed.push(*name);
                if run.count.failed == before {
                    run.count.failed += 1;
                }
            }
        }
    }
    if !failed.is_empty() {
        say(&format!("failed: {}", failed.join(", ")));
    }
    println!("{}", run.count);
    if failed.is_empty() { Ok(()) } else { Err(Error::Reported) }
}

/// What is kept from step to step.
struct Run {
    verbose: bool,
    count: Count,
}

impl Run {
    /// Runs cargo at the root, its output kept.
    fn cargo(&self, log: &str, arguments: &[&str]) -> Result<(), Error> {
        let mut cargo = cargo();
        self.logged(log, cargo.args(arguments), |_| true)
    }

    /// All unit, integration and documentation tests.
    fn tests(&mut self) -> Result<(), Error> {
        let mut cargo = cargo();
        cargo.arg("test").args(EVERYTHING).arg("--no-fail-fast");
        self.counted("tests", &mut cargo)
    }

    /// Runs tests and adds up what they say of themselves.
    fn counted(&mut self, log: &str, command: &mut Command) -> Result<(), Error> {
        let mut count = Count::default();
        let mut open_failure = false;
        let result = self.logged(log, command, |line| {
            count.add(line, &mut open_failure);
            !(line.starts_with("test ") && line.ends_with(" ... ok"))
        });
        self.count += count;
        result
    }

    /// Runs `command` with its output in the file `log`. `shown` sees every line, and says which of
    /// them are worth a reader's time when the command has failed.
    fn logged(
        &self,
        log: &str,
        command: &mut Command,
        mut shown: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let path = shell::target_dir().join("xtask-test").join(format!("{log}.txt"));
        let in_log = |source| Error::File { path: path.clone(), source };
        let mut file = File::create(&path).map_err(in_log)?;
        // One pipe for both streams keeps their lines in order.
        let (reader, writer) = io::pipe().map_err(in_log)?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(in_log)?).stderr(writer);
        let mut child = command.spawn().map_err(|source| shell::start_error(command, source))?;
        // The command holds our copies of the pipe's end; without this the pipe would never close.
        command.stdout(Stdio::null()).stderr(Stdio::null());

        let progress = !self.verbose && io::stderr().is_terminal();
        let mut worth_showing = String::new();
        let mut bytes = Vec::new();
        let mut reader = BufReader::new(reader);
        while reader.read_until(b'\n', &mut bytes).map_err(in_log)? > 0 {
            file.write_all(&bytes).map_err(in_log)?;
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim_end();
            if self.verbose {
                eprintln!("{line}");
            } else if shown(line) {
                worth_showing.push_str(&text);
            }
            if progress {
                let start: String = line.trim_start().chars().take(PROGRESS_CHARS_MAX).collect();
                eprint!("\r\x1b[K  {start}");
            }
            bytes.clear();
        }
        if progress {
            eprint!("\r\x1b[K");
        }
        let status = child.wait().map_err(in_log)?;
        if status.success() {
            return Ok(());
        }
        eprint!("{worth_showing}");
        Err(shell::failed(command, status))
    }
}

/// The longest line of progress, in characters.
const PROGRESS_CHARS_MAX: usize = 76;

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    // The count is read from what cargo prints: no colours.
    cargo.current_dir(shell::root()).env("CARGO_TERM_COLOR", "never");
    cargo
}

/// Steps of each of the simulator's two runs.
const SIMULATOR_STEPS: &str = "5000000";

/// Two runs of the simulator, in release: one of a seed that is always the same, and one of a seed
/// that nobody has seen. Each counts as one test.
fn simulator(run: &mut Run) -> Result<(), Error> {
    for (log, seed) in [("simulator-fixed", &["--seed", "1"][..]), ("simulator-fresh", &[][..])] {
        let mut cargo = cargo();
        cargo.args(["run", "--quiet", "--release", "-p", "duende-sim", "--"]).args(seed);
        cargo.args(["--steps", SIMULATOR_STEPS, "--failed"]);
        cargo.arg(shell::target_dir().join("xtask-test").join(format!("{log}.trace")));
        run.logged(log, &mut cargo, |line| {
            if line.starts_with("sim: seed ") || line.contains(" steps a second") {
                say(line);
            }
            true
        })?;
        run.count.passed += 1;
    }
    Ok(())
}

/// The core with its planted bugs, which no other build has: the simulator finds each of them.
fn planted(run: &mut Run) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.args(["test", "--release", "-p", "duende-sim", "--features", "planted"]);
    cargo.args(["--test", "planted", "--", "--nocapture"]);
    run.counted("planted", &mut cargo)
}

/// The kernel without its engine: what a bare-metal image or another engine links.
fn kernel(run: &mut Run) -> Result<(), Error> {
    run.cargo("kernel", &["build", "-p", "wos-kernel"])?;
    let mut cargo = Toolchain::prepare(WASM32)?.cargo("build")?;
    run.logged("kernel-wasm32", cargo.args(["-p", "wos-kernel"]), |_| true)
}

/// Every parser under the fuzzer for a few seconds; each counts as a test.
fn fuzz_targets(run: &mut Run) -> Result<(), Error> {
    let results = fuzz::smoke(&shell::target_dir().join("xtask-test"))?;
    let passed = results.iter().filter(|(_, passed)| *passed).count() as u64;
    let failed = results.len() as u64 - passed;
    run.count += Count { passed, failed, skipped: 0 };
    if failed == 0 { Ok(()) } else { Err(Error::Reported) }
}

/// The images that tests run, and the proof that an image with a reachable panic does not link.
fn images(run: &mut Run) -> Result<(), Error> {
    firmware::build()?;
    firmware::prove_panic_check()?;
    run.count.passed += 1;
    Ok(())
}

/// Broken links, those of private items too: that is where most of the documentation is read. For the
/// same reason a public item may link to a private one.
fn documentation(run: &mut Run) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    run.logged("documentation", &mut cargo, |_| true)
}

/// Licences, sources and duplicates of every dependency, by `deny.toml`.
///
/// Installing cargo-deny takes minutes (three and a half of a core's time), so it is used where it
/// is, and where it is not, a line says so. The same holds for the advisories: their database comes
/// from a server that not every machine reaches.
fn dependencies(run: &mut Run) -> Result<(), Error> {
    let there = cargo()
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        say("deny: not run: cargo-deny is not installed (`cargo install cargo-deny --locked`)");
        return Ok(());
    }
    run.cargo("deny", &["deny", "check", "bans", "licenses", "sources"])?;
    let databases = shell::cargo_home().join("advisory-dbs");
    if !has_entries(&databases) {
        say("deny: advisories not checked: no database (`cargo deny fetch` gets it)");
        return Ok(());
    }
    run.cargo("advisories", &["deny", "check", "--disable-fetch", "advisories"])
}

fn has_entries(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// How many tests passed, failed and were not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// Reads one line of `cargo test`. `open_failure` says that a summary with failures was read
    /// and cargo's own word on that test program is still to come: cargo names every program that
    /// failed, those that died without a summary too.
    fn add(&mut self, line: &str, open_failure: &mut bool) {
        if let Some(count) = Self::of_summary(line) {
            *self += count;
            *open_failure |= count.failed > 0;
        } else if line.starts_with("error: ") && line.contains("test failed, to rerun pass") {
            if !*open_failure {
                self.failed += 1;
            }
            *open_failure = false;
        }
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_summary(line: &str) -> Option<Self> {
        let (_, figures) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let figure = |name: &str| -> Option<u64> {
            figures.split("; ").find_map(|part| part.strip_suffix(name)?.trim().parse().ok())
        };
        Some(Self {
            passed: figure("passed")?,
            failed: figure("failed")?,
            skipped: figure("ignored")?,
        })
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count of what `cargo test` printed.
    fn check(printed: &str, expected: &str) {
        let (mut count, mut open_failure) = (Count::default(), false);
        for line in printed.lines() {
            count.add(line, &mut open_failure);
        }
        assert_eq!(count.to_string(), expected, "{printed}");
    }

    const GOOD: &str = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
    const BAD: &str = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
    const BAD_PROGRAM: &str = "error: test failed, to rerun pass `-p duende --lib`\n";
    const BAD_EXAMPLE: &str = "error: doctest failed, to rerun pass `-p duende-sdk --doc`\n";

    #[test]
    fn summaries_are_summed() {
        check("", "0 passed, 0 failed");
        check("running 3 tests\ntest a ... ok\n", "0 passed, 0 failed");
        check(GOOD, "3 passed, 0 failed, 1 skipped");
        check(&[GOOD, GOOD].concat(), "6 passed, 0 failed, 2 skipped");
        check(&[GOOD, BAD, BAD_PROGRAM].concat(), "4 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_program_that_dies_counts_as_one_failure() {
        check(BAD_PROGRAM, "0 passed, 1 failed");
        check(&[BAD, BAD_PROGRAM, BAD_EXAMPLE].concat(), "1 passed, 3 failed");
        check(&[BAD_PROGRAM, BAD, BAD_PROGRAM].concat(), "1 passed, 3 failed");
    }
}
