//! The command line: one definition, from which parsing, help and errors come.

use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{RestartPolicy, read_duration};
use crate::manager::ReadOnlySocket;

/// Runs daemons and brings them back when they fail.
#[derive(Debug, Parser)]
#[command(
    name = "duende",
    bin_name = "duende",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failure, 2 usage, 3 configuration invalid, 4 not running, 5 unknown \
                  daemon,\n6 already running, 7 a daemon failed."
)]
pub(super) struct Arguments {
    /// Print JSON: one document, or one for each line of what has no end
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run one component in the foreground
    Run(RunArgs),
    /// Start the fleet that a file describes
    Up(UpArgs),
    /// Stop all daemons in order, then the manager
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// List the daemons
    Ps {
        #[command(flatten)]
        which: Which,
    },
    /// Show the fleet, or all about one daemon
    Status {
        /// The daemon
        name: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Show what a daemon printed and logged
    Logs(LogsArgs),
    /// Start daemons, and what they depend on
    Start {
        #[command(flatten)]
        names: Names,
    },
    /// Stop daemons, and before them what depends on them
    Stop {
        #[command(flatten)]
        names: Names,
    },
    /// Stop and start daemons; releases them from quarantine
    Restart {
        #[command(flatten)]
        names: Names,
    },
    /// Hold daemons still, until `resume`
    Pause {
        #[command(flatten)]
        names: Names,
    },
    /// Let paused daemons go on
    Resume {
        #[command(flatten)]
        names: Names,
    },
    /// Make daemons read their configuration anew, without a restart
    Reload {
        #[command(flatten)]
        names: Names,
    },
    /// Show what happened
    Events {
        /// Go on with what happens next
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        which: WhichLong,
    },
    /// Show what a daemon used and did, sample by sample
    History {
        /// The daemon
        name: String,
        /// How far back
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
        last: Duration,
        #[command(flatten)]
        which: Which,
    },
    /// Write a project for a daemon of one's own
    New(NewArgs),
    /// Check a configuration file, and the components that it names
    Check {
        /// The file
        #[arg(default_value = super::DEFAULT_FILE)]
        file: PathBuf,
    },
    /// Compile components beforehand, so that they start at once
    Compile(CompileArgs),
    /// Show, export and import the state of daemons, while their fleet does not run
    State {
        #[command(subcommand)]
        verb: StateVerb,
    },
    /// Look what this machine offers
    Doctor,
    /// Hold the native daemons of a fleet
    #[command(hide = true)]
    Keep(Inner),
    /// Host components
    #[command(hide = true)]
    WosWorker(Inner),
    /// Compile one component
    #[command(hide = true)]
    CompileWorker(Inner),
}

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// The components
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The fleet whose file says what a compilation may cost
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The daemon's name, and that of the folder that is made here
    pub(super) name: String,
    /// What it is written in
    #[arg(long, value_name = "LANGUAGE")]
    pub(super) lang: Language,
    /// Duende's source tree, of which Rust uses the SDK [default: the one that this program was built from, else
    /// the repository]
    #[arg(long, value_name = "PATH")]
    pub(super) sdk: Option<PathBuf>,
}

/// What `new` has a project for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    C,
    #[value(alias = "javascript")]
    Js,
    Python,
}

/// What a process of ours tells one of its own; the receiver reads it itself.
#[derive(Debug, Args)]
pub(super) struct Inner {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) rest: Vec<OsString>,
}

