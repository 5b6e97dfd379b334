//! The journal: groups that are durable in a file beside the database, and not in its tables yet.
//!
//! redb copies a page for each of its trees, so a group of one commit of 8 bytes costs it some 28 KiB. Here it costs
//! one block of 4 KiB and one fdatasync (`a_lone_commit_costs_a_block_and_a_sync`).
//!
//! ```text
//! block 0    magic (16), format (2), store id (16), journal id (8), checksum of all before it (8), zeros
//! record *   at the start of a block: number of the group (8), length of the payload (4), checksum (8), payload,
//!            zeros to the end of a block
//! ```
//!
//! Rules:
//! 1. **What counts is the number.** The tables say which group is their last. Records lie one behind the other from
//!    block 1, with numbers that follow on each other; those above that number are to be applied. So whoever
//!    applies them need not touch the journal: it begins anew at block 1, and what lies behind is known as old by
//!    its numbers (`a_journal_begins_anew_over_what_is_applied`).
//! 2. **What was acknowledged is not written again.** A record has its blocks for itself, so a write that is cut
//!    off spoils nothing but its own group, which nobody was told of.
//! 3. **Cut off is not damaged.** A record that is not whole ends the journal if none behind it is newer; otherwise it
//!    was acknowledged, and that it can't be read is an error (`any_byte_of_a_journal`).
//! 4. **A record is one of this journal, at this place.** The checksum covers the store, the journal's random id and the
//!    block. No daemon knows that id, so none can put a record of its own into what it has stored.
//! 5. **A journal is whose the database says.** The database names the id of the journal that it goes on in, with
//!    the first group after which there is one. So a journal that is missing, older, or another's is noticed
//!    (`a_journal_that_does_not_belong_is_refused`).
//! 6. **An append changes no metadata.** Blocks are filled with zeros before they are used, in steps, and used
//!    again after each checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::own_file;

use super::Commit;
#[cfg(test)]
use super::disk::{Event, Failures, Which};
use super::file::{is_at, sync_directory_of};
use super::seal::sum_of_parts;

const MAGIC: &[u8; 16] = b"duende-journal\x1a\n";
const FORMAT: u16 = 1;
/// What a record begins and ends on: no disk and no file system writes less than that as one.
const BLOCK_BYTES: usize = 4_096;
/// Longest journal, in blocks: 1 MiB. A checkpoint costs redb about ten times what a record costs, so with 255 of them
/// between two it hardly shows.
const BLOCKS_MAX: usize = 256;
/// How many blocks are made ready at once.
const STEP_BLOCKS: usize = 32;
const _: () = assert!(BLOCKS_MAX.is_multiple_of(STEP_BLOCKS));
/// The header of the file, without its zeros.
const HEADER_BYTES: usize = 16 + 2 + 16 + 8;
const RECORD_HEADER_BYTES: usize = 8 + 4 + 8;
/// Longest payload, in bytes. A larger group is cheap enough in the tables.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// What tells a journal from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) store: u128,
    pub(super) journal: u64,
}

impl Identity {
    /// The checksum of a record of this journal at this block.
    fn sum(&self, block: usize, number: u64, payload: &[u8]) -> u64 {
        let Self { store, journal } = self;
        sum_of_parts(&[
            &store.to_le_bytes(),
            &journal.to_le_bytes(),
            &(block as u64).to_le_bytes(),
            &number.to_le_bytes(),
            payload,
        ])
    }

    fn header(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&FORMAT.to_le_bytes());
        block.extend_from_slice(&self.store.to_le_bytes());
        block.extend_from_slice(&self.journal.to_le_bytes());
        let sum = sum_of_parts(&[&block]);
        block.extend_from_slice(&sum.to_le_bytes());
        block.resize(BLOCK_BYTES, 0);
        block
    }
}

/// Commits that became durable together, and their number.
pub(super) type Numbered = (u64, Vec<Commit>);

/// The journal of a database.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".journal");
    path.into()
}

/// How many blocks a payload takes.
fn blocks_of(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).div_ceil(BLOCK_BYTES)
}

/// The payload of a group; none if it is longer than one may be.
pub(super) fn payload_of(group: &[Commit]) -> Option<Vec<u8>> {
    let bytes: usize = group.iter().map(Commit::size_bytes).sum();
    // What it takes in memory is more than what it takes here.
    if bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    postcard::to_allocvec(group).ok().filter(|payload| payload.len() <= PAYLOAD_BYTES_MAX)
}

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    identity: Identity,
    /// Where the next record goes.
    at: usize,
    /// How many blocks are ready.
    blocks: usize,
    #[cfg(test)]
    failures: Failures,
}

