//! `duende-fleets`: plays fleets from a seed. Started by `cargo xtask sim fleets`.

use std::process::ExitCode;

use duende_fleets::run::{play_and_tell, run};
use duende_history::Program;

fn main() -> ExitCode {
    let program = Program {
        name: "fleets",
        steps: "events",
        amount_flag: "--events",
        amount_help: "at least so many events",
        amount: 1_000_000,
        run: |seed, events| {
            let played = run(seed, events)?;
            Ok(format!("{} events in {} histories", played.events, played.histories))
        },
        replay: |history| play_and_tell(history, true),
    };
    program.main()
}
