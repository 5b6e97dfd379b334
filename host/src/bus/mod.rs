//! The bus that threads and tasks share: everybody may publish, everybody who subscribed receives.
//!
//! What is kept, delivered, missed and counted are the core's rules ([`duende_core::bus`]). This module
//! adds the lock, the waiting and the waking, and no rule of its own about events.
//!
//! Rules:
//! 1. Publishing takes the lock for as long as it takes to put one event into the ring. It waits for no
//!    subscriber. Who waits is woken after the lock is given back, in the order in which they came.
//! 2. A subscriber takes up to [`BATCH_MAX`] events each time that it takes the lock, and gives them out
//!    one by one. What it has taken can't be overwritten any more and counts as delivered, unless the
//!    subscriber is dropped before it has given them out: then they count as dropped.
//! 3. Who looks for an event and finds none is entered as waiting under the same lock under which it
//!    looked, so no event and no closing can come in between unseen.
//! 4. A bus is closed by [`Bus::close`], or when its last [`Bus`] is dropped. Subscribers still receive
//!    what waits for them, then [`RecvError::Closed`].
//!
//! `tests/loom` checks rules 1 to 4 in every interleaving of a few threads.
//!
//! The lock is std's. With 8 receivers as tasks std's, `parking_lot`'s and a spin lock took 121 to 207 ns
//! an event, none of them beyond the noise of the others, and a spin lock waits for a holder that does
//! not run. What counts with threads is sleeping: one that finds nothing lets others run a few times
//! before it sleeps, and with that an event took 110 ns in place of 600 and more.
//!
//! ```
//! use duende::bus::{Bus, RecvError};
//!
//! let bus = Bus::new();
//! assert_eq!(bus.publish("nobody hears it"), 0);
//! let mut log = bus.subscribe()?;
//! assert_eq!(bus.publish("service crashed"), 1);
//! drop(bus);
//! assert_eq!(log.recv_blocking(), Ok("service crashed"));
//! assert_eq!(log.recv_blocking(), Err(RecvError::Closed));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocking;
mod shared;
mod subscriber;
mod sync;
mod waiters;

use std::fmt;

use duende_core::bus::CAPACITY_DEFAULT;
#[doc(inline)]
pub use duende_core::bus::{Counters, Full, KernelEvent, NoCapacity, SubscriberView};

use shared::Shared;
pub use subscriber::{RecvError, RecvTimeoutError, Subscriber, TryRecvError};
use sync::Arc;

/// Most events that a subscriber takes at once.
pub const BATCH_MAX: usize = 32;

/// How many can subscribe, unless it is said otherwise.
pub const SUBSCRIBERS_DEFAULT: usize = 256;

/// The publishing side of a bus; the other side is [`Subscriber`]. Clones publish on the same bus.
///
/// Events are cloned for each subscriber and dropped when they are overwritten, both under the lock: an
/// event with much to it is better published in an `Arc`.
pub struct Bus<M = KernelEvent> {
    publishers: Arc<Publishers<M>>,
}

/// Closes the bus when nobody is left who could publish.
struct Publishers<M>(Arc<Shared<M>>);

impl<M> Bus<M> {
    /// A bus that keeps [`CAPACITY_DEFAULT`] events for up to [`SUBSCRIBERS_DEFAULT`] subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Shared::new(CAPACITY_DEFAULT, SUBSCRIBERS_DEFAULT))
    }

    /// A bus that keeps so many events for up to so many subscribers. Both take their memory at once.
    ///
    /// # Errors
    /// [`NoCapacity`], if it is to keep no event.
    pub fn with_capacity(events: usize, subscribers: usize) -> Result<Self, NoCapacity> {
        if events == 0 {
            return Err(NoCapacity);
        }
        Ok(Self::of(Shared::new(events, subscribers)))
    }

    fn of(shared: Shared<M>) -> Self {
        Self { publishers: Arc::new(Publishers(Arc::new(shared))) }
    }

    /// Tells an event to all who listen, and returns how many they are. An event that is published to
    /// nobody, as on a closed bus, counts and is not kept.
    pub fn publish(&self, event: M) -> usize {
        self.shared().publish(event)
    }

    /// Adds a subscriber. It receives what is published from here on, until it is dropped.
    ///
    /// # Errors
    /// [`Full`], when there are as many as there can be.
    pub fn subscribe(&self) -> Result<Subscriber<M>, Full> {
        Subscriber::new(&self.publishers.0)
    }

    /// Says that no event follows.
    pub fn close(&self) {
        self.shared().close();
    }

    /// How many listen.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.shared().subscribers()
    }

    /// What was counted so far. Looks at every seat once, under the lock.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared().counters()
    }

    fn shared(&self) -> &Shared<M> {
        &self.publishers.0
    }
}

impl<M> Default for Bus<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Bus<M> {
    fn clone(&self) -> Self {
        Self { publishers: Arc::clone(&self.publishers) }
    }
}

impl<M> fmt::Debug for Bus<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("subscribers", &self.subscribers()).finish_non_exhaustive()
    }
}

impl<M> Drop for Publishers<M> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(not(duende_loom))]
#[cfg(test)]
mod tests;
