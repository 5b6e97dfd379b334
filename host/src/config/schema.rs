//! Which tables a configuration has and which keys each of them takes, to say of a key that stands below
//! the wrong header where it belongs.
//!
//! The readers say by asking which keys there are, so this list would be a second one; it is held to
//! theirs by `tests::the_schema_is_what_the_readers_ask_for`, and what is said of a misplaced key by
//! `tests::a_key_below_the_wrong_table_is_told_where_to_go`, for every key below every other table.

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Top,
    Fleet,
    Compile,
    Group,
    Daemon,
    /// The table whose keys are names of channels.
    Channels,
    Channel,
    /// What follows `from =`.
    Source,
    /// Its keys are the daemon's own.
    Config,
    /// Its keys are variables.
    Env,
    Limits,
    Health,
    /// `startup`, `liveness` and `readiness`.
    Probe,
    Restart,
}

use Table::{
    Channel, Channels, Compile, Config, Daemon, Env, Fleet, Group, Health, Limits, Probe, Restart,
    Source, Top,
};

/// In the order in which a key that several tables have is looked for.
const TABLES: [Table; 14] = [
    Daemon, Limits, Restart, Health, Channel, Source, Probe, Fleet, Group, Compile, Top, Channels,
    Config, Env,
];

impl Table {
    /// Its header, as people write it.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Top => "the file's top",
            Fleet => "[fleet]",
            Compile => "[compile]",
            Group => "[[group]]",
            Daemon => "[[daemon]]",
            Channels => "[daemon.channel]",
            Channel => "[daemon.channel.NAME]",
            Source => "from = { … }",
            Config => "[daemon.config]",
            Env => "[daemon.env]",
            Limits => "[daemon.limits]",
            Health => "[daemon.health]",
            Probe => "[daemon.health.readiness]",
            Restart => "[daemon.restart]",
        }
    }

    /// Its keys, those first that most people need; none where keys are names.
    pub(super) const fn keys(self) -> &'static [&'static str] {
        match self {
            Top => &["fleet", "daemon", "group", "compile"],
            Fleet => &["name", "state_dir", "log_dir", "metrics_interval", "commit_interval"],
            Compile => &["memory_bytes", "cpu_time", "timeout", "jobs", "cache_bytes"],
            Group => &["name", "strategy", "restarts", "period", "parent"],
            Daemon => &[
                "name",
                "image",
                "command",
                "binary_path",
                "args",
                "isolation",
                "depends_on",
                "grant",
                "channel",
                "config",
                "restart",
                "health",
                "limits",
                "resources",
                "priority",
                "slice_budget",
                "link",
                "ready",
                "env",
                "env_file",
                "user",
                "group",
                "working_dir",
                "start_timeout",
                "stop_grace",
                "kill_timeout",
                "reload_timeout",
                "stop_signal",
                "stop_scope",
                "notify_access",
                "watchdog",
                "pid_file",
                "member_of",
            ],
            Channels | Config | Env => &[],
            Channel => &["from", "rotate_wait", "start"],
            Source => &["tail", "stdin", "interval"],
            Limits => &[
                "memory_bytes",
                "memory_limit",
                "state_bytes",
                "open_files_max",
                "memory_swap_limit",
                "cpu_quota_percent",
                "cpu_shares",
                "io_read_bps",
                "io_write_bps",
                "pids_max",
            ],
            Health => &[
                "initial_delay",
                "period",
                "timeout",
                "failures",
                "successes",
                "startup",
                "liveness",
                "readiness",
            ],
            Probe => &["initial_delay", "period", "timeout", "failures", "successes"],
            Restart => &[
                "policy",
                "max_retries",
                "backoff",
                "backoff_initial",
                "backoff_max",
                "backoff_steps",
                "jitter",
                "stable_after",
                "limit",
                "window",
                "window_kind",
                "success_exit",
                "prevent_restart_exit",
                "force_restart_exit",
            ],
        }
    }

    /// The key of [`Daemon`] that holds it; none: it is not within a daemon, or deeper.
    pub(super) const fn key_in_daemon(self) -> Option<&'static str> {
        match self {
            Channels => Some("channel"),
            Config => Some("config"),
            Env => Some("env"),
            Limits => Some("limits"),
            Health => Some("health"),
            Restart => Some("restart"),
            Top | Fleet | Compile | Group | Daemon | Channel | Source | Probe => None,
        }
    }

    /// Whether it is a part of a daemon.
    pub(super) const fn is_within_daemon(self) -> bool {
        !matches!(self, Top | Fleet | Compile | Group | Daemon)
    }
}

/// Whether a key holds a table of its own, or a list of them.
pub(super) fn holds_table(key: &str) -> bool {
    const TABLE_KEYS: [&str; 15] = [
        "fleet",
        "daemon",
        "channel",
        "config",
        "env",
        "restart",
        "health",
        "limits",
        "resources",
        "from",
        "startup",
        "liveness",
        "readiness",
        "group",
        "compile",
    ];
    TABLE_KEYS.contains(&key)
}

/// The table that has this key, for one that stands in `here`, which has none of that name; `is_table`
/// says what its value is.
pub(super) fn home_of(key: &str, is_table: bool, here: Table) -> Option<Table> {
    // A daemon names its group, and the file has tables of that name.
    let fits = is_table == holds_table(key) || (key == "group" && !is_table);
    let near = match here {
        // What precedes every header is of the fleet, if both have it.
        Top => Some(Fleet),
        Health => Some(Probe),
        _ => None,
    };
    let has = |table: &Table| *table != here && table.keys().contains(&key);
    // The table `group` is one of the top, its name a key of a daemon.
    let first = if key == "group" && is_table { Some(Top) } else { near };
    first.into_iter().chain(TABLES).find(has).filter(|_| fits)
}

/// All keys that any table has.
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    TABLES.into_iter().flat_map(|table| table.keys().iter().copied())
}
