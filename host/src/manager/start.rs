//! What comes before a start: the daemon's durable state and its sources are opened, and the frames
//! that describe it to its peer are made.

use std::sync::Arc;

use duende_core::wire::{
    EncodeError,
    link::{Address, Command, Grants, Limits},
};
use tokio::sync::Mutex;

use super::{
    feed::{Backlog, ChannelWindow, Feed},
    peer::{Outbox, PeerEvent, Session, encode_to},
};
use crate::{
    config::{DaemonConfig, Isolation, Source as SourceConfig},
    source::{Source, SourceSpec, StartAt},
    store::{Commit, Loaded, Store},
};

/// The manager's standard input, as the source of a channel. It outlives the incarnations.
#[derive(Clone)]
pub(super) struct StandardInput {
    source: Arc<Mutex<Source>>,
    backlog: Backlog,
}

impl StandardInput {
    pub(super) fn open() -> Result<Self, String> {
        let source = Source::open(SourceSpec::Stdin, None, StartAt::Beginning)
            .map_err(|error| error.to_string())?;
        Ok(Self { source: Arc::new(Mutex::new(source)), backlog: Backlog::default() })
    }
}

enum Opened {
    Own(Box<Source>),
    Shared(StandardInput),
}

/// A daemon whose state and sources are at hand.
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    sources: Vec<(Arc<ChannelWindow>, Opened)>,
}

/// Opens a daemon's state and sources.
pub(super) async fn prepare(
    store: Arc<Store>,
    config: Arc<DaemonConfig>,
    standard_input: Option<StandardInput>,
) -> Result<Prepared, String> {
    let loaded = store.load(&config.name).await.map_err(|error| error.to_string())?;
    let mut sources = Vec::new();
    let mut beginnings = Vec::new();
    for channel in &config.channels {
        let position = loaded
            .positions
            .iter()
            .find(|(name, _)| *name == channel.name)
            .map(|(_, position)| position.as_slice());
        let spec = match &channel.source {
            SourceConfig::Tail(path) => SourceSpec::Tail { path: path.clone() },
            SourceConfig::Interval(period) => SourceSpec::Interval { period: *period },
            SourceConfig::Stdin => {
                let input = standard_input.clone().ok_or_else(|| {
                    format!("channel {}: standard input has another reader", channel.name)
                })?;
                let window = ChannelWindow::new(&channel.name, Some(input.backlog.clone()));
                sources.push((Arc::new(window), Opened::Shared(input)));
                continue;
            }
        };
        let source = Source::open(spec, position, StartAt::Beginning)
            .map_err(|error| format!("channel {}: {error}", channel.name))?;
        if position.is_none()
            && let Some(beginning) = source.position()
        {
            beginnings.push((channel.name.clone(), beginning));
        }
        let window = ChannelWindow::new(&channel.name, None);
        sources.push((Arc::new(window), Opened::Own(Box::new(source))));
    }
    if !beginnings.is_empty() {
        // Where a first start begins is durable like every later place: a file that is rotated
        // before the first slice commits is read all the same.
        let commit =
            Commit { daemon: config.name.clone(), positions: beginnings, ..Commit::default() };
        store.commit(commit, None).await.map_err(|error| error.to_string())?;
    }
    Ok(Prepared { loaded, sources })
}

impl Prepared {
    /// The session that takes this incarnation's transactions.
    pub(super) fn session(&self, at: Address, config: &DaemonConfig) -> Session {
        let windows = self.sources.iter().map(|(window, _)| window.clone()).collect();
        Session::new(at, &config.name, windows)
    }

    /// The frames that describe the daemon and start it.
    ///
    /// # Errors
    /// Something of it does not fit a frame.
    pub(super) fn description(
        &self,
        at: Address,
        config: &DaemonConfig,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut frames = Vec::new();
        let (image, limits, level) = match &config.isolation {
            Isolation::Wos(wos) => (
                wos.image.to_string_lossy(),
                Limits {
                    memory_bytes_max: wos.memory_bytes_max,
                    slice_budget_ns: duration_ns(wos.slice_budget),
                    state_bytes_max: wos.state_bytes_max,
                },
                wos.priority,
            ),
            Isolation::Native(native) => (
                "".into(),
                Limits {
                    // A process has its own memory and time: these two are the kernel's to limit.
                    memory_bytes_max: u64::MAX,
                    slice_budget_ns: u64::MAX,
                    state_bytes_max: native.link.map_or(0, |link| link.state_bytes_max),
                },
                crate::config::PRIORITY,
            ),
        };
        let grants = grants(config);
        let name = &config.name;
        let create = Command::Create { at, name, image: &image, limits, level, grants };
        encode_to(&create, &mut frames)?;
        for (key, value) in &config.config {
            encode_to(&Command::ConfigEntry { at, key, value }, &mut frames)?;
        }
        for (key, value) in &self.loaded.state {
            encode_to(&Command::StateEntry { at, key, value }, &mut frames)?;
        }
        for channel in &config.channels {
            let (name, granted) = (&channel.name, channel.granted);
            encode_to(&Command::ChannelOpen { at, name, granted }, &mut frames)?;
        }
        encode_to(&Command::Start { at }, &mut frames)?;
        Ok(frames)
    }

    /// Sets the feeds going.
    pub(super) fn feed(
        self,
        at: Address,
        outbox: &Outbox,
        events: &tokio::sync::mpsc::Sender<PeerEvent>,
    ) -> Vec<tokio::task::AbortHandle> {
        (0_u8..)
            .zip(self.sources)
            .map(|(channel, (window, source))| {
                let (outbox, events) = (outbox.clone(), events.clone());
                let feed = Feed { at, channel, window, outbox, events };
                let task = match source {
                    Opened::Own(source) => tokio::spawn(feed.run(*source)),
                    Opened::Shared(input) => tokio::spawn(feed.run_shared(input.source)),
                };
                task.abort_handle()
            })
            .collect()
    }
}

fn grants(config: &DaemonConfig) -> Grants {
    let granted = [
        (config.grants.log, Grants::LOG),
        (config.grants.state, Grants::STATE),
        (config.grants.metric, Grants::METRIC),
    ];
    granted
        .into_iter()
        .filter(|(granted, _)| *granted)
        .fold(Grants::default(), |all, (_, grant)| all.union(grant))
}

fn duration_ns(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
