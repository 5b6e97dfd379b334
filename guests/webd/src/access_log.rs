//! The access log: one line per request, in the combined format, then the request's time in seconds.
//!
//! ```text
//! 127.0.0.1 - - [21/Nov/2026:09:15:15 +0000] "GET /index.html HTTP/1.1" 200 1234 "-" "curl/8.0" 0.000123
//! ```
//! Rules:
//! 1. The time in brackets is UTC, when the request's head was read; the bytes are the body's.
//! 2. In quoted fields a quote, a backslash and every byte outside printable ASCII is `\xHH`, as nginx
//!    writes them: a client can't forge a line. An absent or empty field is `-`.
//! 3. One line is one write(2) to a file opened for appending, so that lines of several processes do
//!    not mix and a reader that follows the file sees whole lines.
//! 4. A line that could not be written is counted and said on stderr; serving goes on.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use duende_daemon::{Priority, log};

/// What is said of one request.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) peer: IpAddr,
    /// When the head was read.
    pub(crate) received: SystemTime,
    /// `GET /path HTTP/1.1`; empty when the head could not be understood.
    pub(crate) request_line: String,
    pub(crate) status: u16,
    /// Bytes of the body that were handed to the connection.
    pub(crate) body_bytes: u64,
    pub(crate) referer: Vec<u8>,
    pub(crate) user_agent: Vec<u8>,
    /// From the head being read to the last byte being handed to the socket.
    pub(crate) elapsed: Duration,
}

impl Entry {
    /// The line, with its line break.
    fn line(&self) -> String {
        let mut line = format!("{} - - [{}] \"", self.peer, timestamp(self.received));
        push_escaped(&mut line, self.request_line.as_bytes());
        // Writing to a String can't fail.
        let _ = write!(line, "\" {} {} \"", self.status, self.body_bytes);
        push_escaped(&mut line, &self.referer);
        line.push_str("\" \"");
        push_escaped(&mut line, &self.user_agent);
        let _ = writeln!(line, "\" {:.6}", self.elapsed.as_secs_f64());
        line
    }
}

/// `21/Nov/2026:09:15:15 +0000`.
fn timestamp(at: SystemTime) -> String {
    // `Sat, 21 Nov 2026 09:15:15 GMT`, of fixed width. It can't write times before 1970.
    let http = httpdate::fmt_http_date(at.max(SystemTime::UNIX_EPOCH));
    let part = |range| http.get(range).unwrap_or_default();
    format!("{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
}

fn push_escaped(line: &mut String, field: &[u8]) {
    if field.is_empty() {
        line.push('-');
    }
    for &byte in field {
        if (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\' {
            line.push(char::from(byte));
        } else {
            let _ = write!(line, "\\x{byte:02X}");
        }
    }
}

/// The file.
#[derive(Debug)]
pub(crate) struct AccessLog {
    path: PathBuf,
    open: Mutex<Open>,
    lines_lost: AtomicU64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// The last write left part of a line behind.
    is_torn: bool,
    /// Why the last line was not written; `None` when it was.
    failure: Option<String>,
}

impl AccessLog {
    /// Opens the file for appending; makes it if missing, readable for owner and group.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(open(path)?),
            lines_lost: AtomicU64::new(0),
        })
    }

    /// Opens the path anew, after a rotation. On an error the old file stays in use.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let new = open(&self.path)?;
        *self.lock() = new;
        Ok(())
    }

    /// Appends one line.
    pub(crate) fn write(&self, entry: &Entry) {
        let mut open = self.lock();
        let line = if open.is_torn { format!("\n{}", entry.line()) } else { entry.line() };
        let failure = match open.file.write(line.as_bytes()) {
            Ok(bytes) if bytes == line.len() => None,
            Ok(bytes) => {
                open.is_torn = open.is_torn || bytes > 0;
                Some(format!("only {bytes} of {} bytes written", line.len()))
            }
            Err(error) => Some(error.to_string()),
        };
        match &failure {
            None => open.is_torn = false,
            Some(why) => {
                self.lines_lost.fetch_add(1, Ordering::Relaxed);
                if open.failure.is_none() {
                    let path = self.path.display();
                    log(Priority::Error, format_args!("cannot write to access log {path}: {why}"));
                }
            }
        }
        open.failure = failure;
    }

    /// Why lines can't be written at present.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Lines that could not be written.
    pub(crate) fn lines_lost(&self) -> u64 {
        self.lines_lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // Nothing inside panics half-way; a poisoned lock guards a whole value.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    Ok(Open { file, is_torn: false, failure: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            peer: IpAddr::from([127, 0, 0, 1]),
            // 2026-11-21T09:15:15Z
            received: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_252_515),
            request_line: "GET /index.html HTTP/1.1".to_owned(),
            status: 200,
            body_bytes: 1_234,
            referer: Vec::new(),
            user_agent: b"curl/8.0".to_vec(),
            elapsed: Duration::from_nanos(123_400),
        }
    }

    #[test]
    fn a_line_is_exactly_this() {
        assert_eq!(
            entry().line(),
            "127.0.0.1 - - [21/Nov/2026:09:15:15 +0000] \"GET /index.html HTTP/1.1\" 200 1234 \
             \"-\" \"curl/8.0\" 0.000123\n"
        );
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let hostile = Entry {
            request_line: String::new(),
            user_agent: b"a\" 200 \n\\\x7f\xff~".to_vec(),
            ..entry()
        };
        let line = hostile.line();
        assert!(line.contains("] \"-\" 200"), "{line}");
        assert!(line.contains(r#""a\x22 200 \x0A\x5C\x7F\xFF~" 0.000123"#), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_full_disk_is_counted_and_said_until_it_passes() {
        let log = AccessLog::open(Path::new("/dev/full")).unwrap();
        log.write(&entry());
        log.write(&entry());
        assert_eq!(log.lines_lost(), 2);
        assert!(log.failure().is_some());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = AccessLog { path: path.clone(), ..log };
        log.reopen().unwrap();
        log.write(&entry());
        assert_eq!((log.failure(), log.lines_lost()), (None, 2));
        assert_eq!(std::fs::read_to_string(path).unwrap(), entry().line());
    }
}
