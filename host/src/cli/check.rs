//! `duende check`: the configuration, and the components that it names.

use std::path::Path;

use serde_json::json;
use wos_kernel::engine::describe_names;

use crate::config::{
    self, Checked, DaemonConfig, FleetConfig, Isolation, Overrides, RestartPolicy,
};
use crate::image::{CachedImage, Settings};
use crate::platform::Surroundings;

use super::error::CliError;
use super::exit_code::ExitCode;
use super::images;
use super::output::{self, Colour, Progress, Table};

/// What was found of one daemon.
struct Finding<'f> {
    daemon: &'f DaemonConfig,
    /// Of a component: what it is, or why it can't run.
    image: Option<Result<ImageReport, String>>,
}

/// What is learned of a component.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
struct ImageReport {
    /// The contract that it implements, as `duende:daemon@0.1.0`.
    contract: String,
    /// The capabilities that it imports: `log`, `state`, `channel`, …
    imports: Vec<String>,
    /// Its size, in bytes.
    bytes: u64,
}

impl ImageReport {
    /// Of a daemon's image, unless the daemon could never begin with it.
    fn of(image: &CachedImage, memory_bytes_max: u64) -> Result<Self, String> {
        let survey = &image.survey;
        if survey.memory_bytes > memory_bytes_max {
            return Err(format!(
                "it begins with {} bytes of memory, and this daemon may have {memory_bytes_max}: raise \
                 limits.memory_bytes",
                survey.memory_bytes
            ));
        }
        Ok(Self {
            contract: format!("duende:daemon@{}", survey.contract),
            imports: describe_names(&survey.imports),
            bytes: image.bytes,
        })
    }
}

impl Finding<'_> {
    /// What it imports and is not granted. That is allowed, and its calls are denied.
    fn denied(&self) -> Vec<&str> {
        let Some(Ok(report)) = &self.image else {
            return Vec::new();
        };
        let grants = &self.daemon.grants;
        let granted = |import: &str| match import {
            "log" => grants.log,
            "state" => grants.state,
            "metric" => grants.metric,
            "channel" => self.daemon.channels.iter().any(|channel| channel.granted),
            _ => true,
        };
        report.imports.iter().map(String::as_str).filter(|import| !granted(import)).collect()
    }
}

pub(super) fn check(
    file: &Path,
    json: bool,
    surroundings: &Surroundings,
) -> Result<ExitCode, CliError> {
    let Checked { fleet, warnings, .. } = config::check(file, &Overrides::default(), surroundings)?;
    let wos = |daemon: &DaemonConfig| match &daemon.isolation {
        Isolation::Wos(wos) => Some(wos.clone()),
        Isolation::Native(_) => None,
    };
    let paths = fleet.daemons.iter().filter_map(wos).map(|wos| wos.image).collect();
    let mut progress = Progress::new("looking into components");
    let made = images::make(Settings::of(&fleet), paths, &mut || progress.tick())?;
    drop(progress);
    let mut made = made.into_iter();
    let findings: Vec<Finding<'_>> = fleet
        .daemons
        .iter()
        .map(|daemon| {
            let image = wos(daemon).and_then(|wos| {
                let made = made.next()?.map_err(|error| error.to_string());
                Some(made.and_then(|image| ImageReport::of(&image, wos.memory_bytes_max)))
            });
            Finding { daemon, image }
        })
        .collect();
    let bad = findings.iter().any(|finding| matches!(finding.image, Some(Err(_))));

    if json {
        let daemons: Vec<_> = findings
            .iter()
            .map(|finding| {
                let (report, error) = match &finding.image {
                    Some(Ok(report)) => (Some(report), None),
                    Some(Err(error)) => (None, Some(error)),
                    None => (None, None),
                };
                json!({
                    "name": finding.daemon.name,
                    "isolation": finding.daemon.isolation.as_str(),
                    "image": report,
                    "error": error,
                    "imports_denied": finding.denied(),
                    "restart": supervision(finding.daemon, &fleet),
                })
            })
            .collect();
        output::json(&json!({
            "valid": !bad,
            "fleet": fleet.name,
            "daemons": daemons,
            "warnings": warnings,
        }))?;
    } else {
        for warning in &warnings {
            output::line(&format!("{warning}\n"))?;
        }
        output::painted(render(&fleet, &findings, output::stdout_has_colour()).trim_end())?;
        let verdict = if bad { "not valid" } else { "valid" };
        output::line(&format!("{}: {verdict}", file.display()))?;
    }
    Ok(if bad { ExitCode::ConfigInvalid } else { ExitCode::Success })
}

/// What follows its end, and how trouble is noticed, in a few words.
fn supervision(daemon: &DaemonConfig, fleet: &FleetConfig) -> String {
    let restart = &daemon.restart;
    let time = |time| humantime::format_duration(time).to_string();
    let (first, last) = (restart.backoff.ceiling(0), restart.backoff.ceiling(u32::MAX));
    let delay =
        if first == last { time(first) } else { format!("{}..{}", time(first), time(last)) };
    let policy = match restart.policy {
        RestartPolicy::Never => "never",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Always => "always",
        RestartPolicy::UnlessStopped => "unless-stopped",
    };
    let limit = restart.limit;
    let mut text = format!("{policy} after {delay}");
    if !limit.period.is_zero() {
        text += &format!(", {} in {}", limit.intensity, time(limit.period));
    }
    if let Some(watchdog) = daemon.watchdog {
        text += &format!(", watchdog {}", time(watchdog));
    }
    if let Some(group) = daemon.member_of.and_then(|index| fleet.groups.get(index)) {
        text += &format!(", in {}", group.name);
    }
    text
}

fn render(fleet: &FleetConfig, findings: &[Finding<'_>], colour: bool) -> String {
    let mut table = Table::new(&["DAEMON", "ISOLATION", "RUNS", "RESTART", "RESULT"]);
    for finding in findings {
        let runs = match &finding.daemon.isolation {
            Isolation::Wos(wos) => &wos.image,
            Isolation::Native(native) => &native.program,
        };
        let denied = finding.denied();
        let (result, style) = match &finding.image {
            Some(Err(error)) => (error.clone(), Colour::Red),
            Some(Ok(_)) if !denied.is_empty() => {
                let list = denied.join(", ");
                (format!("imports {list} without a grant: such calls are denied"), Colour::Yellow)
            }
            Some(Ok(report)) => (report.contract.clone(), Colour::Green),
            None => ("ok".to_owned(), Colour::Green),
        };
        table.row(vec![
            (finding.daemon.name.clone(), None),
            (finding.daemon.isolation.as_str().to_owned(), None),
            (output::harmless(&runs.display().to_string()), None),
            (supervision(finding.daemon, fleet), None),
            (output::harmless(&result), Some(style)),
        ]);
    }
    table.render(colour)
}
