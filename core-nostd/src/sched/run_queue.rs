//! The run queue: who runs next.
//!
//! Rules:
//! 1. There are eight levels; 0 is the most urgent. A task of a more urgent level goes first.
//! 2. Within a level tasks take turns: first in, first out, and what has run goes to the end.
//! 3. Putting in, taking out and picking cost the same, whatever the number of tasks: each level is
//!    a list whose links lie in the tasks' own places, and a bitmap says which levels have any.

use super::{LEVELS, Level};
use crate::epitaph::{Epitaph, invariant};

/// A task's place in a run queue's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    queued: Option<Queued>,
}

/// The neighbours of a task that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queued {
    level: Level,
    before: Option<u32>,
    behind: Option<u32>,
}

/// The ends of one level's list.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

/// Why a task was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The queue's storage has no place for a task of this number.
    #[error("task {task} has no place in a run queue for {capacity} tasks")]
    NoSuchTask {
        /// The task.
        task: u32,
        /// How many places there are.
        capacity: usize,
    },
    /// It waits already: a task is in the queue at most once.
    #[error("task {task} waits already")]
    AlreadyQueued {
        /// The task.
        task: u32,
    },
}

/// The tasks that are ready to run. A task is a number, and the index of its [`Link`].
///
/// ```
/// use duende_core::sched::{Level, Link, RunQueue};
///
/// let mut queue = RunQueue::new([Link::default(); 16]);
/// queue.push(7, Level::LEAST_URGENT)?;
/// queue.push(3, Level::default())?;
/// queue.push(9, Level::default())?;
/// assert_eq!(queue.pop(), Some((3, Level::default())));
/// queue.push(3, Level::default())?;
/// assert_eq!(queue.pop(), Some((9, Level::default())));
/// # Ok::<(), duende_core::sched::PushError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunQueue<S> {
    links: S,
    levels: [Option<Ends>; LEVELS as usize],
    /// Bit n is set if level n has a task.
    occupied: u8,
    len: usize,
}

impl<S: AsRef<[Link]> + AsMut<[Link]>> RunQueue<S> {
    /// An empty queue for the tasks 0 up to the length of `storage`.
    pub fn new(mut storage: S) -> Self {
        storage.as_mut().fill(Link::default());
        Self { links: storage, levels: [None; LEVELS as usize], occupied: 0, len: 0 }
    }

    /// How many tasks wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the task waits.
    #[must_use]
    pub fn contains(&self, task: u32) -> bool {
        self.queued(task).is_some()
    }

    /// The most urgent level that has a task.
    #[must_use]
    pub fn most_urgent(&self) -> Option<Level> {
        // With no bit set this is 8, which is no level.
        let number = self.occupied.trailing_zeros();
        u8::try_from(number).ok().and_then(Level::new)
    }

    /// Puts a task at the end of a level.
    ///
    /// # Errors
    /// [`PushError`], when it has no place or waits already.
    pub fn push(&mut self, task: u32, level: Level) -> Result<(), PushError> {
        let capacity = self.links.as_ref().len();
        let before = self.ends(level).map(|ends| ends.last);
        let Some(link) = self.link_mut(task) else {
            return Err(PushError::NoSuchTask { task, capacity });
        };
        if link.queued.is_some() {
            return Err(PushError::AlreadyQueued { task });
        }
        link.queued = Some(Queued { level, before, behind: None });
        if let Some(queued) = before.and_then(|before| self.queued_mut(before)) {
            queued.behind = Some(task);
        }
        let first = self.ends(level).map_or(task, |ends| ends.first);
        self.set_ends(level, Some(Ends { first, last: task }));
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Takes the first task of the most urgent level.
    pub fn pop(&mut self) -> Option<(u32, Level)> {
        let level = self.most_urgent()?;
        let task = self.ends(level)?.first;
        self.remove(task).then_some((task, level))
    }

    /// Takes a task out, wherever it stands. Whether it waited.
    pub fn remove(&mut self, task: u32) -> bool {
        let Some(Queued { level, before, behind }) =
            self.link_mut(task).and_then(|link| link.queued.take())
        else {
            return false;
        };
        if let Some(queued) = before.and_then(|before| self.queued_mut(before)) {
            queued.behind = behind;
        }
        if let Some(queued) = behind.and_then(|behind| self.queued_mut(behind)) {
            queued.before = before;
        }
        let ends = self.ends(level).and_then(|ends| {
            Some(match (before, behind) {
                (Some(_), Some(_)) => ends,
                (Some(last), None) => Ends { last, ..ends },
                (None, Some(first)) => Ends { first, ..ends },
                (None, None) => return None,
            })
        });
        self.set_ends(level, ends);
        self.len = self.len.saturating_sub(1);
        true
    }

    /// What holds between any two calls. Follows every list: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let mut found = 0_usize;
        for level in (0..LEVELS).filter_map(Level::new) {
            let number = level.number();
            let ends = self.ends(level);
            let marked = self.occupied & (1 << number) != 0;
            invariant!(marked == ends.is_some(), "level {number}: bitmap is wrong");
            let mut at = ends.map(|ends| ends.first);
            let mut before = None;
            while let Some(task) = at {
                let Some(queued) = self.queued(task) else {
                    invariant!(false, "level {number}: task {task} does not wait");
                    break;
                };
                invariant!(queued.level == level, "level {number}: task {task} of another");
                invariant!(queued.before == before, "level {number}: broken before {task}");
                found = found.saturating_add(1);
                invariant!(found <= self.len, "level {number}: circle at {task}");
                before = at;
                at = queued.behind;
            }
            let last = ends.map(|ends| ends.last);
            invariant!(before == last, "level {number}: wrong end");
        }
        let waiting = self.links.as_ref().iter().filter(|link| link.queued.is_some());
        let (waiting, len) = (waiting.count(), self.len);
        invariant!(found == len && waiting == len, "{found} of {waiting} listed, {len} counted");
        Ok(())
    }

