//! What can go wrong on the command line, and how it is said.

use std::io;

use serde_json::json;

use crate::config::Diagnostics;
use crate::control::client::ClientError;

use super::exit_code::ExitCode;
use super::outcome::Outcome;
use super::output;

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The manager could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The manager refused, or did it for some of several daemons only.
    #[error("{error}")]
    Refused {
        /// What it said.
        error: ClientError,
        /// What became of each.
        outcomes: Vec<Outcome>,
    },
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] Diagnostics),
    /// Standard output can't be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// Anything else.
    #[error("{message}")]
    Other {
        /// For scripts.
        code: ExitCode,
        /// For people, with the way out.
        message: String,
    },
}

impl CliError {
    pub(super) fn other(code: ExitCode, message: impl Into<String>) -> Self {
        Self::Other { code, message: message.into() }
    }

    /// Says it, and gives the exit code. A reader that closed the pipe has seen enough: that is a
    /// success, in silence.
    pub(super) fn report(&self, json: bool) -> ExitCode {
        let code = match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::Success;
            }
            Self::Client(error) | Self::Refused { error, .. } => error.into(),
            Self::Config(_) => ExitCode::ConfigInvalid,
            Self::Output(_) => ExitCode::Failure,
            Self::Other { code, .. } => *code,
        };
        if json {
            let problems = match self {
                Self::Config(diagnostics) => diagnostics.problems.as_slice(),
                _ => &[],
            };
            let outcomes = match self {
                Self::Refused { outcomes, .. } => outcomes.as_slice(),
                _ => &[],
            };
            // If this can't be written either, the exit code remains.
            let _ = output::json(&json!({
                "error": {
                    "kind": code.as_str(),
                    "exit_code": code.code(),
                    "message": self.to_string(),
                    "problems": problems,
                    "daemons": outcomes,
                }
            }));
        } else {
            let text = match self {
                // Diagnostics say `error:` themselves, each for itself.
                Self::Config(diagnostics) => diagnostics.to_string(),
                other => format!("duende: {other}"),
            };
            output::complain(&text);
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_success() {
        let broken = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(broken.report(false), ExitCode::Success);
    }
}
