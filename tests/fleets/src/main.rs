//! `duende-fleets`: plays fleets from a seed. Started by `cargo xtask sim fleets`.

use std::process::ExitCode;
use std::time::Instant;

use duende_fleets::run::{Failure, play_and_tell, run};

const HELP: &str = "\
usage: cargo xtask sim fleets [--seed N] [--events M]
       cargo xtask sim fleets --replay NUMBER …
  --seed N    the first seed; without it a fresh one is drawn and printed
  --events M  at least so many events (1000000)
  --replay …  tell and judge this history, as a failure printed it";

fn main() -> ExitCode {
    match arguments() {
        Ok(Asked::Run { seed, events }) => simulate(seed, events),
        Ok(Asked::Replay(history)) => match play_and_tell(&history, true) {
            Ok(events) => {
                println!("fleets: {events} events, and all is well");
                ExitCode::SUCCESS
            }
            Err(fault) => {
                println!("fleets: {fault}");
                ExitCode::FAILURE
            }
        },
        Err(text) => {
            eprintln!("fleets: {text}");
            ExitCode::from(2)
        }
    }
}

enum Asked {
    Run { seed: u64, events: u64 },
    Replay(Vec<u64>),
}

fn arguments() -> Result<Asked, String> {
    let (mut seed, mut events) = (fresh_seed(), 1_000_000);
    let mut given = std::env::args().skip(1);
    let number =
        |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}\n{HELP}"));
    while let Some(flag) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{flag} needs a value\n{HELP}"));
        match flag.as_str() {
            "--seed" => seed = number(&value()?)?,
            "--events" => events = number(&value()?)?,
            "--replay" => {
                return given
                    .map(|text| number(&text))
                    .collect::<Result<_, _>>()
                    .map(Asked::Replay);
            }
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(Asked::Run { seed, events })
}

/// Another one each time, from what the system gives every process.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 16
}

fn simulate(seed: u64, events: u64) -> ExitCode {
    println!("fleets: seed {seed}");
    let begun = Instant::now();
    match run(seed, events) {
        Ok(played) => {
            let seconds = begun.elapsed().as_secs_f64();
            println!(
                "fleets: {} events in {} histories, {seconds:.1} s, and all is well",
                played.events, played.histories
            );
            ExitCode::SUCCESS
        }
        Err(Failure { history, fault }) => {
            println!("fleets: {fault}");
            let numbers: Vec<_> = history.iter().map(u64::to_string).collect();
            println!("fleets: {} steps: --replay {}", history.len() - 1, numbers.join(" "));
            ExitCode::FAILURE
        }
    }
}
