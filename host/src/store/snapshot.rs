//! One daemon, as it was at one instant, read while the store goes on.
//!
//! Rules:
//! 1. **Of one instant.** All of it comes from one read transaction: the state and the positions are those of one
//!    commit (`who_does_not_take_an_export_holds_nobody_up`).
//! 2. **Nobody waits for the reader.** The store hands out the transaction and goes on. As long as it lives the file
//!    keeps the pages that it sees, so whoever takes nothing of it for long has to be let go by the caller.
//! 3. **Memory for one entry,** and for what the journal has of the daemon. Entries go out as they are read; what is damaged shows before the end, and without
//!    its end an export is none.

use std::io::{self, Write};
use std::path::PathBuf;

use redb::ReadTransaction;

use super::StoreError;
use super::export::{self, ExportWriter, Header};
use super::fault::{Fault, caught};
use super::pending::Overlay;
use super::rows;
use super::seal::Kind;

/// A daemon at one instant.
pub struct Snapshot {
    pub(super) transaction: ReadTransaction,
    /// What the journal has of it beyond that.
    pub(super) overlay: Overlay,
    pub(super) header: Header,
    pub(super) path: PathBuf,
}

/// Why an export was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// What is kept of the daemon is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever it was for does not take it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Snapshot {
    /// Writes it as an [`Export`](super::Export). Blocks on the file, and on `out`.
    ///
    /// # Errors
    /// Something of it is damaged, or `out` can't be written. What was written is no export then.
    pub fn write(&self, out: &mut impl Write) -> Result<(), SnapshotError> {
        let mut failed = None;
        let name = self.header.record.name();
        let (outcome, _) = caught(|| {
            let mut out = match ExportWriter::begin(out, &self.header) {
                Ok(out) => out,
                Err(error) => {
                    failed = Some(error);
                    return Ok(());
                }
            };
            let put = |kind: u8, of: &str, value: &[u8]| {
                let Some(kind) = exported(kind).filter(|_| failed.is_none()) else { return Ok(()) };
                failed = out.put(kind, of, value).err();
                // There is no need to read on.
                if failed.is_some() { Err("is not wanted") } else { Ok(()) }
            };
            rows::each_row(&self.transaction, name, self.header.id, &self.overlay, put)?;
            if failed.is_none() {
                failed = out.finish().err();
            }
            Ok::<_, Fault>(())
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        outcome.map_err(|fault| {
            let fault = Fault { daemon: Some(name.to_owned()), ..fault };
            fault.into_error(self.path.clone(), Some(&self.header.writer)).into()
        })
    }
}

/// The kind of an entry, for that of a row; none: it is in the header, or nobody knows it.
fn exported(kind: u8) -> Option<u8> {
    const KINDS: [(Kind, u8); 4] = [
        (Kind::State, export::STATE),
        (Kind::Position, export::POSITION),
        (Kind::Counter, export::COUNTER),
        (Kind::Gauge, export::GAUGE),
    ];
    KINDS.iter().find(|(row, _)| *row as u8 == kind).map(|(_, entry)| *entry)
}
