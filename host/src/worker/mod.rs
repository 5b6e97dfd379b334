//! `duende wos-worker`: a hosted WOS in a process of its own.
//!
//! The manager starts it with one end of a socket pair as its standard input and speaks link frames
//! to it; its images come over another one, its standard output. Everything that
//! runs a daemon's code — the engine, the pool of instances — lives here, so a worker
//! that dies takes its daemons and nothing else.
//!
//! Threads: this one runs the kernel; one maps images; one ticks the epoch while a slice
//! runs. The kernel is owned by this thread alone.
//!
//! It gives up what it does not need before any of that begins: see [`crate::confine`].

pub(crate) mod engine;
pub(crate) mod handover;
mod image;
mod link;
mod machine;
pub(crate) mod mark;
pub(crate) mod room;
mod serve;
mod ticker;

use std::{
    env, io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use rustix::net::SocketType;
use wos_kernel::{Kernel, engine::WasmtimeExecutor, limits::PROCESSES_MAX};

use self::room::Room;

pub(crate) use self::room::components_within;
pub use self::{
    engine::{Engines, Profile, UnknownProfile},
    image::map_image,
    link::Linkers,
    machine::HostMachine,
};
use crate::confine::{self, Confinement};

/// The environment variable with the directories of compiled images, as in `PATH`.
pub(crate) const IMAGES_VARIABLE: &str = "DUENDE_WORKER_IMAGES";
/// The environment variable with the number of components that the fleet has.
pub(crate) const COMPONENTS_VARIABLE: &str = "DUENDE_COMPONENTS";

/// Most components of a worker: PID 1 is the kernel's own.
pub(crate) const COMPONENTS_MAX: u32 = PROCESSES_MAX - 1;

/// Why a worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It was started by hand.
    #[error(
        "wos-worker is started by the duende manager; to run a component, use `duende run IMAGE`"
    )]
    NotStartedByManager,
    /// The engine could not be set up.
    #[error("cannot set up the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The manager's bytes are no frames of this version.
    #[error("the manager speaks another protocol: {0}")]
    Frame(#[from] duende_core::wire::FrameError),
    /// The manager speaks no version of the link that is spoken here.
    #[error("the manager: {0}")]
    Hello(#[from] duende_core::wire::HelloError),
    /// The manager broke the link protocol.
    #[error("the manager broke the link protocol: {0}")]
    Protocol(#[from] wos_kernel::ProtocolError),
    /// The kernel found a rule of its own broken.
    #[error("a rule of WOS is broken; please report this with what stands below\n{dump}")]
    Halted {
        /// The epitaph, and what the kernel did last, the newest first.
        dump: String,
    },
}

/// Runs a worker until its manager closes the link.
///
/// # Errors
/// It was not started by a manager, or cannot go on.
pub fn main() -> Result<(), WorkerError> {
    let link = inherited_link().ok_or(WorkerError::NotStartedByManager)?;
    let handed = inherited_images().ok_or(WorkerError::NotStartedByManager)?;
    let images = env::var_os(IMAGES_VARIABLE).ok_or(WorkerError::NotStartedByManager)?;
    let images: Vec<PathBuf> = env::split_paths(&images).collect();
    let system = |what| move |source| WorkerError::System { what, source };
    let (_, file) = handover::take(&handed)
        .map_err(system("cannot take what the manager hands over"))?
        .ok_or(WorkerError::NotStartedByManager)?;
    let mark = mark::Mark::of(&file).map_err(system("cannot map the mark of open slices"))?;
    let components = env::var(COMPONENTS_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .ok_or(WorkerError::NotStartedByManager)?
        .min(COMPONENTS_MAX);
    // Past the system's limit of mappings the whole process would die: whoever finds no room waits.
    let room = Room::of_this_process();
    let (admitted, no_room) = room.admits(components);
    let machine = Arc::new(HostMachine::new(no_room, mark));
    // Reads a file, of which there are none from here on.
    machine.learn_memory();
    confine::this_process(&Confinement::worker(images)).map_err(system("cannot confine itself"))?;
    let engines = Engines::within(admitted, &room).map_err(WorkerError::Engine)?;
    let linkers = Linkers::new(&engines).map_err(WorkerError::Engine)?;
    let loader =
        image::Loader::start(linkers, handed).map_err(system("cannot start the image loader"))?;
    let settled = loader.settled();
    let ticker = ticker::Ticker::start(engines, machine.clone(), &link)
        .map_err(system("cannot start the ticker"))?;
    let executor = WasmtimeExecutor::new(loader);
    let kernel = Kernel::new(executor, admitted.saturating_add(1), machine.clone());
    serve::serve(&link, kernel, &settled, &ticker, &machine)
}

/// Standard output: where images come from.
fn inherited_images() -> Option<OwnedFd> {
    let images = io::stdout().as_fd().try_clone_to_owned().ok()?;
    let keeps_apart = rustix::net::sockopt::socket_type(&images) == Ok(SocketType::SEQPACKET);
    keeps_apart.then_some(images)
}

fn inherited_link() -> Option<OwnedFd> {
    let link = io::stdin().as_fd().try_clone_to_owned().ok()?;
    let is_stream = rustix::net::sockopt::socket_type(&link) == Ok(SocketType::STREAM);
    is_stream.then_some(link)
}
