//! Images: from a component's file to something that can be instantiated.
//!
//! A component is compiled once, off the kernel's thread, and kept in a directory under an address
//! made of its content and of everything that the compiler's output depends on. So a start reads a
//! file; a component that changed, or another engine, has another address, and nothing is ever
//! overwritten with something else. Each entry ends with a digest of itself: a torn or tampered one
//! is compiled again, never mapped.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use rustix::event::{EventfdFlags, eventfd};
use wasmtime::{Engine, component::Component};
use wos_kernel::{
    ImageState,
    engine::{ContractError, Image, ImageLinker, ImageSource, describe_imports},
};

use super::{
    engine::Engines,
    link::{LinkError, Linkers},
};
use crate::{own_file, regular_file};

/// Largest component, in bytes.
pub(super) const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// Most entries in the cache's directory. The oldest goes when a new one is written over it.
const ENTRIES_MAX: usize = 256;
/// Length of the digest at the end of a cache entry, in bytes.
const DIGEST_BYTES: usize = blake3::OUT_LEN;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is over [`COMPONENT_BYTES_MAX`].
    #[error("{path}: it has {bytes} bytes, an image has at most {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// It does not begin as WebAssembly does.
    #[error("{path}: not a WebAssembly file: it does not begin with \\0asm")]
    NotWebAssembly {
        /// The file.
        path: String,
    },
    /// It is a core module.
    #[error(
        "{path}: a core module, not a component: build it with duende-sdk, or make a component of \
         it with `wasm-tools component new`"
    )]
    CoreModule {
        /// The file.
        path: String,
    },
    /// The compiler refused it: truncated, invalid, or beyond the profile.
    #[error("{path}: not a valid component: {reason}; if it was copied, copy it again")]
    Invalid {
        /// The file.
        path: String,
        /// What the compiler says.
        reason: String,
    },
    /// It is a component of something else.
    #[error("{path}: {error}")]
    Contract {
        /// The file.
        path: String,
        /// What does not fit.
        error: ContractError,
    },
    /// The cache cannot be written.
    #[error("cannot write the image cache {path}: {source}")]
    Cache {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What `duende check` says of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReport {
    /// Its content address, `b3:<hex>`.
    pub id: String,
    /// The series of the contract that it is built for, as `0.2`.
    pub contract: &'static str,
    /// The interfaces that it imports, by their short names.
    pub imports: Vec<String>,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Reads a component and holds it against the contract, without a cache.
///
/// # Errors
/// It is none, or none of this contract.
pub fn inspect_image(path: &Path) -> Result<ImageReport, ImageError> {
    let bytes = read_component(path)?;
    let invalid = |error: wasmtime::Error| invalid(path, &error);
    let engine = Engines::for_fleet(1).map_err(invalid)?.on_demand().clone();
    let component = Component::new(&engine, &bytes).map_err(invalid)?;
    let image = ImageLinker::new(&engine)
        .map_err(invalid)?
        .link(&component)
        .map_err(|error| ImageError::Contract { path: path.display().to_string(), error })?;
    Ok(ImageReport {
        id: format!("b3:{}", blake3::hash(&bytes).to_hex()),
        contract: image.series().name(),
        imports: describe_imports(&component),
        bytes: bytes.len() as u64,
    })
}

/// Compiled images, in memory and in a directory.
pub struct ImageCache {
    engine: Engine,
    linkers: Linkers,
    dir: PathBuf,
}

impl ImageCache {
    /// A cache in `dir`, which is made when the first image is written.
    ///
    /// # Errors
    /// The engine's configuration does not fit the kernel.
    pub fn new(engines: &Engines, dir: PathBuf) -> wasmtime::Result<Self> {
        let linkers = Linkers::new(engines)?;
        Ok(Self { engine: engines.on_demand().clone(), linkers, dir })
    }

    /// Makes the component in a file ready, compiling it if the directory does not have it.
    ///
    /// # Errors
    /// It cannot be read, is no daemon, or the cache cannot be written.
    pub fn load(&self, path: &Path) -> Result<Image, ImageError> {
        let bytes = read_component(path)?;
        let entry = self.dir.join(self.address(&bytes));
        let code = match Self::kept(&entry) {
            Some(code) => code,
            None => self.compile(path, &bytes, &entry)?,
        };
        // SAFETY: deserialising trusts the bytes as machine code. They are what `compile` wrote:
        // the directory belongs to this user alone (0700), the name ties them to the engines'
        // compatibility hash, and the digest says that they are whole.
        let component = |engine: &Engine| unsafe { Component::deserialize(engine, &code) };
        self.linkers.link(component).map_err(|error| match error {
            LinkError::Component(error) => invalid(path, &error),
            LinkError::Contract(error) => {
                ImageError::Contract { path: path.display().to_string(), error }
            }
        })
    }

    /// `b3-<content>-<compiler, engine and processor>.cwasm`
    fn address(&self, component: &[u8]) -> String {
        struct Digest(blake3::Hasher);
        impl std::hash::Hasher for Digest {
            fn finish(&self) -> u64 {
                let hash = self.0.finalize();
                let (head, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
                u64::from_le_bytes(*head)
            }
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
        }
        let mut digest = Digest(blake3::Hasher::new());
        std::hash::Hash::hash(&self.engine.precompile_compatibility_hash(), &mut digest);
        let engine = digest.0.finalize().to_hex();
        let content = blake3::hash(component).to_hex();
        format!("b3-{content}-{}.cwasm", engine.get(..16).unwrap_or_default())
    }

    fn kept(entry: &Path) -> Option<Vec<u8>> {
        let mut bytes = fs::read(entry).ok()?;
        let (code, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if blake3::hash(code).as_bytes().as_slice() != digest {
            return None;
        }
        bytes.truncate(code.len());
        Some(bytes)
    }

    fn compile(&self, path: &Path, bytes: &[u8], entry: &Path) -> Result<Vec<u8>, ImageError> {
        let code =
            self.engine.precompile_component(bytes).map_err(|error| invalid(path, &error))?;
        write_whole(&self.dir, entry, &code)
            .map_err(|source| ImageError::Cache { path: entry.display().to_string(), source })?;
        self.evict();
        Ok(code)
    }
}

impl ImageCache {
    /// Removes the oldest entries over [`ENTRIES_MAX`]. What cannot be removed stays: a cache that is
    /// too large harms nobody yet.
    fn evict(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut entries: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        entries.sort();
        let surplus = entries.len().saturating_sub(ENTRIES_MAX);
        for (_, path) in entries.into_iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes an entry and its digest so that it is there whole or not at all.
fn write_whole(dir: &Path, entry: &Path, code: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let unfinished = entry.with_extension(format!("{}.unfinished", std::process::id()));
    let mut bytes = Vec::with_capacity(code.len() + DIGEST_BYTES);
    bytes.extend_from_slice(code);
    bytes.extend_from_slice(blake3::hash(code).as_bytes());
    let written =
        own_file::write(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, entry));
    if written.is_err() {
        // Nothing is lost if this fails too: the next start makes another unfinished file.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn read_component(path: &Path) -> Result<Vec<u8>, ImageError> {
    let name = || path.display().to_string();
    let read = |source| ImageError::Read { path: name(), source };
    let file = regular_file::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    let mut bytes = Vec::new();
    if length <= COMPONENT_BYTES_MAX {
        file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    }
    let length = length.max(bytes.len() as u64);
    if length > COMPONENT_BYTES_MAX {
        return Err(ImageError::TooLarge { path: name(), bytes: length });
    }
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(ImageError::CoreModule { path: name() }),
        Some([0, b'a', b's', b'm', ..]) => Ok(bytes),
        None if bytes.starts_with(b"\0asm") => {
            Err(ImageError::Invalid { path: name(), reason: "it ends after its magic".into() })
        }
        Some(_) | None => Err(ImageError::NotWebAssembly { path: name() }),
    }
}

fn invalid(path: &Path, error: &wasmtime::Error) -> ImageError {
    ImageError::Invalid { path: path.display().to_string(), reason: format!("{error:#}") }
}

/// Which file an image was made from; a file that was replaced is another one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
}

impl FileId {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000
                + i128::from(metadata.mtime_nsec()),
        })
    }
}

/// Names of images that have become ready or unusable, and a descriptor that can be polled for them.
#[derive(Clone)]
pub(super) struct Settled {
    names: Arc<Mutex<VecDeque<String>>>,
    event: Arc<OwnedFd>,
    count: Arc<AtomicU64>,
}

impl Settled {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { names: Arc::default(), event: Arc::new(event), count: Arc::default() })
    }

    fn push(&self, name: String) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push_back(name);
        self.count.fetch_add(1, Ordering::Release);
        // The counter cannot overflow: the kernel's thread resets it before it waits.
        let _ = rustix::io::write(&*self.event, &1_u64.to_ne_bytes());
    }

    /// Takes the names. Costs one atomic load when there are none.
    pub(super) fn take(&self) -> VecDeque<String> {
        if self.count.swap(0, Ordering::Acquire) == 0 {
            return VecDeque::new();
        }
        let _ = rustix::io::read(&*self.event, &mut [0; 8]);
        std::mem::take(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Settled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

type Loaded = (PathBuf, Option<FileId>, Result<Image, ImageError>);

/// Makes images ready on a thread of its own, so that no slice waits for a compiler.
pub(super) struct Loader {
    wanted: Sender<PathBuf>,
    loaded: Receiver<Loaded>,
    images: HashMap<PathBuf, Entry>,
    settled: Settled,
}

enum Entry {
    Loading,
    Loaded { file: Option<FileId>, image: Result<Image, String> },
}

impl Loader {
    pub(super) fn start(cache: ImageCache) -> io::Result<Self> {
        let (wanted, wishes) = mpsc::channel::<PathBuf>();
        let (results, loaded) = mpsc::channel();
        let settled = Settled::new()?;
        let of_thread = settled.clone();
        thread::Builder::new().name("image-loader".into()).spawn(move || {
            for path in wishes {
                let file = FileId::of(&path);
                let image = cache.load(&path);
                let name = path.to_string_lossy().into_owned();
                if results.send((path, file, image)).is_err() {
                    break;
                }
                of_thread.push(name);
            }
        })?;
        Ok(Self { wanted, loaded, images: HashMap::new(), settled })
    }

    pub(super) fn settled(&self) -> Settled {
        self.settled.clone()
    }
}

impl ImageSource for Loader {
    fn image(&mut self, name: &str) -> ImageState<Image> {
        for (path, file, image) in self.loaded.try_iter() {
            let image = image.map_err(|error| error.to_string());
            self.images.insert(path, Entry::Loaded { file, image });
        }
        let path = Path::new(name);
        match self.images.get(path) {
            Some(Entry::Loading) => return ImageState::Pending,
            Some(Entry::Loaded { file, image }) if file.is_some() && *file == FileId::of(path) => {
                return match image {
                    Ok(image) => ImageState::Ready(image.clone()),
                    Err(reason) => ImageState::Unusable(reason.clone()),
                };
            }
            Some(Entry::Loaded { file: None, image: Err(reason) }) => {
                // The file could not even be looked at. It is tried again with the next start.
                let reason = reason.clone();
                self.images.remove(path);
                return ImageState::Unusable(reason);
            }
            Some(Entry::Loaded { .. }) | None => {}
        }
        if self.wanted.send(path.to_path_buf()).is_err() {
            return ImageState::Unusable("the image loader has ended".into());
        }
        self.images.insert(path.to_path_buf(), Entry::Loading);
        ImageState::Pending
    }
}
