//! Reads a configuration file.

use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::platform::Surroundings;

use super::daemon;
use super::diagnostic::{Diagnostics, Place, Report, whole_file};
use super::dirs;
use super::graph;
use super::groups::Groups;
use super::model::{
    DAEMONS_MAX, FILE_BYTES_MAX, FleetConfig, METRICS_INTERVAL, SOCKET_PATH_BYTES_MAX,
};
use super::names::{NAME_FORM, is_name};
use super::open_files::open_files_needed;
use super::reader::Section;
use super::reading::Reading;

/// Range of `metrics_interval`: a shorter one would measure itself.
const SAMPLING: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);

/// What the flags say; it is stronger than the environment and the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--state-dir`: where this fleet's state lies.
    pub state_dir: Option<PathBuf>,
    /// `--log-dir`: where this fleet's logs lie.
    pub log_dir: Option<PathBuf>,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    path: &Path,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<FleetConfig, Diagnostics> {
    let source = read_text(path)?;
    parse(&source, path, overrides, surroundings)
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
        whole_file(path, None, format!("the configuration can't be read: {error}"), help)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        // What precedes the byte is valid, so line and column are exact.
        let valid = String::from_utf8_lossy(&error.as_bytes()[..at]);
        let place = Place::new(&valid, &(at..at));
        let message = format!("not UTF-8: byte 0x{byte:02x}");
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

/// At most [`FILE_BYTES_MAX`] bytes of a file; a longer one is an error.
pub(super) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Checks the text of a configuration file. Relative paths are relative to the directory of `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    source: &str,
    path: &Path,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<FleetConfig, Diagnostics> {
    let mut report = Report::new(Some(path), source);
    let (document, errors) = DeTable::parse_recoverable(source);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = match source.get(span.clone()) {
            Some(key) if error.message() == "duplicate key" => format!("duplicate key `{key}`"),
            _ => error.message().to_owned(),
        };
        report.add(&span, "", message, syntax_help(error.message()));
    }
    if !report.is_empty() {
        // What the parser made of a broken text would be reported as problems that are not there.
        return Err(report.into_diagnostics());
    }

    let file = dirs::absolute(path);
    let base = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut top = Section::new(String::new(), 0..0, document.get_ref());

    let fleet =
        top.take("fleet").and_then(|entry| entry.section(&mut report, "{ name = \"edge\" }"));
    if fleet.is_none() && report.is_empty() {
        report.add(&(0..0), "fleet", "this table is missing", "add:  [fleet]  name = \"edge\"");
    }
    let fleet = fleet.map(|section| read_fleet(section, &base, &mut report)).unwrap_or_default();

    let reading = Reading { base: &base, surroundings };
    let mut drafts = Vec::new();
    match top.take("daemon") {
        None => report.add(
            &(0..0),
            "daemon",
            "no daemon is configured",
            "add:  [[daemon]]  name = \"web\"  command = [\"webd\"]",
        ),
        Some(entry) if entry.value.is_table() => report.add(
            &entry.key_span,
            &entry.path,
            "one table, where a list of tables belongs",
            "write [[daemon]], with two brackets on each side",
        ),
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
                if let Some(section) = element.section(&mut report, "{ name = \"web\" }") {
                    drafts.push(daemon::read(section, &reading, &mut report));
                }
            }
        }
    }
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
    report.finish()?;

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
    Ok(FleetConfig {
        name,
        file: Some(file),
        state_dir,
        log_dir,
        runtime_dir,
        metrics_interval,
        groups: groups.configs,
        daemons,
    })
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
}

fn read_fleet(mut section: Section<'_>, base: &Path, report: &mut Report<'_>) -> Fleet {
    let mut fleet = Fleet::default();
    if let Some(entry) = section.take("name") {
        if let Some(name) = entry.string(report) {
            if !is_name(name) {
                entry.report(report, format!("`{name}` is not a name"), NAME_FORM);
            }
            name.clone_into(&mut fleet.name);
        }
    } else {
        report.add(&section.span, "fleet.name", "this key is missing", "add:  name = \"edge\"");
    }
    fleet.metrics_interval =
        section.take("metrics_interval").and_then(|entry| entry.duration(report, SAMPLING));
    let mut directory = |key| {
        let entry = section.take(key)?;
        let text = entry.string(report)?;
        if text.is_empty() {
            entry.report(report, "an empty path", "name a directory, or remove the key");
            return None;
        }
        Some(dirs::join(base, text))
    };
    fleet.state_dir = directory("state_dir");
    fleet.log_dir = directory("log_dir");
    section.finish(report);
    fleet
}

/// The way out of the mistakes in TOML that people make most.
fn syntax_help(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "remove one of the two"
    } else if message.contains("string") || message.contains("quote") {
        "texts stand in quotes: key = \"value\""
    } else {
        "one `key = value` a line, texts in quotes, tables as [name]; see https://toml.io"
    }
}
