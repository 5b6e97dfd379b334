//! Reads how trouble is noticed: `health`.
//!
//! The keys at the top are those of liveness, which most daemons need and nothing else. A daemon with
//! a startup probe is started once that succeeds; one with a readiness probe satisfies those that
//! depend on it while that does.

use std::time::Duration;

use duende_core::probe::{ProbeKind, ProbeSpec, Probes};

use super::diagnostic::Report;
use super::reader::Section;
use super::reading::{FROM_1_MS, FROM_ZERO};
use super::schema::Table;

/// Most answers in a row that count as one.
const THRESHOLD_MAX: u32 = 1_000;
const EXAMPLE: &str = "{ period = \"10s\" }";

/// Reads `health`.
pub(super) fn read_health(mut section: Section<'_>, report: &mut Report<'_>) -> Probes {
    let top = read_probe(&mut section, ProbeKind::Liveness, report);
    let mut table = |key: &'static str, kind: ProbeKind, report: &mut Report<'_>| {
        let entry = section.take(key)?;
        let mut probe = entry.section(Table::Probe, report, EXAMPLE)?;
        let (spec, _) = read_probe(&mut probe, kind, report);
        probe.finish(report);
        Some((entry, spec))
    };
    let startup = table("startup", ProbeKind::Startup, report).map(|(_, spec)| spec);
    let liveness = table("liveness", ProbeKind::Liveness, report);
    let readiness = table("readiness", ProbeKind::Readiness, report).map(|(_, spec)| spec);
    let liveness = match (liveness, top) {
        (Some((entry, spec)), (_, is_said)) => {
            if is_said {
                let message = "liveness is said twice: here, and by the keys of `health` itself";
                report.add(&entry.key_span, &entry.path, message, "keep one of the two");
            }
            spec
        }
        (None, (spec, _)) => spec,
    };
    section.finish(report);
    Probes { startup, liveness: Some(liveness), readiness }
}

/// Reads the keys of one probe, and whether there were any.
fn read_probe(
    section: &mut Section<'_>,
    kind: ProbeKind,
    report: &mut Report<'_>,
) -> (ProbeSpec, bool) {
    let default = ProbeSpec::default();
    let initial_delay = section.take("initial_delay");
    let period = section.take("period");
    let timeout = section.take("timeout");
    let failures = section.take("failures");
    let successes = if kind == ProbeKind::Readiness {
        section.take("successes")
    } else {
        let why = "only readiness can ask for several successes in a row";
        section.refuse(report, "successes", why, "remove the key, or set health.readiness");
        None
    };
    let is_said = [&initial_delay, &period, &timeout, &failures].iter().any(|key| key.is_some());
    let period = period.and_then(|entry| entry.duration(report, FROM_1_MS));
    let period = period.unwrap_or(default.period);
    let first = match kind {
        // A daemon that has said that it is up is asked after a period, not at once.
        ProbeKind::Liveness => period,
        ProbeKind::Startup | ProbeKind::Readiness => Duration::ZERO,
    };
    let mut count = |entry: Option<super::reader::Entry<'_>>| {
        entry.and_then(|entry| entry.integer_u32(report, 1..=THRESHOLD_MAX))
    };
    let failure_threshold = count(failures).unwrap_or(default.failure_threshold);
    let success_threshold = count(successes).unwrap_or(default.success_threshold);
    let initial_delay = initial_delay.and_then(|entry| entry.duration(report, FROM_ZERO));
    let timeout = timeout.and_then(|entry| entry.duration(report, FROM_1_MS));
    let spec = ProbeSpec {
        initial_delay: initial_delay.unwrap_or(first),
        period,
        timeout: timeout.unwrap_or(default.timeout),
        failure_threshold,
        success_threshold,
    };
    (spec, is_said)
}
