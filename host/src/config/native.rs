//! Reads what is particular to a native program.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use crate::platform::{Surroundings, is_executable};
use crate::reach;

use super::diagnostic::Report;
use super::dirs;
use super::env_file::{self, is_variable};
use super::limits::read_native_limits;
use super::misplaced::{self, Misplaced};
use super::model::{NativeConfig, NotifyAccess, Ready, StopScope, UserConfig};
use super::names;
use super::pid_file;
use super::reader::{Entry, Section};
use super::reading::{Reading, not_there, way_out};
use super::schema::Table;
use super::signals::{self, SIGTERM};
use super::suggest::did_you_mean;
use super::unexpanded;
use super::word::{argument_too_long, variable_too_long};

/// What only a component has.
pub(super) const COMPONENT_KEYS: [&str; 2] = ["priority", "slice_budget"];

/// The way out for a word that no program can be given.
const TOO_LONG: &str = "put it into a file, and name the file";

/// Reads the keys of a native program. `program` is the entry `command` or `binary_path`.
pub(super) fn read(
    section: &mut Section<'_>,
    program: Option<Entry<'_>>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> NativeConfig {
    for key in COMPONENT_KEYS {
        let why = "only WOS schedules slices";
        section.refuse(report, key, why, "remove the key, or run a component on WOS");
    }
    let args_entry = section.take("args");
    let (program, mut args) =
        program.map(|entry| read_program(&entry, reading, report)).unwrap_or_default();
    if let Some(entry) = args_entry {
        if args.is_empty() {
            let texts = entry.strings(report, "[\"--root\", \"public\"]").unwrap_or_default();
            check_arguments(&entry, &texts, report);
            args = texts.into_iter().map(str::to_owned).collect();
        } else {
            let why = "`command` has arguments already";
            report.add(&entry.key_span, &entry.path, why, "put them all into `command`");
        }
    }

    let link = section.take("link").and_then(|entry| entry.boolean(report)).unwrap_or(false);
    let (link, open_files_max) = read_native_limits(section, link, report);
    // A linked program says when it is ready; of another one only the start is known.
    let default_ready = if link.is_some() { Ready::Notify } else { Ready::Started };
    let ready = section.take("ready").and_then(|entry| read_ready(&entry, report));

    let env_file =
        section.take("env_file").and_then(|entry| read_env_file(&entry, reading, report));
    let daemon = section.table();
    let env = section.take("env").map(|entry| read_env(&entry, daemon, report)).unwrap_or_default();
    let stop_signal = section.take("stop_signal").and_then(|entry| read_signal(&entry, report));
    let stop_scope = section.take("stop_scope").and_then(|entry| {
        entry.word(report, &[("group", StopScope::Group), ("process", StopScope::Process)])
    });
    let notify_access = section.take("notify_access").and_then(|entry| {
        let words = [
            ("main", NotifyAccess::Main),
            ("exec", NotifyAccess::Exec),
            ("all", NotifyAccess::All),
            ("none", NotifyAccess::None),
        ];
        let access = entry.word(report, &words);
        if access == Some(NotifyAccess::None) && link.is_none() && ready == Some(Ready::Notify) {
            let message = "with ready = \"notify\" it could never be ready";
            entry.report(
                report,
                message,
                "remove one of them, or name whose word counts: \"main\"",
            );
        }
        access
    });
    let pid_file =
        section.take("pid_file").and_then(|entry| pid_file::read(&entry, reading, report));
    let working_dir =
        section.take("working_dir").and_then(|entry| reading.existing_dir(&entry, report));
    let user = section.take("user");
    let group = section.take("group");
    let user = read_user(user.as_ref(), group.as_ref(), reading.surroundings, report);

    NativeConfig {
        program,
        args,
        env,
        env_file,
        working_dir: working_dir.unwrap_or_else(|| reading.base.to_owned()),
        user,
        ready: ready.unwrap_or(default_ready),
        link,
        open_files_max,
        stop_signal: stop_signal.unwrap_or(SIGTERM),
        stop_scope: stop_scope.unwrap_or_default(),
        notify_access,
        pid_file,
    }
}

