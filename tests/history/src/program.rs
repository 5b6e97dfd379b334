//! The command line of a simulator: from a seed, a given one or a fresh one, or one history again.

use std::{process::ExitCode, time::Instant};

use super::{Failure, Fault};

/// A simulator.
pub struct Program {
    /// Its name, which its lines begin with, and that of its verb of `cargo xtask sim`.
    pub name: &'static str,
    /// What one step of a history is called, in the plural.
    pub steps: &'static str,
    /// The flag that says how much is played.
    pub amount_flag: &'static str,
    /// What that is, for `--help`.
    pub amount_help: &'static str,
    /// How much without it.
    pub amount: u64,
    /// Plays so much, from a seed on; says what was played.
    pub run: fn(u64, u64) -> Result<String, Failure>,
    /// Plays one history and tells it; says how many steps it had.
    pub replay: fn(&[u64]) -> Result<u64, Fault>,
}

enum Asked {
    Run { seed: u64, amount: u64 },
    Replay(Vec<u64>),
}

impl Program {
    /// The whole of `main`.
    #[must_use]
    pub fn main(&self) -> ExitCode {
        match self.arguments() {
            Ok(Asked::Run { seed, amount }) => self.simulate(seed, amount),
            Ok(Asked::Replay(history)) => match (self.replay)(&history) {
                Ok(count) => {
                    println!("{}: {count} {}, and all is well", self.name, self.steps);
                    ExitCode::SUCCESS
                }
                Err(fault) => {
                    println!("{}: {fault}", self.name);
                    ExitCode::FAILURE
                }
            },
            Err(text) => {
                eprintln!("{}: {text}", self.name);
                ExitCode::from(2)
            }
        }
    }

    fn arguments(&self) -> Result<Asked, String> {
        let (mut seed, mut amount) = (fresh_seed(), self.amount);
        let mut given = std::env::args().skip(1);
        let number = |text: &str| {
            text.parse::<u64>().map_err(|error| format!("{text}: {error}\n{}", self.help()))
        };
        while let Some(flag) = given.next() {
            let mut value =
                || given.next().ok_or_else(|| format!("{flag} needs a value\n{}", self.help()));
            match flag.as_str() {
                "--seed" => seed = number(&value()?)?,
                "--replay" => {
                    let history: Result<_, _> = given.map(|text| number(&text)).collect();
                    return history.map(Asked::Replay);
                }
                flag if flag == self.amount_flag => amount = number(&value()?)?,
                _ => return Err(self.help()),
            }
        }
        Ok(Asked::Run { seed, amount })
    }

    fn help(&self) -> String {
        let Self { name, amount_flag, amount_help, amount, .. } = self;
        let width = amount_flag.len() + 2;
        format!(
            "usage: cargo xtask sim {name} [--seed N] [{amount_flag} M]\n       \
             cargo xtask sim {name} --replay NUMBER …\n  \
             {:width$}  the first seed; without it a fresh one is drawn and printed\n  \
             {:width$}  {amount_help} ({amount})\n  \
             {:width$}  tell and judge this history, as a failure printed it",
            "--seed N",
            format!("{amount_flag} M"),
            "--replay …",
        )
    }

    fn simulate(&self, seed: u64, amount: u64) -> ExitCode {
        let name = self.name;
        println!("{name}: seed {seed}");
        let begun = Instant::now();
        match (self.run)(seed, amount) {
            Ok(played) => {
                let seconds = begun.elapsed().as_secs_f64();
                println!("{name}: {played}, {seconds:.1} s, and all is well");
                ExitCode::SUCCESS
            }
            Err(Failure { history, fault }) => {
                println!("{name}: {fault}");
                let numbers: Vec<_> = history.iter().map(u64::to_string).collect();
                println!("{name}: {} steps: --replay {}", history.len() - 1, numbers.join(" "));
                ExitCode::FAILURE
            }
        }
    }
}

/// Another one each time, from what the system gives every process.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 16
}
