//! `cargo xtask nightly`: what is too slow for every change: long fuzz, soaks, two builds.
//!
//! A row of [`STEPS`] is all that it takes to add something. What must hold before a change lands is in
//! `cargo xtask test`; this finds, over night, what that is too short for. The fuzz targets alone take three
//! hours on two processors; the steps can be run one by one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{self, Error, at, say};
use crate::steps::{self, Run, Step, cargo};
use crate::{fuzz, guests, languages as compilers, mutants, test};

const STEPS: &[Step] = &[
    ("cargo-deny", |run| cargo_deny(run, &["bans", "licenses", "sources"])),
    ("advisories", |run| cargo_deny(run, &["advisories"])),
    ("two builds", two_builds),
    // What the soaks start.
    ("build", |run| {
        guests::build()?;
        run.cargo("build", &[&["build"], test::EVERYTHING, &["--all-targets"]].concat())
    }),
    // Twenty kills a round, and in the next row twenty at least.
    ("store killed 1,000 times", |run| {
        let rounds = Rounds { log: "store", target: "--lib", count: 50 };
        rounds.run(run, "store::crash_tests::kill_at_any_instant_leaves_whole_slices")
    }),
    ("sentinels killed 1,000 times", |run| {
        let rounds = Rounds { log: "sentinels", target: "--test=behaviour", count: 50 };
        rounds.run(run, "lines_are_counted_once_over_kills_and_rotations")
    }),
    ("languages", languages),
    ("properties of the core", properties),
    ("simulator", |run| test::simulate(run, "simulator", &["--steps", SIMULATOR_STEPS])),
    ("sources", |run| test::simulate_sources(run, &["--histories", SOURCE_SCHEDULES])),
    ("fuzz targets", |run| {
        let results = fuzz::all(FUZZ_SECONDS, &run.logs)?;
        run.outcomes(&results)
    }),
];

/// Schedules of followed logs, of a seed that nobody has seen.
const SOURCE_SCHEDULES: &str = "500000";
/// Steps of the simulator, of a seed that nobody has seen.
const SIMULATOR_STEPS: &str = "100000000";
/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 3_600;
/// Random cases of each property; `cargo test` takes 256.
const PROPERTY_CASES: &str = "10000";

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    steps::run("nightly", STEPS, arguments)
}

/// cargo-deny itself: what `cargo xtask test` finds without it, it must find too; and what is known against
/// a dependency, by a database that it fetches from its server.
fn cargo_deny(run: &mut Run, checks: &[&str]) -> Result<(), Error> {
    let mut deny = Command::new(shell::cargo_tool("cargo-deny")?);
    deny.current_dir(shell::root()).args(["--color", "never", "check"]).args(checks);
    run.logged(&format!("cargo-deny-{}", checks.join("-")), &mut deny, |_| true)?;
    run.count.passed += 1;
    Ok(())
}

/// The last commit, built in two folders that share nothing, down to the compiler that each fetches: what
/// is shipped must be the same, byte for byte. Each file counts as a test.
fn two_builds(run: &mut Run) -> Result<(), Error> {
    let place = shell::target_dir().join("nightly");
    let mut builds = Vec::new();
    // Paths of another length, so that one that stayed in a file moves all that follows.
    for name in ["one", "the/other/one"] {
        let tree = place.join(name);
        let commit = mutants::unpack(&tree)?;
        say(&format!("building {commit} in {}", tree.display()));
        for verb in ["guests", "firmware"] {
            let mut cargo = cargo();
            cargo.current_dir(&tree).env_remove("CARGO_TARGET_DIR").args(["xtask", verb]);
            let log = format!("two-builds-{verb}-{}", builds.len());
            run.logged(&log, &mut cargo, |_| true)?;
        }
        builds.push(files(&tree.join("artifacts"))?);
        fs::remove_dir_all(&tree).map_err(at(&tree))?;
    }
    let [one, other] = &builds[..] else { return Err(Error::Reported) };
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    let outcomes: Vec<_> = names
        .map(|name| {
            let same = one.get(name) == other.get(name);
            say(&format!("{name}: {}", if same { "the same" } else { "DIFFERS" }));
            (name.as_str(), same)
        })
        .collect();
    run.outcomes(&outcomes)
}

/// The files of a folder, by their names.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read(&path).map_err(at(&path))?);
    }
    if files.is_empty() {
        return Err(Error::Unproved(format!("nothing was built into {}", folder.display())));
    }
    Ok(files)
}

/// Every property of the core's machines with many more random cases.
fn properties(run: &mut Run) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.env("PROPTEST_CASES", PROPERTY_CASES);
    cargo.args(["test", "--release", "-p", "duende-core", "--lib", "--tests"]);
    run.counted("properties", &mut cargo)
}

/// Components of five languages, from their compilers to a fleet that is killed again and again; what each costs
/// is in the log.
fn languages(run: &mut Run) -> Result<(), Error> {
    compilers::build()?;
    let mut cargo = cargo();
    cargo.arg("test").args(test::EVERYTHING);
    cargo.args(["--test", "languages", "--", "--nocapture", "--test-threads", "1"]);
    run.counted("languages", &mut cargo)
}

/// One test that kills real processes at random instants, again and again; each time counts.
struct Rounds {
    log: &'static str,
    /// As cargo is to be asked for where the test is.
    target: &'static str,
    count: u32,
}

impl Rounds {
    /// Ends with the first failure, whose output is kept.
    fn run(&self, run: &mut Run, test: &str) -> Result<(), Error> {
        for round in 1..=self.count {
            let before = run.count.passed;
            let mut cargo = cargo();
            // In the whole workspace, as everything was built: nothing is built again.
            cargo.arg("test").args(test::EVERYTHING).args([self.target, "--", "--exact", test]);
            run.counted(self.log, &mut cargo)?;
            if run.count.passed == before {
                let what = format!("round {round} ran nothing: is there still a test `{test}`?");
                return Err(Error::Unproved(what));
            }
        }
        Ok(())
    }
}
