//! Images for many who ask at once.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use tokio::{
    sync::{Notify, OnceCell},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Cache, CachedImage, Engine, ImageError,
    cache::Content,
    component::{self, FileId},
    queue::{Queue, Ticket},
};
use crate::{
    compile::{CompileError, CompileLimits, Compiler, Running},
    config::{CompileConfig, FleetConfig},
};

/// How often who waits is told that it still does.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// How images are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they are kept.
    pub cache: Cache,
    /// What each may cost.
    pub limits: CompileLimits,
    /// How many are compiled at once. Not zero.
    pub at_once: usize,
    /// For a worker of how many components: how its memories are guarded depends on that.
    pub components: u32,
    /// The executable that compiles; none: this one.
    pub program: Option<PathBuf>,
}

impl Settings {
    /// As a fleet's configuration says.
    #[must_use]
    pub fn of(fleet: &FleetConfig) -> Self {
        let refuge = Some(fleet.runtime_dir.join("images"));
        let mut settings = Self::new(&fleet.cache_dir, refuge, &fleet.compile);
        settings.components = u32::try_from(fleet.components()).unwrap_or(u32::MAX);
        settings
    }

    /// In `dir`, or in `refuge` while that can't be written.
    #[must_use]
    pub fn new(dir: &Path, refuge: Option<PathBuf>, config: &CompileConfig) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let jobs = config.jobs.and_then(|jobs| usize::try_from(jobs).ok());
        Self {
            cache: Cache::new(dir.to_owned(), refuge, config.cache_bytes),
            limits: CompileLimits {
                memory_bytes: config.memory_bytes,
                cpu: config.cpu_time,
                wall: config.timeout,
            },
            at_once: jobs.unwrap_or(processors),
            components: 1,
            program: None,
        }
    }
}

/// What is done for an image that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Others are compiled first.
    Waits {
        /// So many, as things stand.
        ahead: usize,
    },
    /// It is made for another daemon of the same file.
    Shares {
        /// For so long.
        time: Duration,
    },
    /// It is compiled.
    Compiles {
        /// The component's size.
        bytes: u64,
        /// For so long.
        time: Duration,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits { ahead: 1 } => formatter.write_str("its image waits for another one"),
            Self::Waits { ahead } => write!(formatter, "its image waits for {ahead} others"),
            Self::Shares { time } => {
                write!(formatter, "its image is made for another daemon, for {} s", time.as_secs())
            }
            Self::Compiles { bytes, time } => {
                let size = ByteSize::b(*bytes).display().iec();
                write!(formatter, "its image ({size}) is compiled, for {} s", time.as_secs())
            }
        }
    }
}

/// Who is told of it. Called from any thread.
pub type GoesOn = Arc<dyn Fn(Progress) + Send + Sync>;

type Outcome = Result<Arc<CachedImage>, Arc<ImageError>>;

/// Makes images ready. Cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    settings: Settings,
    engine: OnceCell<Engine>,
    /// What became of files, as long as they are the same.
    known: Mutex<HashMap<PathBuf, (FileId, Outcome)>>,
    /// One who looks at a file; others who want the same wait for what it finds.
    looking: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    queue: Mutex<Queue<Content>>,
    running: Running,
    /// Somebody has left the queue.
    moved: Notify,
}

