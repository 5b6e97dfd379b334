//! The manager of a fleet: owns the supervisor, performs its effects, and answers the command line.
//!
//! One task owns everything that is decided on ([`Manager`]); tasks around it move bytes. What
//! happens — a process ended, a slice committed, somebody asked — comes to it as one event at a time,
//! becomes an input of the supervisor, and the supervisor's effects are performed before the next.
//! So there is no lock around a decision, and the order of events is the order of decisions.
//!
//! - `peer`, `feed`, `start`: the links to workers and native daemons, and what flows through them
//! - `worker_process`: the worker from outside; `keep` is in [`crate::keep`]
//! - `control_server`, `answer`: the command line's questions
//! - `spec`: the configuration as the supervisor takes it; `hold`, `reload`: pauses and reloads
//! - `sample`: what daemons use, for the monitor; `leave`: the end of the fleet
//! - `effect`: what the supervisor wants done; `news`: what the supervisor is told
//! - `journal`, `events`, `view`, `whole`, `reason`: what is shown
//! - `flight`, `halt`: what is left when the supervisor finds one of its rules broken

mod answer;
mod control_server;
mod effect;
mod events;
mod feed;
mod flight;
mod halt;
mod hold;
mod journal;
mod leave;
mod managed;
mod news;
mod notify;
mod peer;
mod reason;
mod reload;
mod sample;
mod spec;
mod start;
mod view;
mod whole;
mod worker_process;

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant as WallInstant},
};

use duende_core::{
    bus::NoCapacity,
    health,
    limiter::{IntensityError, Limiter, RestartLimit},
    supervise::{AddError, AddGroupError, GroupSlot, Input, Slot, Supervisor},
    time::Instant,
    wire::link::{Address, LogLevel},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};

use self::{
    answer::Waiter,
    control_server::{ControlError, ControlServer, Question},
    flight::FlightRecorder,
    halt::Halted,
    journal::{Journal, Print},
    managed::Managed,
    notify::NotifySocket,
    peer::{PeerEvent, PeerId},
    start::StandardInput,
    whole::Health,
    worker_process::WorkerProcess,
};
use crate::{
    config::{
        self, DaemonConfig, FleetConfig, Isolation,
        dirs::{self, RuntimeDirError},
    },
    daemon_log::{LogWriter, log_path},
    keep::{self, KeepClient, KeepError, KeepOptions},
    monitor::{DaemonMonitor, Sampler},
    platform,
    store::{Store, StoreError},
};

/// Events of peers that wait for the manager; a peer that is ahead waits.
const PEER_EVENTS_MAX: usize = 1_024;
/// Restarts of `keep` that are counted: as many as its limit, that of daemons, allows.
const KEEP_RESTARTS_MAX: usize = 5;
/// Questions that wait for the manager.
const QUESTIONS_MAX: usize = 64;
/// The fleet's own log is `<log dir>/duende.log`.
const FLEET_LOG: &str = "duende";

/// How a manager runs.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Whether events are printed: as lines to standard error, or as JSON to standard output.
    pub print_events: bool,
    /// Whether what is printed is JSON, one document in a line.
    pub json: bool,
    /// Whether the fleet stops once standard input has ended and was consumed, or no daemon is left
    /// that could run.
    pub ends_with_work: bool,
}

/// How a fleet ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The daemons that had failed, quarantined ones included.
    pub failed: Vec<String>,
}

