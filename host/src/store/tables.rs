//! The tables of schema 3, and of schema 4: that is the same, and goes on in a [journal](super::journal), without which
//! it is not whole. A file is of schema 4 only while it has one, so a fleet that was ended leaves one of schema 3.
//!
//! All that is kept of a daemon lies in one table, under its id, so a name can change, and who gets a name that
//! somebody else had gets nothing of theirs. `names` leads from the name to the id, and the first row of an id is
//! its [record](super::record). One table, as what one slice changes is then mostly on one page: each further one
//! costs a page of 4 KiB for each commit.
//!
//! `meta`, which each commit writes anyway, has the [seals](super::seal): of each daemon, by its id, what its rows
//! come to; [`META_DAEMONS`] of `names`, and [`META_ABOUT`] of what the file says of itself. A list of names that
//! is damaged is made anew from the records.
//!
//! **How this grows.** A new table, a new kind of row, a new field of a record and a new key of `meta` or
//! `origin` leave `reader_min` as it is: an older program reads and writes the file, and leaves alone what it
//! does not know. A change of what is there raises `reader_min` to the new `schema`, and comes with a step in
//! [`migrate`](super::migrate). The types of `meta` and `origin` never change: they are how a program learns
//! that a file is none of its own.

use std::ops::Bound;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::fault::Fault;
use super::record::DaemonId;
use super::seal::sum_of_parts;

/// The layout of tables that this version writes.
pub(super) const SCHEMA: u64 = 3;
/// The same, in a file that goes on in a journal.
pub(super) const SCHEMA_JOURNALED: u64 = 4;
/// The oldest schema whose programs can read and write what this version writes.
pub(super) const READER_MIN: u64 = 3;
/// Who writes it.
pub(super) const WRITER: &str = concat!("duende ", env!("CARGO_PKG_VERSION"));

/// What concerns the file as a whole: numbers.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_READER_MIN: &str = "reader_min";
pub(super) const META_GROUP: &str = "group";
/// The id of the journal that the file goes on in; schema 3 has none.
pub(super) const META_JOURNAL: &str = "journal";
/// The checksum of the schema, its least reader, the store and the fleet; none before schema 3.
pub(super) const META_ABOUT: &str = "about";
/// The sum of the [checksums](sum_of_name) of all names.
pub(super) const META_DAEMONS: &str = "daemons";

/// What concerns the file as a whole: texts.
pub(super) const ORIGIN: TableDefinition<'static, &str, &str> = TableDefinition::new("origin");
/// What tells this file from every other, in hexadecimal digits.
pub(super) const ORIGIN_STORE: &str = "store";
/// The program that wrote it last.
pub(super) const ORIGIN_WRITER: &str = "writer";
/// The fleet whose state it is.
pub(super) const ORIGIN_FLEET: &str = "fleet";

pub(super) const NAMES: TableDefinition<'static, &str, u128> = TableDefinition::new("names");

/// The daemon's id, the [kind](super::seal::Kind) of the row, and the name within it.
pub(super) type RowKey = (u128, u8, &'static str);
/// All that is kept of daemons.
pub(super) const ROWS: TableDefinition<'static, RowKey, &[u8]> = TableDefinition::new("rows");

/// One end of a range of keys.
type End = Bound<RowKey>;

/// The keys of one daemon: from its record to the least key of the next possible id.
pub(super) fn keys_of(id: DaemonId) -> (End, End) {
    let end = id.0.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded((next, 0, "")));
    (Bound::Included((id.0, 0, "")), end)
}

/// The key of a daemon's seal in [`META`]: it is no word, as the others are.
pub(super) fn seal_of(id: DaemonId) -> String {
    id.to_string()
}

/// What a name adds to [`META_DAEMONS`].
pub(super) fn sum_of_name(name: &str, id: DaemonId) -> u64 {
    sum_of_parts(&[name.as_bytes(), &id.0.to_le_bytes()])
}

/// Makes the tables of daemons, if they are not there: whoever reads expects them.
pub(super) fn make(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(NAMES)?;
    transaction.open_table(ROWS)?;
    transaction.open_table(ORIGIN)?;
    transaction.open_table(META)?.insert(META_DAEMONS, 0)?;
    Ok(())
}

/// Notes which journal the file goes on in; none: it is all there is. Whether that was said already.
pub(super) fn note_journal(
    transaction: &WriteTransaction,
    journal: Option<u64>,
) -> Result<bool, Fault> {
    {
        let mut meta = transaction.open_table(META)?;
        if meta.get(META_JOURNAL)?.map(|noted| noted.value()) == journal {
            return Ok(true);
        }
        match journal {
            Some(journal) => meta.insert(META_JOURNAL, journal)?,
            None => meta.remove(META_JOURNAL)?,
        };
        // What a later version says of itself stays.
        if meta.get(META_SCHEMA)?.is_some_and(|schema| schema.value() <= SCHEMA_JOURNALED) {
            let schema = if journal.is_some() { SCHEMA_JOURNALED } else { SCHEMA };
            meta.insert(META_SCHEMA, schema)?;
            meta.insert(META_READER_MIN, schema)?;
        }
    }
    seal_about(transaction)?;
    Ok(false)
}

/// What is said of the file, as [`META_ABOUT`] covers it.
pub(super) fn sum_of_about(
    meta: &impl ReadableTable<&'static str, u64>,
    origin: &impl ReadableTable<&'static str, &'static str>,
) -> Result<u64, Fault> {
    let number = |key| Ok::<_, Fault>(meta.get(key)?.map(|value| value.value().to_le_bytes()));
    let text = |key| Ok::<_, Fault>(origin.get(key)?.map(|value| value.value().to_owned()));
    let (schema, reader_min) = (number(META_SCHEMA)?, number(META_READER_MIN)?);
    let (store, fleet) = (text(ORIGIN_STORE)?, text(ORIGIN_FLEET)?);
    // That there is none is not the same as that it is empty.
    let there = [schema.is_some(), reader_min.is_some(), store.is_some(), fleet.is_some()];
    Ok(sum_of_parts(&[
        &there.map(u8::from),
        &schema.unwrap_or_default(),
        &reader_min.unwrap_or_default(),
        store.unwrap_or_default().as_bytes(),
        fleet.unwrap_or_default().as_bytes(),
    ]))
}

/// Seals what is said of the file, after it was changed.
pub(super) fn seal_about(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    let sum = sum_of_about(&meta, &transaction.open_table(ORIGIN)?)?;
    meta.insert(META_ABOUT, sum)?;
    Ok(())
}
