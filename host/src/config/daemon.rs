//! Reads one `[[daemon]]`.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use duende_core::supervise::INTENSITY_MAX;
use duende_core::wire::link::{CHANNELS_MAX, KEY_BYTES_MAX, TEXT_BYTES_MAX};

use crate::platform::Surroundings;

use super::diagnostic::Report;
use super::dirs;
use super::graph::Draft;
use super::model::{
    ChannelConfig, DaemonConfig, Grants, HealthConfig, Isolation, LinkConfig, MEMORY_BYTES,
    PRIORITY, RestartConfig, RestartPolicy, SLICE_BUDGET, START_TIMEOUT, STATE_BYTES, STOP_GRACE,
    Source, WosConfig,
};
use super::names::{NAME_FORM, RESERVED_NAME, is_name};
use super::native;
use super::reader::{Entry, Section};
use super::suggest::did_you_mean;

/// Range of durations that may be zero.
const FROM_ZERO: RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// Range of durations that must take some time.
pub(super) const FROM_1_MS: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
const DAY: Duration = Duration::from_secs(86_400);
/// Linear memory, in bytes: from one page to what 32 bits address.
const MEMORY_RANGE: RangeInclusive<u64> = 65_536..=4 << 30;
/// State, in bytes. All of it is handed over at each start, hence the upper end.
const STATE_RANGE: RangeInclusive<u64> = 1_024..=256 << 20;
/// Most retries.
const RETRIES_MAX: u32 = 10_000;
/// Most restarts that a window counts.
#[allow(clippy::cast_possible_truncation)] // 32, checked below.
const INTENSITY: u32 = INTENSITY_MAX as u32;
const _: () = assert!(INTENSITY_MAX < u32::MAX as usize);

/// What reading needs besides the text.
pub(super) struct Reading<'a> {
    /// The directory of the configuration file.
    pub(super) base: &'a Path,
    /// Variables, users, programs.
    pub(super) surroundings: &'a Surroundings,
}

impl Reading<'_> {
    /// The file that an entry names, if it is there.
    pub(super) fn existing_file(
        &self,
        entry: &Entry<'_>,
        report: &mut Report<'_>,
    ) -> Option<PathBuf> {
        let path = self.path(entry, report)?;
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Some(path),
            Ok(_) => entry.report(
                report,
                format!("{} is not a file", path.display()),
                "name a file",
            ),
            Err(error) => missing(entry, report, &path, &error),
        }
        None
    }

    /// The directory that an entry names, if it is there.
    pub(super) fn existing_dir(
        &self,
        entry: &Entry<'_>,
        report: &mut Report<'_>,
    ) -> Option<PathBuf> {
        let path = self.path(entry, report)?;
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => return Some(path),
            Ok(_) => {
                let message = format!("{} is not a directory", path.display());
                entry.report(report, message, "name a directory");
            }
            Err(error) => missing(entry, report, &path, &error),
        }
        None
    }

    /// The path that an entry names, whether it is there or not.
    fn path(&self, entry: &Entry<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
        let text = entry.string(report)?;
        if text.is_empty() {
            entry.report(report, "an empty path", "name a file or directory");
            return None;
        }
        Some(dirs::join(self.base, text))
    }
}

fn missing(entry: &Entry<'_>, report: &mut Report<'_>, path: &Path, error: &std::io::Error) {
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{}: {error}", path.display()),
    };
    entry.report(
        report,
        message,
        "paths are relative to the directory of the configuration file",
    );
}

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

const POLICIES: [(&str, RestartPolicy); 4] = [
    ("never", RestartPolicy::Never),
    ("on-failure", RestartPolicy::OnFailure),
    ("always", RestartPolicy::Always),
    ("unless-stopped", RestartPolicy::UnlessStopped),
];

