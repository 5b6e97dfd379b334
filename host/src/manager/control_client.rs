//! One connection to the control socket.
//!
//! Rules:
//! 1. Who asks must be this user or root, by the credentials that the kernel vouches for.
//! 2. A connection is a task. It decodes and encodes; the manager decides. A client that is slow, or
//!    that sends rubbish, harms its own connection only.
//! 3. A client has [`CLIENT_TIMEOUT`] for each question, and takes something of an answer each
//!    [`CLIENT_TIMEOUT`]. Only who follows the events may pause for longer, as in a pager: for
//!    [`FOLLOWER_TIMEOUT`]; events that it misses meanwhile are counted for it.
//! 4. A question whose answer may take long holds one of [`WAITING_MAX`] places, fewer than there are
//!    connections: for `ps` and `down` there is always one.
//! 5. A connection has one question at a time with the manager, and [`QUESTIONS_MAX`] in all.

use std::{io, sync::Arc, time::Duration};

use duende_core::wire::{self, Decoder, FRAME_BYTES_MAX};
use rustix::net::{SendFlags, send};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use super::control_server::CONNECTIONS_MAX;
use crate::control::protocol::{CONTROL_VERSION, ErrorCode, Request, Response};

/// How long a client may take to ask, and to take some of an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long who follows the events may take none of them.
const FOLLOWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Most questions at a time whose answer may take long.
const WAITING_MAX: usize = 48;
/// Most questions on one connection.
const QUESTIONS_MAX: usize = 256;
/// Responses that wait for a client.
const RESPONSES_MAX: usize = 64;
/// Most bytes of a refusal that is sent without waiting.
const REFUSAL_BYTES_MAX: usize = 512;

const _: () = assert!(WAITING_MAX < CONNECTIONS_MAX);

/// A question, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) reply: mpsc::Sender<Response>,
}

/// Where questions are handed in.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    questions: mpsc::Sender<Question>,
    waiting: Arc<Semaphore>,
}

