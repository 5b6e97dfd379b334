//! The life of one incarnation on a link: what is read before the start, and the loop of slices.

use core::time::Duration;
use std::process;
use std::time::SystemTime;

use duende_core::wire::link::{Event, HealthReport, LogLevel, TEXT_BYTES_MAX};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use super::link::{Link, Read};
use super::{Address, Command, Daemon, LINK_VERSION, NativeError, Outcome};
use crate::context::Context;
use crate::ledger::{Ledger, Outside, check_metric_name};
use crate::types::{Health, Instant, Level, Next, Sample, SampleKind, Wake, WakeReasons};

/// How long `shutdown` may take when no grace was named: the manager's default.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Most samples of one answer to a question for metrics; more are left out.
const SAMPLES_MAX: usize = 64;

/// An incarnation, and what it waits for.
pub(super) struct Driver {
    ledger: Ledger<Process>,
    reasons: WakeReasons,
    /// The last slice said that there is more to do.
    again: bool,
    timer: Option<Instant>,
    /// Set once, when the daemon is to stop.
    stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Call `shutdown`, with this deadline.
    By(Instant),
    /// End now, without a word from the daemon.
    Now,
}

impl Driver {
    /// Says hello and reads what the manager tells before the start. `None`: it was told to stop
    /// instead.
    pub(super) fn prepare(mut link: Link) -> Result<Option<Self>, NativeError> {
        link.send(&Event::Hello {
            version: LINK_VERSION,
        });
        link.flush()?;

        let (at, limits, grants) = loop {
            match link.next_command()? {
                Some(Command::Create {
                    at, limits, grants, ..
                }) => break (at, limits, grants),
                Some(_) => return Err(NativeError::Protocol("something came before `Create`")),
                None => {}
            }
            if link.wait(None)? || link.read()? == Read::End {
                return Ok(None);
            }
        };
        let process = Process { link, at };
        let mut ledger = Ledger::new(process, at, grants, limits.state_bytes_max);
        loop {
            // The command borrows the link, which the ledger owns: copied, and only here.
            let told = match ledger.outside.link.next_command()? {
                Some(command) if address(&command) != at => {
                    return Err(NativeError::Protocol("a command for another daemon"));
                }
                Some(Command::ConfigEntry { key, value, .. }) => {
                    Told::Config(key.to_owned(), value.to_owned())
                }
                Some(Command::StateEntry { key, value, .. }) => {
                    Told::State(key.to_owned(), value.to_owned())
                }
                Some(Command::ChannelOpen { name, granted, .. }) => {
                    Told::Channel(name.to_owned(), granted)
                }
                Some(Command::Start { .. }) => Told::Start,
                Some(Command::Shutdown { .. } | Command::Kill { .. }) => Told::Stop,
                Some(_) => return Err(NativeError::Protocol("a question came before `Start`")),
                None => Told::Nothing,
            };
            let within_limits = match told {
                Told::Config(key, value) => ledger.configure(&key, &value),
                Told::State(key, value) => {
                    ledger.load_state(&key, &value);
                    true
                }
                Told::Channel(name, granted) => ledger.open_channel(&name, granted),
                Told::Start => break,
                Told::Stop => {
                    let link = &mut ledger.outside.link;
                    link.send(&Event::Exited {
                        at,
                        outcome: Outcome::Graceful,
                        reason: "it was asked to stop before its start",
                    });
                    link.flush()?;
                    return Ok(None);
                }
                Told::Nothing => {
                    let link = &mut ledger.outside.link;
                    if link.wait(None)? || link.read()? == Read::End {
                        return Ok(None);
                    }
                    true
                }
            };
            if !within_limits {
                return Err(NativeError::Protocol(
                    "more channels or configuration entries than the link allows",
                ));
            }
        }
        Ok(Some(Self {
            ledger,
            reasons: WakeReasons::STARTED,
            again: false,
            timer: None,
            stop: None,
        }))
    }

