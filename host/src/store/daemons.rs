//! What is done to daemons in the open file: their commits, and the whole of one.

use std::collections::HashMap;

use redb::{ReadableDatabase, ReadableTable};

use super::about::About;
use super::database::Database;
use super::export::{Export, Header};
use super::fault::{Fault, caught};
use super::record::{DaemonId, Record};
use super::rows::{self, Listed, Names, Rows};
use super::snapshot::Snapshot;
use super::tables::{META_GROUP, NAMES};
use super::{Commit, Loaded};

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is in the file.
    Done(DaemonId),
    /// State is kept under that name already; nothing was changed.
    Present,
}

impl Database {
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
