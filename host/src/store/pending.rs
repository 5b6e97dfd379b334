//! Groups that are in the journal and not in the tables yet, and how a daemon reads as if they were.
//!
//! So whoever reads makes nobody write: a load or an export during a fault of the tables waits for none
//! (`what_only_the_journal_has_is_read_while_tables_fail`).

use std::collections::BTreeMap;
use std::time::Instant;

use super::journal::Numbered;
use super::seal::Kind;
use super::{Commit, Write};

/// Those groups, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) groups: Vec<Numbered>,
    /// When the oldest came; later if it could not be applied since.
    pub(super) since: Option<Instant>,
}

impl Pending {
    pub(super) fn push(&mut self, number: u64, group: &[Commit]) {
        self.since.get_or_insert_with(Instant::now);
        self.groups.push((number, group.to_vec()));
    }

    /// What they change of a daemon in tables whose last group is this one. A checkpoint that was reported as failed may
    /// have reached the disk.
    pub(super) fn of(&self, daemon: &str, last: u64) -> Overlay {
        let mut overlay = Overlay::default();
        let groups = self.groups.iter().filter(|(number, _)| *number > last);
        let commits = groups.flat_map(|(_, group)| group);
        for commit in commits.filter(|commit| commit.daemon == daemon) {
            overlay.add(commit);
        }
        overlay
    }
}

#[derive(Debug)]
enum Change {
    Set(Vec<u8>),
    Delete,
    Add(u64),
}

/// What commits change of a daemon's rows, by kind and name, in the order of rows.
#[derive(Debug, Default)]
pub(super) struct Overlay(BTreeMap<(u8, String), Change>);

impl Overlay {
    fn add(&mut self, commit: &Commit) {
        let mut change = |kind: Kind, name: &str, change: Change| {
            self.0.insert((kind as u8, name.to_owned()), change);
        };
        for write in &commit.writes {
            match write {
                Write::Set { key, value } => change(Kind::State, key, Change::Set(value.clone())),
                Write::Delete { key } => change(Kind::State, key, Change::Delete),
            }
        }
        for (channel, position) in &commit.positions {
            change(Kind::Position, channel, Change::Set(position.clone()));
        }
        for (name, level) in &commit.gauges {
            let level = level.to_bits().to_le_bytes().to_vec();
            change(Kind::Gauge, name, Change::Set(level));
        }
        for (name, delta) in &commit.counters {
            let place = (Kind::Counter as u8, name.clone());
            let change = self.0.entry(place).or_insert(Change::Add(0));
            if let Change::Add(sum) = change {
                *sum = sum.saturating_add(*delta);
            }
        }
    }

    /// Gives the rows on, in their order, as they are with these changes. [`finish`](Laid::finish) gives those that
    /// come last.
    pub(super) fn lay<F>(&self, row: F) -> Laid<'_, F>
    where
        F: FnMut(u8, &str, &[u8]) -> Result<(), &'static str>,
    {
        Laid { changes: self.0.iter().peekable(), row }
    }
}

/// Rows with changes laid over them.
pub(super) struct Laid<'a, F> {
    changes: std::iter::Peekable<std::collections::btree_map::Iter<'a, (u8, String), Change>>,
    row: F,
}

impl<F: FnMut(u8, &str, &[u8]) -> Result<(), &'static str>> Laid<'_, F> {
    pub(super) fn row(&mut self, kind: u8, name: &str, value: &[u8]) -> Result<(), &'static str> {
        let place = (kind, name);
        while let Some(((kind, name), change)) =
            self.changes.next_if(|((kind, name), _)| (*kind, name.as_str()) < place)
        {
            give(&mut self.row, *kind, name, None, change)?;
        }
        match self.changes.next_if(|((kind, name), _)| (*kind, name.as_str()) == place) {
            Some((_, change)) => give(&mut self.row, kind, name, Some(value), change),
            None => (self.row)(kind, name, value),
        }
    }

    pub(super) fn finish(mut self) -> Result<(), &'static str> {
        for ((kind, name), change) in self.changes {
            give(&mut self.row, *kind, name, None, change)?;
        }
        Ok(())
    }
}

/// Gives a changed row on; `before` is what is there.
fn give(
    mut row: impl FnMut(u8, &str, &[u8]) -> Result<(), &'static str>,
    kind: u8,
    name: &str,
    before: Option<&[u8]>,
    change: &Change,
) -> Result<(), &'static str> {
    match change {
        Change::Set(value) => row(kind, name, value),
        Change::Delete => Ok(()),
        Change::Add(more) => {
            let before = match before {
                Some(before) => u64::from_le_bytes(before.try_into().map_err(|_| "is none")?),
                None => 0,
            };
            row(kind, name, &before.saturating_add(*more).to_le_bytes())
        }
    }
}
