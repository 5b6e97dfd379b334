//! `cargo xtask mutants [ROOM …] [--shard K/N] [-- ARGS]`: are the tests able to fail?
//!
//! cargo-mutants changes one operator, constant or function body at a time; a change that no test
//! notices is a test that is missing, or code that is not needed. A room is a module of the core, or one
//! of the manager's [`HOST_ROOMS`]; without a name, all modules of the core. The result is a report for
//! each crate, `core-nostd/mutants.md` and `host/mutants.md`: the score of each room with the commit that
//! it belongs to, and every survivor with the reason why it may live.
//!
//! Rules:
//! - What is tested is the last commit, unpacked below `target/mutants` and changed there in place: an
//!   interrupted run leaves no mutant in anybody's sources, and what is built once serves all rooms.
//! - Two rounds. First the room's own tests, which catch most, in seconds for each mutant; then those that
//!   survived meet a dearer judge. Of the core that is all tests of the crate, with more random cases; of
//!   the manager's machine the simulator of fleets; of `keep` the suite that every place passes, through
//!   the real program. All from a fixed seed, and no failing case is kept from one mutant to the next.
//! - The score is the share of viable mutants that a test caught, or made run into the time limit.
//!   What does not compile is not viable. Nothing is excluded: a mutant that no test can tell from the
//!   crate itself stands among the survivors, with that reason.
//! - Reasons are written into the table of survivors by hand, and are kept when it is written anew.
//! - Below [`SCORE_PER_MILLE_MIN`], over all rooms of a report, the verb fails.
//!
//! `--shard K/N` takes every Nth mutant, counted from K; the table says so. What follows `--` goes to
//! cargo-mutants.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, Error, at, say};

mod table;

use table::{Row, Table};

/// The least score, in thousandths.
const SCORE_PER_MILLE_MIN: u64 = 850;

/// A crate, with a report of its own.
#[derive(Debug, PartialEq, Eq)]
struct Crate {
    package: &'static str,
    /// Where its sources are: what the names of its mutants leave out.
    sources: &'static str,
    /// What is written.
    report: &'static str,
}

const CORE: Crate =
    Crate { package: "duende-core", sources: "core-nostd/src", report: "core-nostd/mutants.md" };
const HOST: Crate = Crate { package: "duende", sources: "host/src", report: "host/mutants.md" };

/// What is changed, and who judges.
#[derive(Debug)]
struct Room {
    of: &'static Crate,
    name: String,
    /// Below the crate's sources.
    files: Vec<String>,
    rounds: [Round; 2],
    /// With which arguments the programs are built that its judges start.
    programs: &'static [&'static str],
}

/// A judge of mutants.
#[derive(Clone, Debug)]
struct Round {
    /// The random cases of a property test.
    cases: &'static str,
    /// What cargo-mutants is told: whose tests, and with which features.
    tests: &'static [&'static str],
    /// Of those, the tests of this name; all without one.
    only: Option<String>,
}

/// Rooms of the manager: their names, their files, the two rounds with the name of the first one's tests, and
/// the programs.
type HostRoom = (
    &'static str,
    &'static [&'static str],
    [&'static [&'static str]; 2],
    &'static str,
    &'static [&'static str],
);

/// The library's tests alone: else it is compiled once more for the others.
const LIBRARY: &str = "--cargo-arg=--lib";
/// What every build of the workspace has.
const FALSIFICATION: &str = "--features=duende-tests/falsification";
const HOST_ROOMS: [HostRoom; 2] = [
    (
        "manager/decide",
        &["manager/decide/**", "manager/turn.rs"],
        // Without an engine and without a disk, which the machine does not know.
        [
            &["--no-default-features", "--features=duende/formats", LIBRARY],
            &[
                "--no-default-features",
                "--features=duende/formats",
                "--cargo-arg=--package=duende-fleets",
                "--cargo-arg=--test=seeded",
            ],
        ],
        "manager::",
        &[],
    ),
    (
        "keep",
        &["keep/**"],
        // Of the whole workspace, with the features that every build of it has: both rounds share what they
        // are built from, the engine above all.
        [
            &["--cargo-arg=--workspace", FALSIFICATION, LIBRARY],
            &[
                "--cargo-arg=--workspace",
                FALSIFICATION,
                "--cargo-arg=--test=conformance",
                // A test of the package whose program it is: cargo builds that for it.
                "--cargo-arg=--test=image_cache",
            ],
        ],
        "keep::",
        &["--workspace", FALSIFICATION],
    ),
];

