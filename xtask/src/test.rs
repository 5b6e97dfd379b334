//! `cargo xtask test`: everything that must hold before a change lands.
//!
//! Rules, beside those of [`steps`]:
//! - Cheap steps come first.
//! - Dependencies are compiled twice in all, once to check and once to run: every step asks for the
//!   same packages with the same features and profile, so that it finds what an earlier one built.
//! - What is too slow for every change is in `cargo xtask nightly`.

use crate::shell::{Error, say};
use crate::steps::{self, Run, Step, cargo};
use crate::wasm::{self, THUMBV7EM, Toolchain, WASM32};
use crate::{deny, firmware, fuzz, guests, setup};

const STEPS: &[Step] = &[
    ("format", |run| run.cargo("format", &["fmt", "--all", "--check", "--", "-l"])),
    ("dependencies", dependencies),
    ("set-up", |_| setup::run(&[])),
    ("guests", |_| guests::build().map(drop)),
    ("firmware", images),
    // Also every program that a test starts.
    ("build", |run| run.cargo("build", &[&["build"], EVERYTHING, &["--all-targets"]].concat())),
    ("clippy", |run| {
        let warnings = ["--all-targets", "--", "-D", "warnings"];
        run.cargo("clippy", &[&["clippy"], EVERYTHING, &warnings].concat())?;
        // A test that is run by `nightly` alone is none of all targets.
        let nightly = ["--test", "languages", "--", "-D", "warnings"];
        run.cargo("clippy-nightly", &[&["clippy"], EVERYTHING, &nightly].concat())?;
        // Without the manager's features, whatever only it uses is dead.
        let alone = ["clippy", "-p", "duende-fleets", "--", "-D", "warnings"];
        run.cargo("clippy-formats", &alone)
    }),
    ("clippy of guests", |_| guests::clippy().and_then(|()| firmware::clippy())),
    ("tests", tests),
    ("simulator", simulator),
    ("simulator finds planted bugs", planted),
    ("fleets", fleets),
    ("fleets find planted bugs", planted_in_fleets),
    ("sources", sources),
    ("sources find planted bugs", planted_in_sources),
    ("fuzz targets", fuzz_targets),
    // Alone, a package has only the features that it asks for itself.
    ("core alone", |run| run.cargo("core", &["build", "-p", "duende-core"])),
    ("daemons' trait alone", |run| run.cargo("daemon", &["build", "-p", "duende-daemon"])),
    ("core for wasm32", |_| wasm::check_core(WASM32)),
    ("core for thumbv7em", |_| wasm::check_core(THUMBV7EM)),
    ("kernel without an engine", kernel),
    ("documentation", documentation),
];

/// What is built, linted and tested: the slow tests too. Always the same, see above.
pub(crate) const EVERYTHING: &[&str] = &["--workspace", "--features", "duende-tests/falsification"];

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    steps::run("test", STEPS, arguments)
}

/// All unit, integration and documentation tests.
fn tests(run: &mut Run) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.arg("test").args(EVERYTHING).arg("--no-fail-fast");
    run.counted("tests", &mut cargo)
}

/// Steps of each of the simulator's two runs.
const SIMULATOR_STEPS: &str = "5000000";

/// Two runs of the simulator: one of a seed that is always the same, and one of a seed that nobody has seen.
/// Each counts as one test.
fn simulator(run: &mut Run) -> Result<(), Error> {
    simulate(run, "simulator-fixed", &["--seed", "1", "--steps", SIMULATOR_STEPS])?;
    simulate(run, "simulator-fresh", &["--steps", SIMULATOR_STEPS])
}

/// A run of the simulator, in release.
pub(crate) fn simulate(run: &mut Run, log: &str, arguments: &[&str]) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--release", "-p", "duende-sim", "--"]).args(arguments);
    cargo.arg("--failed").arg(run.logs.join(format!("{log}.trace")));
    run.logged(log, &mut cargo, |line| {
        if line.starts_with("sim: seed ") || line.contains(" steps a second") {
            say(line);
        }
        true
    })?;
    run.count.passed += 1;
    Ok(())
}

/// Events of each of the two runs of the simulator of fleets.
const FLEET_EVENTS: &str = "1000000";

/// Whole fleets under the manager's machine: of a seed that is always the same, and of a fresh one.
fn fleets(run: &mut Run) -> Result<(), Error> {
    for (log, seed) in [("fleets-fixed", &["--seed", "1"][..]), ("fleets-fresh", &[][..])] {
        let mut cargo = cargo();
        cargo.args(["run", "--quiet", "--release", "-p", "duende-fleets", "--"]).args(seed);
        cargo.args(["--events", FLEET_EVENTS]);
        run.logged(log, &mut cargo, |line| {
            if line.starts_with("fleets: ") {
                say(line);
            }
            true
        })?;
        run.count.passed += 1;
    }
    Ok(())
}

/// The manager's machine with its planted bugs: the simulator of fleets finds each of them.
fn planted_in_fleets(run: &mut Run) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.args(["test", "--release", "-p", "duende-fleets", "--features", "planted"]);
    cargo.args(["--test", "planted", "--", "--nocapture"]);
    run.counted("planted-in-fleets", &mut cargo)
}

/// Schedules of the model of followed logs, of a seed that is always the same; nightly takes fresh ones.
const SOURCE_SCHEDULES: &[&str] = &["--seed", "1", "--histories", "50000"];

/// Followed logs through every rotation and fault.
fn sources(run: &mut Run) -> Result<(), Error> {
    simulate_sources(run, SOURCE_SCHEDULES)
}

/// The same with other arguments.
pub(crate) fn simulate_sources(run: &mut Run, arguments: &[&str]) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--release", "-p", "duende-sources", "--"]).args(arguments);
    run.logged("sources", &mut cargo, |line| {
        if line.starts_with("sources: ") {
            say(line);
        }
        true
    })?;
    run.count.passed += 1;
    Ok(())
}

/// What follows a log with its planted bugs: the model finds each of them.
fn planted_in_sources(run: &mut Run) -> Result<(), Error> {
    let mut cargo = cargo();
    cargo.args(["test", "--release", "-p", "duende-sources", "--features", "planted"]);
    cargo.args(["--test", "planted", "--", "--nocapture"]);
    run.counted("planted-in-sources", &mut cargo)
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
    let results = fuzz::smoke(&run.logs)?;
    run.outcomes(&results)
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
fn dependencies(run: &mut Run) -> Result<(), Error> {
    deny::check()?;
    run.count.passed += 1;
    Ok(())
}
