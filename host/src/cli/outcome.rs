//! What became of each daemon that a verb named.
//!
//! The manager tells of each, and then whether all is as was asked for. One daemon's failure is its
//! error's text; of several daemons each gets a line, so that nobody has to guess which of them an
//! error is about.

use serde::Serialize;
use serde_json::json;

use crate::control::client::{Client, ClientError, unexpected};
use crate::control::protocol::{Request, Response};

use super::error::CliError;
use super::exit_code::ExitCode;
use super::output::{self, Progress, harmless};
use super::untaken::Untaken;

/// One daemon's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    name: String,
    ok: bool,
    detail: String,
}

/// What a verb came to.
#[derive(Debug)]
pub(super) struct Outcomes {
    rows: Vec<Outcome>,
    refused: Option<ClientError>,
}

impl Outcomes {
    /// Asks for something that takes as long as it takes, and shows that it does.
    pub(super) fn ask(
        client: &mut Client,
        request: &Request,
        mut progress: Progress,
    ) -> Result<Self, CliError> {
        Self::ask_within(client, request, |_| {
            progress.tick();
            Ok(())
        })
    }

    /// As [`ask`](Self::ask); `tick` is called once a second, and ends the wait with an error.
    pub(super) fn ask_within(
        client: &mut Client,
        request: &Request,
        tick: impl FnMut(std::time::Duration) -> Result<(), CliError>,
    ) -> Result<Self, CliError> {
        let mut rows = Vec::new();
        let part = |response| match response {
            Response::Outcome { name, ok, detail } => {
                rows.push(Outcome { name, ok, detail });
                Ok(())
            }
            other => Err(CliError::from(unexpected(&other))),
        };
        match client.ask(request, part, tick) {
            Ok(()) => Ok(Self { rows, refused: None }),
            Err(CliError::Client(refused @ ClientError::Refused { .. })) => {
                Ok(Self { rows, refused: Some(refused) })
            }
            Err(error) => Err(error),
        }
    }

    /// Prints it; `all_done` is what is said when everything was done and no daemon needs a line of
    /// its own, `done` what became of a daemon for which it was.
    pub(super) fn report(
        self,
        all_done: &str,
        done: &str,
        untaken: &Untaken,
        json: bool,
    ) -> Result<ExitCode, CliError> {
        if self.refused.is_some() {
            if !json {
                untaken.print()?;
            }
            return self.fail_unless_done(done, json).map(|()| ExitCode::Success);
        }
        if json {
            let document = json!({ "ok": true, "daemons": self.rows, "config_changes": untaken });
            output::json(&document)?;
            return Ok(ExitCode::Success);
        }
        if self.rows.iter().all(|row| row.detail.is_empty()) {
            output::line(&harmless(all_done))?;
        } else {
            print(&self.rows.iter().map(|row| line(row, done)).collect::<Vec<_>>())?;
        }
        untaken.print()?;
        Ok(ExitCode::Success)
    }

    /// Prints it only if it was not done, which is the error.
    pub(super) fn fail_unless_done(self, done: &str, json: bool) -> Result<(), CliError> {
        let Some(error) = self.refused else { return Ok(()) };
        if !json {
            print(&lines(&self.rows, done))?;
        }
        Err(CliError::Refused { error, outcomes: self.rows })
    }
}

fn print(lines: &[String]) -> std::io::Result<()> {
    lines.iter().try_for_each(|text| output::line(text))
}

/// A line for each, where there is more than one: the error tells of a single one.
fn lines(rows: &[Outcome], done: &str) -> Vec<String> {
    match rows {
        [] | [_] => Vec::new(),
        rows => rows.iter().map(|row| line(row, done)).collect(),
    }
}

fn line(row: &Outcome, done: &str) -> String {
    let not = if row.ok { "" } else { "not " };
    let colon = if row.detail.is_empty() { "" } else { ": " };
    harmless(&format!("{not}{done} {}{colon}{}", row.name, row.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ok: bool, detail: &str) -> Outcome {
        Outcome { name: name.to_owned(), ok, detail: detail.to_owned() }
    }

    #[test]
    fn each_of_several_is_told_of_and_the_error_tells_of_one() {
        let failed = row("b", false, "exit code 1: \x1b[2Jno \r\u{202e}port");
        assert_eq!(lines(std::slice::from_ref(&failed), "started"), Vec::<String>::new());
        let text = lines(&[row("a", true, ""), failed], "started");
        assert_eq!(text[0], "started a");
        assert!(text[1].starts_with("not started b: exit code 1: "), "{text:?}");
        assert!(!text[1].contains(['\x1b', '\r', '\u{202e}']), "{text:?}");
    }
}
