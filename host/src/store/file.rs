//! The file on its way to being a database: how it comes to be, who has it, and whether it is where it was.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::own_file;

use super::database::Database;
use super::fault::Fault;
use super::record::random;
use super::tables::{
    self, META, META_READER_MIN, META_SCHEMA, ORIGIN, ORIGIN_STORE, ORIGIN_WRITER, READER_MIN,
    SCHEMA, WRITER,
};
use super::{FaultKind, StoreError};

/// What every redb file starts with.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// Where redb's two headers of transactions begin, each with the version of redb's file format.
const REDB_VERSIONS_AT: [usize; 2] = [64, 192];
/// The version that this redb reads and writes.
const REDB_VERSION: u8 = 3;

/// Makes a database with its schema beside `path`, and gives it that name unless another process was
/// quicker.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
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

/// What became of an open file; none: it is at its path.
pub(super) fn astray(file: &File, path: &Path) -> Option<String> {
    let shown = path.display();
    match is_at(file, path) {
        Ok(true) => None,
        Ok(false) if path.symlink_metadata().is_ok() => {
            Some(format!("another file stands at {shown}"))
        }
        Ok(false) => Some(format!("{shown} was moved or removed")),
        Err(error) => Some(format!("{shown} can't be looked at any more ({error})")),
    }
}

/// Whether `path` names this open file.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match path.metadata() {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(errno) => Err(StoreError::Io { path: path.to_owned(), source: errno.into() }),
    }
}

/// redb would make a database of an empty file, calls any other foreign one corrupted, and also one of a
/// newer redb.
pub(super) fn check_header(file: &File, path: &Path) -> Result<(), StoreError> {
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
