//! The control socket: who may ask, and how questions reach the manager.
//!
//! Rules:
//! 1. The socket has mode 0600 and lies in a directory of mode 0700. Who connects must be this user
//!    or root, by the credentials that the kernel vouches for.
//! 2. A connection is a task. It decodes and encodes; the manager decides. A client that is slow, or
//!    that sends rubbish, harms its own connection only.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use duende_core::wire::{self, Decoder, FRAME_BYTES_MAX};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

use crate::control::protocol::{CONTROL_VERSION, ErrorCode, Request, Response};

/// Most connections at a time.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Responses that wait for a client.
const RESPONSES_MAX: usize = 64;

/// A question, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) reply: mpsc::Sender<Response>,
}

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(
        "fleet `{fleet}` is running already, its manager answers on {socket}; stop it (`duende \
         down --fleet {fleet}`), or give this fleet another name"
    )]
    AlreadyRunning { fleet: String, socket: String },
    #[error("cannot open the control socket {socket}: {source}")]
    Io { socket: String, source: io::Error },
}

/// The socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct ControlServer {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl ControlServer {
    /// Opens the socket and takes connections. A socket file that nobody serves is replaced.
    ///
    /// # Errors
    /// Somebody serves it, or it cannot be made.
    pub(crate) fn open(
        fleet: &str,
        path: &Path,
        questions: mpsc::Sender<Question>,
    ) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Io { socket: path.display().to_string(), source };
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                return Err(ControlError::AlreadyRunning {
                    fleet: fleet.to_owned(),
                    socket: path.display().to_string(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Left behind by a manager that was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let task = tokio::spawn(accept(listener, questions));
        Ok(Self { path: path.to_owned(), task })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
        // If it is gone already, that is what was wanted.
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, questions: mpsc::Sender<Question>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        // An error here is one connection's, or a lack of descriptors that the next close ends.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let questions = questions.clone();
        tokio::spawn(async move {
            let _ = serve(stream, questions).await;
            drop(place);
        });
    }
}

async fn serve(mut stream: UnixStream, questions: mpsc::Sender<Question>) -> io::Result<()> {
    let mut frame = vec![0; FRAME_BYTES_MAX].into_boxed_slice();
    let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        let refusal = Response::Error {
            code: ErrorCode::Malformed,
            message: format!("user {uid} may not control this fleet: ask as its owner or as root"),
        };
        return write(&mut stream, &mut frame, &refusal).await;
    }
    loop {
        let request = match decoder.next::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => {
                let bytes = stream.read(decoder.spare()).await?;
                if bytes == 0 {
                    return Ok(());
                }
                decoder.filled(bytes);
                continue;
            }
            Err(error) => {
                let message = format!("not a request of this version: {error}");
                let refusal = Response::Error { code: ErrorCode::Malformed, message };
                return write(&mut stream, &mut frame, &refusal).await;
            }
        };
        if let Request::Hello { version } = request
            && version != CONTROL_VERSION
        {
            let message = format!("this manager speaks version {CONTROL_VERSION}, not {version}");
            let refusal = Response::Error { code: ErrorCode::Version, message };
            return write(&mut stream, &mut frame, &refusal).await;
        }
        let (reply, mut responses) = mpsc::channel(RESPONSES_MAX);
        if questions.send(Question { request, reply }).await.is_err() {
            return Ok(());
        }
        loop {
            // Reading as well: a client that closes its end does not leave a follower behind.
            tokio::select! {
                response = responses.recv() => {
                    let Some(response) = response else { return Ok(()) };
                    write(&mut stream, &mut frame, &response).await?;
                    if response.ends_answer() {
                        break;
                    }
                }
                closed = closed(&stream) => {
                    closed?;
                    return Ok(());
                }
            }
        }
    }
}

/// Returns when the client has closed its end or broken the protocol by asking out of turn.
async fn closed(stream: &UnixStream) -> io::Result<()> {
    stream.ready(tokio::io::Interest::READABLE).await?;
    Ok(())
}

async fn write(stream: &mut UnixStream, frame: &mut [u8], response: &Response) -> io::Result<()> {
    let bytes =
        wire::encode(response, frame).map_err(|error| io::Error::other(error.to_string()))?;
    stream.write_all(frame.get(..bytes).unwrap_or_default()).await
}
