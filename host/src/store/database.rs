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
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use rustix::fs::{Advice, CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::own_file;

#[cfg(test)]
use super::disk::Failures;
use super::disk::{Disk, Hold};
use super::export::{Export, Header};
use super::fault::{Fault, caught};
use super::migrate::{self, SCHEMA_IDS, SCHEMA_NAMES};
use super::record::{DaemonId, Record, random};
use super::rows::{self, Listed, Names, Rows};
use super::snapshot::Snapshot;
use super::tables::{
    self, META, META_ABOUT, META_DAEMONS, META_GROUP, META_READER_MIN, META_SCHEMA, NAMES, ORIGIN,
    ORIGIN_FLEET, ORIGIN_STORE, ORIGIN_WRITER, READER_MIN, ROWS, SCHEMA, WRITER,
};
use super::{Commit, FaultKind, Loaded, StoreError};

/// Pages that redb keeps in memory, in bytes. A daemon's state is read once, at its start.
const CACHE_BYTES: usize = 16 << 20;
/// Longest file that is looked through as a whole when it is opened, in bytes: a few milliseconds. That finds what
/// the checksums of rows can't: a file all of whose pages are of an earlier moment.
const LOOKED_THROUGH_BYTES_MAX: u64 = 4 << 20;
/// What every redb file starts with.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// Where redb's two headers of transactions begin, each with the version of redb's file format.
const REDB_VERSIONS_AT: [usize; 2] = [64, 192];
/// The version that this redb reads and writes.
const REDB_VERSION: u8 = 3;

/// What a file says of itself.
#[derive(Debug, Default)]
struct About {
    schema: u64,
    reader_min: u64,
    group: u64,
    store: Option<u128>,
    writer: Option<String>,
    fleet: Option<String>,
    /// The sum of the names; none before schema 3.
    names: Option<u64>,
    /// Whether all of this is what was written, as far as the schema can tell.
    is_right: bool,
}

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is in the file.
    Done(DaemonId),
    /// State is kept under that name already; nothing was changed.
    Present,
}

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// None after a failure: redb refuses to go on with what it has in memory, and rightly so.
    tables: Option<redb::Database>,
    /// The descriptor that holds the lock.
    file: File,
    pub(super) hold: Hold,
    about: About,
    /// The ids were drawn in memory, for a file whose schema has none: the next who looks sees others.
    pub(super) has_drawn_ids: bool,
    /// The number of the last group that is known to be durable.
    last_group: u64,
    /// Ids that are known to be durable.
    ids: HashMap<String, DaemonId>,
    /// Why the file is not used any more, if redb has panicked over it while it wrote.
    broken: Option<String>,
    #[cfg(test)]
    pub(super) failures: Failures,
}

