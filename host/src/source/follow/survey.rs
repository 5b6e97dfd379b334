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
    mark::{Beginning, FileId, Mark, QUEUE_MAX},
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
            let is_known = id.is_some() && id == self.current() && !self.is_unsettled();
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
        let open = self.queue.iter().filter(|entry| entry.reader.is_some()).count();
        self.is_unsteady || (open < self.queue.len() && open < self.settings.open_max)
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
        if let Some(named) = named
            && !self.queue_named(target, named, &gone, now, notices)?
        {
            return Ok(false);
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

    /// Nothing was ever seen: the file that has the name is the first, and older ones are nobody's affair.
    fn begin(&mut self, target: &Target, named: Option<Stat>, now: Duration) -> io::Result<bool> {
        let Some(named) = named else { return Ok(true) };
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
        let after = self.last_known(directory, gone)?;
        let (mut found, mut kept) = (Vec::new(), Vec::new());
        for (index, member) in directory.members.iter().enumerate() {
            let Member { path, stat, tag } = member;
            if *path == target.path || self.queue_index(stat.id, gone).is_some() {
                continue;
            }
            let remembered = self.read.iter().rfind(|mark| mark.id == stat.id).copied();
            let is_new = match &after {
                After::Index(last) => index > *last,
                After::Copy(first) => index >= *first,
                After::File(mark) => member.is_after(mark),
                After::Nothing => false,
            };
            let is_new = (is_new && !tag.is_copy())
                || gone.iter().any(|mark| self.may_be_filled(mark, index, directory));
            if remembered.map_or(!is_new, |mark| tag.packing.is_some() || stat.size <= mark.offset)
            {
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
                Known::Nothing if is_new => {
                    found.push(reader);
                    continue;
                }
                Known::UpTo(mark) => {
                    reader.resume(&mark)?;
                    if !reader.is_packed() && reader.unread() == 0 {
                        continue;
                    }
                    self.read.retain(|known| *known != mark);
                }
                // A copy of what is still there, or holds no more.
                Known::InQueue { is_replaced } if is_replaced && !reader.is_packed() => {
                    self.push(reader, Some(Place::Beside), now, notices);
                    continue;
                }
                Known::Nothing | Known::InQueue { .. } | Known::Part => continue,
            }
            self.push(reader, None, now, notices);
        }
        // Of copies of one another the whole one is read; that may be the one that has the name.
        let named = match directory.named.filter(|id| self.queue_index(*id, gone).is_none()) {
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
            self.push(reader, None, now, notices);
        }
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
        if let Some(index) = self.queue_index(named.id, gone) {
            // The one that had it last, or one that has it again.
            if let Some(entry) = self.queue.remove(index) {
                self.queue.push_back(entry);
            }
            return Ok(true);
        }
        let Some(mut reader) = self.open_as(&target.path, None, named.id)? else {
            return Ok(false);
        };
        let remembered = self.read.iter().rfind(|mark| mark.id == named.id).copied();
        let mut copy = None;
        match self.what_is(&mut reader, Place::Named, remembered, gone)? {
            Known::Nothing => {}
            Known::UpTo(mark) => {
                reader.resume(&mark)?;
                self.read.retain(|known| *known != mark);
            }
            Known::Part => reader.skip_to(reader.stat().size)?,
            // The same log under another inode. What the old one holds comes first.
            Known::InQueue { .. } => copy = Some(Place::Named),
        }
        if !self.queue.is_empty() || !self.read.is_empty() {
            notices.push(Notice::Rotated);
        }
        self.push(reader, copy, now, notices);
        Ok(true)
    }

    /// Queues a file, and of a copy, where it lies.
    fn push(
        &mut self,
        reader: Reader<F::File>,
        copy: Option<Place>,
        now: Duration,
        notices: &mut Notices,
    ) {
        if self.queue.len() >= QUEUE_MAX {
            notices.push(Notice::Gap(Gap::Crowd { files: 1 }));
            self.remember(reader.mark());
            return;
        }
        let mut entry = Entry { copy, ..Entry::new(reader, now) };
        let open = self.queue.iter().filter(|entry| entry.reader.is_some()).count();
        if open >= self.settings.open_max {
            entry.reader = None;
        }
        self.queue.push_back(entry);
    }

    /// Where a file is in the queue, also if it waits until fewer are open; not if it is `gone`.
    fn queue_index(&self, id: FileId, gone: &[Mark]) -> Option<usize> {
        self.queue.iter().position(|entry| match &entry.reader {
            Some(reader) => reader.id() == id,
            None => {
                let is_waiting =
                    !planted::is(Plant::WaitingIsUnseen) && !gone.contains(&entry.mark);
                is_waiting && entry.mark.id.may_be(&id)
            }
        })
    }

    fn is_unreadable(&mut self, member: &Member, error: &io::Error, notices: &mut Notices) {
        let Member { path, stat, .. } = member;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        notices.push(Notice::Gap(Gap::Unread {
            name,
            bytes: stat.size,
            reason: error.to_string(),
        }));
        // Not to be told again.
        let mark = Mark {
            id: stat.id,
            beginning: Beginning::default(),
            offset: stat.size,
            before: [0; 8],
            modified_ns: stat.modified_ns,
        };
        self.remember(mark);
    }

    /// Says which files have lost the name.
    fn leave_behind(&mut self, named: Option<FileId>, now: Duration) -> io::Result<()> {
        for entry in &mut self.queue {
            let Some(reader) = &entry.reader else { continue };
            let has_name = named == Some(reader.id());
            // Without a successor it may get its name back, unless it has no name at all any more.
            let is_left = !has_name && (named.is_some() || reader.file().stat()?.links == 0);
            entry.left_at = is_left.then(|| entry.left_at.unwrap_or(now));
        }
        Ok(())
    }

    /// Behind what in the order of a family something new lies.
    fn last_known(&self, directory: &Directory, gone: &[Mark]) -> io::Result<After> {
        let Directory { members, .. } = directory;
        let in_queue = |member: &Member| self.queue_index(member.stat.id, gone).is_some();
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
    /// Nothing is known to be.
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
