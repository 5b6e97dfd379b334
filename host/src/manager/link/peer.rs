//! The manager's end of a link: moves bytes, and hands transactions to the store.
//!
//! A link has a reader task, a writer task, and one that hands over late. The reader gives each event to
//! the link's [`Sessions`]; what they say is news goes to the manager, what they say is closed goes to
//! the store. So neither a slow manager nor a full disk makes one link wait for another:
//!
//! 1. [`NEWS_MAX`] news of one peer have a place before the manager, and the end of its link needs none.
//!    Beyond that the peer itself waits, and no other (`tests::who_has_no_place_waits_alone`).
//! 2. The reader does not wait for the store. What that has no room for stays with its session, and is
//!    handed over by a task of its own once there is room again.
//! 3. A peer that leaves more than [`OUTBOX_BYTES_MAX`] unread is sent nothing more, as what follows a
//!    gap means nothing, and its link is closed (`tests::after_a_gap_nothing_is_sent`).

use std::{
    io,
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use duende_core::wire::{
    self, Decoder, FRAME_BYTES_MAX, Hello, Message, Role,
    link::{Address, Command, Event, Usage},
};
use serde::Serialize;
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    session::{Pending, Session, Sessions, Taken},
    window::ChannelWindow,
};
use crate::{
    backend::News,
    store::{Commit, Store, Write},
};

/// Most news of one peer that wait for the manager.
pub(crate) const NEWS_MAX: usize = 64;
/// Most bytes of commands that wait for one peer: some descriptions with all the state that they may
/// have.
const OUTBOX_BYTES_MAX: usize = 256 << 20;
/// Most bytes that wait for one peer before the messages of channels wait too.
const MESSAGES_WAIT_BYTES: usize = 16 << 20;

/// What a peer, or the feed of a channel, has for the manager.
#[derive(Debug)]
pub(crate) struct FromLink {
    pub(crate) news: LinkNews,
    /// The place that it takes among the news of its peer, given back when it was heard.
    _place: Option<OwnedSemaphorePermit>,
}

/// What is heard over a link.
#[derive(Debug)]
pub(crate) enum LinkNews {
    /// Of an incarnation.
    Of(Address, News),
    /// The link is closed, or was closed because the peer broke the protocol.
    Closed { link: LinkId, reason: Option<String> },
}

/// Names a link among those of one manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// Where news of links go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct NewsSender {
    /// Bounded by the places of each peer.
    sender: mpsc::UnboundedSender<FromLink>,
    places: Arc<Semaphore>,
}

impl NewsSender {
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<FromLink>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, places: Arc::new(Semaphore::new(NEWS_MAX)) }, receiver)
    }

    /// A sender with places of its own, so that it takes none from others.
    pub(crate) fn fork(&self) -> Self {
        Self { sender: self.sender.clone(), places: Arc::new(Semaphore::new(NEWS_MAX)) }
    }

    /// Sends news once there is a place for it; false if the manager is gone.
    pub(crate) async fn send(&self, at: Address, news: News) -> bool {
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        self.sender.send(FromLink { news: LinkNews::Of(at, news), _place: place }).is_ok()
    }

    /// Sends what comes once: the end of a link, the end of a preparation.
    pub(crate) fn send_last(&self, news: LinkNews) {
        // The manager may be gone.
        let _ = self.sender.send(FromLink { news, _place: None });
    }
}

/// Who is on the far side of a link, and where their transactions go.
#[derive(Debug)]
struct Shared {
    sessions: Mutex<Sessions>,
    /// By incarnation: the daemon's name, and its channels.
    owners: Mutex<std::collections::HashMap<Address, Owner>>,
    /// Sessions that wait for room in the store.
    waiting: Mutex<Vec<Address>>,
    wake: Notify,
    settled: Notify,
    store: Arc<Store>,
    /// A link of one daemon: it speaks of its own end, and its process is what counts.
    own: bool,
    /// Nothing more is heard over it.
    closed: AtomicBool,
}