/// Why a manager could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// A second copy of the same fleet.
    #[error("{0}")]
    AlreadyRunning(String),
    /// A directory, a socket or a signal handler could not be set up.
    #[error("{what}: {source}")]
    System {
        /// What was being done, and to what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory of control sockets cannot be trusted or made.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// The state could not be opened or closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process that holds the native daemons could not be started.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The configuration asks for something that the supervisor cannot do.
    #[error("daemon {name}: {source}")]
    Daemon {
        /// Its name.
        name: String,
        /// What it is.
        source: AddError,
    },
    /// The configuration asks for a group that the supervisor cannot keep.
    #[error("group {name}: {source}")]
    Group {
        /// Its name.
        name: String,
        /// What it is.
        source: AddGroupError,
    },
    /// A broken invariant of the supervisor: a bug of duende's.
    #[error("the supervisor halted: {0}; please report this, with the fleet's log")]
    Halted(String),
    /// No room for events.
    #[error("the journal: {0}")]
    Journal(#[from] NoCapacity),
    /// The process that holds the native daemons dies again and again.
    #[error("keep died {restarts} times within {} s and once more: see the fleet's log", .period.as_secs())]
    KeepDies {
        /// How often it was started again.
        restarts: u32,
        /// Within which time.
        period: Duration,
    },
    /// No room to count restarts of `keep`.
    #[error("restarts of keep: {0}")]
    KeepLimit(#[from] IntensityError),
    /// A daemon has no place in the health of the fleet.
    #[error("the health of the fleet: {0}")]
    Health(#[from] health::AddError),
}

/// The manager of one fleet.
pub(crate) struct Manager {
    fleet: FleetConfig,
    options: ServeOptions,
    executable: PathBuf,
    began: WallInstant,
    supervisor: Supervisor<Box<[Slot]>, Box<[GroupSlot]>>,
    /// By the slot of their ids.
    daemons: Vec<Managed>,
    by_name: HashMap<String, usize>,
    inputs: VecDeque<Input>,
    store: Arc<Store>,
    keep: Option<KeepClient>,
    /// When `keep` was started again; more often than daemons may be, and the fleet ends.
    keep_restarts: Limiter<[Instant; KEEP_RESTARTS_MAX]>,
    /// How the whole is.
    health: Health,
    worker: Option<WorkerProcess>,
    /// Which daemon a native link belongs to.
    link_owners: HashMap<PeerId, usize>,
    next_peer: u64,
    next_token: u64,
    /// Counts the configurations that were in force.
    config_version: u64,
    standard_input: Option<StandardInput>,
    peer_events: mpsc::Sender<PeerEvent>,
    notify: Option<NotifySocket>,
    journal: Journal,
    monitor: DaemonMonitor,
    sampler: Sampler,
    /// Incarnations whose end is in the buffer of their daemon's log.
    unflushed: Vec<Address>,
    waiters: Vec<Waiter>,
    /// Answers to `down`, which end when everything is over.
    farewells: Vec<JoinHandle<()>>,
    stopping: bool,
    flight: FlightRecorder,
    halted: Option<Halted>,
}

/// Runs a fleet until it is told to stop.
///
/// # Errors
/// It could not be started, or not be carried on.
pub fn serve(fleet: FleetConfig, options: ServeOptions) -> Result<Outcome, ManagerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| system("cannot start the event loop", source))?;
    let served = runtime.block_on(run(fleet, options));
    // A read of standard input cannot be taken back: it must not hold the end of the program.
    runtime.shutdown_background();
    served
}

async fn run(fleet: FleetConfig, options: ServeOptions) -> Result<Outcome, ManagerError> {
    for dir in [&fleet.state_dir, &fleet.log_dir] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| system(&format!("cannot make {}", dir.display()), source))?;
    }
    let uid = rustix::process::geteuid().as_raw();
    dirs::prepare_runtime_dir(&fleet.runtime_dir, uid)?;
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    // First of all: a second copy must not touch anything.
    let socket = fleet.socket_path();
    let server =
        ControlServer::open(&fleet.name, &socket, questions).map_err(|error| match error {
            ControlError::AlreadyRunning { .. } => ManagerError::AlreadyRunning(error.to_string()),
            ControlError::Io { socket, source } => {
                system(&format!("cannot open the control socket {socket}"), source)
            }
        })?;
    let (peer_events, from_peers) = mpsc::channel(PEER_EVENTS_MAX);
    // What a manager that was killed has left ends first: nothing of it meets what is started here.
    let lasts = |daemon: &DaemonConfig| daemon.stop_grace + daemon.kill_timeout;
    let patience = fleet.daemons.iter().map(lasts).max().unwrap_or_default();
    keep::wait_for_previous(&keep_options(&fleet).lock, WallInstant::now() + patience).await?;
    let mut manager = Manager::new(fleet, options, peer_events)?;
    let served = manager.serve(asked, from_peers).await;
    let left = manager.leave(server).await;
    served.and_then(|outcome| left.map(|()| outcome))
}