impl Desk {
    pub(super) fn new(questions: mpsc::Sender<Question>) -> Self {
        Self { questions, waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

/// Whether a user may ask the manager of another.
const fn may_ask(asking: u32, owner: u32) -> bool {
    asking == owner || asking == 0
}

/// How long an answer may take, by what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// It is there at once, or what it is waited for ends the manager.
    Short,
    /// It takes as long as daemons take.
    Long,
    /// It has no end.
    Follower,
}

impl Patience {
    const fn of(request: &Request) -> Self {
        match request {
            Request::Hello { .. }
            | Request::Ps
            | Request::Status { .. }
            | Request::History { .. }
            | Request::Events { follow: false }
            | Request::Down => Self::Short,
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::Pause { .. }
            | Request::Resume { .. }
            | Request::Reload { .. }
            | Request::Settled => Self::Long,
            Request::Events { follow: true } => Self::Follower,
        }
    }

    const fn write_timeout(self) -> Duration {
        match self {
            Self::Short | Self::Long => CLIENT_TIMEOUT,
            Self::Follower => FOLLOWER_TIMEOUT,
        }
    }
}

/// Refuses a connection for which there is no place. Does not wait: a new one has room for this.
pub(super) fn refuse_busy(stream: &UnixStream, connections: usize) {
    let refusal = Response::Error {
        code: ErrorCode::Busy,
        message: format!(
            "{connections} are connected to this manager already: end some, or try again"
        ),
    };
    let mut frame = [0; REFUSAL_BYTES_MAX];
    if let Ok(bytes) = wire::encode(&refusal, &mut frame) {
        let frame = frame.get(..bytes).unwrap_or_default();
        // Whom it does not reach sees the connection end.
        let _ = send(stream, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// Serves a connection until its client ends it or breaks a rule.
pub(super) async fn serve(stream: UnixStream, desk: Desk) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut connection = Connection {
        stream,
        decoder: Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice()),
        frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
    };
    if !may_ask(uid, rustix::process::geteuid().as_raw()) {
        let message = format!("user {uid} may not control this fleet: ask as its owner or as root");
        return connection.refuse(ErrorCode::Denied, message).await;
    }
    for _ in 0..QUESTIONS_MAX {
        let Ok(asked) = timeout(CLIENT_TIMEOUT, connection.read()).await else {
            let message = format!("no question came within {} s", CLIENT_TIMEOUT.as_secs());
            return connection.refuse(ErrorCode::TooSlow, message).await;
        };
        let request = match asked? {
            Asked::Request(request) => request,
            Asked::Nothing => return Ok(()),
            Asked::Rubbish(message) => {
                return connection.refuse(ErrorCode::Malformed, message).await;
            }
        };
        if let Request::Hello { version } = request
            && version != CONTROL_VERSION
        {
            let message = format!("this manager speaks version {CONTROL_VERSION}, not {version}");
            return connection.refuse(ErrorCode::Version, message).await;
        }
        if !connection.answer(request, &desk).await? {
            return Ok(());
        }
    }
    let message = format!("{QUESTIONS_MAX} questions were asked: connect again for more");
    connection.refuse(ErrorCode::Busy, message).await
}

struct Connection {
    stream: UnixStream,
    decoder: Decoder<Box<[u8]>>,
    frame: Box<[u8]>,
}

enum Asked {
    Request(Request),
    /// The client has closed its end.
    Nothing,
    /// What was sent is no request.
    Rubbish(String),
}

impl Connection {
    async fn read(&mut self) -> io::Result<Asked> {
        loop {
            match self.decoder.next::<Request>() {
                Ok(Some(request)) => return Ok(Asked::Request(request)),
                Ok(None) => {}
                Err(error) => {
                    return Ok(Asked::Rubbish(format!("not a request of this version: {error}")));
                }
            }
            let bytes = self.stream.read(self.decoder.spare()).await?;
            if bytes == 0 {
                return Ok(Asked::Nothing);
            }
            self.decoder.filled(bytes);
        }
    }

    /// Puts a question to the manager and passes its answer on. Whether another may be asked.
    async fn answer(&mut self, request: Request, desk: &Desk) -> io::Result<bool> {
        let patience = Patience::of(&request);
        let _place: Option<OwnedSemaphorePermit> = match patience {
            Patience::Short => None,
            Patience::Long | Patience::Follower => {
                let Ok(place) = Arc::clone(&desk.waiting).try_acquire_owned() else {
                    let (code, message) = too_many(patience);
                    self.write(&Response::Error { code, message }, CLIENT_TIMEOUT).await?;
                    return Ok(true);
                };
                Some(place)
            }
        };
        let (reply, mut responses) = mpsc::channel(RESPONSES_MAX);
        if desk.questions.send(Question { request, reply }).await.is_err() {
            return Ok(false);
        }
        loop {
            // Reading as well: a client that closes its end does not leave a follower behind.
            tokio::select! {
                response = responses.recv() => {
                    let Some(response) = response else { return Ok(false) };
                    self.write(&response, patience.write_timeout()).await?;
                    if response.ends_answer() {
                        return Ok(true);
                    }
                }
                closed = closed(&self.stream) => {
                    closed?;
                    return Ok(false);
                }
            }
        }
    }

    async fn refuse(&mut self, code: ErrorCode, message: String) -> io::Result<()> {
        self.write(&Response::Error { code, message }, CLIENT_TIMEOUT).await
    }

    /// Writes a response, as long as the client takes some of it within each `patience`.
    async fn write(&mut self, response: &Response, patience: Duration) -> io::Result<()> {
        let bytes = wire::encode(response, &mut self.frame)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let mut rest = self.frame.get(..bytes).unwrap_or_default();
        while !rest.is_empty() {
            let written = timeout(patience, self.stream.write(rest)).await;
            let written = written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

fn too_many(patience: Patience) -> (ErrorCode, String) {
    match patience {
        Patience::Follower => (
            ErrorCode::TooManyFollowers,
            format!("{WAITING_MAX} wait for this manager or follow it already: end some of them"),
        ),
        Patience::Short | Patience::Long => (
            ErrorCode::Busy,
            format!("{WAITING_MAX} wait for this manager already: try again, or end some of them"),
        ),
    }
}

/// Returns when the client has closed its end or broken the protocol by asking out of turn.
async fn closed(stream: &UnixStream) -> io::Result<()> {
    stream.ready(tokio::io::Interest::READABLE).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_may_ask_and_nobody_else() {
        for (asking, owner, expected) in
            [(0, 0, true), (0, 7, true), (7, 7, true), (7, 0, false), (8, 7, false)]
        {
            assert_eq!(may_ask(asking, owner), expected, "{asking} asks {owner}");
        }
    }

    /// A client that reads nothing of its answer loses its connection, and only that.
    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (questions, mut asked) = mpsc::channel(1);
        let serving = tokio::spawn(serve(theirs, Desk::new(questions)));
        let mut client = ours;
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let bytes = wire::encode(&Request::Ps, &mut frame).unwrap();
        client.write_all(&frame[..bytes]).await.unwrap();
        let Question { reply, .. } = asked.recv().await.unwrap();
        let message = "x".repeat(8_000);
        let long = Response::Outcome { name: "d".to_owned(), ok: true, detail: message };
        // The socket's buffer, the channel, and then nobody takes it.
        while reply.send(long.clone()).await.is_ok() {}
        let ended = serving.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }
}
