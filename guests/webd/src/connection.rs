//! One connection, and the moment at which its requests are logged.
//!
//! A request's line is written when the last byte of its response has been handed to the socket, and
//! before the connection takes its next request. So a client that sends one request after another on
//! one connection finds each line in the file before the next answer; a client that has just read an
//! answer may have to wait an instant for the line.
//!
//! How: hyper drops a response's body when it has taken all of it, which completes the [`Record`];
//! hyper calls `poll_flush` when its own buffer is empty, which writes the completed records. What
//! hyper never gets to flush (the client went away) is written when the connection ends, with status
//! 499, as nginx has it, if there was no response yet.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use duende::DaemonContext;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::access_log::Entry;
use crate::respond::respond;
use crate::server::Shared;

/// Most bytes of a request's head. Escaped in the log (four bytes for one) and with the rest of its
/// line, that is under 65,536, the longest message that a channel of Duende carries.
const HEAD_BYTES_MAX: usize = 8_192;

/// Most header fields of a request.
const HEADERS_MAX: usize = 100;

/// How long a connection may take for a request's head, and so how long it may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take no byte of a response.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// nginx's status for a client that went away before there was an answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the parts of one connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: IpAddr,
    shared: Arc<Shared>,
    /// Answered requests whose lines wait for the flush; more than one only under pipelining.
    completed: Mutex<Vec<(Entry, Instant)>>,
}

impl Connection {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn write_completed(&self) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        for (mut entry, started) in completed.drain(..) {
            entry.elapsed = started.elapsed();
            self.shared.log_request(&entry);
        }
    }
}

/// One request under way. Dropping it completes it.
#[derive(Debug)]
pub(crate) struct Record {
    connection: Arc<Connection>,
    /// Taken by `drop` alone.
    entry: Option<Entry>,
    started: Instant,
}

impl Record {
    pub(crate) fn start(connection: &Arc<Connection>, request: &Request<Incoming>) -> Self {
        // The rule at the top: nothing is taken before what was answered is logged.
        connection.write_completed();
        connection.shared.request_started();
        let (method, uri, version) = (request.method(), request.uri(), request.version());
        let entry = Entry {
            request_line: format!("{method} {uri} {version:?}"),
            referer: field(request.headers(), &header::REFERER),
            user_agent: field(request.headers(), &header::USER_AGENT),
            ..unanswered(connection.peer)
        };
        Self { connection: connection.clone(), entry: Some(entry), started: Instant::now() }
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        if let Some(entry) = &mut self.entry {
            entry.status = status.as_u16();
        }
    }

    pub(crate) fn add_body_bytes(&mut self, bytes: u64) {
        if let Some(entry) = &mut self.entry {
            entry.body_bytes = entry.body_bytes.saturating_add(bytes);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.shared.request_ended();
        if let Some(entry) = self.entry.take() {
            let completed = self.connection.completed.lock();
            completed.unwrap_or_else(PoisonError::into_inner).push((entry, self.started));
        }
    }
}

fn unanswered(peer: IpAddr) -> Entry {
    Entry {
        peer,
        received: SystemTime::now(),
        request_line: String::new(),
        status: CLIENT_CLOSED_REQUEST,
        body_bytes: 0,
        referer: Vec::new(),
        user_agent: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default()
}

/// Serves a connection to its end. When the daemon is asked to stop, the request under way is
/// finished and no other is taken; when the drain is over, the connection is cut.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    shared: Arc<Shared>,
    ctx: DaemonContext,
) {
    let connection =
        Arc::new(Connection { peer, shared: shared.clone(), completed: Mutex::new(Vec::new()) });
    let io = Socket { stream: TokioIo::new(stream), connection: connection.clone(), stalled: None };
    let service = {
        let connection = connection.clone();
        service_fn(move |request| respond(connection.clone(), request))
    };
    let started = Instant::now();
    let ended = {
        let mut http = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_header_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(io, service)
        );
        tokio::select! {
            ended = http.as_mut() => Some(ended),
            () = ctx.shutdown_requested() => {
                http.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = http.as_mut() => Some(ended),
                    () = shared.drain_is_over() => None,
                }
            }
        }
    };
    connection.write_completed();
    if let Some(Err(error)) = ended
        && let Some(status) = status_of_refusal(&error)
    {
        // hyper has answered this by itself.
        shared.log_request(&Entry { status, elapsed: started.elapsed(), ..unanswered(peer) });
    }
}

/// What hyper answered to a head that it could not take. Other errors (the client went away, a
/// timeout) have no answer; if there was a request, its record has been written.
fn status_of_refusal(error: &hyper::Error) -> Option<u16> {
    if error.is_parse_too_large() {
        Some(431)
    } else if error.is_parse() {
        Some(400)
    } else {
        None
    }
}

/// The socket as hyper sees it.
#[derive(Debug)]
struct Socket {
    stream: TokioIo<TcpStream>,
    connection: Arc<Connection>,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    fn or_timeout(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(SEND_TIMEOUT)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = Pin::new(&mut socket.stream).poll_write(cx, bytes);
        socket.or_timeout(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = Pin::new(&mut socket.stream).poll_write_vectored(cx, pieces);
        socket.or_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let flushed = Pin::new(&mut socket.stream).poll_flush(cx);
        if flushed.is_ready() {
            socket.connection.write_completed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
