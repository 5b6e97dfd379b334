//! Receiving on a thread that runs no tasks.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::{RecvError, RecvTimeoutError, Subscriber, TryRecvError};

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
            match UNPARK.with(|waker| self.recv_or_wait(waker)) {
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
            match UNPARK.with(|waker| self.recv_or_wait(waker)) {
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
}
