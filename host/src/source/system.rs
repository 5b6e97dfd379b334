//! The system's own files, as [`follow`](super::follow) sees them.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use super::follow::{FileId, Files, Listed, LogFile, Stat};

#[derive(Debug)]
pub(super) struct System;

/// An open file of the system.
#[derive(Clone, Debug)]
pub(super) struct SystemFile(pub(super) Arc<File>);

impl Files for System {
    type File = SystemFile;

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(path) {
            Ok(to) => Ok(Some(to)),
            // It is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => none_if_not_there(error),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        fs::metadata(path).map(|metadata| Some(stat(&metadata))).or_else(none_if_not_there)
    }

    fn open(&self, path: &Path) -> io::Result<Option<SystemFile>> {
        // A pipe must not block the opening; for a regular file the flag means nothing.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) => return none_if_not_there(error),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Some(SystemFile(Arc::new(file))))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return none_if_not_there(error).map(Option::unwrap_or_default),
        };
        entries
            .map(|entry| entry.map(|entry| Listed { name: entry.file_name(), inode: entry.ino() }))
            .collect()
    }
}

impl LogFile for SystemFile {
    fn stat(&self) -> io::Result<Stat> {
        self.0.metadata().map(|metadata| stat(&metadata))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Whether a directory's file system is known to be kept by this machine's kernel on its own disks or in its
/// memory: others wait for a server or a program, which may never answer.
pub(super) fn is_of_this_machine(directory: &Path) -> io::Result<bool> {
    // bcachefs, btrfs, ext2 to ext4, f2fs, overlayfs, ramfs, squashfs, tmpfs, xfs, zfs: `statfs(2)`.
    const KNOWN: [u64; 10] = [
        0xca45_1a4e,
        0x9123_683e,
        0xef53,
        0xf2f5_2010,
        0x794c_7630,
        0x8584_58f6,
        0x7371_7368,
        0x0102_1994,
        0x5846_5342,
        0x2fc1_2fc1,
    ];
    let kind = rustix::fs::statfs(directory)?.f_type;
    // Some are negative as the 32 bits that they are.
    Ok(u64::try_from(kind).is_ok_and(|kind| KNOWN.contains(&(kind & 0xffff_ffff))))
}

fn stat(metadata: &Metadata) -> Stat {
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.and_then(|born| i64::try_from(born.as_nanos()).ok()).unwrap_or(0);
    Stat {
        id: FileId { device: metadata.dev(), inode: metadata.ino(), born_ns },
        is_file: metadata.is_file(),
        size: metadata.len(),
        modified_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        links: metadata.nlink(),
    }
}

/// A part of the way that is no directory leads nowhere either.
fn none_if_not_there<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(error),
    }
}
