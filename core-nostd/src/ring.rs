//! A ring that keeps the last items and forgets the oldest, in storage that the caller gives.
//!
//! Rules:
//! 1. What is pushed is kept. If every place is taken, the oldest item gives way and is handed back,
//!    so that the owner can count what is lost.
//! 2. A ring without a place keeps nothing: each item is handed back at once.
//! 3. Items are walked from the oldest to the newest, or the other way round.

use core::marker::PhantomData;
use core::mem;

use crate::epitaph::{Epitaph, invariant};

/// The last items that were pushed.
#[derive(Clone, Debug)]
pub(crate) struct Ring<T, S> {
    slots: S,
    /// Where the next item goes; once the ring is full, also where the oldest one lies.
    next: usize,
    /// How many items are kept.
    len: usize,
    item: PhantomData<fn(T) -> T>,
}

impl<T, S: AsRef<[T]> + AsMut<[T]>> Ring<T, S> {
    /// An empty ring. What lies in `slots` is filling.
    pub(crate) const fn new(slots: S) -> Self {
        Self { slots, next: 0, len: 0, item: PhantomData }
    }

    /// How many items are kept.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many items can be kept.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.as_ref().len()
    }

    /// Keeps an item. What was lost for it: the oldest one, or itself if there is no place at all.
    pub(crate) fn push(&mut self, item: T) -> Option<T> {
        let capacity = self.capacity();
        let Some(slot) = self.slots.as_mut().get_mut(self.next) else { return Some(item) };
        let displaced = mem::replace(slot, item);
        self.next = match self.next.saturating_add(1) {
            end if end >= capacity => 0,
            next => next,
        };
        if self.len >= capacity {
            return Some(displaced);
        }
        self.len = self.len.saturating_add(1);
        None
    }

    /// The item before which `nth` newer ones were pushed; `None` if it is not kept.
    pub(crate) fn newest(&self, nth: usize) -> Option<&T> {
        if nth >= self.len {
            return None;
        }
        let back = nth.saturating_add(1);
        let place = match self.next.checked_sub(back) {
            Some(place) => place,
            None => self.next.saturating_add(self.capacity()).checked_sub(back)?,
        };
        self.slots.as_ref().get(place)
    }

    /// Forgets every item.
    pub(crate) const fn clear(&mut self) {
        (self.next, self.len) = (0, 0);
    }

    /// Every item, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        let slots = self.slots.as_ref();
        let (newer, older) = slots.split_at_checked(self.next).unwrap_or((slots, &[]));
        let older = if self.len < slots.len() { &[] } else { older };
        older.iter().chain(newer)
    }

    /// Every place, filled or not, in the order of storage: for who does not trust the cursors.
    pub(crate) fn slots(&self) -> &[T] {
        self.slots.as_ref()
    }

    /// What holds between any two calls.
    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        let (next, len, capacity) = (self.next, self.len, self.capacity());
        invariant!(len <= capacity, "ring keeps {len} of {capacity}");
        invariant!(next < capacity.max(1), "ring at {next} of {capacity}");
        invariant!(len == capacity || len == next, "ring keeps {len}, is at {next}");
        Ok(())
    }
}

#[cfg(test)]
impl<T, S> Ring<T, S> {
    /// Spoils the cursors, as a stray write would.
    pub(crate) fn spoil(&mut self, next: usize, len: usize) {
        (self.next, self.len) = (next, len);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_last_items_in_order(
            capacity in 0..6_usize,
            items in proptest::collection::vec(any::<u16>(), 0..30),
        ) {
            let mut ring = Ring::new(vec![0; capacity]);
            let mut naive = VecDeque::new();
            for item in items {
                naive.push_back(item);
                let lost = if naive.len() > capacity { naive.pop_front() } else { None };
                prop_assert_eq!(ring.push(item), lost);
                prop_assert_eq!(ring.check_invariants(), Ok(()));
                prop_assert_eq!(ring.len(), naive.len());
                prop_assert!(ring.iter().eq(&naive));
                prop_assert!(ring.iter().rev().eq(naive.iter().rev()));
                let newest = (0..=capacity).map_while(|nth| ring.newest(nth));
                prop_assert!(newest.eq(naive.iter().rev()));
            }
        }
    }

    #[test]
    fn spoiled_cursors_are_noticed_and_walked_without_harm() {
        for (next, len) in [(4, 0), (1, 2), (usize::MAX, 4), (0, 5)] {
            let mut ring = Ring::<u8, _>::new([1, 2, 3, 4]);
            ring.spoil(next, len);
            assert!(ring.check_invariants().is_err(), "{next} {len}");
            assert!(ring.iter().collect::<Vec<_>>().len() <= 4);
            assert!((0..9).filter_map(|nth| ring.newest(nth)).count() <= 9);
            ring.push(5);
        }
    }
}
