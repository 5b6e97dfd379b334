//! How groups of commits reach the tables: by way of the journal, or past it.
//!
//! A group that is small, and of daemons that the tables know, goes to the [journal], and is
//! [pending](super::pending) from then on. A **checkpoint** applies all that is pending in one transaction, which also
//! writes the number of the last group, so each is applied once whatever became of an attempt. It happens when the
//! journal is full, with a group that does not go there, before whatever else changes the tables, every
//! [`SETTLE_PERIOD`], and at the end, which takes the journal away: what a store that was closed leaves is the
//! database alone (`a_closed_store_leaves_no_journal`).
//!
//! Rules:
//! 1. **A journal that fails is no fault.** The same attempt goes on to the tables; only if they fail too, the group
//!    does (`a_journal_that_fails_is_passed_by`).
//! 2. **A checkpoint that fails loses nothing.** What is pending stays so, and the journal takes groups while it has
//!    room (`a_failing_checkpoint_stops_no_commit_while_there_is_room`).
//! 3. **A store that is hardly written has none.** It begins after [`JOURNAL_AFTER_GROUPS`] groups, as it costs about as
//!    much as they do.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::ReadableTable as _;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::database::Database;
use super::fault::Fault;
use super::file::sync_directory_of;
use super::journal::{self, Found, Identity, Journal, Numbered, Unfit};
use super::record::{DaemonId, Record, random};
use super::rows::{Names, Rows};
use super::tables::{META_GROUP, SCHEMA_JOURNALED, note_journal};
use super::{Commit, FaultKind, StoreError};

/// How many groups are written before there is a journal.
pub(super) const JOURNAL_AFTER_GROUPS: u32 = 8;
/// How long a group is in the journal alone, if nothing else brings it into the tables. It costs as much as in a
/// store without a journal, so more often would take back what the journal saves a store that is rarely written.
pub(super) const SETTLE_PERIOD: Duration = Duration::from_secs(600);
/// Journals that were put aside and may lie beside a file.
const ASIDE_MAX: u32 = 1_000;

impl Database {
    /// The number for the next group.
    pub(super) fn next_group(&self) -> u64 {
        self.last_group + 1
    }

    /// Makes a group durable, with one fsync. Calling it again with the same number after a failure
    /// is safe, whatever became of the first attempt.
    pub(super) fn apply(&mut self, number: u64, group: &[Commit]) -> Result<(), Fault> {
        self.check_usable()?;
        if !self.append(number, group) {
            self.begin_journal();
            self.checkpoint(Some((number, group)))?;
            self.until_journal = self.until_journal.saturating_sub(1);
        }
        self.last_group = number;
        Ok(())
    }

