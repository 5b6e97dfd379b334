//! Pauses and reloads: how a daemon is held still, goes on, and is told to read its configuration.
//!
//! A component is told over its link, and a native program by signals to its process group: SIGSTOP,
//! SIGCONT, and SIGHUP for a reload. A native daemon with a link is stopped and continued by signals,
//! too, since that holds whatever it does; its link tells it that it was.

use duende_core::{
    supervise::Input,
    wire::link::{Address, Command},
};

use super::{Manager, managed::Place};
use crate::keep::KeepRequest;

/// By the numbers that Linux gives them on the processors that it is built for here.
const SIGHUP: i32 = 1;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

impl Manager {
    /// Holds a daemon still.
    pub(super) fn hold(&mut self, at: Address) {
        self.tell(at, &Command::Pause { at });
        self.signal_group(at, SIGSTOP);
    }

    /// Lets a daemon go on.
    pub(super) fn release(&mut self, at: Address) {
        self.signal_group(at, SIGCONT);
        self.tell(at, &Command::Resume { at });
    }

    /// Makes a daemon read its configuration. A program without a link can't say when it has.
    pub(super) fn reload(&mut self, at: Address) {
        if self.tell(at, &Command::Reload { at }) {
            return;
        }
        self.signal_group(at, SIGHUP);
        if let Some(id) = self.id_of(at) {
            self.inputs.push_back(Input::Reloaded { id, incarnation: at.incarnation });
        }
    }

    /// Sends a command to a daemon that has a link. Whether it has.
    fn tell(&mut self, at: Address, command: &Command<'_>) -> bool {
        let outbox = self.outbox_of(at);
        if let Some(outbox) = &outbox {
            // A fixed-size command always fits.
            let _ = outbox.send(command);
        }
        outbox.is_some()
    }

    fn signal_group(&mut self, at: Address, signal: i32) {
        let place = self.daemon_mut(at).and_then(|daemon| Some(&daemon.current(at)?.place));
        if matches!(place, Some(Place::Native { .. })) {
            self.ask_keep(at, &KeepRequest::Signal { at, signal, group: true });
        }
    }
}
