//! `duende up --detach`: the same program again, in a session of its own.
//!
//! The process that the user started waits until the other one answers on the control socket, so
//! that "detached" means "it runs", and a failure is told where the user looks. With `--wait` it goes
//! on waiting until it is known of each daemon whether it is ready; if not, it says which one is not and
//! why, and the fleet runs on.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::config::{ChannelConfig, FleetConfig, Source, dirs};
use crate::control::client::{Client, ClientError};
use crate::control::protocol::Request;
use crate::daemon_log::{fleet_log, old_log_path, printed_log, tail_last, telling_log};
use crate::manager::ReadOnlySocket;
use crate::own_file;
use crate::platform::{Surroundings, own_command};
use crate::reach;

use super::error::CliError;
use super::exit_code::ExitCode;
use super::outcome::Outcomes;
use super::output::{self, Progress};
use super::{ps, verbs};

/// How long a manager may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// From which size on the next manager begins another log of what managers print, in bytes.
const MANAGER_LOG_BYTES_MAX: u64 = 1 << 20;
/// How much of its log is shown if it ends instead.
const LOG_LINES: usize = 20;

/// Waiting until all daemons are ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// No longer than this.
    pub(super) at_most: Option<Duration>,
}

/// Starts the manager of a fleet in the background.
pub(super) fn detach(
    fleet: &FleetConfig,
    readers: Option<&ReadOnlySocket>,
    wait: Option<Wait>,
    json: bool,
    surroundings: &Surroundings,
) -> Result<ExitCode, CliError> {
    let is_fed = |channel: &ChannelConfig| channel.source == Source::Stdin;
    if let Some(daemon) = fleet.daemons.iter().find(|daemon| daemon.channels.iter().any(is_fed)) {
        let message = format!(
            "daemon `{}` reads standard input, and a manager in the background has none; leave out --detach, or feed it from a file: {{ tail = \"FILE\" }}",
            daemon.name
        );
        return Err(CliError::other(ExitCode::ConfigInvalid, message));
    }
    let socket = fleet.socket_path();
    match Client::connect(&socket, &fleet.name, surroundings.uid) {
        Ok(client) => {
            let message = format!(
                "fleet `{}` runs already (manager {}); stop it first: duende down --fleet {0}",
                fleet.name,
                client.info().pid
            );
            return Err(CliError::other(ExitCode::AlreadyRunning, message));
        }
        // One that ends while it is asked will have: the new one waits for what it leaves.
        Err(ClientError::NotRunning { .. } | ClientError::Stale { .. } | ClientError::Closed) => {}
        Err(error) => return Err(error.into()),
    }

    let log = printed_log(&fleet.log_dir);
    // What earlier managers printed is not why this one ends.
    let printed_before = std::fs::metadata(&log).map_or(0, |found| found.len());
    let ended = |status| ended(status, &fleet.log_dir, printed_before);
    let mut child = spawn(fleet, readers, &log).map_err(|error| {
        CliError::other(ExitCode::Failure, format!("the manager can't be started: {error}"))
    })?;
    let mut progress = Progress::new(format!("starting fleet {}", fleet.name));
    let started = Instant::now();
    let mut client = loop {
        match Client::connect(&socket, &fleet.name, surroundings.uid) {
            // Of two that start at once, the other one may have won: then this one ends and says so.
            Ok(client) if client.info().pid == child.id() => break client,
            Ok(_) => {}
            // It may wait for what the last one left.
            Err(
                ClientError::NotRunning { .. }
                | ClientError::Stale { .. }
                | ClientError::TimedOut { .. }
                | ClientError::Closed,
            ) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            drop(progress);
            return Err(ended(status));
        }
        if started.elapsed() >= START_TIMEOUT {
            let message = format!(
                "the manager (process {}) does not answer after {} s; look at {}",
                child.id(),
                START_TIMEOUT.as_secs(),
                telling_log(&fleet.log_dir).display()
            );
            return Err(CliError::other(ExitCode::Failure, message));
        }
        progress.tick();
        std::thread::sleep(LOOK_PERIOD);
    };
    drop(progress);
    if let Some(wait) = wait
        && let Err(error) = wait_until_ready(&mut client, wait, json)
    {
        // Its end is told as one at the start is.
        return Err(match (error, child.try_wait()?) {
            (CliError::Client(ClientError::Closed), Some(status)) => ended(status),
            (error, _) => error,
        });
    }

    let daemons = verbs::rows(&mut client, &Request::Ps)?.len();
    let info = client.info();
    let log = fleet_log(&fleet.log_dir);
    if json {
        let document = json!({ "fleet": info, "socket": socket, "log": log, "daemons": daemons });
        output::json(&document)?;
    } else {
        let text = format!(
            "fleet {} is up: manager {}, {daemons} daemon{}, log {}",
            info.fleet,
            info.pid,
            if daemons == 1 { "" } else { "s" },
            log.display()
        );
        output::line(&text)?;
    }
    Ok(ExitCode::Success)
}

fn wait_until_ready(client: &mut Client, wait: Wait, json: bool) -> Result<(), CliError> {
    let fleet = client.info().fleet.clone();
    let mut progress = Progress::new(format!("waiting for the daemons of {fleet}"));
    let mut late = false;
    let settled = Outcomes::ask_within(client, &Request::Settled, |elapsed| {
        progress.tick();
        late = wait.at_most.is_some_and(|at_most| elapsed >= at_most);
        // Replaced below by who it is that is late.
        if late { Err(CliError::other(ExitCode::DaemonFailed, "timed out")) } else { Ok(()) }
    });
    drop(progress);
    if !late {
        return settled?.fail_unless_done("ready", json);
    }
    // The connection still waits for the other answer.
    let mut client = client.again()?;
    let rows = verbs::rows(&mut client, &Request::Ps)?;
    let missing: Vec<String> = rows.iter().filter_map(ps::why_not_ready).collect();
    let waited = output::human_duration(wait.at_most.unwrap_or_default());
    let message = if missing.is_empty() {
        format!("fleet {fleet} was not ready within {waited}, and is now")
    } else {
        format!("fleet {fleet} is not ready after {waited}, and runs on:\n{}", missing.join("\n"))
    };
    Err(CliError::other(ExitCode::DaemonFailed, message))
}

