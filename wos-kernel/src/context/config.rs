//! The table `[daemon.config]`, and the one before it.
//!
//! A slice that is told of a new table finds it whole, and may refuse it: then the one before is in
//! force again from the next slice on. A slice that was told of none has nothing to refuse.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use duende_core::wire::link::{CONFIG_ENTRIES_MAX, ValueKind};

use crate::paging::page;

/// One table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    entries: BTreeMap<String, (ValueKind, String)>,
}

/// The value of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigValue<'a> {
    /// A text, a date or a time.
    Text(&'a str),
    /// An integer.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
}

impl Config {
    /// Takes an entry. False if there are too many.
    pub(crate) fn insert(&mut self, key: &str, value: &str, kind: ValueKind) -> bool {
        self.entries.insert(key.into(), (kind, value.into()));
        self.entries.len() <= CONFIG_ENTRIES_MAX
    }

    /// The text of an entry, whatever it stands for.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|(_, text)| text.as_str())
    }

    /// The value of an entry; none of a whole array.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<ConfigValue<'_>> {
        let (kind, text) = self.entries.get(key)?;
        Some(match kind {
            ValueKind::Text => ConfigValue::Text(text),
            ValueKind::Integer => ConfigValue::Integer(text.parse().ok()?),
            ValueKind::Number => ConfigValue::Number(text.parse().ok()?),
            ValueKind::Boolean => ConfigValue::Boolean(text == "true"),
            ValueKind::Array => return None,
        })
    }

    /// At most `limit` keys that have a value, by pages.
    #[must_use]
    pub fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        page(&self.entries, prefix, after)
            .filter(|(_, (kind, _))| *kind != ValueKind::Array)
            .map(|(key, _)| key.clone())
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect()
    }
}

/// The table in force, and the one that a refusal brings back.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) current: Config,
    before: Option<Config>,
    refusal: Option<String>,
}

impl Tables {
    /// Another table is in force from the slice on that opens next.
    pub(super) fn replace(&mut self, next: Config) {
        let before = core::mem::replace(&mut self.current, next);
        // Of two that no slice has seen, the first was in force.
        self.before.get_or_insert(before);
    }

    /// Refuses the table that this slice was told of.
    pub(super) fn refuse(&mut self, reason: String) {
        if self.before.is_some() {
            self.refusal = Some(reason);
        }
    }

    /// A slice that was told of the table in force has committed: the reason, if it refused it.
    pub(super) fn settle(&mut self) -> Option<String> {
        let before = self.before.take();
        let refusal = self.refusal.take()?;
        self.current = before?;
        Some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, &str, ValueKind)]) -> Config {
        let mut table = Config::default();
        assert!(entries.iter().all(|(key, value, kind)| table.insert(key, value, *kind)));
        table
    }

    #[test]
    fn values_have_their_types_and_texts_their_notation() {
        use ValueKind::{Array, Boolean, Integer, Number, Text};
        let table = table(&[
            ("a", "0.05", Text),
            ("b", "0.05", Number),
            ("c", "-3", Integer),
            ("d", "true", Boolean),
            ("e", "[1]", Array),
            ("e.0", "1", Integer),
        ]);
        let expected = [
            ("a", Some(ConfigValue::Text("0.05"))),
            ("b", Some(ConfigValue::Number(0.05))),
            ("c", Some(ConfigValue::Integer(-3))),
            ("d", Some(ConfigValue::Boolean(true))),
            ("e", None),
            ("e.0", Some(ConfigValue::Integer(1))),
            ("f", None),
        ];
        for (key, value) in expected {
            assert_eq!(table.get(key), value, "{key}");
        }
        assert_eq!(table.text("e"), Some("[1]"));
        assert_eq!(table.keys("", None, 9), ["a", "b", "c", "d", "e.0"]);
        assert_eq!(table.keys("", Some("c"), 1), ["d"]);
    }

    #[test]
    fn a_refusal_brings_back_what_was_in_force() {
        let tables = |n: &str| table(&[("n", n, ValueKind::Text)]);
        let mut both = Tables { current: tables("1"), ..Tables::default() };
        both.refuse("nothing is new".into());
        assert_eq!(both.settle(), None);
        // Two reloads before a slice: the first table was never in force.
        both.replace(tables("2"));
        both.replace(tables("3"));
        both.refuse("no".into());
        assert_eq!(both.current.text("n"), Some("3"));
        assert_eq!(both.settle(), Some("no".into()));
        assert_eq!(both.current.text("n"), Some("1"));
        both.replace(tables("4"));
        assert_eq!(both.settle(), None);
        both.refuse("too late".into());
        assert_eq!(both.settle(), None);
        assert_eq!(both.current.text("n"), Some("4"));
    }
}