impl Database {
    /// Opens the file for a fleet, or makes it; an older schema is migrated. Without a fleet, as for a
    /// single component, it is whoever's it is.
    pub(super) fn open(path: &Path, fleet: Option<&str>) -> Result<Self, StoreError> {
        let io_error = |source| StoreError::Io { path: path.to_owned(), source };
        let mut database = match Self::held(path) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
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
        database.claim(fleet)?;
        Ok(database)
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
        let is_newer = about.schema > SCHEMA;
        let is_read =
            if is_newer { about.reader_min <= SCHEMA } else { about.schema >= SCHEMA_NAMES };
        if !is_read {
            return Err(StoreError::Schema {
                path: path.to_owned(),
                found: about.schema,
                supported: SCHEMA,
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

    fn over(path: PathBuf, file: File) -> Self {
        Self {
            path,
            tables: None,
            file,
            hold: Hold::default(),
            about: About::default(),
            has_drawn_ids: false,
            last_group: 0,
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
    fn look_again(&mut self) -> Result<(), StoreError> {
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

    /// Why the file is not the one at its path any more; none: it is.
    pub(super) fn astray(&self) -> Option<String> {
        let path = self.path.display();
        match is_at(&self.file, &self.path) {
            Ok(true) => None,
            Ok(false) if self.path.symlink_metadata().is_ok() => {
                Some(format!("another file stands at {path}"))
            }
            Ok(false) => Some(format!("{path} was moved or removed")),
            Err(error) => Some(format!("{path} can't be looked at any more ({error})")),
        }
    }

    /// The number for the next group.
    pub(super) fn next_group(&self) -> u64 {
        self.last_group + 1
    }

    /// Makes a group durable, with one fsync. Calling it again with the same number after a failure
    /// is safe, whatever became of the first attempt.
    pub(super) fn apply(&mut self, number: u64, group: &[Commit]) -> Result<(), Fault> {
        let entered = self.write(|tables, ids| write_group(tables, number, group, ids))?;
        self.ids.extend(entered);
        self.last_group = number;
        Ok(())
    }

    /// Removes a daemon and everything kept of it, durably.
    pub(super) fn forget(&mut self, daemon: &str) -> Result<(), Fault> {
        let Some(id) = self.id_of(daemon)? else { return Ok(()) };
        self.write(|tables, _| {
            let transaction = tables.begin_write()?;
            let mut rows = Rows::open(&transaction)?;
            rows.remove_all(id)?;
            let mut names = Names::open(&transaction)?;
            rows.finish(names.meta())?;
            // An attempt that was reported as failed may have reached the disk.
            if names.get(daemon)?.is_some() {
                names.remove(daemon, id)?;
            }
            drop(names);
            Ok(transaction.commit()?)
        })?;
        self.ids.remove(daemon);
        Ok(())
    }

    /// As [`forget`](Self::forget), whatever state its rows are in; and with it what damage has cut off from
    /// every daemon.
    pub(super) fn reset(&mut self, daemon: &str) -> Result<(), Fault> {
        self.forget(daemon)?;
        self.write(|tables, ids| {
            let transaction = tables.begin_write()?;
            let mut rows = Rows::open(&transaction)?;
            rows.keep_only(ids)?;
            rows.finish(Names::open(&transaction)?.meta())?;
            Ok(transaction.commit()?)
        })
    }

    /// Keeps a copy of the file beside it.
    pub(super) fn keep_copy(&self, suffix: &str) -> io::Result<PathBuf> {
        migrate::keep_copy(&self.file, &self.path, suffix)
    }

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
    fn is_sound(&self) -> bool {
        let small = self.file.metadata().is_ok_and(|file| file.len() <= LOOKED_THROUGH_BYTES_MAX);
        let Some(file) = self.file.try_clone().ok().filter(|_| small) else { return true };
        Self::over(self.path.clone(), file).check_pages().is_ok()
    }

    /// Whether nothing of any daemon is damaged.
    fn daemons_are_right(&mut self) -> bool {
        self.daemons().is_ok_and(|daemons| daemons.iter().all(|(_, kept)| kept.is_ok()))
    }

    /// The id of a daemon, if something is kept of it.
    fn id_of(&mut self, daemon: &str) -> Result<Option<DaemonId>, Fault> {
        match self.ids.get(daemon) {
            Some(id) => Ok(Some(*id)),
            // Entered by a group that was reported as failed.
            None => self.read(|transaction| rows::id_in(&transaction.open_table(NAMES)?, daemon)),
        }
    }

    /// Everything kept of a daemon.
    pub(super) fn load(&mut self, daemon: &str) -> Result<Loaded, Fault> {
        let Some(id) = self.id_of(daemon)? else { return Ok(Loaded::default()) };
        self.read_of(daemon, |transaction| Ok(rows::load(transaction, daemon, id)?.1))
    }

    /// All daemons, in the order of their names: how much is kept of each, or what is damaged of it.
    pub(super) fn daemons(&mut self) -> Result<Listed<Fault>, Fault> {
        let mut ids: Vec<_> = self.ids.clone().into_iter().collect();
        ids.sort();
        let kept = |(name, id): (String, DaemonId)| {
            let kept = self.read_of(&name, |transaction| rows::kept(transaction, &name, id));
            match kept {
                Err(fault) if fault.daemon.is_none() => Err(fault),
                kept => Ok((name, kept)),
            }
        };
        ids.into_iter().map(kept).collect()
    }

    /// What an export of a daemon holds, all of one instant; none if nothing is kept under that name.
    pub(super) fn export(&mut self, daemon: &str) -> Result<Option<Export>, Fault> {
        let About { schema, store, writer, .. } = &self.about;
        let (schema, store) = (*schema, store.unwrap_or_default());
        let writer = writer.clone().unwrap_or_default();
        let Some(id) = self.id_of(daemon)? else { return Ok(None) };
        self.read_of(daemon, |transaction| {
            let (record, loaded) = rows::load(transaction, daemon, id)?;
            Ok(Some(Export::new(Header { store, schema, writer, id, record }, loaded)))
        })
    }

    /// A daemon as it is now, to be read later; none if nothing is kept under that name.
    pub(super) fn snapshot(&mut self, daemon: &str) -> Result<Option<Snapshot>, Fault> {
        let Some(id) = self.id_of(daemon)? else { return Ok(None) };
        let About { schema, store, writer, .. } = &self.about;
        let (schema, store) = (*schema, store.unwrap_or_default());
        let writer = writer.clone().unwrap_or_default();
        let record = self.read_of(daemon, |transaction| rows::record(transaction, daemon, id))?;
        self.check_usable()?;
        let (transaction, _) = caught(|| Ok(self.tables()?.begin_read()?));
        let header = Header { store, schema, writer, id, record };
        Ok(Some(Snapshot { transaction: transaction?, header, path: self.path.clone() }))
    }

    /// Enters an exported daemon under a name. It keeps its id, unless a daemon of another name has that.
    pub(super) fn import(
        &mut self,
        export: &Export,
        name: &str,
        replace: bool,
    ) -> Result<Entered, Fault> {
        let there = self.id_of(name)?;
        let entered = self.write(|tables, _| {
            let transaction = tables.begin_write()?;
            let mut rows = Rows::open(&transaction)?;
            let mut names = Names::open(&transaction)?;
            if let Some(id) = there {
                if !replace && !rows.is_empty(id)? {
                    return Ok(Entered::Present);
                }
                rows.remove_all(id)?;
                names.remove(name, id)?;
            }
            let Export { header, loaded, .. } = export;
            let id = if rows.is_taken(header.id)? { DaemonId::random()? } else { header.id };
            let mut record = header.record.clone();
            name.clone_into(&mut record.name);
            rows.enter(id, &record)?;
            rows.set_all(id, loaded)?;
            rows.finish(names.meta())?;
            names.insert(name, id)?;
            drop(names);
            transaction.commit()?;
            Ok(Entered::Done(id))
        })?;
        if let Entered::Done(id) = entered {
            self.ids.insert(name.to_owned(), id);
        }
        Ok(entered)
    }

    /// Reads, all of one instant.
    fn read<T>(
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
    fn read_of<T>(
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
    fn write<T>(
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

    fn check_usable(&self) -> Result<(), Fault> {
        self.broken.as_ref().map_or(Ok(()), |detail| Err(Fault::damaged(detail.clone())))
    }

    /// Lets go of what redb has in memory.
    fn close(&mut self) {
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

    fn tables(&mut self) -> Result<&redb::Database, Fault> {
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

/// None if there is no schema number.
fn read_about(transaction: &ReadTransaction) -> Result<Option<About>, Fault> {
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |key| Ok::<_, Fault>(meta.get(key)?.map(|value| value.value()));
    let Some(schema) = number(META_SCHEMA)? else {
        return Ok(None);
    };
    let mut about = About {
        schema,
        reader_min: number(META_READER_MIN)?.unwrap_or(schema),
        group: number(META_GROUP)?.unwrap_or(0),
        names: number(META_DAEMONS)?,
        ..About::default()
    };
    let sum = number(META_ABOUT)?;
    match transaction.open_table(ORIGIN) {
        Ok(origin) => {
            let text = |key| Ok::<_, Fault>(origin.get(key)?.map(|value| value.value().to_owned()));
            about.store = text(ORIGIN_STORE)?.and_then(|id| u128::from_str_radix(&id, 16).ok());
            about.writer = text(ORIGIN_WRITER)?;
            about.fleet = text(ORIGIN_FLEET)?;
            // Older schemas have no sum, which schema 3 never lacks.
            about.is_right = match sum {
                Some(sum) => sum == tables::sum_of_about(&meta, &origin)?,
                None => schema < SCHEMA,
            };
        }
        // Schema 1 has none.
        Err(redb::TableError::TableDoesNotExist(_)) => {
            about.is_right = sum.is_none() && schema < SCHEMA;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Some(about))
}

/// The daemons that were entered with it.
fn write_group(
    tables: &redb::Database,
    number: u64,
    group: &[Commit],
    ids: &HashMap<String, DaemonId>,
) -> Result<HashMap<String, DaemonId>, Fault> {
    let mut entered = HashMap::new();
    // redb's default durability: `commit` returns after the fsync.
    let transaction = tables.begin_write()?;
    {
        let mut names = Names::open(&transaction)?;
        let meta = names.meta();
        if meta.get(META_GROUP)?.is_some_and(|stored| stored.value() == number) {
            // The attempt that was reported as failed had reached the disk.
            return Ok(entered);
        }
        meta.insert(META_GROUP, number)?;
        let mut rows = Rows::open(&transaction)?;
        for commit in group {
            let known = ids.get(&commit.daemon).or_else(|| entered.get(&commit.daemon));
            let id = match known {
                Some(id) => *id,
                None => {
                    let id = match names.get(&commit.daemon)? {
                        Some(id) => id,
                        None => {
                            let id = DaemonId::random()?;
                            rows.enter(id, &Record::new(&commit.daemon))?;
                            names.insert(&commit.daemon, id)?;
                            id
                        }
                    };
                    entered.insert(commit.daemon.clone(), id);
                    id
                }
            };
            rows.apply(id, commit)?;
        }
        rows.finish(names.meta())?;
    }
    transaction.commit()?;
    Ok(entered)
}

/// Makes a database with its schema beside `path`, and gives it that name unless another process was
/// quicker.
fn create(path: &Path) -> Result<(), StoreError> {
    let io_error = |source| StoreError::Io { path: path.to_owned(), source };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    // State may hold secrets: for the owner alone.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = own_file::no_link(&mut options).open(&unfinished).map_err(own_file::said);
    let file = file.map_err(io_error)?;
    lock(&file, path)?;
    // Between the opening and the lock another process may have finished: then this is its database.
    if !is_at(&file, &unfinished).map_err(io_error)? {
        return Ok(());
    }
    // What a killed creation left.
    file.set_len(0).map_err(io_error)?;
    let mut database = Database::over(path.to_owned(), file);
    let made = database.write(|tables, _| {
        let transaction = tables.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_SCHEMA, SCHEMA)?;
            meta.insert(META_READER_MIN, READER_MIN)?;
            let mut origin = transaction.open_table(ORIGIN)?;
            origin.insert(ORIGIN_STORE, format!("{:032x}", random()?).as_str())?;
            origin.insert(ORIGIN_WRITER, WRITER)?;
        }
        tables::make(&transaction)?;
        tables::seal_about(&transaction)?;
        Ok(transaction.commit()?)
    });
    made.map_err(|fault| database.error(fault))?;
    // Closed before it is renamed: a database that was closed needs no check when it is opened.
    database.close();
    match rustix::fs::renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => std::fs::remove_file(&unfinished).map_err(io_error)?,
        Err(errno) => return Err(io_error(errno.into())),
    }
    sync_directory_of(path).map_err(io_error)
}

/// A name has to survive a power failure as well as the content does.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Whether `path` names this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match path.metadata() {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(errno) => Err(StoreError::Io { path: path.to_owned(), source: errno.into() }),
    }
}

/// redb would make a database of an empty file, calls any other foreign one corrupted, and also one of a
/// newer redb.
fn check_header(file: &File, path: &Path) -> Result<(), StoreError> {
    let mut start = [0; REDB_VERSIONS_AT[1] + 1];
    let mut length = 0;
    while length < start.len() {
        match file.read_at(&mut start[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
        }
    }
    if !start[..length].starts_with(MAGIC) {
        let detail = "it does not start as a redb file does".to_owned();
        return Err(StoreError::Foreign { path: path.to_owned(), detail });
    }
    let [one, other] = REDB_VERSIONS_AT.map(|at| start[at]);
    // One alone, or a zero, is what damage looks like: that is redb's to judge.
    if one == other && one != REDB_VERSION && one != 0 {
        let detail = format!("redb's file format {one}, where this version has {REDB_VERSION}");
        let fault = Fault::new(FaultKind::OtherFormat, detail);
        return Err(fault.into_error(path.to_owned(), None));
    }
    Ok(())
}
