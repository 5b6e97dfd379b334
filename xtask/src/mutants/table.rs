//! The report of a crate: a row for each room, and every survivor with its reason. It is read back before it
//! is written, so that what was tested earlier and what people wrote stays.

use std::collections::BTreeMap;
use std::fmt;

use super::{Crate, Outcomes, Summary};

/// What is said of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The commit that was tested, and its date.
    commit: String,
    /// Which of its mutants: `all`, or every Nth from K: `K/N`.
    share: String,
    unviable: u64,
    caught: u64,
    timeout: u64,
    missed: u64,
}

impl Row {
    pub(super) fn new(commit: &str, shard: Option<&str>, outcomes: &Outcomes) -> Self {
        let count = |wanted: Summary| {
            outcomes.values().filter(|summary| **summary == wanted).count() as u64
        };
        Self {
            commit: commit.to_owned(),
            share: shard.unwrap_or("all").to_owned(),
            unviable: count(Summary::Unviable),
            caught: count(Summary::CaughtMutant),
            timeout: count(Summary::Timeout),
            missed: count(Summary::MissedMutant),
        }
    }

    const fn viable(&self) -> u64 {
        self.caught + self.timeout + self.missed
    }

    /// Reads `commit | share | mutants | unviable | viable | caught | timeout | missed | score`.
    fn parse(cells: &[&str]) -> Option<Self> {
        let [commit, share, _, unviable, _, caught, timeout, missed, _] = cells else {
            return None;
        };
        Some(Self {
            commit: (*commit).to_owned(),
            share: (*share).to_owned(),
            unviable: unviable.parse().ok()?,
            caught: caught.parse().ok()?,
            timeout: timeout.parse().ok()?,
            missed: missed.parse().ok()?,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let viable = self.viable();
        let score = per_mille(viable - self.missed, viable);
        write!(
            f,
            "{viable} viable, {} caught, {} timed out, {} missed: {}.{} %",
            self.caught,
            self.timeout,
            self.missed,
            score / 10,
            score % 10
        )
    }
}

/// A share in thousandths, rounded down. All of nothing is all.
fn per_mille(part: u64, whole: u64) -> u64 {
    (part * 1_000).checked_div(whole).unwrap_or(1_000)
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    of: &'static Crate,
    rows: BTreeMap<String, Row>,
    /// Each survivor, by its module, and the reason why it may live; empty: none is known.
    survivors: BTreeMap<String, Vec<(String, String)>>,
    /// Reasons that were read, by the mutant without its place.
    reasons: BTreeMap<String, String>,
}

impl Table {
    /// Reads a report; what is no row of it is not looked at.
    pub(super) fn read(of: &'static Crate, text: &str) -> Self {
        let mut table = Self {
            of,
            rows: BTreeMap::new(),
            survivors: BTreeMap::new(),
            reasons: BTreeMap::new(),
        };
        let mut module = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("### ") {
                name.clone_into(&mut module);
            }
            let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"))
            else {
                continue;
            };
            let cells: Vec<&str> = cells.split(" | ").map(str::trim).collect();
            match cells.as_slice() {
                [mutant, reason] if mutant.starts_with('`') && !module.is_empty() => {
                    let mutant = unescaped(mutant.trim_matches('`'));
                    let reason = if *reason == NO_REASON { "" } else { reason };
                    table.reasons.insert(without_place(&mutant), reason.to_owned());
                    let survivors = table.survivors.entry(module.clone()).or_default();
                    survivors.push((mutant, reason.to_owned()));
                }
                [name, cells @ ..] => {
                    if let Some(row) = Row::parse(cells).filter(|_| !name.starts_with("**")) {
                        table.rows.insert((*name).to_owned(), row);
                    }
                }
                [] => {}
            }
        }
        table
    }

    /// Forgets rooms that are no more.
    pub(super) fn keep_rooms(&mut self, rooms: &[String]) {
        self.rows.retain(|room, _| rooms.contains(room));
        self.survivors.retain(|room, _| rooms.contains(room));
    }

    /// Puts the outcome of a module in place of an older one.
    pub(super) fn put(&mut self, module: &str, row: Row, outcomes: &Outcomes) {
        let sources = self.of.sources;
        self.rows.insert(module.to_owned(), row);
        let missed = outcomes.iter().filter(|(_, summary)| **summary == Summary::MissedMutant);
        let survivors = missed.map(|(mutant, _)| {
            let below = mutant.strip_prefix(sources).and_then(|file| file.strip_prefix('/'));
            let mutant = below.unwrap_or(mutant).to_owned();
            let reason = self.reasons.get(&without_place(&mutant)).cloned().unwrap_or_default();
            (mutant, reason)
        });
        self.survivors.insert(module.to_owned(), survivors.collect());
    }

    /// The score of all modules together, in thousandths.
    pub(super) fn score_per_mille(&self) -> u64 {
        let sum = |figure: fn(&Row) -> u64| self.rows.values().map(figure).sum::<u64>();
        let viable = sum(Row::viable);
        per_mille(viable - sum(|row| row.missed), viable)
    }
}

/// What stands where nobody has given a reason.
const NO_REASON: &str = "(none given: a test is missing)";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "# Mutants of `{}`\n\n{HEAD}", self.of.package)?;
        let mut all = Row::new("", None, &Outcomes::new());
        for (module, row) in &self.rows {
            write_row(f, module, row)?;
            all.unviable += row.unviable;
            all.caught += row.caught;
            all.timeout += row.timeout;
            all.missed += row.missed;
        }
        write_row(f, "**all**", &Row { share: String::new(), ..all })?;
        f.write_str(SURVIVORS)?;
        for (module, survivors) in self.survivors.iter().filter(|(_, list)| !list.is_empty()) {
            write!(f, "\n### {module}\n\n| mutant | reason |\n|---|---|\n")?;
            for (mutant, reason) in survivors {
                let reason = if reason.is_empty() { NO_REASON } else { reason };
                writeln!(f, "| `{}` | {reason} |", escaped(mutant))?;
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, row: &Row) -> fmt::Result {
    let viable = row.viable();
    let score = per_mille(viable - row.missed, viable);
    let Row { commit, share, unviable, caught, timeout, missed } = row;
    writeln!(
        f,
        "| {name} | {commit} | {share} | {} | {unviable} | {viable} | {caught} | {timeout} | {missed} | {}.{} % |",
        viable + unviable,
        score / 10,
        score % 10,
    )
}

const HEAD: &str = "\
Written by `cargo xtask mutants`; `xtask/src/mutants.rs` says how. A mutant is the crate with one
operator, constant or function body changed. It is caught if a test fails or runs into its time limit,
and unviable if it does not compile; the score is the share of viable ones that were caught. Each row
belongs to its commit. A share `K/N` is every Nth mutant, counted from K; `round 1` says that only the
module's own tests were asked, so that another module's might catch more.

| module | commit | share | mutants | unviable | viable | caught | timed out | missed | score |
|---|---|---|---|---|---|---|---|---|---|
";

const SURVIVORS: &str = "
## Survivors

Each with the reason why no test can or need tell it from the crate itself. The reasons are written by
hand.
";

/// A mutant's name without line and column, which change with every edit:
/// `ring.rs:24:9: replace + with -` is `ring.rs: replace + with -`.
fn without_place(mutant: &str) -> String {
    match mutant.split_once(": ") {
        Some((place, what)) => {
            let file = place.split(':').next().unwrap_or_default();
            format!("{file}: {what}")
        }
        None => mutant.to_owned(),
    }
}

/// For a cell: a bar would end it.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

fn unescaped(text: &str) -> String {
    text.replace("\\|", "|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::{CORE, HOST};

    fn outcomes(list: &[(&str, Summary)]) -> Outcomes {
        list.iter().map(|(name, summary)| ((*name).to_owned(), *summary)).collect()
    }

    /// The committed reports are ones that this module would write.
    #[test]
    fn the_reports_are_well_formed() {
        for of in [&CORE, &HOST] {
            let text = std::fs::read_to_string(crate::shell::root().join(of.report)).unwrap();
            assert_eq!(Table::read(of, &text).to_string(), text, "{}", of.report);
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_keeps_its_reasons() {
        let mut table = Table::read(&CORE, "");
        let some = outcomes(&[
            ("core-nostd/src/ring.rs:1:2: replace | with ^ in a", Summary::MissedMutant),
            ("core-nostd/src/ring.rs:3:4: replace || with && in b", Summary::MissedMutant),
            ("core-nostd/src/ring.rs:5:6: replace + with -", Summary::CaughtMutant),
            ("core-nostd/src/ring.rs:7:8: replace + with *", Summary::Timeout),
            (
                "core-nostd/src/ring.rs:9:10: replace c -> T with Default::default()",
                Summary::Unviable,
            ),
        ]);
        table.put("ring", Row::new("abc (2026-11-21)", Some("0/3"), &some), &some);
        assert_eq!(table.score_per_mille(), 500);
        let text = table.to_string();
        assert!(
            text.contains("| ring | abc (2026-11-21) | 0/3 | 5 | 1 | 4 | 1 | 1 | 2 | 50.0 % |")
        );

        let edited = text.replacen(NO_REASON, "the bits are disjoint", 1);
        let mut read = Table::read(&CORE, &edited);
        assert_eq!(read.to_string(), edited);
        // The same mutant elsewhere in its file keeps its reason; a new one has none.
        let later = outcomes(&[
            ("core-nostd/src/ring.rs:8:8: replace | with ^ in a", Summary::MissedMutant),
            ("core-nostd/src/ring.rs:9:9: replace < with <= in d", Summary::MissedMutant),
        ]);
        read.put("ring", Row::new("def (2026-11-22)", None, &later), &later);
        let text = read.to_string();
        assert!(
            text.contains("| `ring.rs:8:8: replace \\| with ^ in a` | the bits are disjoint |")
        );
        assert!(text.contains(&format!("in d` | {NO_REASON} |")), "{text}");
        read.keep_rooms(&[]);
        assert_eq!(read.score_per_mille(), 1_000);
    }
}
