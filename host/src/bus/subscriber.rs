//! The receiving side.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use duende_core::bus::{Full, SubscriberId, SubscriberView};

use super::BATCH_MAX;
use super::shared::{Found, Shared};
use super::sync::{Arc, poll_proceed};

/// Why there is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The subscriber was too slow and has missed some. The next one is the oldest that is kept.
    #[error("{events} events were missed; the next one is the oldest that is kept")]
    Lagged {
        /// How many.
        events: u64,
    },
    /// No event follows.
    #[error("the bus is closed")]
    Closed,
}

/// Why there is no event now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// None was published that was not received.
    #[error("there is no event yet")]
    Empty,
    /// There won't be one, or some were missed.
    #[error(transparent)]
    Recv(#[from] RecvError),
}

/// Why there was no event in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// None was published.
    #[error("there was no event in time")]
    Timeout,
    /// There won't be one, or some were missed.
    #[error(transparent)]
    Recv(#[from] RecvError),
}

/// Receives every event that is published on a bus while it exists, in order, or is told how many it
/// has missed.
pub struct Subscriber<M> {
    shared: Arc<Shared<M>>,
    id: SubscriberId,
    /// Copies of events that were not given out yet.
    taken: VecDeque<M>,
}

impl<M> Subscriber<M> {
    pub(super) fn new(shared: &Arc<Shared<M>>) -> Result<Self, Full> {
        let id = shared.subscribe()?;
        let taken = VecDeque::with_capacity(BATCH_MAX);
        Ok(Self { shared: Arc::clone(shared), id, taken })
    }

    /// How it is doing.
    #[must_use]
    pub fn view(&self) -> SubscriberView {
        let mut view = self.shared.view(self.id);
        let taken = u64::try_from(self.taken.len()).unwrap_or(u64::MAX);
        view.waiting = view.waiting.saturating_add(taken);
        view
    }
}

impl<M: Clone> Subscriber<M> {
    /// The next event, when there is one.
    ///
    /// Whoever drops the future before it is ready misses nothing.
    ///
    /// # Errors
    /// [`RecvError`], when some were missed, or none will follow.
    pub async fn recv(&mut self) -> Result<M, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The next event; if there is none, the task is woken when there is.
    ///
    /// # Errors
    /// [`RecvError`], when some were missed, or none will follow.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<M, RecvError>> {
        // A task that always finds an event lets the others of its thread run too.
        let turn = ready!(poll_proceed(context));
        let next = match self.recv_or_wait(context.waker()) {
            Ok(event) => Ok(event),
            Err(TryRecvError::Recv(error)) => Err(error),
            Err(TryRecvError::Empty) => return Poll::Pending,
        };
        turn.made_progress();
        Poll::Ready(next)
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// [`TryRecvError`], when there is none, some were missed, or none will follow.
    pub fn try_recv(&mut self) -> Result<M, TryRecvError> {
        match self.taken.pop_front() {
            Some(event) => Ok(event),
            None => self.look(None),
        }
    }

    /// Looks for an event on the bus; with a waker, waits for it.
    fn look(&mut self, waker: Option<&Waker>) -> Result<M, TryRecvError> {
        match self.shared.take(self.id, &mut self.taken, waker) {
            Found::Events => self.taken.pop_front().ok_or(TryRecvError::Empty),
            Found::Lagged(events) => Err(RecvError::Lagged { events }.into()),
            Found::Nothing => Err(TryRecvError::Empty),
            Found::Closed => Err(RecvError::Closed.into()),
        }
    }

    /// How much there was to look for on the bus so far.
    pub(super) fn news(&self) -> u64 {
        self.shared.news()
    }

    /// The next event; if there is none, the waker is called when there is.
    pub(super) fn recv_or_wait(&mut self, waker: &Waker) -> Result<M, TryRecvError> {
        match self.taken.pop_front() {
            Some(event) => Ok(event),
            None => self.look(Some(waker)),
        }
    }
}

impl<M> Drop for Subscriber<M> {
    fn drop(&mut self) {
        self.shared.unsubscribe(self.id, self.taken.len());
    }
}

impl<M> fmt::Debug for Subscriber<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("id", &self.id).finish_non_exhaustive()
    }
}
