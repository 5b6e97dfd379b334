//! A key that stands below the wrong header: where it belongs, and which line to move it to.
//!
//! TOML gives what follows a header to that header's table, up to the next one. Who adds a key of a
//! daemon at the end of its lines adds it to the daemon's last table.
//!
//! Rules:
//! 1. Whoever does what is said has a configuration in which the key is where it belongs
//!    (`tests::a_key_below_the_wrong_table_is_told_where_to_go`).
//! 2. In a table whose keys are free, `[daemon.config]` and `env`, a key of `[[daemon]]` may be meant as it
//!    stands. It is refused only if the daemon could have it, does not, and the value fits it
//!    (`tests::a_key_of_the_daemon_below_its_config_is_ambiguous`): as with variables that a shell would
//!    expand, it is not known what was meant. Whoever says the daemon's key as well has said it. Below a
//!    header within `[daemon.config]` it is a warning.

use toml::de::{DeTable, DeValue};

use super::diagnostic::Report;
use super::duration;
use super::reader::Entry;
use super::reading::FROM_ZERO;
use super::schema::{Table, holds_table, home_of};

/// What is wrong, and the way out.
pub(super) struct Misplaced {
    pub(super) message: String,
    pub(super) help: String,
}

/// What to say of an entry that stands in a table of the kind `here`, under the name of a key that
/// another table has; none: no table has it.
pub(super) fn of(
    name: &str,
    entry: &Entry<'_>,
    here: Table,
    report: &Report<'_>,
) -> Option<Misplaced> {
    let is_table = entry.value.is_table() || (entry.value.is_array() && holds_table(name));
    let home = home_of(name, is_table, here)?;
    let header = home.header();
    if is_table && report.is_in_header(&entry.key_span) {
        let written = match (home, name) {
            (Table::Top, "fleet" | "compile") => format!("[{name}]"),
            (Table::Top, name) => format!("[[{name}]]"),
            (Table::Health, name) => format!("[daemon.health.{name}]"),
            (_, name) => format!("[daemon.{name}]"),
        };
        let message = if home == Table::Top {
            format!("a table of its own: write {written}")
        } else {
            format!("a table of {header}: write {written}")
        };
        let help = "the whole name of a table stands in its header";
        return Some(Misplaced { message, help: help.to_owned() });
    }
    let moved = destination(home, here, entry, report);
    let help = match report.outline().first_within(report.source()) {
        _ if home == Table::Source => "as in  from = { tail = \"access.log\" }".to_owned(),
        Some(_) if here.is_within_daemon() && home == Table::Daemon => {
            "what follows the header of a table belongs to that table".to_owned()
        }
        _ => format!("it has no meaning in {}", here.header()),
    };
    Some(Misplaced { message: format!("a key of {header}: {moved}"), help })
}

/// Where to move it.
fn destination(home: Table, here: Table, entry: &Entry<'_>, report: &Report<'_>) -> String {
    let (outline, source) = (report.outline(), report.source());
    // From outside of a daemon nobody knows which is meant.
    let is_known = !home.is_within_daemon() || here.is_within_daemon() || here == Table::Daemon;
    let line = outline.line_of(source, home).filter(|_| is_known);
    match home {
        Table::Daemon if here.is_within_daemon() => {
            let first = outline.first_within(source);
            // What stands in braces, or behind dots, is moved out of them.
            let below = first.filter(|first| report.line_of(&entry.key_span) > *first);
            below.map_or_else(
                || "move it out of this table".to_owned(),
                |first| format!("move it above line {first}"),
            )
        }
        Table::Source => "move it into `from`".to_owned(),
        _ => match line {
            Some(line) => format!("move it below line {line}"),
            None if is_known && outline.has(home) => "move it into that table".to_owned(),
            None => format!("move it below a line {}", home.header()),
        },
    }
}

/// What to say of an entry of a table whose keys are free, if it may be meant for the daemon: `can_have`
/// are the keys that a daemon of its kind may have.
pub(super) fn ambiguous(
    name: &str,
    entry: &Entry<'_>,
    here: Table,
    daemon: &DeTable<'_>,
    cannot_have: &[&str],
    report: &Report<'_>,
) -> Option<Misplaced> {
    let is_key = Table::Daemon.keys().contains(&name);
    let is_free = !is_key
        || holds_table(name)
        || cannot_have.contains(&name)
        || daemon.contains_key(name)
        || !fits(name, entry.value);
    if is_free {
        return None;
    }
    let Misplaced { message, .. } = of(name, entry, here, report)?;
    let help = format!(
        "if it is meant for {} all the same, say in [[daemon]] itself what `{name}` is, too",
        here.header()
    );
    Some(Misplaced { message, help })
}

/// Whether a value is one of those that a key of a daemon takes.
fn fits(name: &str, value: &DeValue<'_>) -> bool {
    match name {
        "start_timeout" | "stop_grace" | "kill_timeout" | "reload_timeout" | "slice_budget"
        | "watchdog" => value.as_str().is_some_and(|text| duration::read(text, &FROM_ZERO).is_ok()),
        "priority" => value.is_integer(),
        "link" => value.is_bool(),
        "depends_on" | "grant" | "args" => value.is_array(),
        "command" => value.is_array() || value.is_str(),
        _ => value.is_str(),
    }
}

/// That a reader asks only for keys that the schema has: else a key below the wrong table would be told
/// nothing.
#[cfg(test)]
pub(super) fn check_asked(kind: Table, asked: &[&str]) {
    for key in asked {
        assert!(
            kind.keys().contains(key),
            "`{key}` is missing among the keys of {kind:?} in `schema`"
        );
    }
}

#[cfg(test)]
mod tests;
