//! Daemons as people read them: one line each, or all about one.

use std::fmt::Write as _;
use std::time::Duration;

use crate::control::protocol::{DaemonRow, DaemonState, EventRecord, HealthState, ManagerInfo};

use super::output::{Colour, Table, harmless, human_bytes, human_duration, human_rate, paint};

/// Longest detail in a table, in characters.
const DETAIL_CHARS_MAX: usize = 60;
/// A reader that is less behind is not worth a word among others: it has a batch in hand.
const LAG_BYTES_SHOWN: u64 = 1 << 20;

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
        DaemonState::Starting
        | DaemonState::Waiting
        | DaemonState::Compiling
        | DaemonState::Blocked
        | DaemonState::Paused
        | DaemonState::Stopping
        | DaemonState::Backoff => Colour::Yellow,
        DaemonState::Failed | DaemonState::Quarantined | DaemonState::Held => Colour::Red,
        // Of a later version: somebody should know of it, nobody has to act.
        DaemonState::Other(_) => Colour::Yellow,
    }
}

const fn health_colour(health: HealthState) -> Option<Colour> {
    match health {
        HealthState::Unknown | HealthState::Other(_) => None,
        HealthState::Healthy => Some(Colour::Green),
        HealthState::Degraded => Some(Colour::Yellow),
        HealthState::Unhealthy => Some(Colour::Red),
    }
}

/// What the other columns don't say: the cause first, because the end may be cut; then what follows
/// from it.
fn detail(row: &DaemonRow) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        if !text.is_empty() && !parts.iter().any(|part| part.contains(text)) {
            parts.push(text.to_owned());
        }
    };
    add(&row.reason);
    let ended = matches!(
        row.state,
        DaemonState::Backoff | DaemonState::Failed | DaemonState::Quarantined | DaemonState::Held
    );
    if let Some(last) = row.last_exit.as_ref().filter(|_| ended) {
        add(last);
    }
    if !row.waits_for.is_empty() {
        add(&format!("waits for {}", row.waits_for.join(", ")));
    }
    add(&row.detail);
    for source in &row.sources {
        add(&source.unreadable);
        if source.lag_bytes >= LAG_BYTES_SHOWN {
            add(&format!("{} behind in {}", human_bytes(source.lag_bytes), source.channel));
        }
    }
    add(&row.health_detail);
    if let Some(ms) = row.next_restart_ms {
        add(&format!("again in {}", human_duration(Duration::from_millis(ms))));
    }
    harmless(&parts.join("; "))
}

