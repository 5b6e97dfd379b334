//! The command line's side of the control socket.
//!
//! A client finds the manager, proves to itself who it is talking to, asks one thing at a time, and
//! never waits in silence: whoever waits for an answer is called once a second.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duende_core::wire;

use crate::config::dirs::{RuntimeDirError, check_runtime_dir_to_ask, socket_path};

use super::protocol::{CONTROL_VERSION, ErrorCode, FleetHealth, ManagerInfo, Request, Response};

/// How long the manager may take to answer a question that needs no waiting.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often somebody who waits is told that the wait goes on.
pub const TICK: Duration = Duration::from_secs(1);
/// Most sockets in the runtime directory that are looked at.
const FLEETS_MAX: usize = 256;

/// Why the manager could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, for any fleet or for the named one.
    #[error(
        "{who} is not running ({socket}); start it: duende up [FILE]",
        who = fleet.as_ref().map_or_else(|| "duende".to_owned(), |fleet| format!("fleet `{fleet}`")),
        socket = socket.display()
    )]
    NotRunning {
        /// The fleet that was asked for.
        fleet: Option<String>,
        /// The socket, or the directory of sockets.
        socket: PathBuf,
    },
    /// A socket is there, and nobody behind it: its manager was killed.
    #[error(
        "fleet `{fleet}` is not running: its manager ended without cleaning up ({socket} is stale); \
         `duende up` starts it again, from its committed state",
        socket = socket.display()
    )]
    Stale {
        /// The fleet.
        fleet: String,
        /// Its socket.
        socket: PathBuf,
    },
    /// More than one fleet runs, and none was named.
    #[error("several fleets are running: {list}; choose one: --fleet NAME", list = fleets.join(", "))]
    Several {
        /// Their names.
        fleets: Vec<String>,
    },
    /// The directory of sockets can't be trusted.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// The socket belongs to somebody else's process.
    #[error("{socket} is served by user {uid}, neither its owner nor root; remove it", socket = socket.display())]
    ForeignManager {
        /// The socket.
        socket: PathBuf,
        /// Whose process answers.
        uid: u32,
    },
    /// The manager speaks another version.
    #[error(
        "the manager speaks version {theirs} of the control protocol, this program version {ours}; \
         restart the manager with this program"
    )]
    Version {
        /// The manager's.
        theirs: u16,
        /// This program's.
        ours: u16,
    },
    /// The manager refused.
    #[error("{message}")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people, with the way out.
        message: String,
    },
    /// The manager does not answer.
    #[error("the manager did not answer within {seconds} s; look at its log: {log}")]
    TimedOut {
        /// How long it was waited for.
        seconds: u64,
        /// Where to look.
        log: String,
    },
    /// The connection ended in the middle of an answer.
    #[error("the manager ended before it had answered; see its log, and `duende ps`")]
    Closed,
    /// The answer can't be read.
    #[error("the manager's answer can't be read: {0}; restart the manager with this program")]
    Malformed(String),
    /// The request has no place in a frame.
    #[error("the request is too large: {0}; name fewer daemons")]
    Unsendable(String),
    /// The system failed.
    #[error("control socket {socket}: {source}", socket = socket.display())]
    Io {
        /// The socket or its directory.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The fleets in a directory of sockets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fleets {
    /// Those whose manager accepts connections, in the order of their names.
    pub running: Vec<String>,
    /// Those whose socket was left behind.
    pub stale: Vec<String>,
}

/// Looks which fleets run.
///
/// # Errors
/// When the directory can't be trusted or read. One that is not there holds no fleets.
pub fn fleets(runtime_dir: &Path, uid: u32) -> Result<Fleets, ClientError> {
    match check_runtime_dir_to_ask(runtime_dir, uid) {
        Err(RuntimeDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Fleets::default());
        }
        other => other?,
    };
    let io_error = |source| ClientError::Io { socket: runtime_dir.to_owned(), source };
    let mut fleets = Fleets::default();
    for entry in std::fs::read_dir(runtime_dir).map_err(io_error)?.take(FLEETS_MAX) {
        let path = entry.map_err(io_error)?.path();
        let Some(fleet) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sock"))
        else {
            continue;
        };
        match UnixStream::connect(&path) {
            Ok(_) => fleets.running.push(fleet.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fleets.stale.push(fleet.to_owned());
            }
            // Gone meanwhile, or no socket.
            Err(_) => {}
        }
    }
    fleets.running.sort();
    fleets.stale.sort();
    Ok(fleets)
}

