//! What has the name now, and what came and went since it was looked at last.
//!
//! Rules:
//! 1. While the same file has the name, nothing else is looked at.
//! 2. A directory is listed until two lists are equal, and what was opened is what was listed: names may
//!    move meanwhile.
//! 3. A file that nobody saw belongs to the sequence if it lies behind the last known one in the order of
//!    its family; where no known one is left, if it was changed after that was seen last. Never if its content is
//!    known, as that of a copy is.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Entry, Follow,
    again::{Known, Place, is_held_by},
    content::Packing,
    family::{Family, Member, drop_strangers, sort},
    files::{Files, Listed, LogFile, Stat},
    mark::{FileId, Mark},
    parent,
    planted::{self, Plant},
    reader::Reader,
};
use crate::source::{
    StartAt,
    notice::{Gap, Notice, Notices},
};

/// Longest chain of symbolic links.
const LINKS_MAX: usize = 32;
/// Most attempts in one look to see a directory that stands still.
pub(super) const TRIES_MAX: usize = 4;

/// What the followed path leads to.
pub(super) struct Target {
    pub(super) path: PathBuf,
    is_linked: bool,
}

/// A directory as it was for a moment.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) listed: Vec<Listed>,
    /// The file that has the name.
    pub(super) named: Option<FileId>,
    /// What belongs to the name, the oldest first.
    pub(super) members: Vec<Member>,
}

