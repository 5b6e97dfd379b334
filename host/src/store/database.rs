//! The tables, and the file they lie in.
//!
//! Rules:
//! 1. **One opener.** The file stays locked from [`Database::open`] until the value is dropped, also
//!    while redb is closed and opened again after a failure: the lock is ours, on our descriptor.
//! 2. **A group is applied once.** It carries a number that is stored with it. After a failed commit
//!    nobody knows whether it reached the disk; the number that the file shows on the next attempt
//!    tells, so no counter is added to twice.
//! 3. **A new file appears whole.** It is made beside its place and then renamed, so a kill never
//!    leaves half a database under its name.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use rustix::fs::{Advice, CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::{Commit, FaultKind, Loaded, StoreError, Write};

/// The one layout of tables that this version reads and writes.
const SCHEMA: u64 = 1;
/// Pages that redb keeps in memory, in bytes. A daemon's state is read once, at its start.
const CACHE_BYTES: usize = 16 << 20;
/// What every redb file starts with.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// In all of these the key is the daemon and the name within it.
type Table<V> = TableDefinition<'static, (&'static str, &'static str), V>;
const STATE: Table<&[u8]> = Table::new("state");
const POSITIONS: Table<&[u8]> = Table::new("positions");
const COUNTERS: Table<u64> = Table::new("counters");
const GAUGES: Table<f64> = Table::new("gauges");
/// What concerns the file as a whole.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const META_SCHEMA: &str = "schema";
const META_GROUP: &str = "group";

/// Why an operation failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn into_error(self, path: PathBuf) -> StoreError {
        match self.kind {
            FaultKind::Damaged => StoreError::Damaged { path, detail: self.detail },
            FaultKind::Full | FaultKind::Io => {
                StoreError::Io { path, source: io::Error::other(self.detail) }
            }
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        let error = error.into();
        let kind = match &error {
            redb::Error::Io(io) => match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    FaultKind::Full
                }
                // Shorter than its header says.
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData => FaultKind::Damaged,
                _ => FaultKind::Io,
            },
            redb::Error::PreviousIo => FaultKind::Io,
            _ => FaultKind::Damaged,
        };
        Self { kind, detail: error.to_string() }
    }
}

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// None after a failure: redb refuses to go on with what it has in memory, and rightly so.
    tables: Option<redb::Database>,
    /// The descriptor that holds the lock.
    file: File,
    /// The number of the last group that is known to be durable.
    last_group: u64,
    #[cfg(test)]
    pub(super) failures: Failures,
}

