//! Bytes that are written to an output, as lines of a log.

use alloc::{string::String, vec::Vec};
use core::mem;

use duende_core::wire::link::TEXT_BYTES_MAX;

/// One output.
#[derive(Default)]
pub(super) struct Lines {
    /// The beginning of a line.
    begun: Vec<u8>,
    /// The last line of this slice.
    last: Option<String>,
}

impl Lines {
    /// More bytes; `line` is given each whole line. One that is longer than a line of the log comes in pieces.
    pub(super) fn write(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend(part.strip_suffix(b"\n").unwrap_or(part));
            while self.begun.len() > TEXT_BYTES_MAX {
                let rest = self.begun.split_off(boundary(&self.begun));
                let piece = mem::replace(&mut self.begun, rest);
                self.say(&piece, &mut line);
            }
            if part.ends_with(b"\n") {
                let whole = mem::take(&mut self.begun);
                self.say(&whole, &mut line);
            }
        }
    }

    /// What was begun is a line.
    pub(super) fn end(&mut self, mut line: impl FnMut(String)) {
        let begun = mem::take(&mut self.begun);
        if !begun.is_empty() {
            self.say(&begun, &mut line);
        }
    }

    /// The last line that tells something, of this slice.
    pub(super) fn take_last(&mut self) -> Option<String> {
        self.last.take()
    }

    fn say(&mut self, bytes: &[u8], line: &mut impl FnMut(String)) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        // Each byte that is no text becomes three.
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        if tells(&text) {
            self.last = Some(text.clone());
        }
        line(text);
    }
}

/// Whether a line may be why a slice failed. Standard libraries say more after that: frames of a stack, which
/// are indented, and what they do next.
fn tells(line: &str) -> bool {
    const AFTERWARDS: [&str; 4] = [
        "note: run with `RUST_BACKTRACE",
        "note: Some details are omitted",
        "Stack:",
        "Redirecting call to abort()",
    ];
    !line.trim().is_empty()
        && !line.starts_with(char::is_whitespace)
        && !AFTERWARDS.iter().any(|words| line.starts_with(words))
}

/// Where a piece of at most [`TEXT_BYTES_MAX`] bytes ends, not within a character if there is another place.
fn boundary(bytes: &[u8]) -> usize {
    let is_continued = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (TEXT_BYTES_MAX.saturating_sub(3)..=TEXT_BYTES_MAX)
        .rev()
        .find(|at| !is_continued(at))
        .unwrap_or(TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn lines(writes: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for write in writes {
            lines.write(write, |line| said.push(line));
        }
        lines.end(|line| said.push(line));
        let last = lines.take_last();
        (said, last)
    }

    #[test]
    fn lines_are_told_apart() {
        for (writes, expected) in [
            (&[&b"one\ntwo"[..], b" and\r\n\nthree"][..], &["one", "two and", "", "three"][..]),
            (&[b"\n"], &[""]),
            (&[], &[]),
            (&[b"no text: \xff\n"], &["no text: \u{fffd}"]),
        ] {
            assert_eq!(lines(writes).0, expected);
        }
        for after in [
            "\n  \n",
            "Stack:\n  f@x.js:1\nRedirecting call to abort() to x",
            "note: run with `RUST_BACKTRACE=1`",
        ] {
            let text = alloc::format!("first\npanicked\n{after}");
            assert_eq!(lines(&[text.as_bytes()]).1, Some("panicked".to_string()));
        }
    }

    proptest! {
        /// However it is cut into writes, a text gives the same lines, of the log's length, and nothing of it is lost.
        #[test]
        fn cuts_do_not_matter(text in "[a-zé\n]{0,300}", long in 0_usize..20_000, cut in 1_usize..97) {
            let text = text + &"é".repeat(long);
            let bytes = text.as_bytes();
            let (whole, _) = lines(&[bytes]);
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(&lines(&pieces).0, &whole);
            prop_assert!(whole.iter().all(|line| line.len() <= TEXT_BYTES_MAX));
            let joined: String = whole.concat();
            prop_assert_eq!(joined, text.replace('\n', ""));
        }
    }
}
