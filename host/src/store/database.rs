//! The open file, and what is done to its tables.
//!
//! Rules:
//! 1. **One opener.** The file stays locked from [`Database::open`] until the value is dropped, also
//!    while redb is closed and opened again after a failure: the lock is ours, on our descriptor.
//! 2. **A group is applied once.** It carries a number that is stored with it. After a failed commit
//!    nobody knows whether it reached the disk; the number that the file shows on the next attempt
//!    tells, so no counter is added to twice.
//! 3. **A new file appears whole.** It is made beside its place and then renamed, so a kill never
//!    leaves half a database under its name (`an_unfinished_creation_is_started_over`).
//! 4. **First whose it is, then the first write.** Until it is known that the file is ours, of a schema that
//!    we read and of the fleet that asks, nothing reaches it ([`Hold`]), and whoever only
//!    [looks](Database::look) never writes to it (`looking_changes_nothing`).
//! 5. **Damage is never a panic.** redb is called in [`read`](Database::read) and [`write`](Database::write)
//!    alone, which catch one. After one that only read, the rest of the file is used as before; after one that
//!    wrote, nothing reaches the file any more, and whatever is asked is refused
//!    (`damage_anywhere_is_found_and_never_a_panic`).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use redb::{ReadTransaction, ReadableDatabase};
use rustix::fs::Advice;

use crate::own_file;

use super::about::{About, read_about};
#[cfg(test)]
use super::disk::Failures;
use super::disk::{Disk, Hold};
use super::fault::{Fault, caught};
use super::file::{astray, check_header, create, lock};
use super::groups::{JOURNAL_AFTER_GROUPS, refuse_lone_journal};
use super::journal::{self, Journal};
use super::migrate::{self, SCHEMA_IDS, SCHEMA_NAMES};
use super::pending::Pending;
use super::record::{DaemonId, random};
use super::rows;
use super::tables::{
    self, NAMES, ORIGIN, ORIGIN_FLEET, ORIGIN_STORE, ORIGIN_WRITER, SCHEMA, SCHEMA_JOURNALED,
    WRITER,
};
use super::{FaultKind, StoreError};

/// Pages that redb keeps in memory, in bytes. A daemon's state is read once, at its start.
const CACHE_BYTES: usize = 16 << 20;

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    /// None after a failure: redb refuses to go on with what it has in memory, and rightly so.
    pub(super) tables: Option<redb::Database>,
    /// The descriptor that holds the lock.
    pub(super) file: File,
    pub(super) hold: Hold,
    pub(super) about: About,
    /// The ids were drawn in memory, for a file whose schema has none: the next who looks sees others.
    pub(super) has_drawn_ids: bool,
    /// The number of the last group that is known to be durable.
    pub(super) last_group: u64,
    /// What is durable in the journal alone.
    pub(super) pending: Pending,
    pub(super) journal: Option<Journal>,
    /// How many more groups are written without a journal.
    pub(super) until_journal: u32,
    /// Ids that are known to be durable.
    pub(super) ids: HashMap<String, DaemonId>,
    /// Why the file is not used any more, if redb has panicked over it while it wrote.
    pub(super) broken: Option<String>,
    #[cfg(test)]
    pub(super) failures: Failures,
}

impl Database {
    /// Opens the file for a fleet, or makes it; an older schema is migrated. Without a fleet, as for a
    /// single component, it is whoever's it is.
    pub(super) fn open(path: &Path, fleet: Option<&str>) -> Result<Self, StoreError> {
        Ok(Self::open_to_write(path, fleet, false)?.0)
    }

    /// As [`open`](Self::open), with what can be read of a journal that does not fit, which is put aside: where.
    pub(super) fn open_without_journal(
        path: &Path,
        fleet: Option<&str>,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        Self::open_to_write(path, fleet, true)
    }

