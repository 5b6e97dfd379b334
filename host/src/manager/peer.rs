//! The manager's end of a link: to a worker with many daemons, or to one native daemon.
//!
//! A peer has a writer task and a reader task. The reader gathers each slice's transaction and hands
//! it to the store; only what the manager decides on, or shows, reaches the manager. So a full disk
//! holds back the peers that write, and nobody else, and the manager stays at hand.
//!
//! Invariant: events of an address are taken only while its [`Session`] is registered. A session is
//! registered before its first command is sent and removed after its last event.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duende_core::wire::{
    self, Decoder, FRAME_BYTES_MAX,
    link::{
        Address, Command, Event, HealthReport, Held, LINK_VERSION, LogLevel, Outcome, Pressure,
    },
};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
};

use super::{feed::ChannelWindow, start::Prepared};
use crate::store::{Commit, Store, Write};

/// Names a peer among those of one manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerId(pub(crate) u64);

/// What a peer, or the feed of a channel, tells the manager.
pub(crate) enum PeerEvent {
    /// The state and the sources of a daemon are open, or could not be opened.
    Prepared { at: Address, prepared: Result<Box<Prepared>, String> },
    /// `init` returned.
    Running { at: Address, pid: u32 },
    /// A line for the daemon's log.
    Log { at: Address, level: LogLevel, text: String },
    /// A slice saw the new configuration.
    Reloaded { at: Address },
    /// An answer to a health check.
    Health { at: Address, token: u64, report: Report, memory_bytes: u64 },
    /// A slice was handed to the store.
    Committed {
        at: Address,
        messages: u64,
        counters: Vec<(String, u64)>,
        gauges: Vec<(String, f64)>,
        memory_bytes: u64,
    },
    /// One of the daemon's own figures; none: there are no more.
    Figure { at: Address, token: u64, figure: Option<(String, f64)> },
    /// The incarnation is over.
    Exited { at: Address, outcome: Outcome, reason: String },
    /// The source of a channel has something to say.
    Source { at: Address, gap: bool, text: String },
    /// The source of a channel has ended, and all it gave was consumed.
    SourceDrained { at: Address },
    /// The link is closed, or was closed because the peer broke the protocol.
    Closed { peer: PeerId, reason: Option<String> },
}

/// What a health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Healthy,
    Degraded(String),
    Unhealthy(String),
    /// In a slice for this long, in nanoseconds.
    Busy(u64),
    /// Held still.
    Paused,
}

/// One incarnation on the far side of a link.
#[derive(Debug)]
pub(crate) struct Session {
    at: Address,
    daemon: String,
    channels: Vec<Arc<ChannelWindow>>,
    open: Mutex<Transaction>,
}

/// What the open slice has sent so far.
#[derive(Debug, Default)]
struct Transaction {
    commit: Commit,
    consumed: Vec<(usize, u64)>,
}

impl Session {
    pub(crate) fn new(at: Address, daemon: &str, channels: Vec<Arc<ChannelWindow>>) -> Self {
        Self { at, daemon: daemon.to_owned(), channels, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Transaction> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the open transaction to the store.
    async fn commit(&self, store: &Store, memory_bytes: u64) -> Result<PeerEvent, String> {
        let Transaction { mut commit, consumed } = std::mem::take(&mut *self.open());
        let mut messages = 0;
        for (index, sequence) in consumed {
            let channel = self.channels.get(index).ok_or("it consumed from an unknown channel")?;
            let consumed = channel.consume(sequence);
            messages += consumed.messages;
            if let Some(position) = consumed.position {
                commit.positions.push((channel.name().to_owned(), position));
            }
        }
        commit.daemon.clone_from(&self.daemon);
        let (counters, gauges) = (commit.counters.clone(), commit.gauges.clone());
        store.commit(commit, None).await.map_err(|error| error.to_string())?;
        Ok(PeerEvent::Committed { at: self.at, messages, counters, gauges, memory_bytes })
    }
}

type Sessions = Arc<Mutex<HashMap<Address, Arc<Session>>>>;

/// The manager's end of a link.
#[derive(Debug)]
pub(crate) struct Peer {
    id: PeerId,
    outbox: Outbox,
    sessions: Sessions,
    tasks: [JoinHandle<()>; 2],
}

/// Where commands for a peer go. What waits in it is bounded by the protocol: a description is
/// bounded by the configuration and the state's quota, messages by their window, questions by their
/// period.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    frames: mpsc::UnboundedSender<Vec<u8>>,
}

impl Outbox {
    /// Sends a command; a peer that is gone does not hear it, and its end is on its way.
    ///
    /// # Errors
    /// The command does not fit a frame.
    pub(crate) fn send(&self, command: &Command<'_>) -> Result<(), wire::EncodeError> {
        let mut frames = Vec::new();
        encode_to(command, &mut frames)?;
        self.send_frames(frames);
        Ok(())
    }

