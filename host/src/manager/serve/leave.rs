//! What is left to do once a fleet is over: the places end, what is open is closed, the socket last.
//! Each step has a time after which the next one comes all the same.

use std::time::{Duration, Instant};

use duende_core::wire::link::LogLevel;

use super::{super::control_server::ControlServer, Manager, ManagerError};
use crate::control::protocol::EventKind;

/// How long a store may take to write what it has; a disk that does not answer holds up nobody's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a compiler that was killed may take to be gone, and how often it is looked for.
const COMPILER_TIMEOUT: Duration = Duration::from_secs(1);
const COMPILER_PERIOD: Duration = Duration::from_millis(5);
/// How long a client may take to hear that everything has ended.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

impl Manager {
    pub(super) async fn leave(mut self, server: ControlServer) -> Result<(), ManagerError> {
        for place in self.backends.end().await {
            let line = format!("{} did not end in time and was killed", place.process());
            self.journal.say(LogLevel::Warn, &line);
        }
        self.images.end();
        let until = Instant::now() + COMPILER_TIMEOUT;
        while !self.images.is_idle() && Instant::now() < until {
            tokio::time::sleep(COMPILER_PERIOD).await;
        }
        let closed = self.store.close(CLOSE_TIMEOUT).await;
        if let Err(error) = &closed {
            let text = error.to_string();
            self.journal.say(LogLevel::Error, &text);
            self.journal.record("", 0, EventKind::StateFault, &text);
            // Before anybody who asked for the end can hear that it has come.
            let _ = self.last_words.set(text);
        }
        drop(self.notify.take());
        drop(server);
        // With the journal its followers end, and with them the answers to `down`.
        let farewells = std::mem::take(&mut self.farewells);
        drop(self);
        let all = async {
            for farewell in farewells {
                let _ = farewell.await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, all).await;
        Ok(closed?)
    }
}