    fn open_to_write(
        path: &Path,
        fleet: Option<&str>,
        without_journal: bool,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        let io_error = |source| StoreError::Io { path: path.to_owned(), source };
        let mut database = match Self::held(path) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                // Its state would be another's.
                refuse_lone_journal(path)?;
                create(path)?;
                Self::held(path)?
            }
            held => held?,
        };
        if let (Some(asking), Some(found)) = (fleet, &database.about.fleet)
            && asking != found
        {
            return Err(StoreError::OtherFleet {
                path: path.to_owned(),
                found: found.clone(),
                asking: asking.to_owned(),
            });
        }
        let journaled = if without_journal { None } else { Some(database.journaled()?) };
        let old = database.about.schema;
        if old < SCHEMA {
            migrate::keep_copy(&database.file, path, &format!("schema-{old}")).map_err(
                |error| {
                    let text = format!(
                        "cannot keep a copy of it beside it, before its schema changes: {error}"
                    );
                    io_error(io::Error::new(error.kind(), text))
                },
            )?;
        }
        let is_sound = database.is_sound();
        let unsound = || Fault::damaged("its pages are not those that were written last");
        if old < SCHEMA {
            if !is_sound {
                return Err(database.error(unsound()));
            }
            database.hold.let_go(&database.file).map_err(io_error)?;
            database.migrate()?;
        }
        let names_are_damaged = database.know_names()?;
        // What is damaged of one daemon is told when that one is read.
        if !is_sound && !names_are_damaged && database.daemons_are_right() {
            return Err(database.error(unsound()));
        }
        database.hold.let_go(&database.file).map_err(io_error)?;
        if names_are_damaged {
            database.list_names_again()?;
        }
        let aside = match journaled {
            Some(groups) => {
                database.take_in(&groups)?;
                None
            }
            None => database.drop_journal()?,
        };
        database.claim(fleet)?;
        Ok((database, aside))
    }

    /// Opens the file to read it. It is never changed, whatever is done with the value: an older schema
    /// is migrated in memory only.
    pub(super) fn look(path: &Path) -> Result<Self, StoreError> {
        let mut database = Self::held(path)?;
        let old = database.about.schema;
        if old < SCHEMA {
            database.migrate()?;
            database.has_drawn_ids = old == SCHEMA_NAMES;
        }
        database.know_names()?;
        let journaled = database.journaled()?;
        database.take_in(&journaled)?;
        Ok(database)
    }

    /// Opens the file, says what it is, and writes nothing to it.
    fn held(path: &Path) -> Result<Self, StoreError> {
        let io_error = |source| StoreError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?;
        lock(&file, path)?;
        check_header(&file, path)?;
        let mut database = Self::over(path.to_owned(), file);
        database.hold.begin();
        let about = database.read(read_about);
        let Some(about) = about.map_err(|fault| database.error(fault))? else {
            let detail = "a redb database without a schema number".to_owned();
            return Err(StoreError::Foreign { path: path.to_owned(), detail });
        };
        let is_newer = about.schema > SCHEMA_JOURNALED;
        let is_read = if is_newer {
            about.reader_min <= SCHEMA_JOURNALED
        } else {
            about.schema >= SCHEMA_NAMES
        };
        if !is_read {
            return Err(StoreError::Schema {
                path: path.to_owned(),
                found: about.schema,
                supported: SCHEMA_JOURNALED,
                writer: about.writer.unwrap_or_else(|| "another version".to_owned()),
            });
        }
        if !about.is_right {
            let fault = Fault::damaged("what it says of itself is not what was written");
            return Err(database.error(fault));
        }
        database.last_group = about.group;
        database.about = about;
        Ok(database)
    }

    pub(super) fn over(path: PathBuf, file: File) -> Self {
        Self {
            path,
            tables: None,
            file,
            hold: Hold::default(),
            about: About::default(),
            has_drawn_ids: false,
            last_group: 0,
            pending: Pending::default(),
            journal: None,
            until_journal: JOURNAL_AFTER_GROUPS,
            ids: HashMap::new(),
            broken: None,
            #[cfg(test)]
            failures: Failures::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a failure means, said of this file.
    pub(super) fn error(&self, fault: Fault) -> StoreError {
        fault.into_error(self.path.clone(), self.about.writer.as_deref())
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let from = self.about.schema;
        let done = self.write(|tables, _| {
            let transaction = tables.begin_write()?;
            match from {
                SCHEMA_NAMES => migrate::from_names(&transaction)?,
                SCHEMA_IDS => migrate::from_ids(&transaction)?,
                _ => return Err(Fault::damaged(format!("it has schema {from}"))),
            }
            transaction.commit()?;
            Ok(())
        });
        done.map_err(|fault| self.error(fault))?;
        self.look_again()
    }

    /// Reads what the file says of itself, after that was changed.
    pub(super) fn look_again(&mut self) -> Result<(), StoreError> {
        let about = self.read(read_about).map_err(|fault| self.error(fault))?;
        self.about = about.unwrap_or_default();
        Ok(())
    }

    /// Reads the names, from the list of them or, if that is damaged, from the records. Whether it was damaged.
    fn know_names(&mut self) -> Result<bool, StoreError> {
        let sealed = self.about.names.unwrap_or_default();
        let is_whole = |names: &HashMap<String, DaemonId>| rows::sum_of_names(names) == sealed;
        let listed = self.read(rows::listed).ok().filter(is_whole);
        let is_damaged = listed.is_none();
        let names = match listed {
            Some(listed) => listed,
            None => {
                let recorded = self.read(rows::recorded).map_err(|fault| self.error(fault))?;
                if !is_whole(&recorded) {
                    let fault = Fault::damaged("the list of its daemons is not what was written");
                    return Err(self.error(fault));
                }
                recorded
            }
        };
        self.ids = names;
        Ok(is_damaged)
    }

    /// Puts a whole list of names in the place of a damaged one.
    fn list_names_again(&mut self) -> Result<(), StoreError> {
        let done = self.write(|tables, ids| {
            let transaction = tables.begin_write()?;
            transaction.delete_table(NAMES)?;
            {
                let mut names = transaction.open_table(NAMES)?;
                for (name, id) in ids {
                    names.insert(name.as_str(), id.0)?;
                }
            }
            Ok(transaction.commit()?)
        });
        done.map_err(|fault| self.error(fault))
    }

    /// Writes down who writes it from now on, and for whom.
    fn claim(&mut self, fleet: Option<&str>) -> Result<(), StoreError> {
        let About { store, writer, fleet: claimed, .. } = &self.about;
        let fleet = fleet.filter(|_| claimed.is_none());
        if store.is_some() && writer.as_deref() == Some(WRITER) && fleet.is_none() {
            return Ok(());
        }
        let store = *store;
        let done = self.write(|tables, _| {
            let transaction = tables.begin_write()?;
            {
                let mut origin = transaction.open_table(ORIGIN)?;
                origin.insert(ORIGIN_WRITER, WRITER)?;
                if let Some(fleet) = fleet {
                    origin.insert(ORIGIN_FLEET, fleet)?;
                }
                if store.is_none() {
                    origin.insert(ORIGIN_STORE, format!("{:032x}", random()?).as_str())?;
                }
            }
            tables::seal_about(&transaction)?;
            Ok(transaction.commit()?)
        });
        done.map_err(|fault| self.error(fault))?;
        self.look_again()
    }

    /// Why the file, or its journal, is not the one at its path any more; none: it is.
    pub(super) fn astray(&self) -> Option<String> {
        let of_journal = || self.journal.as_ref().and_then(Journal::astray);
        let path = self.path.display();
        let cut = || {
            let (was, is) = self.hold.cut(&self.file)?;
            Some(format!("{path} was cut from {was} to {is} bytes"))
        };
        astray(&self.file, &self.path).or_else(cut).or_else(of_journal)
    }

    /// Keeps a copy of the file beside it, and one of its journal, without which it is not whole.
    pub(super) fn keep_copy(&self, suffix: &str) -> io::Result<PathBuf> {
        let journal = journal::path_of(&self.path);
        match own_file::no_link(OpenOptions::new().read(true)).open(&journal) {
            Ok(file) => drop(migrate::keep_copy(&file, &journal, suffix)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(own_file::said(error)),
        }
        migrate::keep_copy(&self.file, &self.path, suffix)
    }

    /// Reads, all of one instant.
    pub(super) fn read<T>(
        &mut self,
        act: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.check_usable()?;
        let (outcome, panicked) = caught(|| act(&self.tables()?.begin_read()?));
        // What a panic has left of a reading is nothing: the next one may be of pages that are whole.
        if let Err(fault) = &outcome
            && !panicked
            && fault.kind != FaultKind::Damaged
        {
            self.close();
        }
        outcome
    }

    /// As [`read`](Self::read), of one daemon alone: so is damage that is found.
    pub(super) fn read_of<T>(
        &mut self,
        daemon: &str,
        act: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.read(act).map_err(|fault| match fault.kind {
            FaultKind::Damaged if self.broken.is_none() => {
                Fault { daemon: Some(daemon.to_owned()), ..fault }
            }
            _ => fault,
        })
    }

    /// Acts on the tables; `act` also gets the ids that are known to be durable.
    pub(super) fn write<T>(
        &mut self,
        act: impl FnOnce(&redb::Database, &HashMap<String, DaemonId>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.check_usable()?;
        let ids = std::mem::take(&mut self.ids);
        let (outcome, panicked) = caught(|| act(self.tables()?, &ids));
        self.ids = ids;
        if let Err(fault) = &outcome {
            if panicked {
                // It may have written a part of what it meant to: as after a kill here, the last commit stands.
                self.hold.begin();
                self.broken = Some(fault.detail.clone());
            }
            self.close();
        }
        outcome
    }

    pub(super) fn check_usable(&self) -> Result<(), Fault> {
        self.broken.as_ref().map_or(Ok(()), |detail| Err(Fault::damaged(detail.clone())))
    }

    /// Lets go of what redb has in memory.
    pub(super) fn close(&mut self) {
        let tables = self.tables.take();
        if let (Err(fault), _) = caught(|| {
            drop(tables);
            Ok(())
        }) {
            self.hold.begin();
            self.broken.get_or_insert(fault.detail);
        }
        // After a failed fsync the page cache may show what the disk does not hold. The next
        // attempt has to see the disk.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    pub(super) fn tables(&mut self) -> Result<&redb::Database, Fault> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => {
                let disk = Disk::new(
                    self.file.try_clone()?,
                    self.hold.clone(),
                    #[cfg(test)]
                    self.failures.clone(),
                );
                redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?
            }
        };
        Ok(self.tables.insert(tables))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}
