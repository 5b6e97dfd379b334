//! A daemon that fails when told, in the way it is told: for trying out what is to survive it.
//!
//! Configuration:
//! - `mode`: what it does, a [`Mode`]'s name; `none` (the default) works for ever.
//! - `verb`: in which export: `init`, `run` (the default), `shutdown`, `health-check`, `metrics`.
//! - `after_slices`: after how many slices of this incarnation, default 0.
//! - `interval_ms`: how often it runs a slice when it works, default 500.
//!
//! A message in the channel `commands`, if there is one, names a mode too, and has its effect in the
//! slice that reads it. That slice never commits if the mode is a failure, so the message is delivered
//! to the next incarnation again: it fails until the message is gone or the manager has had enough.
//!
//! It counts its slices in `state` under `slices`, if `state` is granted.

use core::hint::black_box;
use core::time::Duration;
use std::str::FromStr;

use duende_sdk::{
    Context, Daemon, Error, Failure, Health, Instant, Level, Next, Sample, Wake, WakeReasons,
};

/// The key in `state`: slices of all incarnations, eight bytes, little endian.
const KEY: &str = "slices";

/// What it can be told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `none`: works.
    #[default]
    None,
    /// `crash`: panics; a trap in a component.
    Crash,
    /// `error`: returns an error, from an export that can; else says that it is unhealthy.
    Error,
    /// `hang`: never returns, and uses the processor for it.
    Hang,
    /// `leak`: allocates and uses memory without end.
    Leak,
    /// `spin`: returns `again` from each slice.
    Spin,
    /// `exit`: ends gracefully.
    Exit,
    /// `later`: says that something outside is missing (exit code 75).
    Later,
    /// `config`: says that its configuration can't work (exit code 78).
    Config,
    /// `drain`: takes three more slices when it is asked to stop.
    Drain,
    /// `reject`: as a message, gives that message up; refuses a configuration that is reloaded.
    Reject,
}

/// Slices that a stop takes in mode [`Drain`](Mode::Drain).
const DRAIN_SLICES: u32 = 3;

/// In which export it happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    /// `init`
    Init,
    /// `run`
    #[default]
    Run,
    /// `shutdown`
    Shutdown,
    /// `health-check`
    HealthCheck,
    /// `metrics`
    Metrics,
}

/// The text names no [`Mode`], or no [`Verb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName;

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Ok(match text {
            "none" => Self::None,
            "crash" => Self::Crash,
            "error" => Self::Error,
            "hang" => Self::Hang,
            "leak" => Self::Leak,
            "spin" => Self::Spin,
            "exit" => Self::Exit,
            "later" => Self::Later,
            "config" => Self::Config,
            "drain" => Self::Drain,
            "reject" => Self::Reject,
            _ => return Err(UnknownName),
        })
    }
}

impl FromStr for Verb {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Ok(match text {
            "init" => Self::Init,
            "run" => Self::Run,
            "shutdown" => Self::Shutdown,
            "health-check" => Self::HealthCheck,
            "metrics" => Self::Metrics,
            _ => return Err(UnknownName),
        })
    }
}

/// The daemon.
#[derive(Debug)]
pub struct Flaky {
    mode: Mode,
    verb: Verb,
    after_slices: u64,
    interval: Duration,
    /// Slices of this incarnation.
    slices: u64,
    /// Slices of all incarnations, as in `state`.
    slices_total: u64,
    /// Slices that are left of a stop.
    draining: u32,
}

