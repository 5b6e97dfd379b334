//! Reads one `[[daemon]]`: what all daemons have. What is particular to one isolation is in `wos` and
//! `native`.

use std::ops::Range;
use std::time::Duration;

use duende_core::supervise::Spec;

use super::channel::{read_channels, read_grants};
use super::diagnostic::Report;
use super::graph::Draft;
use super::health::read_health;
use super::model::{DaemonConfig, Isolation, KILL_TIMEOUT, NotifyAccess, probes_default};
use super::names::{NAME_FORM, RESERVED_NAMES, is_name};
use super::reader::Section;
use super::reading::{FROM_1_MS, FROM_ZERO, Reading};
use super::recovery::read_restart;
use super::schema::Table;
use super::table::read_config;
use super::{native, wos};

/// What the key `isolation` can say.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Native,
    Wos,
    Later,
}

const ISOLATIONS: [(&str, Wanted); 6] = [
    ("native", Wanted::Native),
    ("wos", Wanted::Wos),
    ("microvm", Wanted::Later),
    ("systemd", Wanted::Later),
    ("container", Wanted::Later),
    ("launchd", Wanted::Later),
];

/// Reads one daemon. What could not be read has its default, and was reported.
pub(super) fn read(
    mut section: Section<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Draft {
    report.outline_mut().read_daemon(section.table());
    "daemon".clone_into(&mut section.path);
    let (name, name_span) = read_name(&mut section, report);
    if is_name(&name) {
        section.path = format!("daemon.{name}");
    }

    let (path, span) = (section.path.clone(), section.span.clone());
    let daemon = section.table();

    let stop_grace = section.take("stop_grace").and_then(|entry| entry.duration(report, FROM_ZERO));
    let kill_timeout =
        section.take("kill_timeout").and_then(|entry| entry.duration(report, FROM_1_MS));
    let start_timeout =
        section.take("start_timeout").and_then(|entry| entry.duration(report, FROM_1_MS));
    let reload_timeout =
        section.take("reload_timeout").and_then(|entry| entry.duration(report, FROM_1_MS));
    let isolation = read_isolation(&mut section, reading, report);
    let watchdog = read_watchdog(&mut section, &isolation, report);
    let contract = match &isolation {
        Isolation::Wos(_) => true,
        Isolation::Native(native) => native.link.is_some(),
    };

    let depends_on = section
        .take("depends_on")
        .and_then(|entry| entry.elements(report, "[\"web\"]"))
        .unwrap_or_default()
        .iter()
        .filter_map(|element| Some((element.string(report)?.to_owned(), element.span.clone())))
        .collect();

    // What only a daemon that speaks the contract can have.
    let mut contract_key = |key: &'static str, report: &mut Report<'_>| {
        if contract {
            return section.take(key);
        }
        section.refuse(
            report,
            key,
            "a native program that is not built with the SDK can't have this",
            "set link = true if it is built with the SDK, or remove the key",
        );
        None
    };
    let mut channels = contract_key("channel", report)
        .map(|entry| read_channels(&entry, reading, report))
        .unwrap_or_default();
    let grants = contract_key("grant", report)
        .map(|entry| read_grants(&entry, &mut channels, report))
        .unwrap_or_default();
    channels.warn_of_ungranted(&path, report);
    let health = contract_key("health", report)
        .and_then(|entry| entry.section(Table::Health, report, "{ period = \"10s\" }"))
        .map_or_else(probes_default, |section| read_health(section, report));
    let config = contract_key("config", report)
        .and_then(|entry| read_config(&entry, daemon, cannot_have(&isolation), report))
        .unwrap_or_default();
    let restart = section
        .take("restart")
        .and_then(|entry| entry.section(Table::Restart, report, "{ policy = \"on-failure\" }"))
        .map(|section| read_restart(section, matches!(isolation, Isolation::Wos(_)), report))
        .unwrap_or_default();
    let member_of = section
        .take("member_of")
        .and_then(|entry| Some((entry.string(report)?.to_owned(), entry.span.clone())));
    section.finish(report);

    let default = Spec::default();
    let config = DaemonConfig {
        name,
        isolation,
        depends_on: Vec::new(),
        grants,
        channels: channels.configs,
        stop_grace: stop_grace.unwrap_or(default.stop_grace),
        kill_timeout: kill_timeout.unwrap_or(KILL_TIMEOUT),
        start_timeout: start_timeout.unwrap_or(default.start_timeout),
        reload_timeout: reload_timeout.unwrap_or(default.reload_timeout),
        watchdog,
        member_of: None,
        health,
        restart,
        config,
    };
    Draft { config, name_span, span, depends_on, member_of, stdin_span: channels.stdin_span }
}

/// The keys of a daemon that one of this kind can't have.
const fn cannot_have(isolation: &Isolation) -> &'static [&'static str] {
    match isolation {
        Isolation::Wos(_) => &wos::NATIVE_KEYS,
        Isolation::Native(_) => &native::COMPONENT_KEYS,
    }
}

