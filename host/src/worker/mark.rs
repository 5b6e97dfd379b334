//! Whose slice is open: written by a worker before each quantum, read by its manager once it has died.
//!
//! What a slice does to its worker, a bug of the engine or the system's OOM killer say, happens to all others
//! that live in it. So whose it was must outlive the process, and cost next to nothing: one word of memory that
//! both share. The word is an address, slot and incarnation; incarnations begin with 1, so 0 is nobody's.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use duende_core::wire::link::Address;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    mm::{MapFlags, ProtFlags, mmap},
};

/// Bytes of the file.
const BYTES: usize = size_of::<AtomicU64>();

/// The manager's end.
#[derive(Debug)]
pub(crate) struct MarkFile(File);

impl MarkFile {
    pub(crate) fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("duende-mark", MemfdFlags::CLOEXEC)?);
        file.set_len(BYTES as u64)?;
        Ok(Self(file))
    }

    /// For the worker.
    pub(crate) fn file(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Whose slice was open last, if one still was.
    pub(crate) fn open(&self) -> Option<Address> {
        let mut word = [0; BYTES];
        self.0.read_exact_at(&mut word, 0).ok()?;
        let word = u64::from_ne_bytes(word);
        let (slot, incarnation) =
            (u32::try_from(word >> 32).ok()?, u32::try_from(word & 0xffff_ffff).ok()?);
        (incarnation != 0).then(|| Address::of(slot, incarnation))
    }
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Mark(&'static AtomicU64);

impl Mark {
    /// In the file that the manager handed over.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() < BYTES as u64 {
            return Err(io::Error::other("it is too short"));
        }
        // SAFETY: a fresh mapping, which nobody unmaps; no memory of ours lies where the kernel puts it.
        let page = unsafe {
            mmap(
                ptr::null_mut(),
                BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        // SAFETY: the mapping lives for ever, is aligned to a page and as long as the word, and the file has that
        // many bytes. The manager reads it by system calls, which an atomic word may be read by at any time.
        Ok(Self(unsafe { AtomicU64::from_ptr(page.cast()) }))
    }

    pub(super) fn set(&self, open: Option<Address>) {
        let word = open.map_or(0, |at| u64::from(at.daemon) << 32 | u64::from(at.incarnation));
        // Only its own process's end is ever looked at: there is nothing to be ordered.
        self.0.store(word, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_says_the_other_hears() {
        let file = MarkFile::new().unwrap();
        assert_eq!(file.open(), None);
        let mark = Mark::of(&File::from(file.file().unwrap())).unwrap();
        for at in [Address::of(0, 1), Address::of(u32::MAX, u32::MAX), Address::of(999, 7)] {
            mark.set(Some(at));
            assert_eq!(file.open(), Some(at));
        }
        mark.set(None);
        assert_eq!(file.open(), None);
    }
}
