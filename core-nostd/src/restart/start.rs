//! Why a start was not possible, and whether that is final.
//!
//! The edges know errors of their system by number; here they have names that every system shares, and
//! the rule what follows from each stands here alone.

use super::Exit;

/// What outside of a daemon keeps it from being started. It may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// Its program, or something on the way to it, is not there.
    Program,
    /// A right is missing.
    Permission,
    /// Its program is being written.
    Busy,
    /// No more files can be open.
    Descriptors,
    /// There is no memory for it.
    Memory,
    /// There can be no more processes.
    Processes,
    /// The disk is full.
    Space,
    /// The disk fails.
    Io,
    /// A source of its channels can't be opened.
    Source,
    /// Its state can't be read.
    Store,
    /// Its image can't be read or kept.
    Image,
    /// It can't be talked to.
    Link,
    /// What it says itself, by exit code 75: something that it needs is missing.
    TempFail,
    /// Something else.
    Other,
}

/// What a system says when something can't be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartError {
    /// There is no such file or directory (`ENOENT`, `ENOTDIR`).
    NotFound,
    /// A right is missing (`EACCES`).
    Denied,
    /// The program is being written (`ETXTBSY`).
    Busy,
    /// No more files can be open (`EMFILE`, `ENFILE`).
    NoDescriptors,
    /// There is no memory (`ENOMEM`).
    NoMemory,
    /// There can be no more processes or threads (`EAGAIN`).
    NoProcesses,
    /// The disk, or the share of it, is full (`ENOSPC`, `EDQUOT`).
    NoSpace,
    /// The disk fails (`EIO`, `ESTALE`).
    Io,
    /// Its link can't be made.
    NoLink,
    /// Its image can't be read or kept now.
    NoImage,
    /// What would hold it is not there.
    NoPlace,
    /// It is no program for this machine (`ENOEXEC`, `ELIBBAD`, `EINVAL`).
    NotAProgram,
    /// Its arguments and environment are too long (`E2BIG`).
    TooLong,
    /// It may not run as that user, or have that limit (`EPERM`).
    NotPermitted,
    /// Its name is too long, or leads in a circle (`ENAMETOOLONG`, `ELOOP`).
    BadName,
    /// What is asked for can't be, whatever the machine does: a mistake in what was said.
    Invalid,
    /// Something else.
    Other,
}

impl StartError {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::NotFound,
        Self::Denied,
        Self::Busy,
        Self::NoDescriptors,
        Self::NoMemory,
        Self::NoProcesses,
        Self::NoSpace,
        Self::Io,
        Self::NoLink,
        Self::NoImage,
        Self::NoPlace,
        Self::NotAProgram,
        Self::TooLong,
        Self::NotPermitted,
        Self::BadName,
        Self::Invalid,
        Self::Other,
    ];

    /// What it counts as. Final is what lies in what was asked for; the rest lies in the machine, which
    /// changes.
    #[must_use]
    pub const fn exit(self) -> Exit {
        Exit::Unavailable(match self {
            Self::NotFound => Unavailable::Program,
            Self::Denied => Unavailable::Permission,
            Self::Busy => Unavailable::Busy,
            Self::NoDescriptors => Unavailable::Descriptors,
            Self::NoMemory => Unavailable::Memory,
            Self::NoProcesses => Unavailable::Processes,
            Self::NoSpace => Unavailable::Space,
            Self::Io => Unavailable::Io,
            Self::NoLink => Unavailable::Link,
            Self::NoImage => Unavailable::Image,
            Self::NoPlace | Self::Other => Unavailable::Other,
            Self::NotAProgram
            | Self::TooLong
            | Self::NotPermitted
            | Self::BadName
            | Self::Invalid => return Exit::Refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restart::{ExitRules, FailureReason, RestartPolicy};

    #[test]
    fn what_was_asked_for_is_final_and_the_machine_is_not() {
        for error in StartError::ALL {
            let exit = ExitRules::default().classify(error.exit());
            let failure = exit.failure.expect("it did not start");
            let is_final = matches!(
                error,
                StartError::NotAProgram
                    | StartError::TooLong
                    | StartError::NotPermitted
                    | StartError::BadName
                    | StartError::Invalid
            );
            assert_eq!(failure == FailureReason::Refused, is_final, "{error:?}");
            assert_eq!(failure.is_outer(), !is_final, "{error:?}");
            assert_eq!(exit.is_charged, is_final, "{error:?}");
            for policy in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
                assert_eq!(exit.restarts(policy), !is_final, "{error:?} {policy:?}");
            }
        }
    }
}
