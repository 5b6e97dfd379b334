//! What is written in a configuration, key by key: to say later what of a changed file is not in force.
//!
//! A manager keeps the keys of the file with which it was started. What it looks at again is the file as it
//! is now, checked as a whole. Rules:
//! 1. A change is told by the key and line where it stands, with what makes it take effect
//!    (`tests::what_is_not_in_force_is_told_by_key_and_line`).
//! 2. What is written otherwise and means the same is none: an order, a comment, `60s` for `1min`, a
//!    default that is written down (`tests::what_means_the_same_is_no_change`).

use std::collections::{BTreeMap, BTreeSet};

use duende_core::wire::link::ValueKind;
use toml::de::{DeTable, DeValue};

use super::fleet::Checked;
use super::model::{ConfigValue, DaemonConfig, FleetConfig};
use super::outline::line_number;
use super::table::notation;

/// The daemon or group to which a key belongs, and the key within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Fleet(String),
    Compile(String),
    Group(String, String),
    Daemon(String, String),
}

/// A value as it is written, and the line on which its key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    text: String,
    line: usize,
}

/// The keys of a file. Empty for a fleet that was made from flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    keys: BTreeMap<Key, Value>,
}

/// What makes a change take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    /// A reload of the daemon.
    Reload,
    /// The next `up`.
    Up,
}

/// What a changed file says and a running fleet does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The daemon; none: the fleet, or a group.
    pub daemon: Option<String>,
    /// The dotted key, with the name of a group before it; empty: the whole daemon is new, or gone.
    pub key: String,
    /// The line on which it stands, from 1; none: it stands there no longer.
    pub line: Option<usize>,
    /// What makes it take effect.
    pub takes_effect: TakesEffect,
}

impl Written {
    pub(super) fn of(document: &DeTable<'_>, source: &str) -> Self {
        let mut found: Vec<(usize, Key, String)> = Vec::new();
        let mut add = |table: &DeTable<'_>, key_of: &dyn Fn(String) -> Key| {
            flatten(table, "", &mut |at, key, value| {
                found.push((at, key_of(key), notation(value)));
            });
        };
        for (name, value) in document {
            let elements = value.get_ref().as_array();
            let elements =
                elements.into_iter().flatten().filter_map(|one| one.get_ref().as_table());
            match (name.get_ref().as_ref(), value.get_ref().as_table()) {
                ("fleet", Some(fleet)) => add(fleet, &Key::Fleet),
                ("compile", Some(compile)) => add(compile, &Key::Compile),
                ("daemon", None) => {
                    for daemon in elements {
                        add(daemon, &|key| Key::Daemon(name_of(daemon), key));
                    }
                }
                ("group", None) => {
                    for group in elements {
                        add(group, &|key| Key::Group(name_of(group), key));
                    }
                }
                _ => {}
            }
        }
        // One pass over the text, not one for each key.
        found.sort_unstable_by_key(|(at, ..)| *at);
        let (mut line, mut counted) = (1, 0);
        let mut keys = BTreeMap::new();
        for (at, key, text) in found {
            line += line_number(source.get(counted..).unwrap_or_default(), at - counted) - 1;
            counted = at;
            keys.insert(key, Value { text, line });
        }
        Self { keys }
    }

    /// What the file says now that a fleet does not do which runs as `fleet` and `running` say: `running` are
    /// the daemons with the tables `config` that they were handed last. In the order of the file, and at the
    /// end what is gone from it.
    #[must_use]
    pub fn changes<'d>(
        &self,
        fleet: &FleetConfig,
        running: impl Fn(&str) -> Option<&'d DaemonConfig>,
        now: &Checked,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let keys: BTreeSet<&Key> = self.keys.keys().chain(now.written.keys.keys()).collect();
        for key in keys {
            let (then, there) = (self.keys.get(key), now.written.keys.get(key));
            if then.map(|value| &value.text) == there.map(|value| &value.text) {
                continue;
            }
            let (daemon, shown) = match key {
                Key::Fleet(_) if is_same_fleet(fleet, &now.fleet) => continue,
                Key::Compile(_) if fleet.compile == now.fleet.compile => continue,
                Key::Group(..) if fleet.groups == now.fleet.groups => continue,
                Key::Fleet(key) => (None, format!("fleet.{key}")),
                Key::Compile(key) => (None, format!("compile.{key}")),
                Key::Group(name, key) => (None, format!("group.{name}.{key}")),
                Key::Daemon(name, key) => {
                    let (old, new) = (running(name), now.fleet.daemon(name));
                    match (old, new) {
                        (Some(_), Some(_)) if is_config(key) => continue,
                        (Some(old), Some(new)) if is_same(key, old, new) => continue,
                        (Some(_), Some(_)) => (Some(name.clone()), key.clone()),
                        // Of one that comes or goes its name is told.
                        _ if key == "name" => (Some(name.clone()), String::new()),
                        _ => continue,
                    }
                }
            };
            let line = there.map(|value| value.line);
            changes.push(Change { daemon, key: shown, line, takes_effect: TakesEffect::Up });
        }
        for new in &now.fleet.daemons {
            if let Some(old) = running(&new.name) {
                changes.extend(self.changed_config(old, new, now));
            }
        }
        changes.sort_by_key(|change| (change.line.is_none(), change.line));
        changes
    }

    /// What of `[daemon.config]` the daemon was not handed.
    fn changed_config<'c>(
        &'c self,
        old: &'c DaemonConfig,
        new: &'c DaemonConfig,
        now: &'c Checked,
    ) -> impl Iterator<Item = Change> + 'c {
        let keys: BTreeSet<&String> = old.config.keys().chain(new.config.keys()).collect();
        let is_changed = |key: &&String| {
            let (then, there) = (old.config.get(*key), new.config.get(*key));
            // Of an array the whole is told, not each element.
            then != there && !is_element(key, &old.config) && !is_element(key, &new.config)
        };
        keys.into_iter().filter(is_changed).map(|key| {
            let key = format!("config.{key}");
            let written = Key::Daemon(new.name.clone(), key.clone());
            let line = now.written.keys.get(&written).map(|value| value.line);
            Change { daemon: Some(new.name.clone()), key, line, takes_effect: TakesEffect::Reload }
        })
    }
}

