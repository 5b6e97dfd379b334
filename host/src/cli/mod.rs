//! The command line.
//!
//! One definition (`args`) gives parsing, help and errors. Verbs that talk to a manager are clients
//! of its control socket; verbs that become a manager, or a process of one, hand over to the
//! functions in [`Runner`].
//!
//! Every verb takes `--json`. What has an end prints one document; `logs` and `events` print one
//! document for each line. An error prints `{"error": {"kind", "exit_code", "message", "problems",
//! "daemons"}}` to standard output, and its exit code is the same as without `--json`.

mod args;
mod check;
mod compile;
mod detach;
mod error;
mod exit_code;
pub mod figures;
mod history;
mod images;
mod logs;
mod new;
mod outcome;
pub mod output;
pub mod ps;
mod state;
mod state_check;
mod untaken;
mod verbs;

use clap::Parser as _;

use crate::config::{self, Checked, FleetConfig, Overrides, SingleDaemon, SingleSource, Written};
use crate::doctor;
use crate::manager::ReadOnlySocket;
use crate::platform::Surroundings;

use args::{Arguments, Directories, RunArgs, UpArgs, Verb};
use error::CliError;
pub use exit_code::ExitCode;

/// The configuration file that is meant when none is named.
const DEFAULT_FILE: &str = "duende.toml";

/// What `duende up` is to do, in the foreground or in the process that `--detach` left behind.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// What to run.
    pub fleet: FleetConfig,
    /// Whether to print JSON: one line for each event.
    pub json: bool,
    /// Whether nobody watches: standard output and standard error are the manager's log.
    pub detached: bool,
    /// The socket for those who may look and not touch; none: there is none.
    pub read_only_socket: Option<ReadOnlySocket>,
    /// What is written in the file, key by key.
    pub written: Written,
}

/// What `duende run` is to do.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The fleet of one daemon.
    pub fleet: FleetConfig,
    /// Whether to print JSON: one line for each event and log entry.
    pub json: bool,
}

/// The functions behind the verbs that are no clients.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    /// Runs a fleet until it is told to stop.
    pub up: fn(UpOptions) -> ExitCode,
    /// Runs one component until it ends.
    pub run: fn(RunOptions) -> ExitCode,
    /// Is `duende keep`; reads its own arguments.
    pub keep: fn() -> ExitCode,
    /// Is `duende wos-worker`; reads its own arguments.
    pub wos_worker: fn() -> ExitCode,
    /// Is `duende compile-worker`; reads its own arguments.
    pub compile_worker: fn() -> ExitCode,
}

/// Parses the command line and does what it says.
pub fn main(runner: Runner) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.use_stderr() {
                // It repeats what was typed.
                output::complain(&error.render().to_string());
                return ExitCode::Usage;
            }
            // Help and version come this way too. If nobody can read them, nobody misses them.
            let _ = error.print();
            return ExitCode::Success;
        }
    };
    let json = arguments.json;
    crate::keep::outlive_file_limit();
    match dispatch(arguments, runner) {
        Ok(code) => code,
        Err(error) => error.report(json),
    }
}

fn dispatch(arguments: Arguments, runner: Runner) -> Result<ExitCode, CliError> {
    let json = arguments.json;
    let surroundings = Surroundings::current();
    match arguments.verb {
        Verb::Run(args) => run(args, json, &surroundings, runner),
        Verb::Up(args) => up(args, json, &surroundings, runner),
        Verb::Down { which } => verbs::down(&which, json, &surroundings),
        Verb::Ps { which } => verbs::ps(&which, json, &surroundings),
        Verb::Status { name, which } => verbs::status(name, &which, json, &surroundings),
        Verb::Logs(args) => logs::logs(args, json, &surroundings),
        Verb::Start { names } => verbs::change(verbs::Change::Start, names, json, &surroundings),
        Verb::Stop { names } => verbs::change(verbs::Change::Stop, names, json, &surroundings),
        Verb::Restart { names } => {
            verbs::change(verbs::Change::Restart, names, json, &surroundings)
        }
        Verb::Pause { names } => verbs::change(verbs::Change::Pause, names, json, &surroundings),
        Verb::Resume { names } => verbs::change(verbs::Change::Resume, names, json, &surroundings),
        Verb::Reload { names } => verbs::change(verbs::Change::Reload, names, json, &surroundings),
        Verb::Events { follow, which } => verbs::events(follow, &which.into(), json, &surroundings),
        Verb::History { name, last, which } => {
            history::history(&name, last, &which, json, &surroundings)
        }
        Verb::Check { file } => check::check(&file, json, &surroundings),
        Verb::Compile(args) => compile::compile(&args, json, &surroundings),
        Verb::New(args) => new::new(&args, json),
        Verb::State { verb } => state::state(verb, json, &surroundings),
        Verb::Doctor => show_doctor(json, &surroundings),
        Verb::Keep(_) => Ok((runner.keep)()),
        Verb::WosWorker(_) => Ok((runner.wos_worker)()),
        Verb::CompileWorker(_) => Ok((runner.compile_worker)()),
    }
}

impl From<Directories> for Overrides {
    fn from(directories: Directories) -> Self {
        Self { state_dir: directories.state_dir, log_dir: directories.log_dir }
    }
}

fn up(
    args: UpArgs,
    json: bool,
    surroundings: &Surroundings,
    runner: Runner,
) -> Result<ExitCode, CliError> {
    let overrides = args.directories.into();
    let read_only_socket = args.read_only.socket()?;
    let Checked { fleet, warnings, written } = config::check(&args.file, &overrides, surroundings)?;
    if !args.detached {
        output::warnings(&warnings);
    }
    if args.detach {
        let wait = args.wait.then_some(detach::Wait { at_most: args.timeout });
        return detach::detach(&fleet, read_only_socket.as_ref(), wait, json, surroundings);
    }
    if args.detached {
        detach::leave_session()?;
    }
    let detached = args.detached;
    Ok((runner.up)(UpOptions { fleet, json, detached, read_only_socket, written }))
}

fn run(
    args: RunArgs,
    json: bool,
    surroundings: &Surroundings,
    runner: Runner,
) -> Result<ExitCode, CliError> {
    let tails = args.tail.into_iter().map(|(name, file)| (name, SingleSource::Tail(file)));
    let stdin = args.stdin.into_iter().map(|name| (name, SingleSource::Stdin));
    let intervals = args.interval.into_iter();
    let intervals = intervals.map(|(name, period)| (name, SingleSource::Interval(period)));
    let options = SingleDaemon {
        image: args.image,
        name: args.name,
        grants: args.grants,
        channels: tails.chain(stdin).chain(intervals).collect(),
        config: args.config,
        restart: Some(args.restart.into()),
    };
    let fleet = config::single(&options, &args.directories.into(), surroundings)?;
    Ok((runner.run)(RunOptions { fleet, json }))
}

fn show_doctor(json: bool, surroundings: &Surroundings) -> Result<ExitCode, CliError> {
    let report = doctor::examine(surroundings);
    if json {
        output::json(&report)?;
    } else {
        output::painted(report.render(output::stdout_has_colour()).trim_end())?;
    }
    Ok(ExitCode::Success)
}
