//! Daemons as people read them: one line each, or all about one.

use std::fmt::Write as _;
use std::time::Duration;

use crate::control::protocol::{DaemonRow, DaemonState, EventRecord, HealthState, ManagerInfo};

use super::output::{Colour, Table, harmless, human_bytes, human_duration, human_rate, paint};

/// Longest detail in a table, in characters.
const DETAIL_CHARS_MAX: usize = 60;

/// The table of `ps`.
#[must_use]
pub fn table(rows: &[DaemonRow], colour: bool) -> String {
    let heading = [
        "NAME",
        "ISOLATION",
        "STATE",
        "RESTARTS",
        "HEALTH",
        "UPTIME",
        "MEMORY",
        "RATE",
        "PID",
        "DETAIL",
    ];
    let mut table = Table::new(&heading);
    for row in rows {
        let dash = || "-".to_owned();
        let uptime =
            row.uptime_ms.map_or_else(dash, |ms| human_duration(Duration::from_millis(ms)));
        table.row(vec![
            (harmless(&row.name), None),
            (harmless(&row.isolation), None),
            (row.state.as_str().to_owned(), Some(state_colour(row.state))),
            (row.restarts.to_string(), None),
            (health(row.health), health_colour(row.health)),
            (uptime, None),
            (row.memory_bytes.map_or_else(dash, human_bytes), None),
            (row.rate.map_or_else(dash, |rate| human_rate(rate.per_second)), None),
            (row.pid.map_or_else(dash, |pid| pid.to_string()), None),
            (cut(&detail(row)), Some(Colour::Dim)),
        ]);
    }
    table.render(colour)
}

fn health(health: HealthState) -> String {
    match health {
        HealthState::Unknown => "-".to_owned(),
        known => known.as_str().to_owned(),
    }
}

const fn state_colour(state: DaemonState) -> Colour {
    match state {
        DaemonState::Running | DaemonState::Reloading => Colour::Green,
        DaemonState::Created | DaemonState::Stopped => Colour::Dim,
        DaemonState::Waiting
        | DaemonState::Starting
        | DaemonState::Paused
        | DaemonState::Stopping
        | DaemonState::Backoff => Colour::Yellow,
        DaemonState::Blocked | DaemonState::Failed | DaemonState::Quarantined => Colour::Red,
    }
}

const fn health_colour(health: HealthState) -> Option<Colour> {
    match health {
        HealthState::Unknown => None,
        HealthState::Healthy => Some(Colour::Green),
        HealthState::Degraded => Some(Colour::Yellow),
        HealthState::Unhealthy => Some(Colour::Red),
    }
}

/// What the other columns don't say: when it comes back, what it waits for, why it ended.
fn detail(row: &DaemonRow) -> String {
    let mut parts = Vec::new();
    if let Some(ms) = row.next_restart_ms {
        parts.push(format!("again in {}", human_duration(Duration::from_millis(ms))));
    }
    if !row.waits_for.is_empty() {
        parts.push(format!("waits for {}", row.waits_for.join(", ")));
    }
    for text in [&row.detail, &row.health_detail] {
        if !text.is_empty() {
            parts.push(text.clone());
        }
    }
    let ended =
        matches!(row.state, DaemonState::Backoff | DaemonState::Failed | DaemonState::Quarantined);
    if let Some(reason) = row.last_exit.as_ref().filter(|_| ended) {
        parts.push(reason.clone());
    }
    harmless(&parts.join("; "))
}

fn cut(text: &str) -> String {
    if text.chars().count() <= DETAIL_CHARS_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(DETAIL_CHARS_MAX - 1).collect();
    short.push('…');
    short
}

/// One line about the manager.
pub(super) fn manager_line(info: &ManagerInfo) -> String {
    let uptime = human_duration(Duration::from_millis(info.uptime_ms));
    let file = info.config_file.as_deref().unwrap_or("(from flags)");
    let health = &info.health;
    let missing = match &health.missing[..] {
        [] => String::new(),
        missing => format!(" (not ready: {})", missing.join(", ")),
    };
    let text = format!(
        "fleet {}: manager {}, up {uptime}, {}{missing}, {file}",
        info.fleet,
        info.pid,
        health.status.as_str()
    );
    harmless(&text)
}

