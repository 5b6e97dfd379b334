//! The tasks: what a node runs one slice at a time.
//!
//! A task is a value. Starting it makes a new one, killing it drops it, so nothing of an incarnation
//! survives into the next but what others hold: the messages in the channel, and the modem.

pub mod logger;
pub mod radio;
pub mod sensor;

use duende_core::ipc::{Channel, Place, Seat};
use duende_core::restart::Exit;
use duende_core::sched::Level;
use duende_core::time::Instant;

use crate::Board;
use logger::Logger;
use radio::{Modem, Radio};
use sensor::Sensor;

/// How many tasks there are.
pub const TASKS: usize = Kind::ALL.len();

/// A reading on its way: hundredths of a degree, little endian.
pub type Reading = [u8; 4];

/// The channel from the sensor to the logger.
pub type Readings<'a> = Channel<Reading, &'a mut [Place<Reading>], &'a mut [Seat<Reading>]>;

/// Which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads a temperature.
    Sensor,
    /// Receives the readings.
    Logger,
    /// Fails.
    Radio,
}

impl Kind {
    /// All tasks; the place in this list is the task's number.
    pub const ALL: [Self; 3] = [Self::Sensor, Self::Logger, Self::Radio];

    /// Its number, for the scheduler and in the node's tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sensor => "sensor",
            Self::Logger => "logger",
            Self::Radio => "radio",
        }
    }

    /// How urgent it is.
    #[must_use]
    pub fn level(self) -> Level {
        let number = match self {
            Self::Sensor => 1,
            Self::Logger => 4,
            Self::Radio => 6,
        };
        Level::new(number).unwrap_or_default()
    }
}

/// What a slice may use.
pub struct Context<'a, 'b> {
    /// When the slice began.
    pub now: Instant,
    /// The task was asked to end.
    pub stop: bool,
    /// The channel of readings.
    pub readings: &'a mut Readings<'b>,
    /// The modem.
    pub modem: &'a mut Modem,
    /// The machine.
    pub board: &'a mut dyn Board,
}

/// What a task waits for after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it wants to go on.
    Again,
    /// This instant.
    Until(Instant),
    /// A reading.
    Reading,
    /// An answer that would come by other means.
    Answer,
    /// It has ended.
    Exit(Exit),
}

/// A task that runs.
#[derive(Debug)]
pub enum Task {
    /// See [`sensor`].
    Sensor(Sensor),
    /// See [`logger`].
    Logger(Logger),
    /// See [`radio`].
    Radio(Radio),
}

impl Task {
    /// A new incarnation.
    #[must_use]
    pub fn start(kind: Kind, incarnation: u32) -> Self {
        match kind {
            Kind::Sensor => Self::Sensor(Sensor::default()),
            Kind::Logger => Self::Logger(Logger::default()),
            Kind::Radio => Self::Radio(Radio::new(incarnation)),
        }
    }

    /// Runs one slice.
    pub fn slice(&mut self, context: &mut Context<'_, '_>) -> Next {
        if context.stop && !matches!(self, Self::Radio(radio) if radio.is_stuck()) {
            return Next::Exit(Exit::Code(0));
        }
        match self {
            Self::Sensor(sensor) => sensor.slice(context),
            Self::Logger(logger) => logger.slice(context),
            Self::Radio(radio) => radio.slice(context),
        }
    }

    /// Whether it gets anywhere.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        match self {
            Self::Sensor(_) | Self::Logger(_) => true,
            Self::Radio(radio) => !radio.is_stuck(),
        }
    }

    /// Gives back what it holds of others. Called however it ended.
    pub fn end(self, readings: &mut Readings<'_>) {
        if let Self::Sensor(sensor) = self {
            sensor.end(readings);
        }
    }
}
