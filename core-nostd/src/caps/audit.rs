//! Who was given what, who lost it and who was refused: an append-only ring, chained by hashes.
//!
//! Rules:
//! 1. Each record has the next number. Nothing removes or changes one; in a full ring the oldest gives
//!    way, and the numbers of what is kept show what is gone.
//! 2. The link of record n is SHA-256(link of record n − 1, bytes of record n), so it vouches for every
//!    record up to n. Links are computed in batches: [`AuditLog::seal`] links what was appended since
//!    the last, and [`BATCH_MAX`] unsealed records are sealed by themselves. A record gives way only
//!    after it was sealed.
//! 3. Whoever keeps a [`Head`] elsewhere can tell later that nothing before it was changed, taken out
//!    or put in, even by somebody who could write all over the ring.
//! 4. Records hold numbers only, never names or contents.
//! 5. A clock that steps back counts as stalled.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::message::{Handle, Label, Object, Refusal};
use super::rights::Rights;
use super::scope::Holder;
use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

/// Most records that wait for their links.
pub const BATCH_MAX: usize = 64;

/// Bytes of a record: the longest that [`Record`] encodes to, the rest zeros.
pub const RECORD_BYTES: usize = 80;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// A first capability was given out.
    Granted {
        /// The capability.
        handle: Handle,
        /// What it is for.
        object: Object,
        /// What it lets its holder do.
        rights: Rights,
        /// Who got it.
        holder: Holder,
        /// What it is revoked by in bulk.
        label: Label,
    },
    /// A capability was handed on.
    Delegated {
        /// The origin.
        from: Handle,
        /// The new one.
        handle: Handle,
        /// What it lets its holder do.
        rights: Rights,
        /// Who got it.
        holder: Holder,
    },
    /// A capability was revoked, with all that descends from it.
    Revoked {
        /// Which one.
        handle: Handle,
    },
    /// Everything under a label was revoked.
    LabelRevoked {
        /// Which one.
        label: Label,
    },
    /// A process was refused.
    Denied {
        /// What it showed.
        handle: Handle,
        /// What it wanted.
        needed: Rights,
        /// Why not.
        refusal: Refusal,
    },
}

/// An event, when it was, and whose doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The first record of a chain has 0.
    pub number: u64,
    /// Nanoseconds on the owner's clock.
    pub at_ns: u64,
    /// The process that acted.
    pub actor: Holder,
    /// What it did.
    pub event: Event,
}

impl Record {
    /// The bytes that a link vouches for, as postcard writes them.
    ///
    /// # Errors
    /// [`EncodingError`], if they don't fit; none of those that can be written now is so long.
    pub fn to_bytes(&self) -> Result<[u8; RECORD_BYTES], EncodingError> {
        let mut bytes = [0; RECORD_BYTES];
        postcard::to_slice(self, &mut bytes).map_err(|_| EncodingError)?;
        Ok(bytes)
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`EncodingError`], when the bytes are no record.
    pub fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Result<Self, EncodingError> {
        postcard::from_bytes(bytes).map_err(|_| EncodingError)
    }
}

/// Bytes that are no audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the bytes are no audit record")]
pub struct EncodingError;

/// How far a chain goes, and what vouches for it up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// How many records the chain has.
    pub records: u64,
    /// The link of the last one.
    pub link: [u8; 32],
}

impl Head {
    /// The head of a chain without records.
    pub const GENESIS: Self = Self { records: 0, link: *b"duende audit chain, version 1\0\0\0" };

    /// The head with one more record, for who checks a chain that was stored elsewhere.
    #[must_use]
    pub fn followed_by(self, record: &[u8; RECORD_BYTES]) -> Self {
        let link = Sha256::new().chain_update(self.link).chain_update(record).finalize().into();
        Self { records: self.records.saturating_add(1), link }
    }
}

/// Room for one record.
#[derive(Clone, Debug)]
pub struct AuditSlot {
    bytes: [u8; RECORD_BYTES],
    /// Of this record, once it is sealed.
    link: [u8; 32],
}

impl AuditSlot {
    /// Room that was never used.
    pub const EMPTY: Self = Self { bytes: [0; RECORD_BYTES], link: [0; 32] };
}