/// What `keep` is told of a fleet.
fn keep_options(fleet: &FleetConfig) -> KeepOptions {
    KeepOptions {
        fleet: fleet.name.clone(),
        lock: fleet.state_dir.join("keep.lock"),
        open_files: platform::inherited_open_files(),
    }
}

fn system(what: &str, source: io::Error) -> ManagerError {
    ManagerError::System { what: what.to_owned(), source }
}

impl Manager {
    fn new(
        fleet: FleetConfig,
        options: ServeOptions,
        peer_events: mpsc::Sender<PeerEvent>,
    ) -> Result<Self, ManagerError> {
        let executable = std::env::current_exe()
            .map_err(|source| system("cannot find duende's own executable", source))?;
        let store = Arc::new(Store::open(fleet.state_dir.join("state.redb"))?);
        let journal = Journal::new(&log_path(&fleet.log_dir, FLEET_LOG), Print::of(&options))?;
        let natives: Vec<_> = fleet
            .daemons
            .iter()
            .filter_map(|daemon| match &daemon.isolation {
                Isolation::Native(native) => Some(native),
                Isolation::Wos(_) => None,
            })
            .collect();
        let notify = if fleet.daemons.iter().any(DaemonConfig::is_notified_of) {
            let path = fleet.socket_path().with_extension("notify");
            Some(NotifySocket::open(&path).map_err(|source| {
                system(&format!("cannot open the notification socket {}", path.display()), source)
            })?)
        } else {
            None
        };
        let keep = match natives.is_empty() {
            true => None,
            false => Some(KeepClient::start(&keep_options(&fleet))?),
        };
        let reads_stdin = |daemon: &DaemonConfig| {
            daemon.channels.iter().any(|channel| channel.source == config::Source::Stdin)
        };
        let standard_input = if fleet.daemons.iter().any(reads_stdin) {
            let opened = StandardInput::open();
            Some(opened.map_err(|error| system("standard input", io::Error::other(error)))?)
        } else {
            None
        };
        let (interval, daemons) = (fleet.metrics_interval, fleet.daemons.len());
        let sampler = Sampler::start(interval, daemons)
            .map_err(|source| system("cannot start sampling", source))?;
        let slots = vec![Slot::default(); daemons].into_boxed_slice();
        let groups = vec![GroupSlot::EMPTY; fleet.groups.len()].into_boxed_slice();
        let mut manager = Self {
            options,
            executable,
            began: WallInstant::now(),
            supervisor: Supervisor::with_groups(slots, groups),
            daemons: Vec::with_capacity(fleet.daemons.len()),
            by_name: HashMap::new(),
            inputs: VecDeque::new(),
            store,
            keep,
            keep_restarts: Limiter::new(
                [Instant::ZERO; KEEP_RESTARTS_MAX],
                RestartLimit::default(),
            )?,
            health: whole::registry(daemons),
            worker: None,
            link_owners: HashMap::new(),
            next_peer: 0,
            next_token: 0,
            config_version: 1,
            standard_input,
            peer_events,
            notify,
            journal,
            monitor: DaemonMonitor::new(interval, daemons),
            sampler,
            unflushed: Vec::new(),
            waiters: Vec::new(),
            farewells: Vec::new(),
            stopping: false,
            flight: FlightRecorder::new(),
            halted: None,
            fleet,
        };
        manager.add_groups_and_daemons()?;
        if manager.daemons.iter().any(|daemon| matches!(daemon.config.isolation, Isolation::Wos(_)))
        {
            manager.worker_outbox().map_err(|source| system("cannot start a worker", source))?;
        }
        Ok(manager)
    }