/// Reads `watchdog`. What has no process of its own can't send signs of life.
fn read_watchdog(
    section: &mut Section<'_>,
    isolation: &Isolation,
    report: &mut Report<'_>,
) -> Option<Duration> {
    match isolation {
        Isolation::Native(native) => {
            let entry = section.take("watchdog")?;
            if native.notify_access == Some(NotifyAccess::None) {
                let message = "with notify_access = \"none\" no sign of life would count";
                entry.report(
                    report,
                    message,
                    "remove one of them, or name whose word counts: \"main\"",
                );
            }
            entry.duration(report, FROM_1_MS)
        }
        Isolation::Wos(_) => {
            let why = "a component sends no signs of life: its slices have a budget";
            section.refuse(report, "watchdog", why, "use slice_budget and health");
            None
        }
    }
}

fn read_name(section: &mut Section<'_>, report: &mut Report<'_>) -> (String, Range<usize>) {
    let Some(entry) = section.take("name") else {
        section.miss(report, "name", "this key is missing", "add:  name = \"web\"");
        return (String::new(), section.span.clone());
    };
    let Some(name) = entry.string(report) else {
        return (String::new(), entry.span);
    };
    if !is_name(name) {
        entry.report(report, format!("`{name}` is not a name"), NAME_FORM);
        // Who depends on it has said nothing wrong.
        return (name.to_owned(), entry.span);
    }
    if RESERVED_NAMES.contains(&name) {
        let message = "this name is reserved for a log of the manager itself";
        entry.report(report, message, "choose another name");
    }
    (name.to_owned(), entry.span)
}

/// Reads what is run and where. `image` and `command` each imply their isolation.
fn read_isolation(
    section: &mut Section<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Isolation {
    let image = section.take("image");
    let program = section.take_either(report, "command", "binary_path");
    let wanted = section.take("isolation").and_then(|entry| {
        let wanted = entry.word(report, &ISOLATIONS)?;
        if wanted == Wanted::Later {
            let word = entry.value.as_str().unwrap_or_default();
            let help = match word {
                "microvm" => "use isolation = \"wos\"",
                _ => "use isolation = \"native\"",
            };
            entry.report(report, format!("isolation `{word}` is not in this version"), help);
        }
        Some(wanted)
    });

    let on_wos = match wanted {
        Some(Wanted::Wos) => true,
        Some(Wanted::Native) => false,
        Some(Wanted::Later) | None => image.is_some(),
    };
    match (&image, &program) {
        (None, None) if ["image", "command"].iter().any(|key| section.is_mistyped(key)) => {}
        (None, None) => {
            let help = "add:  image = \"daemon.wasm\"  for a component, or  command = [\"daemon\"]  \
                        for a native program";
            report.add(&section.span, &section.path, "nothing to run", help);
        }
        (Some(image), Some(program)) => {
            let extra = if on_wos { program } else { image };
            let help = "keep `image` for a component, or `command` for a native program";
            report.add(&extra.key_span, &extra.path, "both `image` and `command`", help);
        }
        (Some(image), None) if !on_wos => {
            let help = "use isolation = \"wos\", or `command` for a native program";
            report.add(&image.key_span, &image.path, "a component does not run natively", help);
        }
        (None, Some(program)) if on_wos => {
            let help = "use isolation = \"native\", or `image` for a component";
            report.add(
                &program.key_span,
                &program.path,
                "a native program does not run on WOS",
                help,
            );
        }
        _ => {}
    }

    if on_wos {
        let image = image.and_then(|entry| reading.existing_file(&entry, report));
        Isolation::Wos(wos::read(section, image.unwrap_or_default(), report))
    } else {
        Isolation::Native(native::read(section, program, reading, report))
    }
}
