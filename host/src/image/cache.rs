//! The directory of machine code.
//!
//! An entry is a file `b3-<digest of the component>-<engine>.cwasm`: the machine code, what is known of the
//! component, and the digest of both. Rules:
//! 1. An entry is there whole or not at all: it is written beside its place and renamed. One whose digest does
//!    not fit, torn or tampered with, is no entry, and is written anew (`tests/image_cache.rs`).
//! 2. Its directory belongs to its user alone, and is not followed if it is a link: what lies there is run.
//! 3. All entries together have at most [`Cache::bytes_max`] bytes: over it those go that were used longest
//!    ago. One is used when it is found, not when it is mapped; a mapped one that goes stays mapped.
//! 4. What is unfinished for an hour belongs to nobody any more, and goes.
//! 5. A cache that can't be written costs time, and no image: see [`Cache::put`].

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{compile::Survey, own_file};

/// Length of the digest at the end of an entry, in bytes.
const DIGEST_BYTES: usize = blake3::OUT_LEN;
/// The age at which what is unfinished was left by a process that died.
const UNFINISHED_AGE: Duration = Duration::from_secs(3_600);
/// A use is written down once in this time.
const USE_PERIOD: Duration = Duration::from_secs(60);
/// The extension of entries.
const ENTRY: &str = "cwasm";
/// The extension of what is not finished.
const UNFINISHED: &str = "unfinished";

/// An image that a worker can map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedImage {
    /// The entry: machine code at its beginning.
    pub entry: PathBuf,
    /// What is known of the component.
    pub survey: Survey,
    /// The content address of the component, `b3:<hex>`.
    pub id: String,
    /// The component's size, in bytes.
    pub bytes: u64,
}

/// Compiled components, in directories.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Where entries lie; the second one serves while the first can't be written.
    dirs: Vec<PathBuf>,
    bytes_max: u64,
}

impl Cache {
    /// Entries in `dir`, of at most `bytes_max` bytes together; while it can't be written, in `refuge`, which
    /// is small and lasts as long as the machine is up.
    #[must_use]
    pub fn new(dir: PathBuf, refuge: Option<PathBuf>, bytes_max: u64) -> Self {
        let dirs = std::iter::once(dir).chain(refuge).collect();
        Self { dirs, bytes_max }
    }

    /// Most bytes of all entries together.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The directories that have entries.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Looks for the image of a component, and marks it as used.
    pub(super) fn find(&self, component: &Content, engine: &str) -> Option<CachedImage> {
        let name = component.entry(engine);
        self.dirs.iter().find_map(|dir| {
            let entry = dir.join(&name);
            let survey = whole(&entry)?;
            mark_used(&entry);
            Some(component.cached(entry, survey))
        })
    }

    /// Keeps what was compiled.
    ///
    /// # Errors
    /// No directory can be written: the last one, and why.
    pub(super) fn put(
        &self,
        component: &Content,
        engine: &str,
        survey: Survey,
        code: &[u8],
    ) -> Result<CachedImage, (PathBuf, io::Error)> {
        let name = component.entry(engine);
        let mut refused = None;
        for dir in &self.dirs {
            let entry = dir.join(&name);
            match self.write_whole(dir, &entry, &survey, code) {
                Ok(()) => {
                    self.evict(dir, &entry);
                    return Ok(component.cached(entry, survey));
                }
                Err(error) => refused = Some((dir.clone(), error)),
            }
        }
        Err(refused.unwrap_or_else(|| (PathBuf::new(), io::Error::other("there is no directory"))))
    }

    fn write_whole(
        &self,
        dir: &Path,
        entry: &Path,
        survey: &Survey,
        code: &[u8],
    ) -> io::Result<()> {
        make_dir(dir)?;
        let survey = postcard::to_allocvec(survey).map_err(io::Error::other)?;
        let length = u32::try_from(survey.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut digest = blake3::Hasher::new();
        let mut bytes = Vec::with_capacity(code.len() + survey.len() + 4 + DIGEST_BYTES);
        for part in [code, &survey, &length] {
            digest.update(part);
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(digest.finalize().as_bytes());
        let unfinished = entry.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
        let written =
            own_file::write(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, entry));
        if written.is_err() {
            // What is left of it, rule 4 removes.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Rules 3 and 4. What can't be removed stays: a cache that is too large harms nobody yet.
    fn evict(&self, dir: &Path, kept: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let now = SystemTime::now();
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        entries.retain(|(modified, _, path)| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            let age = now.duration_since(*modified).unwrap_or_default();
            if extension == Some(UNFINISHED) && age > UNFINISHED_AGE {
                let _ = fs::remove_file(path);
            }
            extension == Some(ENTRY)
        });
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, length, path) in &entries {
            if bytes <= self.bytes_max {
                break;
            }
            if path != kept && fs::remove_file(path).is_ok() {
                bytes = bytes.saturating_sub(*length);
            }
        }
    }
}

/// Makes a directory for entries, if it is not there.
///
/// # Errors
/// It can't be made.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What is in a component's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    digest: [u8; blake3::OUT_LEN],
    bytes: u64,
}

impl Content {
    pub(super) fn of(component: &[u8]) -> Self {
        Self { digest: *blake3::hash(component).as_bytes(), bytes: component.len() as u64 }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.digest).to_hex().to_string()
    }

    fn entry(&self, engine: &str) -> String {
        format!("b3-{}-{engine}.{ENTRY}", self.hex())
    }

    fn cached(&self, entry: PathBuf, survey: Survey) -> CachedImage {
        CachedImage { entry, survey, id: format!("b3:{}", self.hex()), bytes: self.bytes }
    }
}

/// What an entry says of its component, if it is whole.
fn whole(entry: &Path) -> Option<Survey> {
    let mut file = File::open(entry).ok()?;
    let length = file.metadata().ok()?.len();
    let digested = length.checked_sub(DIGEST_BYTES as u64)?;
    let mut digest = blake3::Hasher::new();
    let mut tail = Vec::new();
    let mut left = digested;
    let mut chunk = vec![0; 256 << 10];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        let count = file.read(chunk.get_mut(..most)?).ok().filter(|count| *count > 0)?;
        let read = chunk.get(..count)?;
        digest.update(read);
        tail.extend_from_slice(read);
        // What is known of a component is short.
        let surplus = tail.len().saturating_sub(SURVEY_BYTES_MAX);
        tail.drain(..surplus);
        left -= count as u64;
    }
    let mut expected = [0; DIGEST_BYTES];
    file.read_exact(&mut expected).ok()?;
    if *digest.finalize().as_bytes() != expected {
        return None;
    }
    let (rest, survey_length) = tail.split_last_chunk::<4>()?;
    let survey_length = usize::try_from(u32::from_le_bytes(*survey_length)).ok()?;
    postcard::from_bytes(rest.get(rest.len().checked_sub(survey_length)?..)?).ok()
}

/// Longest of what is known of a component, in bytes, as far as it is read back: names of a few thousand
/// imports.
const SURVEY_BYTES_MAX: usize = 1 << 20;

/// Writes down that an entry was used, in the time of its last change.
fn mark_used(entry: &Path) {
    let used = || {
        let file = File::open(entry)?;
        let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > USE_PERIOD { file.set_modified(SystemTime::now()) } else { Ok(()) }
    };
    // An entry whose use is not known goes earlier than it should.
    let _: io::Result<()> = used();
}