/// Which fleet is meant. If just one runs, it need not be named.
#[derive(Debug, Default, Args)]
#[group(id = "which", multiple = false)]
pub(super) struct Which {
    /// The fleet's name
    #[arg(long, value_name = "NAME")]
    pub(super) fleet: Option<String>,
    /// The fleet's configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// As [`Which`], for verbs whose `-f` means `--follow`.
#[derive(Debug, Args)]
#[group(id = "which", multiple = false)]
pub(super) struct WhichLong {
    /// The fleet's name
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
    /// The fleet's configuration file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl From<WhichLong> for Which {
    fn from(which: WhichLong) -> Self {
        Self { fleet: which.fleet, file: which.file }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum StateVerb {
    /// List the daemons of which state is kept, or what is kept of one
    Ls {
        /// The daemon
        name: Option<String>,
        #[command(flatten)]
        of: StateOf,
    },
    /// Write all that is kept of a daemon to a file
    Export {
        /// The daemon
        name: String,
        /// The file, which must not be there; `-` is standard output [default: NAME.duende-state]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        of: StateOf,
    },
    /// Take a daemon from a file that `export` wrote
    Import {
        /// The file; `-` is standard input
        export: PathBuf,
        /// The daemon's name from now on [default: the one that it had]
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// Throw away what is kept under that name
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        of: StateOf,
    },
    /// Read all that is kept and say what is damaged; exit code 1 if something is
    Check {
        /// The daemon [default: all, and the file itself]
        name: Option<String>,
        #[command(flatten)]
        of: StateOf,
    },
    /// Remove all that is kept of a daemon, also what is damaged; an export or a copy is left beside the file
    Reset {
        /// The daemon
        #[arg(required_unless_present = "journal", conflicts_with = "journal")]
        name: Option<String>,
        /// Go on without a journal that is missing, damaged or another's: with what can be read of it, and no more
        #[arg(long)]
        journal: bool,
        #[command(flatten)]
        of: StateOf,
    },
}

/// Whose state is meant: a fleet's, or what lies in a directory.
#[derive(Debug, Args)]
pub(super) struct StateOf {
    #[command(flatten)]
    pub(super) which: Which,
    /// Where it lies [default: where the fleet's configuration says]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Names {
    /// The daemons
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The daemon
    #[arg(required_unless_present = "manager", conflicts_with = "manager")]
    pub(super) name: Option<String>,
    /// Show the fleet's own log: its events, and what the manager says
    #[arg(long)]
    pub(super) manager: bool,
    /// Go on with what is logged next
    #[arg(short, long)]
    pub(super) follow: bool,
    /// How many of the last lines to show
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    pub(super) lines: usize,
    #[command(flatten)]
    pub(super) which: WhichLong,
}

#[derive(Debug, Args)]
pub(super) struct Directories {
    /// Where state lies
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Where logs lie
    #[arg(long, value_name = "DIR")]
    pub(super) log_dir: Option<PathBuf>,
}

/// The socket for those who may look and not touch.
#[derive(Debug, Args)]
pub(super) struct ReadOnly {
    /// Open a second socket at PATH, at which the fleet can be looked at (ps, status, events, history) and not
    /// changed
    #[arg(long = "read-only-socket", value_name = "PATH")]
    path: Option<PathBuf>,
    /// The mode of its file, which says who may open it: 0600 the fleet's user, 0660 the file's group too, 0666 all
    #[arg(
        long = "read-only-mode",
        value_name = "MODE",
        requires = "path",
        default_value = "0600",
        value_parser = parse_socket_mode
    )]
    mode: u32,
}

impl ReadOnly {
    /// It, with a path that means the same in every directory.
    pub(super) fn socket(self) -> io::Result<Option<ReadOnlySocket>> {
        let Self { path, mode } = self;
        path.map(|path| Ok(ReadOnlySocket { path: std::path::absolute(path)?, mode })).transpose()
    }
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The fleet's configuration file
    #[arg(default_value = super::DEFAULT_FILE)]
    pub(super) file: PathBuf,
    /// Go on in the background once the manager answers
    #[arg(short, long)]
    pub(super) detach: bool,
    /// With --detach: wait until every daemon is ready, or it is known that it will not be
    #[arg(long, requires = "detach")]
    pub(super) wait: bool,
    /// With --wait: for how long at most, looked at once a second [default: as long as it takes]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_duration)]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) read_only: ReadOnly,
    /// Given by `--detach` to the process that goes on
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(super) detached: bool,
    #[command(flatten)]
    pub(super) directories: Directories,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The component
    pub(super) image: PathBuf,
    /// The daemon's name [default: the file's]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Grant only these capabilities: log, state, metric [default: all]
    #[arg(long = "grant", value_name = "CAPABILITY", value_delimiter = ',')]
    pub(super) grants: Vec<String>,
    /// Feed a channel with the lines that are appended to a file
    #[arg(long, value_name = "[CHANNEL=]FILE", value_parser = parse_tail)]
    pub(super) tail: Vec<(String, PathBuf)>,
    /// Feed a channel with the lines of standard input
    #[arg(long, value_name = "CHANNEL", num_args = 0..=1, default_missing_value = DEFAULT_CHANNEL)]
    pub(super) stdin: Option<String>,
    /// Feed a channel with an empty message in each period
    #[arg(long, value_name = "CHANNEL=PERIOD", value_parser = parse_interval)]
    pub(super) interval: Vec<(String, Duration)>,
    /// Hand a value to the daemon's `config`
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(super) config: Vec<(String, String)>,
    /// Which ends are followed by a restart
    #[arg(long, value_enum, default_value_t = Restart::Never)]
    pub(super) restart: Restart,
    #[command(flatten)]
    pub(super) directories: Directories,
}

/// The channel that is meant when none is named.
const DEFAULT_CHANNEL: &str = "lines";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Restart {
    /// None
    Never,
    /// Failures
    OnFailure,
    /// All
    Always,
}

impl From<Restart> for RestartPolicy {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Never => Self::Never,
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
        }
    }
}