    /// Writes a group to the journal. Whether it is durable there.
    fn append(&mut self, number: u64, group: &[Commit]) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        let is_known = |commit: &Commit| self.ids.contains_key(&commit.daemon);
        // Who is new gets an id, which the tables alone hand out.
        if self.about.journal != Some(journal.id()) || !group.iter().all(is_known) {
            return false;
        }
        let Some(payload) = journal::payload_of(group) else { return false };
        let is_durable = journal.has_room(&payload) && journal.append(number, &payload).is_ok();
        if is_durable {
            self.pending.push(number, group);
        }
        is_durable
    }

    /// Makes a journal, if it is time for one. It takes nothing before the tables say that there is one.
    fn begin_journal(&mut self) {
        let store = self.about.store.filter(|_| self.about.schema <= SCHEMA_JOURNALED);
        if self.journal.is_some() || self.until_journal > 0 {
            return;
        }
        let Some(store) = store else { return };
        let path = journal::path_of(&self.path);
        let made = random().and_then(|id| {
            // Its lower half: an id that nobody guesses.
            let [a, b, c, d, e, f, g, h, ..] = id.to_le_bytes();
            let identity =
                Identity { store, journal: u64::from_le_bytes([a, b, c, d, e, f, g, h]) };
            Journal::create(
                &path,
                identity,
                #[cfg(test)]
                self.failures.clone(),
            )
        });
        match made {
            Ok(journal) => self.journal = Some(journal),
            // Without one, groups cost more, and that is all; there may be room for it later.
            Err(_) => self.until_journal = JOURNAL_AFTER_GROUPS,
        }
    }

    /// Applies all that is pending, and a group more, in one transaction.
    fn checkpoint(&mut self, group: Option<(u64, &[Commit])>) -> Result<(), Fault> {
        let mark = self.journal.as_ref().map(Journal::id);
        self.enter(group, mark)?;
        if let Some(journal) = &mut self.journal {
            journal.begin_anew();
        }
        Ok(())
    }

    fn enter(&mut self, group: Option<(u64, &[Commit])>, mark: Option<u64>) -> Result<(), Fault> {
        let pending = std::mem::take(&mut self.pending);
        let groups = pending.groups.iter().map(|(number, group)| (*number, group.as_slice()));
        let groups: Vec<_> = groups.chain(group).collect();
        let entered = self.write(|tables, ids| write_groups(tables, &groups, mark, ids));
        match entered {
            Ok(entered) => {
                self.ids.extend(entered);
                self.about.journal = mark;
                Ok(())
            }
            Err(fault) => {
                self.pending = pending;
                Err(fault)
            }
        }
    }

    /// Brings into the tables what only the journal has.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        if self.pending.groups.is_empty() { Ok(()) } else { self.checkpoint(None) }
    }

    /// As [`settle`](Self::settle), if something has been pending for so long. If that fails it is tried after
    /// as long again.
    pub(super) fn settle_after(&mut self, period: Duration) {
        if self.pending.since.is_some_and(|since| since.elapsed() >= period)
            && self.settle().is_err()
        {
            self.pending.since = Some(Instant::now());
        }
    }

    /// Leaves the database alone, without a journal. If that fails, both are whole as they are.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        if self.about.journal.is_some() || !self.pending.groups.is_empty() {
            self.enter(None, None)?;
        }
        if let Some(journal) = self.journal.take() {
            journal.remove();
        }
        Ok(())
    }

    /// The groups that the journal has and the tables have not.
    pub(super) fn journaled(&self) -> Result<Vec<Numbered>, StoreError> {
        let (found, detail) = self.find_journal()?;
        let (groups, damage) = match found {
            Some(found) if detail.is_none() => {
                let contents = found.after(self.last_group);
                (contents.groups, contents.damage)
            }
            _ => (Vec::new(), None),
        };
        match detail.or(damage) {
            Some(detail) => Err(self.journal_error(detail)),
            None => Ok(groups),
        }
    }

    fn journal_error(&self, detail: String) -> StoreError {
        let path = self.path.clone();
        StoreError::Journal { journal: journal::path_of(&path), path, detail }
    }

    /// The journal that lies there, and why it is not the one that the file goes on in.
    fn find_journal(&self) -> Result<(Option<Found>, Option<String>), StoreError> {
        let path = journal::path_of(&self.path);
        let found = match journal::read(&path) {
            Ok(found) => found,
            Err(Unfit::Not(detail)) => return Ok((None, Some(detail))),
            Err(Unfit::Io(source)) => return Err(StoreError::Io { path, source }),
            Err(Unfit::Format(format)) => {
                let fault = Fault::new(FaultKind::OtherFormat, format!("format {format}"));
                return Err(fault.into_error(path, self.about.writer.as_deref()));
            }
        };
        let identity = found.as_ref().map(|found| found.identity);
        let detail = match (identity, self.about.journal) {
            (None, None) => None,
            (None, Some(_)) => Some("it is not there".to_owned()),
            (Some(identity), _) if self.about.store != Some(identity.store) => {
                Some("it is that of another state file".to_owned())
            }
            (Some(identity), Some(id)) => {
                let is_other = identity.journal != id;
                is_other.then(|| "it is one of an earlier or a later time".to_owned())
            }
            // What was left of one that was done with.
            (Some(_), None) => found.as_ref().and_then(Found::newest).and_then(|newest| {
                let last = self.last_group;
                (newest > last).then(|| {
                    format!("it goes to group {newest}, and the state file ends with {last} and with no journal")
                })
            }),
        };
        Ok((found, detail))
    }

    /// Applies groups of the journal, and is done with it.
    pub(super) fn take_in(&mut self, groups: &[Numbered]) -> Result<(), StoreError> {
        self.end_journal(groups)?;
        if !self.hold.holds() {
            // One that stays is known as needless by its numbers.
            let _ = std::fs::remove_file(journal::path_of(&self.path));
        }
        Ok(())
    }

    /// Applies what can be read of the journal, and puts that aside: where.
    pub(super) fn drop_journal(&mut self) -> Result<Option<PathBuf>, StoreError> {
        let (found, detail) = self.find_journal()?;
        let groups = match found {
            Some(found) if detail.is_none() => found.after(self.last_group).groups,
            _ => Vec::new(),
        };
        // First the tables: after a crash between the two it is put aside all the same.
        self.end_journal(&groups)?;
        let path = journal::path_of(&self.path);
        put_aside(&path).map_err(|source| StoreError::Io { path, source })
    }

    /// Applies groups, and notes that there is no journal.
    fn end_journal(&mut self, groups: &[Numbered]) -> Result<(), StoreError> {
        if self.about.journal.is_none() {
            return Ok(());
        }
        let groups: Vec<_> =
            groups.iter().map(|(number, group)| (*number, group.as_slice())).collect();
        let entered = self.write(|tables, ids| write_groups(tables, &groups, None, ids));
        self.ids.extend(entered.map_err(|fault| self.error(fault))?);
        self.look_again()?;
        self.last_group = self.about.group;
        Ok(())
    }
}

