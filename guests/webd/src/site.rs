//! The served directory: from the path of a URL to an open file.
//!
//! The root is held as a capability (`cap_std::fs::Dir`): every lookup starts at its descriptor and
//! is kept beneath it by the kernel (`openat2` with `RESOLVE_BENEATH`) or by cap-std. `..`, absolute
//! paths and symbolic links that lead out fail in the lookup itself; no check of strings is needed
//! for that, and there is none.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use percent_encoding::percent_decode_str;
use rustix::fs::OFlags;

use crate::content_type;

/// What a directory is answered with.
const INDEX: &str = "index.html";

/// What a path of a URL leads to.
#[derive(Debug)]
pub(crate) enum Found {
    File(OpenFile),
    /// A directory, named without the slash that makes links in its index work.
    DirectoryWithoutSlash,
    Nothing,
    /// It exists, but may not be read, is no file, or lies outside the root.
    Forbidden,
    /// No path of a file can look like this.
    Malformed,
    Failed(io::Error),
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: std::fs::File,
    pub(crate) bytes: u64,
    pub(crate) modified: Option<SystemTime>,
    pub(crate) content_type: &'static str,
}

/// The root, as it was when it was opened last.
#[derive(Debug)]
pub(crate) struct Site {
    path: PathBuf,
    root: RwLock<Arc<Dir>>,
}

impl Site {
    /// Opens the root. May block, like everything here.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), root: RwLock::new(Arc::new(open_root(path)?)) })
    }

    /// Opens the root's path anew. On an error the old root stays in use.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let new = Arc::new(open_root(&self.path)?);
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether the root can be read.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.root().entries().map(drop)
    }

    /// Looks up the path of a URL, percent-encoded as it came.
    pub(crate) fn find(&self, url_path: &str) -> Found {
        let path: Vec<u8> = percent_decode_str(url_path).collect();
        if !path.starts_with(b"/") || path.contains(&0) {
            return Found::Malformed;
        }
        let relative = relative_to_root(&path);
        let root = self.root();
        let found = open(&root, relative).and_then(|(file, metadata)| {
            if !metadata.is_dir() {
                return Ok(found(file, &metadata, relative));
            }
            if !path.ends_with(b"/") {
                return Ok(Found::DirectoryWithoutSlash);
            }
            let index = relative.join(INDEX);
            let (file, metadata) = open(&root, &index)?;
            Ok(found(file, &metadata, &index))
        });
        found.unwrap_or_else(failed)
    }

    fn root(&self) -> Arc<Dir> {
        self.root.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The path as seen from the root; a directory is its own `.`.
fn relative_to_root(path: &[u8]) -> &Path {
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    match path.get(slashes..) {
        None | Some([]) => Path::new("."),
        Some(rest) => Path::new(OsStr::from_bytes(rest)),
    }
}

fn open_root(path: &Path) -> io::Result<Dir> {
    let root = Dir::open_ambient_dir(path, ambient_authority())?;
    root.entries()?;
    Ok(root)
}

fn open(root: &Dir, path: &Path) -> io::Result<(std::fs::File, cap_std::fs::Metadata)> {
    let mut options = OpenOptions::new();
    // Without it, opening a FIFO would wait for a writer. It means nothing to a regular file.
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = root.open_with(path, &options)?;
    let metadata = file.metadata()?;
    Ok((file.into_std(), metadata))
}

fn found(file: std::fs::File, metadata: &cap_std::fs::Metadata, path: &Path) -> Found {
    if !metadata.is_file() {
        return Found::Forbidden;
    }
    Found::File(OpenFile {
        file,
        bytes: metadata.len(),
        modified: metadata.modified().ok().map(cap_std::time::SystemTime::into_std),
        content_type: content_type::of(path),
    })
}

fn failed(error: io::Error) -> Found {
    match error.kind() {
        // A component is no directory, a name is too long, links go in circles: no such file.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Found::Nothing
        }
        // cap-std says this for what leads out of the root, too.
        io::ErrorKind::PermissionDenied => Found::Forbidden,
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Found::Nothing,
        // A socket, or a device without a driver.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            Found::Forbidden
        }
        _ => Found::Failed(error),
    }
}
