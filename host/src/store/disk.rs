//! The file as redb sees it.
//!
//! Rules:
//! 1. **No locks.** Ours outlives redb's view of the file.
//! 2. **Whoever only looks changes nothing.** redb writes while it opens a file: it repairs after a kill, and
//!    notes at its end that it has closed it. While a disk is [held](Hold), the file is never touched, and
//!    reads show what it would be (`what_is_held_reads_as_if_written`). So a file that turns out not to be
//!    ours is left as it was (`files_that_are_not_ours_are_refused_and_left_alone`).
//! 3. **Letting go keeps the order.** What was held is written as redb would have written it, syncs
//!    included: a crash in the middle is one that redb knows how to mend.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What redb does to the file.
#[derive(Debug)]
enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Sync,
}

/// Whether a file is held, and what would have been done to it, the earliest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    changes: Arc<Mutex<Option<Vec<Change>>>>,
    /// The file's length, as it was left here last.
    length: Arc<AtomicU64>,
}

impl Hold {
    /// From now on nothing reaches the file.
    pub(super) fn begin(&self) {
        *self.changes() = Some(Vec::new());
    }

    /// As [`begin`](Self::begin), unless that was done: what is held stays.
    pub(super) fn begin_if_free(&self) {
        self.changes().get_or_insert_default();
    }

    /// Whether nothing reaches the file.
    pub(super) fn holds(&self) -> bool {
        self.changes().is_some()
    }

    /// Does what was held, and holds nothing more. What fails half-way is as after a crash: redb has to
    /// open the file anew.
    pub(super) fn let_go(&self, file: &File) -> io::Result<()> {
        let mut changes = self.changes();
        for change in changes.take().into_iter().flatten() {
            match change {
                Change::Write { offset, data } => file.write_all_at(&data, offset)?,
                Change::SetLen(len) => file.set_len(len)?,
                Change::Sync => file.sync_data()?,
            }
        }
        self.note_length(file.metadata()?.len());
        Ok(())
    }

    fn note_length(&self, length: u64) {
        self.length.store(length, Ordering::Relaxed);
    }

    /// How long the file was and is, if somebody has cut it since.
    pub(super) fn cut(&self, file: &File) -> Option<(u64, u64)> {
        let is = file.metadata().ok()?.len();
        let was = self.length.load(Ordering::Relaxed);
        (is < was).then_some((was, is))
    }

    /// What is held, written into copies of the file up to each change, and into the middle of each write:
    /// what a crash could leave.
    #[cfg(test)]
    pub(super) fn crashes(&self, file: &File, mut at: impl FnMut(&File)) {
        let changes = self.changes();
        for change in changes.iter().flatten() {
            match change {
                Change::Write { offset, data } => {
                    file.write_all_at(&data[..data.len() / 2], *offset).unwrap();
                    at(file);
                    file.write_all_at(data, *offset).unwrap();
                }
                Change::SetLen(len) => file.set_len(*len).unwrap(),
                Change::Sync => continue,
            }
            at(file);
        }
    }

    /// Keeps a change back, if the file is held.
    fn keeps(&self, change: impl FnOnce() -> Change) -> bool {
        let mut changes = self.changes();
        if let Some(changes) = changes.as_mut() {
            changes.push(change());
        }
        changes.is_some()
    }

    fn changes(&self) -> MutexGuard<'_, Option<Vec<Change>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    hold: Hold,
    #[cfg(test)]
    failures: Failures,
}

impl Disk {
    pub(super) fn new(file: File, hold: Hold, #[cfg(test)] failures: Failures) -> Self {
        Self {
            file,
            hold,
            #[cfg(test)]
            failures,
        }
    }
}

/// The length after these changes.
fn len_after(changes: &[Change], file: &File) -> io::Result<u64> {
    changes.iter().try_fold(file.metadata()?.len(), |len, change| {
        Ok(match change {
            Change::Write { data, .. } if data.is_empty() => len,
            Change::Write { offset, data } => len.max(offset + data.len() as u64),
            Change::SetLen(len) => *len,
            Change::Sync => len,
        })
    })
}

