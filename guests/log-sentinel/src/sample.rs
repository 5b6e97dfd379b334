//! A line as it is shown to people, whatever it holds.

/// Most bytes of a line that are shown.
pub const SAMPLE_BYTES_MAX: usize = 120;

/// The beginning of a line, of printable ASCII only: a terminal is not driven, a log not forged.
#[must_use]
pub fn sample(line: &[u8]) -> String {
    let shown = line.get(..SAMPLE_BYTES_MAX).unwrap_or(line);
    let more = if shown.len() < line.len() { "…" } else { "" };
    format!("{}{more}", shown.escape_ascii())
}
