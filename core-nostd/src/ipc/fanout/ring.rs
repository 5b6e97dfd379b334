//! The messages of a fan-out, oldest first, each kept once for all who have not taken it yet.

use core::marker::PhantomData;

use super::widen;
use crate::epitaph::{Epitaph, invariant};
use crate::ipc::Message;
use crate::ipc::excess::Spilled;

/// A place for one message in a fan-out's storage.
#[derive(Clone, Debug)]
pub struct FanoutPlace<P>(Option<Kept<P>>);

impl<P> FanoutPlace<P> {
    /// A place without a message.
    pub const EMPTY: Self = Self(None);
}

impl<P> Default for FanoutPlace<P> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A message in its place.
#[derive(Clone, Debug)]
pub(super) struct Kept<P> {
    pub(super) message: Message<P>,
    /// How many have not taken it yet. Never zero.
    pub(super) readers: usize,
    /// Whether it was sent without credit.
    pub(super) spilled: bool,
}

/// The places, as a ring.
#[derive(Debug)]
pub(super) struct Ring<P, S> {
    places: S,
    oldest_index: usize,
    len: usize,
    spilled: Spilled,
    messages: PhantomData<P>,
}

impl<P, S> Ring<P, S>
where
    P: AsRef<[u8]>,
    S: AsRef<[FanoutPlace<P>]> + AsMut<[FanoutPlace<P>]>,
{
    pub(super) fn new(mut places: S) -> Self {
        places.as_mut().fill_with(|| FanoutPlace::EMPTY);
        let spilled = Spilled::default();
        Self { places, oldest_index: 0, len: 0, spilled, messages: PhantomData }
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.as_ref().len()
    }

    pub(super) const fn spilled(&self) -> Spilled {
        self.spilled
    }

    /// How many of the messages hold a credit.
    pub(super) const fn on_credit(&self) -> usize {
        self.len.saturating_sub(self.spilled.messages)
    }

    /// Puts a message at the end. Its owner has seen to it that there is a place.
    pub(super) fn push(&mut self, kept: Kept<P>) {
        let end = self.index(self.len);
        let Some(place) = self.places.as_mut().get_mut(end) else { return };
        if kept.spilled {
            self.spilled.add(kept.message.length_bytes());
        }
        place.0 = Some(kept);
        self.len = self.len.saturating_add(1);
    }

    /// Takes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Kept<P>> {
        let kept = self.places.as_mut().get_mut(self.oldest_index)?.0.take()?;
        self.oldest_index = self.index(1);
        self.len = self.len.saturating_sub(1);
        if kept.spilled {
            self.spilled.take(kept.message.length_bytes());
        }
        Some(kept)
    }

    /// The message that entered as the `ago`-th before the next: 1 is the latest.
    pub(super) fn get_mut(&mut self, ago: usize) -> Option<&mut Kept<P>> {
        let offset = self.len.checked_sub(ago)?;
        if ago == 0 {
            return None;
        }
        let index = self.index(offset);
        self.places.as_mut().get_mut(index)?.0.as_mut()
    }

    /// What holds between any two calls. How many copies wait to be taken.
    pub(super) fn check_invariants(&self) -> Result<u64, Epitaph> {
        let (mut held, mut copies, mut spilled) = (0_usize, 0_u64, Spilled::default());
        for kept in self.places.as_ref().iter().filter_map(|place| place.0.as_ref()) {
            held = held.saturating_add(1);
            invariant!(kept.readers > 0, "fan-out keeps what nobody waits for");
            copies = copies.saturating_add(widen(kept.readers));
            if kept.spilled {
                spilled.add(kept.message.length_bytes());
            }
        }
        let (len, capacity) = (self.len, self.capacity());
        invariant!(held == len, "fan-out: {held} of {capacity} places held, {len} counted");
        invariant!(spilled == self.spilled, "fan-out: what is spilled is not as counted");
        Ok(copies)
    }

    /// Where the message lies that follows the oldest by this much.
    fn index(&self, offset: usize) -> usize {
        let to_end = self.capacity().saturating_sub(self.oldest_index);
        if offset < to_end {
            self.oldest_index.saturating_add(offset)
        } else {
            offset.saturating_sub(to_end)
        }
    }
}

impl<P, S> Ring<P, S> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}
