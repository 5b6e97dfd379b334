//! The configuration of a fleet, as text. Anything that is not UTF-8 is refused before.
//!
//! Of the machine only its files are looked at, never written. The text stands in a directory that
//! does not exist, in an empty environment: what it names by an absolute path may be there.
//!
//! What is promised:
//! 1. A refusal has at least one problem and at most [`DIAGNOSTICS_MAX`]; each names a line and a
//!    column that exist and a value that stands there, in the order of the file, and nothing in its
//!    text drives a terminal.
//! 2. What is accepted is what [`FleetConfig`] says: names are names and are unique, dependencies come
//!    first and have no cycle, everything is within its bounds.
//! 3. The same text gives the same again; and so does an accepted text that is printed from its parsed
//!    form, whatever notation it had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use duende::config::{
    DAEMONS_MAX, DIAGNOSTICS_MAX, DaemonConfig, Diagnostic, Diagnostics, FleetConfig, Isolation,
    NAME_BYTES_MAX, Overrides, parse,
};
use duende::platform::Surroundings;
use duende_core::supervise::DEPENDENCIES_MAX;
use duende_core::wire::link::CHANNELS_MAX;

/// Checks one input.
pub fn check(input: &[u8]) {
    let Ok(source) = str::from_utf8(input) else { return };
    let result = read(source);
    assert_eq!(read(source), result, "another result of the same text");
    match result {
        Ok(fleet) => {
            check_fleet(&fleet);
            check_printed(source, &fleet);
        }
        Err(diagnostics) => check_diagnostics(source, &diagnostics),
    }
}

fn read(source: &str) -> Result<FleetConfig, Diagnostics> {
    let nowhere = "/nonexistent/duende";
    let surroundings = Surroundings {
        vars: BTreeMap::new(),
        uid: 1_000,
        open_files_max: None,
        root: Path::new(nowhere).to_owned(),
    };
    parse(source, &Path::new(nowhere).join("fleet.toml"), &Overrides::default(), &surroundings)
}

fn check_diagnostics(source: &str, diagnostics: &Diagnostics) {
    let Diagnostics { problems, more } = diagnostics;
    assert!((1..=DIAGNOSTICS_MAX).contains(&problems.len()), "{} problems", problems.len());
    assert!(*more == 0 || problems.len() == DIAGNOSTICS_MAX, "{more} more than too few");
    let lines: Vec<&str> = source.split('\n').collect();
    let mut previous = (0, 0);
    for problem in problems {
        let place = check_problem(&lines, problem);
        assert!(previous <= place, "{place:?} after {previous:?}");
        previous = place;
    }
    let text = diagnostics.to_string();
    let drives = |character: char| character.is_control() && character != '\n';
    assert!(!text.contains(drives), "would drive a terminal: {text:?}");
}

/// Line and column of a problem, which exist.
fn check_problem(lines: &[&str], problem: &Diagnostic) -> (usize, usize) {
    assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem:?}");
    let Some(place) = &problem.place else { panic!("no place: {problem:?}") };
    let Some(line) = place.line.checked_sub(1).and_then(|index| lines.get(index)) else {
        panic!("no line {}: {problem:?}", place.line);
    };
    // A place may be the end of its line.
    let columns = line.chars().count() + 1;
    assert!((1..=columns).contains(&place.column), "no column {}: {problem:?}", place.column);
    assert!(place.excerpt.chars().count() <= line.chars().count(), "{problem:?}");
    if let Some(value) = &problem.value {
        // It may go on over several lines.
        let first = value.split('\n').next().unwrap_or_default();
        let there: String = line.chars().skip(place.column - 1).collect();
        assert!(there.starts_with(first), "{problem:?}");
    }
    (place.line, place.column)
}

fn check_fleet(fleet: &FleetConfig) {
    assert!(is_name(&fleet.name), "{fleet:?}");
    let paths = [&fleet.state_dir, &fleet.log_dir, &fleet.runtime_dir];
    assert!(paths.into_iter().all(|path| path.is_absolute()), "{fleet:?}");
    let daemons = &fleet.daemons;
    assert!((1..=DAEMONS_MAX).contains(&daemons.len()));
    let names: BTreeSet<_> = daemons.iter().map(|daemon| &daemon.name).collect();
    assert_eq!(names.len(), daemons.len(), "{names:?}");
    for daemon in daemons {
        check_daemon(daemon, daemons.len());
    }
    let order = fleet.dependencies_first();
    let mut placed = vec![false; daemons.len()];
    for index in order {
        assert!(daemons[index].depends_on.iter().all(|&dependency| placed[dependency]));
        placed[index] = true;
    }
    assert!(placed.into_iter().all(|placed| placed), "a cycle: {fleet:?}");
}

fn check_daemon(daemon: &DaemonConfig, daemons: usize) {
    assert!(is_name(&daemon.name), "{daemon:?}");
    let depends_on = &daemon.depends_on;
    assert!(depends_on.len() <= DEPENDENCIES_MAX && depends_on.is_sorted(), "{daemon:?}");
    assert!(depends_on.iter().all(|&index| index < daemons), "{daemon:?}");
    let channels = &daemon.channels;
    assert!(channels.len() <= CHANNELS_MAX, "{daemon:?}");
    assert!(channels.is_sorted_by(|one, next| one.name < next.name), "{daemon:?}");
    assert!(channels.iter().all(|channel| is_name(&channel.name)), "{daemon:?}");
    match &daemon.isolation {
        Isolation::Wos(wos) => {
            assert!(wos.priority <= 7 && wos.image.is_absolute(), "{daemon:?}");
            assert!(!wos.slice_budget.is_zero() && wos.memory_bytes_max > 0, "{daemon:?}");
        }
        Isolation::Native(native) => {
            let paths = [&native.program, &native.working_dir];
            assert!(paths.into_iter().all(|path| path.is_absolute()), "{daemon:?}");
            let mut texts = native.args.iter().chain(native.env.keys()).chain(native.env.values());
            assert!(!texts.any(|text| text.contains('\0')), "{daemon:?}");
        }
    }
    let backoff = &daemon.restart.backoff;
    assert!(backoff.ceiling(0) <= backoff.ceiling(u32::MAX), "{daemon:?}");
    assert_eq!(daemon.health.check(), Ok(()), "{daemon:?}");
}

/// The text of a name, as the documentation has it.
fn is_name(text: &str) -> bool {
    let initial = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.starts_with(initial)
        && text.chars().all(|c| initial(c) || matches!(c, '.' | '_' | '-'))
}

/// Prints the parsed text and reads it again.
fn check_printed(source: &str, fleet: &FleetConfig) {
    // Integers beyond 64 bits are none of this printer's.
    let Ok(table) = source.parse::<toml::Table>() else { return };
    let Ok(printed) = toml::to_string(&table) else { return };
    let again = read(&printed);
    assert!(again.as_ref() == Ok(fleet), "{printed}\n{again:?}\n{fleet:?}");
}