/// A signal that asks a program to end, by its name with or without `SIG`.
fn read_signal(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<i32> {
    if entry.value.is_integer() {
        let message = "signals have names here: their numbers differ between machines";
        entry.report(report, message, "write for example \"SIGINT\"");
        return None;
    }
    let text = entry.string(report)?;
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    let Some(number) = signals::number(&name) else {
        let help =
            did_you_mean(&name, signals::names(), || "write for example \"SIGINT\"".to_owned());
        entry.report(report, format!("no signal `{text}`"), help);
        return None;
    };
    if matches!(name.as_str(), "SIGKILL" | "SIGSTOP" | "SIGCONT") {
        let message = format!("{name} asks no program to end");
        let help =
            "use \"SIGTERM\" or another signal that it catches; stop_grace = \"0s\" kills at once";
        entry.report(report, message, help);
        return None;
    }
    Some(number)
}

/// A program and its arguments: an array, or a text that is the program alone. It is not split at
/// spaces: what a shell would do there is nothing to guess at.
fn read_program(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> (PathBuf, Vec<String>) {
    let words = if entry.value.is_str() {
        entry.string(report).map(|text| vec![text])
    } else {
        entry.strings(report, "[\"webd\", \"--root\", \"public\"]")
    };
    let Some(words) = words else {
        return Default::default();
    };
    let Some((name, args)) = words.split_first().filter(|(name, _)| !name.is_empty()) else {
        entry.report(report, "no program", "write the program as the first element");
        return Default::default();
    };

    check_arguments(entry, args, report);
    if name.contains('/')
        && let Some((message, help)) = unexpanded::in_path(name, reading.base, reading.surroundings)
    {
        entry.report(report, message, help);
        return Default::default();
    }

    let path = if name.contains('/') {
        Some(dirs::join(reading.base, name))
    } else {
        reading.surroundings.find_program(name)
    };
    match path {
        Some(path) if is_executable(&path) && reach::is_noexec(&path) => {
            let message =
                format!("{} lies on a file system that is mounted noexec", path.display());
            entry.report(report, message, "move it, or mount that with exec");
        }
        Some(path) if is_executable(&path) => {
            return (path, args.iter().map(|&arg| arg.to_owned()).collect());
        }
        Some(path) => match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                let message = format!("{} is a directory", path.display());
                entry.report(report, message, "name a program in it");
            }
            Ok(_) => {
                let help = format!("name a program; if it is one: chmod +x {}", path.display());
                entry.report(report, format!("{} can't be executed", path.display()), help);
            }
            Err(error) => {
                let help = "build or install it; a path with a slash is relative to the directory of \
                            the configuration file";
                entry.report(report, not_there(&path, &error), way_out(&error, help));
            }
        },
        None if let Some((path, error)) = reading.surroundings.barred_program(name) => {
            let message = format!("no program `{name}` in PATH: {}", not_there(&path, &error));
            entry.report(report, message, reach::HELP);
        }
        None if name.contains(' ') => {
            let words: Vec<String> =
                name.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            let help = format!("write program and arguments apart: [{}]", words.join(", "));
            entry.report(report, format!("no program `{name}` in PATH"), help);
        }
        None => {
            let help = format!("install it, or write a path with a slash: \"./{name}\"");
            entry.report(report, format!("no program `{name}` in PATH"), help);
        }
    }
    Default::default()
}

/// What is too long is said of the whole key: its value may be what is too long to be shown.
fn check_arguments(entry: &Entry<'_>, args: &[&str], report: &mut Report<'_>) {
    if let Some(message) = args.iter().find_map(|arg| argument_too_long(arg)) {
        report.add(&entry.key_span, &entry.path, message, TOO_LONG);
    }
    let Some(array) = entry.value.as_array() else { return };
    // What follows `-c` is for a shell, which expands it.
    let shells = std::iter::once(false).chain(args.iter().map(|arg| *arg == "-c"));
    let program = array.len().saturating_sub(args.len());
    for ((arg, element), is_script) in args.iter().zip(array.iter().skip(program)).zip(shells) {
        if !is_script {
            warn_of_unexpanded(&element.span(), &entry.path, arg, report);
        }
    }
}