    /// Makes the daemon and runs it to its end.
    pub(super) fn drive<T: Daemon>(&mut self) -> Result<Outcome, NativeError> {
        let at = self.ledger.address();
        let mut daemon = match T::init(&mut Context::new(&mut self.ledger)) {
            Ok(daemon) => daemon,
            Err(text) => return self.end(Outcome::Error, &format!("init: {text}")),
        };
        self.commit()?;
        let pid = process::id();
        self.ledger.outside.link.send(&Event::Running { at, pid });
        self.ledger.outside.link.flush()?;

        loop {
            self.take_commands(&daemon)?;
            match self.stop {
                Some(Stop::By(deadline)) => return self.shut_down(&mut daemon, deadline),
                Some(Stop::Now) => return self.end(Outcome::Killed, "it was killed"),
                None => {}
            }
            if !self.is_runnable() {
                continue;
            }
            let wake = Wake {
                reasons: core::mem::take(&mut self.reasons),
                now: self.ledger.outside.monotonic(),
            };
            self.again = false;
            let next = match daemon.run(&wake, &mut Context::new(&mut self.ledger)) {
                Ok(next) => next,
                Err(text) => return self.end(Outcome::Error, &format!("run: {text}")),
            };
            if self.ledger.left_messages() {
                self.reasons.insert(WakeReasons::MESSAGE);
            }
            self.commit()?;
            self.timer = None;
            match next {
                Next::Again => self.again = true,
                Next::Until(instant) => self.timer = Some(instant),
                Next::Wait => {}
                Next::Exit => return self.end(Outcome::Graceful, "it has done its work"),
            }
        }
    }

    /// Looks at the clock and says whether there is a reason for a slice.
    fn is_runnable(&mut self) -> bool {
        if let Some(timer) = self.timer
            && self.ledger.outside.monotonic() >= timer
        {
            self.timer = None;
            self.reasons.insert(WakeReasons::TIMER);
        }
        self.again || !self.reasons.is_empty()
    }

    /// Waits for a reason to do something, and takes in every command that has arrived.
    fn take_commands<T: Daemon>(&mut self, daemon: &T) -> Result<(), NativeError> {
        let timeout = if self.is_runnable() {
            Some(Duration::ZERO)
        } else {
            let now = self.ledger.outside.monotonic();
            self.timer.map(|timer| timer.since(now))
        };
        if self.ledger.outside.link.wait(timeout)? {
            self.stop_by(STOP_GRACE);
        }
        loop {
            while self.take_command(daemon)? {}
            match self.ledger.outside.link.read()? {
                Read::Some => {}
                Read::Nothing => break,
                Read::End => {
                    self.stop_by(STOP_GRACE);
                    break;
                }
            }
        }
        // After the manager's end nobody reads the answers.
        match self.ledger.outside.link.flush() {
            Err(NativeError::Link(_)) if self.stop.is_some() => Ok(()),
            flushed => flushed,
        }
    }

    /// Takes in one command, if one has arrived whole.
    fn take_command<T: Daemon>(&mut self, daemon: &T) -> Result<bool, NativeError> {
        let at = self.ledger.address();
        let message = match self.ledger.outside.link.next_command()? {
            None => return Ok(false),
            Some(command) if address(&command) != at => {
                return Err(NativeError::Protocol("a command for another daemon"));
            }
            Some(Command::Shutdown { grace_ns, .. }) => {
                self.stop_by(Duration::from_nanos(grace_ns));
                return Ok(true);
            }
            Some(Command::Kill { .. }) => {
                self.stop = Some(Stop::Now);
                return Ok(true);
            }
            Some(Command::HealthCheck { token, .. }) => {
                self.answer_health(token, &daemon.health_check());
                return Ok(true);
            }
            Some(Command::Metrics { token, .. }) => {
                self.answer_metrics(token, &daemon.metrics());
                return Ok(true);
            }
            Some(Command::Message {
                channel,
                sequence,
                payload,
                ..
            }) => (channel, sequence, payload.to_owned()),
            Some(
                Command::Create { .. }
                | Command::ConfigEntry { .. }
                | Command::StateEntry { .. }
                | Command::ChannelOpen { .. }
                | Command::Start { .. },
            ) => return Err(NativeError::Protocol("a second start")),
        };
        let (channel, sequence, payload) = message;
        if !self.ledger.deliver(channel, sequence, payload) {
            return Err(NativeError::Protocol("a message outside of its window"));
        }
        self.reasons.insert(WakeReasons::MESSAGE);
        Ok(true)
    }

