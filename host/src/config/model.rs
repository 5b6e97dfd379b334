//! What a valid configuration says: plain, typed, complete.
//!
//! A value of these types was checked: names are well formed and unique, dependencies exist and have
//! no cycle, paths are absolute, limits are within their ranges and are limits that the chosen
//! isolation enforces. Whoever holds a [`FleetConfig`] need not look again. Defaults are filled in;
//! nobody downstream knows another default.

use duende_core::wire::link::ValueKind;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use duende_core::backoff::Backoff;
use duende_core::limiter::RestartLimit;
use duende_core::probe::{ProbeSpec, Probes};
use duende_core::restart::ExitRules;
pub use duende_core::restart::RestartPolicy;
use duende_core::supervise::{Spec, Strategy};
use serde::{Deserialize, Serialize};

pub use super::compile::CompileConfig;
use crate::source::StartAt;

/// An entry of `[daemon.config]`, as it goes to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigValue {
    /// What its text stands for.
    pub kind: ValueKind,
    /// A string as it is, everything else in TOML's notation.
    pub text: String,
}

/// Longest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most daemons of one fleet, components or not.
pub const DAEMONS_MAX: usize = 1_000;
/// Longest name of a fleet, daemon or channel, in bytes.
pub const NAME_BYTES_MAX: usize = duende_core::wire::link::NAME_BYTES_MAX;
/// Longest path of a control socket, in bytes: what `sun_path` holds, less its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Default of `slice_budget`.
pub const SLICE_BUDGET: Duration = Duration::from_secs(1);
/// Default of `metrics_interval`.
pub const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// Default of `commit_interval`.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(5);
/// Default of `kill_timeout`.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of `rotate_wait`.
pub const ROTATE_WAIT: Duration = Duration::from_secs(5);
/// Default of `priority`.
pub const PRIORITY: u8 = 4;
/// Default of `limits.memory_bytes` on WOS: what the engine's pool serves.
pub const MEMORY_BYTES: u64 = 64 << 20;
/// Default of `limits.state_bytes`.
pub const STATE_BYTES: u64 = 16 << 20;

/// What a daemon that speaks the contract is asked if nothing is said: whether it works.
#[must_use]
pub fn probes_default() -> Probes {
    Probes::liveness(ProbeSpec::default())
}

/// One fleet: what one manager runs.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Names the fleet's socket, and its directories unless those are configured.
    pub name: String,
    /// The configuration file, absolute; none for a fleet made from flags.
    pub file: Option<PathBuf>,
    /// Where state lies. Absolute; created at start.
    pub state_dir: PathBuf,
    /// Where logs lie, one for each daemon. Absolute; created at start.
    pub log_dir: PathBuf,
    /// Where control sockets lie. Absolute; created at start.
    pub runtime_dir: PathBuf,
    /// Where compiled components lie, of all of the user's fleets. Absolute; created when the first one is
    /// written.
    pub cache_dir: PathBuf,
    /// How components are compiled.
    pub compile: CompileConfig,
    /// From one sample of what daemons use and do to the next.
    pub metrics_interval: Duration,
    /// How long what slices commit is gathered, at most, before it is written.
    pub commit_interval: Duration,
    /// The groups, each after its parent.
    pub groups: Vec<GroupConfig>,
    /// The daemons, in the order of the file.
    pub daemons: Vec<DaemonConfig>,
}

impl FleetConfig {
    /// The control socket of this fleet's manager.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        super::dirs::socket_path(&self.runtime_dir, &self.name)
    }

    /// How many of the daemons are components.
    #[must_use]
    pub fn components(&self) -> usize {
        let is_component = |daemon: &&DaemonConfig| matches!(daemon.isolation, Isolation::Wos(_));
        self.daemons.iter().filter(is_component).count()
    }

    /// The indices of all daemons, each after those that it depends on; otherwise in the order of the
    /// file.
    #[must_use]
    pub fn dependencies_first(&self) -> Vec<usize> {
        let mut placed = vec![false; self.daemons.len()];
        let mut order = Vec::with_capacity(self.daemons.len());
        // There is no cycle, so each round places at least one.
        while order.len() < self.daemons.len() {
            let before = order.len();
            for (index, daemon) in self.daemons.iter().enumerate() {
                let ready = daemon.depends_on.iter().all(|&dependency| placed[dependency]);
                if ready && !placed[index] {
                    placed[index] = true;
                    order.push(index);
                }
            }
            if order.len() == before {
                break;
            }
        }
        order
    }

    /// The daemon of this name.
    #[must_use]
    pub fn daemon(&self, name: &str) -> Option<&DaemonConfig> {
        self.daemons.iter().find(|daemon| daemon.name == name)
    }
}

