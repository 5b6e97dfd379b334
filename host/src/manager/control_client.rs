//! One connection to the control socket, or to the read-only one.
//!
//! Rules:
//! 1. Who asks at the control socket must be this user or root, by the credentials that the kernel vouches for.
//!    At the read-only socket the mode of its file decides, and nothing that changes something is ever done
//!    (`control_server::tests::a_reader_may_look_and_change_nothing`).
//! 2. A connection is a task. It decodes and encodes; the manager decides. A client that is slow, or
//!    that sends rubbish, harms its own connection only.
//! 3. A client has [`CLIENT_TIMEOUT`] for each question, and takes something of an answer each
//!    [`CLIENT_TIMEOUT`]. Only who follows the events may pause for longer, as in a pager: for
//!    [`FOLLOWER_TIMEOUT`]; events that it misses meanwhile are counted for it.
//! 4. A question whose answer may take long holds one of few places ([`control_places`]). Whoever came by the
//!    last descriptor that the manager has gets no such place: the next one needs it
//!    (`control_server::tests::a_lack_of_descriptors_locks_nobody_out`).
//! 5. A connection has one question at a time with the manager, and [`QUESTIONS_MAX`] in all.
//! 6. What is not understood is answered with an error, and never ends the connection or harms the manager: a
//!    client of a later version goes on with what both know
//!    (`control_client::tests::whatever_its_version_a_client_may_list_and_end_the_fleet`). Only a stream that
//!    lost its framing is closed.
//!
//! [`control_places`]: super::control_places

use std::{io, time::Duration};

use duende_core::wire::{Decoder, EncodeError, FRAME_BYTES_MAX};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use super::control_places::{Access, Places};
use crate::control::{
    message::{NotUnderstood, encode, next_request},
    protocol::{CONTROL_VERSION, CONTROL_VERSION_MIN, ErrorCode, Request, RequestName, Response},
};

/// How long a client may take to ask, and to take some of an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long who follows the events may take none of them.
const FOLLOWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Most questions on one connection.
const QUESTIONS_MAX: usize = 256;
/// Responses that wait for a client.
const RESPONSES_MAX: usize = 64;
/// What is said to whoever would hold the last descriptor for long.
const NO_DESCRIPTOR: &str = "the manager has no descriptor left, and answers only short questions (`ps`, \
                             `status`, `down`) at its control socket: end followers, or raise its limit \
                             (`ulimit -n`)";
/// What a client of another version can do.
const WAY_OUT: &str = "use the duende that the fleet was started with, or end the fleet (`duende down`) and \
                       start it again with yours";
/// Most bytes of a refusal that is sent without waiting.
const REFUSAL_BYTES_MAX: usize = 512;

/// A question, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) reply: mpsc::Sender<Response>,
}

/// Where questions are handed in.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) places: Places,
}

/// What is true of a connection from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) access: Access,
    /// Whether it has the last descriptor.
    pub(super) is_last: bool,
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
            | Request::Changes
            | Request::Events { follow: false }
            | Request::Down => Self::Short,
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::Pause { .. }
            | Request::Resume { .. }
            | Request::Reload { .. }
            | Request::Export { .. }
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

/// Refuses a connection for which there is no place.
pub(super) fn refuse_busy(stream: &UnixStream, connections: usize) {
    let text =
        format!("{connections} are connected to this manager already: end some, or try again");
    refuse_at_once(stream, text);
}

/// Refuses a reader by whom the last descriptor would be taken.
pub(super) fn refuse_last(stream: &UnixStream) {
    refuse_at_once(stream, NO_DESCRIPTOR.to_owned());
}

