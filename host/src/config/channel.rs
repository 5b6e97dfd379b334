//! Reads channels, what feeds them, and the grants that open them.

use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use duende_core::wire::link::CHANNELS_MAX;
use rustix::io::Errno;

use crate::source::StartAt;

use super::diagnostic::Report;
use super::look;
use super::misplaced::Misplaced;
use super::model::{ChannelConfig, Grants, Source, TailConfig};
use super::names::{NAME_FORM, is_name};
use super::reader::Entry;
use super::reading::{FROM_1_MS, FROM_ZERO, Reading};
use super::schema::Table;
use super::suggest::{did_you_mean, listed};

/// The channels of a daemon.
#[derive(Default)]
pub(super) struct Channels {
    /// Those that can be read, in the order of their names.
    pub(super) configs: Vec<ChannelConfig>,
    /// Where one is fed from standard input.
    pub(super) stdin_span: Option<Range<usize>>,
    /// All names that are there, what is wrong with their channels or not, and where they stand.
    named: Vec<(String, Range<usize>)>,
    /// Not even the names can be read.
    is_unknown: bool,
}

impl Channels {
    /// Warns of those that have a source and nobody to read it.
    pub(super) fn warn_of_ungranted(&self, path: &str, report: &mut Report<'_>) {
        for channel in self.configs.iter().filter(|channel| !channel.granted) {
            let name = &channel.name;
            let Some((_, span)) = self.named.iter().find(|(named, _)| named == name) else {
                continue;
            };
            let message = "it has a source and no grant, so the daemon can't read it";
            let help = format!("add \"channel:{name}\" to `grant`, or remove the channel");
            report.warn(span, &format!("{path}.channel.{name}"), message, help);
        }
    }
}

/// Reads the channels, none of them granted yet.
pub(super) fn read_channels(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Channels {
    let example = "{ lines = { from = { tail = \"access.log\" } } }";
    let Some(section) = entry.section(Table::Channels, report, example) else {
        return Channels { is_unknown: true, ..Channels::default() };
    };
    let mut channels = Channels::default();
    for (name, entry) in section.entries() {
        if let Some(Misplaced { message, help }) = section.misplaced(name, &entry, report)
            && !entry.value.is_table()
        {
            report.add(&entry.key_span, &entry.path, message, help);
            continue;
        }
        channels.named.push((name.to_owned(), entry.key_span.clone()));
        if !is_name(name) {
            report.add(&entry.key_span, &entry.path, format!("`{name}` is not a name"), NAME_FORM);
        }
        if channels.configs.len() == CHANNELS_MAX {
            let message = format!("more than {CHANNELS_MAX} channels");
            report.add(&entry.key_span, &entry.path, message, "remove some, or split the daemon");
            break;
        }
        let Some(mut channel) =
            entry.section(Table::Channel, report, "{ from = { tail = \"access.log\" } }")
        else {
            continue;
        };
        let source = match channel.take("from") {
            Some(from) => read_source(&from, reading, report),
            None => {
                let help = "add:  from = { tail = \"access.log\" }";
                channel.miss(report, "from", "this key is missing", help);
                None
            }
        };
        let start = channel.take("start");
        let rotate_wait = channel.take("rotate_wait");
        channel.finish(report);
        let source = source.map(|source| read_settings(source, start, rotate_wait, report));
        if let Some(source) = source {
            if source == Source::Stdin {
                channels.stdin_span = Some(entry.key_span.clone());
            }
            channels.configs.push(ChannelConfig { name: name.to_owned(), source, granted: false });
        }
    }
    channels
}

fn read_source(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Option<Source> {
    let mut section = entry.section(Table::Source, report, "{ tail = \"access.log\" }")?;
    let tail = section.take("tail");
    let stdin = section.take("stdin");
    let interval = section.take("interval");
    let has_unknown = section.finish(report);
    match (tail, stdin, interval) {
        // That says it all.
        (None, None, None) if has_unknown => None,
        (Some(tail), None, None) => {
            let path = reading.path(&tail, report)?;
            if let Some((message, help)) = can_never_be_followed(&path) {
                tail.report(report, message, help);
                return None;
            }
            Some(Source::Tail(TailConfig::new(path)))
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

/// Reads what else is said of a log.
fn read_settings(
    mut source: Source,
    start: Option<Entry<'_>>,
    rotate_wait: Option<Entry<'_>>,
    report: &mut Report<'_>,
) -> Source {
    let Source::Tail(tail) = &mut source else {
        for entry in start.into_iter().chain(rotate_wait) {
            let help = "leave it out: only a source of { tail = \"FILE\" } has it";
            report.add(&entry.key_span, &entry.path, "not a key of this source", help);
        }
        return source;
    };
    if let Some(entry) = start
        && let Some(text) = entry.string(report)
    {
        match text {
            "begin" => tail.start = StartAt::Beginning,
            "end" => tail.start = StartAt::End,
            _ => entry.report(report, "where does reading start?", "write \"begin\" or \"end\""),
        }
    }
    if let Some(wait) = rotate_wait.and_then(|entry| entry.duration(report, FROM_ZERO)) {
        tail.rotate_wait = wait;
    }
    source
}

/// Why what has a name can never be followed, and the way out; none if it can, or may be some time: what is
/// not there yet, or can't be read yet, is waited for.
pub(super) fn can_never_be_followed(path: &Path) -> Option<(String, &'static str)> {
    let shown = path.display();
    // Metadata open nothing: a pipe without a writer blocks nobody. What does not answer may do so later.
    let kind = match look::metadata(path)? {
        Ok(metadata) if metadata.is_file() => return None,
        Ok(metadata) => metadata.file_type(),
        Err(error) => {
            let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
            let help = if is(Errno::LOOP) {
                "name the file itself"
            } else if is(Errno::NAMETOOLONG) {
                "name it by a shorter path"
            } else {
                return None;
            };
            return Some((format!("{shown} can't be followed: {error}"), help));
        }
    };
    let (what, help) = if kind.is_dir() {
        ("a directory", "name a file in it")
    } else if kind.is_fifo() {
        ("a pipe", "name a regular file, or feed the pipe to `duende run --stdin`")
    } else if kind.is_socket() {
        ("a socket", "name a regular file")
    } else {
        ("a device", "name a regular file")
    };
    Some((format!("{shown} is {what}: it has no lines to go back to"), help))
}

/// Reads the grants, and marks the channels that are granted.
pub(super) fn read_grants(
    entry: &Entry<'_>,
    channels: &mut Channels,
    report: &mut Report<'_>,
) -> Grants {
    const WORDS: [&str; 6] = ["log", "clock", "entropy", "config", "state", "metric"];
    let mut grants = Grants::default();
    for element in entry.elements(report, "[\"log\", \"state\"]").unwrap_or_default() {
        let Some(text) = element.string(report) else {
            continue;
        };
        if let Some(name) = text.strip_prefix("channel:") {
            let mut configs = channels.configs.iter_mut();
            if let Some(channel) = configs.find(|channel| channel.name == name) {
                channel.granted = true;
            } else if channels.is_unknown || channels.named.iter().any(|(named, _)| named == name) {
                // What is wrong with it was said where it stands.
            } else {
                let names = channels.named.iter().map(|(named, _)| named.as_str());
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
                    format!("one of: {}, channel:NAME", listed(WORDS))
                });
                element.report(report, format!("unknown capability `{text}`"), help);
            }
        }
    }
    grants
}
