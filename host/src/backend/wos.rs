//! Components, in a worker that hosts WOS.
//!
//! The worker is started with the first component and again after its death. While it is being buried
//! nothing starts: what was to start is lost with it. A worker that has closed its link and lives is
//! killed after [`END_TIME`].

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use duende_core::{
    restart::StartError,
    wire::link::{Address, Command, Limits},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    Ask, Heard, LEAVE_TIMEOUT, News, Place, PlaceNews,
    native::{Links, start_error},
    worker::WorkerProcess,
};
use crate::{
    config::{self, DaemonConfig, Isolation},
    image,
    manager::link::{
        peer::{LinkId, Settled},
        prepare::{Described, Prepared},
    },
};

/// How long a worker may live after its link was closed.
const END_TIME: Duration = Duration::from_secs(2);
/// A worker that lived this long is followed by another one at once, before a component asks for it;
/// after one that dies of its own start, the next component's backoff says when.
const LIFE_MIN: Duration = Duration::from_millis(50);
/// How long the last words of a worker that has ended are waited for.
const WORDS_TIME: Duration = Duration::from_millis(100);
/// How often it is looked at.
const END_PERIOD: Duration = Duration::from_millis(5);
/// The worker's own output, in the log directory.
const WORKER_LOG: &str = "wos-worker.stderr";

