//! Reads what is particular to a native program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::platform::{Surroundings, is_executable};

use super::diagnostic::Report;
use super::dirs;
use super::fleet::read_bounded;
use super::limits::read_native_limits;
use super::model::{NativeConfig, Ready, UserIds};
use super::names;
use super::reader::{Entry, Section};
use super::reading::Reading;

/// Reads the keys of a native program. `program` is the entry `command` or `binary_path`.
pub(super) fn read(
    section: &mut Section<'_>,
    program: Option<Entry<'_>>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> NativeConfig {
    for key in ["priority", "slice_budget"] {
        let why = "only WOS schedules slices";
        section.refuse(report, key, why, "remove the key, or run a component on WOS");
    }
    let args_entry = section.take("args");
    let (program, mut args) =
        program.map(|entry| read_program(&entry, reading, report)).unwrap_or_default();
    if let Some(entry) = args_entry {
        if args.is_empty() {
            let texts = entry.strings(report, "[\"--root\", \"public\"]").unwrap_or_default();
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

    let env_file = section.take("env_file").map(|entry| read_env_file(&entry, reading, report));
    let mut env = env_file.unwrap_or_default();
    if let Some(entry) = section.take("env") {
        env.extend(read_env(&entry, report));
    }
    let working_dir =
        section.take("working_dir").and_then(|entry| reading.existing_dir(&entry, report));
    let user = section.take("user");
    let group = section.take("group");
    let user = read_user(user.as_ref(), group.as_ref(), reading.surroundings, report);

    NativeConfig {
        program,
        args,
        env,
        working_dir: working_dir.unwrap_or_else(|| reading.base.to_owned()),
        user,
        ready: ready.unwrap_or(default_ready),
        link,
        open_files_max,
    }
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

    let path = if name.contains('/') {
        Some(dirs::join(reading.base, name))
    } else {
        reading.surroundings.find_program(name)
    };
    match path {
        Some(path) if is_executable(&path) => {
            return (path, args.iter().map(|&arg| arg.to_owned()).collect());
        }
        Some(path) if path.exists() => {
            let help = format!("name a program; if it is one: chmod +x {}", path.display());
            entry.report(report, format!("{} can't be executed", path.display()), help);
        }
        Some(path) => {
            let help = "build or install it; a path with a slash is relative to the directory of the \
                        configuration file";
            entry.report(report, format!("{} does not exist", path.display()), help);
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

fn read_ready(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Ready> {
    if let Some(probe) = entry.value.as_table() {
        let names: Vec<&str> = probe.keys().map(|key| key.get_ref().as_ref()).collect();
        let message = format!("readiness by `{}` is not in this version", names.join(", "));
        entry.report(report, message, "use \"notify\" (sd_notify) or \"started\"");
        return None;
    }
    entry.word(report, &[("started", Ready::Started), ("notify", Ready::Notify)])
}

fn read_env(entry: &Entry<'_>, report: &mut Report<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(section) = entry.section(report, "{ RUST_LOG = \"info\" }") else {
        return env;
    };
    for (name, entry) in section.entries() {
        if !is_variable(name) {
            let message = format!("`{name}` can't be the name of a variable");
            report.add(&entry.key_span, &entry.path, message, "use letters, digits and `_`");
        } else if let Some(value) = entry.string(report) {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    env
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Lines of the form `NAME=value`; empty lines and lines that start with `#` are skipped; a value may
/// stand in single or double quotes. Nothing is expanded.
fn read_env_file(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(path) = reading.existing_file(entry, report) else {
        return env;
    };
    let bytes = match read_bounded(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("{} can't be read: {error}", path.display());
            entry.report(report, message, "name a file that can be read");
            return env;
        }
    };
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let place = || format!("{}:{}", path.display(), index + 1);
        let Ok(line) = std::str::from_utf8(line) else {
            entry.report(report, format!("{}: not UTF-8", place()), "save the file as UTF-8");
            break;
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once('=').map(|(name, value)| (name.trim_end(), value.trim_start()));
        match parts {
            Some((name, value)) if is_variable(name) && !value.contains('\0') => {
                env.insert(name.to_owned(), unquote(value).to_owned());
            }
            _ => {
                let message = format!("{}: not a variable", place());
                entry.report(report, message, "write NAME=value, or start a comment with #");
            }
        }
    }
    env
}

fn unquote(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn read_user(
    user: Option<&Entry<'_>>,
    group: Option<&Entry<'_>>,
    surroundings: &Surroundings,
    report: &mut Report<'_>,
) -> Option<UserIds> {
    let mut ids = None;
    if let Some(entry) = user {
        let name = entry.string(report)?;
        ids = names::user(surroundings, name);
        if ids.is_none() {
            let help = format!("create the user, for example: useradd --system {name}");
            entry.report(report, format!("no user `{name}` on this machine"), help);
            return None;
        }
    }
    let Some(entry) = group else {
        let (uid, gid) = ids?;
        require_root(user?, uid, surroundings, report);
        return Some(UserIds { uid, gid });
    };
    let name = entry.string(report)?;
    let Some(gid) = names::group(surroundings, name) else {
        let help = format!("create the group, for example: groupadd --system {name}");
        entry.report(report, format!("no group `{name}` on this machine"), help);
        return None;
    };
    let Some((uid, _)) = ids else {
        report.add(&entry.key_span, &entry.path, "a group without a user", "add:  user = \"…\"");
        return None;
    };
    require_root(entry, uid, surroundings, report);
    Some(UserIds { uid, gid })
}

/// Only root can run a program as somebody else.
fn require_root(entry: &Entry<'_>, uid: u32, surroundings: &Surroundings, report: &mut Report<'_>) {
    if surroundings.uid != 0 && surroundings.uid != uid {
        let message = "only root can run a program as another user";
        entry.report(report, message, "run duende as root, or remove user and group");
    }
}
