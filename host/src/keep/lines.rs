//! From what a daemon prints to lines.
//!
//! A line is at most [`TEXT_BYTES_MAX`] bytes; a longer one becomes several, each but the last
//! marked as continued. A prefix `<0>` to `<7>` (syslog's levels, as `sd-daemon` has them) sets the
//! level of its line and is not part of the text.

use duende_core::wire::link::{LogLevel, TEXT_BYTES_MAX};

/// One line, or a piece of a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) level: LogLevel,
    pub(super) text: &'a [u8],
    pub(super) continues: bool,
}

/// The unfinished line of one stream.
#[derive(Debug)]
pub(super) struct LineSplitter {
    default_level: LogLevel,
    /// What came since the last line feed; never longer than a piece.
    partial: Vec<u8>,
    /// The level of the line whose earlier pieces are out, if any are.
    open_level: Option<LogLevel>,
}

impl LineSplitter {
    pub(super) const fn new(default_level: LogLevel) -> Self {
        Self { default_level, partial: Vec::new(), open_level: None }
    }

    /// Takes the next bytes and gives each line that they complete to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut impl FnMut(Line<'_>)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                // The common case: nothing is copied.
                Some(end) if self.partial.is_empty() && end.len() <= TEXT_BYTES_MAX => {
                    self.emit(end, false, out);
                }
                Some(end) => {
                    self.extend(end, out);
                    self.end_line(out);
                }
                None => self.extend(piece, out),
            }
        }
    }

    /// Gives out what came without a line feed: the stream has ended.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() || self.open_level.is_some() {
            self.end_line(out);
        }
    }

    fn end_line(&mut self, out: &mut impl FnMut(Line<'_>)) {
        let mut partial = std::mem::take(&mut self.partial);
        self.emit(&partial, false, out);
        partial.clear();
        self.partial = partial;
    }

    /// Adds to the line, and gives out pieces while it is too long for one.
    fn extend(&mut self, mut bytes: &[u8], out: &mut impl FnMut(Line<'_>)) {
        while let Some((head, rest)) = bytes.split_at_checked(TEXT_BYTES_MAX - self.partial.len())
            && !rest.is_empty()
        {
            self.partial.extend_from_slice(head);
            bytes = rest;
            let mut partial = std::mem::take(&mut self.partial);
            let end = character_boundary(&partial);
            let (piece, cut) = partial.split_at(end);
            self.emit(piece, true, out);
            let cut_bytes = cut.len();
            partial.drain(..partial.len() - cut_bytes);
            self.partial = partial;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn emit(&mut self, text: &[u8], continues: bool, out: &mut impl FnMut(Line<'_>)) {
        let (level, text) = match self.open_level {
            Some(level) => (level, text),
            None => split_level(text).unwrap_or((self.default_level, text)),
        };
        self.open_level = continues.then_some(level);
        out(Line { level, text, continues });
    }
}

/// Splits `<3>text`.
fn split_level(text: &[u8]) -> Option<(LogLevel, &[u8])> {
    let [b'<', digit @ b'0'..=b'7', b'>', text @ ..] = text else {
        return None;
    };
    let level = match digit {
        b'0'..=b'2' => LogLevel::Critical,
        b'3' => LogLevel::Error,
        b'4' => LogLevel::Warn,
        b'5' | b'6' => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    Some((level, text))
}

/// Where to cut so that no UTF-8 character is torn; the end, when the tail is not UTF-8 anyway.
fn character_boundary(bytes: &[u8]) -> usize {
    const CONTINUATION_BYTES_MAX: usize = 3;
    let end = bytes.len();
    for back in 1..=(CONTINUATION_BYTES_MAX + 1).min(end) {
        let (length, is_start) = match bytes.get(end - back) {
            Some(0b1100_0000..=0b1101_1111) => (2, true),
            Some(0b1110_0000..=0b1110_1111) => (3, true),
            Some(0b1111_0000..=0b1111_0111) => (4, true),
            Some(0b1000_0000..=0b1011_1111) => (0, false),
            _ => return end,
        };
        if is_start {
            return if length > back { end - back } else { end };
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(LogLevel, Vec<u8>, bool)> {
        let mut lines = Vec::new();
        let mut out = |line: Line<'_>| lines.push((line.level, line.text.to_vec(), line.continues));
        let mut splitter = LineSplitter::new(LogLevel::Info);
        for chunk in chunks {
            splitter.push(chunk, &mut out);
        }
        splitter.finish(&mut out);
        lines
    }

    #[test]
    fn a_level_prefix_counts_at_the_start_of_a_line_only() {
        use LogLevel::{Debug, Error, Info, Warn};
        for (text, level, rest) in [
            ("<0>x", LogLevel::Critical, "x"),
            ("<2>x", LogLevel::Critical, "x"),
            ("<3>x", Error, "x"),
            ("<4>x", Warn, "x"),
            ("<5>x", Info, "x"),
            ("<7>", Debug, ""),
            ("<8>x", Info, "<8>x"),
            ("<3x", Info, "<3x"),
            ("a<3>x", Info, "a<3>x"),
            ("", Info, ""),
        ] {
            let line = format!("{text}\n");
            let expected = [(level, rest.as_bytes().to_vec(), false)];
            assert_eq!(split(&[line.as_bytes()]), expected, "{text}");
        }
        assert_eq!(split(&[b"<", b"3", b">ab", b"c"]), [(Error, b"abc".to_vec(), false)]);
    }

    #[test]
    fn a_long_line_keeps_its_level_and_its_characters_whole() {
        let mut line = b"<4>".to_vec();
        line.resize(TEXT_BYTES_MAX - 1, b'a');
        line.extend_from_slice("ü<3>b".as_bytes());
        let lines = split(&[&line, b"\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], (LogLevel::Warn, vec![b'a'; TEXT_BYTES_MAX - 4], true));
        assert_eq!(lines[1], (LogLevel::Warn, "ü<3>b".as_bytes().to_vec(), false));
    }

    proptest! {
        #[test]
        fn how_it_arrives_changes_nothing(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just(b"\n".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..40),
                    proptest::collection::vec(any::<u8>(), 8_000..20_000),
                ],
                0..8,
            ),
            step in 1_usize..10_000,
        ) {
            let text = pieces.concat();
            let chunks: Vec<_> = text.chunks(step).collect();
            let lines = split(&chunks);
            prop_assert_eq!(&lines, &split(&[&text]));
            prop_assert!(lines.iter().all(|(_, text, _)| text.len() <= TEXT_BYTES_MAX));
            // Put together again, apart from the level prefixes, it is what was printed.
            let mut joined = Vec::new();
            for (_, text, continues) in &lines {
                joined.extend_from_slice(text);
                if !continues {
                    joined.push(b'\n');
                }
            }
            if !text.split(|byte| *byte == b'\n').any(|line| split_level(line).is_some()) {
                let mut expected = text.clone();
                if expected.last().is_some_and(|last| *last != b'\n') {
                    expected.push(b'\n');
                }
                prop_assert_eq!(joined, expected);
            }
        }
    }
}