/// One daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonConfig {
    /// Unique within the fleet; `[a-z0-9][a-z0-9._-]{0,63}`.
    pub name: String,
    /// What is run, and how strongly it is isolated.
    pub isolation: Isolation,
    /// The daemons that must be ready before this one starts, as indices into
    /// [`FleetConfig::daemons`]; at most
    /// [`DEPENDENCIES_MAX`](duende_core::supervise::DEPENDENCIES_MAX), in rising order.
    pub depends_on: Vec<usize>,
    /// What it may import.
    pub grants: Grants,
    /// Its channels, in the order of their names; at most
    /// [`CHANNELS_MAX`](duende_core::wire::link::CHANNELS_MAX).
    pub channels: Vec<ChannelConfig>,
    /// How long a stop may take before the daemon is killed.
    pub stop_grace: Duration,
    /// How long it may take to be gone once it was killed; then it is given up.
    pub kill_timeout: Duration,
    /// How long a start may take until the daemon is ready.
    pub start_timeout: Duration,
    /// When it is asked for its health, and what its silence means. Only daemons that speak the
    /// contract are asked: components, and native programs with a link.
    pub health: Probes,
    /// How long it may give no sign of life (`WATCHDOG=1` by `sd_notify`); native programs only.
    pub watchdog: Option<Duration>,
    /// How long it may take to read its configuration anew.
    pub reload_timeout: Duration,
    /// The group whose child it is, as an index into [`FleetConfig::groups`].
    pub member_of: Option<usize>,
    /// What follows its end.
    pub restart: RestartConfig,
    /// `[daemon.config]`: dotted keys, and values as the contract hands them out.
    pub config: BTreeMap<String, ConfigValue>,
}

impl DaemonConfig {
    /// Whether it is told where to send `sd_notify` datagrams: it is to say that it is ready, or that
    /// it lives.
    #[must_use]
    pub fn is_notified_of(&self) -> bool {
        match &self.isolation {
            Isolation::Wos(_) => false,
            Isolation::Native(native) => {
                // Whoever says whose word counts expects one.
                match native.notify_access {
                    Some(NotifyAccess::None) => false,
                    Some(_) => true,
                    None => native.ready == Ready::Notify || self.watchdog.is_some(),
                }
            }
        }
    }

    /// Whether it speaks the contract, and so has health, state, channels and `config`.
    #[must_use]
    pub fn speaks_contract(&self) -> bool {
        match &self.isolation {
            Isolation::Wos(_) => true,
            Isolation::Native(native) => native.link.is_some(),
        }
    }
}

/// What is run, and where.
#[derive(Clone, Debug, PartialEq)]
pub enum Isolation {
    /// A component, as a process of a hosted WebAssembly OS.
    Wos(WosConfig),
    /// A program, as a process of this machine.
    Native(NativeConfig),
}

impl Isolation {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Wos(_) => "wos",
            Self::Native(_) => "native",
        }
    }
}

/// A component on WOS.
#[derive(Clone, Debug, PartialEq)]
pub struct WosConfig {
    /// The component's file, absolute; it existed when the configuration was read.
    pub image: PathBuf,
    /// 0 (most urgent) to 7.
    pub priority: u8,
    /// Most running time of one slice.
    pub slice_budget: Duration,
    /// Most linear memory, in bytes.
    pub memory_bytes_max: u64,
    /// Most bytes of keys and values in `state`.
    pub state_bytes_max: u64,
}

/// A native program.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeConfig {
    /// The program's file, absolute; it existed and was executable when the configuration was read.
    pub program: PathBuf,
    /// The arguments after the program's own name.
    pub args: Vec<String>,
    /// `env`. [`native_env`](super::native_env) makes the whole environment.
    pub env: BTreeMap<String, String>,
    /// A file of more variables, absolute; it could be read when the configuration was. Read again
    /// with each restart that was asked for.
    pub env_file: Option<PathBuf>,
    /// Absolute; the directory of the configuration file by default.
    pub working_dir: PathBuf,
    /// Whom it runs as; none: as the manager.
    pub user: Option<Box<UserConfig>>,
    /// What makes it ready.
    pub ready: Ready,
    /// Present for a program that is built with the SDK: it inherits the link's descriptor.
    pub link: Option<LinkConfig>,
    /// Most open descriptors (`RLIMIT_NOFILE`); none: what the manager was started with.
    pub open_files_max: Option<u64>,
    /// The number of the signal that asks it to end.
    pub stop_signal: i32,
    /// Who is sent it.
    pub stop_scope: StopScope,
    /// Whose `sd_notify` datagrams count.
    pub notify_access: Option<NotifyAccess>,
    /// Where the id of its main process is written. Absolute; its directory existed when the
    /// configuration was read.
    pub pid_file: Option<PathBuf>,
}

