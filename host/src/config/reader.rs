//! Reads values out of a parsed TOML document and reports what is wrong with them.
//!
//! A [`Section`] is a table from which keys are taken one by one; what was never asked for is unknown
//! and reported at the end, with the nearest key that was asked for. A value of the wrong type or
//! range is reported where it stands and read as absent, so that reading goes on and finds the rest.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::diagnostic::Report;
use super::suggest::did_you_mean;

/// A table that is being read.
pub(super) struct Section<'t> {
    /// Its dotted path; empty at the top.
    pub(super) path: String,
    /// What stands for the whole table in a report: its header, or its braces.
    pub(super) span: Range<usize>,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(super) const fn new(path: String, span: Range<usize>, table: &'t DeTable<'t>) -> Self {
        Self { path, span, table, known: Vec::new() }
    }

    /// The dotted path of a key of this table.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a key, whether it is there or not.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'t>> {
        self.known.push(key);
        self.get(key)
    }

    /// Takes a key that has a second name. Both at once is a problem.
    pub(super) fn take_either(
        &mut self,
        report: &mut Report<'_>,
        key: &'static str,
        alias: &'static str,
    ) -> Option<Entry<'t>> {
        let (first, second) = (self.take(key), self.take(alias));
        if let (Some(_), Some(second)) = (&first, &second) {
            report.add(
                &second.key_span,
                &second.path,
                format!("the same as `{key}`, which is also given"),
                format!("keep `{key}` and remove `{alias}`"),
            );
        }
        first.or(second)
    }

    /// Reports a key, if it is there, as something that can't be had.
    pub(super) fn refuse(
        &mut self,
        report: &mut Report<'_>,
        key: &'static str,
        why: &str,
        help: &str,
    ) {
        if let Some(entry) = self.take(key) {
            report.add(&entry.key_span, &entry.path, why, help);
        }
    }

    /// All entries, for a table whose keys are names. None of them is unknown afterwards.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, Entry<'t>)> {
        self.table.iter().map(|(key, value)| {
            let name: &'t str = key.get_ref().as_ref();
            let entry = Entry {
                path: self.path_of(name),
                key_span: key.span(),
                span: value.span(),
                value: value.get_ref(),
                is_element: false,
            };
            (name, entry)
        })
    }

    fn get(&self, wanted: &str) -> Option<Entry<'t>> {
        let (key, value) = self.table.get_key_value(wanted)?;
        Some(Entry {
            path: self.path_of(wanted),
            key_span: key.span(),
            span: value.span(),
            value: value.get_ref(),
            is_element: false,
        })
    }

    /// Reports the keys that nobody took.
    pub(super) fn finish(self, report: &mut Report<'_>) {
        for (name, entry) in self.entries() {
            if self.known.contains(&name) {
                continue;
            }
            let help = did_you_mean(name, self.known.iter().copied(), || {
                format!("known here: {}", self.known.join(", "))
            });
            report.add(&entry.key_span, &entry.path, "unknown key", help);
        }
    }
}

/// A key and its value.
pub(super) struct Entry<'t> {
    /// The dotted path of the key.
    pub(super) path: String,
    /// Where the key stands.
    pub(super) key_span: Range<usize>,
    /// Where the value stands.
    pub(super) span: Range<usize>,
    /// The value.
    pub(super) value: &'t DeValue<'t>,
    /// Whether it is one of an array's elements, which have no key of their own.
    is_element: bool,
}

impl<'t> Entry<'t> {
    /// Reports the value.
    pub(super) fn report(
        &self,
        report: &mut Report<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        report.add_value(&self.span, &self.path, message, help);
    }

    fn wrong_type(&self, report: &mut Report<'_>, wanted: &str, example: &str) {
        let found = with_article(self.value.type_str());
        let key = self.path.rsplit('.').next().unwrap_or_default();
        let help = if self.is_element {
            format!("each element is {wanted}, for example {example}")
        } else {
            format!("write for example `{key} = {example}`")
        };
        self.report(report, format!("expected {wanted}, found {found}"), help);
    }

