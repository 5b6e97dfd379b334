//! The life of one incarnation on a link: hands the manager's commands to the kernel, lets it run,
//! and writes out its events.

use core::time::Duration;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use duende_core::supervise::Spec;
use duende_core::wire::link::{Address, Command, Event, Outcome};
use wos_kernel::{Kernel, Machine};

use super::NativeError;
use super::link::{Inbox, Outbox, Read};
use super::machine::ProcessMachine;
use crate::daemon::Daemon;
use crate::executor::{NativeExecutor, PROCESSES};

/// A kernel with one daemon, and its link.
pub(super) struct Driver<T: Daemon> {
    kernel: Kernel<NativeExecutor<T>>,
    machine: Arc<ProcessMachine>,
    inbox: Inbox,
    events: Events,
    /// The manager has said which versions it speaks.
    is_greeted: bool,
    /// SIGTERM arrived or the manager is gone: the daemon was asked to stop.
    is_stopping: bool,
}

/// Where the kernel's events go.
struct Events {
    outbox: Arc<Mutex<Outbox>>,
    /// Whose end is the end of this process: the first that was created.
    daemon: Option<Address>,
    /// How it ended, and its exit code.
    outcome: Option<(Outcome, u8)>,
}

impl Events {
    fn send(&mut self, event: &Event<'_>) {
        if let Event::Exited { at, outcome, code, .. } = event
            && self.daemon == Some(*at)
        {
            self.outcome = Some((*outcome, *code));
        }
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    fn hello(&self) {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).hello();
    }

    /// Writes out what was sent. False if the manager is gone.
    fn flush(&self) -> Result<bool, NativeError> {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.flush();
        Ok(outbox.is_open()?)
    }
}

impl<T: Daemon> Driver<T> {
    pub(super) fn new(socket: UnixStream, signals: UnixStream) -> Result<Self, NativeError> {
        // Reads say per call that they do not wait; writes wait.
        socket.set_nonblocking(false)?;
        let socket = Arc::new(socket);
        let outbox = Arc::new(Mutex::new(Outbox::new(Arc::clone(&socket))));
        let machine = Arc::new(ProcessMachine::new(Arc::clone(&outbox)));
        Ok(Self {
            kernel: Kernel::new(NativeExecutor::new(), PROCESSES, machine.clone()),
            machine,
            inbox: Inbox::new(socket, signals),
            events: Events { outbox, daemon: None, outcome: None },
            is_greeted: false,
            is_stopping: false,
        })
    }

    /// Serves the link until the daemon is over.
    pub(super) fn drive(mut self) -> Result<(Outcome, u8), NativeError> {
        self.events.hello();
        loop {
            if !self.events.flush()? {
                self.stop()?;
            }
            if let Some(outcome) = self.events.outcome {
                return Ok(outcome);
            }
            if self.inbox.wait(self.time_to_wait())? {
                self.stop()?;
            }
            self.take_commands()?;
            if self.events.outcome.is_none() {
                let stepped = self.kernel.step(&mut |event| self.events.send(&event));
                stepped.map_err(|_| self.halted())?;
            }
        }
    }

    /// The kernel of this process must not go on: what it did last is the error.
    fn halted(&self) -> NativeError {
        let mut dump = String::new();
        self.kernel.dump(&mut dump);
        NativeError::Halted { dump }
    }

    /// How long there is nothing to do, unless something arrives; none is for ever.
    fn time_to_wait(&self) -> Option<Duration> {
        if self.kernel.is_busy() {
            return Some(Duration::ZERO);
        }
        let deadline_ns = self.kernel.next_deadline_ns()?;
        Some(Duration::from_nanos(deadline_ns.saturating_sub(self.machine.monotonic_ns())))
    }

    /// Hands every command that has arrived to the kernel.
    fn take_commands(&mut self) -> Result<(), NativeError> {
        loop {
            if !self.is_greeted {
                self.is_greeted = self.inbox.hear_hello()?;
            }
            while self.is_greeted
                && let Some(command) = self.inbox.next_command()?
            {
                if let Command::Create { at, .. } = command {
                    self.events.daemon.get_or_insert(at);
                }
                self.kernel.command(command, &mut |event| self.events.send(&event))?;
            }
            match self.inbox.read()? {
                Read::Some => {}
                Read::Nothing => return Ok(()),
                Read::End => return self.stop(),
            }
        }
    }

    /// Asks the daemon to stop, once.
    fn stop(&mut self) -> Result<(), NativeError> {
        if core::mem::replace(&mut self.is_stopping, true) {
            return Ok(());
        }
        let Some(at) = self.events.daemon else {
            // There is nothing to stop yet, and now there will not be.
            self.events.outcome = Some((Outcome::Graceful, 0));
            return Ok(());
        };
        // Nobody has named a grace: it has the one that daemons have by default.
        let grace_ns = u64::try_from(Spec::default().stop_grace.as_nanos()).unwrap_or(u64::MAX);
        let shutdown = Command::Shutdown { at, grace_ns };
        Ok(self.kernel.command(shutdown, &mut |event| self.events.send(&event))?)
    }
}
