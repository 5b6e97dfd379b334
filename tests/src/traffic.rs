//! An access log as a web server writes it, rotation included; and a client of one.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The body of a server's answer; none if it does not answer in time.
#[must_use]
pub fn get(server: SocketAddr, path: &str, timeout: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&server, timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// A line of the combined format, with the request time.
#[must_use]
pub fn line(number: u64, status: u16) -> String {
    format!(
        "127.0.0.1 - - [21/Nov/2026:09:15:{:02} +0000] \"GET /{number} HTTP/1.1\" {status} 10 \"-\" \
         \"test\" 0.001000\n",
        number % 60
    )
}

/// A line whose response has as many bytes as its number says: then the sum of the bytes tells which lines were
/// read, where a lost one and a doubled one would leave their count as it is.
#[must_use]
pub fn numbered(number: u64) -> String {
    format!(
        "127.0.0.1 - - [21/Nov/2026:09:15:{:02} +0000] \"GET /{number} HTTP/1.1\" 200 {number} \"-\" \"test\" \
         0.001000\n",
        number % 60
    )
}

/// What some of the [`numbered`] lines come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many there are.
    pub lines: u64,
    /// The bytes of all responses.
    pub bytes: u64,
}

impl Total {
    /// Of the first lines.
    #[must_use]
    pub fn of_first(lines: u64) -> Self {
        Self { lines, bytes: (0..lines).sum() }
    }

    /// Of the lines that stand in a text, whatever a logger put around them.
    ///
    /// # Panics
    /// One is none of them.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let number = |line: &str| {
            let (number, _) = line.split_once("\"GET /")?.1.split_once(' ')?;
            number.parse::<u64>().ok()
        };
        text.lines().fold(Self::default(), |Self { lines, bytes }, line| Self {
            lines: lines + 1,
            bytes: bytes + number(line).unwrap_or_else(|| panic!("not a line: {line:?}")),
        })
    }
}

impl std::ops::Add for Total {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { lines: self.lines + other.lines, bytes: self.bytes + other.bytes }
    }
}

/// Writes lines to a file and knows how many.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    file: File,
    rotations: u32,
    /// Lines that were written, over all rotations.
    pub lines: u64,
}

impl AccessLog {
    /// Begins a log.
    ///
    /// # Panics
    /// The file can't be made.
    #[must_use]
    pub fn create(path: &Path) -> Self {
        Self { path: path.to_owned(), file: open(path), rotations: 0, lines: 0 }
    }

    /// Writes so many lines, one `write` each, as a web server does. Every tenth is a 500.
    ///
    /// # Panics
    /// They can't be written.
    pub fn write(&mut self, lines: u64) {
        for _ in 0..lines {
            let status = if self.lines % 10 == 9 { 500 } else { 200 };
            let text = line(self.lines, status);
            self.file.write_all(text.as_bytes()).expect("the access log can be written");
            self.lines += 1;
        }
    }

    /// Renames the file to `.1`, `.1` to `.2` and so on, and begins a new one, as logrotate does.
    ///
    /// # Panics
    /// One can't be renamed.
    pub fn rotate(&mut self) {
        let numbered = |number: u32| self.path.with_extension(format!("log.{number}"));
        for number in (1..=self.rotations).rev() {
            std::fs::rename(numbered(number), numbered(number + 1)).expect("it can be renamed");
        }
        std::fs::rename(&self.path, numbered(1)).expect("it can be renamed");
        self.rotations += 1;
        self.file = open(&self.path);
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the access log can be made")
}