    async fn serve(
        &mut self,
        mut asked: mpsc::Receiver<Question>,
        mut from_peers: mpsc::Receiver<PeerEvent>,
    ) -> Result<Outcome, ManagerError> {
        let handler = |kind| signal(kind).map_err(|source| system("cannot handle signals", source));
        let mut interrupt = handler(SignalKind::interrupt())?;
        let mut terminate = handler(SignalKind::terminate())?;
        let mut hangup = handler(SignalKind::hangup())?;
        let mut fault = self.store.fault();
        for daemon in &self.daemons {
            self.inputs.push_back(Input::Start(daemon.id));
        }
        loop {
            self.decide();
            self.answer_waiters();
            if !self.inputs.is_empty() {
                continue;
            }
            self.flush_logs();
            if let Some(halted) = self.halted.take_if(|halted| halted.ends) {
                return Err(ManagerError::Halted(halted.text));
            }
            if self.options.ends_with_work && self.has_no_work() {
                self.stop_all();
                continue;
            }
            if self.is_over() {
                return Ok(self.outcome());
            }
            let deadline = self.supervisor.next_deadline().filter(|_| self.halted.is_none());
            let overdue = self.waiter_deadline().into_iter().chain(self.kill_deadline()).min();
            tokio::select! {
                biased;
                event = next_of_keep(self.keep.as_mut()) => match event {
                    Ok(event) => self.take_keep_event(event),
                    Err(error) => self.keep_is_gone(&error)?,
                },
                Some(event) = from_peers.recv() => self.take_peer_event(event).await,
                reading = self.sampler.next() => self.take_reading(&reading),
                () = sleep_until(self.began, deadline) => self.inputs.push_back(Input::Tick),
                () = sleep_until_wall(overdue) => self.kill_hung_worker(),
                Some(question) = asked.recv() => self.take_question(question),
                notification = next_notification(self.notify.as_ref()) => {
                    if let Ok(notification) = notification {
                        self.take_notification(notification);
                    }
                }
                _ = interrupt.recv() => self.stop_or_kill("SIGINT"),
                _ = terminate.recv() => self.stop_or_kill("SIGTERM"),
                // The terminal is gone: whoever wants the fleet to stay uses `up --detach`.
                _ = hangup.recv() => self.stop_or_kill("SIGHUP"),
                Ok(()) = fault.changed() => {
                    let fault = fault.borrow_and_update().clone();
                    match fault {
                        Some(fault) => self.journal.say(LogLevel::Error, &fault.to_string()),
                        None => self.journal.say(LogLevel::Info, "state can be written again"),
                    }
                }
            }
        }
    }

    fn now(&self) -> Instant {
        instant_at(self.began, WallInstant::now())
    }
}

/// The supervisor's clock starts with the manager.
fn instant_at(began: WallInstant, at: WallInstant) -> Instant {
    Instant::from_ns(u64::try_from(at.duration_since(began).as_nanos()).unwrap_or(u64::MAX))
}

async fn sleep_until(began: WallInstant, deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => {
            sleep_until_wall(began.checked_add(Duration::from_nanos(deadline.as_ns()))).await;
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until_wall(deadline: Option<WallInstant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn next_of_keep(keep: Option<&mut KeepClient>) -> Result<keep::KeepEvent, KeepError> {
    match keep {
        Some(keep) => keep.next_event().await,
        None => std::future::pending().await,
    }
}

async fn next_notification(socket: Option<&NotifySocket>) -> io::Result<notify::Notification> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

/// Reads `path` as text, for what goes into a frame.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
