//! How a daemon ends: its reasons, its errors, and what the parent process sees of them.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// A signal that asks a daemon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: the usual request of a supervisor.
    Terminate,
    /// SIGINT: Ctrl-C in a terminal.
    Interrupt,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Why a daemon ended.
#[derive(Debug)]
pub enum ExitReason {
    /// Its work is done, or it stopped in order when asked. Exit code 0.
    Graceful,
    /// A signal asked it to stop before it ran. Exit code 0.
    Signal(Signal),
    /// It failed. Exit code 1.
    Error(DaemonError),
    /// Something that it needs ran out; the text says what. Exit code 75 (`EX_TEMPFAIL`): trying
    /// again later may help.
    ResourceExhausted(String),
    /// Going on would break a policy; the text says which. Exit code 77 (`EX_NOPERM`): trying again
    /// without a change will not help.
    PolicyViolation(String),
}

impl ExitReason {
    /// What the parent process sees.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Graceful | Self::Signal(_) => ExitCode::SUCCESS,
            Self::Error(_) => ExitCode::FAILURE,
            Self::ResourceExhausted(_) => ExitCode::from(75),
            Self::PolicyViolation(_) => ExitCode::from(77),
        }
    }

    /// Whether this is an end in order.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Graceful | Self::Signal(_))
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graceful => f.write_str("done"),
            Self::Signal(signal) => write!(f, "stopped by {signal}"),
            Self::Error(error) => f.write_str(&error.with_causes()),
            Self::ResourceExhausted(what) => write!(f, "exhausted: {what}"),
            Self::PolicyViolation(which) => write!(f, "policy violated: {which}"),
        }
    }
}

/// What a daemon, or the runtime around it, failed at. The text says the way out.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration, the command line or the environment can't work.
    #[error("{0}")]
    Config(String),
    /// The system refused something.
    #[error("{what}")]
    Io {
        /// What was tried, and what to do about it.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A failure that is the daemon's own.
    #[error("{0}")]
    Failed(String),
    /// The manager ended the daemon.
    #[error("killed by the manager")]
    Killed,
    /// A second signal came while the daemon was stopping.
    #[error("stopped at once by a second signal; open work was dropped")]
    Aborted,
    /// The daemon did not end in time.
    #[error("not stopped within {}; open work was dropped", seconds(*timeout))]
    ShutdownTimeout {
        /// The time it had.
        timeout: Duration,
    },
}

impl DaemonError {
    /// The text and the texts of all causes, joined by colons.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_in_order_have_exit_code_0() {
        let failed = || DaemonError::Failed("no".to_owned());
        for (reason, code) in [
            (ExitReason::Graceful, 0),
            (ExitReason::Signal(Signal::Terminate), 0),
            (ExitReason::Error(failed()), 1),
            (ExitReason::ResourceExhausted("disk".to_owned()), 75),
            (ExitReason::PolicyViolation("no root".to_owned()), 77),
        ] {
            // ExitCode has no PartialEq; its Debug text is all there is to compare.
            let expected = format!("{:?}", ExitCode::from(code));
            assert_eq!(format!("{:?}", reason.exit_code()), expected, "{reason}");
            assert_eq!(reason.is_clean(), code == 0, "{reason}");
        }
    }

    #[test]
    fn causes_are_told() {
        let error = DaemonError::Io {
            what: "cannot open x".to_owned(),
            source: io::Error::other("disk on fire"),
        };
        assert_eq!(error.with_causes(), "cannot open x: disk on fire");
    }
}
