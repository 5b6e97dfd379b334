//! One connection, and the moment at which its requests are logged.
//!
//! A request's line is written when the last byte of its response has been handed to the socket, and
//! before the connection takes its next request. So a client that sends one request after another on
//! one connection finds each line in the file before the next answer; a client that has just read an
//! answer may have to wait an instant for the line.
//!
//! How: hyper drops a response's body when it has taken all of it, which completes its record ([`crate::record`]);
//! hyper calls `poll_flush` when its own buffer is empty, which writes the completed records. What
//! hyper never gets to flush (the client went away) is written when the connection ends, with status
//! 499, as nginx has it, if there was no response yet.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use duende_daemon::DaemonContext;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::record::Connection;
use crate::respond::respond;
use crate::shared::Shared;

/// Most bytes of a request's head. Escaped in the log (four bytes for one) and with the rest of its
/// line, that is under 65,536, the longest message that a channel of Duende carries.
const HEAD_BYTES_MAX: usize = 8_192;

/// Most header fields of a request.
const HEADERS_MAX: usize = 100;

/// How long a connection may take for a request's head, and so how long it may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take no byte of a response.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a connection to its end. When the daemon is asked to stop, the request under way is
/// finished and no other is taken; when the drain is over, the connection is cut.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    shared: Arc<Shared>,
    ctx: DaemonContext,
) {
    let connection = Arc::new(Connection::new(peer, shared.clone()));
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
        connection.write_refused(status, started.elapsed());
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
