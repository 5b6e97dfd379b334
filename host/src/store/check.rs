//! The file looked through, page by page and row by row.

use super::database::Database;
use super::fault::{Fault, caught};
use super::record::DaemonId;
use super::rows;
use super::tables::ROWS;

/// Longest file that is looked through as a whole when it is opened, in bytes: a few milliseconds. That finds what
/// the checksums of rows can't: a file all of whose pages are of an earlier moment.
const LOOKED_THROUGH_BYTES_MAX: u64 = 4 << 20;

impl Database {
    /// Whether the list of names had to be made from the records.
    pub(super) fn names_are_damaged(&mut self) -> bool {
        let sealed = self.about.names.unwrap_or_default();
        let listed = self.read(rows::listed);
        listed.map_or(true, |listed| rows::sum_of_names(&listed) != sealed)
    }

    /// How many ids something lies under that are no daemon's.
    pub(super) fn strays(&mut self) -> Result<usize, Fault> {
        let found = self.read(|transaction| rows::ids(&transaction.open_table(ROWS)?))?;
        let is_known = |id: &DaemonId| self.ids.values().any(|known| known == id);
        Ok(found.iter().filter(|id| !is_known(id)).count())
    }

    /// Has redb look at all of its pages. What it would mend on the way stays in memory.
    pub(super) fn check_pages(&mut self) -> Result<(), Fault> {
        self.hold.begin_if_free();
        self.read(|_| Ok(()))?;
        let (outcome, panicked) = caught(|| match &mut self.tables {
            Some(tables) => Ok(tables.check_integrity()?),
            None => Err(Fault::damaged("it can't be opened")),
        });
        if panicked || outcome.is_err() {
            self.close();
        }
        match outcome? {
            true => Ok(()),
            false => Err(Fault::damaged("its pages are not those that were written")),
        }
    }

    /// Whether redb finds each page as it was written, in a file that is small enough to be looked through when it
    /// is opened. One that was not closed is looked through by redb in any case.
    pub(super) fn is_sound(&self) -> bool {
        let small = self.file.metadata().is_ok_and(|file| file.len() <= LOOKED_THROUGH_BYTES_MAX);
        let Some(file) = self.file.try_clone().ok().filter(|_| small) else { return true };
        Self::over(self.path.clone(), file).check_pages().is_ok()
    }

    /// Whether nothing of any daemon is damaged.
    pub(super) fn daemons_are_right(&mut self) -> bool {
        self.daemons().is_ok_and(|daemons| daemons.iter().all(|(_, kept)| kept.is_ok()))
    }
}