fn name_of(table: &DeTable<'_>) -> String {
    let name = table.get("name").and_then(|name| name.get_ref().as_str());
    name.unwrap_or_default().to_owned()
}

/// Tells each value that is no table, with the offset of its key and the key behind dots.
fn flatten(table: &DeTable<'_>, above: &str, tell: &mut dyn FnMut(usize, String, &DeValue<'_>)) {
    for (name, value) in table {
        let key = format!("{above}{}", name.get_ref());
        match value.get_ref().as_table() {
            Some(table) => flatten(table, &format!("{key}."), tell),
            None => tell(name.span().start, key, value.get_ref()),
        }
    }
}

fn is_config(key: &str) -> bool {
    key.starts_with("config.")
}

fn is_element(key: &str, config: &BTreeMap<String, ConfigValue>) -> bool {
    key.match_indices('.').any(|(at, _)| {
        let above = key.get(..at).and_then(|above| config.get(above));
        above.is_some_and(|above| above.kind == ValueKind::Array)
    })
}

/// Whether the keys of `[fleet]` come to the same.
fn is_same_fleet(old: &FleetConfig, new: &FleetConfig) -> bool {
    old.name == new.name
        && old.metrics_interval == new.metrics_interval
        && old.commit_interval == new.commit_interval
        && old.state_dir == new.state_dir
        && old.log_dir == new.log_dir
}

/// Whether a daemon's keys come to the same, whatever is written: all but this key if that names others,
/// which are numbers in a snapshot.
fn is_same(key: &str, old: &DaemonConfig, new: &DaemonConfig) -> bool {
    let new = DaemonConfig {
        config: old.config.clone(),
        depends_on: old.depends_on.clone(),
        member_of: old.member_of,
        ..new.clone()
    };
    !matches!(key, "depends_on" | "member_of") && new == *old
}

#[cfg(test)]
mod tests;
