//! What is kept of daemons, in a transaction: every row is checked when it is read, and every change keeps the
//! [seal](super::seal) of its daemon.

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::fault::Fault;
use super::pending::Overlay;
use super::record::{DaemonId, Record};
use super::seal::{Kind, Place};
use super::tables::{META, META_DAEMONS, NAMES, ROWS, RowKey, keys_of, seal_of, sum_of_name};
use super::{Commit, Loaded, Write};

/// One daemon, and how much is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub(super) id: DaemonId,
    pub(super) record: Record,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) channels: u64,
    pub(super) counters: u64,
    pub(super) gauges: u64,
}

/// All daemons, by name: how much is kept of each, or what is damaged of it.
pub type Listed<E> = Vec<(String, Result<Kept, E>)>;

/// What is damaged of a daemon, in words that name it.
fn damaged(daemon: &str, what: &str) -> Fault {
    Fault::damaged_of(daemon, what.to_owned())
}

/// A key as it may be shown: in a file that is damaged it may be anything.
fn shown(kind: u8, name: &str) -> String {
    let word = Kind::word(kind);
    if name.is_empty() && kind <= Kind::Record as u8 {
        return format!("its {word}");
    }
    format!("{word} `{}`", name.escape_debug())
}

fn eight(value: &[u8]) -> Option<[u8; 8]> {
    value.try_into().ok()
}

/// Reads all rows of a daemon, with changes that are not in them yet: `row` gets the kind, the name and the value of
/// each. They are whole only if all of it succeeds.
pub(super) fn each_row(
    transaction: &ReadTransaction,
    name: &str,
    id: DaemonId,
    overlay: &Overlay,
    row: impl FnMut(u8, &str, &[u8]) -> Result<(), &'static str>,
) -> Result<(), Fault> {
    let mut laid = overlay.lay(row);
    let mut found = 0_u64;
    for entry in transaction.open_table(ROWS)?.range(keys_of(id))? {
        let (key, stored) = entry?;
        let (_, kind, of) = key.value();
        let place = Place { id, kind, name: of };
        let (value, sum) = place.open(stored.value()).ok_or_else(|| {
            damaged(name, &format!("{} is not what was written", shown(kind, of)))
        })?;
        laid.row(kind, of, value)
            .map_err(|what| damaged(name, &format!("{} {what}", shown(kind, of))))?;
        found = found.wrapping_add(sum);
    }
    let sealed = transaction.open_table(META)?.get(seal_of(id).as_str())?;
    if sealed.map(|sealed| sealed.value()) != Some(found) {
        return Err(damaged(
            name,
            "its entries are not those that were written last: some are missing, or older",
        ));
    }
    laid.finish().map_err(|what| damaged(name, what))
}

/// A daemon's record alone.
pub(super) fn record(
    transaction: &ReadTransaction,
    name: &str,
    id: DaemonId,
) -> Result<Record, Fault> {
    let kind = Kind::Record as u8;
    let rows = transaction.open_table(ROWS)?;
    let row = rows.get((id.0, kind, ""))?;
    let value = row.as_ref().and_then(|row| (Place { id, kind, name: "" }).open(row.value()));
    let record = value.and_then(|(value, _)| Record::decode(value).ok());
    record.ok_or_else(|| damaged(name, "its record is not what was written"))
}

/// A daemon's record and everything kept of it.
pub(super) fn load(
    transaction: &ReadTransaction,
    name: &str,
    id: DaemonId,
    overlay: &Overlay,
) -> Result<(Record, Loaded), Fault> {
    let mut loaded = Loaded::default();
    let mut record = None;
    each_row(transaction, name, id, overlay, |kind, of, value| {
        let of = || of.to_owned();
        match kind {
            1 => record = Some(Record::decode(value).map_err(|_| "can't be read")?),
            2 => loaded.state.push((of(), value.to_vec())),
            3 => loaded.positions.push((of(), value.to_vec())),
            4 => {
                let total = eight(value).ok_or("is none")?;
                loaded.counters.push((of(), u64::from_le_bytes(total)));
            }
            5 => {
                let level = eight(value).ok_or("is none")?;
                loaded.gauges.push((of(), f64::from_bits(u64::from_le_bytes(level))));
            }
            _ => {}
        }
        Ok(())
    })?;
    let record = record.ok_or_else(|| damaged(name, "its record is not there"))?;
    if record.name() != name {
        let other = record.name().escape_debug();
        return Err(damaged(name, &format!("its record is that of `{other}`")));
    }
    Ok((record, loaded))
}

