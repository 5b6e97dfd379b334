//! Reads a configuration file.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::platform::Surroundings;
use crate::reach;
use crate::regular_file;

use super::compile;
use super::daemon;
use super::diagnostic::{Diagnostic, Diagnostics, Place, Report, whole_file};
use super::dirs;
use super::graph::{self, Draft};
use super::groups::Groups;
use super::model::{
    COMMIT_INTERVAL, DAEMONS_MAX, FleetConfig, Isolation, METRICS_INTERVAL, SOCKET_PATH_BYTES_MAX,
};
use super::names::{NAME_FORM, is_name};
use super::open_files::open_files_needed;
use super::reader::{Entry, Section};
use super::reading::{Reading, not_there, read_bounded};
use super::schema::Table;
use super::suggest::nearest;
use super::syntax::{self, Fault};
use super::word::words_too_long;
use super::written::Written;

/// Range of `metrics_interval`: a shorter one would measure itself.
const SAMPLING: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);

/// Range of `commit_interval`: what is sent outside waits so long.
const GATHERING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

/// What the flags say; it is stronger than the environment and the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--state-dir`: where this fleet's state lies.
    pub state_dir: Option<PathBuf>,
    /// `--log-dir`: where this fleet's logs lie.
    pub log_dir: Option<PathBuf>,
}

/// A valid configuration, and what there is to say of it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it says.
    pub fleet: FleetConfig,
    /// What is allowed and probably not meant, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// What is written in it, key by key.
    pub written: Written,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(
    path: &Path,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<Checked, Diagnostics> {
    let source = read_text(path)?;
    check_text(&source, path, overrides, surroundings)
}

/// As [`check`], for those who only want to know what it says.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    path: &Path,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<FleetConfig, Diagnostics> {
    check(path, overrides, surroundings).map(|checked| checked.fleet)
}

/// The text of a configuration file.
fn read_text(path: &Path) -> Result<String, Diagnostics> {
    let bytes = read_bounded(path).map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name the file: `duende up FILE`; examples/edge.toml is one to start from"
            }
            _ => "name a file that can be read",
        };
        let error = reach::said(&dirs::absolute(path), &error);
        whole_file(path, None, format!("the configuration can't be read: {error}"), help)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        // What precedes the byte is valid, so line and column are exact.
        let valid = String::from_utf8_lossy(&error.as_bytes()[..at]);
        let place = Place::new(&valid, &(at..at));
        let message = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16, not UTF-8".to_owned(),
            _ => format!("not UTF-8: byte 0x{byte:02x}"),
        };
        whole_file(path, Some(place), message, "save the file as UTF-8")
    })
}

/// The name of the fleet that a configuration file describes. The rest of the file is not looked at,
/// so a fleet can be asked and stopped while its file is being edited.
///
/// # Errors
/// When there is no such file, or no valid name in it.
pub fn fleet_name(path: &Path) -> Result<String, Diagnostics> {
    let source = read_text(path)?;
    let (document, _) = DeTable::parse_recoverable(&source);
    let name = document.get_ref().get("fleet").and_then(|fleet| {
        let name = fleet.get_ref().as_table()?.get("name")?.get_ref().as_str()?;
        is_name(name).then(|| name.to_owned())
    });
    name.ok_or_else(|| {
        whole_file(path, None, "no fleet.name in this file", "see what is wrong: duende check FILE")
    })
}

/// Checks the text of a configuration file. Relative paths are relative to the directory of `path`: of a
/// symbolic link, to its own, not to that of the file to which it leads.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    source: &str,
    path: &Path,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<FleetConfig, Diagnostics> {
    check_text(source, path, overrides, surroundings).map(|checked| checked.fleet)
}

