//! The loop of the manager: hears everybody in turn, gives the machine one event at a time, and has its
//! effects performed before the next.
//!
//! Who is heard when is a rule, not luck:
//! 1. Signals and questions come before news. After [`QUESTIONS_MAX_IN_A_ROW`] questions a turn of news
//!    comes all the same.
//! 2. In a turn of news each source has at most [`NEWS_PER_TURN`] of its own heard.
//! 3. A deadline that has come goes before further news. But first what had *arrived* is heard, in at
//!    most [`TURNS_BEFORE_TICK`] turns: nobody is judged by what lies unread.
//! 4. Nothing in the loop waits for a file, a disk, a terminal or a client.
//!
//! `perform` performs the machine's effects; `question`, `rows`, `sample` and `events` are what people
//! ask and see; `leave` is what is left to do at the end.

mod events;
mod leave;
mod perform;
mod question;
mod rows;
mod sample;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    sync::Arc,
    time::{Duration, Instant as WallInstant},
};

use duende_core::{
    bus::NoCapacity,
    time::Instant,
    wire::link::{Address, LogLevel},
};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle},
};

use self::question::Asked;
use super::{
    control_server::{ControlError, ControlServer, Question},
    decide::{self, Decider, Event, FleetError, Notice, QuestionId},
    journal::{Journal, Print},
    link::{
        peer::{FromLink, LinkNews, NewsSender, Settled},
        prepare::{Prepared, StandardInput},
    },
    notify::{Datagram, NotifySocket},
    plan::Plan,
    scribe::{Log, Scribe},
};
use crate::{
    backend::{Backends, Heard, News, Obstacle, Place},
    children::reap_strangers,
    config::{
        self, DaemonConfig, FleetConfig,
        dirs::{self, RuntimeDirError},
    },
    daemon_log::log_path,
    keep::{self, KeepError},
    monitor::{DaemonMonitor, Sampler},
    notification::{Phase, Watchdog},
    store::{Store, StoreError},
};

/// Questions that wait for the manager.
const QUESTIONS_MAX: usize = 64;
/// Questions that are taken before a turn of news comes.
const QUESTIONS_MAX_IN_A_ROW: usize = 16;
/// Most news of one source in one turn.
const NEWS_PER_TURN: usize = 64;
/// Most turns that a deadline waits for what had arrived before it.
const TURNS_BEFORE_TICK: usize = 16;
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
    /// Whether it has no terminal: then SIGHUP means "read the configuration", not "it is gone".
    pub detached: bool,
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
    /// Something that an earlier manager left is in the way.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The configuration asks for something that the supervisor cannot do.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A broken invariant of the supervisor: a bug of duende's.
    #[error("the supervisor halted: {0}; please report this, with the fleet's log")]
    Halted(String),
    /// No room for events.
    #[error("the journal: {0}")]
    Journal(#[from] NoCapacity),
}

type PreparedResult = (Address, Result<Box<Prepared>, Obstacle>);

/// The manager of one fleet.
pub(crate) struct Manager {
    fleet: FleetConfig,
    options: ServeOptions,
    began: WallInstant,
    decider: Decider,
    /// By slot.
    configs: Vec<Arc<DaemonConfig>>,
    /// By slot.
    logs: Vec<Log>,
    /// The slots in the order of the configuration.
    order: Vec<u32>,
    backends: Backends,
    store: Arc<Store>,
    standard_input: Option<StandardInput>,
    /// What is being opened before a start, what was, and what of the last incarnation of a slot may
    /// still be on its way to the store.
    preparing: HashMap<Address, AbortHandle>,
    prepared: HashMap<Address, Box<Prepared>>,
    settling: HashMap<u32, Settled>,
    prepared_sender: mpsc::UnboundedSender<PreparedResult>,
    questions: HashMap<QuestionId, Asked>,
    last_question: u64,
    /// Counts the configurations that were in force.
    config_version: u64,
    notify: Option<NotifySocket>,
    journal: Journal,
    monitor: DaemonMonitor,
    sampler: Sampler,
    /// Writes the logs.
    scribe: Scribe,
    /// Answers to `down`, which end when everything is over.
    farewells: Vec<JoinHandle<()>>,
    is_over: bool,
}

