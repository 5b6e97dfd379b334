//! The command line's side of the control socket.
//!
//! A client finds the manager, proves to itself who it is talking to, asks one thing at a time, and
//! never waits in silence: whoever waits for an answer is called once a second.
//!
//! A manager of another version is asked whatever both know. If one side is too new for the other, it is asked
//! for what is the same in all versions and never for anything else: what that would mean there is not known
//! here (`client::tests::a_manager_of_another_age_is_listed_and_ended_and_asked_nothing_else`).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duende_core::wire;

use crate::config::dirs::{RuntimeDirError, check_runtime_dir_to_ask, socket_path};

use crate::daemon_log::telling_log;

use super::message::{encode, next_response};
use super::protocol::{
    CONTROL_VERSION, CONTROL_VERSION_MIN, ErrorCode, ManagerInfo, Request, RequestName, Response,
};

/// How long the manager may take to answer a question that needs no waiting.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often somebody who waits is told that the wait goes on.
pub const TICK: Duration = Duration::from_secs(1);
/// Most sockets in the runtime directory that are looked at.
const FLEETS_MAX: usize = 256;
/// What managers answered in before version 4.
const KIND_BEFORE_4: u8 = 6;

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
    /// The manager's version and this one have only the oldest requests in common.
    #[error(
        "the manager speaks version {theirs} of the control protocol, this program version {ours}: it can \
         list the fleet (`duende ps`) and end it (`duende down`), no more; for `{}` use the duende that \
         the fleet was started with, or end the fleet and start it again with this one",
        asked.as_str()
    )]
    Version {
        /// The manager's.
        theirs: u16,
        /// This program's.
        ours: u16,
        /// What was to be asked.
        asked: RequestName,
    },
    /// The manager is so old that it can't even be told to end.
    #[error(
        "the manager is older than version {CONTROL_VERSION_MIN} of the control protocol; use the duende that it \
         was started with, or end it by `kill {}`, at which it stops its daemons in order, and start it \
         again with this one",
        pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
    )]
    TooOld {
        /// Its process; none, if it has no number here.
        pid: Option<u32>,
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
    /// The process at the other end; none, if it has no number here.
    pid: Option<u32>,
    info: ManagerInfo,
    /// The oldest version that the manager understands.
    min: u16,
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
        let credentials = rustix::net::sockopt::socket_peercred(&stream)
            .map_err(|error| io_error(error.into()))?;
        let peer = credentials.uid.as_raw();
        if peer != owner && peer != 0 {
            return Err(ClientError::ForeignManager { socket: socket.to_owned(), uid: peer });
        }
        stream.set_read_timeout(Some(TICK)).map_err(io_error)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(io_error)?;

        let storage = || vec![0; wire::FRAME_BYTES_MAX].into_boxed_slice();
        let mut client = Self {
            stream,
            decoder: wire::Decoder::new(storage()),
            frame: storage(),
            socket: socket.to_owned(),
            uid,
            // Of another PID namespace it is 0, which `kill` takes for all of a group.
            pid: u32::try_from(credentials.pid.as_raw_pid()).ok().filter(|pid| *pid > 0),
            info: ManagerInfo { fleet: fleet.to_owned(), ..ManagerInfo::default() },
            min: 0,
        };
        // Who is refused at once may find the connection closed, and the reason in it.
        let sent = client.send(&Request::Hello { version: CONTROL_VERSION });
        let hello = client.receive_soon().map_err(|error| match (sent, error) {
            (_, refused @ ClientError::Refused { .. }) | (Ok(()), refused) => refused,
            (Err(error), _) => error,
        });
        match hello? {
            Response::Hello { min, fleet } => (client.min, client.info) = (min, *fleet),
            other => return Err(unexpected(&other)),
        }
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
        self.check_versions(request.name())?;
        self.send(request)?;
        let asked = Instant::now();
        loop {
            match self.receive()? {
                None => tick(asked.elapsed())?,
                Some(Response::Other) => {}
                Some(Response::Error { code, message }) => {
                    return Err(ClientError::Refused { code, message }.into());
                }
                Some(response) if response.ends_answer() => return Ok(()),
                Some(response) => part(response)?,
            }
        }
    }

    fn check_versions(&self, asked: RequestName) -> Result<(), ClientError> {
        let theirs = self.info.version;
        let is_understood = theirs >= CONTROL_VERSION_MIN && self.min <= CONTROL_VERSION;
        if is_understood || asked.is_of_all_versions() {
            return Ok(());
        }
        Err(ClientError::Version { theirs, ours: CONTROL_VERSION, asked })
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
            log: match log_dir {
                // It has not even said hello.
                "" => "duende.log in the directory of the fleet's logs".to_owned(),
                log_dir => telling_log(Path::new(log_dir)).display().to_string(),
            },
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
        let bytes = encode(request, &mut self.frame)
            .map_err(|error| ClientError::Unsendable(error.to_string()))?;
        let frame = self.frame.get(..bytes).unwrap_or_default();
        match self.stream.write_all(frame) {
            // The other end is closed, perhaps with a word why, which is read next.
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(|source| self.io_error(source)),
        }
    }

    /// The next response; none if there was none within [`TICK`].
    fn receive(&mut self) -> Result<Option<Response>, ClientError> {
        loop {
            match next_response(&mut self.decoder) {
                Ok(Some(response)) => return response.map(Some).map_err(ClientError::Malformed),
                Ok(None) => {}
                Err(wire::FrameError::Kind { found: KIND_BEFORE_4, .. }) => {
                    return Err(ClientError::TooOld { pid: self.pid });
                }
                Err(error) => return Err(ClientError::Malformed(error.to_string())),
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
    use crate::control::message::next_request;
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

    fn hello(fleet: &str, version: u16, min: u16) -> Response {
        let fleet = ManagerInfo { version, fleet: fleet.to_owned(), ..ManagerInfo::default() };
        Response::Hello { min, fleet: Box::new(fleet) }
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
                    if let Some(request) = next_request(&mut decoder).expect("request") {
                        break request.expect("understood");
                    }
                    let bytes = stream.read(decoder.spare()).expect("read");
                    assert_ne!(bytes, 0, "the client went away");
                    decoder.filled(bytes);
                };
                requests.push(request);
                for response in answer {
                    let bytes = encode(&response, &mut frame).expect("fits");
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
        let rows = || Response::Daemons { daemons: vec![] };
        let server = serve(
            listener,
            vec![
                vec![hello("b", CONTROL_VERSION, CONTROL_VERSION_MIN)],
                vec![rows(), Response::Other, rows(), Response::Done],
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
    fn a_manager_of_another_age_is_listed_and_ended_and_asked_nothing_else() {
        // One that is older than what this one understands, one that understands only what is newer, and one
        // that is newer and still understands this one.
        let (ours, oldest) = (CONTROL_VERSION, CONTROL_VERSION_MIN);
        for (version, min, understood) in
            [(oldest - 1, 0, false), (ours + 2, ours + 1, false), (ours + 1, oldest, true)]
        {
            let (_home, directory) = runtime_dir();
            let listener = UnixListener::bind(socket_path(&directory, "b")).expect("bind");
            let ok = || vec![Response::Ok];
            let mut answers = vec![vec![hello("b", version, min)], vec![Response::Done], ok()];
            answers.extend(understood.then(ok));
            let server = serve(listener, answers);
            let mut client = Client::find(&directory, uid(), Some("b")).expect("connected");
            let stop = Request::Stop { names: vec!["x".to_owned()] };
            client.ask_quickly(&Request::Ps, |_| Ok(())).expect("listed");
            let stopped = client.ask_quickly(&stop, |_| Ok(()));
            client.ask_quickly(&Request::Down, |_| Ok(())).expect("ended");
            let mut expected = vec![Request::Hello { version: ours }, Request::Ps, Request::Down];
            if understood {
                stopped.expect("asked");
                expected.insert(2, stop);
            } else {
                let text = stopped.expect_err("not asked").to_string();
                let both = [version, ours].map(|version| format!("version {version}"));
                let words = both.iter().map(String::as_str).chain(["`stop`", "duende down"]);
                assert!(words.into_iter().all(|word| text.contains(word)), "{text}");
            }
            assert_eq!(server.join().expect("server"), expected);
        }
    }

    /// It refuses what it can't read, in its own encoding.
    #[test]
    fn of_a_manager_before_version_4_it_is_said_how_to_end_it() {
        let (_home, directory) = runtime_dir();
        let listener = UnixListener::bind(socket_path(&directory, "b")).expect("bind");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("client");
            let mut frame = [0; 64];
            let bytes = wire::encode_payload(KIND_BEFORE_4, b"postcard", &mut frame).expect("fits");
            stream.write_all(&frame[..bytes]).expect("write");
            // Until the client goes.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = Client::find(&directory, uid(), Some("b")).expect_err("too old");
        let expected = format!("kill {}", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
        drop(error);
        server.join().expect("server");
    }
}
