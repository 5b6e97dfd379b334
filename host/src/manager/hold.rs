//! Pauses: how a daemon is held still and goes on, and how it is told to reload.
//!
//! A component is told over its link. A native program is stopped and continued by signals to its
//! process group, whatever it is built with: that holds whatever it does.

use duende_core::wire::link::{Address, Command};

use super::{Manager, managed::Place};
use crate::keep::KeepRequest;

/// By the numbers that Linux gives them on the processors that it is built for here.
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

impl Manager {
    /// Holds a daemon still.
    pub(super) fn hold(&mut self, at: Address) {
        self.tell_component(at, &Command::Pause { at });
        self.signal_group(at, SIGSTOP);
    }

    /// Lets a daemon go on.
    pub(super) fn release(&mut self, at: Address) {
        self.signal_group(at, SIGCONT);
        self.tell_component(at, &Command::Resume { at });
    }

    /// Makes a daemon read its configuration.
    pub(super) fn reload(&mut self, at: Address) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        daemon.reload_failed = false;
        let config = daemon.config.clone();
        if let Some(outbox) = self.outbox_of(at) {
            for (key, value) in &config.config {
                // As long as it was when the configuration was checked.
                let _ = outbox.send(&Command::ConfigEntry { at, key, value });
            }
            let _ = outbox.send(&Command::Reload { at });
            return;
        }
        self.ask_keep(at, &KeepRequest::Reload { at });
    }

    fn tell_component(&mut self, at: Address, command: &Command<'_>) {
        let place = self.daemon_mut(at).and_then(|daemon| Some(&daemon.current(at)?.place));
        if matches!(place, Some(Place::Worker))
            && let Some(outbox) = self.outbox_of(at)
        {
            // A fixed-size command always fits.
            let _ = outbox.send(command);
        }
    }

    fn signal_group(&mut self, at: Address, signal: i32) {
        let place = self.daemon_mut(at).and_then(|daemon| Some(&daemon.current(at)?.place));
        if matches!(place, Some(Place::Native { .. })) {
            self.ask_keep(at, &KeepRequest::Signal { at, signal, group: true });
        }
    }
}
