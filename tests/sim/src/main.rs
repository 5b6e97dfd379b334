//! `duende-sim`: runs, replays and records. Started by `cargo xtask sim`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use duende_sim::run::{judge, run};
use duende_sim::shrink::shrink;
use duende_sim::trace;

const HELP: &str = "\
usage: cargo xtask sim [--seed N] [--steps M] [--record FILE] [--failed FILE]
       cargo xtask sim --replay FILE
  --seed N       the run's seed; without it a fresh one is drawn and printed
  --steps M      at least so many steps (1000000)
  --record FILE  write every step there: a trace for other targets to replay
  --failed FILE  where the shortest failing run is written (target/sim-failed.trace)
  --replay FILE  judge the steps of that file instead of making some";

/// How many runs shortening may take.
const SHRINK_RUNS: u32 = 20_000;

struct Arguments {
    seed: u64,
    steps: u64,
    record: Option<PathBuf>,
    replay: Option<PathBuf>,
    failed: PathBuf,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| match &arguments.replay {
        Some(file) => replay(file),
        None => simulate(&arguments),
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("sim: {text}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seed: fresh_seed(),
        steps: 1_000_000,
        record: None,
        replay: None,
        failed: built().join("sim-failed.trace"),
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        if matches!(flag.as_str(), "--help" | "-h") {
            return Err(HELP.to_owned());
        }
        let mut value = || given.next().ok_or_else(|| format!("{flag} needs a value\n{HELP}"));
        let number =
            |text: String| text.parse::<u64>().map_err(|error| format!("{flag} {text}: {error}"));
        match flag.as_str() {
            "--seed" => arguments.seed = number(value()?)?,
            "--steps" => arguments.steps = number(value()?)?,
            "--record" => arguments.record = Some(value()?.into()),
            "--replay" => arguments.replay = Some(value()?.into()),
            "--failed" => arguments.failed = value()?.into(),
            _ => return Err(format!("there is no {flag}\n{HELP}")),
        }
    }
    Ok(arguments)
}

/// The folder of what is built, `target`: this program lies in `target/release`.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
}

/// Another one each time, from what the system gives every process.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 16
}

fn simulate(arguments: &Arguments) -> Result<bool, String> {
    let Arguments { seed, steps, .. } = *arguments;
    println!("sim: seed {seed}, {steps} steps");
    let recorder = arguments.record.as_ref().map(|path| trace::Recorder::create(path));
    let mut recorder = recorder.transpose().map_err(|error| format!("--record: {error}"))?;
    let begun = Instant::now();
    let outcome = run(seed, steps, &mut |step| {
        if let Some(recorder) = &mut recorder {
            recorder.step(step);
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(recorder) = recorder {
        recorder.finish().map_err(|error| format!("--record: {error}"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let (per_second, us) = {
        let steps = outcome.steps as f64;
        (steps / seconds, seconds / steps * 1e6)
    };
    println!(
        "sim: {} steps in {} worlds, {seconds:.1} s, {per_second:.0} steps a second, {us:.2} us each",
        outcome.steps, outcome.worlds
    );
    println!("sim: effect hash {:016x}", outcome.hash);
    let Some((failure, steps)) = outcome.failed else { return Ok(true) };
    println!("sim: FAILED in world {} at its step {}: {failure}", outcome.worlds, steps.len());
    println!("sim: again with: cargo xtask sim --seed {seed} --steps {}", outcome.steps);
    let short = shrink(steps, &failure, SHRINK_RUNS);
    let path = &arguments.failed;
    trace::write(path, &short).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("sim: shortened to {} steps, in {}:", short.len(), path.display());
    for step in &short {
        println!("  {step:?}");
    }
    if let Err(failure) = judge(&short) {
        println!("sim: they end with {failure}");
    }
    println!("sim: again with: cargo xtask sim --replay {}", path.display());
    Ok(false)
}

fn replay(path: &std::path::Path) -> Result<bool, String> {
    let steps = trace::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match judge(&steps) {
        Ok(hash) => {
            println!("sim: {} steps, effect hash {hash:016x}: nothing failed", steps.len());
            Ok(true)
        }
        Err(failure) => {
            println!("sim: {} steps: FAILED: {failure}", steps.len());
            Ok(false)
        }
    }
}
