//! Images, as a worker has them: machine code that is mapped, and linked against the kernel's syscalls.
//!
//! A worker compiles nothing and looks for nothing: the manager names an entry of the cache, whose name says what
//! is in it (see [`crate::image`]), and hands it over, open ([`super::handover`]). So a name is mapped once, and the
//! mapping serves all daemons of that image, in this worker and, as pages of the same file, in others. It stays
//! for the worker's life.
//!
//! The engine maps files by their names. A worker may open those below the directories that were the cache when
//! it began; where that is another directory by now, or may not be run from (`noexec`), it makes do with a copy
//! of what it was handed (`tests/tests/components.rs::a_cache_that_is_removed_is_made_anew`).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
};

use rustix::event::{EventfdFlags, eventfd};
use wasmtime::{Engine, component::Component};
use wos_kernel::{
    ImageState,
    engine::{Image, ImageSource},
};

use super::{
    handover,
    link::{LinkError, Linkers},
};

/// Maps an entry of the cache and links it; one that can't be mapped by its name is copied from `file`.
///
/// # Errors
/// It can't be read, or is not of this engine: the text says which.
pub fn map_image(linkers: &Linkers, entry: &Path, file: Option<&File>) -> Result<Image, String> {
    let name = || entry.display();
    let component = |engine: &Engine| {
        // SAFETY: mapping trusts the bytes as machine code. They are an entry of the image cache: its directory
        // is its user's alone (0700), the manager held its digest against its bytes, and the engine refuses one
        // that was compiled for another. An entry is replaced as a whole, not written: what is mapped stays as
        // it is.
        let mapped = unsafe { Component::deserialize_file(engine, entry) };
        match (mapped, file) {
            (Err(_), Some(file)) => {
                let mut code = vec![0; usize::try_from(file.metadata()?.len())?];
                file.read_exact_at(&mut code, 0)?;
                // SAFETY: as above; the manager opened it.
                unsafe { Component::deserialize(engine, code) }
            }
            (mapped, _) => mapped,
        }
    };
    linkers.link(component).map_err(|error| match error {
        LinkError::Component(error) => format!("{}: it can't be mapped: {error:#}", name()),
        LinkError::Contract(error) => format!("{}: {error}", name()),
    })
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

type Loaded = (String, Result<Image, String>);

/// Maps images on a thread of its own, so that no slice waits for a disk. The thread is told of them by the
/// manager, before a daemon of theirs is made.
pub(super) struct Loader {
    loaded: Receiver<Loaded>,
    images: HashMap<String, Entry>,
    settled: Settled,
}

enum Entry {
    /// It is on its way.
    Awaited,
    Ready(Image),
    /// Told to whoever asks; the next one is preceded by another word of it.
    Unavailable(String),
}

impl Loader {
    /// `handed` is where the manager hands them over.
    pub(super) fn start(linkers: Linkers, handed: OwnedFd) -> io::Result<Self> {
        let (results, loaded) = mpsc::channel();
        let settled = Settled::new()?;
        let of_thread = settled.clone();
        thread::Builder::new().name("image-loader".into()).spawn(move || {
            let mut mapped = HashSet::new();
            // Ends with the manager.
            while let Ok(Some((name, file))) = handover::take(&handed) {
                if !mapped.contains(&name) {
                    let image = map_image(&linkers, Path::new(&name), Some(&file));
                    if image.is_ok() {
                        mapped.insert(name.clone());
                    }
                    if results.send((name.clone(), image)).is_err() {
                        break;
                    }
                }
                of_thread.push(name);
            }
        })?;
        Ok(Self { loaded, images: HashMap::new(), settled })
    }

    pub(super) fn settled(&self) -> Settled {
        self.settled.clone()
    }
}

impl ImageSource for Loader {
    fn image(&mut self, name: &str) -> ImageState<Image> {
        for (name, image) in self.loaded.try_iter() {
            let entry = image.map_or_else(Entry::Unavailable, Entry::Ready);
            self.images.insert(name, entry);
        }
        match self.images.get(name) {
            Some(Entry::Awaited) => ImageState::Pending,
            Some(Entry::Ready(image)) => ImageState::Ready(image.clone()),
            Some(Entry::Unavailable(reason)) => {
                let reason = reason.clone();
                self.images.remove(name);
                ImageState::Unavailable(reason)
            }
            None => {
                self.images.insert(name.to_owned(), Entry::Awaited);
                ImageState::Pending
            }
        }
    }
}
