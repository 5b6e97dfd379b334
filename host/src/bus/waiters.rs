//! Who waits for the next event.
//!
//! Rules:
//! 1. A seat waits at most once, with the waker that it was told last. So there are never more entries
//!    than seats, and no call allocates.
//! 2. They are taken in the order in which they came.
//! 3. No waker is dropped here: whoever owns a task may do anything when it is dropped, also come back
//!    to the bus. Each is handed out and dropped after the lock is given back.

use std::collections::VecDeque;
use std::task::Waker;

/// Most wakers that are taken at once.
pub(super) const TAKEN_MAX: usize = 16;

/// Wakers that were taken, to be called without the lock.
#[derive(Debug)]
pub(super) struct Taken([Option<Waker>; TAKEN_MAX]);

impl Taken {
    pub(super) fn wake(self) {
        for waker in self.0.into_iter().flatten() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(super) struct Waiters {
    /// By seat.
    wakers: Box<[Option<Waker>]>,
    /// The seats that have one.
    queue: VecDeque<u32>,
}

impl Waiters {
    pub(super) fn new(seats: usize) -> Self {
        Self { wakers: vec![None; seats].into(), queue: VecDeque::with_capacity(seats) }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// A seat waits. Its waker of before, if there is one that is of no use any more.
    #[must_use = "it is dropped without the lock"]
    pub(super) fn wait(&mut self, seat: u32, waker: &Waker) -> Option<Waker> {
        let place = self.place(seat)?;
        match place {
            Some(before) if before.will_wake(waker) => None,
            Some(before) => Some(std::mem::replace(before, waker.clone())),
            None => {
                *place = Some(waker.clone());
                self.queue.push_back(seat);
                None
            }
        }
    }

    /// A seat waits no more. Its waker.
    #[must_use = "it is dropped without the lock"]
    pub(super) fn forget(&mut self, seat: u32) -> Option<Waker> {
        let waker = self.place(seat)?.take()?;
        self.queue.retain(|other| *other != seat);
        Some(waker)
    }

    /// Takes the first of those who wait, at most `count` and [`TAKEN_MAX`]. How many.
    pub(super) fn take(&mut self, count: usize) -> (usize, Taken) {
        let count = count.min(self.queue.len()).min(TAKEN_MAX);
        let mut taken = Taken([const { None }; TAKEN_MAX]);
        for (place, seat) in taken.0.iter_mut().zip(self.queue.drain(..count)) {
            *place = usize::try_from(seat)
                .ok()
                .and_then(|seat| self.wakers.get_mut(seat))
                .and_then(Option::take);
        }
        (count, taken)
    }

    fn place(&mut self, seat: u32) -> Option<&mut Option<Waker>> {
        self.wakers.get_mut(usize::try_from(seat).ok()?)
    }
}
