//! The bus that threads and tasks share, beside tokio's broadcast channel.
//!
//! The scenarios, each with a publisher on a thread of its own and eight receivers, which add up what
//! they receive:
//! - *tasks*: on a tokio runtime with one worker thread, so that publisher and receivers have a core
//!   each on a machine with two. The publisher is in step with the receivers: after each [`WINDOW`] of
//!   events it waits until all have them, so that nobody lags and what is measured is delivered.
//! - *threads*: the same with eight threads that block.
//! - *latency*: tasks again; an event each [`PACE`], and the time from before it is published until
//!   each receiver has it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use duende::bus::{Bus, RecvError, Subscriber};
use duende_report::{Measure, Rank, Report};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;

use super::Result;

const DUENDE: &str = "duende";
const TOKIO: &str = "tokio broadcast";

/// How many receive.
const RECEIVERS: usize = 8;

/// How many events a bus keeps.
const CAPACITY: usize = 4_096;

/// How many events are published before the publisher waits for the receivers.
const WINDOW: u64 = 2_048;

/// Events of one sample.
const EVENTS: u64 = 4 * WINDOW;

/// Samples of throughput of each contender.
const ROUNDS: usize = 60;

/// Between two events whose latency is measured.
const PACE: Duration = Duration::from_micros(100);

/// Events whose latency is measured, of each contender and round.
const LATENCY_EVENTS: u64 = 200;

const LATENCY_ROUNDS: usize = 20;

/// An event as large as a small one of the kernel's.
#[derive(Clone, Copy)]
struct Happened {
    at: Instant,
    number: u64,
}

/// What both channels can do.
trait Channel: Send + 'static {
    type Receiver: Receiver;
    fn new() -> Self;
    fn subscribe(&self) -> Result<Self::Receiver>;
    fn publish(&self, event: Happened);
}

trait Receiver: Send + 'static {
    /// The next event; none when the channel is closed.
    fn recv(&mut self) -> impl Future<Output = Option<Happened>> + Send;
    /// The same, for a thread.
    fn recv_blocking(&mut self) -> Option<Happened>;
}

impl Channel for Bus<Happened> {
    type Receiver = Subscriber<Happened>;

    fn new() -> Self {
        Bus::new()
    }

    fn subscribe(&self) -> Result<Self::Receiver> {
        Ok(Bus::subscribe(self)?)
    }

    fn publish(&self, event: Happened) {
        Bus::publish(self, event);
    }
}

impl Receiver for Subscriber<Happened> {
    async fn recv(&mut self) -> Option<Happened> {
        loop {
            match Subscriber::recv(self).await {
                Ok(event) => return Some(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged { events }) => LAGGED.add(events),
            }
        }
    }

    fn recv_blocking(&mut self) -> Option<Happened> {
        loop {
            match Subscriber::recv_blocking(self) {
                Ok(event) => return Some(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged { events }) => LAGGED.add(events),
            }
        }
    }
}

impl Channel for broadcast::Sender<Happened> {
    type Receiver = broadcast::Receiver<Happened>;

    fn new() -> Self {
        broadcast::channel(CAPACITY).0
    }

    fn subscribe(&self) -> Result<Self::Receiver> {
        Ok(broadcast::Sender::subscribe(self))
    }

    fn publish(&self, event: Happened) {
        // It fails when nobody listens.
        let _ = self.send(event);
    }
}

impl Receiver for broadcast::Receiver<Happened> {
    async fn recv(&mut self) -> Option<Happened> {
        use broadcast::error::RecvError;
        loop {
            match broadcast::Receiver::recv(self).await {
                Ok(event) => return Some(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(events)) => LAGGED.add(events),
            }
        }
    }

    fn recv_blocking(&mut self) -> Option<Happened> {
        use broadcast::error::RecvError;
        loop {
            match self.blocking_recv() {
                Ok(event) => return Some(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(events)) => LAGGED.add(events),
            }
        }
    }
}

/// Counts what was missed: nothing, or the figures are of something else.
struct Lagged(AtomicU64);

static LAGGED: Lagged = Lagged(AtomicU64::new(0));

impl Lagged {
    fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }
}

