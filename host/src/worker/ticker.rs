//! The preemption clock: increments the engines' epochs every millisecond while slices run.
//!
//! A worker without work has no ticks: after [`IDLE_TICKS`] without a slice the thread parks, and
//! the next slice unparks it. In between it stays awake, so that a busy worker pays one atomic store
//! a slice and no system call.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wasmtime::Engine;
use wos_kernel::limits::TICK_NS;

use super::{engine::Engines, machine::HostMachine};

/// One tick.
const TICK: Duration = Duration::from_nanos(TICK_NS);
/// Ticks without a slice after which the thread parks.
const IDLE_TICKS: u32 = 20;

/// The handle that the kernel's thread holds.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    /// Counts slices; the thread sees by it whether any ran since the last tick.
    slices: AtomicU64,
    running: AtomicBool,
    parked: AtomicBool,
}

impl Ticker {
    /// Starts the thread. When `link` has something to read while a slice runs, the machine's
    /// attention flag is set.
    pub(crate) fn start(
        engines: Engines,
        machine: Arc<HostMachine>,
        link: &OwnedFd,
    ) -> io::Result<Self> {
        let link = link.try_clone()?;
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let handle = thread::Builder::new()
            .name("ticker".into())
            .spawn(move || tick(&of_thread, &engines, &machine, &link))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// A slice begins.
    pub(crate) fn begin(&self) {
        self.shared.slices.fetch_add(1, Ordering::Relaxed);
        self.shared.running.store(true, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// The slice is over.
    pub(crate) fn end(&self) {
        self.shared.running.store(false, Ordering::Relaxed);
    }
}

fn tick(shared: &Shared, engines: &Engines, machine: &HostMachine, link: &OwnedFd) {
    let mut idle_ticks = 0;
    let mut seen = 0;
    loop {
        thread::sleep(TICK);
        let slices = shared.slices.load(Ordering::Relaxed);
        if shared.running.load(Ordering::Relaxed) {
            idle_ticks = 0;
            if is_readable(link) {
                machine.set_attention(true);
            }
            engines.all().for_each(Engine::increment_epoch);
        } else if slices == seen {
            idle_ticks += 1;
        } else {
            idle_ticks = 0;
        }
        seen = slices;
        if idle_ticks > IDLE_TICKS {
            shared.parked.store(true, Ordering::SeqCst);
            // A slice that began before the store did not unpark this thread.
            if !shared.running.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            idle_ticks = 0;
        }
    }
}

fn is_readable(link: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut descriptors, Some(&now)), Ok(ready) if ready > 0)
}