/// Does not wait: a new connection has room for this.
fn refuse_at_once(stream: &UnixStream, message: String) {
    let refusal = Response::Error { code: ErrorCode::Busy, message };
    let mut frame = [0; REFUSAL_BYTES_MAX];
    if let Ok(bytes) = encode(&refusal, &mut frame) {
        let frame = frame.get(..bytes).unwrap_or_default();
        // Whom it does not reach sees the connection end.
        let _ = send(stream, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// Serves a connection until its client ends it or breaks a rule.
pub(super) async fn serve(stream: UnixStream, desk: Desk, terms: Terms) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut connection = Connection {
        stream,
        terms,
        client: None,
        decoder: Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice()),
        frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
    };
    let is_control = terms.access == Access::Control;
    if is_control && !may_ask(uid, rustix::process::geteuid().as_raw()) {
        let message = format!("user {uid} may not control this fleet: ask as its owner or as root");
        return connection.refuse(ErrorCode::Denied, message).await;
    }
    for _ in 0..QUESTIONS_MAX {
        let Ok(asked) = timeout(CLIENT_TIMEOUT, connection.read()).await else {
            let message = format!("no question came within {} s", CLIENT_TIMEOUT.as_secs());
            return connection.refuse(ErrorCode::TooSlow, message).await;
        };
        let asked = match asked? {
            Asked::Question(asked) => asked,
            Asked::Nothing => return Ok(()),
            Asked::Rubbish(message) => {
                return connection.refuse(ErrorCode::Malformed, message).await;
            }
        };
        match asked.map_err(|reason| connection.not_understood(reason)) {
            Ok(request) => {
                if !connection.take(request, &desk).await? {
                    return Ok(());
                }
            }
            Err((code, message)) => connection.refuse(code, message).await?,
        }
    }
    let message = format!("{QUESTIONS_MAX} questions were asked: connect again for more");
    connection.refuse(ErrorCode::Busy, message).await
}

struct Connection {
    stream: UnixStream,
    terms: Terms,
    /// The version that the client says it speaks.
    client: Option<u16>,
    decoder: Decoder<Box<[u8]>>,
    frame: Box<[u8]>,
}

enum Asked {
    Question(Result<Request, NotUnderstood>),
    /// The client has closed its end.
    Nothing,
    /// What was sent is no frame.
    Rubbish(String),
}

/// A refusal, for programs and for people.
type Refusal = (ErrorCode, String);

impl Connection {
    async fn read(&mut self) -> io::Result<Asked> {
        loop {
            match next_request(&mut self.decoder) {
                Ok(Some(asked)) => return Ok(Asked::Question(asked)),
                Ok(None) => {}
                Err(error) => {
                    return Ok(Asked::Rubbish(format!("not a frame of a request: {error}")));
                }
            }
            let bytes = self.stream.read(self.decoder.spare()).await?;
            if bytes == 0 {
                return Ok(Asked::Nothing);
            }
            self.decoder.filled(bytes);
        }
    }

    /// Answers a request, or says why not. Whether another may be asked.
    async fn take(&mut self, request: Request, desk: &Desk) -> io::Result<bool> {
        if let Request::Hello { version } = request {
            self.client = Some(version);
        }
        let patience = Patience::of(&request);
        let granted = self.check(request.name()).and_then(|()| self.place(patience, desk));
        match granted {
            Ok(place) => {
                let goes_on = self.answer(request, patience, desk).await;
                drop(place);
                goes_on
            }
            Err((code, message)) => self.refuse(code, message).await.map(|()| true),
        }
    }

    /// Whether this may be asked here, by this client.
    fn check(&self, asked: RequestName) -> Result<(), Refusal> {
        let name = asked.as_str();
        if self.terms.access == Access::ReadOnly && !asked.is_read_only() {
            let text = format!(
                "`{name}` changes something, and this socket is for looking only: ask at the control \
                 socket, as the fleet's owner"
            );
            return Err((ErrorCode::ReadOnly, text));
        }
        if self.client.is_some_and(|version| version < CONTROL_VERSION_MIN)
            && !asked.is_of_all_versions()
        {
            let text = format!(
                "`{name}` may mean something else to this manager: {}; {WAY_OUT}",
                self.versions()
            );
            return Err((ErrorCode::Version, text));
        }
        Ok(())
    }

    /// A place for a question whose answer may take long.
    fn place(
        &self,
        patience: Patience,
        desk: &Desk,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        match patience {
            Patience::Short => Ok(None),
            Patience::Long | Patience::Follower if self.terms.is_last => {
                Err((ErrorCode::Busy, NO_DESCRIPTOR.to_owned()))
            }
            Patience::Long | Patience::Follower => {
                let place = desk.places.wait(self.terms.access);
                place.map(Some).map_err(|waiting| too_many(patience, waiting))
            }
        }
    }

    /// Why a request was not understood, and what its client can do.
    fn not_understood(&self, reason: NotUnderstood) -> Refusal {
        match reason {
            NotUnderstood::Unknown { name } => {
                let (name, versions) = (name.as_str(), self.versions());
                let text = format!("this manager knows no request `{name}`: {versions}; {WAY_OUT}");
                (ErrorCode::UnknownRequest, text)
            }
            NotUnderstood::Malformed(text) => {
                (ErrorCode::Malformed, format!("this is no request: {text}"))
            }
        }
    }

    fn versions(&self) -> String {
        let theirs = match self.client {
            Some(version) => format!("the client version {version}"),
            None => "the client did not say which".to_owned(),
        };
        format!("it speaks version {CONTROL_VERSION} of the control protocol, {theirs}")
    }

    /// Puts a question to the manager and passes its answer on. Whether another may be asked.
    async fn answer(
        &mut self,
        request: Request,
        patience: Patience,
        desk: &Desk,
    ) -> io::Result<bool> {
        let (reply, mut responses) = mpsc::channel(RESPONSES_MAX);
        if desk.questions.send(Question { request, reply }).await.is_err() {
            return Ok(false);
        }
        loop {
            // Reading as well: a client that closes its end does not leave a follower behind.
            tokio::select! {
                response = responses.recv() => {
                    let Some(response) = response else { return Ok(false) };
                    if self.write(&response, patience.write_timeout()).await? {
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
        self.write(&Response::Error { code, message }, CLIENT_TIMEOUT).await.map(|_| ())
    }

    /// Writes a response, as long as the client takes some of it within each `patience`. Whether it was the
    /// answer's end.
    async fn write(&mut self, response: &Response, patience: Duration) -> io::Result<bool> {
        let (bytes, is_end) = match encode(response, &mut self.frame) {
            Ok(bytes) => (bytes, response.ends_answer()),
            Err(EncodeError::TooLarge) => {
                let bytes = encode(&too_large(), &mut self.frame);
                (bytes.map_err(|error| unsendable(&error))?, true)
            }
            Err(error) => return Err(unsendable(&error)),
        };
        let mut rest = self.frame.get(..bytes).unwrap_or_default();
        while !rest.is_empty() {
            let written = timeout(patience, self.stream.write(rest)).await;
            let written = written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(is_end)
    }
}

fn unsendable(error: &EncodeError) -> io::Error {
    io::Error::other(error.to_string())
}

/// In the place of what fits no frame. Rows never do that: they are cut.
fn too_large() -> Response {
    let message = format!("the answer has no place in a frame of {FRAME_BYTES_MAX} bytes");
    Response::Error { code: ErrorCode::TooLarge, message }
}

fn too_many(patience: Patience, waiting: usize) -> Refusal {
    match patience {
        Patience::Follower => (
            ErrorCode::TooManyFollowers,
            format!("{waiting} wait for this manager or follow it already: end some of them"),
        ),
        Patience::Short | Patience::Long => (
            ErrorCode::Busy,
            format!("{waiting} wait for this manager already: try again, or end some of them"),
        ),
    }
}

/// Returns when the client has closed its end or broken the protocol by asking out of turn. A question that
/// filled the whole buffer leaves the stream marked as readable: whether it is, only a look tells.
async fn closed(stream: &UnixStream) -> io::Result<()> {
    stream
        .async_io(tokio::io::Interest::READABLE, || {
            recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use duende_core::wire::{HEADER_BYTES, Message as _, encode_payload};

    use super::*;
    use crate::control::message::next_response;

    #[test]
    fn the_owner_and_root_may_ask_and_nobody_else() {
        for (asking, owner, expected) in
            [(0, 0, true), (0, 7, true), (7, 7, true), (7, 0, false), (8, 7, false)]
        {
            assert_eq!(may_ask(asking, owner), expected, "{asking} asks {owner}");
        }
    }

    const CONTROL: Terms = Terms { access: Access::Control, is_last: false };

    /// A connection whose questions come out of the receiver.
    fn served() -> (Client, mpsc::Receiver<Question>, tokio::task::JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (questions, asked) = mpsc::channel(1);
        let desk = Desk { questions, places: Places::new() };
        let serving = tokio::spawn(serve(theirs, desk, CONTROL));
        let decoder = Decoder::new(vec![0; FRAME_BYTES_MAX]);
        (Client { stream: ours, decoder }, asked, serving)
    }

    struct Client {
        stream: UnixStream,
        decoder: Decoder<Vec<u8>>,
    }

    impl Client {
        async fn say(&mut self, text: &str) {
            let mut frame = vec![0; FRAME_BYTES_MAX];
            let bytes = encode_payload(Request::KIND, text.as_bytes(), &mut frame).unwrap();
            self.stream.write_all(&frame[..bytes]).await.unwrap();
        }

        async fn hear(&mut self) -> Response {
            loop {
                if let Some(response) = next_response(&mut self.decoder).unwrap() {
                    return response.unwrap();
                }
                let bytes = self.stream.read(self.decoder.spare()).await.unwrap();
                assert_ne!(bytes, 0, "the connection was closed");
                self.decoder.filled(bytes);
            }
        }

        async fn hear_refusal(&mut self) -> Refusal {
            match self.hear().await {
                Response::Error { code, message } => (code, message),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Clients from before, from now and from far away; also one that says nothing of itself. None of what
    /// they say that is not understood ends the connection.
    #[tokio::test]
    async fn whatever_its_version_a_client_may_list_and_end_the_fleet() {
        for (version, may_stop) in [
            (Some(0), false),
            (Some(CONTROL_VERSION_MIN - 1), false),
            (Some(9_999), true),
            (None, true),
        ] {
            let (mut client, mut asked, _serving) = served();
            let manager = tokio::spawn(async move {
                let mut names = Vec::new();
                while let Some(Question { request, reply }) = asked.recv().await {
                    names.push(request.name());
                    reply.send(Response::Done).await.unwrap();
                }
                names
            });
            if let Some(version) = version {
                client.say(&format!(r#"{{"request":"hello","version":{version},"x":[]}}"#)).await;
                assert_eq!(client.hear().await, Response::Done);
            }
            client.say(r#"{"request":"Frob\u001b","names":1}"#).await;
            let (code, message) = client.hear_refusal().await;
            assert_eq!(code, ErrorCode::UnknownRequest);
            let theirs = version.map_or("did not say".to_owned(), |version| version.to_string());
            let words = ["`Frob?`", &format!("version {CONTROL_VERSION} "), &theirs, "duende down"];
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
            for rubbish in ["", "[]", "{", r#"{"request":"stop","names":"web"}"#] {
                client.say(rubbish).await;
                assert_eq!(client.hear_refusal().await.0, ErrorCode::Malformed, "{rubbish}");
            }
            client.say(r#"{"request":"ps"}"#).await;
            assert_eq!(client.hear().await, Response::Done);
            client.say(r#"{"request":"stop","names":["web"]}"#).await;
            match client.hear().await {
                Response::Done => assert!(may_stop, "{version:?}"),
                Response::Error { code, .. } => {
                    assert_eq!((code, may_stop), (ErrorCode::Version, false), "{version:?}");
                }
                other => panic!("{other:?}"),
            }
            client.say(r#"{"request":"down"}"#).await;
            assert_eq!(client.hear().await, Response::Done);
            drop(client);
            let asked = manager.await.unwrap();
            assert_eq!(asked.last(), Some(&RequestName::Down));
            assert_eq!(asked.contains(&RequestName::Stop), may_stop);
        }
    }

    /// What fits no frame is an error in words, and the next question is answered.
    #[tokio::test]
    async fn an_answer_that_fits_no_frame_is_told_of() {
        let (mut client, mut asked, _serving) = served();
        client.say(r#"{"request":"ps"}"#).await;
        let Question { reply, .. } = asked.recv().await.unwrap();
        let detail = "x".repeat(FRAME_BYTES_MAX);
        let large = Response::Outcome { name: String::new(), ok: true, detail };
        reply.send(large).await.unwrap();
        assert_eq!(client.hear_refusal().await.0, ErrorCode::TooLarge);
        client.say(r#"{"request":"ps"}"#).await;
        asked.recv().await.unwrap().reply.send(Response::Done).await.unwrap();
        assert_eq!(client.hear().await, Response::Done);
    }

    /// A client that reads nothing of its answer loses its connection, and only that.
    /// At the limit: the frame fills all the room that there is for one.
    #[tokio::test]
    async fn the_longest_frame_is_answered() {
        let (mut client, mut asked, _serving) = served();
        let mut text = String::from("{\"request\":\"ps\"}");
        text.extend(std::iter::repeat_n(' ', FRAME_BYTES_MAX - HEADER_BYTES - text.len()));
        let (answered, ()) = tokio::join!(
            async {
                let Question { request, reply } = asked.recv().await.unwrap();
                assert_eq!(request, Request::Ps);
                // The connection looks at its client meanwhile.
                tokio::task::yield_now().await;
                reply.send(Response::Done).await.is_ok()
            },
            client.say(&text),
        );
        assert!(answered, "the question was given up");
        assert_eq!(client.hear().await, Response::Done);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (mut client, mut asked, serving) = served();
        client.say(r#"{"request":"ps"}"#).await;
        let Question { reply, .. } = asked.recv().await.unwrap();
        let message = "x".repeat(8_000);
        let long = Response::Outcome { name: "d".to_owned(), ok: true, detail: message };
        // The socket's buffer, the channel, and then nobody takes it.
        while reply.send(long.clone()).await.is_ok() {}
        let ended = serving.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }
}
