//! The verbs that ask the manager.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::Path;

use serde_json::json;

use crate::config::{self, dirs};
use crate::control::client::{Client, ClientError, unexpected};
use crate::control::protocol::{DaemonRow, EventKind, Request, Response};
use crate::daemon_log::tail_last;
use crate::platform::Surroundings;

use super::args::{Names, Which};
use super::error::CliError;
use super::exit_code::ExitCode;
use super::outcome::Outcomes;
use super::output::{self, Progress};
use super::untaken::Untaken;
use super::{logs, ps};

/// How many lines of its log `status` shows of a daemon.
const LOG_LINES: usize = 10;

/// Connects to the manager that is meant.
pub(super) fn connect(which: &Which, surroundings: &Surroundings) -> Result<Client, CliError> {
    let named = match &which.file {
        Some(file) => Some(config::fleet_name(file)?),
        None => which.fleet.clone(),
    };
    if let Some(name) = named.as_deref().filter(|name| !config::names_a_fleet(name)) {
        let text = format!("`{}` can't be the name of a fleet", output::harmless(name));
        return Err(CliError::other(ExitCode::Usage, text));
    }
    let runtime_dir = dirs::runtime_dir(surroundings);
    Ok(Client::find(&runtime_dir, surroundings.uid, named.as_deref())?)
}

/// Asks for rows.
pub(super) fn rows(client: &mut Client, request: &Request) -> Result<Vec<DaemonRow>, CliError> {
    let mut rows = Vec::new();
    client.ask_quickly(request, |response| match response {
        Response::Daemons { daemons } => {
            rows.extend(daemons);
            Ok(())
        }
        other => Err(unexpected(&other)),
    })?;
    Ok(rows)
}

fn print_rows(client: &Client, rows: &[DaemonRow], json: bool) -> Result<ExitCode, CliError> {
    if json {
        output::json(&json!({ "fleet": client.info(), "daemons": rows }))?;
    } else {
        output::painted(ps::table(rows, output::stdout_has_colour()).trim_end())?;
        if let Some(line) = ps::state_line(client.info()) {
            // Beside the table, which programs may take apart.
            output::complain(&format!("duende: {line}"));
        }
    }
    Ok(ExitCode::Success)
}

pub(super) fn ps(which: &Which, json: bool, at: &Surroundings) -> Result<ExitCode, CliError> {
    let mut client = connect(which, at)?;
    let rows = rows(&mut client, &Request::Ps)?;
    print_rows(&client, &rows, json)
}

pub(super) fn status(
    name: Option<String>,
    which: &Which,
    json: bool,
    at: &Surroundings,
) -> Result<ExitCode, CliError> {
    let mut client = connect(which, at)?;
    let one = name.is_some();
    let request = name.map_or(Request::Ps, |name| Request::Status { name });
    let rows = rows(&mut client, &request)?;
    let names: Vec<String> = rows.iter().filter(|_| one).map(|row| row.name.clone()).collect();
    let untaken = Untaken::ask(&mut client, &names);
    if !one && json {
        let fleet = client.info();
        output::json(&json!({ "fleet": fleet, "daemons": rows, "config_changes": untaken }))?;
        return Ok(ExitCode::Success);
    }
    if !one {
        output::line(&ps::manager_line(client.info()))?;
        untaken.print()?;
        return print_rows(&client, &rows, json);
    }
    // A log that can't be read is no reason to say nothing else.
    let last_lines: Vec<String> = rows
        .iter()
        .flat_map(|row| tail_last(Path::new(&row.log_path), LOG_LINES).unwrap_or_default())
        .collect();
    if json {
        let last_lines: Vec<_> = last_lines.iter().map(|line| logs::as_json(line)).collect();
        let fleet = client.info();
        output::json(&json!({
            "fleet": fleet,
            "daemons": rows,
            "config_changes": untaken,
            "last_lines": last_lines,
        }))?;
        return Ok(ExitCode::Success);
    }
    let colour = output::stdout_has_colour();
    for row in rows {
        output::painted(ps::details(&row, colour).trim_end())?;
    }
    untaken.print()?;
    if !last_lines.is_empty() {
        output::line("")?;
    }
    for line in last_lines {
        output::painted(&logs::as_text(&line, colour))?;
    }
    Ok(ExitCode::Success)
}