impl<F: Files> Follow<F> {
    /// Brings the queue to what has the name.
    pub(super) fn survey(&mut self, now: Duration, notices: &mut Notices) -> io::Result<()> {
        for _ in 0..TRIES_MAX {
            let target = self.resolve()?;
            let named = self.files.stat(&target.path)?;
            if named.is_some_and(|named| !named.is_file) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is not a regular file",
                ));
            }
            let id = named.map(|named| named.id);
            let is_named = id.is_some() && id == self.current();
            let is_full = !self.waiting.is_empty() && self.room() == 0;
            let is_known = (is_named || is_full) && !self.is_unsettled();
            if is_known || self.arrange(&target, named, now, notices)? {
                self.is_fresh = false;
                self.leave_behind(id, now)?;
                return match named {
                    Some(_) => Ok(()),
                    None => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such file")),
                };
            }
        }
        // Names move faster than one can look; `is_unsettled` has it looked at again soon.
        self.is_unsteady = true;
        Ok(())
    }

    /// Whether there is more to do than to read.
    pub(super) fn is_unsettled(&self) -> bool {
        let open = self.open_files().count();
        self.is_unsteady
            || (open < self.queue.len() && open < self.settings.in_hand.open_max)
            || (!self.waiting.is_empty() && self.room() > 0)
    }

    /// How many files may be queued; a place is left for the one that has the name.
    fn room(&self) -> usize {
        self.settings.in_hand.queue_max.saturating_sub(self.queue.len() + 1)
    }

    /// The file that had the name last.
    fn current(&self) -> Option<FileId> {
        self.queue.back().map(Entry::id)
    }

    pub(super) fn resolve(&mut self) -> io::Result<Target> {
        let mut path = self.path.clone();
        self.directories.clear();
        for links in 0..LINKS_MAX {
            self.directories.push(parent(&path).to_owned());
            match self.files.read_link(&path)? {
                Some(to) => path = parent(&path).join(to),
                None => return Ok(Target { path, is_linked: links > 0 }),
            }
        }
        Err(io::Error::other("too many symbolic links lead on from it"))
    }

    /// What a directory holds, if it stands still.
    pub(super) fn directory(&self, target: &Target) -> io::Result<Option<Directory>> {
        let path = parent(&target.path).to_owned();
        let name = target.path.file_name().unwrap_or_default();
        let family = Family::new(name, target.is_linked);
        let list = || -> io::Result<_> {
            let mut listed = self.files.list(&path)?;
            listed.sort();
            Ok(listed)
        };
        let listed = list()?;
        let mut members = Vec::new();
        for Listed { name, inode } in &listed {
            let Some(tag) = family.tag(name) else { continue };
            let member_path = path.join(name);
            match self.files.stat(&member_path)? {
                Some(stat) if stat.is_file && stat.id.inode == *inode => {
                    members.push(Member { path: member_path, stat, tag });
                }
                // A link, or something else that is no log.
                Some(stat) if stat.id.inode == *inode || !stat.is_file => {}
                Some(_) if self.files.read_link(&member_path)?.is_some() => {}
                _ => return Ok(None),
            }
        }
        let is_member = |listed: &&Listed| family.tag(&listed.name).is_some();
        let again = list()?;
        if !planted::is(Plant::UnsteadyList)
            && !again.iter().filter(is_member).eq(listed.iter().filter(is_member))
        {
            return Ok(None);
        }
        drop_doubles(&mut members, &target.path);
        drop_strangers(&mut members);
        // The queue is in the order of the log; what is remembered is in that in which it was left.
        let order =
            |member: &Member| self.queue.iter().position(|entry| entry.mark.id == member.stat.id);
        sort(&mut members, order);
        let named =
            members.iter().find(|member| member.path == target.path).map(|member| member.stat.id);
        Ok(Some(Directory { path, listed, named, members }))
    }

    /// Brings the queue to what a directory holds; false if that changed meanwhile.
    fn arrange(
        &mut self,
        target: &Target,
        named: Option<Stat>,
        now: Duration,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        self.is_unsteady = false;
        if self.is_fresh {
            return self.begin(target, named, now);
        }
        let Some(directory) = self.directory(target)? else { return Ok(false) };
        let Some(missed) = self.find_again(target, &directory, now, notices)? else {
            return Ok(false);
        };
        let gone: Vec<_> = missed.iter().map(|(mark, _)| *mark).collect();
        if !planted::is(Plant::OnlyTheNamed)
            && !self.queue_unseen(&directory, target, &gone, now, notices)?
        {
            return Ok(false);
        }
        if let Some(named) = named {
            if !self.waiting.is_empty() {
                // Behind the others.
                if self.queue_index(named.id).is_none() {
                    self.waiting.insert(named.id);
                }
            } else if !self.queue_named(target, named, &gone, now, notices)? {
                return Ok(false);
            }
        }
        for (mark, gap) in missed {
            self.queue.retain(|entry| entry.reader.is_some() || entry.mark != mark);
            if mark.has_content() {
                self.remember(Mark { id: FileId::NONE, ..mark });
            }
            if let Some(gap) = gap.filter(|_| !planted::is(Plant::SilentGap)) {
                notices.push(Notice::Gap(gap));
            }
        }
        Ok(true)
    }

    /// Nothing was ever seen: the file that has the name is the first, and older ones are nobody's affair. If
    /// there is none yet, whatever comes is.
    fn begin(&mut self, target: &Target, named: Option<Stat>, now: Duration) -> io::Result<bool> {
        let Some(named) = named else { return self.pass_older(target) };
        let Some(mut reader) = self.open_as(&target.path, None, named.id)? else {
            return Ok(false);
        };
        // It may have been read under another path.
        let remembered = self.read.iter().rfind(|mark| mark.id == named.id).copied();
        if let Known::UpTo(mark) = self.what_is(&mut reader, Place::Named, remembered, &[])? {
            reader.resume(&mark)?;
        } else if self.settings.start == StartAt::End {
            reader.skip_to_end()?;
        }
        self.queue.push_back(Entry::new(reader, now));
        Ok(true)
    }

    /// Remembers what lies there as read.
    fn pass_older(&mut self, target: &Target) -> io::Result<bool> {
        let directory = match self.directory(target) {
            Ok(Some(directory)) => directory,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        for Member { stat, .. } in &directory.members {
            self.remember(Mark::whole(stat));
        }
        Ok(true)
    }

    /// Opens a file if it is the one that was seen.
    pub(super) fn open_as(
        &self,
        path: &Path,
        packing: Option<Packing>,
        id: FileId,
    ) -> io::Result<Option<Reader<F::File>>> {
        let Some(file) = self.files.open(path)? else { return Ok(None) };
        if file.stat()?.id != id {
            return Ok(None);
        }
        Reader::new(file, packing).map(Some)
    }

    /// Queues what came and went unseen, and what was remembered and has grown.
    fn queue_unseen(
        &mut self,
        directory: &Directory,
        target: &Target,
        gone: &[Mark],
        now: Duration,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        self.note_names(directory);
        let after = self.last_known(directory, gone)?;
        let (mut found, mut kept) = (Vec::new(), Vec::new());
        let mut waiting = BTreeSet::new();
        let waits = |member: &Member| self.waiting.contains(&member.stat.id);
        let first_waiting = directory.members.iter().position(waits);
        for (index, member) in directory.members.iter().enumerate() {
            let Member { path, stat, tag } = member;
            if *path == target.path || self.queue_index(stat.id).is_some() {
                continue;
            }
            let remembered = self.read.iter().rfind(|mark| mark.id == stat.id).copied();
            // Whatever lies before what waits was looked at then.
            let is_new = match (first_waiting, &after) {
                (Some(first), _) => index >= first,
                (None, After::Index(last)) => index > *last,
                (None, After::Copy(first)) => index >= *first,
                (None, After::File(mark)) => member.is_after(mark),
                (None, After::Nothing) => true,
            };
            let is_new = (is_new && !tag.is_copy())
                || gone.iter().any(|mark| self.may_be_filled(mark, index, directory));
            if remembered.map_or(!is_new, |mark| tag.packing.is_some() || stat.size <= mark.offset)
            {
                continue;
            }
            if !waiting.is_empty() {
                waiting.insert(stat.id);
                continue;
            }
            let mut reader = match self.open_as(path, tag.packing, stat.id) {
                Ok(Some(reader)) => reader,
                Ok(None) => return Ok(false),
                Err(error) => {
                    self.is_unreadable(member, &error, notices);
                    continue;
                }
            };
            // A compressed file does not grow: one that holds nothing never will.
            if reader.is_packed() && reader.head().is_empty() {
                continue;
            }
            match self.what_is(&mut reader, Place::Beside, remembered, gone)? {
                // What is held already is none that waits: it is known while that is open.
                Known::Nothing if is_new && found.len() >= self.room() => {
                    waiting.insert(stat.id);
                    continue;
                }
                Known::Nothing if is_new => {
                    found.push(reader);
                    continue;
                }
                Known::UpTo(mark) => {
                    reader.resume(&mark)?;
                    if !reader.is_packed() && reader.unread() == 0 {
                        continue;
                    }
                    if found.len() >= self.room() {
                        waiting.insert(stat.id);
                        continue;
                    }
                    self.read.retain(|known| *known != mark);
                }
                // A copy of what is still there, or holds no more.
                Known::InQueue { is_replaced } if is_replaced && !reader.is_packed() => {
                    self.push(reader, now);
                    self.is_copy(Place::Beside);
                    continue;
                }
                Known::Nothing | Known::InQueue { .. } | Known::Part => continue,
            }
            self.push(reader, now);
        }
        // Of copies of one another the whole one is read; that may be the one that has the name.
        let named = match directory.named.filter(|id| self.queue_index(*id).is_none()) {
            Some(id) if !found.is_empty() => self.open_as(&target.path, None, id)?,
            _ => None,
        };
        while let Some(mut reader) = found.pop() {
            let mut is_copy = false;
            for other in found.iter().chain(&kept).chain(&named) {
                is_copy = is_copy || is_held_by(&mut reader, other)?;
            }
            if !is_copy {
                reader.skip_to(0)?;
                kept.push(reader);
            }
        }
        for reader in kept.into_iter().rev() {
            self.push(reader, now);
        }
        let is_there = |id: &&FileId| directory.members.iter().any(|member| member.stat.id == **id);
        let files = self.waiting.iter().filter(|id| !is_there(id)).count() as u64;
        if files > 0 {
            notices.push(Notice::Gap(Gap::Crowd { files }));
        }
        self.waiting = waiting;
        Ok(true)
    }

    /// Whether a file may be what became of one that was empty when it was seen: nothing of it is known but
    /// what lay before it, or its time where it is compressed.
    fn may_be_filled(&self, gone: &Mark, index: usize, directory: &Directory) -> bool {
        let member = &directory.members[index];
        if gone.has_content() || member.tag.is_copy() {
            return false;
        }
        let before =
            self.queue.iter().take_while(|entry| entry.reader.is_some() || entry.mark != *gone);
        let ids: Vec<_> =
            before.filter_map(|entry| entry.reader.as_ref()).map(Reader::id).collect();
        match directory.members.iter().rposition(|member| ids.contains(&member.stat.id)) {
            Some(last) => index > last,
            None => member.tag.packing.is_some() && member.stat.modified_ns >= gone.modified_ns,
        }
    }

    /// Queues the file that has the name.
    fn queue_named(
        &mut self,
        target: &Target,
        named: Stat,
        gone: &[Mark],
        now: Duration,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        if let Some(index) = self.queue_index(named.id) {
            // The one that had it last, or one that has it again.
            if let Some(entry) = self.queue.remove(index) {
                self.queue.push_back(entry);
            }
            return Ok(true);
        }
        if self.queue.len() >= self.settings.in_hand.queue_max {
            self.waiting.insert(named.id);
            return Ok(true);
        }
        let Some(mut reader) = self.open_as(&target.path, None, named.id)? else {
            return Ok(false);
        };
        let remembered = self.read.iter().rfind(|mark| mark.id == named.id).copied();
        let mut is_copy = false;
        match self.what_is(&mut reader, Place::Named, remembered, gone)? {
            Known::Nothing => {}
            Known::UpTo(mark) => {
                reader.resume(&mark)?;
                self.read.retain(|known| *known != mark);
            }
            Known::Part => reader.skip_to(reader.stat().size)?,
            // The same log under another inode. What the old one holds comes first.
            Known::InQueue { .. } => is_copy = true,
        }
        if !self.queue.is_empty() || !self.read.is_empty() {
            notices.push(Notice::Rotated);
        }
        self.push(reader, now);
        if is_copy {
            self.is_copy(Place::Named);
        }
        Ok(true)
    }

    /// Says of the last of the queue that it is a copy.
    fn is_copy(&mut self, place: Place) {
        if let Some(entry) = self.queue.back_mut() {
            entry.copy = Some(place);
        }
    }

    fn push(&mut self, reader: Reader<F::File>, now: Duration) {
        let mut entry = Entry::new(reader, now);
        if self.open_files().count() >= self.settings.in_hand.open_max {
            entry.park();
        }
        self.queue.push_back(entry);
    }

    /// Where a file is in the queue, open or not.
    pub(super) fn queue_index(&self, id: FileId) -> Option<usize> {
        self.queue.iter().position(|entry| match entry.reader {
            Some(_) => entry.id() == id,
            None if planted::is(Plant::ClosedIsForgotten) => false,
            None => entry.is_parked && entry.id().may_be(&id),
        })
    }

    fn is_unreadable(&mut self, member: &Member, error: &io::Error, notices: &mut Notices) {
        let Member { path, stat, .. } = member;
        // What is, or was, read under that name and was compressed since; or one that has lost every name.
        let is_named = self.names.values().any(|known| *known == path.with_extension(""));
        let has_no_name =
            |reader: &Reader<F::File>| reader.file().stat().is_ok_and(|stat| stat.links == 0);
        let mut open = self.queue.iter().filter_map(|entry| entry.reader.as_ref());
        if !is_named && !open.any(has_no_name) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reason = error.to_string();
            notices.push(Notice::Gap(Gap::Unread { name, bytes: stat.size, reason }));
        }
        // Not to be told again.
        self.remember(Mark::whole(stat));
    }

    /// Keeps in mind under which names the files were found that are read, or were.
    fn note_names(&mut self, directory: &Directory) {
        let queued = self.queue.iter().map(Entry::id);
        let known: BTreeSet<_> = queued.chain(self.read.iter().map(|mark| mark.id)).collect();
        self.names.retain(|id, _| known.contains(id));
        for member in directory.members.iter().filter(|member| known.contains(&member.stat.id)) {
            self.names.insert(member.stat.id, member.path.clone());
        }
    }

    /// Says which files have lost the name.
    fn leave_behind(&mut self, named: Option<FileId>, now: Duration) -> io::Result<()> {
        let last = self.queue.len().saturating_sub(1);
        for (index, entry) in self.queue.iter_mut().enumerate() {
            let Some(reader) = &entry.reader else { continue };
            let has_name = named == Some(reader.id());
            let has_successor = named.is_some() || index < last;
            // Without one it may get its name back, unless it has no name at all any more.
            let is_left = !has_name && (has_successor || reader.file().stat()?.links == 0);
            entry.left_at = is_left.then(|| entry.left_at.unwrap_or(now));
        }
        Ok(())
    }

    /// Behind what in the order of a family something new lies.
    fn last_known(&self, directory: &Directory, gone: &[Mark]) -> io::Result<After> {
        let Directory { members, .. } = directory;
        let in_queue = |member: &Member| self.queue_index(member.stat.id).is_some();
        if let Some(last) = members.iter().rposition(in_queue) {
            return Ok(After::Index(last));
        }
        // Under another inode, as a copy is.
        for (index, member) in members.iter().enumerate().rev() {
            if !member.tag.is_copy() && self.is_queued_copy(member)? {
                // It may hold more.
                return Ok(After::Copy(index));
            }
        }
        let remembered = |member: &Member| self.read.iter().any(|mark| mark.id == member.stat.id);
        if let Some(last) = members.iter().rposition(remembered) {
            return Ok(After::Index(last));
        }
        let marks = gone.iter().chain(self.queue.iter().map(|entry| &entry.mark));
        let newest = marks.chain(self.read.back()).max_by_key(|mark| mark.modified_ns);
        Ok(newest.map_or(After::Nothing, |mark| After::File(*mark)))
    }
}

/// What is new.
enum After {
    /// Whatever has a larger index.
    Index(usize),
    /// Whatever has that index or a larger one.
    Copy(usize),
    /// Whatever was begun after a file that is not there any more.
    File(Mark),
    /// Everything: the log was not there when it was looked for first.
    Nothing,
}

/// Keeps one name of each file, that which is followed before others, and of a file and its compressed form
/// the file: the other may not be complete.
fn drop_doubles(members: &mut Vec<Member>, named: &Path) {
    let mut kept: Vec<Member> = Vec::with_capacity(members.len());
    members.sort_by_key(|member| (member.path != named, member.tag.packing.is_some()));
    for member in members.drain(..) {
        let is_double = |other: &Member| {
            other.stat.id == member.stat.id
                || (member.tag.packing.is_some()
                    && other.tag.packing.is_none()
                    && other.tag.is_same_but_packed(&member.tag))
        };
        if !kept.iter().any(is_double) {
            kept.push(member);
        }
    }
    *members = kept;
}