impl Database {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let io_error = |source| StoreError::Io { path: path.to_owned(), source };
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path)?;
                OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?
            }
            Err(error) => return Err(io_error(error)),
        };
        lock(&file, path)?;
        check_magic(&file, path)?;
        let mut database = Self::over(path.to_owned(), file);
        let meta = database.tables().and_then(|tables| {
            let transaction = tables.begin_read()?;
            match transaction.open_table(META) {
                Ok(meta) => {
                    let number = |key| Ok::<_, Fault>(meta.get(key)?.map(|value| value.value()));
                    Ok((number(META_SCHEMA)?, number(META_GROUP)?))
                }
                Err(redb::TableError::TableDoesNotExist(_)) => Ok((None, None)),
                Err(error) => Err(error.into()),
            }
        });
        match meta.map_err(|fault| fault.into_error(path.to_owned()))? {
            (Some(SCHEMA), group) => database.last_group = group.unwrap_or(0),
            (Some(found), _) => {
                return Err(StoreError::Schema { path: path.to_owned(), found, supported: SCHEMA });
            }
            (None, _) => {
                let detail = "a redb database without a schema number".to_owned();
                return Err(StoreError::Foreign { path: path.to_owned(), detail });
            }
        }
        Ok(database)
    }

    fn over(path: PathBuf, file: File) -> Self {
        Self {
            path,
            tables: None,
            file,
            last_group: 0,
            #[cfg(test)]
            failures: Failures::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The number for the next group.
    pub(super) fn next_group(&self) -> u64 {
        self.last_group + 1
    }

    /// Makes a group durable, with one fsync. Calling it again with the same number after a failure
    /// is safe, whatever became of the first attempt.
    pub(super) fn apply(&mut self, number: u64, group: &[Commit]) -> Result<(), Fault> {
        self.attempt(|tables| write_group(tables, number, group))?;
        self.last_group = number;
        Ok(())
    }

    /// Removes everything kept of a daemon, durably.
    pub(super) fn forget(&mut self, daemon: &str) -> Result<(), Fault> {
        self.attempt(|tables| {
            let transaction = tables.begin_write()?;
            with_range(daemon, |range| {
                transaction.open_table(STATE)?.retain_in(range.clone(), |_, _| false)?;
                transaction.open_table(POSITIONS)?.retain_in(range.clone(), |_, _| false)?;
                transaction.open_table(COUNTERS)?.retain_in(range.clone(), |_, _| false)?;
                transaction.open_table(GAUGES)?.retain_in(range, |_, _| false)?;
                Ok::<_, Fault>(())
            })?;
            Ok(transaction.commit()?)
        })
    }

    /// Everything kept of a daemon.
    pub(super) fn load(&mut self, daemon: &str) -> Result<Loaded, Fault> {
        self.attempt(|tables| {
            let transaction = tables.begin_read()?;
            Ok(Loaded {
                state: rows(&transaction.open_table(STATE)?, daemon, <[u8]>::to_vec)?,
                positions: rows(&transaction.open_table(POSITIONS)?, daemon, <[u8]>::to_vec)?,
                counters: rows(&transaction.open_table(COUNTERS)?, daemon, |total| total)?,
                gauges: rows(&transaction.open_table(GAUGES)?, daemon, |level| level)?,
            })
        })
    }

    fn attempt<T>(
        &mut self,
        act: impl FnOnce(&redb::Database) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let outcome = self.tables().and_then(act);
        if outcome.is_err() {
            self.tables = None;
            // After a failed fsync the page cache may show what the disk does not hold. The next
            // attempt has to see the disk.
            let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        }
        outcome
    }

    fn tables(&mut self) -> Result<&redb::Database, Fault> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => {
                let disk = Disk {
                    file: FileBackend::new(self.file.try_clone()?)?,
                    #[cfg(test)]
                    failures: self.failures.clone(),
                };
                redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?
            }
        };
        Ok(self.tables.insert(tables))
    }
}