/// Who it is that is not ready, and why; none: it is, or has done its work.
pub(super) fn why_not_ready(row: &DaemonRow) -> Option<String> {
    let is_settled =
        matches!(row.state, DaemonState::Running | DaemonState::Reloading | DaemonState::Stopped);
    if is_settled {
        return None;
    }
    let detail = detail(row);
    let colon = if detail.is_empty() { "" } else { ": " };
    Some(format!("{} is {}{colon}{detail}", harmless(&row.name), row.state.as_str()))
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

/// What is wrong with what daemons keep, on one line.
pub(super) fn state_line(info: &ManagerInfo) -> Option<String> {
    let fault = info.health.state_fault.as_ref()?;
    Some(format!("state of fleet {}: {}", harmless(&info.fleet), harmless(fault)))
}

/// All about one daemon.
pub(super) fn details(row: &DaemonRow, colour: bool) -> String {
    let mut out = String::new();
    let mut add = |label: &str, text: String| {
        let _ = writeln!(out, "{label:>12}  {text}");
    };
    add("name", harmless(&row.name));
    add("isolation", harmless(&row.isolation));
    let since =
        row.since_ms.map(|ms| format!(" for {}", human_duration(Duration::from_millis(ms))));
    let state = paint(row.state.as_str(), Some(state_colour(row.state)), colour);
    add("state", format!("{state}{}", since.unwrap_or_default()));
    let detail = detail(row);
    if !detail.is_empty() {
        add("detail", detail);
    }
    if let Some(on) = &row.blocked_by {
        add("blocked by", harmless(on));
    }
    if !row.way_out.is_empty() {
        add("way out", harmless(&row.way_out));
    }
    if !row.command.is_empty() {
        add("command", harmless(&row.command));
    }
    if !row.policy.is_empty() {
        add("restart", harmless(&row.policy));
    }
    add("health", paint(&health(row.health), health_colour(row.health), colour));
    if let Some(pid) = row.pid {
        let worker = row.worker_pid.map(|worker| format!(" in worker {worker}"));
        add("pid", format!("{pid}{}", worker.unwrap_or_default()));
    }
    if row.processes > 1 {
        add("processes", row.processes.to_string());
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
        add("rate", format!("{} ({})", human_rate(rate.per_second), rate.unit.as_str()));
    }
    if let Some(reason) = &row.last_exit {
        add("last exit", harmless(reason));
    }
    add("log", harmless(&row.log_path));
    if row.lost_lines > 0 {
        add("lost lines", row.lost_lines.to_string());
    }
    for source in &row.sources {
        let behind = format!("{} behind", human_bytes(source.lag_bytes));
        let text = if source.unreadable.is_empty() { behind } else { harmless(&source.unreadable) };
        add("reads", format!("{}: {text}", harmless(&source.channel)));
    }
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
        EventKind::Running | EventKind::Healthy | EventKind::StateRestored => Some(Colour::Green),
        EventKind::Paused
        | EventKind::Backoff
        | EventKind::Stopping
        | EventKind::SourceGap
        | EventKind::Rejected
        | EventKind::ReloadTimedOut
        | EventKind::Lagged => Some(Colour::Yellow),
        EventKind::Failed
        | EventKind::Quarantined
        | EventKind::Held
        | EventKind::Blocked
        | EventKind::Unhealthy
        | EventKind::Exited
        | EventKind::WorkerExited
        | EventKind::KeepExited
        | EventKind::StateFault
        | EventKind::Halted
        | EventKind::LeftBehind => Some(Colour::Red),
        EventKind::Started
        | EventKind::ConfigUpdated
        | EventKind::Reloading
        | EventKind::Stopped
        | EventKind::Shutdown
        | EventKind::Other(_) => None,
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
            blocked_by: None,
            reason: String::new(),
            way_out: String::new(),
            command: String::new(),
            policy: "on-failure".into(),
            since_ms: None,
            processes: 0,
            lost_lines: 0,
            sources: vec![],
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
                "trap: \u{fffd}[2Junreachable; again in 1.5s"
            ]
        );
        let text = details(&row(), false);
        assert!(text.contains("incarnation  3\n") && text.contains("lines_total  7\n"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    /// However long the rest: what a table cuts off is not the cause.
    #[test]
    fn the_cause_comes_first_and_once() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut DaemonRow), expected: &str) {
            let mut row = DaemonRow { last_exit: Some("exit code 1".into()), ..row() };
            change(&mut row);
            assert_eq!(detail(&row), expected);
        }
        check(
            |row| row.reason = "exit code 1: no port".into(),
            "exit code 1: no port; again in 1.5s",
        );
        check(
            |row| {
                row.state = DaemonState::Blocked;
                row.reason = "waits for db, which has failed".into();
                row.waits_for = vec!["db".into()];
                row.next_restart_ms = None;
            },
            "waits for db, which has failed",
        );
        check(
            |row| {
                row.state = DaemonState::Quarantined;
                row.reason =
                    "exit code 1; quarantined: 5 restarts within 60 s were not enough".into();
                row.next_restart_ms = None;
            },
            "exit code 1; quarantined: 5 restarts within 60 s were not enough",
        );
    }

    #[test]
    fn who_is_not_ready_is_named_with_the_cause() {
        let why = why_not_ready(&row()).expect("it is not");
        assert_eq!(why, "flaky is backoff: trap: \u{fffd}[2Junreachable; again in 1.5s");
        for state in [DaemonState::Running, DaemonState::Reloading, DaemonState::Stopped] {
            assert_eq!(why_not_ready(&DaemonRow { state, ..row() }), None);
        }
    }

    #[test]
    fn all_that_is_known_of_one_is_shown_and_drives_nothing() {
        let text = details(
            &DaemonRow {
                state: DaemonState::Blocked,
                reason: "waits for db\r".into(),
                blocked_by: Some("db".into()),
                way_out: "duende restart db".into(),
                command: "/bin/web \x1b[2J \u{202e}".into(),
                policy: "always".into(),
                since_ms: Some(61_000),
                processes: 3,
                lost_lines: 7,
                ..row()
            },
            false,
        );
        for expected in [
            "state  blocked for 1m01s",
            "blocked by  db",
            "way out  duende restart db",
            "command  /bin/web ",
            "restart  always",
            "processes  3",
            "lost lines  7",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains(['\r', '\x1b', '\u{202e}']), "{text}");
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