impl Room {
    fn of_core(module: &str) -> Self {
        Self {
            of: &CORE,
            name: module.to_owned(),
            files: vec![format!("{module}.rs"), format!("{module}/**")],
            rounds: [
                Round { cases: "16", tests: &[LIBRARY], only: Some(format!("{module}::")) },
                Round { cases: "64", tests: &[LIBRARY], only: None },
            ],
            programs: &[],
        }
    }

    fn of_host((name, files, [own, judge], only, programs): HostRoom) -> Self {
        Self {
            of: &HOST,
            name: name.to_owned(),
            files: files.iter().map(|&file| file.to_owned()).collect(),
            rounds: [
                Round { cases: "16", tests: own, only: Some(only.to_owned()) },
                Round { cases: "64", tests: judge, only: None },
            ],
            programs,
        }
    }
}

/// The verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let wanted = Wanted::parse(arguments)?;
    let cargo_mutants = shell::cargo_tool("cargo-mutants")?;
    let modules = modules()?;
    let mut rooms: Vec<Room> = modules.iter().map(|module| Room::of_core(module)).collect();
    if !wanted.rooms.is_empty() {
        rooms.extend(HOST_ROOMS.map(Room::of_host));
        let is_unknown = |name: &&String| !rooms.iter().any(|room| room.name == **name);
        if let Some(unknown) = wanted.rooms.iter().find(is_unknown) {
            let all: Vec<&str> = rooms.iter().map(|room| room.name.as_str()).collect();
            let all = all.join(", ");
            return Err(Error::Usage(format!("no room `{unknown}`; there are: {all}")));
        }
        rooms.retain(|room| wanted.rooms.contains(&room.name));
    }

    let place = shell::target_dir().join("mutants");
    let tree = place.join("tree");
    let commit = unpack(&tree)?;
    link_artifacts(&tree)?;
    let mut is_enough = true;
    for of in [&CORE, &HOST] {
        let rooms: Vec<&Room> = rooms.iter().filter(|room| room.of == of).collect();
        if rooms.is_empty() {
            continue;
        }
        let report = shell::root().join(of.report);
        let mut table = Table::read(of, &fs::read_to_string(&report).unwrap_or_default());
        if *of == CORE {
            table.keep_rooms(&modules);
        } else {
            table.keep_rooms(&HOST_ROOMS.map(|(name, ..)| name.to_owned()));
        }
        for room in rooms {
            let lab =
                Lab { cargo_mutants: &cargo_mutants, place: &place, tree: &tree, wanted: &wanted };
            let name = &room.name;
            let Some(outcomes) = lab.test(room)? else {
                say(&format!("{name}: nothing in it that could be changed"));
                continue;
            };
            let row = Row::new(&commit, wanted.shard.as_deref(), &outcomes);
            say(&format!("{name}: {row}"));
            table.put(name, row, &outcomes);
            // After each room: a run over all of them takes an hour or more.
            fs::write(&report, table.to_string()).map_err(at(&report))?;
        }
        let score = table.score_per_mille();
        let (whole, tenth, report) = (score / 10, score % 10, of.report);
        say(&format!("{whole}.{tenth} % of all viable mutants were caught: {report}"));
        is_enough &= score >= SCORE_PER_MILLE_MIN;
    }
    if is_enough { Ok(()) } else { Err(Error::Reported) }
}