/// What the loop hears, beside questions and signals.
struct Sources {
    from_links: mpsc::UnboundedReceiver<FromLink>,
    prepared: mpsc::UnboundedReceiver<PreparedResult>,
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
    // What a manager that was killed has left ends first: nothing of it meets what is started here.
    // Each is a day at most: that is read in `config`.
    let lasts = |daemon: &DaemonConfig| daemon.stop_grace + daemon.kill_timeout;
    let patience = fleet.daemons.iter().map(lasts).max().unwrap_or_default();
    let lock = crate::backend::keep_options(&fleet).lock;
    keep::wait_for_previous(&lock, WallInstant::now() + patience).await?;
    let (mut manager, mut sources) = Manager::new(fleet, options)?;
    let served = manager.serve(asked, &mut sources, server.trouble()).await;
    let left = manager.leave(server).await;
    served.and_then(|outcome| left.map(|()| outcome))
}

fn system(what: &str, source: io::Error) -> ManagerError {
    ManagerError::System { what: what.to_owned(), source }
}

impl Manager {
    fn new(fleet: FleetConfig, options: ServeOptions) -> Result<(Self, Sources), ManagerError> {
        let store = Arc::new(Store::open(fleet.state_dir.join("state.redb"))?);
        let scribe = Scribe::start();
        let log = scribe.log(&log_path(&fleet.log_dir, FLEET_LOG));
        let journal = Journal::new(log, Print::of(&options))?;
        let notify = if fleet.daemons.iter().any(DaemonConfig::is_notified_of) {
            let path = fleet.socket_path().with_extension("notify");
            Some(NotifySocket::open(&path).map_err(|source| {
                system(&format!("cannot open the notification socket {}", path.display()), source)
            })?)
        } else {
            None
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
        let Plan { groups, daemons: specs, configs, order } = Plan::of(&fleet);
        let has_components = specs.iter().any(|spec| spec.place == Place::Wos);
        let decider = Decider::new(&groups, specs, options.ends_with_work)?;
        let logs = configs
            .iter()
            .map(|config| scribe.log(&log_path(&fleet.log_dir, &config.name)))
            .collect();
        let (news, from_links) = NewsSender::channel();
        let notify_path = notify.as_ref().map(NotifySocket::path);
        let mut backends = Backends::new(&fleet, notify_path, store.clone(), news);
        if has_components {
            backends.prepare(Place::Wos);
        }
        let (prepared_sender, prepared) = mpsc::unbounded_channel();
        let manager = Self {
            options,
            began: WallInstant::now(),
            decider,
            configs,
            logs,
            order,
            backends,
            store,
            standard_input,
            preparing: HashMap::new(),
            prepared: HashMap::new(),
            settling: HashMap::new(),
            prepared_sender,
            questions: HashMap::new(),
            last_question: 0,
            config_version: 1,
            notify,
            journal,
            monitor: DaemonMonitor::new(interval, daemons),
            sampler,
            scribe,
            farewells: Vec::new(),
            is_over: false,
            fleet,
        };
        Ok((manager, Sources { from_links, prepared }))
    }

    async fn serve(
        &mut self,
        mut asked: mpsc::Receiver<Question>,
        sources: &mut Sources,
        mut trouble: watch::Receiver<Option<String>>,
    ) -> Result<Outcome, ManagerError> {
        let handler = |kind| signal(kind).map_err(|source| system("cannot handle signals", source));
        let mut interrupt = handler(SignalKind::interrupt())?;
        let mut terminate = handler(SignalKind::terminate())?;
        let mut hangup = if ignores_hangup() { None } else { Some(handler(SignalKind::hangup())?) };
        let mut fault = self.store.fault();
        let mut in_a_row = 0;
        self.look_at_notify_socket();
        self.handle(Event::Begin);
        loop {
            self.flush_logs();
            if self.is_over {
                return match self.decider.halted() {
                    Some(words) => Err(ManagerError::Halted(words.to_owned())),
                    None => Ok(Outcome { failed: self.decider.failed() }),
                };
            }
            let mut deadline = self.decider.next_deadline();
            if deadline.is_some_and(|deadline| deadline <= self.now()) {
                self.hear_what_arrived(sources).await;
                self.handle(Event::Tick);
                // Signals and questions have their turn, whatever is due.
                tokio::task::yield_now().await;
                deadline = self.decider.next_deadline();
            }
            let asks = in_a_row < QUESTIONS_MAX_IN_A_ROW;
            tokio::select! {
                biased;
                _ = interrupt.recv() => self.handle(Event::Interrupted { signal: "SIGINT" }),
                _ = terminate.recv() => self.handle(Event::Interrupted { signal: "SIGTERM" }),
                () = next_signal(hangup.as_mut()) => self.hang_up(),
                Some(question) = asked.recv(), if asks => {
                    in_a_row += 1;
                    self.take_question(question);
                    continue;
                }
                heard = self.backends.next() => self.take_heard(heard),
                Some((at, prepared)) = sources.prepared.recv() => self.take_prepared(at, prepared),
                notification = next_notification(self.notify.as_ref()) => {
                    if let Ok(notification) = notification {
                        self.take_notification(notification);
                    }
                }
                Some(from) = sources.from_links.recv() => self.take_from_link(from),
                reading = self.sampler.next() => {
                    self.take_reading(&reading);
                    self.keep_notify_socket();
                    reap_strangers();
                }
                () = sleep_until(self.began, deadline) => {}
                Ok(()) = trouble.changed() => {
                    let trouble = trouble.borrow_and_update().clone();
                    match trouble {
                        Some(trouble) => self.journal.say(LogLevel::Error, &trouble),
                        None => self.journal.say(LogLevel::Info, "the control socket is back"),
                    }
                }
                Ok(()) = fault.changed() => {
                    let fault = fault.borrow_and_update().clone();
                    match fault {
                        Some(fault) => self.journal.say(LogLevel::Error, &fault.to_string()),
                        None => self.journal.say(LogLevel::Info, "state can be written again"),
                    }
                }
                // As many questions as there may be in a row were asked, and nothing else happened.
                () = tokio::task::yield_now(), if !asks => {}
            }
            in_a_row = 0;
            self.turn(sources);
        }
    }

    /// Hears from every source what is there, in turn. Whether there was anything.
    fn turn(&mut self, sources: &mut Sources) -> bool {
        let mut heard_any = false;
        for _ in 0..NEWS_PER_TURN {
            let mut heard = false;
            if let Some(news) = now_or_never(self.backends.next()) {
                self.take_heard(news);
                heard = true;
            }
            if let Ok((at, prepared)) = sources.prepared.try_recv() {
                self.take_prepared(at, prepared);
                heard = true;
            }
            if let Some(datagram) = self.next_datagram() {
                self.take_notification(datagram);
                heard = true;
            }
            if let Ok(from) = sources.from_links.try_recv() {
                self.take_from_link(from);
                heard = true;
            }
            heard_any |= heard;
            if !heard {
                break;
            }
        }
        heard_any
    }

    /// Hears what had arrived before a deadline is judged: also what lies in sockets that nobody has
    /// read yet, as after a time in which this process stood still.
    async fn hear_what_arrived(&mut self, sources: &mut Sources) {
        let mut quiet = 0;
        for _ in 0..TURNS_BEFORE_TICK {
            // Lets the readers of links read, and the runtime look at its sockets.
            tokio::task::yield_now().await;
            quiet = if self.turn(sources) { 0 } else { quiet + 1 };
            // The first look wakes a reader, the second one hears it.
            if quiet == 3 {
                break;
            }
        }
    }

    /// A datagram that has arrived.
    fn next_datagram(&self) -> Option<Datagram> {
        self.notify.as_ref()?.try_next().ok().flatten()
    }

    /// Takes news of a backend. Before an end, the datagrams that had arrived are heard: what its
    /// process said counts for it, and what comes later with the same number is another's.
    fn take_heard(&mut self, heard: Heard) {
        if matches!(heard, Heard::Of(_, News::Exited { .. }) | Heard::Place(..)) {
            for _ in 0..decide::UNCLAIMED_MAX {
                let Some(datagram) = self.next_datagram() else { break };
                self.take_notification(datagram);
            }
        }
        self.handle(Event::Heard(heard));
    }

    fn hang_up(&mut self) {
        if self.options.detached {
            self.journal.say(LogLevel::Info, "SIGHUP: reading the configuration");
            self.reload_all();
        } else {
            // The terminal is gone: whoever wants the fleet to stay uses `up --detach`.
            self.handle(Event::Interrupted { signal: "SIGHUP" });
        }
    }

    fn take_from_link(&mut self, from: FromLink) {
        match from.news {
            LinkNews::Of(at, news) => self.handle(Event::Heard(Heard::Of(at, news))),
            LinkNews::Closed { link, reason } => self.backends.link_closed(link, reason),
        }
    }

    /// Once it is handled the sender of a barrier is let go: the barrier is closed.
    fn take_notification(&mut self, datagram: Datagram) {
        let Datagram { pid, notification, barrier: _barrier, .. } = datagram;
        let name = |slot| self.config(slot).map(|config| config.name.clone());
        let asks = self.decider.asks_whose(pid);
        let part_of = asks.then(|| self.backends.part_of(pid, name)).flatten();
        let notice = Notice {
            ready: notification.phase == Some(Phase::Ready),
            reloading: notification.phase == Some(Phase::Reloading),
            stopping: notification.phase == Some(Phase::Stopping),
            alive: notification.watchdog == Some(Watchdog::Alive),
            extend: notification.extend_timeout,
            main_pid: notification.main_pid,
            status: notification.status,
            fdstore: notification.fdstore > 0,
        };
        self.handle(Event::Noticed { pid, part_of, notice });
    }

    /// Makes the notification socket again if somebody removed its file.
    fn keep_notify_socket(&mut self) {
        let Some(notify) = &mut self.notify else { return };
        match notify.ensure_present() {
            Ok(false) => {}
            Ok(true) => {
                let line = format!("{} was removed: made again", notify.path().display());
                self.journal.say(LogLevel::Warn, &line);
            }
            Err(error) => {
                let line = format!("{} can't be made again: {error}", notify.path().display());
                self.journal.say(LogLevel::Error, &line);
            }
        }
    }

    /// Says it once if a daemon that runs as another user can't reach the notification socket.
    fn look_at_notify_socket(&mut self) {
        let others = self.configs.iter().any(|config| {
            config.is_notified_of()
                && matches!(&config.isolation, config::Isolation::Native(native) if native.user.is_some())
        });
        let barred = self.notify.as_ref().filter(|_| others).and_then(NotifySocket::barred_by);
        if let Some(directory) = barred {
            let line = format!(
                "daemons of other users can't reach the notification socket: they may not pass {}; \
                 chmod o+x it, or name another DUENDE_RUNTIME_DIR",
                directory.display()
            );
            self.journal.say(LogLevel::Warn, &line);
        }
    }

    fn config(&self, slot: u32) -> Option<Arc<DaemonConfig>> {
        self.configs.get(usize::try_from(slot).ok()?).cloned()
    }

    fn now(&self) -> Instant {
        instant_at(self.began, WallInstant::now())
    }
}

/// The machine's clock starts with the manager.
fn instant_at(began: WallInstant, at: WallInstant) -> Instant {
    Instant::from_ns(u64::try_from(at.duration_since(began).as_nanos()).unwrap_or(u64::MAX))
}

async fn sleep_until(began: WallInstant, deadline: Option<Instant>) {
    let at = deadline.and_then(|at| began.checked_add(Duration::from_nanos(at.as_ns())));
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The result of a future that has one at once. It is dropped otherwise, so it must be cancel-safe.
fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

async fn next_notification(socket: Option<&NotifySocket>) -> io::Result<Datagram> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

async fn next_signal(signal: Option<&mut tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP was ignored when this program started, as under `nohup`: then it stays so.
fn ignores_hangup() -> bool {
    // SIGHUP is the first bit of the mask.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// One draw of entropy, for the jitter of one event's decisions.
fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // Fails only before the kernel's pool is first seeded; then there is no jitter, and no harm.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}