/// How much is kept of a daemon, all of which is checked.
pub(super) fn kept(
    transaction: &ReadTransaction,
    name: &str,
    id: DaemonId,
    overlay: &Overlay,
) -> Result<Kept, Fault> {
    let (record, loaded) = load(transaction, name, id, overlay)?;
    let bytes = loaded.state.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
    Ok(Kept {
        id,
        record,
        keys: loaded.state.len() as u64,
        bytes,
        channels: loaded.positions.len() as u64,
        counters: loaded.counters.len() as u64,
        gauges: loaded.gauges.len() as u64,
    })
}

/// The names that are listed, and what they come to.
pub(super) fn listed(transaction: &ReadTransaction) -> Result<HashMap<String, DaemonId>, Fault> {
    let mut found = HashMap::new();
    for row in transaction.open_table(NAMES)?.iter()? {
        let (name, id) = row?;
        found.insert(name.value().to_owned(), DaemonId(id.value()));
    }
    Ok(found)
}

/// The ids under which something lies, in their order: one look for each, however much that is.
pub(super) fn ids(
    rows: &impl ReadableTable<RowKey, &'static [u8]>,
) -> Result<Vec<DaemonId>, Fault> {
    let mut found = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let Some(first) = rows.range((at, 0, "")..)?.next() else { break };
        let id = first?.0.value().0;
        if id < at {
            // A damaged page may give what lies before the place that was asked for, again and again.
            return Err(Fault::damaged("its rows are not in their order"));
        }
        found.push(DaemonId(id));
        from = id.checked_add(1);
    }
    Ok(found)
}

/// The names that stand in the records.
pub(super) fn recorded(transaction: &ReadTransaction) -> Result<HashMap<String, DaemonId>, Fault> {
    let rows = transaction.open_table(ROWS)?;
    let mut found = HashMap::new();
    for id in ids(&rows)? {
        let kind = Kind::Record as u8;
        if let Some(row) = rows.get((id.0, kind, ""))?
            && let Some((value, _)) = (Place { id, kind, name: "" }).open(row.value())
            && let Ok(record) = Record::decode(value)
        {
            found.insert(record.name().to_owned(), id);
        }
    }
    Ok(found)
}

/// What all of these names come to.
pub(super) fn sum_of_names(names: &HashMap<String, DaemonId>) -> u64 {
    names.iter().fold(0, |sum, (name, id)| sum.wrapping_add(sum_of_name(name, *id)))
}

/// The id of a daemon, if it is listed.
pub(super) fn id_in(
    names: &impl ReadableTable<&'static str, u128>,
    daemon: &str,
) -> Result<Option<DaemonId>, Fault> {
    Ok(names.get(daemon)?.map(|id| DaemonId(id.value())))
}

/// What becomes of a daemon's seal.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Its rows come to so much more.
    By(u64),
    /// It is new, and its rows come to this.
    To(u64),
    Removed,
}

/// The rows, in a transaction that changes them. [`finish`](Self::finish) writes the seals.
pub(super) struct Rows<'t> {
    table: redb::Table<'t, RowKey, &'static [u8]>,
    /// Of the daemons that were touched.
    seals: HashMap<DaemonId, Change>,
}

