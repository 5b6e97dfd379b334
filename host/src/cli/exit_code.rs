//! What the exit code of `duende` says. Scripts may rely on it.

use std::process::Termination;

use crate::control::client::ClientError;
use crate::control::protocol::ErrorCode;

/// The exit codes of `duende`.
///
/// A reader that closes the pipe early (`duende ps | head -1`) is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: it was done.
    Success,
    /// 1: it was not done, for a reason that has no code of its own.
    Failure,
    /// 2: the command line can't be understood.
    Usage,
    /// 3: the configuration is not valid.
    ConfigInvalid,
    /// 4: no manager runs, or not the one that was asked for; or it is not clear which is meant.
    NotRunning,
    /// 5: no daemon of that name is configured.
    UnknownDaemon,
    /// 6: a manager of this fleet runs already.
    AlreadyRunning,
    /// 7: a daemon failed, or was in no state to do what was asked of it.
    DaemonFailed,
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::ConfigInvalid => 3,
            Self::NotRunning => 4,
            Self::UnknownDaemon => 5,
            Self::AlreadyRunning => 6,
            Self::DaemonFailed => 7,
        }
    }

    /// The word that `--json` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::ConfigInvalid => "config_invalid",
            Self::NotRunning => "not_running",
            Self::UnknownDaemon => "unknown_daemon",
            Self::AlreadyRunning => "already_running",
            Self::DaemonFailed => "daemon_failed",
        }
    }
}

impl Termination for ExitCode {
    fn report(self) -> std::process::ExitCode {
        self.code().into()
    }
}

impl From<&ClientError> for ExitCode {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::NotRunning { .. }
            | ClientError::Stale { .. }
            | ClientError::Several { .. } => Self::NotRunning,
            ClientError::Refused { code, .. } => match code {
                ErrorCode::UnknownDaemon => Self::UnknownDaemon,
                ErrorCode::Failed | ErrorCode::InvalidState => Self::DaemonFailed,
                ErrorCode::Version
                | ErrorCode::UnknownRequest
                | ErrorCode::ReadOnly
                | ErrorCode::Stopping
                | ErrorCode::Halted
                | ErrorCode::TooManyFollowers
                | ErrorCode::Busy
                | ErrorCode::Denied
                | ErrorCode::TooSlow
                | ErrorCode::Malformed
                | ErrorCode::TooLarge
                | ErrorCode::StateLost
                | ErrorCode::Other(_) => Self::Failure,
            },
            ClientError::RuntimeDir(_)
            | ClientError::ForeignManager { .. }
            | ClientError::Version { .. }
            | ClientError::TooOld { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Closed
            | ClientError::Malformed(_)
            | ClientError::Unsendable(_)
            | ClientError::Io { .. } => Self::Failure,
        }
    }
}
