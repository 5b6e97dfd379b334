//! The control socket, and the read-only one if there is to be one: where they are, and who is let in. What is
//! said there is [`control_client`]'s.
//!
//! Rules:
//! 1. A socket has its mode from its first moment, whatever the umask: the control socket 0600, the read-only
//!    one 0600 unless its owner chose to open it to a group or to all. Of two managers that start at once one
//!    gets it: looking whether somebody serves it, and taking its place, happen under a lock on the directory.
//! 2. A socket that nobody serves is replaced. Anything else that stands in its place is left alone,
//!    and is an error.
//! 3. A socket or directory that is removed is made again within [`LOOK_PERIOD`]. If that can't be
//!    done, [`ControlServer::trouble`] says so until it can.
//! 4. At most [`CONNECTIONS_MAX`] are connected, of which few are readers; one more is refused in words, at once.
//! 5. A lack of descriptors locks nobody out of the control socket: one is held in reserve for whoever comes
//!    then, who may not keep it for long, and never for a reader
//!    (`control_server::tests::a_lack_of_descriptors_locks_nobody_out`). Without it the server rests for
//!    [`REST`] before it looks again.
//!
//! [`control_client`]: super::control_client
//! [`CONNECTIONS_MAX`]: super::control_places::CONNECTIONS_MAX

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
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
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

pub(crate) use super::control_client::Question;
use super::{
    control_client::{self, Desk, Terms},
    control_places::{Access, Places},
};
use crate::{config::dirs::prepare_runtime_dir, reach};

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

/// The socket for those who may look and not touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlySocket {
    /// Its file.
    pub path: PathBuf,
    /// The mode of its file, which alone says who may open it.
    pub mode: u32,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(
        "fleet `{fleet}` is running already{}, its manager answers on {socket}; stop it (`duende \
         down --fleet {fleet}`), or give this fleet another name",
        pid.map(|pid| format!(" (manager {pid})")).unwrap_or_default()
    )]
    AlreadyRunning { fleet: String, socket: String, pid: Option<u32> },
    #[error("cannot open the {what} socket {socket}: {source}")]
    Io { what: &'static str, socket: String, source: io::Error },
}

/// The sockets; their files go with them.
#[derive(Debug)]
pub(crate) struct ControlServer {
    task: tokio::task::JoinHandle<()>,
    trouble: watch::Receiver<Option<String>>,
}

impl ControlServer {
    /// Opens the sockets and takes connections. A socket file that nobody serves is replaced.
    ///
    /// # Errors
    /// Somebody serves one of them, something else is there, or it cannot be made.
    pub(crate) fn open(
        fleet: &str,
        path: &Path,
        readers: Option<&ReadOnlySocket>,
        questions: mpsc::Sender<Question>,
    ) -> Result<Self, ControlError> {
        let bound = Bound::claim(path, Access::Control, SOCKET_MODE)
            .map_err(|error| error.of(fleet, path))?;
        let readers = readers.map(|readers| open_to_readers(readers, path)).transpose()?;
        let (say, trouble) = watch::channel(None);
        let desk = Desk { questions, places: Places::new() };
        let server = Server { bound, readers, reserve: Reserve::new(), desk };
        Ok(Self { task: tokio::spawn(server.run(say)), trouble })
    }