/// All about one daemon.
pub(super) fn details(row: &DaemonRow, colour: bool) -> String {
    let mut out = String::new();
    let mut add = |label: &str, text: String| {
        let _ = writeln!(out, "{label:>12}  {text}");
    };
    add("name", harmless(&row.name));
    add("isolation", harmless(&row.isolation));
    add("state", paint(row.state.as_str(), Some(state_colour(row.state)), colour));
    let detail = detail(row);
    if !detail.is_empty() {
        add("detail", detail);
    }
    add("health", paint(&health(row.health), health_colour(row.health), colour));
    if let Some(pid) = row.pid {
        let worker = row.worker_pid.map(|worker| format!(" in worker {worker}"));
        add("pid", format!("{pid}{}", worker.unwrap_or_default()));
    }
    if let Some(ms) = row.uptime_ms {
        add("uptime", human_duration(Duration::from_millis(ms)));
    }
    add("incarnation", row.incarnation.to_string());
    add("restarts", row.restarts.to_string());
    if let Some(bytes) = row.memory_bytes {
        add("memory", human_bytes(bytes));
    }
    if let Some(percent) = row.processor_percent {
        add("processor", format!("{percent:.1} %"));
    }
    if let Some(rate) = row.rate {
        let unit = match rate.unit {
            crate::control::protocol::RateUnit::Slices => "slices",
            crate::control::protocol::RateUnit::Messages => "messages",
        };
        add("rate", format!("{} ({unit})", human_rate(rate.per_second)));
    }
    if let Some(reason) = &row.last_exit {
        add("last exit", harmless(reason));
    }
    add("log", harmless(&row.log_path));
    if !row.metrics.is_empty() {
        add("metrics", String::new());
        let width = row.metrics.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &row.metrics {
            let name = harmless(name);
            let _ = writeln!(out, "{:14}{name:width$}  {value}", "");
        }
    }
    out
}

/// One event on one line.
pub(super) fn event_line(event: &EventRecord, colour: bool) -> String {
    use crate::control::protocol::EventKind;
    let style = match event.kind {
        EventKind::Running | EventKind::Healthy => Some(Colour::Green),
        EventKind::Paused
        | EventKind::Blocked
        | EventKind::Backoff
        | EventKind::Stopping
        | EventKind::SourceGap
        | EventKind::ReloadTimedOut
        | EventKind::Lagged => Some(Colour::Yellow),
        EventKind::Failed
        | EventKind::Quarantined
        | EventKind::Unhealthy
        | EventKind::Exited
        | EventKind::WorkerExited
        | EventKind::KeepExited
        | EventKind::Halted => Some(Colour::Red),
        EventKind::Started
        | EventKind::ConfigUpdated
        | EventKind::Reloading
        | EventKind::Stopped
        | EventKind::Shutdown => None,
    };
    let at = std::time::UNIX_EPOCH + Duration::from_micros(event.time_unix_us);
    let subject = if event.daemon.is_empty() { "-" } else { &event.daemon };
    let gap = 13usize.saturating_sub(event.kind.as_str().len());
    let text = format!(
        "{}  {:16} {}{:gap$} {}",
        rfc3339(at),
        harmless(subject),
        paint(event.kind.as_str(), style, colour),
        "",
        harmless(&event.detail),
    );
    text.trim_end().to_owned()
}

/// A moment as RFC 3339; one past the year 9999 as seconds.
fn rfc3339(at: std::time::SystemTime) -> String {
    const YEAR_10000_S: u64 = 253_402_300_800;
    match at.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) if since.as_secs() < YEAR_10000_S => {
            humantime::format_rfc3339_millis(at).to_string()
        }
        Ok(since) => since.as_secs().to_string(),
        Err(_) => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{EventKind, Rate, RateUnit};

    fn row() -> DaemonRow {
        DaemonRow {
            name: "flaky".into(),
            isolation: "wos".into(),
            state: DaemonState::Backoff,
            detail: String::new(),
            pid: None,
            worker_pid: None,
            incarnation: 3,
            restarts: 2,
            health: HealthState::Unknown,
            health_detail: String::new(),
            uptime_ms: None,
            memory_bytes: Some(1 << 20),
            processor_percent: None,
            rate: Some(Rate { per_second: 2.5, unit: RateUnit::Slices }),
            metrics: [("lines_total".to_owned(), 7.0)].into(),
            last_exit: Some("trap: \x1b[2Junreachable".into()),
            next_restart_ms: Some(1_500),
            log_path: "/log/flaky.log".into(),
            waits_for: vec![],
        }
    }

    #[test]
    fn a_daemon_on_one_line_and_in_full() {
        let text = table(&[row()], false);
        let cells: Vec<&str> = text
            .lines()
            .nth(1)
            .expect("row")
            .split("  ")
            .filter(|cell| !cell.is_empty())
            .map(str::trim)
            .collect();
        assert_eq!(
            cells,
            [
                "flaky",
                "wos",
                "backoff",
                "2",
                "-",
                "-",
                "1.0 MiB",
                "2.5/s",
                "-",
                "again in 1.5s; trap: \u{fffd}[2Junreachable"
            ]
        );
        let text = details(&row(), false);
        assert!(text.contains("incarnation  3\n") && text.contains("lines_total  7\n"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn an_event_on_one_line() {
        let event = EventRecord {
            time_unix_us: 1_500_000,
            daemon: "web".into(),
            incarnation: 1,
            kind: EventKind::Exited,
            detail: "signal 9".into(),
            kernel: None,
        };
        let expected = "1970-01-01T00:00:01.500Z  web              exited        signal 9";
        assert_eq!(event_line(&event, false), expected);
        let far = EventRecord { time_unix_us: u64::MAX, ..event };
        assert!(event_line(&far, false).starts_with("18446744073709  web"));
    }
}
