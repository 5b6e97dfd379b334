//! What comes before a start: the daemon's image is made, its durable state and its sources are opened, and the
//! frames that describe it to its peer are written.

use std::sync::Arc;

use duende_core::{
    restart::{Exit, Unavailable},
    wire::{
        EncodeError,
        link::{Address, Command, Description, Grants, Limits, WINDOW_MAX},
    },
};
use tokio::sync::Mutex;

use super::{
    delivery::{Cursor, Deliveries},
    feed::Feed,
    peer::{NewsSender, Outbox, Peer, Settled, encode_to},
    window::{Backlog, ChannelWindow},
};
use crate::{
    backend::Obstacle,
    config::{DaemonConfig, Isolation, Source as SourceConfig},
    image::{CachedImage, GoesOn, Images},
    source::{Source, SourceSpec},
    store::{Commit, Loaded, Store, StoreError},
};

/// The manager's standard input, as the source of a channel. It outlives the incarnations.
#[derive(Clone)]
pub(crate) struct StandardInput {
    source: Arc<Mutex<Source>>,
    backlog: Backlog,
}

impl StandardInput {
    pub(crate) fn open() -> Result<Self, String> {
        let source = Source::standard_input().map_err(|error| error.to_string())?;
        Ok(Self { source: Arc::new(Mutex::new(source)), backlog: Backlog::default() })
    }
}

enum Opened {
    Own(Box<Source>),
    Shared(StandardInput),
}

/// A daemon whose image, state and sources are at hand.
pub(crate) struct Prepared {
    pub(crate) loaded: Loaded,
    /// Of a component.
    pub(crate) image: Option<Arc<CachedImage>>,
    sources: Vec<(Arc<ChannelWindow>, Opened)>,
}

/// Makes a daemon's image, then opens its state and sources: what may take minutes comes first. `deliveries`
/// are those of its channels, in their order.
pub(crate) async fn prepare(
    (images, goes_on): (Images, GoesOn),
    store: Arc<Store>,
    config: Arc<DaemonConfig>,
    deliveries: Vec<Deliveries>,
    standard_input: Option<StandardInput>,
) -> Result<Prepared, Obstacle> {
    let image = image(&images, &config, goes_on).await?;
    let loaded = store.load(&config.name).await.map_err(|error| of_store(&error))?;
    let mut sources = Vec::new();
    let mut beginnings = Vec::new();
    for (channel, deliveries) in config.channels.iter().zip(deliveries) {
        let stored = loaded
            .positions
            .iter()
            .find(|(name, _)| *name == channel.name)
            .map(|(_, position)| Cursor::decode(position));
        let position =
            stored.as_ref().map(|cursor| &*cursor.position).filter(|position| !position.is_empty());
        let spec = match &channel.source {
            SourceConfig::Tail(tail) => SourceSpec::Tail(tail.clone()),
            SourceConfig::Interval(period) => SourceSpec::Interval { period: *period },
            SourceConfig::Stdin => {
                let input = standard_input.clone().ok_or_else(|| {
                    of_source(&channel.name, &"standard input has another reader")
                })?;
                let backlog = Some(input.backlog.clone());
                let window = ChannelWindow::new(&channel.name, deliveries, None, backlog);
                sources.push((Arc::new(window), Opened::Shared(input)));
                continue;
            }
        };
        let mut source =
            Source::open(spec, position).await.map_err(|error| of_source(&channel.name, &error))?;
        let beginning = source.position();
        if position.is_none() && !beginning.is_empty() {
            let sequence = stored.as_ref().map_or(0, |cursor| cursor.sequence);
            let beginning = Cursor { sequence, position: beginning.encode() };
            beginnings.push((channel.name.clone(), beginning.encode()));
        }
        let window = ChannelWindow::new(&channel.name, deliveries, stored, None);
        sources.push((Arc::new(window), Opened::Own(Box::new(source))));
    }
    if !beginnings.is_empty() {
        // Where a first start begins is durable like every later place: a file that is rotated
        // before the first slice commits is read all the same.
        let commit =
            Commit { daemon: config.name.clone(), positions: beginnings, ..Commit::default() };
        store.commit(commit, None).await.map_err(|error| of_store(&error))?;
    }
    Ok(Prepared { loaded, image, sources })
}

/// The image of a component. `goes_on` is told while it is made.
async fn image(
    images: &Images,
    config: &DaemonConfig,
    goes_on: GoesOn,
) -> Result<Option<Arc<CachedImage>>, Obstacle> {
    let Isolation::Wos(wos) = &config.isolation else { return Ok(None) };
    images.ready(&wos.image, goes_on).await.map(Some).map_err(|error| {
        let exit =
            if error.may_pass() { Exit::Unavailable(Unavailable::Image) } else { Exit::Refused };
        Obstacle { exit, text: error.to_string() }
    })
}

fn of_store(error: &StoreError) -> Obstacle {
    Obstacle { exit: Exit::Unavailable(Unavailable::Store), text: error.to_string() }
}

fn of_source(channel: &str, why: &dyn std::fmt::Display) -> Obstacle {
    Obstacle {
        exit: Exit::Unavailable(Unavailable::Source),
        text: format!("channel {channel}: {why}"),
    }
}

/// What only the place of a daemon knows of its description.
pub(crate) struct Described<'a> {
    /// The image; empty for a native program, which is its own.
    pub(crate) image: &'a str,
    /// What is enforced.
    pub(crate) limits: Limits,
    /// 0 (most urgent) to 7.
    pub(crate) level: u8,
}

impl Prepared {
    /// Lets the incarnation speak over a link.
    pub(crate) fn register(
        &self,
        at: Address,
        config: &DaemonConfig,
        limits: Limits,
        peer: &Peer,
    ) -> Settled {
        let windows = self.sources.iter().map(|(window, _)| window.clone()).collect();
        peer.register(at, &config.name, limits.state_bytes_max, windows)
    }

    /// The frames that describe the daemon and start it.
    ///
    /// # Errors
    /// Something of it does not fit a frame.
    pub(crate) fn description(
        &self,
        at: Address,
        config: &DaemonConfig,
        described: &Described<'_>,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut frames = Vec::new();
        let Described { image, limits, level } = *described;
        let grants = grants(config);
        let name = &config.name;
        for command in (Description { at, name, image, level, limits, grants }).commands() {
            encode_to(&command, &mut frames)?;
        }
        for (key, value) in &config.config {
            encode_to(
                &Command::ConfigEntry { at, key, value: &value.text, kind: value.kind },
                &mut frames,
            )?;
        }
        for (key, value) in &self.loaded.state {
            encode_to(&Command::StateEntry { at, key, value }, &mut frames)?;
        }
        for channel in &config.channels {
            let (name, granted, window) = (&channel.name, channel.granted, WINDOW_MAX);
            encode_to(&Command::ChannelOpen { at, name, granted, window }, &mut frames)?;
        }
        encode_to(&Command::Start { at }, &mut frames)?;
        Ok(frames)
    }

    /// Sets the feeds going.
    pub(crate) fn feed(
        self,
        at: Address,
        outbox: &Outbox,
        news: &NewsSender,
    ) -> Vec<tokio::task::AbortHandle> {
        (0_u8..)
            .zip(self.sources)
            .map(|(channel, (window, source))| {
                let (outbox, news) = (outbox.clone(), news.fork());
                let feed = Feed { at, channel, window, outbox, news };
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
