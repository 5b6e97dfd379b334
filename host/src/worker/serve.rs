//! The worker's loop: commands in, quanta, events out.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use duende_core::wire::{self, Decoder, FRAME_BYTES_MAX, Hello, Message, Role, link::Command};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, SendFlags, recv, send},
};
use serde::Serialize;
use wos_kernel::{Kernel, Machine, engine::WasmtimeExecutor};

use super::{
    WorkerError,
    image::{Loader, Settled},
    machine::HostMachine,
    ticker::Ticker,
};

/// Events are written once this many bytes of them wait, or when a round is over.
const OUTBOX_BYTES: usize = 64 << 10;
/// Quanta that run before the link is looked at again and events are written, when nobody asks for
/// attention …
const QUANTA_PER_ROUND: u32 = 64;
/// … and the time after which no further quantum begins, in nanoseconds: what one daemon does must
/// not wait for another's slices.
const ROUND_NS: u64 = 1_000_000;

/// How often it is told what daemons have used, in nanoseconds.
const USAGE_PERIOD_NS: u64 = 1_000_000_000;

type HostedKernel = Kernel<WasmtimeExecutor<Loader>>;

/// Serves the link until the manager closes it.
pub(super) fn serve(
    link: &OwnedFd,
    mut kernel: HostedKernel,
    settled: &Settled,
    ticker: &Ticker,
    machine: &HostMachine,
) -> Result<(), WorkerError> {
    let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
    let mut outbox = Outbox::new(link);
    outbox.push(&Hello::of(Role::WORKER));
    outbox.flush()?;
    let mut is_greeted = false;
    let mut usage_at_ns = 0;
    loop {
        machine.set_attention(false);
        for image in settled.take() {
            kernel.image_settled(&image, &mut |event| outbox.push(&event));
        }
        if !read_commands(link, &mut decoder, &mut is_greeted, &mut kernel, &mut outbox)? {
            return Ok(());
        }
        let round_over_ns = machine.monotonic_ns().saturating_add(ROUND_NS);
        for _ in 0..QUANTA_PER_ROUND {
            ticker.begin();
            let ran = kernel.step(&mut |event| outbox.push(&event));
            ticker.end();
            let ran = ran.map_err(|_| halted(&kernel))?;
            if !ran || machine.attention() || machine.monotonic_ns() >= round_over_ns {
                break;
            }
        }
        if kernel.has_usage() && machine.monotonic_ns() >= usage_at_ns {
            usage_at_ns = machine.monotonic_ns().saturating_add(USAGE_PERIOD_NS);
            kernel.usage(|usage| outbox.push(&usage));
        }
        outbox.flush()?;
        if !kernel.is_busy() {
            let usage_at_ns = kernel.has_usage().then_some(usage_at_ns);
            wait(link, settled, timeout(&kernel, usage_at_ns, machine))?;
        }
    }
}

/// The kernel must not go on: its daemons come back in another worker, from what they committed. What
/// it did last goes to the fleet's log.
fn halted(kernel: &HostedKernel) -> WorkerError {
    let mut dump = String::new();
    kernel.dump(&mut dump);
    WorkerError::Halted { dump }
}

/// Takes what the manager has written so far. False at its end.
fn read_commands(
    link: &OwnedFd,
    decoder: &mut Decoder<Box<[u8]>>,
    is_greeted: &mut bool,
    kernel: &mut HostedKernel,
    outbox: &mut Outbox<'_>,
) -> Result<bool, WorkerError> {
    loop {
        if !*is_greeted {
            *is_greeted = Hello::of(Role::WORKER).hear(decoder)?.is_some();
        }
        while *is_greeted && let Some(command) = decoder.next::<Command<'_>>()? {
            kernel.command(command, &mut |event| outbox.push(&event))?;
        }
        match recv(link, decoder.spare(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Ok(false),
            Ok((count, _)) => decoder.filled(count),
            Err(rustix::io::Errno::AGAIN) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(false),
            Err(error) => {
                return Err(WorkerError::System {
                    what: "cannot read the link",
                    source: error.into(),
                });
            }
        }
    }
}

fn timeout(
    kernel: &HostedKernel,
    usage_at_ns: Option<u64>,
    machine: &HostMachine,
) -> Option<Timespec> {
    let deadline_ns = kernel.next_deadline_ns().into_iter().chain(usage_at_ns).min()?;
    let left_ns = deadline_ns.saturating_sub(machine.monotonic_ns());
    Some(Timespec {
        tv_sec: i64::try_from(left_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(left_ns % 1_000_000_000).unwrap_or(0),
    })
}

fn wait(link: &OwnedFd, settled: &Settled, timeout: Option<Timespec>) -> Result<(), WorkerError> {
    let mut descriptors = [
        PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(settled.as_fd(), PollFlags::IN),
    ];
    match poll(&mut descriptors, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(WorkerError::System { what: "cannot poll", source: error.into() }),
    }
}

/// Events on their way to the manager.
struct Outbox<'a> {
    link: &'a OwnedFd,
    frame: Box<[u8]>,
    bytes: Vec<u8>,
    failed: Option<io::Error>,
}

impl<'a> Outbox<'a> {
    fn new(link: &'a OwnedFd) -> Self {
        Self {
            link,
            frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
            bytes: Vec::with_capacity(2 * OUTBOX_BYTES),
            failed: None,
        }
    }

    fn push<M: Message + Serialize>(&mut self, message: &M) {
        match wire::encode(message, &mut self.frame) {
            Ok(count) => self.bytes.extend(self.frame.get(..count).unwrap_or_default()),
            // Every text and value was bounded where it came in, far under a frame.
            Err(error) => self.failed = Some(io::Error::other(error.to_string())),
        }
        if self.bytes.len() >= OUTBOX_BYTES
            && let Err(error) = self.write()
        {
            self.failed = Some(error);
        }
    }

    fn flush(&mut self) -> Result<(), WorkerError> {
        let written = self.write();
        match self.failed.take().map_or(written, Err) {
            Ok(()) => Ok(()),
            Err(source) => Err(WorkerError::System { what: "cannot write the link", source }),
        }
    }

    /// Blocks while the manager does not read: a manager that is behind holds its daemons back.
    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest) = self.bytes.get(written..)
            && !rest.is_empty()
        {
            match send(self.link, rest, SendFlags::NOSIGNAL) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.clear();
        Ok(())
    }
}
