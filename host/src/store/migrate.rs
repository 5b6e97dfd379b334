//! From an older schema to this one.
//!
//! Rules:
//! 1. **A copy first.** The file as it was is kept beside it (`state.redb.schema-2`), whole: it is written
//!    under another name and then renamed. A copy that is there already is never replaced by other content
//!    (`a_copy_is_never_replaced`).
//! 2. **One transaction.** A crash leaves the old schema or the new one, each with all that was in it
//!    (`a_crash_leaves_the_old_or_the_new`).
//! 3. **A file is what it says.** One that lacks the tables of the schema that it names is damaged, and nothing is
//!    made of it (`a_schema_without_its_tables_is_damage`).
//! 4. **Only forward.** Nothing writes an older schema: the way back is the copy, and an older program.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{ReadableTable as _, TableDefinition, TableHandle as _, WriteTransaction};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::own_file;

use super::fault::Fault;
use super::record::{DaemonId, Record, random};
use super::rows::{Names, Rows};
use super::seal::Kind;
use super::tables::{
    self, META, META_READER_MIN, META_SCHEMA, NAMES, ORIGIN, ORIGIN_STORE, ORIGIN_WRITER,
    READER_MIN, SCHEMA, WRITER,
};

/// The schema before ids: the key is the daemon's name and the name within it.
pub(super) const SCHEMA_NAMES: u64 = 1;
type Named<V> = TableDefinition<'static, (&'static str, &'static str), V>;
pub(super) const OLD_STATE: Named<&[u8]> = Named::new("state");
pub(super) const OLD_POSITIONS: Named<&[u8]> = Named::new("positions");
pub(super) const OLD_COUNTERS: Named<u64> = Named::new("counters");
pub(super) const OLD_GAUGES: Named<f64> = Named::new("gauges");

/// The schema before checksums: a table for each kind, and the key is the daemon's id and the name within it.
pub(super) const SCHEMA_IDS: u64 = 2;
type Identified<V> = TableDefinition<'static, (u128, &'static str), V>;
const DAEMONS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("daemons");
const STATE: Identified<&[u8]> = Identified::new("daemon_state");
const POSITIONS: Identified<&[u8]> = Identified::new("daemon_positions");
const COUNTERS: Identified<u64> = Identified::new("daemon_counters");
const GAUGES: Identified<f64> = Identified::new("daemon_gauges");

