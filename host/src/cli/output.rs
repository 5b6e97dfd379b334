//! Writing to standard output and standard error.
//!
//! Colour only where somebody sees it: on a terminal, unless `NO_COLOR` is set.
//!
//! Everything that the command line prints goes through here, and of all that drives a terminal only the
//! colours of [`paint`] pass, where there are colours (`tests::nothing_but_our_colours_drives_a_terminal`):
//! whatever daemons, files, peers and arguments say, and whoever forgets it. In JSON such characters are
//! written as their codes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::manager::printer::{Printer, dropped_line};
pub(crate) use crate::terminal::harmless;
use crate::{config::Diagnostic, terminal::harmless_json};

/// Colours of the terminal's own palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Green,
    /// It will be, or was.
    Yellow,
    /// Somebody should look.
    Red,
    /// Not of interest.
    Dim,
    /// A heading.
    Bold,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// All that [`paint`] sends to a terminal beside texts.
const CODES: [&str; 6] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];

/// Wraps a text in a colour, if `on`.
#[must_use]
pub fn paint(text: &str, colour: Option<Colour>, on: bool) -> String {
    match colour {
        Some(colour) if on => format!("\x1b[{}m{text}\x1b[0m", colour.code()),
        _ => text.to_owned(),
    }
}

/// Whether standard output takes colours.
#[must_use]
pub fn stdout_has_colour() -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !forbidden && io::stdout().is_terminal()
}

