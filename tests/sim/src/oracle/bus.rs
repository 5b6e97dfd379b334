//! Of the bus: an endless list of what was published, and where each subscriber stands in it.

use duende_core::bus::Received;
use duende_core::time::Instant;
use duende_world::{Input, LISTENERS, News, Seen, Step};

use super::Oracle;
use crate::failure::{Failure, hold};

/// How many events the world's bus keeps.
const CAPACITY: usize = 8;

/// Everything that was published, and who has read how far.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    published: Vec<News>,
    /// Who sits in each pocket, and where the next event is that it reads.
    pockets: [Option<Listener>; LISTENERS],
    pocket: usize,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    next: usize,
    left: bool,
}

impl Listeners {
    /// How many events those in the pockets have not read.
    pub(super) fn waiting(&self) -> usize {
        let end = self.published.len();
        let seated = self.pockets.iter().flatten().filter(|listener| !listener.left);
        seated.map(|listener| end - listener.next).sum()
    }

    fn present(&self) -> usize {
        let seated = self.pockets.iter().flatten().filter(|listener| !listener.left);
        seated.count()
    }
}

impl Oracle for Listeners {
    fn step(&mut self, _: Instant, step: &Step) {
        if let Input::Subscribe { into: pocket }
        | Input::Unsubscribe { from: pocket }
        | Input::Listen { from: pocket } = step.input
        {
            self.pocket = usize::from(pocket);
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        let (present, end) = (self.present(), self.published.len());
        match seen {
            Seen::Published { news, receivers } => {
                hold!(
                    *receivers == present,
                    "bus: publishing tells how many listen",
                    "{receivers} for {present}"
                );
                if present > 0 {
                    self.published.push(*news);
                }
            }
            Seen::Subscribed(subscribed) => {
                hold!(
                    subscribed.is_ok() == (present < LISTENERS),
                    "bus: a seat is given while one is free",
                    "{subscribed:?} with {present}"
                );
                if subscribed.is_ok()
                    && let Some(pocket) = self.pockets.get_mut(self.pocket)
                {
                    *pocket = Some(Listener { next: end, left: false });
                }
            }
            Seen::Unsubscribed(unsubscribed) => {
                let listener = self.pockets.get_mut(self.pocket).and_then(Option::as_mut);
                let present = listener.as_ref().is_some_and(|listener| !listener.left);
                hold!(
                    unsubscribed.is_ok() == present,
                    "bus: who left is not known any more",
                    "{unsubscribed:?}"
                );
                if let Some(listener) = listener {
                    listener.left = true;
                }
            }
            Seen::Heard { from, heard } => {
                let pocket = self.pockets.get_mut(usize::from(*from)).and_then(Option::as_mut);
                let Some(listener) = pocket.filter(|listener| !listener.left) else {
                    hold!(heard.is_err(), "bus: who left hears nothing", "{heard:?}");
                    return Ok(());
                };
                let behind = end - listener.next;
                let expected = if behind > CAPACITY {
                    listener.next += behind - CAPACITY;
                    Some(Received::Lagged { events: u64::try_from(behind - CAPACITY).unwrap_or(0) })
                } else {
                    let event = self.published.get(listener.next);
                    listener.next += usize::from(event.is_some());
                    event.map(Received::Event)
                };
                hold!(
                    *heard == Ok(expected),
                    "bus: an event is delivered or counted",
                    "{heard:?} for {expected:?}"
                );
            }
            _ => {}
        }
        Ok(())
    }
}
