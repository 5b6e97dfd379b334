//! The lock that one `keep` of a fleet holds while it lives: as long as a process that it started may
//! be there. Whoever wants to start the fleet again waits for it. Its file names the `keep` until that
//! has ended all that it held; so one that was killed is known to the next.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::KeepError;
use crate::lock_file::LockFile;

/// From one try to take the lock to the next: the system tells nobody when it is free.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(LockFile);

impl Lock {
    /// Takes the lock, and writes into its file who has it.
    pub(super) fn take(path: &Path) -> Result<Self, KeepError> {
        let mut lock = try_take(path)?;
        let pid = format!("{}\n", std::process::id());
        lock.write(&pid).map_err(failed)?;
        Ok(Self(lock))
    }

    /// The last `keep`, if it did not end what it held.
    pub(super) fn killed_before(&self) -> Option<u32> {
        self.0.before().parse().ok()
    }

    /// Nothing that was started under this lock is left.
    pub(super) fn clear(&mut self) {
        // Then the next one looks in vain.
        let _ = self.0.write("");
    }

    /// What no other lock that is held at the same time has, as a file name.
    pub(super) fn identity(&self) -> Option<String> {
        let metadata = self.0.file().metadata().ok()?;
        Some(format!("{:x}-{:x}", metadata.dev(), metadata.ino()))
    }
}

fn failed(error: std::io::Error) -> KeepError {
    KeepError::system("taking the lock of keep", error)
}

fn try_take(path: &Path) -> Result<LockFile, KeepError> {
    let still_there =
        |text: String| KeepError::StillThere { path: path.to_owned(), pid: text.parse().ok() };
    LockFile::take(path).map_err(failed)?.map_err(still_there)
}

/// Waits until the `keep` that holds the lock at `path`, if there is one, has ended: what it started
/// is gone then.
///
/// # Errors
/// [`KeepError::StillThere`] when it did not end before `deadline`; [`KeepError::System`] when the
/// lock can't be looked at.
pub async fn wait_for_previous(path: &Path, deadline: Instant) -> Result<(), KeepError> {
    loop {
        match try_take(path) {
            Err(KeepError::StillThere { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(RETRY_EVERY).await;
            }
            taken => return taken.map(drop),
        }
    }
}
