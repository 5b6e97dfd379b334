//! `duende logs`: reads the log files themselves, so that it works whether a manager runs or not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::config::{self, Overrides, dirs};
use crate::control::client::ClientError;
use crate::control::protocol::Request;
use crate::daemon_log::{LogEntry, LogFollower, level_name, log_path, telling_log};
use crate::platform::Surroundings;

use super::args::{LogsArgs, Which};
use super::error::CliError;
use super::exit_code::ExitCode;
use super::output::{self, Colour, harmless, paint};
use super::{DEFAULT_FILE, verbs};

/// How often a log is looked at for more.
const FOLLOW_PERIOD: Duration = Duration::from_millis(100);

pub(super) fn logs(args: LogsArgs, json: bool, at: &Surroundings) -> Result<ExitCode, CliError> {
    let path = match &args.name {
        Some(name) => find_log(name, &args.which.into(), at)?,
        None => telling_log(&find_log_dir(&args.which.into(), at)?),
    };
    let failed = |error: std::io::Error| {
        CliError::other(ExitCode::Failure, format!("{}: {error}", path.display()))
    };
    let colour = output::stdout_has_colour();
    let (lines, mut follower) = LogFollower::open(&path, args.lines).map_err(failed)?;
    print(&lines, json, colour)?;
    if !args.follow {
        return Ok(ExitCode::Success);
    }
    loop {
        let lines = follower.poll_lines().map_err(failed)?;
        let gap = follower.take_gap();
        if lines.is_empty() && !gap {
            output::wait_or_reader_gone(FOLLOW_PERIOD)?;
        }
        print(&lines, json, colour)?;
        if gap {
            let text = "lines are missing here: the log is rotated faster than it is read";
            if json {
                output::json_line(&json!({ "gap": text }))?;
            } else {
                output::painted(&paint(text, Some(Colour::Yellow), colour))?;
            }
        }
    }
}

fn print(lines: &[String], json: bool, colour: bool) -> Result<(), CliError> {
    for line in lines {
        if json {
            output::json_line(&as_json(line))?;
        } else {
            output::painted(&as_text(line, colour))?;
        }
    }
    Ok(())
}

/// A line of a log as a document; one that somebody else wrote into the file has a text only.
pub(super) fn as_json(line: &str) -> serde_json::Value {
    let text = || json!({ "text": line });
    LogEntry::parse(line).ok().map_or_else(text, |entry| json!(entry))
}

/// A line of a log for people.
pub(super) fn as_text(line: &str, colour: bool) -> String {
    // An entry is harmless as it is written, unless somebody else wrote it.
    let style = LogEntry::parse(line).ok().and_then(|entry| level_colour(&entry));
    paint(&harmless(line), style, colour)
}

fn level_colour(entry: &LogEntry) -> Option<Colour> {
    match level_name(entry.level) {
        "error" | "crit" => Some(Colour::Red),
        "warn" => Some(Colour::Yellow),
        "debug" | "trace" => Some(Colour::Dim),
        _ => None,
    }
}

/// The file of a daemon's log: the manager knows it; if none runs, the configuration does.
fn find_log(name: &str, which: &Which, at: &Surroundings) -> Result<PathBuf, CliError> {
    let error = match verbs::connect(which, at) {
        Ok(mut client) => {
            let request = Request::Status { name: name.to_owned() };
            let rows = verbs::rows(&mut client, &request)?;
            return rows.into_iter().next().map(|row| row.log_path.into()).ok_or_else(|| {
                CliError::other(ExitCode::Failure, "the manager does not say where its log lies")
            });
        }
        Err(error) => error,
    };
    let directory = configured_log_dir(which, error, at)?;
    let path = log_path(&directory, name);
    if !path.exists() {
        let message = format!(
            "no log of `{name}` ({}); name the fleet with --fleet or --file, or start it: duende up",
            path.display()
        );
        return Err(CliError::other(ExitCode::UnknownDaemon, message));
    }
    Ok(path)
}

/// The directory of a fleet's logs.
fn find_log_dir(which: &Which, at: &Surroundings) -> Result<PathBuf, CliError> {
    match verbs::connect(which, at) {
        Ok(client) => Ok(PathBuf::from(&client.info().log_dir)),
        Err(error) => configured_log_dir(which, error, at),
    }
}

/// The directory of a fleet's logs, as its configuration says, if no manager could be asked for the reason
/// that none runs.
fn configured_log_dir(
    which: &Which,
    error: CliError,
    at: &Surroundings,
) -> Result<PathBuf, CliError> {
    let nobody = matches!(
        error,
        CliError::Client(ClientError::NotRunning { .. } | ClientError::Stale { .. })
    );
    if !nobody {
        return Err(error);
    }
    Ok(match (&which.file, &which.fleet) {
        (_, Some(fleet)) => {
            let state_dir = dirs::state_dir(at, fleet);
            dirs::log_dir(at, fleet, &state_dir)
        }
        (Some(file), None) => config::load(file, &Overrides::default(), at)?.log_dir,
        (None, None) => match config::load(Path::new(DEFAULT_FILE), &Overrides::default(), at) {
            Ok(fleet) => fleet.log_dir,
            Err(_) => return Err(error),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What looks like an entry of ours need not be one.
    #[test]
    fn a_line_of_a_log_drives_no_terminal() {
        let forged = "2026-11-21T09:07:29.123456Z info  stdout a\x1b[2J\u{202e}b\r";
        for line in [forged, "\x1b]0;title\x07"] {
            let text = as_text(line, false);
            assert!(!text.contains(crate::terminal::drives_terminal), "{text:?}");
        }
        assert!(as_text(forged, false).starts_with("2026-11-21T09:07:29.123456Z info  stdout a"));
        assert_eq!(as_json("plain"), json!({ "text": "plain" }));
        assert_eq!(as_json(forged)["origin"], "stdout");
    }
}
