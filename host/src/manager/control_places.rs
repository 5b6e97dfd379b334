//! Who may ask at which socket, and how many at a time.
//!
//! Rules:
//! 1. At most [`CONNECTIONS_MAX`] are connected, at both sockets together.
//! 2. Readers, however many come, never take the operator's places: at most [`READERS_MAX`] are theirs
//!    (`control_server::tests::a_flood_of_readers_leaves_the_operator_its_places`).
//! 3. Whoever waits leaves room for `ps` and `down`: at most [`WAITING_MAX`] of the operator's questions, and
//!    [`READERS_WAITING_MAX`] of the readers', may take long
//!    (`control_server::tests::whoever_waits_leaves_room_for_who_asks`).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at a time.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Most connections of readers at a time.
pub(super) const READERS_MAX: usize = 12;
/// Most questions at a time whose answer may take long.
pub(super) const WAITING_MAX: usize = 48;
/// Most such questions of readers.
pub(super) const READERS_WAITING_MAX: usize = 8;

const _: () = assert!(WAITING_MAX + READERS_MAX < CONNECTIONS_MAX);
const _: () = assert!(READERS_WAITING_MAX < READERS_MAX);

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything, for the fleet's user and root.
    Control,
    /// What changes nothing, for whoever may open the socket's file.
    ReadOnly,
}

impl Access {
    /// What the socket is called.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::ReadOnly => "read-only",
        }
    }
}

/// The places of all connections.
#[derive(Clone, Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    waiting_readers: Arc<Semaphore>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_readers: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            all: places(CONNECTIONS_MAX),
            readers: places(READERS_MAX),
            waiting: places(WAITING_MAX),
            waiting_readers: places(READERS_WAITING_MAX),
        }
    }

    /// A place for a connection; or how many are connected already.
    pub(super) fn connect(&self, access: Access) -> Result<Place, usize> {
        let of_readers = match access {
            Access::Control => None,
            Access::ReadOnly => Some(take(&self.readers).ok_or(READERS_MAX)?),
        };
        let of_all = take(&self.all).ok_or(CONNECTIONS_MAX)?;
        Ok(Place { _of_all: of_all, _of_readers: of_readers })
    }

    /// A place for a question whose answer may take long; or how many have one already.
    pub(super) fn wait(&self, access: Access) -> Result<OwnedSemaphorePermit, usize> {
        match access {
            Access::Control => take(&self.waiting).ok_or(WAITING_MAX),
            Access::ReadOnly => take(&self.waiting_readers).ok_or(READERS_WAITING_MAX),
        }
    }
}

fn take(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().ok()
}