pub(crate) fn measure_in(report: &mut Report) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).build()?;
    let mut samples = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let [tasks, tokio_tasks, threads, tokio_threads] = &mut samples;
        tasks.push(throughput::<Bus<Happened>>(Some(&runtime))?);
        tokio_tasks.push(throughput::<broadcast::Sender<Happened>>(Some(&runtime))?);
        threads.push(throughput::<Bus<Happened>>(None)?);
        tokio_threads.push(throughput::<broadcast::Sender<Happened>>(None)?);
    }
    let [tasks, tokio_tasks, threads, tokio_threads] = samples;
    let what = "an event from a thread to 8 tasks on another, in windows of 2,048";
    report.add(compared("bus, tasks", what, tasks, tokio_tasks).at_most_ns(
        DUENDE,
        Rank::P50,
        4_000.0,
    ));
    let what = "an event from a thread to 8 other threads, in windows of 2,048";
    report.add(compared("bus, threads", what, threads, tokio_threads));

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..LATENCY_ROUNDS {
        ours.append(&mut latencies::<Bus<Happened>>(&runtime)?);
        theirs.append(&mut latencies::<broadcast::Sender<Happened>>(&runtime)?);
    }
    report.add(
        Measure::new("bus, latency", "from publish to each of 8 tasks, an event each 100 µs")
            .contender(DUENDE, ours)
            .contender(TOKIO, theirs)
            .at_most_ns(DUENDE, Rank::P50, 20_000.0)
            .at_most_ns(DUENDE, Rank::P99, 200_000.0),
    );
    match LAGGED.0.load(Ordering::Relaxed) {
        0 => Ok(()),
        lagged => Err(format!("{lagged} events were missed: nobody may lag here").into()),
    }
}

fn compared(name: &str, what: &str, ours: Vec<f64>, theirs: Vec<f64>) -> Measure {
    Measure::new(name, what)
        .contender(DUENDE, ours)
        .contender(TOKIO, theirs)
        .ratio_at_most(DUENDE, TOKIO, 0.5)
}

/// Nanoseconds of one event to all receivers: tasks if there is a runtime for them, threads if not.
fn throughput<C: Channel>(runtime: Option<&Runtime>) -> Result<f64> {
    let channel = C::new();
    let (done, waits) = mpsc::channel();
    let mut threads = Vec::new();
    for _ in 0..RECEIVERS {
        let mut receiver = channel.subscribe()?;
        let mut tally = Tally { done: done.clone(), received: 0, sum: 0 };
        if let Some(runtime) = runtime {
            runtime.spawn(async move {
                while let Some(event) = receiver.recv().await {
                    tally.take(event);
                }
            });
        } else {
            threads.push(thread::spawn(move || {
                while let Some(event) = receiver.recv_blocking() {
                    tally.take(event);
                }
            }));
        }
    }
    let began = Instant::now();
    for number in 0..EVENTS {
        channel.publish(Happened { at: began, number });
        if (number + 1).is_multiple_of(WINDOW) {
            for _ in 0..RECEIVERS {
                waits.recv()?;
            }
        }
    }
    let elapsed = began.elapsed();
    drop(channel);
    for thread in threads {
        thread.join().map_err(|_| "a receiver panicked")?;
    }
    Ok(elapsed.as_nanos() as f64 / EVENTS as f64)
}

/// What a receiver has so far.
struct Tally {
    done: mpsc::Sender<u64>,
    received: u64,
    sum: u64,
}

impl Tally {
    fn take(&mut self, event: Happened) {
        self.sum = self.sum.wrapping_add(event.number);
        self.received += 1;
        if self.received.is_multiple_of(WINDOW) {
            // Fails only if the publisher has given up.
            let _ = self.done.send(self.sum);
        }
    }
}

/// Nanoseconds from each publish to each receiver.
fn latencies<C: Channel>(runtime: &Runtime) -> Result<Vec<f64>> {
    let channel = C::new();
    let (done, waits) = mpsc::channel();
    for _ in 0..RECEIVERS {
        let mut receiver = channel.subscribe()?;
        let done = done.clone();
        runtime.spawn(async move {
            let mut latencies = Vec::with_capacity(LATENCY_EVENTS as usize);
            while let Some(event) = receiver.recv().await {
                latencies.push(event.at.elapsed().as_nanos() as f64);
            }
            let _ = done.send(latencies);
        });
    }
    drop(done);
    for number in 0..LATENCY_EVENTS {
        let due = Instant::now() + PACE;
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        channel.publish(Happened { at: Instant::now(), number });
    }
    drop(channel);
    Ok(waits.iter().flatten().collect())
}
