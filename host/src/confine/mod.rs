//! What a process of ours that meets a stranger's code may still do.
//!
//! Two processes do: `compile-worker`, which reads a component, and `wos-worker`, which runs what was made
//! of it. Each gives up, before it meets it, all that it does not need, in layers of which each holds alone:
//!
//! | layer | what it takes | who sees it from outside |
//! |---|---|---|
//! | `no-new-privs` | set-user-id programs and file capabilities | `NoNewPrivs` in `/proc/PID/status` |
//! | `capabilities` | root's: all of them, also those that it could get back | `CapEff`, `CapBnd` |
//! | `landlock` | all files but those that it names, read only; TCP; signals and abstract sockets of others | |
//! | `seccomp` | all system calls but those of a list; of the rest those are fatal that only an attack makes | `Seccomp: 2` |
//!
//! What a kernel lacks of them is left out and told by name ([`Layers`]): by `doctor`, and by `status` of a
//! fleet. That each layer holds is tried by processes that do what it takes (`tests`).
//!
//! The calling thread and those that it starts later are confined: threads come after.

mod files;
mod system_calls;

use std::{io, path::PathBuf};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use serde::{Deserialize, Serialize};

/// What one process needs.
#[derive(Clone, Debug)]
pub struct Confinement {
    calls: &'static [libc::c_long],
    /// Directories and files that it reads and maps; nothing else of the file system is there for it.
    reads: Vec<PathBuf>,
}

impl Confinement {
    /// `compile-worker`: what it holds, and memory.
    #[must_use]
    pub const fn compiler() -> Self {
        Self { calls: system_calls::COMPILER, reads: Vec::new() }
    }

    /// `wos-worker`: its link, clocks, and the images in these directories.
    #[must_use]
    pub const fn worker(images: Vec<PathBuf>) -> Self {
        Self { calls: system_calls::WORKER, reads: images }
    }
}

/// Whether a layer is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// All of it.
    Full,
    /// What this kernel has of it.
    Partly,
    /// Not at all.
    Missing(String),
}

/// The layers, by name, in the order in which they were put on.
pub type Layers = Vec<(String, Layer)>;

/// Confines this thread, and what it starts.
///
/// # Errors
/// A layer that the kernel has can't be put on. One that it lacks is no error.
pub fn this_process(confinement: &Confinement) -> io::Result<Layers> {
    set_no_new_privs(true)?;
    let mut layers = vec![("no-new-privs".to_owned(), Layer::Full)];
    layers.push(("capabilities".to_owned(), drop_capabilities()?));
    layers.push(("landlock".to_owned(), files::confine(&confinement.reads)?));
    layers.push(("seccomp".to_owned(), system_calls::confine(confinement.calls)?));
    Ok(layers)
}

/// Drops all capabilities, if there are any. The bounding set is of no use with no-new-privs, and is dropped
/// as far as that is allowed.
fn drop_capabilities() -> io::Result<Layer> {
    for capability in CapabilitySet::all().iter() {
        // Needs a capability itself; without it there is nothing to bound.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(Layer::Full)
}

#[cfg(test)]
mod tests;
