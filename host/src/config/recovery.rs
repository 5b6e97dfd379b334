//! Reads what follows the end of a daemon: `restart`. What a key leaves out is the core's default.

use duende_core::backoff::{Backoff, Curve, Jitter, KUBERNETES_STABLE_AFTER, Steps};
use duende_core::limiter::{RestartLimit, Window};
use duende_core::restart::{ExitRules, ExitSet, RestartPolicy};
use duende_core::supervise::INTENSITY_MAX;

use super::diagnostic::Report;
use super::model::RestartConfig;
use super::reader::{Entry, Section};
use super::reading::FROM_ZERO;
use super::signals;
use super::suggest::did_you_mean;

/// Most retries.
const RETRIES_MAX: u32 = 10_000;
/// Most steps of a backoff.
const STEPS_MAX: u32 = 1_000;
/// Most restarts that a window counts.
#[allow(clippy::cast_possible_truncation)] // 32, checked below.
pub(super) const INTENSITY: u32 = INTENSITY_MAX as u32;
const _: () = assert!(INTENSITY_MAX < u32::MAX as usize);

const POLICIES: [(&str, RestartPolicy); 4] = [
    ("never", RestartPolicy::Never),
    ("on-failure", RestartPolicy::OnFailure),
    ("always", RestartPolicy::Always),
    ("unless-stopped", RestartPolicy::UnlessStopped),
];

/// How delays grow.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Exponential,
    Steps,
    Kubernetes,
    Constant,
}

const FAMILIES: [(&str, Family); 4] = [
    ("exponential", Family::Exponential),
    ("steps", Family::Steps),
    ("kubernetes", Family::Kubernetes),
    ("constant", Family::Constant),
];
const JITTERS: [(&str, Jitter); 3] =
    [("full", Jitter::Full), ("equal", Jitter::Equal), ("none", Jitter::None)];
const WINDOWS: [(&str, Window); 2] = [("sliding", Window::Sliding), ("fixed", Window::Fixed)];

/// Reads `restart`. A component has no signals to be told apart.
pub(super) fn read_restart(
    mut section: Section<'_>,
    is_component: bool,
    report: &mut Report<'_>,
) -> RestartConfig {
    let default = RestartConfig::default();
    let policy = section.take("policy").and_then(|entry| entry.word(report, &POLICIES));
    let max_retries =
        section.take("max_retries").and_then(|entry| entry.integer_u32(report, 0..=RETRIES_MAX));
    let (backoff, family) = read_backoff(&mut section, report);
    let stable_after =
        section.take("stable_after").and_then(|entry| entry.duration(report, FROM_ZERO));
    let limit = read_limit(&mut section, default.limit, report);
    let exits = read_exits(&mut section, is_component, report);
    section.finish(report);
    RestartConfig {
        policy: policy.unwrap_or(default.policy),
        max_retries,
        backoff,
        stable_after: stable_after.unwrap_or(match family {
            Family::Kubernetes => KUBERNETES_STABLE_AFTER,
            Family::Exponential | Family::Steps | Family::Constant => default.stable_after,
        }),
        limit,
        exits,
    }
}

fn read_backoff(section: &mut Section<'_>, report: &mut Report<'_>) -> (Backoff, Family) {
    let family = section.take("backoff").and_then(|entry| entry.word(report, &FAMILIES));
    let family = family.unwrap_or(Family::Exponential);
    let unused: &[&'static str] = match family {
        Family::Exponential => &["backoff_steps"],
        Family::Steps => &[],
        Family::Kubernetes => &["backoff_initial", "backoff_max", "backoff_steps"],
        Family::Constant => &["backoff_max", "backoff_steps"],
    };
    let word = FAMILIES.iter().find(|(_, known)| *known == family).map_or("", |(word, _)| word);
    for key in unused {
        let why = format!("a backoff that is `{word}` has no such key");
        section.refuse(report, key, &why, "remove the key, or choose another backoff");
    }
    let (initial, max) = read_delays(section, unused, report);
    let steps_entry = if family == Family::Steps { section.take("backoff_steps") } else { None };
    let steps = steps_entry.as_ref().and_then(|entry| entry.integer_u32(report, 1..=STEPS_MAX));
    if family == Family::Steps && steps_entry.is_none() {
        let key = section.path_of("backoff_steps");
        report.add(&section.span, &key, "this key is missing", "add:  backoff_steps = 5");
    }
    let backoff = match family {
        Family::Exponential => Backoff::exponential(initial, max),
        Family::Steps => Backoff {
            curve: Curve::Steps(Steps::new(initial, steps.unwrap_or_default(), max)),
            jitter: Jitter::None,
        },
        Family::Kubernetes => Backoff::kubernetes(),
        Family::Constant => Backoff { curve: Curve::Constant(initial), jitter: Jitter::None },
    };
    let jitter = section.take("jitter").and_then(|entry| entry.word(report, &JITTERS));
    (Backoff { jitter: jitter.unwrap_or(backoff.jitter), ..backoff }, family)
}