impl Journal {
    /// Makes one, beside its place first: under its name it is whole. What stands there already stays.
    pub(super) fn create(
        path: &Path,
        identity: Identity,
        #[cfg(test)] failures: Failures,
    ) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let mut options = OpenOptions::new();
        // It holds what the database holds: for the owner alone.
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = own_file::no_link(&mut options).open(&unfinished).map_err(own_file::said)?;
        let mut blocks = identity.header();
        blocks.resize(STEP_BLOCKS * BLOCK_BYTES, 0);
        let made = write_blocks(
            &file,
            0,
            &blocks,
            #[cfg(test)]
            None,
        )
        .and_then(|()| file.sync_all());
        let made = made
            .and_then(|()| Ok(renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE)?));
        if let Err(error) = made {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        sync_directory_of(path)?;
        #[cfg(test)]
        failures.tape(Which::Journal, || Event::Made(blocks));
        Ok(Self {
            path: path.to_owned(),
            file,
            identity,
            at: 1,
            blocks: STEP_BLOCKS,
            #[cfg(test)]
            failures,
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.identity.journal
    }

    pub(super) fn has_room(&self, payload: &[u8]) -> bool {
        self.at + blocks_of(payload.len()) <= BLOCKS_MAX
    }

    /// Makes a group durable. After a failure nobody knows whether it is; the next attempt goes to the same place.
    pub(super) fn append(&mut self, number: u64, payload: &[u8]) -> io::Result<()> {
        let end = self.at + blocks_of(payload.len());
        let length = u32::try_from(payload.len()).map_err(|_| ErrorKind::FileTooLarge)?;
        let mut bytes = Vec::with_capacity((end - self.at) * BLOCK_BYTES);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.identity.sum(self.at, number, payload).to_le_bytes());
        bytes.extend_from_slice(payload);
        // With its zeros, and those of blocks that are not ready yet.
        let ready = if end > self.blocks { end.next_multiple_of(STEP_BLOCKS) } else { end };
        bytes.resize((ready - self.at) * BLOCK_BYTES, 0);
        #[cfg(test)]
        self.failures.before_append()?;
        write_blocks(
            &self.file,
            self.at,
            &bytes,
            #[cfg(test)]
            Some(&self.failures),
        )?;
        #[cfg(test)]
        self.failures.before_sync(Which::Journal)?;
        self.file.sync_data()?;
        #[cfg(test)]
        self.failures.tape(Which::Journal, || Event::Sync);
        #[cfg(test)]
        self.failures.after_sync()?;
        self.at = end;
        self.blocks = self.blocks.max(ready);
        Ok(())
    }

    /// All that it holds is in the tables: what comes next goes over it.
    pub(super) fn begin_anew(&mut self) {
        self.at = 1;
    }

    /// Takes the file away, if it is this one.
    pub(super) fn remove(self) {
        // One that stays is known as needless by its numbers.
        if is_at(&self.file, &self.path).is_ok_and(|is_there| is_there) {
            let _ = fs::remove_file(&self.path);
            #[cfg(test)]
            self.failures.tape(Which::Journal, || Event::Removed);
        }
    }

    /// What became of the file; none: it is at its path.
    pub(super) fn astray(&self) -> Option<String> {
        super::file::astray(&self.file, &self.path)
    }
}

/// Writes from a block on, one block at a time: what is written at once Linux keeps in one piece, and from then on takes
/// all of that for changed when one block is (`the_kernel_counts_one_block`).
fn write_blocks(
    file: &File,
    from: usize,
    bytes: &[u8],
    #[cfg(test)] failures: Option<&Failures>,
) -> io::Result<()> {
    for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let offset = ((from + number) * BLOCK_BYTES) as u64;
        file.write_all_at(block, offset)?;
        #[cfg(test)]
        if let Some(failures) = failures {
            failures.tape(Which::Journal, || Event::Write { offset, data: block.to_vec() });
        }
    }
    Ok(())
}

/// Why a file is not a journal that can be gone on from.
#[derive(Debug)]
pub(super) enum Unfit {
    /// Another version wrote it.
    Format(u16),
    /// It is another's, or damaged.
    Not(String),
    Io(io::Error),
}