fn check_text(
    source: &str,
    path: &Path,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<Checked, Diagnostics> {
    let mut report = Report::new(Some(path), source);
    let (document, errors) = DeTable::parse_recoverable(source);
    for Fault { span, message, help } in syntax::faults(source, &errors) {
        report.add(&span, "", message, help);
    }
    if !report.is_empty() {
        // What the parser made of a broken text would be reported as problems that are not there.
        return Err(report.into_diagnostics());
    }

    let file = dirs::absolute(path);
    let base = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut top = Section::new(Table::Top, String::new(), 0..0, document.get_ref());
    report.outline_mut().read_top(document.get_ref());

    let fleet = top
        .take("fleet")
        .and_then(|entry| entry.section(Table::Fleet, &mut report, "{ name = \"edge\" }"));
    // Who writes the keys of the fleet without its header is told so.
    let is_headless =
        document.get_ref().keys().any(|key| Table::Fleet.keys().contains(&key.get_ref().as_ref()));
    if fleet.is_none() && report.is_empty() && !is_headless {
        report.add(&(0..0), "fleet", "this table is missing", "add:  [fleet]  name = \"edge\"");
    }
    let compile = top
        .take("compile")
        .and_then(|entry| entry.section(Table::Compile, &mut report, "{ memory_bytes = \"1GiB\" }"))
        .map(|section| compile::read(section, &mut report))
        .unwrap_or_default();
    let reading = Reading { base: &base, surroundings };
    let fleet = fleet.map(|section| read_fleet(section, &reading, &mut report)).unwrap_or_default();

    let mut drafts = Vec::new();
    match top.take("daemon") {
        // A header that was mistyped is named below.
        None if document.get_ref().keys().any(|key| is_mistyped_daemon(key.get_ref())) => {}
        None => report.add(
            &(0..0),
            "daemon",
            "no daemon is configured",
            "add:  [[daemon]]  name = \"web\"  command = [\"webd\"]",
        ),
        Some(entry) if entry.value.is_table() => {
            let (message, help) = no_list(&entry, source);
            report.add(&entry.key_span, &entry.path, message, help);
        }
        Some(entry) => {
            let elements = entry.elements(&mut report, "[]").unwrap_or_default();
            if elements.len() > DAEMONS_MAX {
                entry.report(
                    &mut report,
                    format!("{} daemons", elements.len()),
                    format!("a fleet has at most {DAEMONS_MAX} daemons: make it several fleets"),
                );
            }
            for element in elements.iter().take(DAEMONS_MAX) {
                if let Some(section) =
                    element.section(Table::Daemon, &mut report, "{ name = \"web\" }")
                {
                    drafts.push(daemon::read(section, &reading, &mut report));
                }
            }
        }
    }
    check_words(&drafts, surroundings, &mut report);
    let groups = top.take("group").map(|entry| Groups::read(&entry, &mut report));
    let groups = groups.unwrap_or_default();
    top.finish(&mut report);
    let daemons = graph::resolve(drafts, &groups, source, &mut report);

    let name = fleet.name;
    let runtime_dir = dirs::runtime_dir(surroundings);
    if let Err(message) = check_socket_path(&runtime_dir, &name) {
        report.add(&(0..0), "fleet.name", message, "set DUENDE_RUNTIME_DIR to a shorter path");
    }
    let needed = open_files_needed(&daemons);
    if let Some(limit) = surroundings.open_files_max.filter(|limit| *limit < needed) {
        let message =
            format!("its daemons need {needed} open files, and this session may have {limit}");
        let help =
            "raise the hard limit (ulimit -Hn; LimitNOFILE= of a unit), or make it several fleets";
        report.add(&(0..0), "fleet", message, help);
    }
    let warnings = report.finish()?;
    let written = Written::of(document.get_ref(), source);

    let environment = |variable: &str| surroundings.var(variable).is_some();
    let state_dir = match (&overrides.state_dir, fleet.state_dir) {
        (Some(flag), _) => dirs::absolute(flag),
        (None, Some(file)) if !environment("DUENDE_STATE_DIR") => file,
        (None, _) => dirs::state_dir(surroundings, &name),
    };
    let log_dir = match (&overrides.log_dir, fleet.log_dir) {
        (Some(flag), _) => dirs::absolute(flag),
        (None, Some(file)) if !environment("DUENDE_LOG_DIR") => file,
        (None, _) => dirs::log_dir(surroundings, &name, &state_dir),
    };
    let metrics_interval = fleet.metrics_interval.unwrap_or(METRICS_INTERVAL);
    let commit_interval = fleet.commit_interval.unwrap_or(COMMIT_INTERVAL);
    let fleet = FleetConfig {
        name,
        file: Some(file),
        state_dir,
        log_dir,
        runtime_dir,
        cache_dir: dirs::cache_dir(surroundings),
        compile,
        metrics_interval,
        commit_interval,
        groups: groups.configs,
        daemons,
    };
    Ok(Checked { fleet, warnings, written })
}

/// Whether a key at the top was meant to be `daemon`.
fn is_mistyped_daemon(key: &str) -> bool {
    key != "daemon" && nearest(key, Table::Top.keys().iter().copied()) == Some("daemon")
}

/// What to say of `daemon` if it is one table: it has a single bracket, or only tables within one that has
/// not begun.
fn no_list(entry: &Entry<'_>, source: &str) -> (String, &'static str) {
    let rest = source.get(entry.key_span.end..).unwrap_or_default();
    if rest.trim_start().starts_with('.') {
        let message = "a table of a daemon, and no [[daemon]] stands above it".to_owned();
        return (
            message,
            "write [[daemon]], with two brackets on each side, and its name above it",
        );
    }
    let message = "one table, where a list of tables belongs".to_owned();
    (message, "write [[daemon]], with two brackets on each side")
}

/// Whether each program can be given its command line and its environment.
fn check_words(drafts: &[Draft], surroundings: &Surroundings, report: &mut Report<'_>) {
    for draft in drafts {
        let Isolation::Native(native) = &draft.config.isolation else { continue };
        if let Some(message) = words_too_long(native, surroundings.vars.clone()) {
            let help = "put what is large into a file, and name the file; what duende itself was started with \
                        counts, too";
            report.add(&draft.name_span, &format!("daemon.{}", draft.config.name), message, help);
        }
    }
}

/// Whether the control socket's path is one that the system can bind.
pub(super) fn check_socket_path(runtime_dir: &Path, fleet: &str) -> Result<(), String> {
    let path = dirs::socket_path(runtime_dir, fleet);
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let path = path.display();
        return Err(format!(
            "the control socket {path} has {bytes} bytes; the system allows {SOCKET_PATH_BYTES_MAX}"
        ));
    }
    Ok(())
}