    fn ends(&self, level: Level) -> Option<Ends> {
        self.levels.get(level.index()).copied().flatten()
    }

    /// The one place where the lists' ends and the bitmap change.
    fn set_ends(&mut self, level: Level, ends: Option<Ends>) {
        let bit = level.bit();
        if ends.is_some() {
            self.occupied |= bit;
        } else {
            self.occupied &= !bit;
        }
        if let Some(place) = self.levels.get_mut(level.index()) {
            *place = ends;
        }
    }

    fn link_mut(&mut self, task: u32) -> Option<&mut Link> {
        self.links.as_mut().get_mut(usize::try_from(task).ok()?)
    }

    fn queued(&self, task: u32) -> Option<Queued> {
        self.links.as_ref().get(usize::try_from(task).ok()?)?.queued
    }

    fn queued_mut(&mut self, task: u32) -> Option<&mut Queued> {
        self.link_mut(task)?.queued.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const TASKS: u32 = 12;

    #[derive(Clone, Debug)]
    enum Op {
        Push(u32, Level),
        Pop,
        Remove(u32),
    }

    fn ops() -> impl Strategy<Value = Op> {
        // Some tasks beyond the storage.
        let task = || 0..TASKS + 2;
        let level = (0..LEVELS).prop_map(|number| Level::new(number).unwrap());
        prop_oneof![
            4 => (task(), level).prop_map(|(task, level)| Op::Push(task, level)),
            3 => Just(Op::Pop),
            1 => task().prop_map(Op::Remove),
        ]
    }

    proptest! {
        #[test]
        fn picks_like_eight_plain_queues(history in proptest::collection::vec(ops(), 0..300)) {
            let mut queue = RunQueue::new(vec![Link::default(); TASKS as usize]);
            let mut model: [VecDeque<u32>; 8] = Default::default();
            for op in history {
                match op {
                    Op::Push(task, level) => {
                        let expected = if task >= TASKS {
                            Err(PushError::NoSuchTask { task, capacity: TASKS as usize })
                        } else if model.iter().any(|tasks| tasks.contains(&task)) {
                            Err(PushError::AlreadyQueued { task })
                        } else {
                            model[usize::from(level.number())].push_back(task);
                            Ok(())
                        };
                        prop_assert_eq!(queue.push(task, level), expected);
                    }
                    Op::Pop => {
                        let mut levels = model.iter_mut().zip(0..);
                        let expected = levels.find_map(|(tasks, number)| {
                            Some((tasks.pop_front()?, Level::new(number)?))
                        });
                        prop_assert_eq!(queue.pop(), expected);
                    }
                    Op::Remove(task) => {
                        let before: usize = model.iter().map(VecDeque::len).sum();
                        for tasks in &mut model {
                            tasks.retain(|other| *other != task);
                        }
                        let after: usize = model.iter().map(VecDeque::len).sum();
                        prop_assert_eq!(queue.remove(task), after < before);
                    }
                }
                prop_assert_eq!(queue.check_invariants(), Ok(()));
                prop_assert_eq!(queue.len(), model.iter().map(VecDeque::len).sum::<usize>());
                let first = model.iter().position(|tasks| !tasks.is_empty());
                let number = queue.most_urgent().map(|level| usize::from(level.number()));
                prop_assert_eq!(number, first);
                for task in 0..TASKS + 2 {
                    let waits = model.iter().any(|tasks| tasks.contains(&task));
                    prop_assert_eq!(queue.contains(task), waits);
                }
            }
        }
    }

    #[test]
    fn a_queue_without_places_is_empty() {
        let mut queue = RunQueue::new([]);
        let error = PushError::NoSuchTask { task: 0, capacity: 0 };
        assert_eq!(queue.push(0, Level::default()), Err(error));
        assert_eq!((queue.pop(), queue.is_empty()), (None, true));
    }
}