fn not(what: impl Into<String>) -> Unfit {
    Unfit::Not(what.into())
}

/// A journal that is read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) identity: Identity,
    bytes: Vec<u8>,
}

/// Reads a journal; none: there is none.
pub(super) fn read(path: &Path) -> Result<Option<Found>, Unfit> {
    let mut options = OpenOptions::new();
    let file = match own_file::no_link(options.read(true)).open(path).map_err(own_file::said) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unfit::Io(error)),
    };
    if !file.metadata().map_err(Unfit::Io)?.is_file() {
        return Err(not("it is not a file"));
    }
    let longest = BLOCKS_MAX * BLOCK_BYTES;
    let mut bytes = Vec::new();
    file.take(longest as u64 + 1).read_to_end(&mut bytes).map_err(Unfit::Io)?;
    if bytes.len() > longest {
        return Err(not(format!("it is longer than {longest} bytes")));
    }
    parse(bytes).map(Some)
}

pub(super) fn parse(bytes: Vec<u8>) -> Result<Found, Unfit> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(not(format!("it has {} bytes", bytes.len())));
    };
    if !header.starts_with(MAGIC) {
        return Err(not("it does not begin as one"));
    }
    let mut fields = Fields(&header[MAGIC.len()..]);
    let format = u16::from_le_bytes(fields.next());
    let identity = Identity {
        store: u128::from_le_bytes(fields.next()),
        journal: u64::from_le_bytes(fields.next()),
    };
    if rest.first_chunk().is_none_or(|sum| u64::from_le_bytes(*sum) != sum_of_parts(&[header])) {
        return Err(not("its first block is not what was written"));
    }
    if format != FORMAT {
        return Err(Unfit::Format(format));
    }
    Ok(Found { identity, bytes })
}

/// The numbers at the start of what is long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
}

/// What a journal adds to the tables.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The groups after the last of the tables, in their order.
    pub(super) groups: Vec<Numbered>,
    /// What keeps what comes behind them from being read.
    pub(super) damage: Option<String>,
}

impl Found {
    /// The number and the payload of the record at a block, and the block behind it.
    fn record(&self, block: usize) -> Option<(u64, &[u8], usize)> {
        let (header, rest) =
            self.bytes.get(block * BLOCK_BYTES..)?.split_at_checked(RECORD_HEADER_BYTES)?;
        let mut fields = Fields(header);
        let number = u64::from_le_bytes(fields.next());
        let length = usize::try_from(u32::from_le_bytes(fields.next())).ok()?;
        let sum = u64::from_le_bytes(fields.next());
        let payload = rest.get(..length).filter(|_| length <= PAYLOAD_BYTES_MAX)?;
        let is_right = number > 0 && self.identity.sum(block, number, payload) == sum;
        is_right.then(|| (number, payload, block + blocks_of(length)))
    }

    /// The number of the newest record, wherever it lies.
    pub(super) fn newest(&self) -> Option<u64> {
        let numbers = (1..self.blocks()).filter_map(|block| self.record(block));
        numbers.map(|(number, ..)| number).max()
    }

    fn blocks(&self) -> usize {
        self.bytes.len().div_ceil(BLOCK_BYTES)
    }

    /// What it adds to tables whose last group is this one.
    pub(super) fn after(&self, last: u64) -> Contents {
        let mut contents = Contents::default();
        let mut at = 1;
        let mut before = None;
        while let Some((number, payload, next)) = self.record(at) {
            if before.is_some_and(|before: u64| before.checked_add(1) != Some(number)) {
                break;
            }
            if before.is_none() && number > last.saturating_add(1) {
                contents.damage =
                    Some(format!("it begins with group {number}, and the tables end with {last}"));
                return contents;
            }
            if number > last {
                match postcard::from_bytes(payload) {
                    Ok(group) => contents.groups.push((number, group)),
                    Err(error) => {
                        contents.damage = Some(format!("group {number} can't be read: {error}"));
                        return contents;
                    }
                }
            }
            (at, before) = (next, Some(number));
        }
        let known = before.unwrap_or_default().max(last);
        if let Some(newer) = self.newest().filter(|newest| *newest > known) {
            contents.damage = Some(format!(
                "group {} is not what was written, and group {newer} is",
                known.saturating_add(1)
            ));
        }
        contents
    }
}