impl Daemon for Flaky {
    fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
        let mut config = context.config();
        let flaky = Self {
            mode: config.parse("mode", Mode::None)?,
            verb: config.parse("verb", Verb::Run)?,
            after_slices: config.parse("after_slices", 0)?,
            interval: Duration::from_millis(config.parse("interval_ms", 500)?),
            slices: 0,
            slices_total: stored_slices(context)?,
            draining: DRAIN_SLICES,
        };
        context.log(Level::Info, format!("here, after {} slices", flaky.slices_total));
        flaky.misbehave(Verb::Init)?;
        Ok(flaky)
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        self.slices_total = self.slices_total.saturating_add(1);
        match context.state().set(KEY, &self.slices_total.to_le_bytes()) {
            Ok(()) | Err(Error::Denied) => {}
            Err(other) => return Err(other.into()),
        }
        if wake.reasons.contains(WakeReasons::RELOAD) && self.mode == Mode::Reject {
            context.config().refuse("told to");
        }
        let told = told(context)?;
        fail(told, "run")?;
        self.misbehave(Verb::Run)?;
        let mode = match told {
            Mode::None if self.is_due(Verb::Run) => self.mode,
            other => other,
        };
        self.slices = self.slices.saturating_add(1);
        if wake.reasons.contains(WakeReasons::STOPPING) {
            context.log(Level::Info, format!("draining, {} to go", self.draining));
            self.draining = self.draining.saturating_sub(1);
            return Ok(if self.draining == 0 { Next::done() } else { Next::Again });
        }
        Ok(match mode {
            Mode::Spin => {
                // Being told once is for ever.
                (self.mode, self.verb, self.after_slices) = (Mode::Spin, Verb::Run, 0);
                Next::Again
            }
            Mode::Exit => Next::done(),
            _ => Next::Until(wake.now + self.interval),
        })
    }

    fn shutdown(&mut self, _: Instant, context: &mut Context<'_>) -> Result<Next, Failure> {
        context.log(Level::Info, "asked to stop");
        self.misbehave(Verb::Shutdown)?;
        Ok(if self.mode == Mode::Drain { Next::Again } else { Next::done() })
    }

    fn health_check(&self) -> Health {
        match self.misbehave(Verb::HealthCheck) {
            Ok(()) => Health::healthy(),
            Err(failure) => Health::unhealthy(failure.to_string()),
        }
    }

    fn metrics(&self) -> Vec<Sample> {
        // There is no error to return: `error` has no effect here.
        let _ = self.misbehave(Verb::Metrics);
        let slices = u32::try_from(self.slices).unwrap_or(u32::MAX);
        vec![Sample::counter("slices_total", f64::from(slices))]
    }
}

impl Flaky {
    fn is_due(&self, verb: Verb) -> bool {
        verb == self.verb && self.slices >= self.after_slices
    }

    fn misbehave(&self, verb: Verb) -> Result<(), Failure> {
        if self.is_due(verb) { fail(self.mode, "the configuration") } else { Ok(()) }
    }
}

/// Fails as `mode` says; returns if it is none of the failures.
fn fail(mode: Mode, where_told: &str) -> Result<(), Failure> {
    match mode {
        Mode::None | Mode::Spin | Mode::Exit | Mode::Drain | Mode::Reject => Ok(()),
        Mode::Error => Err(Failure::new(format!("told to fail by {where_told}"))),
        Mode::Later => Err(Failure::later(format!("told to wait by {where_told}"))),
        Mode::Config => Err(Failure::config(format!("told to give up by {where_told}"))),
        Mode::Crash => crash(where_told),
        Mode::Hang => loop {
            black_box(());
        },
        Mode::Leak => loop {
            // Touched, so that it is memory and not only an address range.
            black_box(vec![1_u8; 65_536]).leak();
        },
    }
}

#[allow(clippy::panic, reason = "what this daemon is for")]
fn crash(where_told: &str) -> ! {
    panic!("told to crash by {where_told}")
}

/// The last mode that a message names.
fn told(context: &mut Context<'_>) -> Result<Mode, Failure> {
    let messages = match context.receive("commands", 16) {
        Ok(messages) => messages,
        Err(Error::NotFound | Error::Denied) => return Ok(Mode::None),
        Err(other) => return Err(other.into()),
    };
    let mut mode = Mode::None;
    for message in messages {
        let text = String::from_utf8_lossy(&message.payload);
        match text.trim().parse() {
            Ok(Mode::Reject) => context.reject("commands", message.sequence, "told to")?,
            Ok(told) => mode = told,
            Err(UnknownName) => {
                // Only the start: a message may be longer than a log line.
                let start: String = text.chars().take(40).collect();
                context.log(Level::Warn, format!("no such command: {start:?}"));
            }
        }
    }
    Ok(mode)
}

fn stored_slices(context: &mut Context<'_>) -> Result<u64, Failure> {
    let bytes = match context.state().get(KEY) {
        Ok(None) | Err(Error::Denied) => return Ok(0),
        Ok(Some(bytes)) => bytes,
        Err(other) => return Err(other.into()),
    };
    let bytes = <[u8; 8]>::try_from(bytes)
        .map_err(|_| Failure::new(format!("state: `{KEY}` is not a count")))?;
    Ok(u64::from_le_bytes(bytes))
}