/// Reads one daemon. What could not be read has its default, and was reported.
pub(super) fn read(
    mut section: Section<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Draft {
    "daemon".clone_into(&mut section.path);
    let (name, name_span) = read_name(&mut section, report);
    if !name.is_empty() {
        section.path = format!("daemon.{name}");
    }

    let stop_grace = section
        .take("stop_grace")
        .and_then(|entry| entry.duration(report, FROM_ZERO));
    let start_timeout = section
        .take("start_timeout")
        .and_then(|entry| entry.duration(report, FROM_1_MS));
    let isolation = read_isolation(&mut section, reading, report);
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
    let (mut channels, stdin_span) = contract_key("channel", report)
        .map(|entry| read_channels(&entry, reading, report))
        .unwrap_or_default();
    let grants = contract_key("grant", report)
        .map(|entry| read_grants(&entry, &mut channels, report))
        .unwrap_or_default();
    let health = contract_key("health", report)
        .and_then(|entry| entry.section(report, "{ period = \"10s\" }"))
        .map(|section| read_health(section, report))
        .unwrap_or_default();
    let config = contract_key("config", report)
        .and_then(|entry| read_config(&entry, report))
        .unwrap_or_default();
    let restart = section
        .take("restart")
        .and_then(|entry| entry.section(report, "{ policy = \"on-failure\" }"))
        .map(|section| read_restart(section, report))
        .unwrap_or_default();
    section.finish(report);

    let config = DaemonConfig {
        name,
        isolation,
        depends_on: Vec::new(),
        grants,
        channels,
        stop_grace: stop_grace.unwrap_or(STOP_GRACE),
        start_timeout: start_timeout.unwrap_or(START_TIMEOUT),
        health,
        restart,
        config,
    };
    Draft {
        config,
        name_span,
        depends_on,
        stdin_span,
    }
}

fn read_name(section: &mut Section<'_>, report: &mut Report<'_>) -> (String, Range<usize>) {
    let Some(entry) = section.take("name") else {
        report.add(
            &section.span,
            "daemon.name",
            "this key is missing",
            "add:  name = \"web\"",
        );
        return (String::new(), section.span.clone());
    };
    let Some(name) = entry.string(report) else {
        return (String::new(), entry.span);
    };
    if !is_name(name) {
        entry.report(report, format!("`{name}` is not a name"), NAME_FORM);
        return (String::new(), entry.span);
    }
    if name == RESERVED_NAME {
        let message = "this name is reserved for the log of the manager itself";
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
            entry.report(
                report,
                format!("isolation `{word}` is not in this version"),
                help,
            );
        }
        Some(wanted)
    });

    let wos = match wanted {
        Some(Wanted::Wos) => true,
        Some(Wanted::Native) => false,
        Some(Wanted::Later) | None => image.is_some(),
    };
    match (&image, &program) {
        (None, None) => {
            let help = "add:  image = \"daemon.wasm\"  for a component, or  command = [\"daemon\"]  \
                        for a native program";
            report.add(&section.span, &section.path, "nothing to run", help);
        }
        (Some(image), Some(program)) => {
            let extra = if wos { program } else { image };
            let help = "keep `image` for a component, or `command` for a native program";
            report.add(
                &extra.key_span,
                &extra.path,
                "both `image` and `command`",
                help,
            );
        }
        (Some(image), None) if !wos => {
            let help = "use isolation = \"wos\", or `command` for a native program";
            report.add(
                &image.key_span,
                &image.path,
                "a component does not run natively",
                help,
            );
        }
        (None, Some(program)) if wos => {
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

    if wos {
        let image = image.and_then(|entry| reading.existing_file(&entry, report));
        Isolation::Wos(read_wos(section, image.unwrap_or_default(), report))
    } else {
        Isolation::Native(native::read(section, program, reading, report))
    }
}

fn read_wos(section: &mut Section<'_>, image: PathBuf, report: &mut Report<'_>) -> WosConfig {
    for key in [
        "args",
        "env",
        "env_file",
        "working_dir",
        "user",
        "group",
        "link",
    ] {
        let help = "remove the key; what a component needs to know goes into [daemon.config]";
        section.refuse(report, key, "a component has no such thing", help);
    }
    let why = "a component is ready when its `init` returns";
    section.refuse(report, "ready", why, "remove the key");

    let priority = section
        .take("priority")
        .and_then(|entry| entry.integer(report, 0..=7));
    let slice_budget = section
        .take("slice_budget")
        .and_then(|entry| entry.duration(report, FROM_1_MS));
    let mut memory_bytes = None;
    let mut state_bytes = None;
    if let Some(mut limits) = take_limits(section, report) {
        memory_bytes = limits
            .take_either(report, "memory_bytes", "memory_limit")
            .and_then(|entry| entry.bytes(report, MEMORY_RANGE));
        state_bytes = limits
            .take("state_bytes")
            .and_then(|entry| entry.bytes(report, STATE_RANGE));
        let why = "a component has no descriptors";
        limits.refuse(report, "open_files_max", why, "remove the key");
        finish_limits(limits, report);
    }
    WosConfig {
        image,
        priority: priority
            .and_then(|value| u8::try_from(value).ok())
            .unwrap_or(PRIORITY),
        slice_budget: slice_budget.unwrap_or(SLICE_BUDGET),
        memory_bytes_max: memory_bytes.unwrap_or(MEMORY_BYTES),
        state_bytes_max: state_bytes.unwrap_or(STATE_BYTES),
    }
}

/// Reads `limits` of a native program: the link's, and the most open descriptors.
pub(super) fn read_native_limits(
    section: &mut Section<'_>,
    linked: bool,
    report: &mut Report<'_>,
) -> (Option<LinkConfig>, Option<u64>) {
    let mut state_bytes = None;
    let mut open_files_max = None;
    if let Some(mut limits) = take_limits(section, report) {
        for key in ["memory_bytes", "memory_limit"] {
            let why = "not enforced for native programs in this version";
            limits.refuse(
                report,
                key,
                why,
                "remove the key, or run a component on WOS",
            );
        }
        if linked {
            state_bytes = limits
                .take("state_bytes")
                .and_then(|entry| entry.bytes(report, STATE_RANGE));
        } else {
            let why = "a native program that is not built with the SDK has no state";
            limits.refuse(report, "state_bytes", why, "remove the key");
        }
        open_files_max = limits
            .take("open_files_max")
            .and_then(|entry| entry.integer(report, 16..=1 << 20));
        finish_limits(limits, report);
    }
    let link = LinkConfig {
        state_bytes_max: state_bytes.unwrap_or(STATE_BYTES),
    };
    (linked.then_some(link), open_files_max)
}

/// `limits`, or `resources` as the specification's `DaemonConfig` calls it.
fn take_limits<'t>(section: &mut Section<'t>, report: &mut Report<'_>) -> Option<Section<'t>> {
    section
        .take_either(report, "limits", "resources")?
        .section(report, "{ memory_bytes = \"64MiB\" }")
}

/// The limits of `ResourceConfig` that nothing enforces yet are refused, not ignored.
fn finish_limits(mut limits: Section<'_>, report: &mut Report<'_>) {
    for key in [
        "memory_swap_limit",
        "cpu_quota_percent",
        "cpu_shares",
        "io_read_bps",
        "io_write_bps",
        "pids_max",
    ] {
        limits.refuse(
            report,
            key,
            "not enforced in this version",
            "remove the key",
        );
    }
    limits.finish(report);
}

fn read_channels(
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
            report.add(
                &entry.key_span,
                &entry.path,
                format!("`{name}` is not a name"),
                NAME_FORM,
            );
        }
        if channels.len() == CHANNELS_MAX {
            let message = format!("more than {CHANNELS_MAX} channels");
            report.add(
                &entry.key_span,
                &entry.path,
                message,
                "remove some, or split the daemon",
            );
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
                report.add(
                    &channel.span,
                    &channel.path_of("from"),
                    "this key is missing",
                    help,
                );
                None
            }
        };
        channel.finish(report);
        if let Some(source) = source {
            if source == Source::Stdin {
                stdin_span = Some(entry.key_span.clone());
            }
            channels.push(ChannelConfig {
                name: name.to_owned(),
                source,
                granted: false,
            });
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
                stdin.report(
                    report,
                    "a channel without a source",
                    "write true, or another source",
                );
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

fn read_grants(
    entry: &Entry<'_>,
    channels: &mut [ChannelConfig],
    report: &mut Report<'_>,
) -> Grants {
    const WORDS: [&str; 6] = ["log", "clock", "entropy", "config", "state", "metric"];
    let mut grants = Grants::default();
    for element in entry
        .elements(report, "[\"log\", \"state\"]")
        .unwrap_or_default()
    {
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

fn read_health(mut section: Section<'_>, report: &mut Report<'_>) -> HealthConfig {
    let default = HealthConfig::default();
    let period = section
        .take("period")
        .and_then(|entry| entry.duration(report, FROM_1_MS));
    let timeout = section
        .take("timeout")
        .and_then(|entry| entry.duration(report, FROM_1_MS));
    let failures = section
        .take("failures")
        .and_then(|entry| entry.integer_u32(report, 1..=1_000));
    section.finish(report);
    HealthConfig {
        period: period.unwrap_or(default.period),
        timeout: timeout.unwrap_or(default.timeout),
        failures: failures.unwrap_or(default.failures),
    }
}

fn read_restart(mut section: Section<'_>, report: &mut Report<'_>) -> RestartConfig {
    let default = RestartConfig::default();
    let policy = section
        .take("policy")
        .and_then(|entry| entry.word(report, &POLICIES));
    let max_retries = section
        .take("max_retries")
        .and_then(|entry| entry.integer_u32(report, 0..=RETRIES_MAX));
    let initial_entry = section.take("backoff_initial");
    let initial = initial_entry
        .as_ref()
        .and_then(|entry| entry.duration(report, FROM_ZERO));
    let max_entry = section.take("backoff_max");
    let max = max_entry
        .as_ref()
        .and_then(|entry| entry.duration(report, FROM_ZERO));
    let stable_after = section
        .take("stable_after")
        .and_then(|entry| entry.duration(report, FROM_ZERO));
    let limit = section
        .take("limit")
        .and_then(|entry| entry.integer_u32(report, 0..=INTENSITY));
    let window = section
        .take("window")
        .and_then(|entry| entry.duration(report, FROM_ZERO));
    section.finish(report);

    let backoff_initial = initial.unwrap_or(default.backoff_initial);
    let backoff_max = max.unwrap_or(default.backoff_max);
    if backoff_initial > backoff_max {
        // The one that is written down is the one to change.
        if let Some(entry) = max_entry.or(initial_entry) {
            let initial = humantime::format_duration(backoff_initial);
            let max = humantime::format_duration(backoff_max);
            let message = format!("backoff_initial ({initial}) is more than backoff_max ({max})");
            entry.report(
                report,
                message,
                "lower backoff_initial or raise backoff_max",
            );
        }
    }
    RestartConfig {
        policy: policy.unwrap_or(default.policy),
        max_retries,
        backoff_initial,
        backoff_max,
        stable_after: stable_after.unwrap_or(default.stable_after),
        limit: limit.unwrap_or(default.limit),
        window: window.unwrap_or(default.window),
    }
}

/// Flattens `[daemon.config]`: nested tables are joined with dots; strings stay as they are, other
/// values take TOML's notation.
fn read_config(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<BTreeMap<String, String>> {
    let section = entry.section(report, "{ error_ratio_alert = 0.05 }")?;
    let mut flat = BTreeMap::new();
    let mut pending: Vec<(String, Entry<'_>)> = section
        .entries()
        .map(|(name, entry)| (name.to_owned(), entry))
        .collect();
    while let Some((key, entry)) = pending.pop() {
        if let Some(table) = entry.value.as_table() {
            let nested = Section::new(entry.path.clone(), entry.span.clone(), table);
            pending.extend(
                nested
                    .entries()
                    .map(|(name, entry)| (format!("{key}.{name}"), entry)),
            );
            continue;
        }
        let value = match entry.value {
            DeValue::String(text) => text.clone().into_owned(),
            other => notation(other),
        };
        if key.len() > KEY_BYTES_MAX {
            let message = format!("this key has {} bytes", key.len());
            report.add(
                &entry.key_span,
                &entry.path,
                message,
                format!("at most {KEY_BYTES_MAX}"),
            );
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
                .map_or_else(
                    |_| toml::Value::String(integer.to_string()),
                    toml::Value::Integer,
                ),
            DeValue::Float(float) => float.as_str().parse().map_or_else(
                |_| toml::Value::String(float.to_string()),
                toml::Value::Float,
            ),
            DeValue::Boolean(boolean) => toml::Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => toml::Value::Datetime(*datetime),
            DeValue::Array(array) => toml::Value::Array(
                array
                    .iter()
                    .map(|element| convert(element.get_ref()))
                    .collect(),
            ),
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
