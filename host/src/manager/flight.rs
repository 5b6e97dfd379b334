//! The manager's flight recorder: the last inputs and effects of its supervisor.
//!
//! Rules:
//! 1. Everything that goes into the supervisor and comes out of it is recorded, all the time.
//! 2. When the supervisor halts, the recorder is written to [`FILE`] in the fleet's state directory,
//!    the newest first. A dump that is there already is replaced: the last halt counts.
//! 3. It is written before anything else is done about the halt, and failing to write it is said and
//!    changes nothing.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use duende_core::{
    epitaph::Epitaph,
    recorder::{Recorder, Slot},
    supervise::{Effect, Input},
    time::Instant,
};

/// Inputs and effects that are kept. A restart is about six of them.
const RECORDS_MAX: usize = 1_024;
/// The name of the dump.
const FILE: &str = "flight-recorder.txt";

/// What is recorded.
#[derive(Clone, Debug)]
enum Decided {
    Input(Input),
    Effect(Effect),
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(input) => write!(f, "<- {input:?}"),
            Self::Effect(effect) => write!(f, "-> {effect:?}"),
        }
    }
}

/// See the module.
pub(super) struct FlightRecorder {
    recorder: Recorder<Decided, Box<[Slot<Decided>]>>,
}

impl FlightRecorder {
    pub(super) fn new() -> Self {
        Self { recorder: Recorder::new(vec![Slot::EMPTY; RECORDS_MAX].into_boxed_slice()) }
    }

    pub(super) fn input(&mut self, at: Instant, input: Input) {
        self.recorder.record(at, Decided::Input(input));
    }

    pub(super) fn effect(&mut self, at: Instant, effect: &Effect) {
        self.recorder.record(at, Decided::Effect(effect.clone()));
    }

    /// Writes the dump into `directory`. Its path.
    pub(super) fn dump(&self, epitaph: &Epitaph, directory: &Path) -> io::Result<PathBuf> {
        let mut text = String::new();
        // A string takes all.
        let _ = self.recorder.dump(Some(epitaph), &mut text);
        let path = directory.join(FILE);
        fs::write(&path, text)?;
        Ok(path)
    }
}