duende_sdk::export!(Flaky);

#[cfg(test)]
mod tests {
    use super::*;
    use duende_sdk::{HealthStatus, testing::Manager};
    use std::panic::AssertUnwindSafe;

    fn told_to(mode: &str, verb: &str, after_slices: &str) -> Manager {
        Manager::new()
            .with_channel("commands")
            .with_config("mode", mode)
            .with_config("verb", verb)
            .with_config("after_slices", after_slices)
    }

    #[test]
    fn it_works_until_its_slice_has_come() {
        let mut manager = told_to("error", "run", "2");
        let mut flaky = manager.start::<Flaky>().unwrap();
        for nanoseconds in [500_000_000, 1_000_000_000] {
            let next = manager.slice(&mut flaky).unwrap();
            assert_eq!(next, Next::Until(Instant { nanoseconds }));
        }
        manager.slice(&mut flaky).unwrap_err();
        // The slice that failed is not in `state`.
        assert_eq!(manager.state("slices"), Some(&2_u64.to_le_bytes()[..]));
    }

    #[test]
    fn each_export_can_fail() {
        assert!(told_to("error", "init", "0").start::<Flaky>().is_err());

        let mut manager = told_to("error", "health-check", "1");
        let mut flaky = manager.start::<Flaky>().unwrap();
        assert_eq!(manager.health(&mut flaky), Ok(Health::healthy()));
        manager.slice(&mut flaky).unwrap();
        assert_eq!(manager.health(&mut flaky).unwrap().status, HealthStatus::Unhealthy);

        let mut manager = told_to("error", "shutdown", "0");
        let flaky = manager.start::<Flaky>().unwrap();
        manager.shutdown(flaky, Duration::ZERO).unwrap_err();

        let mut manager = told_to("crash", "metrics", "0");
        let mut flaky = manager.start::<Flaky>().unwrap();
        let ask = AssertUnwindSafe(|| manager.samples(&mut flaky));
        std::panic::catch_unwind(ask).unwrap_err();
    }

    #[test]
    fn a_command_is_obeyed_and_comes_again_if_it_was_fatal() {
        let mut manager = told_to("none", "run", "0");
        manager.send("commands", b"dance\n");
        manager.send("commands", b"error\n");
        for _ in 0..2 {
            let mut flaky = manager.start::<Flaky>().unwrap();
            manager.slice(&mut flaky).unwrap_err();
            let lines = manager.take_lines();
            assert!(lines.iter().any(|(level, _)| *level == Level::Warn), "{lines:?}");
        }
        assert_eq!(manager.waiting("commands"), 2);
    }

    #[test]
    fn spinning_and_ending_are_no_failures() {
        let mut manager = told_to("none", "run", "0");
        let mut flaky = manager.start::<Flaky>().unwrap();
        manager.send("commands", b"spin");
        for _ in 0..3 {
            assert_eq!(manager.slice(&mut flaky), Ok(Next::Again));
        }
        manager.send("commands", b"exit");
        assert_eq!(manager.slice(&mut flaky), Ok(Next::done()));
        assert_eq!(manager.waiting("commands"), 0);
    }

    #[test]
    fn an_unknown_mode_is_refused_by_name() {
        let Err(failure) = told_to("dance", "run", "0").start::<Flaky>() else {
            panic!("accepted")
        };
        assert!(failure.to_string().contains("mode = dance"), "{failure}");
        assert_eq!(failure.code(), 78);
    }

    #[test]
    fn it_drains_when_it_is_asked_to_and_gives_up_what_it_is_told() {
        let mut manager = told_to("drain", "run", "0");
        manager.send("commands", b"reject");
        let mut flaky = manager.start::<Flaky>().unwrap();
        manager.slice(&mut flaky).unwrap();
        assert_eq!(manager.take_rejected().len(), 1);
        let ended = manager.shutdown(flaky, Duration::from_secs(1)).unwrap();
        assert_eq!(ended.code, 0);
        let draining = |(_, line): &(Level, String)| line.starts_with("draining");
        assert_eq!(manager.take_lines().iter().filter(|line| draining(line)).count(), 3);
    }
}
