//! `duende-sources`: plays followed logs from a seed. Started by `cargo xtask sim sources`.

use std::process::ExitCode;

use duende_history::Program;
use duende_sources::run::{play_and_tell, run};

fn main() -> ExitCode {
    let program = Program {
        name: "sources",
        steps: "steps",
        amount_flag: "--histories",
        amount_help: "so many schedules",
        amount: 100_000,
        run: |seed, histories| {
            let steps = run(seed, histories)?;
            Ok(format!("{steps} steps in {histories} schedules"))
        },
        replay: |history| play_and_tell(history, true),
    };
    program.main()
}
