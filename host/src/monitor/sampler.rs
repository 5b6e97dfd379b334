//! The thread that looks at processes, on time.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::process::ProcessFigures;
use crate::schedule::Schedule;

/// Readings that wait for the manager: more would be out of date.
const READINGS_MAX: usize = 1;

/// What was found at one instant.
#[derive(Debug)]
pub(crate) struct Reading {
    /// When.
    pub(crate) at: Instant,
    /// By the number of the daemon: its process, and what that uses; none if it has none.
    pub(crate) processes: Vec<Option<(u32, ProcessFigures)>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By the number of the daemon.
    pids: Mutex<Vec<Option<u32>>>,
    missed: AtomicU64,
}

impl Shared {
    fn pids(&self) -> MutexGuard<'_, Vec<Option<u32>>> {
        // No panic is possible while it is held.
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. The thread ends with it.
pub(crate) struct Sampler {
    shared: Arc<Shared>,
    readings: Option<mpsc::Receiver<Reading>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts looking at the processes of so many daemons, once in each interval.
    ///
    /// # Errors
    /// No thread can be started, or the interval is zero.
    pub(crate) fn start(interval: Duration, daemons: usize) -> io::Result<Self> {
        let schedule = Schedule::new(interval)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an interval of zero"))?;
        let shared = Arc::new(Shared::default());
        shared.pids().resize(daemons, None);
        let (sender, readings) = mpsc::channel(READINGS_MAX);
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || run(schedule, &theirs, &sender))?;
        Ok(Self { shared, readings: Some(readings), thread: Some(thread) })
    }

    /// Says which process is a daemon's.
    pub(crate) fn watch(&self, daemon: usize, pid: Option<u32>) {
        if let Some(place) = self.shared.pids().get_mut(daemon) {
            *place = pid;
        }
    }

    /// The next reading. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Reading {
        match &mut self.readings {
            Some(readings) => match readings.recv().await {
                Some(reading) => reading,
                // The thread does not end before its sampler.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// How many ticks had no reading.
    pub(crate) fn missed_total(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // The thread sees that nobody listens.
        self.readings = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; and if it did, there is nothing left to do.
            let _ = thread.join();
        }
    }
}

fn run(mut schedule: Schedule, shared: &Shared, sender: &mpsc::Sender<Reading>) {
    let began = Instant::now();
    let mut last = 0;
    while !sender.is_closed() {
        if let Some(number) = schedule.take(began.elapsed()) {
            let passed_over = number.saturating_sub(last).saturating_sub(1);
            last = number;
            let reading = look(shared);
            let is_full =
                matches!(sender.try_send(reading), Err(mpsc::error::TrySendError::Full(_)));
            shared.missed.fetch_add(passed_over + u64::from(is_full), Ordering::Relaxed);
        }
        thread::park_timeout(schedule.wait(began.elapsed()));
    }
}

fn look(shared: &Shared) -> Reading {
    let at = Instant::now();
    // Copied: the manager does not wait while files are read.
    let pids = shared.pids().clone();
    let figures = |pid| Some((pid, ProcessFigures::of(pid)?));
    Reading { at, processes: pids.into_iter().map(|pid| figures(pid?)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readings_come_on_time_and_name_their_process() {
        let interval = Duration::from_millis(5);
        let mut sampler = Sampler::start(interval, 2).unwrap();
        let own = std::process::id();
        sampler.watch(1, Some(own));
        let mut last = None;
        for _ in 0..5 {
            let reading = sampler.next().await;
            assert!(last.is_none_or(|last| last < reading.at));
            last = Some(reading.at);
            assert_eq!(reading.processes.len(), 2);
            assert!(reading.processes[0].is_none());
        }
        let reading = sampler.next().await;
        assert_eq!(reading.processes[1].map(|(pid, _)| pid), Some(own));
        drop(sampler);
        assert!(Sampler::start(Duration::ZERO, 1).is_err());
    }
}