impl<'t> Rows<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self { table: transaction.open_table(ROWS)?, seals: HashMap::new() })
    }

    /// Enters a daemon under an id that nothing lies under.
    pub(super) fn enter(&mut self, id: DaemonId, record: &Record) -> Result<(), Fault> {
        self.seals.insert(id, Change::To(0));
        self.set(id, Kind::Record, "", &record.encode()?)
    }

    pub(super) fn set(
        &mut self,
        id: DaemonId,
        kind: Kind,
        name: &str,
        value: &[u8],
    ) -> Result<(), Fault> {
        let place = Place { id, kind: kind as u8, name };
        let (row, sum) = place.seal(value);
        let old = self.table.insert((id.0, place.kind, name), row.as_slice())?;
        let old = old.map_or(0, |old| place.weigh(old.value()));
        self.reckon(id, sum.wrapping_sub(old));
        Ok(())
    }

    pub(super) fn remove(&mut self, id: DaemonId, kind: Kind, name: &str) -> Result<(), Fault> {
        let place = Place { id, kind: kind as u8, name };
        let old = self.table.remove((id.0, place.kind, name))?;
        let old = old.map_or(0, |old| place.weigh(old.value()));
        self.reckon(id, 0_u64.wrapping_sub(old));
        Ok(())
    }

    /// A number, as it stands there; 0 where none does. Whether it is damaged, the seal tells.
    pub(super) fn number(&self, id: DaemonId, kind: Kind, name: &str) -> Result<u64, Fault> {
        let row = self.table.get((id.0, kind as u8, name))?;
        let number = row.and_then(|row| row.value().first_chunk().copied());
        Ok(number.map_or(0, u64::from_le_bytes))
    }

    fn reckon(&mut self, id: DaemonId, more: u64) {
        let change = self.seals.entry(id).or_insert(Change::By(0));
        *change = match *change {
            Change::By(sum) => Change::By(sum.wrapping_add(more)),
            Change::To(sum) => Change::To(sum.wrapping_add(more)),
            Change::Removed => Change::Removed,
        };
    }

    /// Removes everything of a daemon.
    pub(super) fn remove_all(&mut self, id: DaemonId) -> Result<(), Fault> {
        self.seals.insert(id, Change::Removed);
        Ok(self.table.retain_in(keys_of(id), |_, _| false)?)
    }

    /// Removes what lies under other ids than these.
    pub(super) fn keep_only(&mut self, known: &HashMap<String, DaemonId>) -> Result<(), Fault> {
        for id in ids(&self.table)? {
            if !known.values().any(|known| *known == id) {
                self.remove_all(id)?;
            }
        }
        Ok(())
    }

    /// Whether a daemon has nothing but its record.
    pub(super) fn is_empty(&self, id: DaemonId) -> Result<bool, Fault> {
        for row in self.table.range(keys_of(id))? {
            if row?.0.value().1 > Kind::Record as u8 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn is_taken(&self, id: DaemonId) -> Result<bool, Fault> {
        Ok(self.table.range(keys_of(id))?.next().is_some())
    }

    /// Everything that is kept of a daemon, into one of which nothing is.
    pub(super) fn set_all(&mut self, id: DaemonId, loaded: &Loaded) -> Result<(), Fault> {
        for (key, value) in &loaded.state {
            self.set(id, Kind::State, key, value)?;
        }
        for (channel, position) in &loaded.positions {
            self.set(id, Kind::Position, channel, position)?;
        }
        for (name, total) in &loaded.counters {
            self.set(id, Kind::Counter, name, &total.to_le_bytes())?;
        }
        for (name, level) in &loaded.gauges {
            self.set(id, Kind::Gauge, name, &level.to_bits().to_le_bytes())?;
        }
        Ok(())
    }

    /// What one slice changes.
    pub(super) fn apply(&mut self, id: DaemonId, commit: &Commit) -> Result<(), Fault> {
        for write in &commit.writes {
            match write {
                Write::Set { key, value } => self.set(id, Kind::State, key, value)?,
                Write::Delete { key } => self.remove(id, Kind::State, key)?,
            }
        }
        for (channel, position) in &commit.positions {
            self.set(id, Kind::Position, channel, position)?;
        }
        for (name, delta) in &commit.counters {
            let total = self.number(id, Kind::Counter, name)?.saturating_add(*delta);
            self.set(id, Kind::Counter, name, &total.to_le_bytes())?;
        }
        for (name, level) in &commit.gauges {
            self.set(id, Kind::Gauge, name, &level.to_bits().to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes the seals of all that were touched. One that is not there stays so: damage is not written over.
    pub(super) fn finish(self, meta: &mut redb::Table<'_, &'static str, u64>) -> Result<(), Fault> {
        for (id, change) in self.seals {
            let key = seal_of(id);
            let sum = match change {
                Change::To(sum) => sum,
                Change::By(more) => {
                    let Some(sum) = meta.get(key.as_str())?.map(|sum| sum.value()) else {
                        continue;
                    };
                    sum.wrapping_add(more)
                }
                Change::Removed => {
                    meta.remove(key.as_str())?;
                    continue;
                }
            };
            meta.insert(key.as_str(), sum)?;
        }
        Ok(())
    }
}

/// The names, in a transaction that changes them.
pub(super) struct Names<'t> {
    names: redb::Table<'t, &'static str, u128>,
    meta: redb::Table<'t, &'static str, u64>,
}

impl<'t> Names<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self { names: transaction.open_table(NAMES)?, meta: transaction.open_table(META)? })
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<DaemonId>, Fault> {
        id_in(&self.names, name)
    }

    /// The numbers that concern the file as a whole.
    pub(super) fn meta(&mut self) -> &mut redb::Table<'t, &'static str, u64> {
        &mut self.meta
    }

    pub(super) fn insert(&mut self, name: &str, id: DaemonId) -> Result<(), Fault> {
        self.names.insert(name, id.0)?;
        let sum = self.sum()?.wrapping_add(sum_of_name(name, id));
        self.meta.insert(META_DAEMONS, sum)?;
        Ok(())
    }

    /// Takes out a name that leads to this id.
    pub(super) fn remove(&mut self, name: &str, id: DaemonId) -> Result<(), Fault> {
        self.names.remove(name)?;
        let sum = self.sum()?.wrapping_sub(sum_of_name(name, id));
        self.meta.insert(META_DAEMONS, sum)?;
        Ok(())
    }

    fn sum(&self) -> Result<u64, Fault> {
        Ok(self.meta.get(META_DAEMONS)?.map_or(0, |sum| sum.value()))
    }
}