#[derive(Clone, Debug)]
struct Owner {
    daemon: String,
    channels: Vec<Arc<ChannelWindow>>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands what is pending of an incarnation to the store. The news of it: none if nothing is pending.
    ///
    /// # Errors
    /// The store has no room.
    fn hand_over(&self, at: Address) -> Result<Vec<News>, ()> {
        let Some(pending) = self.sessions().take_pending(at) else { return Ok(Vec::new()) };
        let owner = lock(&self.owners).get(&at).cloned();
        let Some(owner) = owner else { return Ok(Vec::new()) };
        let commit = commit_of(&owner, &pending);
        if self.store.try_commit(commit).is_err() {
            self.sessions().put_back(at, pending);
            return Err(());
        }
        let mut messages = 0;
        for (channel, sequence) in &pending.changes.consumed {
            if let Some(window) = owner.channels.get(usize::from(*channel)) {
                messages += window.consume(*sequence);
            }
        }
        let rejected = pending.changes.rejected.into_iter().map(|(channel, sequence, reason)| {
            let window = owner.channels.get(usize::from(channel));
            let name = window.map_or("", |window| window.name());
            News::Rejected { message: format!("message {sequence} of channel {name}"), reason }
        });
        let committed = News::Committed {
            slices: pending.slices,
            messages,
            counters: pending.changes.counters.into_iter().collect(),
            gauges: pending.changes.gauges.into_iter().collect(),
            memory_bytes: pending.memory_bytes,
        };
        Ok([committed].into_iter().chain(rejected).collect())
    }
}

fn commit_of(owner: &Owner, pending: &Pending) -> Commit {
    let changes = &pending.changes;
    let positions = changes.consumed.iter().filter_map(|(channel, sequence)| {
        let window = owner.channels.get(usize::from(*channel))?;
        Some((window.name().to_owned(), window.position_after(*sequence)?))
    });
    Commit {
        daemon: owner.daemon.clone(),
        writes: changes
            .writes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Write::Set { key: key.clone(), value: value.clone() },
                None => Write::Delete { key: key.clone() },
            })
            .collect(),
        positions: positions.collect(),
        counters: changes.counters.iter().map(|(name, delta)| (name.clone(), *delta)).collect(),
        gauges: changes.gauges.iter().map(|(name, level)| (name.clone(), *level)).collect(),
    }
}

/// What of an incarnation may still be on its way to the store.
#[derive(Debug)]
pub(crate) struct Settled {
    at: Address,
    shared: Arc<Shared>,
}

impl Settled {
    /// Waits until everything that the incarnation closed was handed to the store. Before that the next
    /// one of its daemon must not read its state.
    pub(crate) async fn wait(self) {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            settled.as_mut().enable();
            if !lock(&self.shared.waiting).contains(&self.at) {
                break;
            }
            settled.await;
        }
        lock(&self.shared.owners).remove(&self.at);
    }
}

/// The manager's end of a link.
#[derive(Debug)]
pub(crate) struct Peer {
    id: LinkId,
    outbox: Outbox,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

/// Where commands for a peer go.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Something was written.
    written: Arc<Notify>,
    overfull: Arc<Notify>,
}

impl Outbox {
    /// Waits until there is room for messages of a channel: what floods waits itself, and does not make the
    /// peer one that reads too little (`tests::messages_wait_for_their_peer`).
    pub(crate) async fn room(&self) {
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            written.as_mut().enable();
            if self.waiting_bytes.load(Ordering::Relaxed) < MESSAGES_WAIT_BYTES {
                return;
            }
            written.await;
        }
    }

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
        let before = self.waiting_bytes.fetch_add(frames.len(), Ordering::Relaxed);
        if before > OUTBOX_BYTES_MAX {
            // For good, whatever of it the peer still reads.
            self.waiting_bytes.store(usize::MAX / 2, Ordering::Relaxed);
            self.overfull.notify_one();
            return;
        }
        let _ = self.frames.send(frames);
    }
}

/// Appends a message's frame.
pub(crate) fn encode_to<M: Message + Serialize>(
    message: &M,
    out: &mut Vec<u8>,
) -> Result<(), wire::EncodeError> {
    thread_local! {
        static FRAME: std::cell::RefCell<Box<[u8]>> =
            std::cell::RefCell::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
    }
    FRAME.with_borrow_mut(|frame| {
        let bytes = wire::encode(message, frame)?;
        out.extend_from_slice(frame.get(..bytes).unwrap_or_default());
        Ok(())
    })
}

