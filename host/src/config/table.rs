//! Flattens `[daemon.config]` into what the contract hands out.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use duende_core::wire::link::{KEY_BYTES_MAX, TEXT_BYTES_MAX};

use super::diagnostic::Report;
use super::reader::{Entry, Section};

/// Reads `config`: nested tables are joined with dots; strings stay as they are, other
/// values take TOML's notation.
pub(super) fn read_config(
    entry: &Entry<'_>,
    report: &mut Report<'_>,
) -> Option<BTreeMap<String, String>> {
    let section = entry.section(report, "{ error_ratio_alert = 0.05 }")?;
    let mut flat = BTreeMap::new();
    let mut pending: Vec<(String, Entry<'_>)> =
        section.entries().map(|(name, entry)| (name.to_owned(), entry)).collect();
    while let Some((key, entry)) = pending.pop() {
        if let Some(table) = entry.value.as_table() {
            let nested = Section::new(entry.path.clone(), entry.span.clone(), table);
            pending.extend(nested.entries().map(|(name, entry)| (format!("{key}.{name}"), entry)));
            continue;
        }
        let value = match entry.value {
            DeValue::String(text) => text.clone().into_owned(),
            other => notation(other),
        };
        if key.len() > KEY_BYTES_MAX {
            let message = format!("this key has {} bytes", key.len());
            report.add(&entry.key_span, &entry.path, message, format!("at most {KEY_BYTES_MAX}"));
        }
        if value.len() > TEXT_BYTES_MAX {
            let message = format!("this value has {} bytes", value.len());
            let help = format!("at most {TEXT_BYTES_MAX}; name a file instead");
            report.add(&entry.span, &entry.path, message, help);
        }
        if flat.insert(key.clone(), value).is_some() {
            // `"a.b" = 1` beside `a = { b = 2 }`.
            let message = format!("`{key}` is there twice once tables are joined with dots");
            report.add(&entry.key_span, &entry.path, message, "rename one of them");
        }
    }
    Some(flat)
}

/// A value in TOML's notation.
fn notation(value: &DeValue<'_>) -> String {
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
