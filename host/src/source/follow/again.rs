//! Finds files again: by inode and content, by content alone, as a copy, compressed, or as what was made of
//! them in place.
//!
//! Rules:
//! 1. Content decides. An inode only says where to look first, and which of two equal contents is meant.
//! 2. A file that has all that was read of another, with the same before the place, is that log: it goes on
//!    there.
//! 3. What lost its beginning (`sed -i`, `tail -n 1000 log > new`) goes on behind what stood before the
//!    place, if that stands in it once.

use std::{io, time::Duration};

use super::{
    Entry, Follow,
    content::Packing,
    family::Member,
    files::{Files, Listed, LogFile, read_full},
    mark::{Beginning, CONTEXT_BYTES_MAX, Checksum, FileId, Mark, checksum, context_length},
    planted::{self, Plant},
    reader::Reader,
    survey::{Directory, TRIES_MAX, Target},
};
use crate::source::notice::{Gap, Notice, Notices};

/// Shorter contexts are found by chance.
const TRIM_CONTEXT_MIN: usize = 16;
/// Shorter files are parts of others by chance.
const PART_BYTES_MIN: u64 = 256;
/// Most bytes that are searched for a context.
const TRIM_BYTES_MAX: u64 = 64 << 20;

/// Where a file is that is not open.
enum Located<H: LogFile> {
    Here(Reader<H>),
    /// All that was read of it stands in another file of the queue.
    Within(FileId),
    Nowhere,
}

/// Files that are not there any more, and what is to be said of each, if anything is.
pub(super) type Missed = Vec<(Mark, Option<Gap>)>;

/// Where a file lies of which something is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has the name.
    Named,
    /// It belongs to the family.
    Beside,
}

/// What is known of a file that was opened.
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// Everything before that place.
    UpTo(Mark),
    /// It is a copy of one that is open, which may have lost its last name.
    InQueue { is_replaced: bool },
    /// All of it: it is a part of what was read.
    Part,
}

impl<F: Files> Follow<F> {
    /// Opens again each file of the queue that is not open. Those that are not there any more, with what is
    /// to be said of them; none if the directory changed meanwhile.
    pub(super) fn find_again(
        &mut self,
        target: &Target,
        directory: &Directory,
        now: Duration,
        notices: &mut Notices,
    ) -> io::Result<Option<Missed>> {
        let mut gone = Vec::new();
        for index in 0..self.queue.len() {
            let Some(entry) = self.queue.get(index).filter(|entry| entry.reader.is_none()) else {
                continue;
            };
            let mark = entry.mark;
            let has_to_wait = self.open_files().count() >= self.settings.in_hand.open_max;
            let is_it = |listed: &Listed| listed.inode == mark.id.inode;
            self.queue[index].is_parked = has_to_wait && directory.listed.iter().any(is_it);
            // One that may be compressed by now is looked for all the same: what it became is nothing new.
            if self.queue[index].is_parked {
                continue;
            }
            let located = self.locate(&mark, directory)?;
            if let Located::Within(other) = located {
                // Another file of the queue goes on where it ended.
                let other = self.queue.iter_mut().find(|entry| entry.mark.id == other);
                if let Some(other) = other.filter(|other| other.mark.offset < mark.offset) {
                    let (id, modified_ns) = (other.mark.id, other.mark.modified_ns);
                    other.mark = Mark { id, modified_ns, ..mark };
                    if let Some(reader) = &mut other.reader {
                        reader.resume(&mark)?;
                    }
                }
                gone.push((mark, None));
                continue;
            }
            let Located::Here(reader) = located else {
                let offset_bytes = mark.offset;
                let is_same = |member: &Member| member.stat.id.may_be(&mark.id);
                let gap = if directory.members.iter().any(is_same) {
                    Gap::Emptied { offset_bytes, unread_bytes: None }
                } else {
                    Gap::Gone { offset_bytes }
                };
                gone.push((mark, Some(gap)));
                continue;
            };
            let is_itself = reader.id().may_be(&mark.id);
            if !is_itself && !self.stands_still(target, directory)? {
                return Ok(None);
            }
            let is_there = directory.members.iter().any(|member| member.stat.id.may_be(&mark.id));
            let is_named = directory.named == Some(reader.id());
            if !is_named && !reader.is_packed() && !is_itself {
                // A copy: what it was made of may have gone on.
                let offset_bytes = reader.stat().size;
                notices.push(if is_there {
                    Notice::Truncated { offset_bytes }
                } else {
                    Notice::Gap(Gap::Gone { offset_bytes })
                });
            }
            let copy = self.queue[index].copy;
            self.queue[index] = Entry { copy, ..Entry::new(reader, now) };
            if has_to_wait {
                self.queue[index].park();
            }
        }
        let stands_still = gone.is_empty()
            || planted::is(Plant::UnsteadyList)
            || self.stands_still(target, directory)?;
        Ok(stands_still.then_some(gone))
    }