impl Peer {
    /// Takes a connected stream over. `own` says that the link is of one daemon, whose process counts.
    ///
    /// # Errors
    /// The stream cannot be registered with the runtime.
    pub(crate) fn connect(
        id: LinkId,
        own: bool,
        stream: StdUnixStream,
        store: Arc<Store>,
        news: &NewsSender,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let (frames, queue) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let written = Arc::new(Notify::new());
        let overfull = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            sessions: Mutex::default(),
            owners: Mutex::default(),
            waiting: Mutex::default(),
            wake: Notify::new(),
            settled: Notify::new(),
            store,
            own,
            closed: AtomicBool::new(false),
        });
        let news = news.fork();
        tokio::spawn(hand_over_late(shared.clone(), news.clone()));
        let reader = Reader { id, read, shared: shared.clone(), news, overfull: overfull.clone() };
        let tasks = [
            tokio::spawn(write_frames(write, queue, waiting_bytes.clone(), written.clone())),
            tokio::spawn(reader.run()),
        ];
        let outbox = Outbox { frames, waiting_bytes, written, overfull };
        let mut hello = Vec::new();
        encode_to(&Hello::of(Role::MANAGER), &mut hello).map_err(io::Error::other)?;
        outbox.send_frames(hello);
        Ok(Self { id, outbox, shared, tasks })
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Lets an incarnation speak, before its first command is sent. What is given settles once
    /// everything that it closed was handed to the store.
    pub(crate) fn register(
        &self,
        at: Address,
        daemon: &str,
        state_bytes_max: u64,
        channels: Vec<Arc<ChannelWindow>>,
    ) -> Settled {
        self.shared.sessions().register(Session::new(at, channels.len(), state_bytes_max));
        let owner = Owner { daemon: daemon.to_owned(), channels };
        lock(&self.shared.owners).insert(at, owner);
        Settled { at, shared: self.shared.clone() }
    }

    /// Closes the link; nothing more is heard over it.
    pub(crate) fn close(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.closed.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_frames(
    write: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting_bytes: Arc<AtomicUsize>,
    written: Arc<Notify>,
) {
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
        waiting_bytes.fetch_sub(frames.len(), Ordering::Relaxed);
        written.notify_waiters();
    }
}

/// Hands over what the store had no room for, when it has again. Ends once nothing waits and the link
/// is closed: what was committed outlives the link that it came over.
async fn hand_over_late(shared: Arc<Shared>, news: NewsSender) {
    loop {
        let next = lock(&shared.waiting).first().copied();
        let Some(at) = next else {
            if shared.closed.load(Ordering::Acquire) {
                return;
            }
            shared.wake.notified().await;
            continue;
        };
        if shared.store.room().await.is_err() {
            return;
        }
        let Ok(committed) = shared.hand_over(at) else { continue };
        lock(&shared.waiting).retain(|waiting| *waiting != at);
        shared.settled.notify_waiters();
        for committed in committed {
            // The manager may be gone; what was committed is not.
            news.send(at, committed).await;
        }
    }
}

struct Reader {
    id: LinkId,
    read: OwnedReadHalf,
    shared: Arc<Shared>,
    news: NewsSender,
    overfull: Arc<Notify>,
}

impl Reader {
    async fn run(self) {
        let reason = tokio::select! {
            read = self.read_all() => read.err(),
            () = self.overfull.notified() => {
                Some(format!("it leaves more than {OUTBOX_BYTES_MAX} bytes unread"))
            }
        };
        self.shared.wake.notify_one();
        self.news.send_last(LinkNews::Closed { link: self.id, reason });
    }

