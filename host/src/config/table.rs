//! Flattens `[daemon.config]` into what the contract hands out.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use duende_core::wire::link::{CONFIG_ENTRIES_MAX, KEY_BYTES_MAX, TEXT_BYTES_MAX, ValueKind};

use super::diagnostic::Report;
use super::misplaced::{self, Misplaced};
use super::model::ConfigValue;
use super::reader::{Entry, Section};
use super::schema::Table;

/// Reads `config`: nested tables are joined with dots; strings stay as they are, other values take
/// TOML's notation. An array is there as a whole, and each of its elements by its index.
///
/// `daemon` is the table of the daemon, and `cannot_have` are the keys that it can't have: what looks like one
/// of the others is ambiguous here (`misplaced`).
pub(super) fn read_config(
    entry: &Entry<'_>,
    daemon: &DeTable<'_>,
    cannot_have: &[&str],
    report: &mut Report<'_>,
) -> Option<BTreeMap<String, ConfigValue>> {
    let section = entry.section(Table::Config, report, "{ error_ratio_alert = 0.05 }")?;
    for (name, entry) in section.entries() {
        let problem =
            misplaced::ambiguous(name, &entry, Table::Config, daemon, cannot_have, report);
        if let Some(Misplaced { message, help }) = problem {
            report.add(&entry.key_span, &entry.path, message, help);
        }
    }
    let mut flat = BTreeMap::new();
    let mut pending: Vec<(String, Entry<'_>)> =
        section.entries().map(|(name, entry)| (name.to_owned(), entry)).collect();
    while let Some((key, entry)) = pending.pop() {
        if let Some(table) = entry.value.as_table() {
            let nested = Section::new(Table::Config, entry.path.clone(), entry.span.clone(), table);
            if report.is_in_header(&entry.key_span) {
                // Deeper down it is likely meant as it stands.
                for (name, entry) in nested.entries() {
                    let doubt = misplaced::ambiguous(
                        name,
                        &entry,
                        Table::Config,
                        daemon,
                        cannot_have,
                        report,
                    );
                    if let Some(Misplaced { message, help }) = doubt {
                        report.warn(&entry.key_span, &entry.path, message, help);
                    }
                }
            }
            pending.extend(nested.entries().map(|(name, entry)| (format!("{key}.{name}"), entry)));
            continue;
        }
        let value = configured(entry.value);
        if key.len() > KEY_BYTES_MAX {
            let message = format!("this key has {} bytes", key.len());
            report.add(&entry.key_span, &entry.path, message, format!("at most {KEY_BYTES_MAX}"));
        }
        if value.text.len() > TEXT_BYTES_MAX {
            let message = format!("this value has {} bytes", value.text.len());
            let help = format!("at most {TEXT_BYTES_MAX}; name a file instead");
            report.add(&entry.span, &entry.path, message, help);
        }
        check_integers(&entry.span, entry.value, &entry.path, report);
        let mut elements = Vec::new();
        flatten(&key, entry.value, &mut elements);
        for (key, value) in elements {
            if flat.insert(key.clone(), value).is_some() {
                // `"a.b" = 1` beside `a = { b = 2 }`, and `"l.0" = 1` beside `l = [2]`.
                let message = format!("`{key}` is there twice once tables are joined with dots");
                report.add(&entry.key_span, &entry.path, message, "rename one of them");
                break;
            }
        }
    }
    if flat.len() > CONFIG_ENTRIES_MAX {
        let message = format!("{} entries, the elements of arrays counted", flat.len());
        let help = format!("at most {CONFIG_ENTRIES_MAX}; name a file instead");
        report.add(&entry.key_span, &entry.path, message, help);
    }
    Some(flat)
}

/// What the contract hands out as whole numbers has 64 bits.
fn check_integers(span: &Range<usize>, value: &DeValue<'_>, key: &str, report: &mut Report<'_>) {
    match value {
        DeValue::Integer(integer)
            if i64::from_str_radix(integer.as_str(), integer.radix()).is_err() =>
        {
            let help =
                format!("from {} to {}; in quotes it is handed over as a text", i64::MIN, i64::MAX);
            report.add_value(span, key, "a whole number beyond 64 bits", help);
        }
        DeValue::Array(array) => {
            for element in array {
                check_integers(&element.span(), element.get_ref(), key, report);
            }
        }
        DeValue::Table(table) => {
            for value in table.values() {
                check_integers(&value.span(), value.get_ref(), key, report);
            }
        }
        _ => {}
    }
}

/// A value, and what stands within an array. Its keys and texts are no longer than the array's own.
fn flatten(key: &str, value: &DeValue<'_>, flat: &mut Vec<(String, ConfigValue)>) {
    match value {
        DeValue::Table(table) => {
            for (name, value) in table {
                flatten(&format!("{key}.{}", name.get_ref()), value.get_ref(), flat);
            }
        }
        other => {
            if let DeValue::Array(array) = other {
                for (index, element) in array.iter().enumerate() {
                    flatten(&format!("{key}.{index}"), element.get_ref(), flat);
                }
            }
            flat.push((key.to_owned(), configured(other)));
        }
    }
}

/// A value as it goes to the daemon.
fn configured(value: &DeValue<'_>) -> ConfigValue {
    let (kind, text) = match value {
        DeValue::String(text) => (ValueKind::Text, text.clone().into_owned()),
        DeValue::Integer(_) => (ValueKind::Integer, notation(value)),
        DeValue::Float(_) => (ValueKind::Number, notation(value)),
        DeValue::Boolean(_) => (ValueKind::Boolean, notation(value)),
        DeValue::Array(_) => (ValueKind::Array, notation(value)),
        // Dates, and tables, which are taken apart before.
        DeValue::Datetime(_) | DeValue::Table(_) => (ValueKind::Text, notation(value)),
    };
    ConfigValue { kind, text }
}

/// A value in TOML's notation.
pub(super) fn notation(value: &DeValue<'_>) -> String {
    fn convert(value: &DeValue<'_>) -> toml::Value {
        match value {
            DeValue::String(text) => toml::Value::String(text.clone().into_owned()),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or_else(|_| toml::Value::String(integer.to_string()), toml::Value::Integer),
            DeValue::Float(float) => float
                .as_str()
                .parse()
                .map_or_else(|_| toml::Value::String(float.to_string()), toml::Value::Float),
            DeValue::Boolean(boolean) => toml::Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => toml::Value::Datetime(*datetime),
            DeValue::Array(array) => {
                toml::Value::Array(array.iter().map(|element| convert(element.get_ref())).collect())
            }
            DeValue::Table(table) => toml::Value::Table(convert_table(table)),
        }
    }
    fn convert_table(table: &DeTable<'_>) -> toml::Table {
        table
            .iter()
            .map(|(key, value)| (key.get_ref().clone().into_owned(), convert(value.get_ref())))
            .collect()
    }
    convert(value).to_string()
}
