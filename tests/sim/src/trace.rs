//! Runs in files: consecutive records, as `duende-world` reads them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use duende_world::{RECORD_BYTES_MAX, Step, Steps, write_step};

/// Writes a trace, step by step.
#[derive(Debug)]
pub struct Recorder {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Recorder {
    /// To a new file.
    ///
    /// # Errors
    /// Why it can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?), failed: None })
    }

    /// Adds a step. What fails is told at the end.
    pub fn step(&mut self, step: &Step) {
        let mut record = [0; RECORD_BYTES_MAX];
        let bytes = write_step(step, &mut record).unwrap_or(0);
        if let Err(error) = self.file.write_all(&record[..bytes]) {
            self.failed.get_or_insert(error);
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Why it is not complete.
    pub fn finish(mut self) -> io::Result<()> {
        match self.failed {
            Some(error) => Err(error),
            None => self.file.flush(),
        }
    }
}

/// Reads a whole trace.
///
/// # Errors
/// Why it can't be read.
pub fn read(path: &Path) -> io::Result<Vec<Step>> {
    let bytes = std::fs::read(path)?;
    let steps: Result<Vec<Step>, _> = Steps::new(&bytes).collect();
    steps.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a whole trace.
///
/// # Errors
/// Why it is not complete.
pub fn write(path: &Path, steps: &[Step]) -> io::Result<()> {
    let mut recorder = Recorder::create(path)?;
    for step in steps {
        recorder.step(step);
    }
    recorder.finish()
}