    async fn read_all(&self) -> Result<(), String> {
        let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX].into_boxed_slice());
        let mut is_greeted = false;
        loop {
            if !is_greeted {
                is_greeted = self.hear_hello(&mut decoder)?;
            }
            while is_greeted && let Some(heard) = self.take_next(&mut decoder).await? {
                if !heard {
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

    /// Whether the peer has said which versions it speaks. Nothing else is heard before.
    fn hear_hello(&self, decoder: &mut Decoder<Box<[u8]>>) -> Result<bool, String> {
        let taken = Hello::take(decoder).map_err(|error| error.to_string())?;
        let Some(theirs) = taken else { return Ok(false) };
        let greeted = self.shared.sessions().greet(theirs);
        greeted.map(|_| true).map_err(|violation| violation.to_string())
    }

    /// Takes what comes next, if all of it is there. False if the manager is gone.
    async fn take_next(&self, decoder: &mut Decoder<Box<[u8]>>) -> Result<Option<bool>, String> {
        if decoder.kind() != Some(Usage::KIND) {
            let event = decoder.next::<Event<'_>>().map_err(|error| error.to_string())?;
            return match event {
                Some(event) => self.take(event).await.map(Some),
                None => Ok(None),
            };
        }
        let usage = decoder.next::<Usage>().map_err(|error| error.to_string())?;
        let Some(Usage { at, processor_ns, empty_slices }) = usage else { return Ok(None) };
        self.shared.sessions().check(at).map_err(|violation| violation.to_string())?;
        let processor = Duration::from_nanos(processor_ns);
        Ok(Some(self.news.send(at, News::Used { processor, empty_slices }).await))
    }

    /// Takes one event. False if the manager is gone.
    async fn take(&self, event: Event<'_>) -> Result<bool, String> {
        let taken =
            self.shared.sessions().take(event).map_err(|violation| violation.to_string())?;
        Ok(match taken {
            Taken::Gathered => true,
            Taken::Closed(at) => match self.shared.hand_over(at) {
                Ok(committed) => {
                    let mut heard = true;
                    for news in committed {
                        heard = self.news.send(at, news).await;
                    }
                    heard
                }
                Err(()) => {
                    let mut waiting = lock(&self.shared.waiting);
                    if !waiting.contains(&at) {
                        waiting.push(at);
                    }
                    self.shared.wake.notify_one();
                    true
                }
            },
            Taken::Overfull(at) => self.news.send(at, News::Overfull).await,
            // The process ends next, and that is what counts; what it says is for people.
            Taken::News(at, News::Exited { exit: _, reason }) if self.shared.own => {
                self.news.send(at, News::Said { reason }).await
            }
            Taken::News(at, news) => self.news.send(at, news).await,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Address = Address::of(1, 1);

    fn news() -> News {
        News::Said { reason: String::new() }
    }

    #[tokio::test]
    async fn who_has_no_place_waits_alone() {
        let (sender, mut heard) = NewsSender::channel();
        let (loud, quiet) = (sender.fork(), sender.fork());
        for _ in 0..NEWS_MAX {
            assert!(loud.send(AT, news()).await);
        }
        let mut waits = std::pin::pin!(loud.send(AT, news()));
        let is_waiting = |polled: std::task::Poll<bool>| polled.is_pending();
        let first =
            std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx))).await;
        assert!(is_waiting(first));
        assert!(quiet.send(AT, news()).await);
        loud.send_last(LinkNews::Closed { link: LinkId(1), reason: None });
        // A place is free once what had it was heard.
        drop(heard.recv().await);
        assert!(waits.await);
    }

    #[tokio::test]
    async fn messages_wait_for_their_peer() {
        let (frames, mut queue) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let (written, overfull) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let outbox = Outbox { frames, waiting_bytes, written, overfull };
        outbox.room().await;
        outbox.send_frames(vec![0; MESSAGES_WAIT_BYTES]);
        let mut waits = std::pin::pin!(outbox.room());
        let is_over = |polled: std::task::Poll<()>| std::task::Poll::Ready(polled.is_ready());
        assert!(!std::future::poll_fn(|cx| is_over(waits.as_mut().poll(cx))).await);
        // The peer reads.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (_read, write) = ours.into_split();
        outbox.send_frames(vec![0; 1]);
        let writes = write_frames(
            write,
            {
                queue.close();
                queue
            },
            outbox.waiting_bytes.clone(),
            outbox.written.clone(),
        );
        let reads = async {
            let mut scratch = vec![0; 1 << 20];
            while tokio::io::AsyncReadExt::read(&mut theirs, &mut scratch).await.unwrap() > 0 {}
        };
        tokio::join!(waits, writes, reads);
        assert_eq!(outbox.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn after_a_gap_nothing_is_sent() {
        let (frames, mut queue) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let (written, overfull) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let outbox = Outbox { frames, waiting_bytes, written, overfull };
        outbox.send_frames(vec![0; OUTBOX_BYTES_MAX]);
        outbox.send_frames(vec![1]);
        outbox.send_frames(vec![2]);
        // The peer reads after all.
        for bytes in [OUTBOX_BYTES_MAX, 1] {
            assert_eq!(queue.try_recv().unwrap().len(), bytes);
            outbox.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        outbox.send_frames(vec![3]);
        assert!(queue.try_recv().is_err());
    }
}