/// Keeps a copy of the file at `path`, open as `file`, under its name with this behind it, or with a number
/// more. Where it is.
pub(super) fn keep_copy(file: &File, path: &Path, why: &str) -> io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let unfinished = beside(&format!(".{why}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut copy = own_file::no_link(&mut options).open(&unfinished).map_err(own_file::said)?;
    let mut from = file.try_clone()?;
    from.rewind()?;
    io::copy(&mut from, &mut copy)?;
    copy.flush()?;
    copy.sync_all()?;
    // An earlier migration may have been cut off after its copy, or undone by hand.
    for number in 0_u32.. {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        let kept = beside(&format!(".{why}{suffix}"));
        match renameat_with(CWD, &unfinished, CWD, &kept, RenameFlags::NOREPLACE) {
            Ok(()) => {
                super::file::sync_directory_of(path)?;
                return Ok(kept);
            }
            Err(rustix::io::Errno::EXIST) if same_content(&unfinished, &kept)? => {
                fs::remove_file(&unfinished)?;
                super::file::sync_directory_of(path)?;
                return Ok(kept);
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let digest = |path: &Path| {
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok::<_, io::Error>(hasher.finalize())
    };
    Ok(digest(one)? == digest(other)?)
}

/// From schema 1: each name gets an id, and what lay under the name lies under the id.
pub(super) fn from_names(transaction: &WriteTransaction) -> Result<(), Fault> {
    expect(transaction, OLD_STATE.name())?;
    begin(transaction)?;
    let mut ids = HashMap::new();
    let mut rows = Rows::open(transaction)?;
    let mut names = Names::open(transaction)?;
    let mut id_of = |rows: &mut Rows<'_>, names: &mut Names<'_>, name: &str| match ids.get(name) {
        Some(id) => Ok::<_, Fault>(*id),
        None => {
            let id = DaemonId::random()?;
            rows.enter(id, &Record::of_old(name))?;
            names.insert(name, id)?;
            ids.insert(name.to_owned(), id);
            Ok(id)
        }
    };
    take(transaction, OLD_STATE, |(name, key), value| {
        let id = id_of(&mut rows, &mut names, name)?;
        rows.set(id, Kind::State, key, value)
    })?;
    take(transaction, OLD_POSITIONS, |(name, channel), position| {
        let id = id_of(&mut rows, &mut names, name)?;
        rows.set(id, Kind::Position, channel, position)
    })?;
    take(transaction, OLD_COUNTERS, |(name, of), total| {
        let id = id_of(&mut rows, &mut names, name)?;
        rows.set(id, Kind::Counter, of, &total.to_le_bytes())
    })?;
    take(transaction, OLD_GAUGES, |(name, of), level| {
        let id = id_of(&mut rows, &mut names, name)?;
        rows.set(id, Kind::Gauge, of, &level.to_bits().to_le_bytes())
    })?;
    rows.finish(names.meta())
}

/// From schema 2: what lay in a table for each kind lies in one, with its checksums.
pub(super) fn from_ids(transaction: &WriteTransaction) -> Result<(), Fault> {
    expect(transaction, DAEMONS.name())?;
    begin(transaction)?;
    let mut rows = Rows::open(transaction)?;
    let mut listed = Vec::new();
    for row in transaction.open_table(NAMES)?.iter()? {
        let (name, id) = row?;
        listed.push((name.value().to_owned(), DaemonId(id.value())));
    }
    let mut names = Names::open(transaction)?;
    for (name, id) in listed {
        names.insert(&name, id)?;
    }
    take(transaction, DAEMONS, |id, record| {
        rows.enter(DaemonId(id), &Record::decode(record).map_err(Fault::damaged)?)
    })?;
    take(transaction, STATE, |(id, key), value| rows.set(DaemonId(id), Kind::State, key, value))?;
    take(transaction, POSITIONS, |(id, channel), position| {
        rows.set(DaemonId(id), Kind::Position, channel, position)
    })?;
    take(transaction, COUNTERS, |(id, of), total| {
        rows.set(DaemonId(id), Kind::Counter, of, &total.to_le_bytes())
    })?;
    take(transaction, GAUGES, |(id, of), level| {
        rows.set(DaemonId(id), Kind::Gauge, of, &level.to_bits().to_le_bytes())
    })?;
    rows.finish(names.meta())
}

/// That the file has a table of the schema that it names.
fn expect(transaction: &WriteTransaction, table: &str) -> Result<(), Fault> {
    let mut tables = transaction.list_tables()?;
    if tables.any(|found| found.name() == table) {
        return Ok(());
    }
    Err(Fault::damaged(format!("it has no table `{table}`, which its schema has")))
}

/// What the new schema says of the file.
fn begin(transaction: &WriteTransaction) -> Result<(), Fault> {
    tables::make(transaction)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_SCHEMA, SCHEMA)?;
        meta.insert(META_READER_MIN, READER_MIN)?;
        let mut origin = transaction.open_table(ORIGIN)?;
        if origin.get(ORIGIN_STORE)?.is_none() {
            origin.insert(ORIGIN_STORE, format!("{:032x}", random()?).as_str())?;
        }
        origin.insert(ORIGIN_WRITER, WRITER)?;
    }
    tables::seal_about(transaction)
}

/// Takes each row of an old table, and then the table away.
fn take<K, V>(
    transaction: &WriteTransaction,
    from: TableDefinition<'static, K, V>,
    mut row: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), Fault>,
) -> Result<(), Fault>
where
    K: redb::Key + 'static,
    V: redb::Value + 'static,
{
    for found in transaction.open_table(from)?.iter()? {
        let (key, value) = found?;
        row(key.value(), value.value())?;
    }
    transaction.delete_table(from)?;
    Ok(())
}
