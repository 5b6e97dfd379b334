//! What the demo shows: lines that stay, and below them on a terminal a block that is drawn again
//! in place. Anywhere else the block is printed only where a snapshot is asked for.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use super::fleet::Row;

/// How a text is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    has_colour: bool,
    /// The block that stands at the end; empty: none.
    block: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = is_terminal && !is_dumb;
        Self { is_terminal, has_colour: is_terminal && !set("NO_COLOR"), block: String::new() }
    }

    /// Prints a line that stays.
    pub(super) fn say(&mut self, text: &str) {
        let block = std::mem::take(&mut self.block);
        print(&format!("{}{text}\n", above(&block)));
        self.redraw(&block);
    }

    /// Prints the title of a step, and why it matters.
    pub(super) fn step(&mut self, title: &str, why: &str) {
        let text =
            format!("\n{}\n  {}", self.paint(title, Style::Bold), self.paint(why, Style::Dim));
        self.say(&text);
    }

    /// Draws the block again, on a terminal.
    pub(super) fn redraw(&mut self, block: &str) {
        if self.is_terminal && !(block.is_empty() && self.block.is_empty()) {
            // Lines are cut at the edge, not wrapped: the block must keep its height.
            print(&format!("{}\x1b[?7l{block}\x1b[?7h", above(&self.block)));
            block.clone_into(&mut self.block);
        }
    }

    /// Shows the block where there is something to see: once where nobody sees it being redrawn.
    pub(super) fn snapshot(&mut self, block: &str) {
        if self.is_terminal {
            self.redraw(block);
        } else {
            print(block);
        }
    }

    /// Shows the block for good: what follows stands below it.
    pub(super) fn keep(&mut self, block: &str) {
        self.clear();
        print(block);
    }

    /// Takes the block away.
    pub(super) fn clear(&mut self) {
        print(&above(&std::mem::take(&mut self.block)));
    }

    pub(super) fn paint(&self, text: &str, style: Style) -> String {
        if self.has_colour && style != Style::Plain {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// The daemons, as a table.
    pub(super) fn table(&self, rows: &[Row]) -> String {
        let heading =
            ["NAME", "ISOLATION", "STATE", "RESTARTS", "HEALTH", "UPTIME", "MEMORY", "RATE"];
        let mut lines = vec![heading.map(|text| (text.to_owned(), Style::Dim))];
        lines.extend(rows.iter().map(cells));
        self.columns(&lines, [false, false, false, true, false, true, true, true])
    }

    /// Columns as wide as their widest cell; numbers stand at the right edge.
    pub(super) fn columns<const N: usize>(
        &self,
        lines: &[[(String, Style); N]],
        are_numbers: [bool; N],
    ) -> String {
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let mut out = String::new();
        for line in lines {
            for (column, ((text, style), is_number)) in line.iter().zip(are_numbers).enumerate() {
                let gap = " ".repeat(width(column).saturating_sub(text.chars().count()));
                let painted = self.paint(text, *style);
                // Writing to a String can't fail.
                let _ = if is_number {
                    write!(out, "  {gap}{painted}")
                } else {
                    write!(out, "  {painted}{gap}")
                };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }
}

/// What moves the cursor to where a block began, and erases from there.
fn above(block: &str) -> String {
    match block.matches('\n').count() {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r\x1b[J"),
    }
}

fn print(text: &str) {
    // If nobody reads it, the exit code still says how it went.
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn cells(row: &Row) -> [(String, Style); 8] {
    let state = match row.state.as_str() {
        "running" => Style::Green,
        "failed" | "quarantined" => Style::Red,
        "created" | "stopped" => Style::Dim,
        _ => Style::Yellow,
    };
    let health = match row.health.as_str() {
        "healthy" => Style::Green,
        "unhealthy" => Style::Red,
        "degraded" => Style::Yellow,
        _ => Style::Dim,
    };
    let dash = || "-".to_owned();
    let cell = |text: String| (text, Style::Plain);
    [
        (row.name.clone(), Style::Bold),
        cell(row.isolation.clone()),
        (row.state.clone(), state),
        cell(row.restarts.to_string()),
        (if row.health == "unknown" { dash() } else { row.health.clone() }, health),
        cell(row.uptime_ms.map_or_else(dash, seconds)),
        cell(row.memory_bytes.map_or_else(dash, mebibytes)),
        cell(row.rate.as_ref().map_or_else(dash, |rate| format!("{:.0}/s", rate.per_second))),
    ]
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
}

/// Tenths of a MiB, rounded to the nearest.
fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes.saturating_mul(10) + (1 << 19)) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// A count with its thousands apart.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
        assert_eq!(mebibytes(1_153_434), "1.1 MiB");
        assert_eq!(seconds(1_250), "1.2 s");
    }

    #[test]
    fn a_block_is_as_high_as_its_lines_and_columns_as_wide_as_their_cells() {
        assert_eq!(above("a\nb\n"), "\x1b[2A\r\x1b[J");
        assert_eq!(above(""), "");
        let screen = Screen { is_terminal: true, has_colour: false, block: String::new() };
        let lines =
            [["a", "1"], ["bcd", "20"]].map(|line| line.map(|text| (text.to_owned(), Style::Red)));
        assert_eq!(screen.columns(&lines, [false, true]), "  a     1\n  bcd  20\n");
    }
}