#[derive(Default)]
struct Fleet {
    name: String,
    state_dir: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    metrics_interval: Option<Duration>,
    commit_interval: Option<Duration>,
}

fn read_fleet(mut section: Section<'_>, reading: &Reading<'_>, report: &mut Report<'_>) -> Fleet {
    let mut fleet = Fleet::default();
    if let Some(entry) = section.take("name") {
        if let Some(name) = entry.string(report) {
            if !is_name(name) {
                entry.report(report, format!("`{name}` is not a name"), NAME_FORM);
            }
            name.clone_into(&mut fleet.name);
        }
    } else {
        section.miss(report, "name", "this key is missing", "add:  name = \"edge\"");
    }
    fleet.metrics_interval =
        section.take("metrics_interval").and_then(|entry| entry.duration(report, SAMPLING));
    fleet.commit_interval =
        section.take("commit_interval").and_then(|entry| entry.duration(report, GATHERING));
    let mut directory = |key| {
        let entry = section.take(key)?;
        let path = reading.path(&entry, report)?;
        const HELP: &str = "name a directory, or remove the key";
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(found) => {
                let what = regular_file::what(found.file_type());
                let message = format!("{} is {what}, not a directory", path.display());
                entry.report(report, message, HELP);
            }
            // It is made, with those above it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Whoever starts the fleet may be another user, or find another disk there.
            Err(error) => report.warn(&entry.span, &entry.path, not_there(&path, &error), HELP),
        }
        Some(path)
    };
    fleet.state_dir = directory("state_dir");
    fleet.log_dir = directory("log_dir");
    section.finish(report);
    fleet
}