    /// Whether a directory is still as it was: what moved while it was looked for may have been passed.
    fn stands_still(&self, target: &Target, directory: &Directory) -> io::Result<bool> {
        Ok(self.directory(target)?.is_some_and(|again| again.listed == directory.listed))
    }

    /// A file that is not open.
    fn locate(&self, mark: &Mark, directory: &Directory) -> io::Result<Located<F::File>> {
        // Its inode, under whatever name.
        for listed in directory.listed.iter().filter(|listed| listed.inode == mark.id.inode) {
            let path = directory.path.join(&listed.name);
            let (packing, _) = Packing::of(listed.name.as_encoded_bytes());
            let id = self.files.stat(&path)?.filter(|stat| stat.is_file).map(|stat| stat.id);
            let Some(id) = id.filter(|id| id.may_be(&mark.id)) else { continue };
            // What has no content yet is known by its number alone.
            if !mark.has_content() && id.device != mark.id.device {
                continue;
            }
            // What is not readable, or damaged, can't be it.
            let Ok(Some(mut reader)) = self.open_as(&path, packing, id) else { continue };
            if planted::is(Plant::InodeAlone) || reader.resume(mark)? {
                return Ok(Located::Here(reader));
            }
        }
        if !mark.has_content() {
            return Ok(Located::Nowhere);
        }
        // Its content: in what goes on with it, in rotated files, compressed ones, and copies.
        let is_queued = |member: &Member| {
            self.queue.iter().any(|entry| entry.mark != *mark && entry.mark.id == member.stat.id)
        };
        let mut members: Vec<&Member> = directory.members.iter().rev().collect();
        members.sort_by_key(|member| {
            (!is_queued(member), member.tag.is_copy(), member.tag.packing.is_some())
        });
        for member in members {
            if member.tag.packing.is_some() && planted::is(Plant::CompressedIsSkipped) {
                continue;
            }
            let Ok(Some(mut reader)) =
                self.open_as(&member.path, member.tag.packing, member.stat.id)
            else {
                continue;
            };
            if reader.resume(mark).unwrap_or(false) {
                return Ok(if is_queued(member) {
                    Located::Within(member.stat.id)
                } else {
                    Located::Here(reader)
                });
            }
        }
        Ok(Located::Nowhere)
    }

