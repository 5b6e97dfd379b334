//! `cargo xtask demo`: a fleet at real work, its accidents, and the proof that none of it shows in the
//! figures.
//!
//! The demo is the web server's only client and counts what it was answered: that is the truth, which
//! both sentinels' figures must equal in the end. Whatever happens — a difference, an error, Ctrl-C —
//! the fleet is stopped, and nothing of it is left but its logs.
//!
//! - `place`: the directories, and what is left in them
//! - `fleet`: the fleet from outside
//! - `stage`, `story`: the fleet at work, and what is done to it
//! - `http`, `count`: requests and their truth
//! - `screen`: what is shown

mod count;
mod fleet;
mod http;
mod place;
mod screen;
mod stage;
mod story;

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::fleet::{Event, Fleet};
use self::place::Place;
use self::screen::{Screen, Style};
use self::stage::Stage;
use crate::guests;
use crate::shell::{self, Error, say};

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// A file could not be made, read or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error(transparent)]
    Start(#[from] Error),
    /// The example is not what the demo knows.
    #[error("examples/edge.toml: {0}; the demo is made for it as it is in the repository")]
    Config(String),
    /// The port of the example is taken, and so are the others.
    #[error("no free port for the web server: 8731 to 9731 are taken")]
    NoPort,
    /// A daemon ended although nobody had done anything to it yet.
    #[error(
        "{daemon} ended at its start: {how}; the end of its log:
{last}"
    )]
    Died {
        /// Which.
        daemon: String,
        /// What the manager says.
        how: String,
        /// The last lines of its log.
        last: String,
    },
    /// A child could not be waited for.
    #[error("cannot wait for a process: {0}")]
    Wait(io::Error),
    /// The manager ended while it was needed.
    #[error("the manager ended ({status}){}", said_after(said))]
    ManagerEnded {
        /// How.
        status: ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// `duende ps --json` printed something else.
    #[error("`duende ps --json` can't be understood ({error}); it printed:\n{said}")]
    Answer {
        /// Why.
        error: serde_json::Error,
        /// What it printed.
        said: String,
    },
    /// Something did not happen in time.
    #[error("waited {waited_s} s in vain until {what}")]
    Late {
        /// For how long.
        waited_s: u64,
        /// For what.
        what: String,
    },
    /// A daemon has no process at the moment at which it is to be killed.
    #[error("{0} does not run, so it can't be killed")]
    NotRunning(String),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] http::HttpError),
    /// Figures differ from the true count.
    #[error("the figures are wrong: {0}")]
    Difference(String),
    /// The fleet could not be stopped in order.
    #[error("the fleet did not stop as it should: {0}; what was left of it has been killed")]
    Stop(String),
    /// Something was left behind.
    #[error("left behind: {0}")]
    LeftBehind(String),
    /// Ctrl-C, or another request to end.
    #[error("interrupted")]
    Interrupted,
}

/// What a program said, behind what is said of it.
fn said_after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it said:\n{said}") }
}

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    shell::no_arguments(arguments)?;
    build()?;
    let began = Instant::now();
    let mut screen = Screen::new();
    let logs = |place: &Place| {
        let dir = place.log_dir();
        dir.strip_prefix(shell::root()).unwrap_or(&dir).display().to_string()
    };
    let (place, played) = match Place::make() {
        Ok(place) => {
            let played = play(&mut screen, &place);
            (Some(logs(&place)), played)
        }
        Err(error) => (None, Err(error)),
    };
    let logs = place.unwrap_or_default();
    match played {
        Ok(()) => {
            let took = format!(
                "done in {:.1} s, nothing left but the logs:",
                began.elapsed().as_secs_f64()
            );
            screen.say(&format!("\n{} {logs}", screen.paint(&took, Style::Bold)));
            Ok(())
        }
        Err(error) => {
            screen.clear();
            eprintln!("\nxtask demo: {error}");
            if !logs.is_empty() {
                eprintln!("xtask demo: the logs of this run: {logs}");
            }
            Err(Error::Reported)
        }
    }
}

/// Builds what the fleet consists of. Quick when nothing is to be done.
fn build() -> Result<(), Error> {
    say("building duende and the daemons; the first time takes several minutes");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(["build", "--quiet"]);
    cargo.args(["-p", "duende", "-p", "webd", "-p", "log-sentinel", "--bins"]);
    shell::run(&mut cargo)?;
    guests::build().map(|_| ())
}

/// Starts the fleet, does with it what is to be shown, and stops it, in every case.
fn play(screen: &mut Screen, place: &Place) -> Result<(), DemoError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // From here on these are looked at between two requests.
        signal_hook::flag::register(signal, interrupted.clone()).map_err(DemoError::Wait)?;
    }
    let played = on_stage(screen, place, interrupted);
    let left = left_behind(place);
    let removed = place.remove();
    played.and(left).and(removed)
}

fn on_stage(
    screen: &mut Screen,
    place: &Place,
    interrupted: Arc<AtomicBool>,
) -> Result<(), DemoError> {
    screen.step(
        "A fleet of four",
        "a web server, two readers of its log (one source: a component and a process), and flaky",
    );
    let (server, is_moved) = place.write_config()?;
    if is_moved {
        screen.say(&format!("  port 8731 is taken: the web server listens on {server} this time"));
    }
    let mut stage = Stage::new(screen, place, Fleet::start(place)?, server, interrupted);
    let told = stage.tell();
    let fleet = stage.end();
    if told.is_err() {
        screen.clear();
        screen.say(&format!("\n  {}", screen.paint("stopping the fleet first", Style::Yellow)));
    } else {
        screen.step("Stop", "in order: those that depend on others first");
    }
    let stopped = fleet.stop(place);
    if let Ok(events) = &stopped {
        screen.say(&format!("  stopped: {}", order_of_end(events).join(", ")));
    }
    told.and(stopped.map(|_| ()))
}

/// The daemons, in the order in which they were stopped.
fn order_of_end(events: &[Event]) -> Vec<&str> {
    let stopped = events.iter().filter(|event| event.kind == "stopped");
    stopped.map(|event| event.daemon.as_str()).collect()
}

/// Looks whether a fleet that was stopped has left a process or a socket.
fn left_behind(place: &Place) -> Result<(), DemoError> {
    let processes = place.processes();
    if !processes.is_empty() {
        place.kill_processes();
        return Err(DemoError::LeftBehind(format!("processes {processes:?}, killed now")));
    }
    let sockets = place.sockets()?;
    if sockets.is_empty() {
        Ok(())
    } else {
        Err(DemoError::LeftBehind(format!("sockets {sockets:?}")))
    }
}
