//! Wakes readers when followed files may have changed.
//!
//! One inotify instance serves all logs of the process: instances are few (128 for a user by default),
//! watches are many. A thread reads it, and wakes who watches what an event is about; that says only
//! "look again". A wake-up while nobody waits is kept, and several are one.
//!
//! A directory that was removed, or replaced by another of its name, takes its watch with it: whoever is woken
//! watches it anew, and sees by the number whether it is another one. Where a file system reports nothing, one
//! looks by the clock.

use std::{
    collections::HashMap,
    fs::File,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

/// The instance, and who watches what.
#[derive(Debug)]
struct Hub {
    inotify: OwnedFd,
    /// By the number of a watch: who is woken. The system gives one number for one inode.
    watches: Mutex<HashMap<i32, Vec<Weak<Notify>>>>,
}

/// Wakes one reader.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    woken: Arc<Notify>,
}

/// A watch. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watch {
    hub: Arc<Hub>,
    number: i32,
    woken: Arc<Notify>,
}

impl Watcher {
    pub(super) fn new() -> Self {
        Self { woken: Arc::new(Notify::new()) }
    }

    /// Waits until something may have changed.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Watches what comes to a directory and what goes.
    pub(super) fn directory(&self, directory: &Path) -> io::Result<Watch> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        self.watch(directory, flags)
    }

    /// Watches an open file, whatever its name is.
    pub(super) fn file(&self, file: &File) -> io::Result<Watch> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.watch(Path::new(&path), WatchFlags::MODIFY | WatchFlags::ATTRIB)
    }

    fn watch(&self, path: &Path, flags: WatchFlags) -> io::Result<Watch> {
        let hub = hub()?;
        // Held until the number is known: an event for it finds its watcher.
        let mut watches = hub.watches();
        let number = inotify::add_watch(&hub.inotify, path, flags | WatchFlags::MASK_ADD).map_err(
            |errno| io::Error::other(format!("no inotify watch: {}", io::Error::from(errno))),
        )?;
        watches.entry(number).or_default().push(Arc::downgrade(&self.woken));
        drop(watches);
        Ok(Watch { hub, number, woken: self.woken.clone() })
    }
}

impl Watch {
    /// The system's number for it: another file has another one, also under the same name.
    pub(super) const fn number(&self) -> i32 {
        self.number
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.hub.watches();
        let Some(watchers) = watches.get_mut(&self.number) else { return };
        // One watch for each reader, though several may share its number.
        if let Some(own) =
            watchers.iter().position(|other| other.as_ptr() == Arc::as_ptr(&self.woken))
        {
            watchers.swap_remove(own);
        }
        if watchers.is_empty() {
            watches.remove(&self.number);
            // It is gone already if its file is.
            let _ = inotify::remove_watch(&self.hub.inotify, self.number);
        }
    }
}

impl Hub {
    fn watches(&self) -> MutexGuard<'_, HashMap<i32, Vec<Weak<Notify>>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes until the process ends.
    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let (number, flags) = match reader.next() {
                Ok(event) => (event.wd(), event.events()),
                Err(Errno::INTR) => continue,
                // A failure that leaves the clock to look.
                Err(_) => return,
            };
            let mut watches = self.watches();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                watches.values().flatten().for_each(wake);
            }
            let watchers = watches.get(&number).into_iter().flatten();
            watchers.for_each(wake);
            if flags.contains(ReadFlags::IGNORED) {
                // The system may give the number again.
                watches.remove(&number);
            }
        }
    }
}

fn wake(watcher: &Weak<Notify>) {
    if let Some(watcher) = watcher.upgrade() {
        watcher.notify_one();
    }
}

/// The process's instance; made when it is first asked for, and again if that failed.
fn hub() -> io::Result<Arc<Hub>> {
    static HUB: OnceLock<Arc<Hub>> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hub) = HUB.get() {
        return Ok(hub.clone());
    }
    let inotify = inotify::init(CreateFlags::CLOEXEC).map_err(|errno| {
        io::Error::other(format!("no inotify instance: {}", io::Error::from(errno)))
    })?;
    let hub = Arc::new(Hub { inotify, watches: Mutex::default() });
    let running = hub.clone();
    std::thread::Builder::new().name("duende-watch".to_owned()).spawn(move || running.run())?;
    Ok(HUB.get_or_init(|| hub).clone())
}