    /// Whether a file is a copy of one of the queue.
    pub(super) fn is_queued_copy(&self, member: &Member) -> io::Result<bool> {
        // What is not readable, or damaged, is none.
        let Ok(Some(mut reader)) = self.open_as(&member.path, member.tag.packing, member.stat.id)
        else {
            return Ok(false);
        };
        for entry in &self.queue {
            let is_copy = match &entry.reader {
                Some(open) => is_copy(&mut reader, open)?,
                None => entry.mark.has_content() && reader.resume(&entry.mark).unwrap_or(false),
            };
            if is_copy {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The latest of what is remembered that a file holds all of.
    pub(super) fn known_by_content(
        &self,
        reader: &mut Reader<F::File>,
    ) -> io::Result<Option<Mark>> {
        let mut known: Option<Mark> = None;
        for mark in self.read.iter().filter(|mark| mark.offset > 0) {
            let is_longer = known.is_none_or(|known| known.offset < mark.offset);
            if is_longer && reader.resume(mark)? && is_telling(reader.context()) {
                known = Some(*mark);
            }
        }
        // Back to its beginning.
        reader.skip_to(0)?;
        Ok(known)
    }

    /// What is known of a file that was just opened. Leaves it at its beginning.
    pub(super) fn what_is(
        &self,
        reader: &mut Reader<F::File>,
        place: Place,
        remembered: Option<Mark>,
        gone: &[Mark],
    ) -> io::Result<Known> {
        if let Some(mark) = remembered
            && reader.resume(&mark)?
        {
            return Ok(Known::UpTo(mark));
        }
        if planted::is(Plant::CopiesAreNew) {
            reader.skip_to(0)?;
            return Ok(Known::Nothing);
        }
        for open in self.queue.iter().filter_map(|entry| entry.reader.as_ref()) {
            let is_replaced = open.file().stat()?.links == 0;
            let is_copy = match place {
                Place::Named if !is_replaced => goes_on(open, reader)?.is_some(),
                Place::Beside | Place::Named => {
                    is_copy(reader, open)? || (is_replaced && goes_on(open, reader)?.is_some())
                }
            };
            if is_copy {
                reader.skip_to(0)?;
                return Ok(Known::InQueue { is_replaced });
            }
        }
        if let Some(mark) = self.known_by_content(reader)? {
            return Ok(Known::UpTo(mark));
        }
        for mark in gone.iter().filter(|mark| mark.offset > 0) {
            // Emptied and written anew, or cut.
            let size = reader.stat().size;
            let is_long = usize::from(mark.beginning.length) == CONTEXT_BYTES_MAX;
            let is_shorter = !reader.is_packed() && size < mark.offset;
            if is_shorter
                && (reader.id() == mark.id || is_long)
                && mark.beginning.is_of(reader.head())
            {
                return Ok(Known::Part);
            }
            if let Some(offset) = find_once(reader, context_length(mark.offset), &mark.before)?
                && let Some(context) = reader.context_at(offset)?
            {
                let before = checksum(&context);
                let beginning = Beginning::of(reader.head());
                reader.skip_to(0)?;
                return Ok(Known::UpTo(Mark {
                    id: reader.id(),
                    beginning,
                    offset,
                    before,
                    ..*mark
                }));
            }
        }
        reader.skip_to(0)?;
        Ok(Known::Nothing)
    }

    /// What lies before a file that is a copy of some of that was read: it goes on where that ended.
    pub(super) fn pass_copied(&mut self, index: usize) -> io::Result<()> {
        let Some(entry) = self.queue.get_mut(index) else { return Ok(()) };
        // One that is not open is looked at when it is.
        let Some(place) = entry.copy.filter(|_| entry.reader.is_some()) else { return Ok(()) };
        let Some(mut reader) = entry.reader.take() else { return Ok(()) };
        entry.copy = None;
        let passed = self.copied(index, place, &mut reader);
        if let Some(entry) = self.queue.get_mut(index) {
            entry.reader = Some(reader);
        }
        passed
    }

    fn copied(&self, index: usize, place: Place, reader: &mut Reader<F::File>) -> io::Result<()> {
        let mut passed = 0;
        let before = self.queue.iter().take(index).filter_map(|entry| entry.reader.as_ref());
        for open in before {
            let size = reader.file().stat()?.size;
            let may_be_part = place == Place::Beside || size >= PART_BYTES_MIN;
            if may_be_part && size <= open.file().stat()?.size && is_copy(reader, open)? {
                passed = passed.max(size);
            } else if let Some(offset) = goes_on(open, reader)? {
                passed = passed.max(offset);
            }
        }
        // It may have been read to its end meanwhile.
        if let Some(mark) = self.known_by_content(reader)? {
            passed = passed.max(mark.offset);
        }
        reader.skip_to(passed)
    }

    /// A file holds something else before the place than it did. False if it can't be told yet what.
    pub(super) fn rewritten(
        &mut self,
        index: usize,
        now: Duration,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        let Some(entry) = self.queue.get_mut(index) else { return Ok(false) };
        entry.refresh();
        let mark = entry.mark;
        let Some(reader) = &entry.reader else { return Ok(false) };
        let unread = reader.unread();
        let (context, head) = (reader.context().to_vec(), reader.head().to_vec());
        let Some(copy) = self.rest_in_copy(&mark)? else {
            self.is_unsteady = true;
            return Ok(false);
        };
        self.remember(Mark { id: FileId::NONE, ..mark });
        let is_copied = !matches!(copy, Located::Nowhere);
        let Some(entry) = self.queue.get_mut(index) else { return Ok(false) };
        let Some(reader) = &mut entry.reader else { return Ok(false) };
        reader.restart()?;
        let size = reader.stat().size;
        let offset_bytes = mark.offset;
        let mut notice = Notice::Truncated { offset_bytes };
        if unread > 0 && !is_copied {
            notice = Notice::Gap(Gap::Emptied { offset_bytes, unread_bytes: Some(unread) });
        }
        if !is_copied && size > 0 {
            if size < offset_bytes && head.starts_with(reader.head()) {
                reader.skip_to(size)?;
                notice = Notice::Cut { offset_bytes, size_bytes: size };
            } else if let Some(offset) = find_once(reader, context.len(), &checksum(&context))? {
                reader.skip_to(offset)?;
                notice = Notice::Cut { offset_bytes, size_bytes: size };
            } else {
                reader.skip_to(0)?;
            }
        }
        if size == 0 && !is_copied {
            entry.former = Some(context);
        }
        entry.mark = Mark { offset: u64::MAX, ..mark };
        entry.refresh();
        notices.push(notice);
        if let Located::Here(copy) = copy
            && (copy.is_packed() || copy.unread() > 0)
        {
            let mut entry = Entry::new(copy, now);
            entry.left_at = Some(now);
            self.queue.insert(index, entry);
        }
        Ok(true)
    }

    /// A copy of what a file held, at the place; none if names move faster than one can look.
    fn rest_in_copy(&mut self, mark: &Mark) -> io::Result<Option<Located<F::File>>> {
        if !mark.has_content() {
            return Ok(Some(Located::Nowhere));
        }
        let target = self.resolve()?;
        for _ in 0..TRIES_MAX {
            let Some(directory) = self.directory(&target)? else { continue };
            let located = self.locate_copy(mark, &directory)?;
            if matches!(located, Located::Here(_)) || self.stands_still(&target, &directory)? {
                return Ok(Some(located));
            }
        }
        Ok(None)
    }

    fn locate_copy(&self, mark: &Mark, directory: &Directory) -> io::Result<Located<F::File>> {
        if planted::is(Plant::CopyTruncateLoses) {
            return Ok(Located::Nowhere);
        }
        self.locate(&Mark { id: FileId::NONE, ..*mark }, directory)
    }

    /// Something came to a file that had been emptied: where what was read ends in it, if it does.
    pub(super) fn pass_former(&mut self, index: usize) -> io::Result<()> {
        let Some(entry) = self.queue.get_mut(index) else { return Ok(()) };
        let Some(reader) = &mut entry.reader else { return Ok(()) };
        if entry.former.is_none() || reader.offset() > 0 || reader.unread() == 0 {
            return Ok(());
        }
        if let Some(context) = entry.former.take() {
            match find_once(reader, context.len(), &checksum(&context))? {
                Some(offset) => reader.skip_to(offset)?,
                None => reader.skip_to(0)?,
            }
        }
        Ok(())
    }
}

/// Whether two files are equal as far as both go: how they begin, and the last bytes that both have.
fn is_copy<H: LogFile>(reader: &mut Reader<H>, open: &Reader<H>) -> io::Result<bool> {
    if reader.is_packed() || open.is_packed() {
        // How long it is can't be told without reading it all.
        let mut head = vec![0; CONTEXT_BYTES_MAX];
        let length = match open.is_packed() {
            true => open.head().len(),
            false => read_full(open.file(), &mut head, 0)?,
        };
        let head = if open.is_packed() { open.head() } else { &head[..length] };
        let common = length.min(reader.head().len());
        return Ok(common > 0 && head[..common] == reader.head()[..common]);
    }
    let common = reader.file().stat()?.size.min(open.file().stat()?.size);
    let length = context_length(common);
    let [mut a, mut b] = [vec![0; length], vec![0; length]];
    for start in [0, common - length as u64] {
        let read =
            [read_full(reader.file(), &mut a, start)?, read_full(open.file(), &mut b, start)?];
        if read != [length; 2] || a != b {
            return Ok(false);
        }
    }
    Ok(common > 0)
}

/// Whether another file that was not read yet holds all of a file: then that is a copy of it.
pub(super) fn is_held_by<H: LogFile>(
    reader: &mut Reader<H>,
    other: &Reader<H>,
) -> io::Result<bool> {
    let size = reader.stat().size;
    let is_smaller = reader.is_packed() || (!other.is_packed() && size <= other.stat().size);
    if !is_smaller || !is_copy(reader, other)? {
        return Ok(false);
    }
    let end = if reader.is_packed() { None } else { reader.context_at(size)? };
    Ok(is_telling(end.as_deref().unwrap_or(reader.head())))
}

/// Whether a context says where it is from: its last line stands in it once, and is not all of it. Where all
/// lines are equal, one file can't be told from another by its content.
fn is_telling(context: &[u8]) -> bool {
    let mut lines = context.trim_ascii_end().rsplit(|byte| *byte == b'\n');
    let last = lines.next();
    let mut others = lines.peekable();
    others.peek().is_some() && others.all(|line| Some(line) != last)
}

/// Where an open log goes on in a file that may have taken its place.
fn goes_on<H: LogFile>(open: &Reader<H>, reader: &mut Reader<H>) -> io::Result<Option<u64>> {
    let mark = open.mark();
    if mark.offset == 0 {
        return Ok(None);
    }
    if reader.resume(&mark)? && is_telling(reader.context()) {
        return Ok(Some(mark.offset));
    }
    // What is written anew in its place may have lost its beginning.
    if open.file().stat()?.links > 0 {
        return Ok(None);
    }
    find_once(reader, context_length(mark.offset), &mark.before)
}

/// Where a context ends that stands in a file once.
fn find_once<H: LogFile>(
    reader: &mut Reader<H>,
    length: usize,
    before: &Checksum,
) -> io::Result<Option<u64>> {
    let size = reader.stat().size;
    if length < TRIM_CONTEXT_MIN
        || size < length as u64
        || size > TRIM_BYTES_MAX
        || reader.is_packed()
    {
        return Ok(None);
    }
    debug_assert!(length <= CONTEXT_BYTES_MAX);
    let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = read_full(reader.file(), &mut content, 0)?;
    let mut found = None;
    // Places are ends of lines.
    let ends = content[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    for (newline, _) in ends {
        let end = newline + 1;
        if end >= length && checksum(&content[end - length..end]) == *before {
            if found.is_some() {
                return Ok(None);
            }
            found = Some(end as u64);
        }
    }
    Ok(found)
}