fn parse_socket_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ (0o600 | 0o660 | 0o666)) => Ok(mode),
        Ok(_) | Err(_) => {
            Err("write 0600, 0660 or 0666: to connect takes reading and writing".to_owned())
        }
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_tail(text: &str) -> Result<(String, PathBuf), String> {
    // What precedes `=` is a channel only if it could be the name of one: a path may hold `=` too.
    match text.split_once('=') {
        Some((channel, file)) if !channel.contains('/') => Ok((channel.to_owned(), file.into())),
        _ => Ok((DEFAULT_CHANNEL.to_owned(), text.into())),
    }
}

fn parse_interval(text: &str) -> Result<(String, Duration), String> {
    let (channel, period) = text.split_once('=').ok_or("write CHANNEL=PERIOD, as tick=1s")?;
    let period = read_duration(period, &PERIODS).map_err(in_words)?;
    Ok((channel.to_owned(), period))
}

/// What a flag can say: a period of a source as in a file, and what is waited or looked back for.
const PERIODS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);

fn parse_duration(text: &str) -> Result<Duration, String> {
    read_duration(text, &WAITS).map_err(in_words)
}

fn in_words((message, help): (String, String)) -> String {
    format!("{message}; {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    /// Whether a command line is accepted.
    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let parsed = Arguments::try_parse_from(line.split_whitespace());
        assert_eq!(parsed.is_ok(), accepted, "{line}: {parsed:?}");
    }

    #[test]
    fn command_lines() {
        check("duende run a.wasm --tail access.log --tail x=b.log -c a=b --json", true);
        check("duende run a.wasm --stdin --grant log,state --interval tick=1s", true);
        check("duende run a.wasm --interval tick=0s", false);
        check("duende run a.wasm -c novalue", false);
        check("duende run", false);
        check("duende up -d --state-dir /x", true);
        check("duende up --detach --detached", false);
        check("duende up --detach --wait --timeout 30s edge.toml", true);
        check("duende up --wait", false);
        check("duende up --detach --timeout 30s", false);
        check("duende up --read-only-socket look.sock", true);
        check("duende up --read-only-socket look.sock --read-only-mode 0660", true);
        check("duende up --read-only-socket look.sock --read-only-mode 0700", false);
        check("duende up --read-only-mode 0660", false);
        check("duende ps -f edge.toml --json", true);
        check("duende ps -f edge.toml --fleet edge", false);
        check("duende logs web -f -n 5 --fleet edge", true);
        check("duende logs --manager -f", true);
        check("duende logs --manager web", false);
        check("duende logs", false);
        check("duende run a.wasm --interval tick=-1s", false);
        check("duende run a.wasm --interval tick=1000000000d", false);
        check("duende events -f --file edge.toml", true);
        check("duende pause a b", true);
        check("duende resume", false);
        check("duende reload a --fleet edge", true);
        check("duende history web --last 30s -f edge.toml", true);
        check("duende history web --last soon", false);
        check("duende stop", false);
        check("duende stop a b --fleet edge", true);
        check("duende keep --fd 3 anything", true);
        check("duende state ls --fleet edge", true);
        check("duende state ls web -f edge.toml --json", true);
        check("duende state export web -o - --state-dir /x", true);
        check("duende state export", false);
        check("duende state import web.duende-state --as web-2 --replace --fleet edge", true);
        check("duende state import --as web", false);
        check("duende state", false);
        check("duende frobnicate", false);
        check("duende", false);
    }
}
