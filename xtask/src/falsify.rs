//! `cargo xtask falsify [CATEGORY | CLAIM …]`: the specification's claims, tried against the real
//! program.
//!
//! Each claim has one test named after it, `f014_…` in `tests/tests/claims.rs`, `claims_edges.rs`,
//! `claims_core.rs` or `claims_timed.rs`, at the claim's own criterion. This verb runs them one at a time, so that none disturbs another's
//! figures, and prints one row for each: pass, rule only, fail, or not run and why. What a test measured
//! it prints itself, as `F001: MEASURED | CRITERION`. A claim without a test is **not run**, and no pass.
//! Nor is one whose test is in `claims_core.rs`: it holds on the core's machine by itself, and whether it
//! does through the running program was not tried. That is **rule only**.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

use crate::shell::{self, Error, say};
use crate::{guests, test};

/// The specification's categories: a letter, what it is about, and its claims.
const CATEGORIES: [(&str, &str, RangeInclusive<u16>); 5] = [
    ("A", "lifecycle", 1..=20),
    ("B", "resources", 21..=40),
    ("C", "observability", 41..=60),
    ("D", "policy", 61..=80),
    ("E", "platforms", 81..=110),
];

/// Claims that no test can try on Linux, or on a machine without the device.
const ELSEWHERE: [(u16, &str); 7] = [
    (2, "macOS only"),
    (39, "needs a GPU"),
    (57, "needs a GPU"),
    (83, "macOS only"),
    (84, "macOS only"),
    (96, "macOS only"),
    (99, "macOS only"),
];
const NO_TEST: &str = "no test in this version";

/// The tests that try a claim on a machine of the core.
const CORE_TESTS: &str = include_str!("../../tests/tests/claims_core.rs");

/// How a claim fared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tried {
    /// Whether its test passed; none while it runs, or if it died.
    passed: Option<bool>,
    /// What was measured, and the criterion.
    figures: Vec<(String, String)>,
}

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let claims = selected(arguments)?;
    guests::build()?;
    let cargo = || {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(shell::root());
        cargo
    };
    // The programs that the tests start.
    shell::run(cargo().args(["build", "--quiet"]).args(test::EVERYTHING))?;
    let mut tests = cargo();
    tests.args(["test", "--quiet"]).args(test::EVERYTHING).args([
        "--test",
        "claims",
        "--test",
        "claims_edges",
        "--test",
        "claims_core",
        "--test",
        "claims_timed",
        "--no-fail-fast",
        "--",
    ]);
    tests.args(["--test-threads=1", "--nocapture", "--format=pretty"]);
    tests.args(claims.iter().map(|claim| format!("f{claim:03}_")));

    let mut child = tests
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| shell::start_error(&tests, source))?;
    let rule_only = claims_of(CORE_TESTS);
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(claim) = tally.line(&line) {
                say(&format!(
                    "F{claim:03}: {}",
                    verdict(claim, tally.tried.get(&claim), &rule_only)
                ));
            }
        }
    }
    let status = child.wait().map_err(|source| shell::start_error(&tests, source))?;
    print!("{}", table(&claims, &tally.tried, &rule_only));
    let failed = tally.tried.values().any(|tried| tried.passed != Some(true));
    if status.success() && !failed { Ok(()) } else { Err(Error::Reported) }
}

/// The claims that the arguments name; all, if there are none.
fn selected(arguments: &[String]) -> Result<Vec<u16>, Error> {
    let mut claims = Vec::new();
    for argument in arguments {
        let wanted = argument.to_uppercase();
        let category = CATEGORIES
            .iter()
            .find(|(letter, about, _)| wanted == *letter || argument.to_lowercase() == *about);
        let number = wanted.strip_prefix('F').and_then(|number| number.parse::<u16>().ok());
        match (category, number) {
            (Some((_, _, range)), _) => claims.extend(range.clone()),
            (None, Some(number)) if CATEGORIES.iter().any(|(_, _, all)| all.contains(&number)) => {
                claims.push(number);
            }
            _ => {
                let names: Vec<_> = CATEGORIES
                    .iter()
                    .map(|(letter, about, _)| format!("{letter} ({about})"))
                    .collect();
                let text = format!(
                    "`{argument}` is neither a claim, F001 to F110, nor a category: {}",
                    names.join(", ")
                );
                return Err(Error::Usage(text));
            }
        }
    }
    if claims.is_empty() {
        claims.extend(CATEGORIES.into_iter().flat_map(|(_, _, range)| range));
    }
    claims.sort_unstable();
    claims.dedup();
    Ok(claims)
}

/// Reads what the tests print.
#[derive(Debug, Default)]
struct Tally {
    tried: BTreeMap<u16, Tried>,
    /// Whose test runs.
    current: Option<u16>,
}

impl Tally {
    /// Takes a line; returns the claim whose verdict it is.
    fn line(&mut self, line: &str) -> Option<u16> {
        if let Some(rest) = line.strip_prefix("test f")
            && let Some(claim) = rest.get(..3).and_then(|number| number.parse().ok())
        {
            self.current = Some(claim);
            self.tried.entry(claim).or_default();
        }
        let claim = self.current?;
        let tried = self.tried.get_mut(&claim)?;
        let figure =
            line.strip_prefix(&format!("F{claim:03}: ")).and_then(|text| text.split_once(" | "));
        if let Some((measured, criterion)) = figure {
            tried.figures.push((measured.to_owned(), criterion.to_owned()));
        }
        // The verdict ends the line of the test, or stands alone if the test printed something.
        let passed = match line.rsplit(' ').next() {
            Some("ok") if line == "ok" || line.starts_with("test ") => true,
            Some("FAILED") if line == "FAILED" || line.starts_with("test ") => false,
            _ => return None,
        };
        tried.passed = Some(passed);
        self.current = None;
        Some(claim)
    }
}