/// The ring has no room for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("an audit log without slots: give it at least one")]
pub struct NoSlots;

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AppendError {
    /// The chain has as many records as can be numbered.
    #[error("the audit chain is at its last number: begin another")]
    ChainFull,
    /// The record does not fit.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

/// Why a record can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReadError {
    /// It gave way to later ones, or is not there yet.
    #[error("record {number} is not kept, {oldest} up to {next} (not included) are")]
    NotKept {
        /// What was asked for.
        number: u64,
        /// The oldest record that is kept.
        oldest: u64,
        /// The number of the next record.
        next: u64,
    },
    /// It was tampered with.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

/// The chain does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Tampered {
    /// This record, its link or the one before was changed.
    #[error("audit record {number} does not fit its link")]
    Record {
        /// The first one that does not fit.
        number: u64,
    },
    /// All links fit, but they lead elsewhere than the head that was kept.
    #[error("the audit chain at {records} records is not the one whose head was kept")]
    Head {
        /// How many records the kept head vouches for.
        records: u64,
    },
    /// The records up to the head that was kept are not sealed here, or have given way.
    #[error("the audit log does not reach the head at {records} records")]
    OutOfReach {
        /// How many records the kept head vouches for.
        records: u64,
    },
}

/// The last records of an audit chain.
///
/// ```
/// use duende_core::caps::{AuditLog, AuditSlot, Event, Head, Holder, Label};
/// use duende_core::time::Instant;
///
/// let mut log = AuditLog::new([AuditSlot::EMPTY; 128], Head::GENESIS)?;
/// let event = Event::LabelRevoked { label: Label(3) };
/// log.append(Instant::from_ns(5), Holder(1), event)?;
/// let head = log.seal(); // to be kept where the log's writer can't change it
/// log.append(Instant::from_ns(6), Holder(1), event)?;
/// log.seal();
/// log.verify(head)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AuditLog<S> {
    slots: S,
    /// Where the oldest record lies.
    start: usize,
    /// The head when all that is kept is left out: the link before the oldest record.
    base: Head,
    /// The head with the last sealed record.
    sealed: Head,
    /// How many records there ever were.
    records: u64,
    now: Instant,
}

impl<S: AsRef<[AuditSlot]> + AsMut<[AuditSlot]>> AuditLog<S> {
    /// A log that goes on where a chain has ended, [`Head::GENESIS`] for a new one.
    ///
    /// # Errors
    /// [`NoSlots`], when there is no room for a record.
    pub fn new(slots: S, head: Head) -> Result<Self, NoSlots> {
        if slots.as_ref().is_empty() {
            return Err(NoSlots);
        }
        let records = head.records;
        Ok(Self { slots, start: 0, base: head, sealed: head, records, now: Instant::ZERO })
    }

    /// The number of the oldest record that is kept.
    #[must_use]
    pub const fn oldest(&self) -> u64 {
        self.base.records
    }

