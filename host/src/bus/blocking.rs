//! Receiving on a thread that runs no tasks.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::{RecvError, RecvTimeoutError, Subscriber, TryRecvError};

/// How often a thread that finds nothing lets others run before it sleeps. To wake a thread costs who
/// publishes more than the event does.
const YIELDS: u32 = 8;

/// Ends the `park` of a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static UNPARK: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

impl<M: Clone> Subscriber<M> {
    /// The next event; the thread sleeps until there is one.
    ///
    /// # Errors
    /// [`RecvError`], when some were missed, or none will follow.
    pub fn recv_blocking(&mut self) -> Result<M, RecvError> {
        loop {
            match self.recv_soon() {
                Ok(event) => return Ok(event),
                Err(TryRecvError::Recv(error)) => return Err(error),
                // A wake-up that comes before this ends it at once; one for nothing looks again.
                Err(TryRecvError::Empty) => thread::park(),
            }
        }
    }

    /// The next event, if there is one within a time.
    ///
    /// # Errors
    /// [`RecvTimeoutError`], when there was none, some were missed, or none will follow.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<M, RecvTimeoutError> {
        let began = Instant::now();
        loop {
            match self.recv_soon() {
                Ok(event) => return Ok(event),
                Err(TryRecvError::Recv(error)) => return Err(error.into()),
                Err(TryRecvError::Empty) => {}
            }
            let Some(left) = timeout.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
            else {
                return Err(RecvTimeoutError::Timeout);
            };
            thread::park_timeout(left);
        }
    }

    /// The next event, if there is one now or after others have run for a moment. If not, the thread is
    /// entered as waiting.
    fn recv_soon(&mut self) -> Result<M, TryRecvError> {
        let seen = self.news();
        match self.try_recv() {
            Err(TryRecvError::Empty) => {}
            found => return found,
        }
        for _ in 0..YIELDS {
            thread::yield_now();
            if self.news() != seen {
                break;
            }
        }
        UNPARK.with(|waker| self.recv_or_wait(waker))
    }
}
