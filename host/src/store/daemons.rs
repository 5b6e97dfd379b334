//! What is done to the whole of one daemon in the open file. Whatever writes has all earlier groups applied first.

use redb::ReadableDatabase;

use super::Loaded;
use super::about::About;
use super::database::Database;
use super::export::{Export, Header};
use super::fault::{Fault, caught};
use super::pending::Overlay;
use super::record::DaemonId;
use super::rows::{self, Listed, Names, Rows};
use super::snapshot::Snapshot;
use super::tables::{META, META_GROUP, NAMES};

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is in the file.
    Done(DaemonId),
    /// State is kept under that name already; nothing was changed.
    Present,
}

impl Database {
    /// Removes a daemon and everything kept of it, durably.
    pub(super) fn forget(&mut self, daemon: &str) -> Result<(), Fault> {
        self.settle()?;
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

    /// What only the journal has of a daemon.
    fn overlay(&mut self, daemon: &str) -> Result<Overlay, Fault> {
        if self.pending.groups.is_empty() {
            return Ok(Overlay::default());
        }
        let last = self.read(|transaction| {
            Ok(transaction.open_table(META)?.get(META_GROUP)?.map_or(0, |group| group.value()))
        })?;
        Ok(self.pending.of(daemon, last))
    }

    /// Everything kept of a daemon.
    pub(super) fn load(&mut self, daemon: &str) -> Result<Loaded, Fault> {
        let Some(id) = self.id_of(daemon)? else { return Ok(Loaded::default()) };
        let overlay = self.overlay(daemon)?;
        self.read_of(daemon, |transaction| Ok(rows::load(transaction, daemon, id, &overlay)?.1))
    }

    /// All daemons, in the order of their names: how much is kept of each, or what is damaged of it.
    pub(super) fn daemons(&mut self) -> Result<Listed<Fault>, Fault> {
        let mut ids: Vec<_> = self.ids.clone().into_iter().collect();
        ids.sort();
        let kept = |(name, id): (String, DaemonId)| {
            let overlay = self.overlay(&name)?;
            let kept =
                self.read_of(&name, |transaction| rows::kept(transaction, &name, id, &overlay));
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
        let overlay = self.overlay(daemon)?;
        self.read_of(daemon, |transaction| {
            let (record, loaded) = rows::load(transaction, daemon, id, &overlay)?;
            Ok(Some(Export::new(Header { store, schema, writer, id, record }, loaded)))
        })
    }

    /// A daemon as it is now, to be read later; none if nothing is kept under that name.
    pub(super) fn snapshot(&mut self, daemon: &str) -> Result<Option<Snapshot>, Fault> {
        let Some(id) = self.id_of(daemon)? else { return Ok(None) };
        let About { schema, store, writer, .. } = &self.about;
        let (schema, store) = (*schema, store.unwrap_or_default());
        let writer = writer.clone().unwrap_or_default();
        let overlay = self.overlay(daemon)?;
        let record = self.read_of(daemon, |transaction| rows::record(transaction, daemon, id))?;
        self.check_usable()?;
        let (transaction, _) = caught(|| Ok(self.tables()?.begin_read()?));
        let header = Header { store, schema, writer, id, record };
        let path = self.path.clone();
        Ok(Some(Snapshot { transaction: transaction?, overlay, header, path }))
    }

    /// Enters an exported daemon under a name. It keeps its id, unless a daemon of another name has that.
    pub(super) fn import(
        &mut self,
        export: &Export,
        name: &str,
        replace: bool,
    ) -> Result<Entered, Fault> {
        self.settle()?;
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