    /// The number of the next record.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.records
    }

    /// The head as of the last seal.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.sealed
    }

    /// Adds a record; in a full ring the oldest gives way. Its number.
    ///
    /// # Errors
    /// [`AppendError`], when the numbers have run out.
    pub fn append(
        &mut self,
        now: Instant,
        actor: Holder,
        event: Event,
    ) -> Result<u64, AppendError> {
        let next = self.records.checked_add(1).ok_or(AppendError::ChainFull)?;
        self.now = self.now.max(now);
        let number = self.records;
        let record = Record { number, at_ns: self.now.as_ns(), actor, event };
        let bytes = record.to_bytes()?;
        let capacity = self.slots.as_ref().len();
        if self.unsealed() >= BATCH_MAX.min(capacity) {
            self.seal();
        }
        if self.kept() >= capacity {
            self.give_way();
        }
        let place = self.place(self.kept());
        if let Some(slot) = self.slots.as_mut().get_mut(place) {
            slot.bytes = bytes;
        }
        self.records = next;
        Ok(number)
    }

    /// Links what was appended since the last seal: at most [`BATCH_MAX`] records.
    pub fn seal(&mut self) -> Head {
        let end = self.records.saturating_sub(u64::from(planted::is(Plant::AuditSeal)));
        while self.sealed.records < end {
            let place = self.place(self.kept().saturating_sub(self.unsealed()));
            let Some(slot) = self.slots.as_mut().get_mut(place) else { break };
            self.sealed = self.sealed.followed_by(&slot.bytes);
            slot.link = self.sealed.link;
        }
        self.sealed
    }

    /// A record, sealed or not.
    ///
    /// # Errors
    /// [`ReadError`], when it is not kept or was tampered with.
    pub fn read(&self, number: u64) -> Result<Record, ReadError> {
        Ok(Record::from_bytes(self.bytes(number)?)?)
    }

    /// The bytes of a record, to be stored elsewhere.
    ///
    /// # Errors
    /// [`ReadError::NotKept`].
    pub fn bytes(&self, number: u64) -> Result<&[u8; RECORD_BYTES], ReadError> {
        let (oldest, next) = (self.oldest(), self.next());
        let slot = (number < next).then_some(number).and_then(|number| self.slot(number));
        slot.map(|slot| &slot.bytes).ok_or(ReadError::NotKept { number, oldest, next })
    }

    /// Computes every link again, and compares with `kept`, an earlier head of this chain, or
    /// [`AuditLog::head`] if none was kept.
    ///
    /// # Errors
    /// [`Tampered`], the first thing that does not fit.
    pub fn verify(&self, kept: Head) -> Result<(), Tampered> {
        let mut head = self.base;
        let mut found = head == kept;
        while head.records < self.sealed.records {
            let number = head.records;
            let Some(slot) = self.slot(number) else { return Err(Tampered::Record { number }) };
            head = head.followed_by(&slot.bytes);
            let numbered =
                Record::from_bytes(&slot.bytes).is_ok_and(|record| record.number == number);
            if head.link != slot.link || !numbered {
                return Err(Tampered::Record { number });
            }
            found |= head == kept;
        }
        let records = kept.records;
        if head != self.sealed {
            return Err(Tampered::Head { records: self.sealed.records });
        }
        if !(self.base.records..=self.sealed.records).contains(&records) {
            return Err(Tampered::OutOfReach { records });
        }
        if found { Ok(()) } else { Err(Tampered::Head { records }) }
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let (base, sealed, next) = (self.base.records, self.sealed.records, self.records);
        let (capacity, start) = (self.slots.as_ref().len(), self.start);
        invariant!(base <= sealed && sealed <= next, "audit: {base}, {sealed}, {next} in disorder");
        invariant!(self.kept() <= capacity, "audit: {} of {capacity} kept", self.kept());
        invariant!(self.unsealed() <= BATCH_MAX, "audit: {} are unsealed", self.unsealed());
        invariant!(start < capacity, "audit: starts at {start} of {capacity}");
        Ok(())
    }

    /// How many records are kept.
    fn kept(&self) -> usize {
        usize::try_from(self.records.saturating_sub(self.base.records)).unwrap_or(usize::MAX)
    }

    fn unsealed(&self) -> usize {
        usize::try_from(self.records.saturating_sub(self.sealed.records)).unwrap_or(usize::MAX)
    }

    /// Where the record lies that comes `behind` places after the oldest; at most a whole ring.
    fn place(&self, behind: usize) -> usize {
        let to_end = self.slots.as_ref().len().saturating_sub(self.start);
        behind.checked_sub(to_end).unwrap_or_else(|| self.start.saturating_add(behind))
    }

    fn slot(&self, number: u64) -> Option<&AuditSlot> {
        let behind = number.checked_sub(self.base.records)?;
        let place = self.place(usize::try_from(behind).ok()?);
        self.slots.as_ref().get(place)
    }

    /// The oldest record, which is sealed, is kept no longer.
    fn give_way(&mut self) {
        let Some(oldest) = self.slots.as_ref().get(self.start) else { return };
        let records = self.base.records.saturating_add(1);
        self.base = Head { records, link: oldest.link };
        self.start = self.place(1);
    }
}

#[cfg(test)]
mod tests;
