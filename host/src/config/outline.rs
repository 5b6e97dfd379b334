//! Where the tables of a file begin, so that a key that stands below the wrong one can be told the line.
//!
//! What is kept are places; lines are counted only for a key that is misplaced.

use std::ops::Range;

use toml::de::DeTable;

use super::schema::Table;

/// Where the keys that hold tables stand: those at the top, and those of the daemon that is being read.
#[derive(Debug, Default)]
pub(super) struct Outline {
    top: Vec<(String, Range<usize>)>,
    daemon: Vec<(String, Range<usize>)>,
}

impl Outline {
    /// The tables at the top of a document.
    pub(super) fn read_top(&mut self, table: &DeTable<'_>) {
        self.top = tables(table);
    }

    /// The tables within a daemon.
    pub(super) fn read_daemon(&mut self, table: &DeTable<'_>) {
        self.daemon = tables(table);
    }

    /// The line of the first header of a kind of table; none: it has none, or is no table by itself.
    pub(super) fn line_of(&self, source: &str, table: Table) -> Option<usize> {
        let span = self.place_of(table)?;
        is_in_header(source, span).then(|| line_number(source, span.start))
    }

    /// Whether there is one, with a header or without.
    pub(super) fn has(&self, table: Table) -> bool {
        self.place_of(table).is_some()
    }

    fn place_of(&self, table: Table) -> Option<&Range<usize>> {
        let key = table.key_in_daemon();
        let (tables, names) = match table {
            Table::Fleet => (&self.top, &["fleet"][..]),
            Table::Group => (&self.top, &["group"][..]),
            Table::Daemon => (&self.top, &["daemon"][..]),
            Table::Limits => (&self.daemon, &["limits", "resources"][..]),
            _ => (&self.daemon, key.as_slice()),
        };
        let found = tables.iter().find(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, span)| span)
    }

    /// The line of the first header within the daemon: what stands above it is the daemon's own.
    pub(super) fn first_within(&self, source: &str) -> Option<usize> {
        let headers = self.daemon.iter().filter(|(_, span)| is_in_header(source, span));
        headers.map(|(_, span)| span.start).min().map(|at| line_number(source, at))
    }
}

fn tables(table: &DeTable<'_>) -> Vec<(String, Range<usize>)> {
    let holds_tables = |value: &toml::de::DeValue<'_>| value.is_table() || value.is_array();
    let tables = table.iter().filter(|(_, value)| holds_tables(value.get_ref()));
    tables.map(|(key, _)| (key.get_ref().clone().into_owned(), key.span())).collect()
}

/// The number of the line on which an offset is, from 1.
pub(super) fn line_number(source: &str, at: usize) -> usize {
    let before = source.get(..source.floor_char_boundary(at)).unwrap_or_default();
    1 + before.bytes().filter(|byte| *byte == b'\n').count()
}

/// Where the line of an offset begins.
pub(super) fn line_start(source: &str, at: usize) -> usize {
    let before = source.get(..source.floor_char_boundary(at)).unwrap_or_default();
    before.rfind('\n').map_or(0, |at| at + 1)
}

/// Whether what stands there is a part of a header.
pub(super) fn is_in_header(source: &str, span: &Range<usize>) -> bool {
    let line = source.get(line_start(source, span.start)..).unwrap_or_default();
    line.trim_start_matches([' ', '\t']).starts_with('[')
}
