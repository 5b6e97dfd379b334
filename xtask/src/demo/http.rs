//! A client for the demo's own requests: one connection each, and every doubt is an error.
//!
//! A request counts as answered once its whole response was read. What can't be counted — a
//! connection that was cut in the middle, so that nobody knows whether the server logged it — is no
//! result but [`HttpError::Cut`]; only a connection that was refused is sure to have left no trace.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take for anything.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest response that is read, in bytes.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Nobody listens there at present: the request was not sent.
    #[error("nobody listens on {0}")]
    Refused(SocketAddr),
    /// It was sent, and there is no whole answer.
    #[error("the request for {path} was cut off, so it can't be known whether it counts: {source}")]
    Cut {
        /// What was asked for.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Asks for `path` and returns the status of the answer.
///
/// The server closes the connection after its answer, and has written its access log's line by then.
pub(super) fn get(server: SocketAddr, path: &str) -> Result<u16, HttpError> {
    let cut = |source| HttpError::Cut { path: path.to_owned(), source };
    let mut stream = match TcpStream::connect_timeout(&server, TIMEOUT) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(HttpError::Refused(server));
        }
        Err(error) => return Err(cut(error)),
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: xtask-demo\r\nConnection: close\r\n\r\n"
    );
    let mut response = Vec::new();
    let exchanged = stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(head.as_bytes()))
        .and_then(|()| stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response));
    exchanged.map_err(cut)?;
    status_of(&response).ok_or_else(|| {
        let what = format!("{} bytes are no whole response", response.len());
        cut(io::Error::new(io::ErrorKind::InvalidData, what))
    })
}

/// The status of a response; none if the response is not whole.
fn status_of(response: &[u8]) -> Option<u16> {
    let head_bytes = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = response.split_at_checked(head_bytes + 4)?;
    let mut lines = std::str::from_utf8(head).ok()?.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    })?;
    (length == Ok(body.len())).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_response_has_a_status() {
        let whole = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n";
        assert_eq!(status_of(whole.as_bytes()), Some(404));
        for length in 0..whole.len() {
            assert_eq!(status_of(&whole.as_bytes()[..length]), None, "{length} bytes");
        }
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(status_of(b"SSH-2.0-x\r\n\r\n"), None);
    }
}