/// The claims that the tests of a file are named after.
fn claims_of(tests: &str) -> BTreeSet<u16> {
    let names = tests.lines().filter_map(|line| line.strip_prefix("fn f"));
    names.filter_map(|name| name.get(..3)?.parse().ok()).collect()
}

fn verdict(claim: u16, tried: Option<&Tried>, rule_only: &BTreeSet<u16>) -> &'static str {
    match tried.map(|tried| tried.passed) {
        Some(Some(true)) if rule_only.contains(&claim) => "rule only",
        Some(Some(true)) => "pass",
        Some(Some(false) | None) => "FAIL",
        None => "not run",
    }
}

/// One row for each figure of each claim; claims in a row that were not run for the same reason
/// share one.
fn table(claims: &[u16], tried: &BTreeMap<u16, Tried>, rule_only: &BTreeSet<u16>) -> String {
    let mut rows = vec![["CLAIM", "VERDICT", "MEASURED", "CRITERION"].map(str::to_owned)];
    let mut not_run: Option<(u16, u16, &str)> = None;
    let close = |not_run: &mut Option<(u16, u16, &str)>, rows: &mut Vec<[String; 4]>| {
        if let Some((first, last, why)) = not_run.take() {
            let name = if first == last {
                format!("F{first:03}")
            } else {
                format!("F{first:03}-F{last:03}")
            };
            rows.push([name, format!("not run: {why}"), String::new(), String::new()]);
        }
    };
    for &claim in claims {
        let Some(result) = tried.get(&claim) else {
            let why =
                ELSEWHERE.iter().find(|(other, _)| *other == claim).map_or(NO_TEST, |(_, why)| why);
            match &mut not_run {
                Some((_, last, same)) if *last + 1 == claim && *same == why => *last = claim,
                _ => {
                    close(&mut not_run, &mut rows);
                    not_run = Some((claim, claim, why));
                }
            }
            continue;
        };
        close(&mut not_run, &mut rows);
        let mut head = (format!("F{claim:03}"), verdict(claim, Some(result), rule_only).to_owned());
        let none = [(String::new(), String::new())];
        let figures = if result.figures.is_empty() { &none[..] } else { &result.figures };
        for (measured, criterion) in figures {
            let (name, verdict) = std::mem::take(&mut head);
            rows.push([name, verdict, measured.clone(), criterion.clone()]);
        }
    }
    close(&mut not_run, &mut rows);
    render(&rows)
}

fn render(rows: &[[String; 4]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]);
        // What was not run has no figures: its reason may run into their columns.
        cells
            .filter(|cell| !cell.starts_with("not run"))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second, third) = (width(0), width(1), width(2));
    rows.iter()
        .map(|[claim, verdict, measured, criterion]| {
            let line = format!("{claim:first$}  {verdict:second$}  {measured:third$}  {criterion}");
            format!("{}\n", line.trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_selected_by_number_and_category() {
        let check = |arguments: &[&str], expected: Option<(usize, u16, u16)>| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let found = selected(&arguments)
                .ok()
                .map(|claims| (claims.len(), claims[0], claims[claims.len() - 1]));
            assert_eq!(found, expected, "{arguments:?}");
        };
        check(&[], Some((110, 1, 110)));
        check(&["A"], Some((20, 1, 20)));
        check(&["lifecycle", "f095"], Some((21, 1, 95)));
        check(&["F007", "F007"], Some((1, 7, 7)));
        check(&["F111"], None);
        check(&["F000"], None);
        check(&["Z"], None);
    }

    #[test]
    fn what_only_the_core_is_tried_for_is_known_from_its_tests() {
        let core = claims_of(CORE_TESTS);
        assert!(core.contains(&65) && core.contains(&50), "{core:?}");
        let programs = claims_of(include_str!("../../tests/tests/claims.rs"));
        let timed = claims_of(include_str!("../../tests/tests/claims_timed.rs"));
        assert!(!programs.is_empty() && core.is_disjoint(&programs) && core.is_disjoint(&timed));
    }

    #[test]
    fn what_tests_print_becomes_a_table() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test f001_starts_within_100_ms ... ",
            "F001: start, native: p99 8 ms | p99 < 100ms",
            "F001: start, WOS: p99 4 ms | p99 < 100ms",
            "ok",
            "test f006_graceful ... FAILED",
            "test f065_breaker ... ok",
            "test f007_kill ... ",
            "test result: FAILED. 1 passed",
        ] {
            tally.line(line);
        }
        let text = table(&[1, 2, 3, 4, 6, 7, 8, 65], &tally.tried, &[65].into());
        let expected = "\
CLAIM      VERDICT  MEASURED                   CRITERION
F001       pass     start, native: p99 8 ms    p99 < 100ms
                    start, WOS: p99 4 ms       p99 < 100ms
F002       not run: macOS only
F003-F004  not run: no test in this version
F006       FAIL
F007       FAIL
F008       not run: no test in this version
F065       rule only
";
        // The figures' column is as wide as its widest cell.
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&text), squeeze(expected));
        assert_eq!(text.lines().count(), expected.lines().count());
    }
}