/// Gives a journal another name, if there is one: which.
fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    for number in 0..ASIDE_MAX {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".reset");
        if number > 0 {
            aside.push(format!(".{number}"));
        }
        let aside = PathBuf::from(aside);
        match renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) => {
                sync_directory_of(path)?;
                return Ok(Some(aside));
            }
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// That no journal lies where there is no database.
pub(super) fn refuse_lone_journal(path: &Path) -> Result<(), StoreError> {
    let journal = journal::path_of(path);
    if journal.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(StoreError::LoneJournal { path: path.to_owned(), journal })
}

/// Applies those groups that are not in the tables, and notes which journal they go on in. The daemons that were
/// entered with them.
fn write_groups(
    tables: &redb::Database,
    groups: &[(u64, &[Commit])],
    journal: Option<u64>,
    ids: &HashMap<String, DaemonId>,
) -> Result<HashMap<String, DaemonId>, Fault> {
    let mut entered = HashMap::new();
    // redb's default durability: `commit` returns after the fsync.
    let transaction = tables.begin_write()?;
    let mut is_done = note_journal(&transaction, journal)?;
    {
        let mut names = Names::open(&transaction)?;
        let stored = names.meta().get(META_GROUP)?.map_or(0, |stored| stored.value());
        let mut rows = Rows::open(&transaction)?;
        // An attempt that was reported as failed may have reached the disk.
        for (number, group) in groups.iter().filter(|(number, _)| *number > stored) {
            is_done = false;
            names.meta().insert(META_GROUP, number)?;
            for commit in *group {
                let known = ids.get(&commit.daemon).or_else(|| entered.get(&commit.daemon));
                let id = match known {
                    Some(id) => *id,
                    None => {
                        let id = match names.get(&commit.daemon)? {
                            Some(id) => id,
                            None => {
                                let id = DaemonId::random()?;
                                rows.enter(id, &Record::new(&commit.daemon))?;
                                names.insert(&commit.daemon, id)?;
                                id
                            }
                        };
                        entered.insert(commit.daemon.clone(), id);
                        id
                    }
                };
                rows.apply(id, commit)?;
            }
        }
        if !is_done {
            rows.finish(names.meta())?;
        }
    }
    if !is_done {
        transaction.commit()?;
    }
    Ok(entered)
}
