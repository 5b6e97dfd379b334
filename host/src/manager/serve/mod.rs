//! The loop of the manager: hears everybody in turn, gives the machine one event at a time, and has its
//! effects performed before the next.
//!
//! Who is heard when is a rule, [`Turns`], and nothing in the loop waits for a file, a disk, a terminal or
//! a client.
//!
//! `perform` performs the machine's effects; `question`, `rows`, `sample` and `events` are what people
//! ask and see; `leave` is what is left to do at the end.

mod events;
mod export;
mod leave;
mod perform;
mod question;
mod rows;
mod sample;
mod signals;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant as WallInstant},
};

use duende_core::{
    bus::NoCapacity,
    time::Instant,
    wire::link::{Address, LogLevel},
};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle},
};

use self::{
    question::Asked,
    signals::{Asks, Signals},
};
use super::{
    control_server::{ControlError, ControlServer, Question, ReadOnlySocket},
    decide::{Decider, Event, FleetError, Notice, QuestionId},
    journal::{Journal, Print},
    link::{
        delivery::AllDeliveries,
        peer::{FromLink, LinkNews, NewsSender, Settled},
        prepare::{Prepared, StandardInput},
    },
    notify::{Datagram, NotifySocket},
    plan::Plan,
    scribe::{Log, Scribe},
    turn::{self, Source, Step, Taken, Turns, Woken},
};
use crate::{
    backend::{Backends, Heard, News, Obstacle, Place, PlaceNews},
    children::reap_strangers,
    config::{
        self, ConfigValue, DaemonConfig, FleetConfig,
        dirs::{self, RuntimeDirError},
    },
    daemon_log::{fleet_log, log_path},
    image::{self, Images, Progress},
    keep::{self, KeepError},
    lock_file::LockFile,
    monitor::{DaemonMonitor, Sampler},
    notification::{Phase, Watchdog},
    store::{STATE_FILE, Store, StoreError},
};

/// Questions that wait for the manager.
const QUESTIONS_MAX: usize = 64;
/// Who has a fleet's state holds this file in it locked.
pub(crate) const LOCK: &str = "manager.lock";
/// What is said when the store's thread has panicked.
const STORE_DIED: &str = "the store has died, and no state is kept any more: end the fleet, look at a copy \
                          of its state file (`duende state ls`), and put a backup in its place";
/// How long whoever holds it is waited for, and how often it is looked at.
const LOCK_TIME: Duration = Duration::from_secs(2);
const LOCK_PERIOD: Duration = Duration::from_millis(20);

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
    /// The socket for those who may look and not touch; none: there is none.
    pub read_only_socket: Option<ReadOnlySocket>,
    /// What is written in the fleet's file: to say later what of a changed one is not in force.
    pub written: config::Written,
}

/// How a fleet ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The daemons that had failed, quarantined ones included.
    pub failed: Vec<String>,
    /// What each daemon had published, in the order of the configuration.
    pub metrics: Vec<(String, BTreeMap<String, f64>)>,
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

/// What is heard of a daemon that is being prepared.
enum Preparation {
    /// Its image is made.
    Compiles(Progress),
    Over(Result<Box<Prepared>, Obstacle>),
}

type Prepares = (Address, Preparation);

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
    /// How often what was delivered.
    deliveries: AllDeliveries,
    /// By slot: the table that was in force before one that the daemon has not taken yet.
    refusable: HashMap<u32, BTreeMap<String, ConfigValue>>,
    /// What is being opened before a start, what was, and what of the last incarnation of a slot may
    /// still be on its way to the store.
    preparing: HashMap<Address, AbortHandle>,
    prepared: HashMap<Address, Box<Prepared>>,
    settling: HashMap<u32, Settled>,
    prepared_sender: mpsc::UnboundedSender<Prepares>,
    images: Images,
    questions: HashMap<QuestionId, Asked>,
    last_question: u64,
    /// Counts the configurations that were in force.
    config_version: u64,
    notify: Option<NotifySocket>,
    /// Why it can't be made again, as was told.
    notify_fault: Option<String>,
    journal: Journal,
    monitor: DaemonMonitor,
    sampler: Sampler,
    /// Writes the logs.
    scribe: Scribe,
    /// Answers to `down`, which end when everything is over.
    farewells: Vec<JoinHandle<()>>,
    /// What of the end those are told who asked for it; nothing: all is well.
    last_words: Arc<OnceLock<String>>,
    is_over: bool,
}

