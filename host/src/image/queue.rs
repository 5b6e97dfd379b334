//! Whose turn it is to be compiled: a machine, without threads.
//!
//! Rules:
//! 1. At most `at_once` have a turn, and of equal components at most one: the next one finds what that made.
//! 2. The smallest goes first, as it holds up the others least. One that was overtaken [`OVERTAKEN_MAX`]
//!    times goes before all that came later (`tests::nobody_waits_for_ever`).

/// How often one is overtaken, at most.
const OVERTAKEN_MAX: u32 = 16;

/// One that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(u64);

/// See the module. `K` says which are equal.
#[derive(Debug)]
pub(super) struct Queue<K> {
    at_once: usize,
    running: Vec<(Ticket, K)>,
    /// In the order in which they came.
    waiting: Vec<Waiting<K>>,
    next: u64,
}

#[derive(Debug)]
struct Waiting<K> {
    ticket: Ticket,
    key: K,
    bytes: u64,
    overtaken: u32,
}

impl<K: PartialEq> Queue<K> {
    pub(super) const fn new(at_once: usize) -> Self {
        Self { at_once, running: Vec::new(), waiting: Vec::new(), next: 0 }
    }

    /// One wants a turn.
    pub(super) fn ask(&mut self, key: K, bytes: u64) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push(Waiting { ticket, key, bytes, overtaken: 0 });
        ticket
    }

    /// Whether its turn has come; then it has it, until it [leaves](Self::leave).
    pub(super) fn has_turn(&mut self, ticket: Ticket) -> bool {
        while let Some(index) = self.following() {
            let Waiting { ticket, key, .. } = self.waiting.remove(index);
            for other in self.waiting.iter_mut().take(index) {
                other.overtaken += 1;
            }
            self.running.push((ticket, key));
        }
        self.running.iter().any(|(running, _)| *running == ticket)
    }

    /// Which of those that wait is next, if there is room.
    fn following(&self) -> Option<usize> {
        if self.running.len() >= self.at_once {
            return None;
        }
        let may = |waiting: &Waiting<K>| self.running.iter().all(|(_, key)| *key != waiting.key);
        let candidates = || self.waiting.iter().enumerate().filter(|(_, waiting)| may(waiting));
        candidates()
            .find(|(_, waiting)| waiting.overtaken >= OVERTAKEN_MAX)
            .or_else(|| candidates().min_by_key(|(_, waiting)| waiting.bytes))
            .map(|(index, _)| index)
    }

    /// It is done, or wants nothing any more.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.running.retain(|(running, _)| *running != ticket);
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// How many have a turn or are before it, as things stand.
    pub(super) fn ahead_of(&self, ticket: Ticket) -> usize {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) else {
            return 0;
        };
        let bytes = self.waiting.get(place).map_or(0, |waiting| waiting.bytes);
        let smaller = self
            .waiting
            .iter()
            .enumerate()
            .filter(|(index, waiting)| (waiting.bytes, *index) < (bytes, place));
        self.running.len() + smaller.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_small_ones_go_first() {
        let mut queue = Queue::new(1);
        let large = queue.ask("large", 1_000);
        assert!(queue.has_turn(large));
        let [middle, small] =
            [("middle", 100), ("small", 10)].map(|(key, bytes)| queue.ask(key, bytes));
        assert!(!queue.has_turn(middle) && !queue.has_turn(small));
        assert_eq!((queue.ahead_of(middle), queue.ahead_of(small)), (2, 1));
        queue.leave(large);
        assert!(queue.has_turn(small) && !queue.has_turn(middle));
    }

    proptest! {
        /// A large one, and a stream of small ones that never ends.
        #[test]
        fn nobody_waits_for_ever(at_once in 1_usize..4, sizes in prop::collection::vec(1_u64..50, 80)) {
            let mut queue = Queue::new(at_once);
            let mut turns = Vec::new();
            let first = queue.ask(u64::MAX, 0);
            prop_assert!(queue.has_turn(first));
            let large = queue.ask(u64::MAX - 1, 1_000);
            let mut all: Vec<Ticket> = vec![first];
            for (key, bytes) in (0..).zip(sizes) {
                all.push(queue.ask(key, bytes));
                if queue.has_turn(large) {
                    return Ok(());
                }
                // Whoever has a turn is done with it.
                let over: Vec<Ticket> =
                    all.iter().copied().filter(|ticket| queue.has_turn(*ticket)).collect();
                prop_assert!(over.len() <= at_once);
                for ticket in over {
                    queue.leave(ticket);
                    turns.push(ticket);
                }
            }
            prop_assert!(false, "overtaken by {} others", turns.len());
        }

        #[test]
        fn equal_ones_take_turns(keys in prop::collection::vec(0_u8..3, 1..20)) {
            let mut queue = Queue::new(8);
            let tickets: Vec<_> = keys.iter().map(|key| (queue.ask(*key, 1), *key)).collect();
            let mut left = tickets.clone();
            while !left.is_empty() {
                let now: Vec<_> = left.iter().copied().filter(|(ticket, _)| queue.has_turn(*ticket)).collect();
                prop_assert!(!now.is_empty());
                let mut running: Vec<_> = now.iter().map(|(_, key)| *key).collect();
                running.sort_unstable();
                running.dedup();
                prop_assert_eq!(running.len(), now.len());
                for (ticket, _) in &now {
                    queue.leave(*ticket);
                }
                left.retain(|(ticket, _)| now.iter().all(|(done, _)| done != ticket));
            }
        }
    }
}
