//! A component's file: read whole, if it is one.

use std::{fs, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use super::ImageError;
use crate::{compile::Refusal, regular_file};

/// Largest component, in bytes.
pub(super) const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// Reads a component. A pipe or a device is refused at once; of anything else but a component, what it is.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let name = || path.display().to_string();
    let failed = |source| ImageError::read(path, source);
    let too_large = |bytes| ImageError::TooLarge { path: name(), bytes, max: COMPONENT_BYTES_MAX };
    let file = regular_file::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > COMPONENT_BYTES_MAX {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(too_large(bytes.len() as u64));
    }
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(ImageError::CoreModule { path: name() }),
        Some([0, b'a', b's', b'm', ..]) => Ok(bytes),
        None if bytes.starts_with(b"\0asm") => {
            Err(ImageError::refused(path, Refusal::Invalid("it ends after its magic".into())))
        }
        Some(_) | None => Err(ImageError::NotWebAssembly { path: name() }),
    }
}

/// Which file something was made from; a file that was replaced or written is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl FileId {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let ns = |seconds, ns| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