/// A connection to a manager.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: wire::Decoder<Box<[u8]>>,
    frame: Box<[u8]>,
    socket: PathBuf,
    uid: u32,
    info: ManagerInfo,
}

impl Client {
    /// Connects to the manager of `fleet`; without a name, to the only one that runs.
    ///
    /// # Errors
    /// When there is none, or more than one, or it can't be trusted or understood.
    pub fn find(runtime_dir: &Path, uid: u32, fleet: Option<&str>) -> Result<Self, ClientError> {
        if let Some(fleet) = fleet {
            return Self::connect(&socket_path(runtime_dir, fleet), fleet, uid);
        }
        let Fleets { mut running, mut stale } = fleets(runtime_dir, uid)?;
        match (running.len(), stale.len()) {
            (1, _) => {
                let fleet = running.remove(0);
                Self::connect(&socket_path(runtime_dir, &fleet), &fleet, uid)
            }
            (0, 1) => {
                let fleet = stale.remove(0);
                Err(ClientError::Stale { socket: socket_path(runtime_dir, &fleet), fleet })
            }
            (0, _) => Err(ClientError::NotRunning { fleet: None, socket: runtime_dir.to_owned() }),
            _ => Err(ClientError::Several { fleets: running }),
        }
    }

    /// Connects to the manager behind a socket.
    ///
    /// # Errors
    /// When there is none, or it can't be trusted or understood.
    pub fn connect(socket: &Path, fleet: &str, uid: u32) -> Result<Self, ClientError> {
        let not_running =
            || ClientError::NotRunning { fleet: Some(fleet.to_owned()), socket: socket.to_owned() };
        let directory = socket.parent().unwrap_or(Path::new("/"));
        let owner = match check_runtime_dir_to_ask(directory, uid) {
            Err(RuntimeDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(not_running());
            }
            other => other?,
        };
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_running()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ClientError::Stale {
                    fleet: fleet.to_owned(),
                    socket: socket.to_owned(),
                });
            }
            Err(source) => {
                return Err(ClientError::Io { socket: socket.to_owned(), source });
            }
        };
        let io_error = |source: io::Error| ClientError::Io { socket: socket.to_owned(), source };
        let peer = rustix::net::sockopt::socket_peercred(&stream)
            .map_err(|error| io_error(error.into()))?;
        let peer = peer.uid.as_raw();
        if peer != owner && peer != 0 {
            return Err(ClientError::ForeignManager { socket: socket.to_owned(), uid: peer });
        }
        stream.set_read_timeout(Some(TICK)).map_err(io_error)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(io_error)?;

        let storage = || vec![0; wire::FRAME_BYTES_MAX].into_boxed_slice();
        let unknown = ManagerInfo {
            version: 0,
            fleet: fleet.to_owned(),
            pid: 0,
            uptime_ms: 0,
            log_dir: String::new(),
            config_file: None,
            health: FleetHealth::unknown(),
        };
        let mut client = Self {
            stream,
            decoder: wire::Decoder::new(storage()),
            frame: storage(),
            socket: socket.to_owned(),
            uid,
            info: unknown,
        };
        // Who is refused at once may find the connection closed, and the reason in it.
        let sent = client.send(&Request::Hello { version: CONTROL_VERSION });
        let hello = client.receive_soon().map_err(|error| match (sent, error) {
            (_, refused @ ClientError::Refused { .. }) | (Ok(()), refused) => refused,
            (Err(error), _) => error,
        });
        client.info = match hello? {
            Response::Hello(info) if info.version == CONTROL_VERSION => *info,
            Response::Hello(info) => {
                return Err(ClientError::Version { theirs: info.version, ours: CONTROL_VERSION });
            }
            other => return Err(unexpected(&other)),
        };
        Ok(client)
    }

    /// Another connection to the same manager.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn again(&self) -> Result<Self, ClientError> {
        Self::connect(&self.socket, &self.info.fleet, self.uid)
    }

    /// Who answers.
    #[must_use]
    pub const fn info(&self) -> &ManagerInfo {
        &self.info
    }

    /// Asks, and hands every part of the answer that is not its end to `part`. `tick` is called once
    /// in each [`TICK`] without a part, with the time since the question, and ends the wait with an
    /// error.
    ///
    /// # Errors
    /// When the manager refuses ([`ClientError::Refused`]), ends or is not understood; and what `part`
    /// and `tick` return.
    pub fn ask<E: From<ClientError>>(
        &mut self,
        request: &Request,
        mut part: impl FnMut(Response) -> Result<(), E>,
        mut tick: impl FnMut(Duration) -> Result<(), E>,
    ) -> Result<(), E> {
        self.send(request)?;
        let asked = Instant::now();
        loop {
            match self.receive()? {
                None => tick(asked.elapsed())?,
                Some(Response::Error { code, message }) => {
                    return Err(ClientError::Refused { code, message }.into());
                }
                Some(response) if response.ends_answer() => return Ok(()),
                Some(response) => part(response)?,
            }
        }
    }

    /// Asks a question that the manager answers without waiting for anything.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when there is no answer within [`ANSWER_TIMEOUT`].
    pub fn ask_quickly(
        &mut self,
        request: &Request,
        part: impl FnMut(Response) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let log = self.info.log_dir.clone();
        self.ask(request, part, |elapsed| Self::limit(elapsed, &log))
    }

    fn limit(elapsed: Duration, log_dir: &str) -> Result<(), ClientError> {
        if elapsed < ANSWER_TIMEOUT {
            return Ok(());
        }
        Err(ClientError::TimedOut {
            seconds: ANSWER_TIMEOUT.as_secs(),
            log: format!("{log_dir}/manager.log"),
        })
    }

    fn receive_soon(&mut self) -> Result<Response, ClientError> {
        let asked = Instant::now();
        loop {
            match self.receive()? {
                Some(Response::Error { code, message }) => {
                    return Err(ClientError::Refused { code, message });
                }
                Some(response) => return Ok(response),
                None => Self::limit(asked.elapsed(), &self.info.log_dir)?,
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let bytes = wire::encode(request, &mut self.frame)
            .map_err(|error| ClientError::Unsendable(error.to_string()))?;
        let frame = self.frame.get(..bytes).unwrap_or_default();
        self.stream.write_all(frame).map_err(|source| self.io_error(source))
    }

    /// The next response; none if there was none within [`TICK`].
    fn receive(&mut self) -> Result<Option<Response>, ClientError> {
        loop {
            let message = self.decoder.next::<Response>();
            if let Some(response) =
                message.map_err(|error| ClientError::Malformed(error.to_string()))?
            {
                return Ok(Some(response));
            }
            match self.stream.read(self.decoder.spare()) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(bytes) => self.decoder.filled(bytes),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(self.io_error(error)),
                },
            }
        }
    }

    fn io_error(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed,
            _ => ClientError::Io { socket: self.socket.clone(), source },
        }
    }
}

