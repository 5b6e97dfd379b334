//! What a failure of redb means for whoever has to act on it.
//!
//! "Damaged" is said only of bytes that contradict themselves: its way out costs the state. What another
//! version would read is never called damaged (`another_format_is_not_called_damaged`).
//!
//! redb panics where a page is not what it was when redb wrote it. [`caught`] is the seam at which that becomes
//! damage like any other (`damage_anywhere_is_found_and_never_a_panic`).

use std::any::Any;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;

use super::{FaultKind, StoreError};

/// Why an operation failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) detail: String,
    /// The one daemon that it concerns; none: the file.
    pub(super) daemon: Option<String>,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), daemon: None }
    }

    pub(super) fn damaged(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::Damaged, detail)
    }

    /// Something of one daemon is damaged.
    pub(super) fn damaged_of(daemon: &str, detail: String) -> Self {
        Self { daemon: Some(daemon.to_owned()), ..Self::damaged(detail) }
    }

    /// `writer` is the program that wrote the file last, if the file could say so.
    pub(super) fn into_error(self, path: PathBuf, writer: Option<&str>) -> StoreError {
        let Self { kind, detail, daemon } = self;
        match kind {
            FaultKind::Damaged => match daemon {
                Some(daemon) => StoreError::DamagedDaemon { path, daemon, detail },
                None => StoreError::Damaged { path, detail },
            },
            FaultKind::OtherFormat => StoreError::OtherFormat {
                path,
                detail,
                writer: writer.unwrap_or("another version").to_owned(),
            },
            FaultKind::Full | FaultKind::Io => {
                StoreError::Io { path, source: io::Error::other(detail) }
            }
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        use redb::Error as E;
        let error = error.into();
        let kind = match &error {
            E::Io(io) => match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    FaultKind::Full
                }
                // Shorter than its header says.
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData => FaultKind::Damaged,
                _ => FaultKind::Io,
            },
            E::Corrupted(_) => FaultKind::Damaged,
            // redb's checksums are right, so these tables are what somebody meant to write.
            E::UpgradeRequired(_)
            | E::TableTypeMismatch { .. }
            | E::TypeDefinitionChanged { .. }
            | E::TableIsMultimap(_)
            | E::TableIsNotMultimap(_)
            | E::TableDoesNotExist(_) => FaultKind::OtherFormat,
            // redb wants to be opened anew, or was asked for what it can't do: the file is none the worse.
            _ => FaultKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

/// Calls into redb; a panic of it is a fault, and the second value says so.
///
/// Whoever calls this knows what the panic has left half-done: after one that only read it is nothing, as redb
/// holds no lock while it takes a page apart; after one that wrote, the database must not be used again.
pub(super) fn caught<T>(act: impl FnOnce() -> Result<T, Fault>) -> (Result<T, Fault>, bool) {
    hush();
    let before = CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(act));
    CAUGHT.set(before);
    match outcome {
        Ok(outcome) => (outcome, false),
        Err(panic) => {
            let said = said(panic.as_ref());
            (Err(Fault::damaged(format!("a page is not what was written: {said}"))), true)
        }
    }
}

thread_local! {
    /// Whether a panic of this thread is expected, and told of as a fault.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// A panic that is caught is an error in words: no report of a bug of this program comes before it.
fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                report(panic);
            }
        }));
    });
}

/// What a panic says, on one line.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
