//! What containers' logs put around each line, and the parts into which they cut long ones.
//!
//! ```text
//! 2026-11-21T09:15:15.000000000Z stdout F 192.0.2.1 - - […
//! {"log":"192.0.2.1 - - […\n","stream":"stdout","time":"2026-11-21T09:15:15.000000000Z"}
//! ```
//! Rules:
//! 1. The first is the CRI's (Kubernetes, and Podman's `k8s-file`), the second that of Docker's `json-file`, which
//!    writes its members in this order. Anything else is a line by itself.
//! 2. The CRI marks a part by `P`, the last one by `F`. Docker leaves out the line end of a part, and parts are of
//!    [`DOCKER_PART_BYTES`]; what others write without it is whole.
//! 3. Both streams can be amid a line at a time.

use crate::json::{Members, Value, unescape};
use crate::time;

/// At which length Docker cuts.
const DOCKER_PART_BYTES: usize = 16_384;

/// Where a container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A line, or a part of one, without what was around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unwrapped<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) stream: Stream,
    /// More of the line follows.
    pub(crate) is_part: bool,
    /// When it was written, in seconds since 1970.
    pub(crate) second: Option<u64>,
}

/// Takes off the wrapper; none if there is none. Docker's text is put into `buffer`.
pub(crate) fn unwrap<'a>(line: &'a [u8], buffer: &'a mut Vec<u8>) -> Option<Unwrapped<'a>> {
    match line.first()? {
        b'{' => docker(line, buffer),
        b'0'..=b'9' if line.get(10) == Some(&b'T') => cri(line),
        _ => None,
    }
}

fn cri(line: &[u8]) -> Option<Unwrapped<'_>> {
    let (second, length) = time::iso(line)?;
    let rest = line.get(length..)?;
    let (stream, rest) = match rest.split_at_checked(8)? {
        (b" stdout ", rest) => (Stream::Stdout, rest),
        (b" stderr ", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    // More tags may follow the first one, after a colon.
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\r');
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    let (tags, text) = rest.split_at_checked(end)?;
    let is_part = match tags {
        [b'F'] | [b'F', b':', ..] => false,
        [b'P'] | [b'P', b':', ..] => true,
        _ => return None,
    };
    let text = text.strip_prefix(b" ").unwrap_or(text);
    Some(Unwrapped { text, stream, is_part, second: Some(second) })
}

fn docker<'a>(line: &'a [u8], buffer: &'a mut Vec<u8>) -> Option<Unwrapped<'a>> {
    if !line.starts_with(b"{\"log\":\"") {
        return None;
    }
    let mut members = Members::of(line)?;
    let mut stream = Stream::Stdout;
    let mut second = None;
    buffer.clear();
    while let Some((key, value)) = members.next().ok()? {
        match (key, value) {
            (b"log", Value::Text(text)) => {
                buffer.clear();
                unescape(text, buffer);
            }
            (b"stream", Value::Text(b"stderr")) => stream = Stream::Stderr,
            (b"time", Value::Text(text)) => second = time::parse(text),
            _ => {}
        }
    }
    let whole = buffer.strip_suffix(b"\n");
    let text = whole.unwrap_or(buffer);
    let is_part = whole.is_none() && text.len() >= DOCKER_PART_BYTES;
    Some(Unwrapped { text, stream, is_part, second })
}