/// What is to be done with daemons.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
    Reload,
}

pub(super) fn change(
    change: Change,
    names: Names,
    json: bool,
    at: &Surroundings,
) -> Result<ExitCode, CliError> {
    let mut client = connect(&names.which, at)?;
    let list = names.names.join(", ");
    let names = names.names;
    let (request, doing, done) = match change {
        Change::Start => (Request::Start { names }, "starting", "started"),
        Change::Stop => (Request::Stop { names }, "stopping", "stopped"),
        Change::Restart => (Request::Restart { names }, "restarting", "restarted"),
        Change::Pause => (Request::Pause { names }, "pausing", "paused"),
        Change::Resume => (Request::Resume { names }, "resuming", "resumed"),
        Change::Reload => (Request::Reload { names }, "reloading", "reloaded"),
    };
    let progress = Progress::new(format!("{doing} {list}"));
    let outcomes = Outcomes::ask(&mut client, &request, progress)?;
    let untaken = match &request {
        Request::Reload { names } | Request::Restart { names } => Untaken::ask(&mut client, names),
        _ => Untaken::default(),
    };
    outcomes.report(&format!("{done} {list}"), done, &untaken, json)
}

/// Asks for something that takes as long as it takes, and shows that it does.
pub(super) fn wait(
    client: &mut Client,
    request: &Request,
    mut progress: Progress,
    part: impl FnMut(Response) -> Result<(), CliError>,
) -> Result<(), CliError> {
    client.ask(request, part, |_| {
        progress.tick();
        Ok(())
    })
}

/// How long a manager that has said its last word may take to be gone.
const END_TIME: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

pub(super) fn down(which: &Which, json: bool, at: &Surroundings) -> Result<ExitCode, CliError> {
    let mut client = connect(which, at)?;
    let (fleet, manager) = (client.info().fleet.clone(), client.info().pid);
    // Before it is asked: later its number may be another's.
    let manager = i32::try_from(manager).ok().and_then(Pid::from_raw);
    let manager = manager.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let progress = Progress::new(format!("stopping fleet {fleet}"));
    let mut left = Vec::new();
    let asked = wait(&mut client, &Request::Down, progress, |response| match response {
        Response::Event { event } => {
            if event.kind == EventKind::LeftBehind {
                left.push(event.daemon.clone());
            }
            if json {
                return Ok(());
            }
            Ok(output::painted(&ps::event_line(&event, output::stdout_has_colour()))?)
        }
        other => Err(unexpected(&other).into()),
    });
    let is_silent = matches!(asked, Err(CliError::Client(ClientError::TimedOut { .. })));
    if let Some(manager) = manager.filter(|_| !is_silent) {
        // Its answer is the last thing that it does, also if that is bad news: whoever starts the fleet again meets
        // nobody.
        let mut ended = [PollFd::new(&manager, PollFlags::IN)];
        let _ = poll(&mut ended, Some(&END_TIME));
    }
    asked?;
    if !left.is_empty() {
        let left = left.join(", ");
        let text =
            format!("fleet {fleet} is down, but for processes that can't be killed, of {left}");
        return Err(CliError::other(ExitCode::DaemonFailed, text));
    }
    if json {
        output::json(&json!({ "ok": true, "fleet": fleet }))?;
    } else {
        output::line(&format!("fleet {fleet} is down"))?;
    }
    Ok(ExitCode::Success)
}

pub(super) fn events(
    follow: bool,
    which: &Which,
    json: bool,
    at: &Surroundings,
) -> Result<ExitCode, CliError> {
    let mut client = connect(which, at)?;
    let colour = output::stdout_has_colour();
    let part = |response| match response {
        Response::Event { event } if json => Ok(output::json_line(&event)?),
        Response::Event { event } => Ok(output::painted(&ps::event_line(&event, colour))?),
        other => Err(CliError::from(unexpected(&other))),
    };
    client.ask(&Request::Events { follow }, part, |_| Ok(output::check_reader()?))?;
    Ok(ExitCode::Success)
}