fn read_ready(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Ready> {
    if let Some(probe) = entry.value.as_table() {
        let names: Vec<&str> = probe.keys().map(|key| key.get_ref().as_ref()).collect();
        let message = format!("readiness by `{}` is not in this version", names.join(", "));
        entry.report(report, message, "use \"notify\" (sd_notify) or \"started\"");
        return None;
    }
    entry.word(report, &[("started", Ready::Started), ("notify", Ready::Notify)])
}

fn read_env(
    entry: &Entry<'_>,
    daemon: &DeTable<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(section) = entry.section(Table::Env, report, "{ RUST_LOG = \"info\" }") else {
        return env;
    };
    for (name, entry) in section.entries() {
        let problem =
            misplaced::ambiguous(name, &entry, Table::Env, daemon, &COMPONENT_KEYS, report);
        if let Some(Misplaced { message, help }) = problem {
            report.add(&entry.key_span, &entry.path, message, help);
            continue;
        }
        if let Some(Misplaced { message, help }) = section.misplaced(name, &entry, report)
            && entry.value.as_str().is_none()
        {
            report.add(&entry.key_span, &entry.path, message, help);
            continue;
        }
        if !is_variable(name) {
            let message = format!("`{name}` can't be the name of a variable");
            let help = "use letters, digits and `_`, and no digit first";
            report.add(&entry.key_span, &entry.path, message, help);
        } else if let Some(value) = entry.string(report) {
            if let Some(message) = variable_too_long(name, value) {
                report.add(&entry.key_span, &entry.path, message, TOO_LONG);
                continue;
            }
            warn_of_unexpanded(&entry.span, &entry.path, value, report);
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    env
}

/// Warns of what a shell would expand: the program gets it as it stands.
fn warn_of_unexpanded(span: &Range<usize>, key: &str, word: &str, report: &mut Report<'_>) {
    if let Some(found) = unexpanded::in_word(word) {
        let message = format!("`{found}` is not expanded here: the program gets it as it stands");
        report.warn(span, key, message, "write the whole path");
    }
}

/// A file of variables, each line of which is one now.
fn read_env_file(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let path = reading.existing_file(entry, report)?;
    if let Err(error) = env_file::read(&path) {
        entry.report(report, error.message(), error.help);
    }
    Some(path)
}

fn read_user(
    user: Option<&Entry<'_>>,
    group: Option<&Entry<'_>>,
    surroundings: &Surroundings,
    report: &mut Report<'_>,
) -> Option<Box<UserConfig>> {
    let mut found = None;
    if let Some(entry) = user {
        let name = entry.string(report)?;
        found = names::user(surroundings, name);
        if found.is_none() {
            let help = format!("create the user, for example: useradd --system {name}");
            entry.report(report, format!("no user `{name}` on this machine"), help);
            return None;
        }
    }
    let Some(entry) = group else {
        let found = found?;
        require_root(user?, found.uid, surroundings, report);
        return Some(found);
    };
    let name = entry.string(report)?;
    let Some(gid) = names::group(surroundings, name) else {
        let help = format!("create the group, for example: groupadd --system {name}");
        entry.report(report, format!("no group `{name}` on this machine"), help);
        return None;
    };
    let Some(mut found) = found else {
        report.add(&entry.key_span, &entry.path, "a group without a user", "add:  user = \"…\"");
        return None;
    };
    require_root(entry, found.uid, surroundings, report);
    found.gid = gid;
    Some(found)
}

/// Only root can run a program as somebody else.
fn require_root(entry: &Entry<'_>, uid: u32, surroundings: &Surroundings, report: &mut Report<'_>) {
    if surroundings.uid != 0 && surroundings.uid != uid {
        let message = "only root can run a program as another user";
        entry.report(report, message, "run duende as root, or remove user and group");
    }
}
