//! The signals that a manager takes.
//!
//! 1. SIGINT, SIGTERM and SIGQUIT ask for the end. So does SIGHUP, the end of a terminal; without one it
//!    asks for the configuration to be read again.
//! 2. A SIGHUP that was ignored when the program started, as under `nohup`, stays ignored.
//! 3. Those that other managers take for something of their own are said to mean nothing here, and end
//!    nobody.

use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::children::adopts;

/// SIGUSR1 and SIGUSR2 reopen or dump something elsewhere; SIGALRM ends a process that forgot its timer.
const MEANINGLESS: [(&str, SignalKind); 3] = [
    ("SIGUSR1", SignalKind::user_defined1()),
    ("SIGUSR2", SignalKind::user_defined2()),
    ("SIGALRM", SignalKind::alarm()),
];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// The end; by this signal.
    End(&'static str),
    /// The terminal is gone, or, where there is none, the configuration is to be read again.
    HangUp,
    /// Children have ended, perhaps some that only came to this process.
    Children,
    /// Nothing; this is its name.
    Nothing(&'static str),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Option<Signal>,
    /// Of a process that adopts others'.
    child: Option<Signal>,
    meaningless: Vec<(&'static str, Signal)>,
}

impl Signals {
    pub(super) fn take() -> io::Result<Self> {
        let meaningless = MEANINGLESS.iter().map(|(name, kind)| Ok((*name, signal(*kind)?)));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
            child: if adopts() { Some(signal(SignalKind::child())?) } else { None },
            meaningless: meaningless.collect::<io::Result<_>>()?,
        })
    }

    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Asks {
        let Self { interrupt, terminate, quit, hang_up, child, meaningless } = self;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Asks::End("SIGINT"),
            _ = terminate.recv() => Asks::End("SIGTERM"),
            _ = quit.recv() => Asks::End("SIGQUIT"),
            () = received(hang_up.as_mut()) => Asks::HangUp,
            () = received(child.as_mut()) => Asks::Children,
            name = any_of(meaningless) => Asks::Nothing(name),
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

async fn any_of(signals: &mut [(&'static str, Signal)]) -> &'static str {
    std::future::poll_fn(|context| {
        for (name, signal) in signals.iter_mut() {
            if signal.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*name);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Whether SIGHUP was ignored when this program started.
fn ignores_hang_up() -> bool {
    // SIGHUP is the first bit of the mask.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}
