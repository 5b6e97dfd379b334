//! Reads channels, what feeds them, and the grants that open them.

use std::ops::Range;
use std::path::Path;

use duende_core::wire::link::CHANNELS_MAX;

use super::diagnostic::Report;
use super::model::{ChannelConfig, Grants, Source};
use super::names::{NAME_FORM, is_name};
use super::reader::Entry;
use super::reading::{FROM_1_MS, Reading};
use super::suggest::did_you_mean;

/// Reads the channels, none of them granted yet, and where one is fed from standard input.
pub(super) fn read_channels(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> (Vec<ChannelConfig>, Option<Range<usize>>) {
    let example = "{ lines = { from = { tail = \"access.log\" } } }";
    let Some(section) = entry.section(report, example) else {
        return (Vec::new(), None);
    };
    let mut channels = Vec::new();
    let mut stdin_span = None;
    for (name, entry) in section.entries() {
        if !is_name(name) {
            report.add(&entry.key_span, &entry.path, format!("`{name}` is not a name"), NAME_FORM);
        }
        if channels.len() == CHANNELS_MAX {
            let message = format!("more than {CHANNELS_MAX} channels");
            report.add(&entry.key_span, &entry.path, message, "remove some, or split the daemon");
            break;
        }
        let Some(mut channel) = entry.section(report, "{ from = { tail = \"access.log\" } }")
        else {
            continue;
        };
        let source = match channel.take("from") {
            Some(from) => read_source(&from, reading, report),
            None => {
                let help = "add:  from = { tail = \"access.log\" }";
                report.add(&channel.span, &channel.path_of("from"), "this key is missing", help);
                None
            }
        };
        channel.finish(report);
        if let Some(source) = source {
            if source == Source::Stdin {
                stdin_span = Some(entry.key_span.clone());
            }
            channels.push(ChannelConfig { name: name.to_owned(), source, granted: false });
        }
    }
    (channels, stdin_span)
}

fn read_source(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Option<Source> {
    let mut section = entry.section(report, "{ tail = \"access.log\" }")?;
    let tail = section.take("tail");
    let stdin = section.take("stdin");
    let interval = section.take("interval");
    section.finish(report);
    match (tail, stdin, interval) {
        (Some(tail), None, None) => {
            let path = reading.path(&tail, report)?;
            // The file may come later; a directory that is not there is a typing error.
            let directory = path.parent().unwrap_or(Path::new("/"));
            if !directory.is_dir() {
                let message = format!("the directory {} does not exist", directory.display());
                tail.report(report, message, "create it, or correct the path");
                return None;
            }
            if path.is_dir() {
                let message = format!("{} is a directory", path.display());
                tail.report(report, message, "name a file in it");
                return None;
            }
            Some(Source::Tail(path))
        }
        (None, Some(stdin), None) => {
            if !stdin.boolean(report)? {
                stdin.report(report, "a channel without a source", "write true, or another source");
                return None;
            }
            Some(Source::Stdin)
        }
        (None, None, Some(interval)) => interval.duration(report, FROM_1_MS).map(Source::Interval),
        _ => {
            let help = "write { tail = \"FILE\" }, { stdin = true } or { interval = \"1s\" }";
            entry.report(report, "a channel has exactly one source", help);
            None
        }
    }
}

/// Reads the grants, and marks the channels that are granted.
pub(super) fn read_grants(
    entry: &Entry<'_>,
    channels: &mut [ChannelConfig],
    report: &mut Report<'_>,
) -> Grants {
    const WORDS: [&str; 6] = ["log", "clock", "entropy", "config", "state", "metric"];
    let mut grants = Grants::default();
    for element in entry.elements(report, "[\"log\", \"state\"]").unwrap_or_default() {
        let Some(text) = element.string(report) else {
            continue;
        };
        if let Some(name) = text.strip_prefix("channel:") {
            if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
                channel.granted = true;
            } else {
                let names = channels.iter().map(|channel| channel.name.as_str());
                let help = did_you_mean(name, names, || {
                    format!("add:  [daemon.channel.{name}]  from = {{ tail = \"FILE\" }}")
                });
                element.report(report, format!("no channel `{name}` is configured"), help);
            }
            continue;
        }
        match text {
            "log" => grants.log = true,
            "state" => grants.state = true,
            "metric" => grants.metric = true,
            // Always granted; naming them says what a daemon uses.
            "clock" | "entropy" | "config" => {}
            _ => {
                let help = did_you_mean(text, WORDS, || {
                    format!("one of: {}, channel:NAME", WORDS.join(", "))
                });
                element.report(report, format!("unknown capability `{text}`"), help);
            }
        }
    }
    grants
}