fn spawn(fleet: &FleetConfig, readers: Option<&ReadOnlySocket>, log: &Path) -> io::Result<Child> {
    dirs::make(&fleet.log_dir)?;
    let named = |error| reach::named(log, &error);
    keep_short(log).map_err(named)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640);
    let opened = own_file::no_link(&mut options).open(log).map_err(own_file::said);
    let log = opened.map_err(named)?;
    let mut command = own_command();
    command.arg("up").arg("--detached");
    let arguments: [(&str, &PathBuf); 2] =
        [("--state-dir", &fleet.state_dir), ("--log-dir", &fleet.log_dir)];
    for (flag, directory) in arguments {
        command.arg(flag).arg(directory);
    }
    if let Some(ReadOnlySocket { path, mode }) = readers {
        command.arg("--read-only-socket").arg(path);
        command.arg("--read-only-mode").arg(format!("{mode:o}"));
    }
    if let Some(file) = &fleet.file {
        command.arg("--").arg(file);
    }
    // It may be relative to the directory that is left here.
    command.env("DUENDE_RUNTIME_DIR", &fleet.runtime_dir);
    // Not in the user's directory, which must stay free to be removed or unmounted.
    command.current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn()
}

/// A manager prints next to nothing here, but each one adds to it: what is long is put aside, as logs are.
fn keep_short(log: &Path) -> io::Result<()> {
    if std::fs::metadata(log).is_ok_and(|found| found.len() > MANAGER_LOG_BYTES_MAX) {
        std::fs::rename(log, old_log_path(log))?;
    }
    Ok(())
}

/// What the started process does first: it leaves the terminal's session, so that neither Ctrl-C nor
/// the end of the terminal reaches it.
pub(super) fn leave_session() -> Result<(), CliError> {
    rustix::process::setsid().map(|_| ()).map_err(|error| {
        let message = format!("a session of its own: {error}; use `duende up --detach`");
        CliError::other(ExitCode::Failure, message)
    })
}

/// What is said of a manager that has ended: what it printed since then, else what its fleet's log says.
fn ended(status: std::process::ExitStatus, log_dir: &Path, printed_before: u64) -> CliError {
    let (printed, own) = (printed_log(log_dir), fleet_log(log_dir));
    let (log, lines) = match printed_since(&printed, printed_before) {
        lines if !lines.is_empty() => (&printed, lines),
        _ => (&own, tail_last(&own, LOG_LINES).unwrap_or_default()),
    };
    let lines: Vec<String> = lines.iter().map(|line| output::harmless(line)).collect();
    let code = match status.code() {
        Some(3) => ExitCode::ConfigInvalid,
        Some(6) => ExitCode::AlreadyRunning,
        _ => ExitCode::Failure,
    };
    let message = match lines.as_slice() {
        [] if is_full(log) => format!(
            "the manager ended at once ({status}), and could not say why: the disk of {} is full",
            log.display()
        ),
        lines => format!(
            "the manager ended at once ({status}); the end of {}:\n{}",
            log.display(),
            lines.join("\n")
        ),
    };
    CliError::other(code, message)
}

/// The last lines of a log from an offset on; from its beginning, if it was put aside meanwhile.
fn printed_since(log: &Path, offset: u64) -> Vec<String> {
    let length = std::fs::metadata(log).map_or(0, |found| found.len());
    let new = length.checked_sub(offset).unwrap_or(length);
    // A line has at least one byte: of so many lines no older one is among them.
    let lines = tail_last(log, LOG_LINES).unwrap_or_default();
    let mut left = usize::try_from(new).unwrap_or(usize::MAX);
    let is_new = |line: &&String| {
        let fits = left > line.len();
        left = left.saturating_sub(line.len() + 1);
        fits
    };
    let mut found: Vec<String> = lines.iter().rev().take_while(is_new).cloned().collect();
    found.reverse();
    found
}

/// Whether the disk of a file has no room left.
fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_bavail == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_managers_printed_is_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("manager.log");
        assert!(printed_since(&log, 0).is_empty());
        std::fs::write(&log, "old\n").unwrap();
        assert!(printed_since(&log, 4).is_empty());
        std::fs::write(&log, "old\none\ntwo\n").unwrap();
        assert_eq!(printed_since(&log, 4), ["one", "two"]);
        assert_eq!(printed_since(&log, 0), ["old", "one", "two"]);
        std::fs::write(&log, "new\n").unwrap();
        assert_eq!(printed_since(&log, 9), ["new"]);
    }

    #[test]
    fn what_managers_print_is_put_aside_when_it_is_long() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("manager.log");
        keep_short(&log).unwrap();
        std::fs::write(&log, "short").unwrap();
        keep_short(&log).unwrap();
        assert!(log.exists());
        let long = usize::try_from(MANAGER_LOG_BYTES_MAX + 1).unwrap();
        std::fs::write(&log, vec![b'x'; long]).unwrap();
        keep_short(&log).unwrap();
        assert!(!log.exists() && old_log_path(&log).exists());
    }
}