/// The first and the longest delay, as far as they may be said.
fn read_delays(
    section: &mut Section<'_>,
    unused: &[&'static str],
    report: &mut Report<'_>,
) -> (std::time::Duration, std::time::Duration) {
    let mut delay = |key: &'static str, report: &mut Report<'_>| {
        let entry = if unused.contains(&key) { None } else { section.take(key) };
        let value = entry.as_ref().and_then(|entry| entry.duration(report, FROM_ZERO));
        (entry, value)
    };
    let (initial_entry, initial) = delay("backoff_initial", report);
    let (max_entry, max) = delay("backoff_max", report);
    // The ends of the default's curve.
    let default = Backoff::default();
    let initial = initial.unwrap_or_else(|| default.ceiling(0));
    let max_default = default.ceiling(u32::MAX);
    let max = max.unwrap_or(max_default);
    if initial > max && !unused.contains(&"backoff_max") {
        // The one that is written down is the one to change.
        if let Some(entry) = max_entry.or(initial_entry) {
            let message = format!(
                "backoff_initial ({}) is more than backoff_max ({})",
                humantime::format_duration(initial),
                humantime::format_duration(max)
            );
            entry.report(report, message, "lower backoff_initial or raise backoff_max");
        }
    }
    (initial, max)
}

fn read_limit(
    section: &mut Section<'_>,
    default: RestartLimit,
    report: &mut Report<'_>,
) -> RestartLimit {
    let limit = section.take("limit").and_then(|entry| entry.integer_u32(report, 0..=INTENSITY));
    let period = section.take("window").and_then(|entry| entry.duration(report, FROM_ZERO));
    let kind = section.take("window_kind").and_then(|entry| entry.word(report, &WINDOWS));
    RestartLimit {
        intensity: limit.unwrap_or(default.intensity),
        period: period.unwrap_or(default.period),
        window: kind.unwrap_or(default.window),
    }
}

fn read_exits(section: &mut Section<'_>, is_component: bool, report: &mut Report<'_>) -> ExitRules {
    let default = ExitRules::default();
    let mut set = |key: &'static str, begin: ExitSet| {
        let taken = section.take(key);
        taken.map_or(begin, |entry| read_exit_set(&entry, begin, is_component, report))
    };
    ExitRules {
        success: set("success_exit", default.success),
        prevent: set("prevent_restart_exit", default.prevent),
        force: set("force_restart_exit", default.force),
        charge_clean: default.charge_clean,
    }
}

/// Exit codes as numbers, signals by their names, on top of `begin`. No signal ends a component.
fn read_exit_set(
    entry: &Entry<'_>,
    begin: ExitSet,
    is_component: bool,
    report: &mut Report<'_>,
) -> ExitSet {
    let elements = entry.elements(report, "[75, \"SIGUSR1\"]").unwrap_or_default();
    elements.iter().fold(begin, |set, element| {
        let added = if element.value.as_str().is_some() && is_component {
            let help = "write the exit codes that it says, as numbers";
            element.report(report, "no signal ends a component", help);
            None
        } else if element.value.as_str().is_some() {
            let number = element.string(report).and_then(|name| {
                let number = signals::number(name);
                if number.is_none() {
                    let help = did_you_mean(name, signals::names(), || {
                        "write an exit code as a number, a signal as SIGTERM".to_owned()
                    });
                    element.report(report, format!("no signal is named `{name}`"), help);
                }
                number
            });
            number.map(|number| set.with_signal(number))
        } else {
            let code = element.integer_u32(report, 0..=255);
            code.and_then(|code| i32::try_from(code).ok()).map(|code| set.with_code(code))
        };
        // Both are within their ranges.
        added.and_then(Result::ok).unwrap_or(set)
    })
}