    /// Why a socket can't be made again although it is gone; none: they are there.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the read-only socket of a fleet whose control socket is `control`.
fn open_to_readers(readers: &ReadOnlySocket, control: &Path) -> Result<Bound, ControlError> {
    let ReadOnlySocket { path, mode } = readers;
    let refusal = |source| ControlError::Io {
        what: Access::ReadOnly.as_str(),
        socket: path.display().to_string(),
        source,
    };
    if path.parent() == control.parent() {
        // There it would be taken for another fleet's, and it is nobody else's to open.
        let text = "this directory is for control sockets; name a path in another one";
        return Err(refusal(io::Error::new(io::ErrorKind::InvalidInput, text)));
    }
    let claimed = Bound::claim(path, Access::ReadOnly, *mode);
    claimed.map_err(|error| refusal(error.named(path)))
}

/// A listening socket and the file that it is bound to, which goes with it.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    access: Access,
    mode: u32,
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
            Self::Io(source) => ControlError::Io { what: Access::Control.as_str(), socket, source },
        }
    }

    /// What is wrong with a path that somebody chose.
    fn named(self, path: &Path) -> io::Error {
        match self {
            Self::InUse(pid) => {
                let by = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                let text = format!("it is served already{by}; end that one, or name another path");
                io::Error::new(io::ErrorKind::AddrInUse, text)
            }
            Self::Io(error) => io::Error::new(error.kind(), reach::said(path, &error)),
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
    fn claim(path: &Path, access: Access, mode: u32) -> Result<Self, ClaimError> {
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
        fchmod(&socket, Mode::from_raw_mode(mode))?;
        bind(&socket, &address)?;
        // Nobody can connect yet. A umask may have taken the owner's bits away.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listen(&socket, BACKLOG)?;
        let found = fs::symlink_metadata(path)?;
        let listener = UnixListener::from_std(socket.into())?;
        let (device, inode) = (found.dev(), found.ino());
        Ok(Self { path: path.to_owned(), access, mode, listener, device, inode })
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }

    /// Makes the socket again if its file is gone; in words why that can't be done.
    fn look_after(&mut self) -> Result<(), String> {
        if self.is_there() {
            return Ok(());
        }
        let made = again(&self.path, self.access, self.mode).map_err(|error| {
            format!("the {} socket {} is gone: {error}", self.access.as_str(), self.path.display())
        });
        *self = made?;
        Ok(())
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

    const fn is_held(&self) -> bool {
        self.0.is_some()
    }

    /// Whether something was given up, so that it is worth trying again at once.
    fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

struct Server {
    bound: Bound,
    readers: Option<Bound>,
    reserve: Reserve,
    desk: Desk,
}

impl Server {
    async fn run(mut self, trouble: watch::Sender<Option<String>>) {
        let mut look = tokio::time::interval(LOOK_PERIOD);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (access, accepted) = tokio::select! {
                // However many readers come: the operator before them.
                biased;
                _ = look.tick() => {
                    self.reserve.refill();
                    self.look_after_the_files(&trouble);
                    continue;
                }
                accepted = self.bound.listener.accept() => (Access::Control, accepted),
                accepted = next_reader(self.readers.as_ref()) => (Access::ReadOnly, accepted),
            };
            match accepted {
                Ok((stream, _)) => self.let_in(stream, access),
                // Of one connection that is gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) if self.reserve.give_up() => {}
                Err(_) => tokio::time::sleep(REST).await,
            }
        }
    }

    fn let_in(&mut self, stream: UnixStream, access: Access) {
        self.reserve.refill();
        let is_last = !self.reserve.is_held();
        if is_last && access == Access::ReadOnly {
            control_client::refuse_last(&stream);
            drop(stream);
            return self.reserve.refill();
        }
        let place = match self.desk.places.connect(access) {
            Ok(place) => place,
            Err(connections) => return control_client::refuse_busy(&stream, connections),
        };
        let desk = self.desk.clone();
        tokio::spawn(async move {
            // What is wrong with a connection is its client's.
            let _ = control_client::serve(stream, desk, Terms { access, is_last }).await;
            drop(place);
        });
    }

    fn look_after_the_files(&mut self, trouble: &watch::Sender<Option<String>>) {
        let sockets = [Some(&mut self.bound), self.readers.as_mut()].into_iter().flatten();
        let troubles: Vec<_> = sockets.filter_map(|socket| socket.look_after().err()).collect();
        let text = (!troubles.is_empty()).then(|| troubles.join("; "));
        trouble.send_if_modified(|known| {
            let changes = *known != text;
            *known = text;
            changes
        });
    }
}

async fn next_reader(
    readers: Option<&Bound>,
) -> io::Result<(UnixStream, tokio::net::unix::SocketAddr)> {
    match readers {
        Some(bound) => bound.listener.accept().await,
        None => std::future::pending().await,
    }
}

fn again(path: &Path, access: Access, mode: u32) -> Result<Bound, String> {
    if access == Access::Control {
        let uid = rustix::process::geteuid().as_raw();
        let directory = path.parent().unwrap_or(Path::new("/"));
        prepare_runtime_dir(directory, uid).map_err(|error| error.to_string())?;
    }
    Bound::claim(path, access, mode).map_err(|error| match error {
        ClaimError::InUse(pid) => {
            let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
            format!("another manager{pid} has taken its place; stop one of them")
        }
        ClaimError::Io(error) => error.to_string(),
    })
}

#[cfg(test)]
mod tests;