/// What stands at `offset` after these changes.
fn read_after(changes: &[Change], file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let end = offset + out.len() as u64;
    if end > len_after(changes, file)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    out.fill(0);
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], offset + filled as u64) {
            // What lies behind the file's end was added since: below, or zeros.
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // In `out`, as far as it is there.
    let within = |at: u64| usize::try_from(at.clamp(offset, end) - offset).unwrap_or(usize::MAX);
    for change in changes {
        match change {
            Change::Write { offset: at, data } => {
                let to = at + data.len() as u64;
                let range = within(*at)..within(to);
                if !range.is_empty() {
                    let skipped = usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
                    let length = range.len();
                    out[range].copy_from_slice(&data[skipped..skipped + length]);
                }
            }
            Change::SetLen(len) => out[within(*len)..].fill(0),
            Change::Sync => {}
        }
    }
    Ok(())
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        match self.hold.changes().as_ref() {
            Some(changes) => len_after(changes, &self.file),
            None => Ok(self.file.metadata()?.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(changes) = self.hold.changes().as_ref() {
            return read_after(changes, &self.file, offset, out);
        }
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.hold.keeps(|| Change::SetLen(len)) {
            return Ok(());
        }
        self.file.set_len(len)?;
        self.hold.note_length(len);
        #[cfg(test)]
        self.failures.tape(Which::Database, || Event::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.hold.keeps(|| Change::Sync) {
            return Ok(());
        }
        #[cfg(test)]
        self.failures.before_sync(Which::Database)?;
        self.file.sync_data()?;
        #[cfg(test)]
        self.failures.tape(Which::Database, || Event::Sync);
        #[cfg(test)]
        self.failures.after_sync()?;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.hold.keeps(|| Change::Write { offset, data: data.to_vec() }) {
            return Ok(());
        }
        self.file.write_all_at(data, offset)?;
        #[cfg(test)]
        self.failures.tape(Which::Database, || Event::Write { offset, data: data.to_vec() });
        Ok(())
    }
}

/// One of the two files of a store.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Database,
    Journal,
}

/// What became of a file.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// It has its name, with this in it.
    Made(Vec<u8>),
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    SetLen(u64),
    Sync,
    Removed,
    /// So many groups were called durable by now.
    Durable(u64),
}

/// What became of both files, the earliest first.
#[cfg(test)]
pub(super) type Events = Vec<(Which, Event)>;

/// Failures that a test plans.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// How many syncs report a failure although they reached the disk.
    pub(super) lying_syncs: Arc<std::sync::atomic::AtomicU32>,
    /// How many syncs fail before anything reaches the disk.
    pub(super) failing_syncs: Arc<std::sync::atomic::AtomicU32>,
    /// As [`failing_syncs`](Self::failing_syncs), of the database alone.
    pub(super) failing_checkpoints: Arc<std::sync::atomic::AtomicU32>,
    /// How many writes to the journal fail.
    pub(super) failing_appends: Arc<std::sync::atomic::AtomicU32>,
    /// While a test holds this, no sync returns.
    pub(super) slow: Arc<Mutex<()>>,
    /// What reached the disk, in its order, if a test has begun to take it down.
    pub(super) events: Arc<Mutex<Option<Events>>>,
}

#[cfg(test)]
impl Failures {
    pub(super) fn tape(&self, which: Which, event: impl FnOnce() -> Event) {
        if let Some(events) = self.events.lock().unwrap().as_mut() {
            events.push((which, event()));
        }
    }

    pub(super) fn before_append(&self) -> io::Result<()> {
        Self::count_down(&self.failing_appends)
    }

    pub(super) fn before_sync(&self, which: Which) -> io::Result<()> {
        drop(self.slow.lock());
        if which == Which::Database {
            Self::count_down(&self.failing_checkpoints)?;
        }
        Self::count_down(&self.failing_syncs)
    }

    pub(super) fn after_sync(&self) -> io::Result<()> {
        Self::count_down(&self.lying_syncs)
    }

    fn count_down(left: &std::sync::atomic::AtomicU32) -> io::Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        let failing = left.try_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
        Sync,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_u64, prop::collection::vec(1..u8::MAX, 0..20))
                .prop_map(|(at, data)| Step::Write(at, data)),
            1 => (0..60_u64).prop_map(Step::SetLen),
            1 => Just(Step::Sync),
        ]
    }

    fn perform(disk: &Disk, step: &Step) {
        match step {
            Step::Write(at, data) => disk.write(*at, data).unwrap(),
            Step::SetLen(len) => disk.set_len(*len).unwrap(),
            Step::Sync => disk.sync_data().unwrap(),
        }
    }

    fn all(disk: &Disk) -> Vec<u8> {
        let mut whole = vec![0; usize::try_from(disk.len().unwrap()).unwrap()];
        disk.read(0, &mut whole).unwrap();
        whole
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A held file is not touched, every part of it reads as if it had been; let go, it is so.
        #[test]
        fn what_is_held_reads_as_if_written(steps in prop::collection::vec(step(), 0..12)) {
            let directory = TempDir::new().unwrap();
            let open = |name: &str| {
                let path = directory.path().join(name);
                fs::write(&path, [255; 30]).unwrap();
                let file = File::options().read(true).write(true).open(&path).unwrap();
                let hold = Hold::default();
                (Disk::new(file.try_clone().unwrap(), hold.clone(), Failures::default()), hold, file)
            };
            let (model, _, _) = open("model");
            let (held, hold, file) = open("held");
            hold.begin();
            for step in &steps {
                perform(&model, step);
                perform(&held, step);
            }
            let expected = all(&model);
            prop_assert_eq!(all(&held), &expected[..]);
            for from in 0..expected.len() {
                let mut part = vec![0; expected.len() - from];
                held.read(from as u64, &mut part).unwrap();
                prop_assert_eq!(&part[..], &expected[from..]);
            }
            prop_assert!(held.read(expected.len() as u64, &mut [0]).is_err());
            prop_assert_eq!(fs::read(directory.path().join("held")).unwrap(), [255; 30]);
            hold.let_go(&file).unwrap();
            prop_assert_eq!(fs::read(directory.path().join("held")).unwrap(), expected);
        }
    }
}
