//! `cargo xtask mutants [MODULE …] [--shard K/N] [-- ARGS]`: are the core's tests able to fail?
//!
//! cargo-mutants changes one operator, constant or function body at a time; a change that no test
//! notices is a test that is missing, or code that is not needed. The result is
//! `core-nostd/mutants.md`: the score of each module with the commit that it belongs to, and every
//! survivor with the reason why it may live.
//!
//! Rules:
//! - What is tested is the last commit, unpacked below `target/mutants` and changed there in place: an
//!   interrupted run leaves no mutant in anybody's sources, and what is built once serves all modules.
//! - Two rounds. First the module's own tests with few random cases, which catch nearly all, at about
//!   two seconds for each mutant; then those that survived meet all tests of the crate, with more
//!   cases. Both from a fixed seed, and no failing case is kept from one mutant to the next.
//! - The score is the share of viable mutants that a test caught, or made run into the time limit.
//!   What does not compile is not viable. Nothing is excluded: a mutant that no test can tell from the
//!   crate itself stands among the survivors, with that reason.
//! - Reasons are written into the table of survivors by hand, and are kept when it is written anew.
//! - Below [`SCORE_PER_MILLE_MIN`], over all modules of the table, the verb fails.
//!
//! `--shard K/N` takes every Nth mutant, counted from K; the table says so. What follows `--` goes to
//! cargo-mutants.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, Error, at, say};

mod table;

use table::{Row, Table};

/// The least score, in thousandths.
const SCORE_PER_MILLE_MIN: u64 = 850;
/// Where the core's sources are.
const SOURCES: &str = "core-nostd/src";
/// What is written.
const REPORT: &str = "core-nostd/mutants.md";

/// A round: the random cases of a property test, and whether only the module's own tests run.
const ROUNDS: [(&str, bool); 2] = [("16", true), ("64", false)];

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let wanted = Wanted::parse(arguments)?;
    let cargo_mutants = shell::cargo_tool("cargo-mutants")?;
    let all = modules()?;
    let chosen = if wanted.modules.is_empty() { all.clone() } else { wanted.modules.clone() };
    if let Some(unknown) = chosen.iter().find(|module| !all.contains(module)) {
        let all = all.join(", ");
        return Err(Error::Usage(format!("no module `{unknown}` in {SOURCES}; there are: {all}")));
    }

    let place = shell::target_dir().join("mutants");
    let tree = place.join("tree");
    let commit = unpack(&tree)?;
    let report = shell::root().join(REPORT);
    let mut table = Table::read(&fs::read_to_string(&report).unwrap_or_default());
    table.keep_modules(&all);
    for module in &chosen {
        let lab =
            Lab { cargo_mutants: &cargo_mutants, place: &place, tree: &tree, wanted: &wanted };
        let Some(outcomes) = lab.test(module)? else {
            say(&format!("{module}: nothing in it that could be changed"));
            continue;
        };
        let row = Row::new(&commit, wanted.shard.as_deref(), &outcomes);
        say(&format!("{module}: {row}"));
        table.put(module, row, &outcomes);
        // After each module: a run over all of them takes an hour or more.
        fs::write(&report, table.to_string()).map_err(at(&report))?;
    }
    let score = table.score_per_mille();
    say(&format!("{}.{} % of all viable mutants were caught: {REPORT}", score / 10, score % 10));
    if score >= SCORE_PER_MILLE_MIN { Ok(()) } else { Err(Error::Reported) }
}

/// What the arguments say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    modules: Vec<String>,
    shard: Option<String>,
    passed_on: Vec<String>,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self, Error> {
        let mut wanted = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--" => {
                    wanted.passed_on = arguments.cloned().collect();
                    break;
                }
                "--shard" => {
                    let shard = arguments.next().filter(|shard| is_shard(shard));
                    wanted.shard = Some(shard.cloned().ok_or_else(|| {
                        Error::Usage("--shard wants K/N, with K below N: 0/4".to_owned())
                    })?);
                }
                module => wanted.modules.push(module.to_owned()),
            }
        }
        Ok(wanted)
    }
}

fn is_shard(text: &str) -> bool {
    text.split_once('/').is_some_and(
        |(k, n)| matches!((k.parse::<u32>(), n.parse::<u32>()), (Ok(k), Ok(n)) if k < n),
    )
}

/// The modules at the top of the core, in the order of their names.
fn modules() -> Result<Vec<String>, Error> {
    let sources = shell::root().join(SOURCES);
    let mut modules = Vec::new();
    for entry in fs::read_dir(&sources).map_err(at(&sources))? {
        let path = entry.map_err(at(&sources))?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name != "lib" && !modules.contains(&name) {
            modules.push(name);
        }
    }
    modules.sort_unstable();
    Ok(modules)
}

