//! What the engine of this build on this machine is called.

use std::{io, path::Path, process::Stdio};

use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::{children::Own, compile::ENGINE_ARGUMENT, confine::Layers, platform};

/// What machine code must be made for, as the process says that would run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// How memory is guarded here: `guarded` or `checked`.
    pub profile: String,
    /// Names all that the compiler's output depends on: its version, its settings, this processor. 16
    /// hexadecimal digits.
    pub name: String,
    /// What confines the processes that meet a stranger's code.
    pub layers: Layers,
}

impl Engine {
    /// Asks a process of ours what a worker of so many components would have: an engine takes hold of signals and
    /// address space, which are the asker's.
    ///
    /// # Errors
    /// It can't be started, or no engine can be made here.
    pub fn ask(program: Option<&Path>, components: u32) -> Result<Self, ImageError> {
        let mut command = match program {
            Some(program) => std::process::Command::new(program),
            None => platform::own_command(),
        };
        command
            .args(["compile-worker", ENGINE_ARGUMENT, &components.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |error: io::Error| ImageError::Engine(error.to_string());
        let (child, _own) = Own::spawn(&mut command).map_err(failed)?;
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let words = words.trim().trim_start_matches("duende: ");
            return Err(ImageError::Engine(format!("{}: {words}", output.status)));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| ImageError::Engine(error.to_string()))
    }
}