/// See the module.
#[derive(Debug)]
pub(super) struct Wos {
    /// Where compiled components lie.
    images: Vec<PathBuf>,
    /// How many components the fleet has.
    components: usize,
    log: PathBuf,
    worker: Option<WorkerProcess>,
    /// One has ended, and its loss was not heard yet.
    burying: bool,
    /// When the last one was started, and whether it lived long enough.
    began: Instant,
    lived: bool,
    feeds: HashMap<Address, Vec<AbortHandle>>,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Wos {
    pub(super) fn new(fleet: &config::FleetConfig, heard: mpsc::UnboundedSender<Heard>) -> Self {
        Self {
            images: image::Settings::of(fleet).cache.dirs().to_vec(),
            components: fleet.components(),
            log: fleet.log_dir.join(WORKER_LOG),
            worker: None,
            burying: false,
            began: Instant::now(),
            lived: false,
            feeds: HashMap::new(),
            heard,
        }
    }

    fn say(&self, at: Address, news: News) {
        // The receiver lives as long as this.
        let _ = self.heard.send(Heard::Of(at, news));
    }

    pub(super) fn start(
        &mut self,
        at: Address,
        config: &DaemonConfig,
        prepared: Prepared,
        links: &mut Links<'_>,
    ) -> Option<Settled> {
        let Isolation::Wos(wos) = &config.isolation else { return None };
        if self.burying {
            return None;
        }
        if let Err(error) = self.ensure(links) {
            let reason = format!("a worker can't be started: {error}");
            self.say(at, News::StartFailed { error: start_error(&error), reason });
            return None;
        }
        let worker = self.worker.as_ref()?;
        let limits = Limits {
            memory_bytes_max: wos.memory_bytes_max,
            slice_budget_ns: u64::try_from(wos.slice_budget.as_nanos()).unwrap_or(u64::MAX),
            state_bytes_max: wos.state_bytes_max,
        };
        let entry = &prepared.image.as_ref()?.entry;
        if let Err(error) = worker.give_image(entry) {
            let reason = format!("its image can't be handed to the worker: {error}");
            self.say(at, News::StartFailed { error: StartError::NoImage, reason });
            return None;
        }
        let image = entry.to_string_lossy().into_owned();
        let described = Described { image: &image, limits, level: wos.priority };
        let frames = match prepared.description(at, config, &described) {
            Ok(frames) => frames,
            Err(error) => {
                let (error, reason) = (StartError::TooLong, error.to_string());
                self.say(at, News::StartFailed { error, reason });
                return None;
            }
        };
        let settled = prepared.register(at, config, limits, &worker.peer);
        worker.peer.outbox().send_frames(frames);
        let feeds = prepared.feed(at, worker.peer.outbox(), links.news);
        self.feeds.insert(at, feeds);
        self.say(at, News::Started { pid: None });
        Some(settled)
    }

    /// Starts a worker if none runs.
    pub(super) fn ensure(&mut self, links: &mut Links<'_>) -> std::io::Result<()> {
        if self.worker.is_none() && !self.burying {
            let (id, store) = (links.next(), links.store.clone());
            if let Some(dir) = self.images.first() {
                // It maps what lies in it; of one that comes later it gets copies.
                let _ = image::make_dir(dir);
            }
            let started = WorkerProcess::start(
                &self.images,
                self.components,
                &self.log,
                id,
                store,
                links.news,
            )?;
            self.worker = Some(started);
            self.began = Instant::now();
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, at: Address, ask: Ask, config: &DaemonConfig) {
        let Some(worker) = &self.worker else { return };
        let outbox = worker.peer.outbox();
        let command = match ask {
            Ask::Terminate { cause: _, grace } => {
                let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
                Command::Shutdown { at, grace_ns }
            }
            Ask::Kill => Command::Kill { at },
            Ask::Hold => Command::Pause { at },
            Ask::Release => Command::Resume { at },
            Ask::Probe { kind: _, token } => Command::HealthCheck { at, token },
            Ask::Sample { token } => Command::Metrics { at, token },
            Ask::Reload => {
                super::send_config(at, config, outbox);
                return;
            }
            // A component has no process.
            Ask::MainProcess { .. } | Ask::Count => return,
        };
        // A fixed-size command always fits.
        let _ = outbox.send(&command);
    }

    /// Ends a worker that hangs; what follows is its loss.
    pub(super) fn end_place(&mut self) {
        match &mut self.worker {
            Some(worker) => worker.kill(),
            None if !self.burying => {
                let how = "it was not there".to_owned();
                let lost = PlaceNews::Lost { how, open: None };
                let _ = self.heard.send(Heard::Place(Place::Wos, lost));
            }
            None => {}
        }
    }

    pub(super) fn let_go(&mut self, at: Address) {
        for feed in self.feeds.remove(&at).unwrap_or_default() {
            feed.abort();
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.worker.as_ref().map(WorkerProcess::pid)
    }

    /// A link is closed. True if it was the worker's.
    pub(super) fn link_closed(&mut self, link: LinkId, reason: Option<String>) -> bool {
        let Some(worker) = self.worker.take_if(|worker| worker.peer.id() == link) else {
            return false;
        };
        self.burying = true;
        self.lived = self.began.elapsed() >= LIFE_MIN;
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let (how, open) = bury(worker, END_TIME).await;
            let how = match reason {
                Some(reason) => format!("{how}, {reason}"),
                None => how,
            };
            let _ = heard.send(Heard::Place(Place::Wos, PlaceNews::Lost { how, open }));
        });
        true
    }

    /// Its loss was heard: another one may start, and does if the last one lived.
    pub(super) fn buried(&mut self, links: &mut Links<'_>) {
        self.burying = false;
        if self.lived {
            // A start that needs it says what is wrong.
            let _ = self.ensure(links);
        }
        for feed in self.feeds.drain().flat_map(|(_, feeds)| feeds) {
            feed.abort();
        }
    }

    /// Ends the worker, within a bounded time. False if it had to be killed.
    pub(super) async fn end(&mut self) -> bool {
        let Some(worker) = self.worker.take() else { return true };
        // It ends when its link is closed.
        !bury(worker, LEAVE_TIMEOUT).await.0.contains("signal: 9")
    }
}

/// Closes the link and reaps the worker, which is killed when its time is over. How it ended, and whose slice
/// was open.
async fn bury(mut worker: WorkerProcess, time: Duration) -> (String, Option<Address>) {
    let how = reap(&mut worker, time).await;
    (how, worker.ended_by())
}

async fn reap(worker: &mut WorkerProcess, time: Duration) -> String {
    worker.peer.close();
    let kill_at = Instant::now() + time;
    let mut killed = false;
    loop {
        match worker.try_reap() {
            Ok(Some(status)) if killed => return status,
            Ok(Some(status)) => {
                // Its last words are read when it is gone; whoever it left may hold its output open.
                let until = Instant::now() + WORDS_TIME;
                while !worker.printed().is_written() && Instant::now() < until {
                    tokio::time::sleep(END_PERIOD).await;
                }
                return match worker.printed().last_words() {
                    Some(words) => format!("{status}: {words}"),
                    None => status,
                };
            }
            Ok(None) => {}
            Err(error) => return format!("its exit status is unknown: {error}"),
        }
        if Instant::now() >= kill_at {
            if killed && Instant::now() >= kill_at + END_TIME {
                return "it can't be killed".to_owned();
            }
            worker.kill();
            killed = true;
        }
        tokio::time::sleep(END_PERIOD).await;
    }
}