    /// Sends frames that were [encoded](encode_to) before.
    pub(crate) fn send_frames(&self, frames: Vec<u8>) {
        let _ = self.frames.send(frames);
    }
}

/// Appends a command's frame.
pub(crate) fn encode_to(command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), wire::EncodeError> {
    thread_local! {
        static FRAME: std::cell::RefCell<Box<[u8]>> =
            std::cell::RefCell::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
    }
    FRAME.with_borrow_mut(|frame| {
        let bytes = wire::encode(command, frame)?;
        out.extend_from_slice(frame.get(..bytes).unwrap_or_default());
        Ok(())
    })
}

impl Peer {
    /// Takes a connected stream over.
    ///
    /// # Errors
    /// The stream cannot be registered with the runtime.
    pub(crate) fn connect(
        id: PeerId,
        stream: std::os::unix::net::UnixStream,
        store: Arc<Store>,
        events: mpsc::Sender<PeerEvent>,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let (frames, queue) = mpsc::unbounded_channel();
        let sessions = Sessions::default();
        let reader = Reader { id, read, sessions: sessions.clone(), store, events };
        let tasks = [tokio::spawn(write_frames(write, queue)), tokio::spawn(reader.run())];
        Ok(Self { id, outbox: Outbox { frames }, sessions, tasks })
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn register(&self, session: Arc<Session>) {
        self.lock().insert(session.at, session);
    }

    pub(crate) fn unregister(&self, at: Address) {
        self.lock().remove(&at);
    }

    /// The incarnations that the peer runs.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn write_frames(write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frames) = queue.recv().await {
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            match write.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if write.writable().await.is_err() {
                        return;
                    }
                }
                // The peer is gone; the reader sees that too, and says it.
                Err(_) => return,
            }
        }
    }
}

struct Reader {
    id: PeerId,
    read: OwnedReadHalf,
    sessions: Sessions,
    store: Arc<Store>,
    events: mpsc::Sender<PeerEvent>,
}

impl Reader {
    async fn run(self) {
        let reason = self.read_all().await.err();
        let _ = self.events.send(PeerEvent::Closed { peer: self.id, reason }).await;
    }

    async fn read_all(&self) -> Result<(), String> {
        let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
        loop {
            while let Some(event) =
                decoder.next::<Event<'_>>().map_err(|error| error.to_string())?
            {
                let forward = self.take(event).await?;
                if let Some(event) = forward
                    && self.events.send(event).await.is_err()
                {
                    return Ok(());
                }
            }
            self.read.readable().await.map_err(|error| error.to_string())?;
            match self.read.try_read(decoder.spare()) {
                Ok(0) => return Ok(()),
                Ok(bytes) => decoder.filled(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn session(&self, at: Address) -> Option<Arc<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&at).cloned()
    }

    /// Takes one event; returns what the manager is to hear of it.
    async fn take(&self, event: Event<'_>) -> Result<Option<PeerEvent>, String> {
        let gather = |at, gather: &dyn Fn(&mut Transaction)| {
            if let Some(session) = self.session(at) {
                gather(&mut session.open());
            }
        };
        match event {
            Event::Hello { version: LINK_VERSION } => {}
            Event::Hello { version } => {
                return Err(format!(
                    "it speaks link version {version}, this manager {LINK_VERSION}: build it with \
                     the SDK of this version"
                ));
            }
            Event::StateSet { at, key, value } => gather(at, &|open| {
                open.commit
                    .writes
                    .push(Write::Set { key: key.to_owned(), value: value.to_owned() });
            }),
            Event::StateDelete { at, key } => gather(at, &|open| {
                open.commit.writes.push(Write::Delete { key: key.to_owned() });
            }),
            Event::Consumed { at, channel, sequence } => gather(at, &|open| {
                open.consumed.push((usize::from(channel), sequence));
            }),
            Event::CounterAdd { at, name, delta } => gather(at, &|open| {
                open.commit.counters.push((name.to_owned(), delta));
            }),
            Event::GaugeSet { at, name, value } => gather(at, &|open| {
                open.commit.gauges.push((name.to_owned(), value));
            }),
            Event::SliceEnd { at, slice: _, memory_bytes } => {
                if let Some(session) = self.session(at) {
                    return session.commit(&self.store, memory_bytes).await.map(Some);
                }
            }
            Event::Running { at, pid } => return Ok(Some(PeerEvent::Running { at, pid })),
            Event::Log { at, level, text } => {
                return Ok(Some(PeerEvent::Log { at, level, text: text.to_owned() }));
            }
            Event::Pressure { at, held, pressure } => {
                let held = match held {
                    Held::Memory => "memory",
                    Held::State => "state",
                };
                let (level, text) = match pressure {
                    Pressure::Calm => (LogLevel::Info, "there is room again"),
                    Pressure::Elevated => (LogLevel::Warn, "80 % of the limit are in use"),
                    Pressure::Critical => (LogLevel::Warn, "at the limit: more may be refused"),
                };
                return Ok(Some(PeerEvent::Log { at, level, text: format!("{held}: {text}") }));
            }
            Event::Health { at, token, report, memory_bytes } => {
                let report = match report {
                    HealthReport::Healthy => Report::Healthy,
                    HealthReport::Degraded(text) => Report::Degraded(text.to_owned()),
                    HealthReport::Unhealthy(text) => Report::Unhealthy(text.to_owned()),
                    HealthReport::Busy { slice_ns } => Report::Busy(slice_ns),
                    HealthReport::Paused => Report::Paused,
                };
                return Ok(Some(PeerEvent::Health { at, token, report, memory_bytes }));
            }
            Event::Sample { at, token, name, counter: _, value } => {
                let figure = Some((name.to_owned(), value));
                return Ok(Some(PeerEvent::Figure { at, token, figure }));
            }
            Event::SamplesEnd { at, token } => {
                return Ok(Some(PeerEvent::Figure { at, token, figure: None }));
            }
            Event::Reloaded { at } => return Ok(Some(PeerEvent::Reloaded { at })),
            Event::Exited { at, outcome, reason } => {
                return Ok(Some(PeerEvent::Exited { at, outcome, reason: reason.to_owned() }));
            }
        }
        Ok(None)
    }
}
