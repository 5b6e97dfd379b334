//! Verbs that are made of steps: `test` and `nightly`.
//!
//! Rules:
//! - The steps run in their order. A step that fails does not hide the ones after it. Named on the command
//!   line, only those run.
//! - A step's output goes to a file below `target/xtask-VERB/` and is shown when the step fails, or at
//!   once with `-v`.
//! - At the end stands what each step took, slowest first, and in the last line the count, `N passed, N
//!   failed`, summed over every `test result:` line. What fails without such a line, a test program that
//!   dies or a step before the tests, counts as one failure each. The exit status is zero only if nothing
//!   failed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{self, Error, at, say};

/// A step: its name, and what it does.
pub(crate) type Step = (&'static str, fn(&mut Run) -> Result<(), Error>);

/// Runs the steps of a verb, or those of them that the arguments name.
pub(crate) fn run(verb: &str, steps: &[Step], arguments: &[String]) -> Result<(), Error> {
    let (verbose, steps) = parse(steps, arguments)?;
    let logs = shell::target_dir().join(format!("xtask-{verb}"));
    fs::create_dir_all(&logs).map_err(at(&logs))?;
    let mut run = Run { logs, verbose, count: Count::default() };
    let (mut failed, mut times) = (Vec::new(), Vec::new());
    for (name, step) in steps {
        say(&format!("{name} …"));
        let begun = Instant::now();
        let before = run.count.failed;
        let result = step(&mut run);
        let time = begun.elapsed();
        times.push((name, time));
        let shown = Minutes(time);
        match result {
            Ok(()) => say(&format!("{name}: ok ({shown})")),
            Err(error) => {
                say(&format!("{name}: FAILED ({shown}): {error}"));
                failed.push(name);
                if run.count.failed == before {
                    run.count.failed += 1;
                }
            }
        }
    }
    if times.len() > 1 {
        eprint!("{}", table(times));
    }
    if !failed.is_empty() {
        say(&format!("failed: {}", failed.join(", ")));
    }
    println!("{}", run.count);
    if failed.is_empty() { Ok(()) } else { Err(Error::Reported) }
}

/// Whether all output is to be shown, and the steps to run.
fn parse(steps: &[Step], arguments: &[String]) -> Result<(bool, Vec<Step>), Error> {
    let (mut verbose, mut named) = (false, Vec::new());
    for argument in arguments {
        if argument == "-v" || argument == "--verbose" {
            verbose = true;
        } else if steps.iter().any(|(name, _)| name == argument) {
            named.push(argument);
        } else {
            let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
            return Err(Error::Usage(format!(
                "takes `-v` and steps, but got `{argument}`; the steps are: {}",
                names.join(", ")
            )));
        }
    }
    let wanted = |step: &&Step| named.is_empty() || named.iter().any(|name| *name == step.0);
    Ok((verbose, steps.iter().filter(wanted).copied().collect()))
}

/// A time as people read it: `4.2 s`, `12 min 03 s`.
struct Minutes(Duration);

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds < 60 {
            let text = format!("{:.1} s", self.0.as_secs_f32());
            f.pad(&text)
        } else {
            f.pad(&format!("{} min {:02} s", seconds / 60, seconds % 60))
        }
    }
}

/// What each step took, slowest first, and all of them.
fn table(mut times: Vec<(&str, Duration)>) -> String {
    times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    times.push(("all", times.iter().map(|(_, time)| *time).sum()));
    times.into_iter().map(|(name, time)| format!("{:>14}  {name}\n", Minutes(time))).collect()
}

/// What is kept from step to step.
pub(crate) struct Run {
    /// Where the steps' output is kept.
    pub(crate) logs: PathBuf,
    verbose: bool,
    /// What the steps have counted so far.
    pub(crate) count: Count,
}

impl Run {
    /// Runs cargo at the root, its output kept.
    pub(crate) fn cargo(&self, log: &str, arguments: &[&str]) -> Result<(), Error> {
        let mut cargo = cargo();
        self.logged(log, cargo.args(arguments), |_| true)
    }

    /// Runs tests and adds up what they say of themselves.
    pub(crate) fn counted(&mut self, log: &str, command: &mut Command) -> Result<(), Error> {
        let mut count = Count::default();
        let mut open_failure = false;
        let result = self.logged(log, command, |line| {
            count.add(line, &mut open_failure);
            !(line.starts_with("test ") && line.ends_with(" ... ok"))
        });
        self.count += count;
        result
    }

    /// Counts things that passed or failed, by their names; the names were told already.
    pub(crate) fn outcomes(&mut self, outcomes: &[(&str, bool)]) -> Result<(), Error> {
        let passed = outcomes.iter().filter(|(_, passed)| *passed).count() as u64;
        let failed = outcomes.len() as u64 - passed;
        self.count += Count { passed, failed, skipped: 0 };
        if failed == 0 { Ok(()) } else { Err(Error::Reported) }
    }

    /// Runs `command` with its output in the file `log`. `shown` sees every line, and says which of
    /// them are worth a reader's time when the command has failed.
    pub(crate) fn logged(
        &self,
        log: &str,
        command: &mut Command,
        mut shown: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let path = self.logs.join(format!("{log}.txt"));
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

/// Cargo at the root, without colours.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    // The count is read from what cargo prints.
    cargo.current_dir(shell::root()).env("CARGO_TERM_COLOR", "never");
    cargo
}

/// How many tests passed, failed and were not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
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

    #[test]
    fn steps_are_named_and_their_times_listed() {
        const STEPS: &[Step] = &[("first", |_| Ok(())), ("the second", |_| Ok(()))];
        let parse = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
            let (verbose, steps) = parse(STEPS, &arguments).ok()?;
            Some((verbose, steps.iter().map(|(name, _)| *name).collect::<Vec<_>>()))
        };
        assert_eq!(parse(&[]), Some((false, vec!["first", "the second"])));
        assert_eq!(parse(&["-v", "the second"]), Some((true, vec!["the second"])));
        assert_eq!(parse(&["second"]), None);
        let times = [("quick", 4_230), ("slow", 723_000)];
        let times = times.map(|(name, ms)| (name, Duration::from_millis(ms)));
        let lines = "   12 min 03 s  slow\n         4.2 s  quick\n   12 min 07 s  all\n";
        assert_eq!(table(times.to_vec()), lines);
    }
}