/// What the loop hears, beside questions and signals.
struct Sources {
    from_links: mpsc::UnboundedReceiver<FromLink>,
    prepared: mpsc::UnboundedReceiver<Prepares>,
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
        dirs::make(dir).map_err(|source| system("a directory of the fleet", source))?;
    }
    let uid = rustix::process::geteuid().as_raw();
    dirs::prepare_runtime_dir(&fleet.runtime_dir, uid)?;
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    // First of all: a second copy must not touch anything.
    let socket = fleet.socket_path();
    let readers = options.read_only_socket.as_ref();
    let opened = ControlServer::open(&fleet.name, &socket, readers, questions);
    let server = opened.map_err(|error| match error {
        ControlError::AlreadyRunning { .. } => ManagerError::AlreadyRunning(error.to_string()),
        ControlError::Io { what, socket, source } => {
            system(&format!("cannot open the {what} socket {socket}"), source)
        }
    })?;
    // Two that were told of different runtime directories do not see each other's sockets.
    let _lock = lock_state(&fleet, &socket).await?;
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
        let state = fleet.state_dir.join(STATE_FILE);
        // One component that runs alone is no fleet: it may use whatever directory it is told.
        let owner = fleet.file.is_some().then_some(&*fleet.name);
        let store = Arc::new(Store::open_gathering(state, owner, fleet.commit_interval)?);
        let scribe = Scribe::start();
        let log = scribe.log(&fleet_log(&fleet.log_dir));
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
        let images = Images::new(image::Settings::of(&fleet));
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
            deliveries: AllDeliveries::default(),
            refusable: HashMap::new(),
            preparing: HashMap::new(),
            prepared: HashMap::new(),
            settling: HashMap::new(),
            prepared_sender,
            images,
            questions: HashMap::new(),
            last_question: 0,
            config_version: 1,
            notify,
            notify_fault: None,
            journal,
            monitor: DaemonMonitor::new(interval, daemons),
            sampler,
            scribe,
            farewells: Vec::new(),
            last_words: Arc::default(),
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
        let mut signals =
            Signals::take().map_err(|source| system("cannot handle signals", source))?;
        let mut fault = self.store.fault();
        let mut astray = self.store.astray();
        let mut store_lives = true;
        let mut turns = Turns::default();
        let mut held = None;
        self.look_at_notify_socket();
        for dir in [&self.fleet.state_dir, &self.fleet.log_dir] {
            if let Some(doubt) = dirs::doubt(dir) {
                self.journal.say(LogLevel::Warn, &doubt);
            }
        }
        self.handle(Event::Begin);
        loop {
            let step =
                turns.next(|| self.decider.next_deadline().is_some_and(|at| at <= self.now()));
            if self.is_over || matches!(step, Step::Wait { .. } | Step::Tick) {
                self.flush_logs();
            }
            if self.is_over {
                return match self.decider.halted() {
                    Some(words) => Err(ManagerError::Halted(words.to_owned())),
                    None => {
                        Ok(Outcome { failed: self.decider.failed(), metrics: self.published() })
                    }
                };
            }
            let (questions, at_once) = match step {
                Step::Wait { questions, at_once } => (questions, at_once),
                Step::Look => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Step::Hear(source) => {
                    turns.took(self.hear(source, sources, &mut held));
                    continue;
                }
                Step::Release => {
                    if let Some(heard) = held.take() {
                        if let Heard::Place(place, PlaceNews::Lost { .. }) = &heard {
                            self.backends.bury(*place);
                        }
                        self.handle(Event::Heard(heard));
                    }
                    continue;
                }
                Step::Tick => {
                    self.handle(Event::Tick);
                    continue;
                }
            };
            let mut woken = Woken::Other;
            tokio::select! {
                biased;
                asks = signals.next() => match asks {
                    Asks::End(signal) => self.handle(Event::Interrupted { signal }),
                    Asks::HangUp => self.hang_up(),
                    Asks::Children => {
                        reap_strangers();
                    }
                    Asks::Nothing(signal) => {
                        self.journal.say(LogLevel::Warn, &format!("{signal} means nothing here"));
                    }
                },
                Some(question) = asked.recv(), if questions => {
                    self.take_question(question);
                    woken = Woken::Question;
                }
                heard = self.backends.next(), if held.is_none() => {
                    if self.take_heard(heard, &mut held) == Taken::End {
                        woken = Woken::End;
                    }
                }
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
                Ok(()) = trouble.changed() => {
                    let trouble = trouble.borrow_and_update().clone();
                    match trouble {
                        Some(trouble) => self.journal.say(LogLevel::Error, &trouble),
                        None => self.journal.say(LogLevel::Info, "the socket is back"),
                    }
                }
                changed = fault.changed(), if store_lives => {
                    let fault = if changed.is_ok() {
                        fault.borrow_and_update().as_ref().map(ToString::to_string)
                    } else {
                        // Its thread has panicked, which a damaged file can bring about.
                        store_lives = false;
                        Some(STORE_DIED.to_owned())
                    };
                    self.handle(Event::Store(fault));
                }
                Ok(()) = astray.changed(), if store_lives => {
                    let astray = astray.borrow_and_update().clone();
                    self.handle(Event::Astray(astray));
                }
                () = tokio::task::yield_now(), if at_once => {}
                () = sleep_until(self.began, self.decider.next_deadline()) => {}
            }
            turns.woken(woken);
        }
    }

    /// Takes one of the news of a source, if one is there. An end is held.
    fn hear(&mut self, source: Source, sources: &mut Sources, held: &mut Option<Heard>) -> Taken {
        match source {
            Source::Places => match now_or_never(self.backends.next()) {
                Some(heard) => return self.take_heard(heard, held),
                None => return Taken::Nothing,
            },
            Source::Preparations => match sources.prepared.try_recv() {
                Ok((at, prepared)) => self.take_prepared(at, prepared),
                Err(_) => return Taken::Nothing,
            },
            Source::Datagrams => match self.next_datagram() {
                Some(datagram) => self.take_notification(datagram),
                None => return Taken::Nothing,
            },
            Source::Links => match sources.from_links.try_recv() {
                Ok(from) => self.take_from_link(from),
                Err(_) => return Taken::Nothing,
            },
        }
        Taken::News
    }

    /// A datagram that has arrived.
    fn next_datagram(&self) -> Option<Datagram> {
        self.notify.as_ref()?.try_next().ok().flatten()
    }

    /// Takes news of a backend; an end is held.
    fn take_heard(&mut self, heard: Heard, held: &mut Option<Heard>) -> Taken {
        if turn::is_end(&heard) {
            *held = Some(heard);
            return Taken::End;
        }
        self.handle(Event::Heard(heard));
        Taken::News
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
            LinkNews::Of(at, news) => {
                match news {
                    News::Reloaded => self.settle_config(at.daemon, false),
                    News::ReloadRefused { .. } => self.settle_config(at.daemon, true),
                    _ => {}
                }
                self.handle(Event::Heard(Heard::Of(at, news)));
            }
            LinkNews::Closed { link, reason } => self.backends.link_closed(link, reason),
        }
    }

    /// Once it is handled the sender of a barrier is let go: the barrier is closed.
    fn take_notification(&mut self, datagram: Datagram) {
        let Datagram { pid, notification, barrier: _barrier, .. } = datagram;
        let name = |slot| self.config(slot).map(|config| config.name.clone());
        let asks = self.decider.asks_whose(pid);
        let part_of = asks.then(|| self.backends.part_of(pid, name)).flatten();
        let ignored = notification.without_effect();
        let notice = Notice {
            ready: notification.phase == Some(Phase::Ready),
            reloading: notification.phase == Some(Phase::Reloading),
            stopping: notification.phase == Some(Phase::Stopping),
            alive: notification.watchdog == Some(Watchdog::Alive),
            extend: notification.extend_timeout,
            main_pid: notification.main_pid,
            status: notification.status,
            fdstore: notification.fdstore > 0,
            ignored,
        };
        self.handle(Event::Noticed { pid, part_of, notice });
    }

    /// Makes the notification socket again if somebody removed its file.
    fn keep_notify_socket(&mut self) {
        let Some(notify) = &mut self.notify else { return };
        match notify.ensure_present() {
            Ok(false) => self.notify_fault = None,
            Ok(true) => {
                self.notify_fault = None;
                let line = format!("{} was removed: made again", notify.path().display());
                self.journal.say(LogLevel::Warn, &line);
            }
            Err(error) => {
                let line = format!("{} can't be made again: {error}", notify.path().display());
                // It is looked at with each sample, and told once.
                if self.notify_fault.as_ref() != Some(&line) {
                    self.journal.say(LogLevel::Error, &line);
                    self.notify_fault = Some(line);
                }
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

/// Locks a fleet's state for this manager. A manager that was killed has it a moment longer, until the system
/// has taken it apart, and so has a verb that looks at the state: both are waited for, [`LOCK_TIME`] at most.
async fn lock_state(fleet: &FleetConfig, socket: &Path) -> Result<LockFile, ManagerError> {
    let path = fleet.state_dir.join(LOCK);
    let began = WallInstant::now();
    loop {
        let taken = LockFile::take(&path)
            .map_err(|source| system(&format!("cannot lock {}", path.display()), source))?;
        match taken {
            Ok(mut lock) => {
                let pid = std::process::id();
                // On a full disk the lock holds without a text.
                let _ = lock.write(&format!("manager {pid}, socket {}\n", socket.display()));
                return Ok(lock);
            }
            Err(_) if began.elapsed() < LOCK_TIME => tokio::time::sleep(LOCK_PERIOD).await,
            Err(holder) => {
                let text = format!(
                    "the state of fleet `{}` in {} is in use ({holder}): ask that manager, with its \
                     runtime directory in DUENDE_RUNTIME_DIR",
                    fleet.name,
                    fleet.state_dir.display()
                );
                return Err(ManagerError::AlreadyRunning(text));
            }
        }
    }
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

/// One draw of entropy, for the jitter of one event's decisions.
fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // Fails only before the kernel's pool is first seeded; then there is no jitter, and no harm.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}
