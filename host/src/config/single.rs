//! A fleet of one component, from the flags of `duende run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use duende_core::supervise::Spec;
use duende_core::wire::link::{KEY_BYTES_MAX, TEXT_BYTES_MAX, ValueKind};

use crate::platform::Surroundings;

use super::channel::can_never_be_followed;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::dirs;
use super::fleet::{Overrides, check_socket_path};
use super::model::{
    COMMIT_INTERVAL, ChannelConfig, CompileConfig, ConfigValue, DaemonConfig, FleetConfig, Grants,
    Isolation, KILL_TIMEOUT, MEMORY_BYTES, METRICS_INTERVAL, PRIORITY, RestartConfig,
    RestartPolicy, SLICE_BUDGET, STATE_BYTES, Source, TailConfig, WosConfig, probes_default,
};
use super::names::{NAME_FORM, RESERVED_NAMES, is_name};
use super::reading::not_there;

/// What the flags of `duende run` say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SingleDaemon {
    /// The component's file.
    pub image: PathBuf,
    /// Its name; none: the file's, without its extension.
    pub name: Option<String>,
    /// Capabilities as in the file; none at all means all of them.
    pub grants: Vec<String>,
    /// Channels by name.
    pub channels: Vec<(String, SingleSource)>,
    /// `[daemon.config]`.
    pub config: Vec<(String, String)>,
    /// What follows its end; none: nothing.
    pub restart: Option<RestartPolicy>,
}

/// What feeds a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SingleSource {
    /// The lines that are appended to a file.
    Tail(PathBuf),
    /// The lines of standard input.
    Stdin,
    /// An empty message, once in each period.
    Interval(Duration),
}

/// The value of a flag: a number or a truth value if it reads like one in a file, else a text.
fn said(text: &str) -> ConfigValue {
    let kind = match text {
        "true" | "false" => ValueKind::Boolean,
        _ if text.parse::<i64>().is_ok() => ValueKind::Integer,
        _ if text.contains('.') && text.parse::<f64>().is_ok() => ValueKind::Number,
        _ => ValueKind::Text,
    };
    ConfigValue { kind, text: text.to_owned() }
}

/// Checks what the flags say and fills in the rest. The fleet has the daemon's name.
///
/// # Errors
/// Everything that is wrong with the flags.
pub fn single(
    options: &SingleDaemon,
    overrides: &Overrides,
    surroundings: &Surroundings,
) -> Result<FleetConfig, Diagnostics> {
    let mut problems = Vec::new();
    let mut report = |key: &str, value: &str, message: String, help: &str| {
        let value = Some(value);
        problems.push(Diagnostic::new(Severity::Error, None, None, (key, value), &message, help));
    };

    let image = dirs::absolute(&options.image);
    let shown = image.display().to_string();
    match std::fs::metadata(&image) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => report("IMAGE", &shown, format!("{shown} is not a file"), "name a component"),
        Err(error) => {
            let help = "name a component, a file that ends in .wasm";
            report("IMAGE", &shown, not_there(&image, &error), help);
        }
    }

    let name = options.name.clone().unwrap_or_else(|| name_of(&image));
    if !is_name(&name) {
        report("--name", &name, format!("`{name}` is not a name"), NAME_FORM);
    }
    if RESERVED_NAMES.contains(&name.as_str()) {
        let message = "this name is reserved for a log of the manager itself".to_owned();
        report("--name", &name, message, "choose another name");
    }
    let runtime_dir = dirs::runtime_dir(surroundings);
    if let Err(message) = check_socket_path(&runtime_dir, &name) {
        report("--name", &name, message, "set DUENDE_RUNTIME_DIR to a shorter path");
    }

    let mut channels: Vec<ChannelConfig> = Vec::new();
    for (channel, source) in &options.channels {
        if !is_name(channel) {
            report("--channel", channel, format!("`{channel}` is not a name"), NAME_FORM);
        }
        if channels.iter().any(|other| other.name == *channel) {
            let message = format!("two sources for the channel `{channel}`");
            report("--channel", channel, message, "a channel has exactly one source");
        }
        let source = match source {
            SingleSource::Tail(path) => {
                let path = dirs::absolute(path);
                let shown = path.display().to_string();
                if let Some((message, help)) = can_never_be_followed(&path) {
                    report("--tail", &shown, message, help);
                }
                Source::Tail(TailConfig::new(path))
            }
            SingleSource::Stdin => Source::Stdin,
            SingleSource::Interval(period) => Source::Interval(*period),
        };
        // Whoever names a source on the command line means the daemon to read it.
        channels.push(ChannelConfig { name: channel.clone(), source, granted: true });
    }
    channels.sort_by(|a, b| a.name.cmp(&b.name));

    let all = options.grants.is_empty();
    let mut grants = Grants { log: all, state: all, metric: all };
    for grant in &options.grants {
        match grant.as_str() {
            "log" => grants.log = true,
            "state" => grants.state = true,
            "metric" => grants.metric = true,
            "clock" | "entropy" | "config" => {}
            other => {
                let help = "one of: log, state, metric, clock, entropy, config; a channel is granted \
                            by naming its source";
                report("--grant", other, format!("unknown capability `{other}`"), help);
            }
        }
    }

    let mut config = BTreeMap::new();
    for (key, value) in &options.config {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > TEXT_BYTES_MAX {
            let message = format!("key of {} bytes, value of {}", key.len(), value.len());
            report("--config", key, message, "keys have 1 to 256 bytes, values at most 8192");
        }
        if config.insert(key.clone(), said(value)).is_some() {
            report("--config", key, format!("`{key}` is given twice"), "give it once");
        }
    }

    if !problems.is_empty() {
        return Err(Diagnostics { problems, more: 0 });
    }
    let state_dir = match &overrides.state_dir {
        Some(flag) => dirs::absolute(flag),
        None => dirs::state_dir(surroundings, &name),
    };
    let log_dir = match &overrides.log_dir {
        Some(flag) => dirs::absolute(flag),
        None => dirs::log_dir(surroundings, &name, &state_dir),
    };
    let default = Spec::default();
    let daemon = DaemonConfig {
        name: name.clone(),
        isolation: Isolation::Wos(WosConfig {
            image,
            priority: PRIORITY,
            slice_budget: SLICE_BUDGET,
            memory_bytes_max: MEMORY_BYTES,
            state_bytes_max: STATE_BYTES,
        }),
        depends_on: Vec::new(),
        grants,
        channels,
        stop_grace: default.stop_grace,
        kill_timeout: KILL_TIMEOUT,
        start_timeout: default.start_timeout,
        reload_timeout: default.reload_timeout,
        watchdog: None,
        member_of: None,
        health: probes_default(),
        restart: RestartConfig {
            policy: options.restart.unwrap_or(RestartPolicy::Never),
            ..RestartConfig::default()
        },
        config,
    };
    Ok(FleetConfig {
        name,
        file: None,
        state_dir,
        log_dir,
        runtime_dir,
        cache_dir: dirs::cache_dir(surroundings),
        compile: CompileConfig::default(),
        metrics_interval: METRICS_INTERVAL,
        commit_interval: COMMIT_INTERVAL,
        groups: Vec::new(),
        daemons: vec![daemon],
    })
}

/// A name made from a file's: lower case, and `-` for what a name can't hold.
fn name_of(image: &Path) -> String {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    stem.chars()
        .map(|character| match character.to_ascii_lowercase() {
            fit @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => fit,
            _ => '-',
        })
        .take(super::model::NAME_BYTES_MAX)
        .collect()
}