/// Unpacks the last commit into `tree`, and names it.
pub(crate) fn unpack(tree: &Path) -> Result<String, Error> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(shell::root()).args(arguments);
        git
    };
    if !shell::output(&mut git(&["status", "--porcelain", SOURCES]))?.is_empty() {
        say("what is not committed takes no part: the last commit is tested");
    }
    let commit = shell::output(&mut git(&["log", "-1", "--format=%h (%cs)"]))?;
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(tree)(error)),
        _ => fs::create_dir_all(tree).map_err(at(tree))?,
    }
    let mut archive = git(&["archive", "HEAD"]);
    archive.stdout(Stdio::piped());
    let mut archiving = archive.spawn().map_err(|source| shell::start_error(&archive, source))?;
    let mut tar = Command::new("tar");
    // The files are new to cargo, whatever the date of the commit is.
    tar.args(["--extract", "--touch", "--directory"]).arg(tree);
    if let Some(archived) = archiving.stdout.take() {
        tar.stdin(archived);
    }
    shell::run(&mut tar)?;
    let status = archiving.wait().map_err(at(tree))?;
    if status.success() { Ok(commit) } else { Err(shell::failed(&archive, status)) }
}

/// What became of each mutant.
type Outcomes = BTreeMap<String, Summary>;

/// What became of one mutant: the words of cargo-mutants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
enum Summary {
    /// The tree without a mutant.
    Success,
    /// A test failed.
    CaughtMutant,
    /// No test failed.
    MissedMutant,
    /// It does not compile.
    Unviable,
    /// A test ran into the time limit.
    Timeout,
    /// The tree without a mutant fails; cargo-mutants stops then.
    Failure,
}

/// Where mutants are tested.
struct Lab<'a> {
    cargo_mutants: &'a Path,
    place: &'a Path,
    tree: &'a Path,
    wanted: &'a Wanted,
}

impl Lab<'_> {
    /// Both rounds of one module; nothing, if it has no mutant.
    fn test(&self, module: &str) -> Result<Option<Outcomes>, Error> {
        let results = self.place.join(module);
        // The second round begins with what the first one left; the first with nothing.
        let _ = fs::remove_dir_all(results.join("mutants.out"));
        fs::create_dir_all(&results).map_err(at(&results))?;
        let mut outcomes = Outcomes::new();
        for (round, (cases, own)) in ROUNDS.into_iter().enumerate() {
            let mut command = self.command(module, cases, &results);
            if round > 0 {
                command.arg("--iterate");
            }
            command.args(&self.wanted.passed_on);
            if own {
                command.args(["--", &format!("{module}::")]);
            }
            say(&format!("{module}, round {}", round + 1));
            let status = command.status().map_err(|source| shell::start_error(&command, source))?;
            // 2 and 3 say that mutants were missed or timed out.
            if !matches!(status.code(), Some(0 | 2 | 3)) {
                return Err(shell::failed(&command, status));
            }
            let Some(found) = read_outcomes(&results.join("mutants.out/outcomes.json"))? else {
                break;
            };
            outcomes.extend(found);
            if !outcomes.values().any(|summary| *summary == Summary::MissedMutant) {
                break;
            }
        }
        Ok((!outcomes.is_empty()).then_some(outcomes))
    }

    fn command(&self, module: &str, cases: &str, results: &Path) -> Command {
        let mut command = Command::new(self.cargo_mutants);
        command
            .current_dir(self.tree)
            .env("CARGO_TARGET_DIR", self.place.join("built"))
            .env("CARGO_TERM_COLOR", "never")
            // Compiling is most of the time.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("PROPTEST_CASES", cases)
            .env("PROPTEST_RNG_SEED", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .args(["mutants", "--in-place", "--package", "duende-core", "--colors", "never"])
            .args(["--file", &format!("{SOURCES}/{module}.rs")])
            .args(["--file", &format!("{SOURCES}/{module}/**")])
            // The library's tests alone: else it is compiled once more for the others.
            .arg("--cargo-arg=--lib")
            .args(["--timeout-multiplier", "5", "--minimum-test-timeout", "30"])
            .arg("--output")
            .arg(results);
        if let Some(shard) = &self.wanted.shard {
            command.args(["--shard", shard, "--sharding", "round-robin"]);
        }
        command
    }
}

/// What cargo-mutants wrote: nothing, if there was no mutant.
fn read_outcomes(path: &PathBuf) -> Result<Option<Outcomes>, Error> {
    #[derive(serde::Deserialize)]
    struct File {
        outcomes: Vec<Outcome>,
    }
    #[derive(serde::Deserialize)]
    struct Outcome {
        scenario: Scenario,
        summary: Summary,
    }
    #[derive(serde::Deserialize)]
    enum Scenario {
        Baseline,
        Mutant { name: String },
    }
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let file: File =
        serde_json::from_slice(&text).map_err(|error| at(path)(std::io::Error::other(error)))?;
    let mutants = file.outcomes.into_iter().filter_map(|outcome| match outcome.scenario {
        Scenario::Baseline => None,
        Scenario::Mutant { name } => Some((name, outcome.summary)),
    });
    Ok(Some(mutants.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(arguments: &[&str]) -> Option<Wanted> {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Wanted::parse(&arguments).ok()
    }

    #[test]
    fn arguments_are_modules_a_shard_and_what_is_passed_on() {
        assert_eq!(wanted(&[]), Some(Wanted::default()));
        let parsed = wanted(&["caps", "--shard", "1/3", "bus", "--", "--list"]).unwrap();
        assert_eq!(parsed.modules, ["caps", "bus"]);
        assert_eq!(parsed.shard.as_deref(), Some("1/3"));
        assert_eq!(parsed.passed_on, ["--list"]);
        for bad in ["3/3", "1", "/2", "x/2"] {
            assert_eq!(wanted(&["--shard", bad]), None);
        }
        assert_eq!(wanted(&["--shard"]), None);
    }
}
