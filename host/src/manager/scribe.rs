//! The logs that the manager writes, on a thread of their own: a disk that is slow or does not answer
//! delays what people read, never a decision.
//!
//! Rules:
//! 1. At most [`WAITING_BYTES_MAX`] wait, and as many are being written. What comes beyond that is
//!    dropped, and its log says how many lines that were, once it can be written
//!    (`tests::a_disk_that_does_not_answer_holds_nobody_up`).
//! 2. [`Scribe::settle`] waits for the disk, so that who asks after an event finds it in the log: at
//!    most [`SETTLE_TIME`], and then not again before the disk has caught up.
//! 3. The end waits at most [`END_TIME`].
//! 4. If there can be no such thread, `settle` writes: slower, and nothing else goes wrong.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use duende_core::wire::link::LogLevel;

use crate::daemon_log::{LogOrigin, LogWriter};

/// Most bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// What an entry takes beside its text, in bytes.
const ENTRY_BYTES: usize = 64;
/// How long a disk is waited for that has kept up so far.
const SETTLE_TIME: Duration = Duration::from_millis(20);
/// How often a log is tried again that could not be written.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// How long the end waits for what waits.
const END_TIME: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Scribe {
    shared: Arc<Shared>,
    /// None: there can be no thread, so these are written by whoever settles.
    own: Option<Mutex<Writers>>,
}

/// One log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
    path: Arc<Path>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Vec<Entry>,
    bytes: usize,
    /// Lines that were dropped, by log.
    lost: HashMap<Arc<Path>, u64>,
    /// The thread is at it, outside of the lock.
    writing: bool,
    /// Somebody has waited in vain since it last caught up.
    late: bool,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    path: Arc<Path>,
    at: SystemTime,
    level: LogLevel,
    origin: LogOrigin,
    text: Box<[u8]>,
}

type Writers = HashMap<Arc<Path>, LogWriter>;
type Batch = (Vec<Entry>, HashMap<Arc<Path>, u64>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic is possible while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lost.is_empty()
    }

    fn take(&mut self) -> Batch {
        self.bytes = 0;
        (std::mem::take(&mut self.entries), std::mem::take(&mut self.lost))
    }
}

impl Scribe {
    /// Starts the thread.
    pub(super) fn start() -> Self {
        Self::start_with(|shared| {
            let name = "duende-logs".to_owned();
            thread::Builder::new().name(name).spawn(move || write_all(&shared)).map(drop)
        })
    }

    fn start_with(start: impl FnOnce(Arc<Shared>) -> io::Result<()>) -> Self {
        let shared = Arc::<Shared>::default();
        let own = start(shared.clone()).is_err().then(Mutex::default);
        Self { shared, own }
    }

    /// The log at `path`. Nothing is opened yet.
    pub(super) fn log(&self, path: &Path) -> Log {
        Log { shared: self.shared.clone(), path: path.into() }
    }

    /// Waits until everything that was appended is in its file, but not for long.
    pub(super) fn settle(&self) {
        let mut queue = self.shared.lock();
        if let Some(writers) = &self.own {
            let batch = queue.take();
            drop(queue);
            write(&mut writers.lock().unwrap_or_else(PoisonError::into_inner), batch);
            return;
        }
        if !queue.late {
            queue = self.wait(queue, SETTLE_TIME);
            queue.late = queue.writing || !queue.is_empty();
        }
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
        let busy = |queue: &mut Queue| queue.writing || !queue.is_empty();
        let waited = self.shared.changed.wait_timeout_while(queue, time, busy);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.settle();
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        if self.own.is_none() {
            // A thread that the disk does not let go stays behind, and goes with the process.
            drop(self.wait(queue, END_TIME));
        }
    }
}

impl Log {
    /// Appends an entry, some time.
    pub(super) fn append(&self, level: LogLevel, origin: LogOrigin, text: &[u8]) {
        let mut queue = self.shared.lock();
        let bytes = text.len().saturating_add(ENTRY_BYTES);
        if queue.bytes.saturating_add(bytes) > WAITING_BYTES_MAX {
            let lost = queue.lost.entry(self.path.clone()).or_default();
            *lost = lost.saturating_add(1);
            return;
        }
        queue.bytes += bytes;
        let (path, at, text) = (self.path.clone(), SystemTime::now(), text.into());
        queue.entries.push(Entry { path, at, level, origin, text });
        self.shared.changed.notify_all();
    }
}