/// As [`harmless`], for a text of several lines.
#[must_use]
pub fn harmless_lines(text: &str) -> String {
    text.split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

/// Says on standard error why a process ends. A terminal or pipe that nobody reads does not keep it from
/// ending.
pub fn last_words(text: &str) {
    let text = format!("{}\n", harmless_lines(text));
    let printer = Printer::to_fd(io::stderr(), dropped_line);
    if printer.prints() {
        printer.print(&text);
    } else {
        // No thread, no descriptor: then as it comes.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Writes a text, of which nothing drives a terminal, and a line feed.
pub(super) fn line(text: &str) -> io::Result<()> {
    write(&harmless_lines(text))
}

/// Writes a text that brings its colours, and a line feed.
pub(super) fn painted(text: &str) -> io::Result<()> {
    write(&only_colours(text, stdout_has_colour()))
}

/// Writes what goes wrong, or may, to standard error. If nobody can read it, nobody misses it.
pub(super) fn complain(text: &str) {
    let text = harmless_lines(text.trim_end_matches('\n'));
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says what a configuration allows and probably does not mean.
pub(super) fn warnings(warnings: &[Diagnostic]) {
    for warning in warnings {
        complain(&format!("{warning}\n"));
    }
}

/// A text of several lines in which nothing but colours drives a terminal, and these only if `on`.
fn only_colours(text: &str, on: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let colour = CODES.iter().find(|code| on && rest.starts_with(**code));
        let length = colour.map_or(first.len_utf8(), |code| code.len());
        let (piece, behind) = rest.split_at(length);
        match (colour, first) {
            (Some(code), _) => out.push_str(code),
            (None, '\n') => out.push('\n'),
            (None, _) => out.push_str(&harmless(piece)),
        }
        rest = behind;
    }
    out
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Writes a value as a document of its own, indented.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    write(&harmless_json(&serde_json::to_string_pretty(value)?))
}

/// Writes a value as one line of a stream.
pub(super) fn json_line(value: &impl Serialize) -> io::Result<()> {
    write(&harmless_json(&serde_json::to_string(value)?))
}

/// Sleeps, or notices that the reader of standard output has gone: then nothing more need be written,
/// however long nothing comes.
pub(super) fn wait_or_reader_gone(length: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    // Errors are reported whether or not they are asked for; that there is room is not asked.
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec::try_from(length).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
        Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(error) => Err(error.into()),
    }
}

/// As [`wait_or_reader_gone`], without waiting.
pub(super) fn check_reader() -> io::Result<()> {
    wait_or_reader_gone(Duration::ZERO)
}

/// Says on standard error that something takes its time, from the first second on.
#[derive(Debug)]
pub struct Progress {
    what: String,
    started: Instant,
    terminal: bool,
    shown_s: Option<u64>,
}

impl Progress {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { what: harmless(&what.into()), started: Instant::now(), terminal, shown_s: None }
    }

    /// Shows how long it has taken: each second on a terminal; else after one second and then every
    /// ten.
    pub fn tick(&mut self) {
        let elapsed_s = self.started.elapsed().as_secs();
        let due = if self.terminal {
            elapsed_s >= 1 && self.shown_s != Some(elapsed_s)
        } else {
            elapsed_s >= 1 && self.shown_s.is_none_or(|shown_s| elapsed_s >= shown_s + 10)
        };
        if due {
            self.shown_s = Some(elapsed_s);
            let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            // Nobody may be there to see it; the work goes on.
            let _ = write!(io::stderr(), "{start}{} ({elapsed_s} s){end}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown_s.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A length of time for people: two units at most.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number of bytes for people.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// A number of times per second for people.
#[must_use]
pub fn human_rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1_000.0 => format!("{:.1}k/s", rate / 1_000.0),
        rate if rate >= 10.0 || rate == 0.0 => format!("{rate:.0}/s"),
        rate => format!("{rate:.1}/s"),
    }
}

/// A table whose columns are as wide as their widest cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Option<Colour>)>>,
}

impl Table {
    /// A table with a heading.
    #[must_use]
    pub fn new(heading: &[&str]) -> Self {
        let mut table = Self::default();
        let cells = heading.iter().map(|&text| (text.to_owned(), Some(Colour::Bold)));
        table.rows.push(cells.collect());
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<(String, Option<Colour>)>) {
        self.rows.push(cells);
    }

    /// The table as text; each line ends with a line feed and none in blanks.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|(text, _)| !text.is_empty()).map_or(0, |at| at + 1);
            for (column, (text, style)) in row.iter().take(last).enumerate() {
                out.push_str(&paint(text, *style, colour));
                if column + 1 < last {
                    let gap = widths[column] - text.chars().count() + 2;
                    let _ = write!(out, "{:gap$}", "");
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_with_and_without_colour() {
        let mut table = Table::new(&["NAME", "STATE", "X"]);
        table.row(vec![
            ("wéb".into(), None),
            ("running".into(), Some(Colour::Green)),
            ("".into(), None),
        ]);
        table.row(vec![("sentinel".into(), None), ("up".into(), None), ("y".into(), None)]);
        let plain = table.render(false);
        assert_eq!(plain, "NAME      STATE    X\nwéb       running\nsentinel  up       y\n");
        let mut coloured = table.render(true);
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[32m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_our_colours_drives_a_terminal(text in "(\\PC|\x1b\\[[0-9;]{0,3}m|\x1b|\u{9b}|\u{202e}|\r|\n|\t|a){0,40}") {
            for on in [false, true] {
                let mut shown = only_colours(&text, on);
                proptest::prop_assert_eq!(only_colours(&shown, on), shown.clone());
                if on {
                    for code in CODES {
                        shown = shown.replace(code, "");
                    }
                }
                let drives = |found: char| found != '\n' && crate::terminal::drives_terminal(found);
                proptest::prop_assert!(!shown.contains(drives), "{shown:?}");
            }
        }
    }

    #[test]
    fn our_colours_pass() {
        for colour in [Colour::Green, Colour::Yellow, Colour::Red, Colour::Dim, Colour::Bold] {
            let text = paint("a\nb", Some(colour), true);
            assert_eq!(only_colours(&text, true), text);
            assert!(!only_colours(&text, false).contains('\x1b'));
        }
    }

    #[test]
    fn figures_for_people() {
        let duration = |ms| human_duration(Duration::from_millis(ms));
        assert_eq!(duration(1_250), "1.2s");
        assert_eq!(duration(59_999), "59s");
        assert_eq!(duration(61_000), "1m01s");
        assert_eq!(duration(3_720_000), "1h02m");
        assert_eq!(duration(90_000_000), "1d01h");
        assert_eq!(human_bytes(64 << 20), "64.0 MiB");
        assert_eq!([0.0, 0.5, 12.3, 4_200.0].map(human_rate), ["0/s", "0.5/s", "12/s", "4.2k/s"]);
    }

    #[test]
    fn nothing_from_outside_drives_a_terminal() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(harmless(text), expected);
        }
        check("a\x1b[31m\tb", "a\u{fffd}[31m b");
        check("good\rbad", "good\u{fffd}bad");
        check("one\ntwo", "one\u{fffd}two");
        check("\u{9b}31m", "\u{fffd}31m");
        check("a\u{202e}fdp\u{202c}", "a\u{fffd}fdp\u{fffd}");
        check("wéb 日本 👩\u{200d}🚀", "wéb 日本 👩\u{200d}🚀");
        assert_eq!(harmless_lines("a\nb\x1bc\n"), "a\nb\u{fffd}c\n");
    }
}
