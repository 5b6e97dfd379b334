//! The lock that one `keep` of a fleet holds while it lives: as long as a process that it started may
//! be there. Whoever wants to start the fleet again waits for it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::KeepError;

/// From one try to take the lock to the next: the system tells nobody when it is free.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Longest text of a process id.
const PID_BYTES_MAX: u64 = 20;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock, and writes into its file who has it.
    pub(super) fn take(path: &Path) -> Result<Self, KeepError> {
        let failed = |error| KeepError::system("taking the lock of keep", error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Whoever took it a moment ago may not have written yet.
                let _ = (&file).take(PID_BYTES_MAX).read_to_string(&mut pid);
                let pid = pid.trim().parse().ok();
                return Err(KeepError::StillThere { path: path.to_owned(), pid });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self(file))
    }

    /// What no other lock that is held at the same time has, as a file name.
    pub(super) fn identity(&self) -> Option<String> {
        let metadata = self.0.metadata().ok()?;
        Some(format!("{:x}-{:x}", metadata.dev(), metadata.ino()))
    }
}

/// Waits until the `keep` that holds the lock at `path`, if there is one, has ended: what it started
/// is gone then.
///
/// # Errors
/// [`KeepError::StillThere`] when it did not end before `deadline`; [`KeepError::System`] when the
/// lock can't be looked at.
pub async fn wait_for_previous(path: &Path, deadline: Instant) -> Result<(), KeepError> {
    loop {
        match Lock::take(path) {
            Err(KeepError::StillThere { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(RETRY_EVERY).await;
            }
            taken => return taken.map(drop),
        }
    }
}
