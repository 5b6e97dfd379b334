//! The state file of a fleet that does not run, for whoever asks on the command line.
//!
//! [`look`](StateFile::look) never changes the file, and never makes one; [`open`](StateFile::open) does what
//! the manager would do.

use std::io;
use std::path::{Path, PathBuf};

use super::daemons::Entered;
use super::database::Database;
use super::export::Export;
use super::fault::Fault;
use super::groups::refuse_lone_journal;
use super::record::{DaemonId, Record};
use super::{Kept, Listed, StoreError};

/// An open state file; nobody else can open it meanwhile.
#[derive(Debug)]
pub struct StateFile(Database);

/// Why an export was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is something that it would replace.
    #[error(
        "{path} holds state of `{name}` already, and nothing was changed: --as NAME gives this one another name, \
         --replace throws away what is there"
    )]
    Present {
        /// The state file.
        path: PathBuf,
        /// The daemon's name.
        name: String,
    },
    /// The file can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Of how many daemons everything was read.
    pub daemons: usize,
    /// What is damaged.
    pub damages: Vec<StoreError>,
}

impl StateFile {
    /// Opens the file to read it.
    ///
    /// # Errors
    /// As [`Store::open`](super::Store::open); [`StoreError::Io`] if there is none.
    pub fn look(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Database::look(path.as_ref()).map(Self)
    }

    /// Opens the file to write to it, or makes it.
    ///
    /// # Errors
    /// As [`Store::open_for`](super::Store::open_for).
    pub fn open(path: impl AsRef<Path>, fleet: Option<&str>) -> Result<Self, StoreError> {
        Database::open(path.as_ref(), fleet).map(Self)
    }

    /// Whether its daemons have ids. In a file of an older schema that was only looked at they have none yet:
    /// those that are shown were drawn for the occasion.
    #[must_use]
    pub fn has_ids(&self) -> bool {
        !self.0.has_drawn_ids
    }

    /// All daemons, in the order of their names: how much is kept of each, or what is damaged of it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn daemons(&mut self) -> Result<Listed<StoreError>, StoreError> {
        let daemons = self.0.daemons().map_err(|fault| self.0.error(fault))?;
        let said = |(name, kept): (String, Result<Kept, Fault>)| {
            (name, kept.map_err(|fault| self.0.error(fault)))
        };
        Ok(daemons.into_iter().map(said).collect())
    }

    /// What is damaged: of the daemon, if one is named, or of all and of the file itself. All that is kept is
    /// read for that, and nothing is written.
    ///
    /// # Errors
    /// Nothing of the file can be read.
    pub fn check(&mut self, daemon: Option<&str>) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        for (name, kept) in self.daemons()? {
            if daemon.is_some_and(|daemon| daemon != name) {
                continue;
            }
            checked.daemons += 1;
            checked.damages.extend(kept.err());
        }
        if daemon.is_some() {
            return Ok(checked);
        }
        let mut of_file = Vec::new();
        if self.0.names_are_damaged() {
            of_file.push(Fault::damaged("the list of its daemons; the records tell the same"));
        }
        match self.0.strays() {
            Ok(0) => {}
            Ok(strays) => {
                let text = format!("something lies under {strays} ids that are no daemon's");
                of_file.push(Fault::damaged(text));
            }
            Err(fault) => of_file.push(fault),
        }
        of_file.extend(self.0.check_pages().err());
        checked.damages.extend(of_file.into_iter().map(|fault| self.0.error(fault)));
        Ok(checked)
    }

    /// Removes a daemon and everything kept of it, durably, whatever is damaged of it.
    ///
    /// # Errors
    /// The file can't be written, or is damaged where it would have to be.
    pub fn reset(&mut self, daemon: &str) -> Result<(), StoreError> {
        self.0.reset(daemon).map_err(|fault| self.0.error(fault))
    }

    /// Has the file go on with what can be read of a journal that does not fit, which is given another name: that, if
    /// there is a journal.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the journal.
    pub fn reset_journal(
        path: impl AsRef<Path>,
        fleet: Option<&str>,
    ) -> Result<Option<PathBuf>, StoreError> {
        Ok(Database::open_without_journal(path.as_ref(), fleet)?.1)
    }

    /// Says that a file that is not there has left its journal.
    ///
    /// # Errors
    /// [`StoreError::LoneJournal`].
    pub fn refuse_lone_journal(path: impl AsRef<Path>) -> Result<(), StoreError> {
        refuse_lone_journal(path.as_ref())
    }

    /// Keeps a copy of the whole file beside it, and of its journal if it has one; where that is.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_copy(&self) -> io::Result<PathBuf> {
        self.0.keep_copy("damaged")
    }

    /// What an export of a daemon holds; none if nothing is kept under that name.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn export(&mut self, daemon: &str) -> Result<Option<Export>, StoreError> {
        self.0.export(daemon).map_err(|fault| self.0.error(fault))
    }

    /// Enters an exported daemon under a name, durably, in one transaction. It keeps its id, unless a daemon
    /// of another name has that: then it is a copy, with an id of its own.
    ///
    /// # Errors
    /// State is kept under that name already, and is not to be replaced; or the file can't be written.
    pub fn import(
        &mut self,
        export: &Export,
        name: &str,
        replace: bool,
    ) -> Result<DaemonId, ImportError> {
        let entered = self.0.import(export, name, replace);
        match entered.map_err(|fault| self.0.error(fault))? {
            Entered::Done(id) => Ok(id),
            Entered::Present => {
                Err(ImportError::Present { path: self.0.path().to_owned(), name: name.to_owned() })
            }
        }
    }
}

impl Kept {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> DaemonId {
        self.id
    }

    /// What is known of it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How many keys its `state` has.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The bytes of those keys and their values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of how many channels it is known where they go on.
    #[must_use]
    pub fn channels(&self) -> u64 {
        self.channels
    }

    /// How many counters it has.
    #[must_use]
    pub fn counters(&self) -> u64 {
        self.counters
    }

    /// How many gauges it has.
    #[must_use]
    pub fn gauges(&self) -> u64 {
        self.gauges
    }
}