fn write_group(tables: &redb::Database, number: u64, group: &[Commit]) -> Result<(), Fault> {
    // redb's default durability: `commit` returns after the fsync.
    let transaction = tables.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        if meta.get(META_GROUP)?.is_some_and(|stored| stored.value() == number) {
            // The attempt that was reported as failed had reached the disk.
            drop(meta);
            transaction.abort()?;
            return Ok(());
        }
        meta.insert(META_GROUP, number)?;
        let mut state = transaction.open_table(STATE)?;
        let mut positions = transaction.open_table(POSITIONS)?;
        let mut counters = transaction.open_table(COUNTERS)?;
        let mut gauges = transaction.open_table(GAUGES)?;
        for commit in group {
            let daemon = commit.daemon.as_str();
            for write in &commit.writes {
                match write {
                    Write::Set { key, value } => {
                        state.insert((daemon, key.as_str()), value.as_slice())?;
                    }
                    Write::Delete { key } => {
                        state.remove((daemon, key.as_str()))?;
                    }
                }
            }
            for (channel, position) in &commit.positions {
                positions.insert((daemon, channel.as_str()), position.as_slice())?;
            }
            for (name, delta) in &commit.counters {
                let total = counters.get((daemon, name.as_str()))?.map_or(0, |total| total.value());
                counters.insert((daemon, name.as_str()), total.saturating_add(*delta))?;
            }
            for (name, level) in &commit.gauges {
                gauges.insert((daemon, name.as_str()), *level)?;
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Runs `act` with the range of a daemon's keys: from its empty name to the least key of the next
/// possible daemon.
fn with_range<T>(daemon: &str, act: impl FnOnce(Range<(&str, &str)>) -> T) -> T {
    let next = format!("{daemon}\0");
    act((daemon, "")..(next.as_str(), ""))
}

fn rows<V: redb::Value + 'static, T>(
    table: &impl ReadableTable<(&'static str, &'static str), V>,
    daemon: &str,
    value_of: impl Fn(V::SelfType<'_>) -> T,
) -> Result<Vec<(String, T)>, Fault> {
    with_range(daemon, |range| {
        let mut found = Vec::new();
        for row in table.range(range)? {
            let (key, value) = row?;
            found.push((key.value().1.to_owned(), value_of(value.value())));
        }
        Ok(found)
    })
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
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&unfinished);
    let file = file.map_err(io_error)?;
    lock(&file, path)?;
    // Between the opening and the lock another process may have finished: then this is its database.
    if !is_at(&file, &unfinished).map_err(io_error)? {
        return Ok(());
    }
    // What a killed creation left.
    file.set_len(0).map_err(io_error)?;
    let mut database = Database::over(path.to_owned(), file);
    let made = database.attempt(|tables| {
        let transaction = tables.begin_write()?;
        transaction.open_table(META)?.insert(META_SCHEMA, SCHEMA)?;
        transaction.open_table(STATE)?;
        transaction.open_table(POSITIONS)?;
        transaction.open_table(COUNTERS)?;
        transaction.open_table(GAUGES)?;
        Ok(transaction.commit()?)
    });
    made.map_err(|fault| fault.into_error(path.to_owned()))?;
    // Closed before it is renamed: a database that was closed needs no check when it is opened.
    database.tables = None;
    match rustix::fs::renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => std::fs::remove_file(&unfinished).map_err(io_error)?,
        Err(errno) => return Err(io_error(errno.into())),
    }
    // The name has to survive a power failure as well as the content does.
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error)
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

/// redb would make a database of an empty file, and calls any other foreign one corrupted.
fn check_magic(file: &File, path: &Path) -> Result<(), StoreError> {
    let mut start = [0; MAGIC.len()];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) if start == *MAGIC => Ok(()),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
            Err(StoreError::Io { path: path.to_owned(), source: error })
        }
        Ok(()) | Err(_) => {
            let detail = "it does not start as a redb file does".to_owned();
            Err(StoreError::Foreign { path: path.to_owned(), detail })
        }
    }
}

/// The file as redb sees it: without locks, because the lock has to outlive redb's view of it.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    #[cfg(test)]
    failures: Failures,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.failures.before_sync()?;
        self.file.sync_data()?;
        #[cfg(test)]
        self.failures.after_sync()?;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

/// Failures that a test plans.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// How many syncs report a failure although they reached the disk.
    pub(super) lying_syncs: std::sync::Arc<std::sync::atomic::AtomicU32>,
    /// How many syncs fail before anything reaches the disk.
    pub(super) failing_syncs: std::sync::Arc<std::sync::atomic::AtomicU32>,
    /// While a test holds this, no sync returns.
    pub(super) slow: std::sync::Arc<std::sync::Mutex<()>>,
}

#[cfg(test)]
impl Failures {
    fn before_sync(&self) -> io::Result<()> {
        drop(self.slow.lock());
        Self::count_down(&self.failing_syncs)
    }

    fn after_sync(&self) -> io::Result<()> {
        Self::count_down(&self.lying_syncs)
    }

    fn count_down(left: &std::sync::atomic::AtomicU32) -> io::Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        let failing = left.try_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() { Err(Errno::IO.into()) } else { Ok(()) }
    }
}