    /// The first order to stop counts, unless it is to end at once.
    fn stop_by(&mut self, grace: Duration) {
        let deadline = self.ledger.outside.monotonic() + grace;
        self.stop.get_or_insert(Stop::By(deadline));
    }

    fn answer_health(&mut self, token: u64, health: &Health) {
        let at = self.ledger.address();
        let report = match health {
            Health::Healthy => HealthReport::Healthy,
            Health::Degraded(text) => HealthReport::Degraded(bounded(text)),
            Health::Unhealthy(text) => HealthReport::Unhealthy(bounded(text)),
        };
        self.ledger.outside.link.send(&Event::Health {
            at,
            token,
            report,
            memory_bytes: resident_bytes(),
        });
    }

    fn answer_metrics(&mut self, token: u64, samples: &[Sample]) {
        let at = self.ledger.address();
        let link = &mut self.ledger.outside.link;
        let usable = |sample: &&Sample| check_metric_name(&sample.name).is_ok();
        for sample in samples.iter().filter(usable).take(SAMPLES_MAX) {
            link.send(&Event::Sample {
                at,
                token,
                name: &sample.name,
                counter: sample.kind == SampleKind::Counter,
                value: sample.value,
            });
        }
        link.send(&Event::SamplesEnd { at, token });
    }

    fn shut_down<T: Daemon>(
        &mut self,
        daemon: &mut T,
        deadline: Instant,
    ) -> Result<Outcome, NativeError> {
        let result = daemon.shutdown(deadline, &mut Context::new(&mut self.ledger));
        let ended = match result {
            Ok(()) => {
                self.queue_commit();
                (Outcome::Graceful, "it was asked to stop".to_owned())
            }
            Err(text) => (Outcome::Error, format!("shutdown: {text}")),
        };
        match self.end(ended.0, &ended.1) {
            // The manager is gone: nobody is left to hear the last word.
            Err(NativeError::Link(_)) => Ok(ended.0),
            told => told,
        }
    }

    fn commit(&mut self) -> Result<(), NativeError> {
        self.queue_commit();
        self.ledger.outside.link.flush()
    }

    fn queue_commit(&mut self) {
        self.ledger
            .commit(&mut |process, event| process.link.send(&event));
    }

    /// Says the last word.
    fn end(&mut self, outcome: Outcome, reason: &str) -> Result<Outcome, NativeError> {
        let at = self.ledger.address();
        self.ledger.outside.link.send(&Event::Exited {
            at,
            outcome,
            reason: bounded(reason),
        });
        self.ledger.outside.link.flush()?;
        Ok(outcome)
    }
}

/// A command before the start, out of the link's buffer.
enum Told {
    Config(String, String),
    State(String, Vec<u8>),
    Channel(String, bool),
    Start,
    Stop,
    Nothing,
}

/// Whom a command is for.
fn address(command: &Command<'_>) -> Address {
    match command {
        Command::Create { at, .. }
        | Command::ConfigEntry { at, .. }
        | Command::StateEntry { at, .. }
        | Command::ChannelOpen { at, .. }
        | Command::Start { at }
        | Command::Message { at, .. }
        | Command::Shutdown { at, .. }
        | Command::Kill { at }
        | Command::HealthCheck { at, .. }
        | Command::Metrics { at, .. } => *at,
    }
}

/// The longest prefix that fits into a reason.
fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX))
        .unwrap_or_default()
}

/// Memory of this process that is resident, in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| {
            pages.saturating_mul(rustix::param::page_size() as u64)
        })
}

/// This process, as what is outside of the transaction.
struct Process {
    link: Link,
    at: Address,
}

impl Outside for Process {
    fn log(&mut self, level: Level, text: &str) {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let at = self.at;
        self.link.send(&Event::Log { at, level, text });
        // A line stays logged whatever happens to the slice. A failure is kept in the link.
        self.link.write_now();
    }

    fn monotonic(&mut self) -> Instant {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        Instant {
            nanoseconds: seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds),
        }
    }

    fn wall(&mut self) -> Duration {
        SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
    }

    fn entropy(&mut self, bytes: &mut [u8]) {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // Fails only when interrupted, and not at all for so few bytes.
            filled += getrandom(rest, GetRandomFlags::empty()).unwrap_or(0);
        }
    }
}