/// A response that does not answer the request.
pub(crate) fn unexpected(response: &Response) -> ClientError {
    let text = format!("{response:?}");
    let name =
        text.split(|character: char| !character.is_alphanumeric()).next().unwrap_or_default();
    ClientError::Malformed(format!("unexpected response {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dirs::prepare_runtime_dir;
    use std::os::unix::net::UnixListener;

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A directory of sockets.
    fn runtime_dir() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("temporary directory");
        let path = home.path().join("duende");
        prepare_runtime_dir(&path, uid()).expect("directory");
        (home, path)
    }

    fn info(fleet: &str, version: u16) -> ManagerInfo {
        ManagerInfo {
            version,
            fleet: fleet.to_owned(),
            pid: 1,
            uptime_ms: 1,
            log_dir: "/log".to_owned(),
            config_file: None,
            health: FleetHealth::unknown(),
        }
    }

    /// Serves one connection: each request is answered with the next run of responses.
    fn serve(
        listener: UnixListener,
        answers: Vec<Vec<Response>>,
    ) -> std::thread::JoinHandle<Vec<Request>> {
        std::thread::spawn(move || {
            // `find` first connects only to see whether somebody listens.
            let mut stream = loop {
                let (stream, _) = listener.accept().expect("client");
                if rustix::net::recv(&stream, &mut [0; 1][..], rustix::net::RecvFlags::PEEK)
                    .is_ok_and(|(bytes, _)| bytes > 0)
                {
                    break stream;
                }
            };
            let mut decoder = wire::Decoder::new(vec![0; wire::FRAME_BYTES_MAX]);
            let mut frame = vec![0; wire::FRAME_BYTES_MAX];
            let mut requests = Vec::new();
            for answer in answers {
                let request = loop {
                    if let Some(request) = decoder.next::<Request>().expect("request") {
                        break request;
                    }
                    let bytes = stream.read(decoder.spare()).expect("read");
                    assert_ne!(bytes, 0, "the client went away");
                    decoder.filled(bytes);
                };
                requests.push(request);
                for response in answer {
                    let bytes = wire::encode(&response, &mut frame).expect("fits");
                    stream.write_all(&frame[..bytes]).expect("write");
                }
            }
            requests
        })
    }

    #[test]
    fn none_one_stale_and_several_are_told_apart() {
        let (home, directory) = runtime_dir();
        let find = |fleet: Option<&str>| Client::find(&directory, uid(), fleet).expect_err("none");
        assert!(matches!(find(None), ClientError::NotRunning { fleet: None, .. }));
        assert!(matches!(find(Some("a")), ClientError::NotRunning { fleet: Some(_), .. }));
        let nowhere = Client::find(&home.path().join("nowhere"), uid(), None).expect_err("none");
        assert!(matches!(nowhere, ClientError::NotRunning { .. }));

        drop(UnixListener::bind(socket_path(&directory, "a")).expect("bind"));
        assert!(matches!(find(None), ClientError::Stale { .. }));
        assert!(matches!(find(Some("a")), ClientError::Stale { .. }));

        let _b = UnixListener::bind(socket_path(&directory, "b")).expect("bind");
        let _c = UnixListener::bind(socket_path(&directory, "c")).expect("bind");
        assert!(matches!(find(None), ClientError::Several { fleets } if fleets == ["b", "c"]));
    }

    #[test]
    fn an_answer_in_parts_arrives_and_a_refusal_is_an_error() {
        let (_home, directory) = runtime_dir();
        let listener = UnixListener::bind(socket_path(&directory, "b")).expect("bind");
        let code = ErrorCode::UnknownDaemon;
        let server = serve(
            listener,
            vec![
                vec![Response::Hello(Box::new(info("b", CONTROL_VERSION)))],
                vec![Response::Daemons(vec![]), Response::Daemons(vec![]), Response::Done],
                vec![Response::Error { code, message: "no".to_owned() }],
                vec![],
            ],
        );
        let mut client = Client::find(&directory, uid(), None).expect("connected");
        assert_eq!(client.info().fleet, "b");
        let mut parts = 0;
        let count = |_| {
            parts += 1;
            Ok(())
        };
        client.ask_quickly(&Request::Ps, count).expect("answered");
        assert_eq!(parts, 2);
        let status = Request::Status { name: "x".to_owned() };
        let refused = client.ask_quickly(&status, |_| Ok(())).expect_err("refused");
        assert!(matches!(refused, ClientError::Refused { code: ErrorCode::UnknownDaemon, .. }));
        let closed = client.ask_quickly(&Request::Down, |_| Ok(())).expect_err("closed");
        assert!(matches!(closed, ClientError::Closed));
        let requests = server.join().expect("server");
        assert_eq!(requests[1..], [Request::Ps, status, Request::Down]);
    }

    #[test]
    fn another_version_is_refused() {
        let (_home, directory) = runtime_dir();
        let listener = UnixListener::bind(socket_path(&directory, "b")).expect("bind");
        let server =
            serve(listener, vec![vec![Response::Hello(Box::new(info("b", CONTROL_VERSION + 1)))]]);
        let error = Client::find(&directory, uid(), Some("b")).expect_err("refused");
        assert!(matches!(error, ClientError::Version { .. }), "{error}");
        server.join().expect("server");
    }
}
