//! The places of a channel: messages in the order of their sending, free places in between.
//!
//! Rules:
//! 1. Each place is free or holds a message. Free places form a list, messages another one, doubly
//!    linked: taking one out costs the same wherever it stands.
//! 2. The messages of one sender form a list too. It is only ever shortened at its front: a sender's
//!    oldest message leaves first, whether it is received or dropped.

use core::marker::PhantomData;

use super::Message;
use crate::epitaph::{Epitaph, invariant};

/// A place for one message in a channel's storage.
#[derive(Clone, Debug)]
pub struct Place<P>(State<P>);

#[derive(Clone, Debug)]
enum State<P> {
    Free { next: Option<u32> },
    Held(Entry<P>),
}

impl<P> Place<P> {
    /// A place without a message.
    pub const EMPTY: Self = Self(State::Free { next: None });
}

impl<P> Default for Place<P> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A message in its place.
#[derive(Clone, Debug)]
pub(super) struct Entry<P> {
    pub(super) message: Message<P>,
    /// Whose it is.
    pub(super) seat: u32,
    /// Whether it was sent without credit.
    pub(super) spilled: bool,
    before: Option<u32>,
    behind: Option<u32>,
    /// The next message of the same sender.
    own_behind: Option<u32>,
}

/// The ends of one sender's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Own(Option<(u32, u32)>);

impl Own {
    pub(super) const EMPTY: Self = Self(None);

    pub(super) const fn is_empty(self) -> bool {
        self.0.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Queue<P, S> {
    places: S,
    free: Option<u32>,
    first: Option<u32>,
    last: Option<u32>,
    len: usize,
    messages: PhantomData<P>,
}

impl<P, S: AsRef<[Place<P>]> + AsMut<[Place<P>]>> Queue<P, S> {
    pub(super) fn new(mut places: S) -> Self {
        let mut free = None;
        for (place, index) in places.as_mut().iter_mut().zip(0_u32..) {
            *place = Place(State::Free { next: free });
            free = Some(index);
        }
        Self { places, free, first: None, last: None, len: 0, messages: PhantomData }
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.as_ref().len()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a message at the end. Whether there was a place for it.
    pub(super) fn push(
        &mut self,
        own: &mut Own,
        seat: u32,
        spilled: bool,
        message: Message<P>,
    ) -> bool {
        let Some(index) = self.free else {
            return false;
        };
        let before = self.last;
        let entry = Entry { message, seat, spilled, before, behind: None, own_behind: None };
        let Some(place) = self.place_mut(index) else {
            return false;
        };
        let State::Free { next } = core::mem::replace(&mut place.0, State::Held(entry)) else {
            return false;
        };
        self.free = next;
        match before.and_then(|before| self.entry_mut(before)) {
            Some(entry) => entry.behind = Some(index),
            None => self.first = Some(index),
        }
        self.last = Some(index);
        if let Some(last) = own.0.and_then(|(_, last)| self.entry_mut(last)) {
            last.own_behind = Some(index);
        }
        own.0 = Some((own.0.map_or(index, |(first, _)| first), index));
        self.len = self.len.saturating_add(1);
        true
    }

    /// The oldest message.
    pub(super) fn first(&self) -> Option<&Entry<P>> {
        self.entry(self.first?)
    }

    /// Whose message is the oldest.
    pub(super) fn first_seat(&self) -> Option<u32> {
        Some(self.first()?.seat)
    }

    /// Takes a sender's oldest message, wherever it stands.
    pub(super) fn pop(&mut self, own: &mut Own) -> Option<Entry<P>> {
        let (index, own_last) = own.0?;
        let free = self.free;
        let place = self.place_mut(index)?;
        let entry = match core::mem::replace(&mut place.0, State::Free { next: free }) {
            State::Held(entry) => entry,
            free @ State::Free { .. } => {
                place.0 = free;
                return None;
            }
        };
        self.free = Some(index);
        match entry.before.and_then(|before| self.entry_mut(before)) {
            Some(before) => before.behind = entry.behind,
            None => self.first = entry.behind,
        }
        match entry.behind.and_then(|behind| self.entry_mut(behind)) {
            Some(behind) => behind.before = entry.before,
            None => self.last = entry.before,
        }
        own.0 = entry.own_behind.map(|first| (first, own_last));
        self.len = self.len.saturating_sub(1);
        Some(entry)
    }

    /// A sender's messages, the oldest first. Ends after as many as there are places.
    pub(super) fn of(&self, own: Own) -> impl Iterator<Item = &Entry<P>> {
        let mut at = own.0.map(|(first, _)| first);
        core::iter::from_fn(move || {
            let entry = self.entry(at?)?;
            at = entry.own_behind;
            Some(entry)
        })
        .take(self.capacity())
    }

    /// What holds between any two calls.
    pub(super) fn check_invariants(&self) -> Result<(), Epitaph> {
        let (mut at, mut before, mut held) = (self.first, None, 0_usize);
        while let Some(index) = at {
            let Some(entry) = self.entry(index) else {
                invariant!(false, "channel: free place {index} in the queue");
                break;
            };
            invariant!(entry.before == before, "channel: broken before {index}");
            held = held.saturating_add(1);
            invariant!(held <= self.len, "channel: circle at {index}");
            (before, at) = (at, entry.behind);
        }
        invariant!(before == self.last, "channel: wrong end");
        let (mut at, mut free, capacity) = (self.free, 0_usize, self.capacity());
        while let Some(index) = at {
            let place = self.places.as_ref().get(usize::try_from(index).unwrap_or(usize::MAX));
            let Some(Place(State::Free { next })) = place else {
                invariant!(false, "channel: place {index} is not free");
                break;
            };
            free = free.saturating_add(1);
            invariant!(free <= capacity, "channel: circle of free places");
            at = *next;
        }
        let len = self.len;
        let all = held == len && held.saturating_add(free) == capacity;
        invariant!(all, "channel: {held} of {len} held, {free} of {capacity} free");
        Ok(())
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<P>> {
        self.places.as_mut().get_mut(usize::try_from(index).ok()?)
    }

    fn entry(&self, index: u32) -> Option<&Entry<P>> {
        match &self.places.as_ref().get(usize::try_from(index).ok()?)?.0 {
            State::Held(entry) => Some(entry),
            State::Free { .. } => None,
        }
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry<P>> {
        match &mut self.place_mut(index)?.0 {
            State::Held(entry) => Some(entry),
            State::Free { .. } => None,
        }
    }
}