    /// A text without zero characters, which no path, argument or variable can hold.
    pub(super) fn string(&self, report: &mut Report<'_>) -> Option<&'t str> {
        let Some(text) = self.value.as_str() else {
            self.wrong_type(report, "a string", "\"…\"");
            return None;
        };
        if text.contains('\0') {
            self.report(report, "contains a zero character", "remove `\\u0000`");
            return None;
        }
        Some(text)
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&self, report: &mut Report<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(report)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let all = || words.iter().map(|(word, _)| *word);
            let help = did_you_mean(text, all(), || {
                format!("one of: {}", all().collect::<Vec<_>>().join(", "))
            });
            self.report(report, format!("unknown value `{text}`"), help);
        }
        found.map(|(_, value)| *value)
    }

    /// Yes or no.
    pub(super) fn boolean(&self, report: &mut Report<'_>) -> Option<bool> {
        let found = self.value.as_bool();
        if found.is_none() {
            self.wrong_type(report, "a boolean", "true");
        }
        found
    }

    /// A whole number within a range.
    pub(super) fn integer(
        &self,
        report: &mut Report<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type(report, "a whole number", &range.start().to_string());
            return None;
        };
        let value = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        self.within(report, value, range)
    }

    /// As [`integer`](Self::integer), for numbers of 32 bits.
    pub(super) fn integer_u32(
        &self,
        report: &mut Report<'_>,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.integer(report, range).and_then(|value| u32::try_from(value).ok())
    }

    /// A number of bytes: a whole number, or a text such as `"256MiB"`.
    pub(super) fn bytes(&self, report: &mut Report<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let value = match self.value {
            DeValue::Integer(integer) => {
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            DeValue::String(text) => match text.parse::<bytesize::ByteSize>() {
                Ok(size) => Some(size.as_u64()),
                Err(_) => {
                    self.report(report, "not a size", "write for example \"256MiB\" or \"1.5GB\"");
                    return None;
                }
            },
            _ => {
                self.wrong_type(report, "a size", "\"256MiB\"");
                return None;
            }
        };
        let shown = |bytes: u64| bytesize::ByteSize::b(bytes).display().iec().to_string();
        self.check(report, value, &range, shown)
    }

    /// A length of time such as `"10s"`.
    pub(super) fn duration(
        &self,
        report: &mut Report<'_>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let Some(text) = self.value.as_str() else {
            self.wrong_type(report, "a duration", "\"10s\"");
            return None;
        };
        match humantime::parse_duration(text) {
            Ok(value) => {
                let shown = |value: Duration| humantime::format_duration(value).to_string();
                self.check(report, Some(value), &range, shown)
            }
            Err(error) => {
                self.report(
                    report,
                    format!("not a duration: {error}"),
                    "write a number and a unit, for example \"10s\", \"100ms\", \"1min 30s\"",
                );
                None
            }
        }
    }

    fn within<T: PartialOrd + Copy + Display>(
        &self,
        report: &mut Report<'_>,
        value: Option<T>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        self.check(report, value, &range, |value| value.to_string())
    }

    fn check<T: PartialOrd + Copy>(
        &self,
        report: &mut Report<'_>,
        value: Option<T>,
        range: &RangeInclusive<T>,
        shown: impl Fn(T) -> String,
    ) -> Option<T> {
        let found = value.filter(|value| range.contains(value));
        if found.is_none() {
            let (low, high) = (shown(*range.start()), shown(*range.end()));
            self.report(report, "out of range", format!("from {low} to {high}"));
        }
        found
    }

    /// The elements of an array.
    pub(super) fn elements(&self, report: &mut Report<'_>, example: &str) -> Option<Vec<Self>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type(report, "an array", example);
            return None;
        };
        let elements = array.iter().map(|element| Self {
            path: self.path.clone(),
            key_span: self.key_span.clone(),
            span: element.span(),
            value: element.get_ref(),
            is_element: true,
        });
        Some(elements.collect())
    }

    /// The texts of an array.
    pub(super) fn strings(&self, report: &mut Report<'_>, example: &str) -> Option<Vec<&'t str>> {
        let elements = self.elements(report, example)?;
        // Every element is looked at, also after a bad one.
        let texts: Vec<_> = elements.iter().map(|element| element.string(report)).collect();
        texts.into_iter().collect()
    }

    /// A table.
    pub(super) fn section(&self, report: &mut Report<'_>, example: &str) -> Option<Section<'t>> {
        let Some(table) = self.value.as_table() else {
            self.wrong_type(report, "a table", example);
            return None;
        };
        Some(Section::new(self.path.clone(), self.span.clone(), table))
    }
}

fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {type_name}")
}