/// Who is asked to end when a native daemon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopScope {
    /// Every process of it.
    #[default]
    Group,
    /// Its main process; what that leaves behind is asked once it is gone.
    Process,
}

/// Whose `sd_notify` datagrams count for a native daemon, as systemd's `NotifyAccess`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyAccess {
    /// Those of its main process.
    #[default]
    Main,
    /// Those of its main process, and of what was started for it.
    Exec,
    /// Those of any of its processes.
    All,
    /// Nobody's.
    None,
}

/// What is enforced on the far side of a native program's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Most bytes of keys and values in `state`.
    pub state_bytes_max: u64,
}

/// Whom a native program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserConfig {
    /// User id.
    pub uid: u32,
    /// Group id: `group`, else the user's own.
    pub gid: u32,
    /// The groups that list the user as a member.
    pub groups: Vec<u32>,
    /// Its name; none for a number that the user database does not have.
    pub name: Option<String>,
    /// Its home directory; `/` if the user database has none.
    pub home: String,
    /// Its login shell; `/bin/sh` if the user database has none.
    pub shell: String,
}

/// What makes a native program ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// That its process was started.
    Started,
    /// That it says so: `READY=1` in an `sd_notify` datagram, or over the link.
    Notify,
}

/// What a daemon may import, apart from its channels: see [`ChannelConfig::granted`]. `clock`,
/// `entropy` and `config` are always granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Lines for its log.
    pub log: bool,
    /// Durable state.
    pub state: bool,
    /// Counters and gauges.
    pub metric: bool,
}

/// One channel and what feeds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// Unique within the daemon; the same form as a daemon's name.
    pub name: String,
    /// What feeds it.
    pub source: Source,
    /// Whether the daemon may receive from it (`grant = ["channel:NAME"]`).
    pub granted: bool,
}

/// What feeds a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The lines of a log, one message each.
    Tail(TailConfig),
    /// The lines of the manager's standard input.
    Stdin,
    /// An empty message, once in each period.
    Interval(Duration),
}

/// A log that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailConfig {
    /// Its name. Absolute, and neither a directory nor a device, a pipe or a socket; nothing may have it yet.
    pub path: PathBuf,
    /// Where it begins if no position of it was ever committed.
    pub start: StartAt,
    /// How long a file that was left behind is read on after something came.
    pub rotate_wait: Duration,
}

impl TailConfig {
    /// Of a path, with the defaults.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, start: StartAt::Beginning, rotate_wait: ROTATE_WAIT }
    }
}

/// What follows the end of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// Which ends are followed by a restart.
    pub policy: RestartPolicy,
    /// Most restarts without a stable run in between; none: as many as the limit allows.
    pub max_retries: Option<u32>,
    /// How long it waits before it is started again.
    pub backoff: Backoff,
    /// A run this long forgets the backoff.
    pub stable_after: Duration,
    /// More restarts than this put the daemon in quarantine; at most
    /// [`INTENSITY_MAX`](duende_core::supervise::INTENSITY_MAX).
    pub limit: RestartLimit,
    /// Which exits are failures, and which decide by themselves.
    pub exits: ExitRules,
}

impl Default for RestartConfig {
    fn default() -> Self {
        let Spec { restart: policy, max_retries, backoff, stable_after, limit, exits, .. } =
            Spec::default();
        Self { policy, max_retries, backoff, stable_after, limit, exits }
    }
}

/// Daemons and groups that are restarted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Unique within the fleet.
    pub name: String,
    /// Who is restarted together with a child that failed.
    pub strategy: Strategy,
    /// How many restarts of all children together are too many.
    pub limit: RestartLimit,
    /// The group whose child it is, as an index into [`FleetConfig::groups`]; that one is before it.
    pub parent: Option<usize>,
}
