//! The control socket: where it is, and who is let in. What is said there is [`control_client`]'s.
//!
//! Rules:
//! 1. The socket has mode 0600 from its first moment, whatever the umask. Of two managers that start at
//!    once one gets it: looking whether somebody serves it, and taking its place, happen under a lock
//!    on the directory.
//! 2. A socket that nobody serves is replaced. Anything else that stands in its place is left alone,
//!    and is an error.
//! 3. A socket or directory that is removed is made again within [`LOOK_PERIOD`]. If that can't be
//!    done, [`ControlServer::trouble`] says so until it can.
//! 4. At most [`CONNECTIONS_MAX`] are connected; one more is refused in words, at once.
//! 5. A lack of descriptors locks nobody out: one is held in reserve for whoever comes then. Without
//!    it the server rests for [`REST`] before it looks again.
//!
//! [`control_client`]: super::control_client

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        sockopt,
    },
};
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc, watch},
    time::MissedTickBehavior,
};

pub(crate) use super::control_client::Question;
use super::control_client::{self, Desk};
use crate::config::dirs::prepare_runtime_dir;

/// Most connections at a time.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How often it is looked whether the socket is still there.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How long nobody is accepted after that failed for lack of something.
const REST: Duration = Duration::from_millis(100);
/// How long another manager may hold the lock on the directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the lock is tried.
const LOCK_PERIOD: Duration = Duration::from_millis(10);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Only its owner may connect.
const SOCKET_MODE: u32 = 0o600;

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(
        "fleet `{fleet}` is running already{}, its manager answers on {socket}; stop it (`duende \
         down --fleet {fleet}`), or give this fleet another name",
        pid.map(|pid| format!(" (manager {pid})")).unwrap_or_default()
    )]
    AlreadyRunning { fleet: String, socket: String, pid: Option<u32> },
    #[error("cannot open the control socket {socket}: {source}")]
    Io { socket: String, source: io::Error },
}

/// The socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct ControlServer {
    task: tokio::task::JoinHandle<()>,
    trouble: watch::Receiver<Option<String>>,
}

impl ControlServer {
    /// Opens the socket and takes connections. A socket file that nobody serves is replaced.
    ///
    /// # Errors
    /// Somebody serves it, something else is there, or it cannot be made.
    pub(crate) fn open(
        fleet: &str,
        path: &Path,
        questions: mpsc::Sender<Question>,
    ) -> Result<Self, ControlError> {
        let bound = Bound::claim(path).map_err(|error| error.of(fleet, path))?;
        let (say, trouble) = watch::channel(None);
        let server = Server { bound, reserve: Reserve::new(), desk: Desk::new(questions) };
        Ok(Self { task: tokio::spawn(server.run(say)), trouble })
    }

    /// Why the socket can't be made again although it is gone; none: it is there.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A listening socket and the file that it is bound to, which goes with it.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    listener: UnixListener,
    device: u64,
    inode: u64,
}

#[derive(Debug)]
enum ClaimError {
    InUse(Option<u32>),
    Io(io::Error),
}

impl ClaimError {
    fn of(self, fleet: &str, path: &Path) -> ControlError {
        let socket = path.display().to_string();
        match self {
            Self::InUse(pid) => {
                ControlError::AlreadyRunning { fleet: fleet.to_owned(), socket, pid }
            }
            Self::Io(source) => ControlError::Io { socket, source },
        }
    }
}

impl From<io::Error> for ClaimError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for ClaimError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl Bound {
    fn claim(path: &Path) -> Result<Self, ClaimError> {
        let _lock = lock_directory(path)?;
        let address = SocketAddrUnix::new(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                match connect(stream_socket()?, &address) {
                    // Left behind by a manager that was killed.
                    Err(Errno::CONNREFUSED) => fs::remove_file(path)?,
                    // Accepted, or so busy that its backlog is full.
                    Ok(()) | Err(Errno::AGAIN) => return Err(ClaimError::InUse(server_of(path))),
                    Err(errno) => return Err(errno.into()),
                }
            }
            Ok(_) => {
                return Err(ClaimError::Io(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket stands there; move it away",
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let socket = stream_socket()?;
        // Linux makes the file with the mode of the socket, less the umask: never more than this.
        fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE))?;
        bind(&socket, &address)?;
        // Nobody can connect yet. A umask may have taken the owner's bits away.
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        listen(&socket, BACKLOG)?;
        let found = fs::symlink_metadata(path)?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self { path: path.to_owned(), listener, device: found.dev(), inode: found.ino() })
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_there() {
            // If it is gone already, that is what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn stream_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// The process that listens, as the kernel remembers it.
fn server_of(path: &Path) -> Option<u32> {
    let socket = stream_socket().ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    let credentials = sockopt::socket_peercred(&socket).ok()?;
    u32::try_from(credentials.pid.as_raw_pid()).ok()
}

/// The lock goes with the file.
fn lock_directory(path: &Path) -> Result<File, ClaimError> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let began = Instant::now();
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK) if began.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(LOCK_PERIOD);
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(ClaimError::Io(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another manager holds the lock on its directory and does not go on; end it",
                )));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A descriptor that is given up when there is no other.
#[derive(Debug)]
struct Reserve(Option<File>);

impl Reserve {
    fn new() -> Self {
        let mut reserve = Self(None);
        reserve.refill();
        reserve
    }

    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Whether something was given up, so that it is worth trying again at once.
    fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

struct Server {
    bound: Bound,
    reserve: Reserve,
    desk: Desk,
}

impl Server {
    async fn run(mut self, trouble: watch::Sender<Option<String>>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut look = tokio::time::interval(LOOK_PERIOD);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                accepted = self.bound.listener.accept() => accepted,
                _ = look.tick() => {
                    self.reserve.refill();
                    self.look_after_the_file(&trouble);
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    self.reserve.refill();
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        control_client::refuse_busy(&stream, CONNECTIONS_MAX);
                        continue;
                    };
                    let desk = self.desk.clone();
                    tokio::spawn(async move {
                        // What is wrong with a connection is its client's.
                        let _ = control_client::serve(stream, desk).await;
                        drop(place);
                    });
                }
                // Of one connection that is gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) if self.reserve.give_up() => {}
                Err(_) => tokio::time::sleep(REST).await,
            }
        }
    }

    fn look_after_the_file(&mut self, trouble: &watch::Sender<Option<String>>) {
        if self.bound.is_there() {
            return;
        }
        let made = again(&self.bound.path).map_err(|error| {
            format!("the control socket {} is gone: {error}", self.bound.path.display())
        });
        let text = match made {
            Ok(bound) => {
                self.bound = bound;
                None
            }
            Err(text) => Some(text),
        };
        trouble.send_if_modified(|known| {
            let changes = *known != text;
            *known = text;
            changes
        });
    }
}

fn again(path: &Path) -> Result<Bound, String> {
    let uid = rustix::process::geteuid().as_raw();
    let directory = path.parent().unwrap_or(Path::new("/"));
    prepare_runtime_dir(directory, uid).map_err(|error| error.to_string())?;
    Bound::claim(path).map_err(|error| match error {
        ClaimError::InUse(pid) => {
            let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
            format!("another manager{pid} has taken its place; stop one of them")
        }
        ClaimError::Io(error) => error.to_string(),
    })
}

#[cfg(test)]
mod tests;
