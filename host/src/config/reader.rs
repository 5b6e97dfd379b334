//! Reads values out of a parsed TOML document and reports what is wrong with them.
//!
//! A [`Section`] is a table from which keys are taken one by one; what was never asked for is unknown
//! and reported at the end: with the table to which it belongs, if that is another one (`misplaced`),
//! else with the nearest key that was asked for. A value of the wrong type or range is reported where it
//! stands and read as absent, so that reading goes on and finds the rest.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::diagnostic::Report;
use super::duration;
use super::misplaced::{self, Misplaced};
use super::schema::{Table, all_keys};
use super::suggest::{did_you_mean, listed, nearest};

/// A table that is being read.
pub(super) struct Section<'t> {
    /// Its dotted path; empty at the top.
    pub(super) path: String,
    /// What stands for the whole table in a report: its header, or its braces.
    pub(super) span: Range<usize>,
    kind: Table,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(super) const fn new(
        kind: Table,
        path: String,
        span: Range<usize>,
        table: &'t DeTable<'t>,
    ) -> Self {
        Self { path, span, kind, table, known: Vec::new() }
    }

    /// The table itself.
    pub(super) const fn table(&self) -> &'t DeTable<'t> {
        self.table
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

    /// Reports that a key is missing, unless it is there and mistyped, which is reported as that.
    pub(super) fn miss(
        &self,
        report: &mut Report<'_>,
        key: &'static str,
        message: &str,
        help: &str,
    ) {
        if !self.is_mistyped(key) {
            report.add(&self.span, &self.path_of(key), message, help);
        }
    }

    /// Whether another key that is there was probably meant to be this one.
    pub(super) fn is_mistyped(&self, key: &'static str) -> bool {
        let keys = self.kind.keys();
        self.table.keys().any(|name| {
            let name = name.get_ref().as_ref();
            !keys.contains(&name) && nearest(name, keys.iter().copied()) == Some(key)
        })
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

    /// Reports the keys that nobody took; whether there were any.
    pub(super) fn finish(self, report: &mut Report<'_>) -> bool {
        let mut has_unknown = false;
        #[cfg(test)]
        misplaced::check_asked(self.kind, &self.known);
        for (name, entry) in self.entries() {
            if self.known.contains(&name) {
                continue;
            }
            has_unknown = true;
            if report.only_counts(&entry.key_span) {
                report.add(&entry.key_span, "", "", "");
                continue;
            }
            if let Some(Misplaced { message, help }) = self.misplaced(name, &entry, report) {
                report.add(&entry.key_span, &entry.path, message, help);
                continue;
            }
            let help = did_you_mean(name, self.known.iter().copied(), || {
                self.key_elsewhere(name, &entry, report).unwrap_or_else(|| {
                    let asked = self.kind.keys().iter().filter(|key| self.known.contains(key));
                    format!("known here: {}", listed(asked.copied()))
                })
            });
            report.add(&entry.key_span, &entry.path, "unknown key", help);
        }
        has_unknown
    }

    /// What to say of an entry that this table does not have, if another one has it.
    pub(super) fn misplaced(
        &self,
        name: &str,
        entry: &Entry<'_>,
        report: &Report<'_>,
    ) -> Option<Misplaced> {
        misplaced::of(name, entry, self.kind, report)
    }

    /// A key of another table that was mistyped, and where it belongs.
    fn key_elsewhere(&self, name: &str, entry: &Entry<'_>, report: &Report<'_>) -> Option<String> {
        let meant = nearest(name, all_keys())?;
        let Misplaced { message, .. } = self.misplaced(meant, entry, report)?;
        Some(format!("did you mean `{meant}`, {message}"))
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
        message: impl AsRef<str>,
        help: impl AsRef<str>,
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
            let help = did_you_mean(text, all(), || format!("one of: {}", listed(all())));
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
            let example = match self.value {
                DeValue::Integer(number) => format!("\"{}s\"", number.as_str()),
                _ => "\"10s\"".to_owned(),
            };
            self.wrong_type(report, "a duration", &example);
            return None;
        };
        match duration::read(text, &range) {
            Ok(value) => Some(value),
            Err((message, help)) => {
                self.report(report, message, help);
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
    pub(super) fn section(
        &self,
        kind: Table,
        report: &mut Report<'_>,
        example: &str,
    ) -> Option<Section<'t>> {
        if let Some(table) = self.value.as_table() {
            return Some(Section::new(kind, self.path.clone(), self.span.clone(), table));
        }
        if self
            .value
            .as_array()
            .is_some_and(|array| array.iter().all(|one| one.get_ref().is_table()))
            && report.is_in_header(&self.key_span)
        {
            let help = format!("write {}, with one bracket on each side", kind.header());
            report.add(&self.key_span, &self.path, "a list of tables, where one belongs", help);
            return None;
        }
        self.wrong_type(report, "a table", example);
        None
    }
}

fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {type_name}")
}