impl fmt::Debug for Images {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Images").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Images {
    /// Makes them as `settings` say.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let queue = Mutex::new(Queue::new(settings.at_once.max(1)));
        Self(Arc::new(Inner {
            settings,
            engine: OnceCell::new(),
            known: Mutex::default(),
            looking: Mutex::default(),
            queue,
            running: Running::default(),
            moved: Notify::new(),
        }))
    }

    /// What the engine here is called; it is asked once.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn engine(&self) -> Result<&Engine, ImageError> {
        let ask = || async {
            let (program, components) =
                (self.0.settings.program.clone(), self.0.settings.components);
            blocking(move || Engine::ask(program.as_deref(), components)).await?
        };
        self.0.engine.get_or_try_init(ask).await
    }

    /// Nobody needs any more of them: what is being compiled is ended.
    pub fn end(&self) {
        self.0.running.end();
    }

    /// Whether nothing is being compiled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.running.is_idle()
    }

    /// Where the images lie.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        self.0.settings.cache.dirs()
    }

    /// The image of a component: from the cache, or compiled. `goes_on` is told each second, and whenever
    /// something changes, that there is no image yet.
    ///
    /// # Errors
    /// It can't be used, or not now: [`ImageError::may_pass`].
    pub async fn ready(&self, path: &Path, goes_on: GoesOn) -> Outcome {
        let engine = self.engine().await.map_err(Arc::new)?.clone();
        let looking = lock(&self.0.looking).entry(path.to_owned()).or_default().clone();
        let began = Instant::now();
        let _looks = loop {
            if looking.try_lock().is_err() {
                goes_on(Progress::Shares { time: began.elapsed() });
            }
            let looks = timeout(PROGRESS_PERIOD, looking.clone().lock_owned()).await;
            if let Ok(looks) = looks {
                break looks;
            }
        };
        let (found, content) = match self.look(path, &engine).await? {
            (Some(image), _) => (Some(image), None),
            (None, content) => (None, content),
        };
        let content = match (found, content) {
            (Some(image), _) => return Ok(image),
            (None, Some(content)) => content,
            (None, None) => {
                return Err(Arc::new(ImageError::Engine("nothing was found out".into())));
            }
        };
        let turn = self.turn(content, &goes_on).await;
        // An equal one may have been before.
        if let (Some(image), _) = self.look(path, &engine).await? {
            return Ok(image);
        }
        let (images, path) = (self.clone(), path.to_owned());
        // Goes on if nobody waits for it any more: what it makes is kept.
        let made = blocking(move || {
            let outcome = images.make(&path, &engine, &goes_on);
            drop(turn);
            outcome
        });
        made.await.map_err(Arc::new)?
    }

    /// Looks for an image that is there: in memory, then in the cache; else what is in the file.
    async fn look(
        &self,
        path: &Path,
        engine: &Engine,
    ) -> Result<(Option<Arc<CachedImage>>, Option<Content>), Arc<ImageError>> {
        let (images, path, engine) = (self.clone(), path.to_owned(), engine.name.clone());
        let looked = blocking(move || {
            let file = FileId::of(&path);
            match (file, images.known(&path)) {
                (Some(file), Some((known, Ok(image)))) if file == known && image.entry.exists() => {
                    return Ok((Some(image), None));
                }
                (Some(file), Some((known, Err(error)))) if file == known => return Err(error),
                _ => {}
            }
            let component = component::read(&path).map_err(Arc::new)?;
            let content = Content::of(&component);
            let image = images.0.settings.cache.find(&content, &engine).map(Arc::new);
            if let (Some(image), Some(file)) = (&image, file) {
                images.remember(&path, file, Ok(image.clone()));
            }
            Ok((image, Some(content)))
        });
        looked.await.map_err(Arc::new)?
    }

    /// Waits until it may be compiled.
    async fn turn(&self, content: Content, goes_on: &GoesOn) -> Turn {
        let ticket = lock(&self.0.queue).ask(content, content.bytes());
        let turn = Turn { images: self.clone(), ticket };
        loop {
            let moved = self.0.moved.notified();
            let ahead = {
                let mut queue = lock(&self.0.queue);
                if queue.has_turn(ticket) {
                    break;
                }
                queue.ahead_of(ticket)
            };
            goes_on(Progress::Waits { ahead });
            let _ = timeout(PROGRESS_PERIOD, moved).await;
        }
        // Others may have got theirs with this one.
        self.0.moved.notify_waiters();
        turn
    }

    /// Compiles and keeps it.
    fn make(&self, path: &Path, engine: &Engine, goes_on: &GoesOn) -> Outcome {
        let file = FileId::of(path);
        let outcome = self.compile(path, engine, goes_on).map(Arc::new).map_err(Arc::new);
        let is_final = outcome.as_ref().err().is_none_or(|error| !error.may_pass());
        // One that was written meanwhile is another one.
        if let Some(file) = file.filter(|file| is_final && FileId::of(path) == Some(*file)) {
            self.remember(path, file, outcome.clone());
        }
        outcome
    }

    fn compile(
        &self,
        path: &Path,
        engine: &Engine,
        goes_on: &GoesOn,
    ) -> Result<CachedImage, ImageError> {
        let settings = &self.0.settings;
        let component = component::read(path)?;
        let content = Content::of(&component);
        let bytes = content.bytes();
        let failed =
            |source: CompileError| ImageError::Compile { path: path.display().to_string(), source };
        let mut compiler = Compiler::new(&engine.profile, settings.limits, self.0.running.clone());
        if let Some(program) = &settings.program {
            compiler = compiler.by(program.clone());
        }
        goes_on(Progress::Compiles { bytes, time: Duration::ZERO });
        let (survey, code) = compiler
            .compile(&component, |time| goes_on(Progress::Compiles { bytes, time }))
            .map_err(failed)?;
        settings.cache.put(&content, &engine.name, survey, &code).map_err(|(directory, source)| {
            ImageError::Keep {
                path: path.display().to_string(),
                directory: directory.display().to_string(),
                source,
            }
        })
    }

    fn known(&self, path: &Path) -> Option<(FileId, Outcome)> {
        lock(&self.0.known).get(path).cloned()
    }

    fn remember(&self, path: &Path, file: FileId, outcome: Outcome) {
        lock(&self.0.known).insert(path.to_owned(), (file, outcome));
    }
}

/// A place in the queue, left when it is dropped.
struct Turn {
    images: Images,
    ticket: Ticket,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.images.0.queue).leave(self.ticket);
        self.images.0.moved.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what waits for files or for a process.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ImageError> {
    spawn_blocking(work).await.map_err(|error| ImageError::Engine(error.to_string()))
}