/// What the arguments say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    rooms: Vec<String>,
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
                room => wanted.rooms.push(room.to_owned()),
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
    let sources = shell::root().join(CORE.sources);
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
    let changed = shell::output(&mut git(&["status", "--porcelain", CORE.sources, HOST.sources]))?;
    if !changed.is_empty() {
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

/// Components are what they are in the repository: none of them is changed, and tests start them.
fn link_artifacts(tree: &Path) -> Result<(), Error> {
    let link = tree.join("artifacts");
    std::os::unix::fs::symlink(shell::root().join("artifacts"), &link).map_err(at(&link))
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
    /// Both rounds of one room; nothing, if it has no mutant.
    fn test(&self, room: &Room) -> Result<Option<Outcomes>, Error> {
        let results = self.place.join(&room.name);
        let _ = fs::remove_dir_all(results.join("mutants.out"));
        fs::create_dir_all(&results).map_err(at(&results))?;
        if !room.programs.is_empty() {
            shell::run(self.building("cargo").arg("build").args(room.programs))?;
        }
        let mut outcomes = Outcomes::new();
        for (number, round) in room.rounds.iter().enumerate() {
            let mut command = self.command(room, round, &results);
            // By their names: a share of what is left would be another share.
            let missed = outcomes.iter().filter(|(_, summary)| **summary == Summary::MissedMutant);
            for (name, _) in missed {
                command.args(["--re", &format!("^{}$", literal(name))]);
            }
            if let (0, Some(shard)) = (number, &self.wanted.shard) {
                command.args(["--shard", shard, "--sharding", "round-robin"]);
            }
            command.args(&self.wanted.passed_on);
            if let Some(only) = &round.only {
                command.args(["--", only]);
            }
            say(&format!("{}, round {}", room.name, number + 1));
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

    /// A command that builds in the tree, each time the same way.
    fn building(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.tree)
            .env("CARGO_TARGET_DIR", self.place.join("built"))
            .env("CARGO_TERM_COLOR", "never")
            // Compiling is most of the time.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        command
    }

    fn command(&self, room: &Room, round: &Round, results: &Path) -> Command {
        let mut command = self.building(self.cargo_mutants);
        command
            .env("PROPTEST_CASES", round.cases)
            .env("PROPTEST_RNG_SEED", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .args(["mutants", "--in-place", "--package", room.of.package, "--colors", "never"])
            .args(["--timeout-multiplier", "3", "--minimum-test-timeout", "30"])
            .args(round.tests)
            .arg("--output")
            .arg(results);
        for file in &room.files {
            command.args(["--file", &format!("{}/{file}", room.of.sources)]);
        }
        command
    }
}

/// A regular expression that is this text.
fn literal(text: &str) -> String {
    let mut pattern = String::new();
    for character in text.chars() {
        // Of what has no meaning, a backslash can give it one: `\<` is the begin of a word.
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
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
    fn the_name_of_a_mutant_is_taken_as_it_is() {
        let name = "host/src/a.rs:1:2: replace || with && in <impl A for B<'_>>::c -> Option<u8>";
        let escaped = literal(name);
        assert!(
            escaped.starts_with(r"host/src/a\.rs:1:2: replace \|\| with && in <impl A"),
            "{escaped}"
        );
        assert_eq!(escaped.replace('\\', ""), name);
    }

    #[test]
    fn arguments_are_rooms_a_shard_and_what_is_passed_on() {
        assert_eq!(wanted(&[]), Some(Wanted::default()));
        let parsed = wanted(&["caps", "--shard", "1/3", "bus", "--", "--list"]).unwrap();
        assert_eq!(parsed.rooms, ["caps", "bus"]);
        assert_eq!(parsed.shard.as_deref(), Some("1/3"));
        assert_eq!(parsed.passed_on, ["--list"]);
        for bad in ["3/3", "1", "/2", "x/2"] {
            assert_eq!(wanted(&["--shard", bad]), None);
        }
        assert_eq!(wanted(&["--shard"]), None);
    }
}