fn write_all(shared: &Shared) {
    let mut writers = Writers::new();
    let mut queue = shared.lock();
    loop {
        if queue.is_empty() {
            if queue.closed {
                return;
            }
            let waited = shared.changed.wait_timeout(queue, RETRY_PERIOD);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if queue.is_empty() && !writers.values().any(LogWriter::is_dropping) {
                continue;
            }
        }
        let batch = queue.take();
        queue.writing = true;
        drop(queue);
        write(&mut writers, batch);
        queue = shared.lock();
        queue.writing = false;
        queue.late &= !queue.is_empty();
        shared.changed.notify_all();
    }
}

/// Writes a batch, and tells of what was lost after it.
fn write(writers: &mut Writers, (entries, lost): Batch) {
    for Entry { path, at, level, origin, text } in entries {
        let writer = writers.entry(path).or_insert_with_key(|path| LogWriter::new(path));
        writer.append(at, level, origin, &text, false);
    }
    writers.values_mut().for_each(LogWriter::flush);
    for (path, lines) in lost {
        let writer = writers.entry(path).or_insert_with_key(|path| LogWriter::new(path));
        writer.lose(lines);
        writer.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead as _, BufReader},
        sync::mpsc,
        time::Instant,
    };

    use super::*;
    use crate::daemon_log::LogEntry;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn say(log: &Log, text: &str) {
        log.append(LogLevel::Info, LogOrigin::Duende, text.as_bytes());
    }

    fn texts(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| LogEntry::parse(line).unwrap().text).collect()
    }

    /// With a thread and without, what was appended is in its file after `settle`.
    #[test]
    fn what_is_settled_is_in_its_file() {
        for scribe in
            [Scribe::start(), Scribe::start_with(|_| Err(io::ErrorKind::WouldBlock.into()))]
        {
            let directory = tempfile::tempdir().unwrap();
            let paths = ["a.log", "b.log"].map(|name| directory.path().join(name));
            let logs = paths.each_ref().map(|path| scribe.log(path));
            say(&logs[0], "one");
            say(&logs[1], "two");
            say(&logs[0], "three");
            let began = Instant::now();
            while texts(&paths[0]) != ["one", "three"] || texts(&paths[1]) != ["two"] {
                // A machine may be slower than `settle` is patient.
                scribe.settle();
                assert!(began.elapsed() < DEADLINE);
            }
            say(&logs[1], "last");
            drop(scribe);
            assert_eq!(texts(&paths[1]), ["two", "last"]);
        }
    }

    /// A pipe that nobody reads is a disk that does not answer.
    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up() {
        const LINES: usize = 40_000;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stuck.log");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let scribe = Scribe::start();
        let log = scribe.log(&path);
        let began = Instant::now();
        for number in 0..LINES {
            say(&log, &format!("line {number} {}", "x".repeat(100)));
            scribe.settle();
        }
        assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
        assert!(scribe.shared.lock().bytes <= WAITING_BYTES_MAX);
        // It answers again: every line is there or counted.
        let (sender, counted) = mpsc::channel();
        thread::spawn(move || {
            let (mut found, mut lost) = (0, 0);
            for line in BufReader::new(fs::File::open(path).unwrap()).lines() {
                let text = LogEntry::parse(&line.unwrap()).unwrap().text;
                match text.split_once(" lines were lost here") {
                    Some((count, _)) => lost += count.parse::<usize>().unwrap(),
                    None => found += 1,
                }
                if found + lost == LINES {
                    break;
                }
            }
            sender.send((found, lost)).unwrap();
        });
        let (found, lost) = counted.recv_timeout(DEADLINE).unwrap();
        assert!(found > 0 && lost > 0, "{found} found, {lost} lost");
    }
}
