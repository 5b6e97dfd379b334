//! A daemon that is written as one `async` function.
//!
//! Rules:
//! 1. A slice polls the function until it waits for something that is not there: a message, a time, a stop.
//!    Then the slice commits, so each real wait is a commit, and what lies between two waits is one
//!    transaction (`tests::what_lies_between_two_waits_counts_once_or_not_at_all`). What answers at once
//!    ([`Handle::with`]) ends no slice. A slice takes messages once: to ask for more is to wait for the next
//!    slice, which follows at once (`tests::a_failure_takes_its_slice_back`).
//! 2. Where it stands between two waits dies with the incarnation, as fields of a [`Daemon`] do: the next
//!    one begins anew, and reads from `state` what it has to know.
//! 3. There are no threads and no wakers: whatever wakes the daemon polls the whole function. An answer that
//!    came and is dropped before it was looked at (the loser of a `select`) fails the slice: a message that
//!    it held is delivered again, and none is lost (`tests::an_answer_that_nobody_looked_at_fails_the_slice`).
//! 4. A stop ends it at its next wait, unless that is [`Handle::next`], which tells it.

use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::mem;
use core::pin::Pin;
use core::task::{self, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

use crate::context::Context;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::types::{Health, Instant, Message, Next, Wake, WakeReasons};

/// Most messages of one [`Event::Messages`].
pub const EVENT_MESSAGES_MAX: u32 = 64;

/// A daemon that is written as one `async` function.
///
/// ```
/// use core::time::Duration;
/// use duende_sdk::{Event, Failure, Handle, Level, Program, Running, testing::Manager};
///
/// struct Reporter;
///
/// impl Program for Reporter {
///     async fn main(daemon: Handle) -> Result<(), Failure> {
///         let mut lines = 0_u64;
///         daemon.set_timer("report", Duration::from_secs(60));
///         loop {
///             match daemon.next().await? {
///                 Event::Messages { messages, .. } => lines += messages.len() as u64,
///                 Event::Timer(_) => {
///                     daemon.log(Level::Info, format!("{lines} lines")).await;
///                     daemon.set_timer("report", Duration::from_secs(60));
///                 }
///                 Event::Stopping { .. } => return Ok(()),
///                 _ => {}
///             }
///         }
///     }
/// }
///
/// let mut manager = Manager::new().with_channel("lines");
/// let mut reporter = manager.start::<Running<Reporter>>().unwrap();
/// manager.send("lines", b"one");
/// manager.slice(&mut reporter).unwrap();
/// manager.advance(Duration::from_secs(60));
/// manager.slice(&mut reporter).unwrap();
/// assert_eq!(manager.take_lines()[0].1, "1 lines");
/// ```
///
/// A component says `duende_sdk::export!(program Reporter);`, a native program
/// `duende_sdk::native::run::<duende_sdk::Running<Reporter>>()`.
pub trait Program: 'static {
    /// The daemon's work, from its start to its end. What comes before the first wait belongs to the start:
    /// an error there is one of [`Daemon::init`].
    ///
    /// # Errors
    /// The slice is discarded and the incarnation ends, with this reason.
    fn main(daemon: Handle) -> impl Future<Output = Result<(), Failure>> + 'static;
}

/// What a program waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Messages of a channel, at least one and at most [`EVENT_MESSAGES_MAX`]. Channels take turns.
    Messages {
        /// Its name.
        channel: String,
        /// The oldest first.
        messages: Vec<Message>,
    },
    /// A timer that was set by this name is over. It is set no longer.
    Timer(String),
    /// The configuration is another one: read it, or [refuse](crate::Config::refuse) it.
    Reload,
    /// The daemon was paused, restored, forked or moved, and goes on.
    Resumed,
    /// Something that the daemon holds is scarce, or is no longer.
    Pressure,
    /// The daemon is asked to stop: the function has until then to return. Told once.
    Stopping {
        /// When it is killed.
        deadline: Instant,
    },
}

type Function = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;
type Job = Box<dyn FnOnce(&mut Context<'_>)>;

/// What the function and its driver share.
struct Shared {
    /// What is to be done with the context before the function is polled again.
    jobs: RefCell<VecDeque<Job>>,
    /// Reasons that [`Handle::next`] has not told yet.
    reasons: Cell<WakeReasons>,
    stop_at: Cell<Option<Instant>>,
    /// Counts the slices that polled it.
    slice: Cell<u64>,
    /// The slice that took messages last.
    took_in: Cell<Option<u64>>,
    /// Whether it wants its next slice at once.
    again: Cell<bool>,
    now: Cell<Instant>,
    timers: RefCell<BTreeMap<String, Instant>>,
    /// When it wants to be polled next, whatever happens.
    until: Cell<Option<Instant>>,
    /// Whether it waits in `next`.
    listens: Cell<bool>,
    /// Whether an answer came and was dropped.
    is_lost: Cell<bool>,
    /// The channel that was served last.
    served: RefCell<String>,
    health: RefCell<Health>,
}

/// A program's hold on the world. Clones are the same.
#[derive(Clone)]
pub struct Handle(Rc<Shared>);

/// An answer on its way; dropping it after it came fails the slice.
struct Answer<R> {
    slot: Rc<Cell<Option<R>>>,
    shared: Rc<Shared>,
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        if self.slot.take().is_some() {
            self.shared.is_lost.set(true);
        }
    }
}

impl Handle {
    /// Does something with the [`Context`], within this slice.
    ///
    /// ```
    /// # use duende_sdk::{Failure, Handle};
    /// # async fn example(daemon: Handle) -> Result<(), Failure> {
    /// let kept = daemon.with(|context| context.state().get("position")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn with<R: 'static>(&self, job: impl FnOnce(&mut Context<'_>) -> R + 'static) -> R {
        let slot = Rc::new(Cell::new(None));
        let asker: Weak<Cell<Option<R>>> = Rc::downgrade(&slot);
        let answer = Answer { slot, shared: self.0.clone() };
        self.0.jobs.borrow_mut().push_back(Box::new(move |context| {
            // Nobody wants it any more: then it is not done.
            if let Some(slot) = asker.upgrade() {
                slot.set(Some(job(context)));
            }
        }));
        poll_fn(|_| answer.slot.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Writes a line to the log. Without the grant it writes none.
    pub async fn log(&self, level: crate::Level, text: impl core::fmt::Display) {
        let text = text.to_string();
        self.with(move |context| context.log(level, text)).await;
    }

    /// When this slice was started.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Waits for this long.
    pub async fn sleep(&self, length: Duration) {
        let until = self.now() + length;
        poll_fn(|_| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            self.0.wait_until(until);
            Poll::Pending
        })
        .await;
    }

    /// Waits for messages of one channel: at least one, and at most `max`.
    ///
    /// # Errors
    /// As [`Context::receive`].
    pub async fn receive(&self, channel: &str, max: u32) -> Result<Vec<Message>, Failure> {
        let channel = channel.to_owned();
        loop {
            if self.has_taken() {
                self.another_slice(|shared| shared.again.set(true)).await;
            }
            let name = channel.clone();
            let messages = self.with(move |context| context.receive(&name, max)).await?;
            if !messages.is_empty() || max == 0 {
                self.0.took_in.set(Some(self.0.slice.get()));
                return Ok(messages);
            }
            self.another_slice(|_| {}).await;
        }
    }

    /// Waits for whatever comes next.
    ///
    /// # Errors
    /// As [`Context::receive`].
    pub async fn next(&self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.0.take_event() {
                return Ok(event);
            }
            if self.has_taken() {
                let busy = |shared: &Shared| {
                    shared.listens.set(true);
                    shared.again.set(true);
                };
                self.another_slice(busy).await;
                continue;
            }
            let served = self.0.served.borrow().clone();
            let received = self.with(move |context| receive_in_turn(context, &served)).await?;
            if let Some((channel, messages)) = received {
                self.0.served.borrow_mut().clone_from(&channel);
                self.0.took_in.set(Some(self.0.slice.get()));
                return Ok(Event::Messages { channel, messages });
            }
            self.another_slice(|shared| {
                shared.listens.set(true);
                if let Some(first) = shared.timers.borrow().values().min() {
                    shared.wait_until(*first);
                }
            })
            .await;
        }
    }

    /// Sets a timer, in the place of one of the same name: [`next`](Self::next) tells when it is over.
    pub fn set_timer(&self, name: &str, after: Duration) {
        self.0.timers.borrow_mut().insert(name.to_owned(), self.now() + after);
    }

    /// Takes a timer back; whether it was set.
    #[must_use = "it may have been over"]
    pub fn cancel_timer(&self, name: &str) -> bool {
        self.0.timers.borrow_mut().remove(name).is_some()
    }

    /// What a health check is told from now on.
    pub fn set_health(&self, health: Health) {
        *self.0.health.borrow_mut() = health;
    }

    /// Whether this slice has taken messages.
    fn has_taken(&self) -> bool {
        self.0.took_in.get() == Some(self.0.slice.get())
    }

    /// Ready in the next slice. `waiting` says, as often as the function is polled, for what.
    async fn another_slice(&self, waiting: impl Fn(&Shared)) {
        let slice = self.0.slice.get();
        poll_fn(|_| {
            if self.0.slice.get() != slice {
                return Poll::Ready(());
            }
            waiting(&self.0);
            Poll::Pending
        })
        .await;
    }
}

impl Shared {
    fn wait_until(&self, instant: Instant) {
        let until = self.until.get().map_or(instant, |until| until.min(instant));
        self.until.set(Some(until));
    }

    /// What is told before messages are.
    fn take_event(&self) -> Option<Event> {
        if let Some(deadline) = self.stop_at.take() {
            return Some(Event::Stopping { deadline });
        }
        let mut reasons = self.reasons.get();
        for (reason, event) in [
            (WakeReasons::RELOAD, Event::Reload),
            (WakeReasons::RESUMED, Event::Resumed),
            (WakeReasons::PRESSURE, Event::Pressure),
        ] {
            if reasons.contains(reason) {
                reasons.remove(reason);
                self.reasons.set(reasons);
                return Some(event);
            }
        }
        let now = self.now.get();
        let mut timers = self.timers.borrow_mut();
        let due = timers.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at);
        let name = due.map(|(name, _)| name.clone())?;
        timers.remove(&name);
        Some(Event::Timer(name))
    }
}

/// Messages of the first channel that has some, behind the one that was served last.
fn receive_in_turn(
    context: &mut Context<'_>,
    served: &str,
) -> Result<Option<(String, Vec<Message>)>, crate::types::Error> {
    let ready = context.ready();
    let next = ready.iter().find(|name| name.as_str() > served).or(ready.first());
    let Some(channel) = next.cloned() else { return Ok(None) };
    let messages = context.receive(&channel, EVENT_MESSAGES_MAX)?;
    Ok((!messages.is_empty()).then_some((channel, messages)))
}

/// A [`Program`] as a [`Daemon`].
pub struct Running<P> {
    /// None once it has returned.
    function: Option<Function>,
    shared: Rc<Shared>,
    program: PhantomData<fn() -> P>,
}

impl<P: Program> Running<P> {
    /// Polls the function until it waits for another slice.
    fn drive(&mut self, context: &mut Context<'_>) -> Result<Next, Failure> {
        let Self { function, shared, .. } = self;
        let Some(polled) = function else { return Ok(Next::done()) };
        loop {
            shared.until.set(None);
            shared.listens.set(false);
            shared.again.set(false);
            let waker = task::Context::from_waker(Waker::noop());
            let end = polled.as_mut().poll(&mut { waker });
            if shared.is_lost.get() {
                return Err(Failure::new(
                    "an answer came and was dropped before anybody looked at it: what waits in a \
                     select loses nothing if it is polled first, or is waited for alone",
                ));
            }
            if let Poll::Ready(end) = end {
                *function = None;
                end?;
                return Ok(Next::done());
            }
            let jobs = mem::take(&mut *shared.jobs.borrow_mut());
            if jobs.is_empty() {
                if shared.again.get() {
                    return Ok(Next::Again);
                }
                return Ok(shared.until.get().map_or(Next::Wait, Next::Until));
            }
            jobs.into_iter().for_each(|job| job(context));
        }
    }

    fn begin_slice(&self, now: Instant, reasons: WakeReasons) {
        self.shared.slice.set(self.shared.slice.get().wrapping_add(1));
        self.shared.now.set(now);
        self.shared.reasons.set(self.shared.reasons.get() | reasons);
    }
}

impl<P: Program> Daemon for Running<P> {
    fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
        let shared = Rc::new(Shared {
            jobs: RefCell::default(),
            reasons: Cell::default(),
            stop_at: Cell::new(None),
            slice: Cell::new(0),
            took_in: Cell::new(None),
            again: Cell::new(false),
            now: Cell::new(context.monotonic()),
            timers: RefCell::default(),
            until: Cell::new(None),
            listens: Cell::new(false),
            is_lost: Cell::new(false),
            served: RefCell::default(),
            health: RefCell::new(Health::healthy()),
        });
        let function: Function = Box::pin(P::main(Handle(shared.clone())));
        let mut running = Self { function: Some(function), shared, program: PhantomData };
        // What it waits for is asked again in its first slice, which follows at once.
        running.drive(context)?;
        Ok(running)
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        self.begin_slice(wake.now, wake.reasons);
        self.drive(context)
    }

    fn shutdown(&mut self, deadline: Instant, context: &mut Context<'_>) -> Result<Next, Failure> {
        if !self.shared.listens.get() {
            return Ok(Next::done());
        }
        self.shared.stop_at.set(Some(deadline));
        self.begin_slice(context.monotonic(), WakeReasons::empty());
        self.drive(context)
    }

    fn health_check(&self) -> Health {
        self.shared.health.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Level, testing::Manager};

    /// Counts messages in `state`, a slice for each batch, and waits a second after a message `rest`.
    struct Counter;

    impl Program for Counter {
        async fn main(daemon: Handle) -> Result<(), Failure> {
            loop {
                let messages = daemon.receive("lines", 3).await?;
                let count = u64::try_from(messages.len()).unwrap();
                let rests = messages.iter().any(|message| message.payload == b"rest");
                daemon
                    .with(move |context| {
                        let mut state = context.state();
                        let kept = state.get("count")?.unwrap_or_else(|| vec![0; 8]);
                        let total = u64::from_le_bytes(kept.try_into().unwrap()) + count;
                        state.set("count", &total.to_le_bytes())
                    })
                    .await?;
                if messages.iter().any(|message| message.payload == b"fail") {
                    return Err(Failure::new("told to"));
                }
                if rests {
                    daemon.sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn counted(manager: &Manager) -> u64 {
        manager.state("count").map_or(0, |kept| u64::from_le_bytes(kept.try_into().unwrap()))
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Send(&'static [u8]),
        Slice,
        KillInSlice,
        Restart,
        Advance,
    }

    proptest! {
        /// Whatever kills it, and wherever: what is counted and what still waits is what was sent.
        #[test]
        fn what_lies_between_two_waits_counts_once_or_not_at_all(
            steps in prop::collection::vec(
                prop_oneof![
                    4 => Just(Step::Send(b"line")),
                    1 => Just(Step::Send(b"rest")),
                    4 => Just(Step::Slice),
                    1 => Just(Step::KillInSlice),
                    1 => Just(Step::Restart),
                    1 => Just(Step::Advance),
                ],
                0..60,
            ),
        ) {
            let mut manager = Manager::new().with_channel("lines");
            let mut running = manager.start::<Running<Counter>>().unwrap();
            let mut sent = 0;
            for step in steps {
                match step {
                    Step::Send(payload) => {
                        manager.send("lines", payload);
                        sent += 1;
                    }
                    Step::Slice => drop(manager.slice(&mut running)),
                    Step::KillInSlice => {
                        manager.kill_in_slice(running);
                        running = manager.start::<Running<Counter>>().unwrap();
                    }
                    Step::Restart => running = manager.start::<Running<Counter>>().unwrap(),
                    Step::Advance => manager.advance(Duration::from_secs(2)),
                }
                let waiting = u64::try_from(manager.waiting("lines")).unwrap();
                prop_assert_eq!(counted(&manager) + waiting, sent);
            }
        }
    }

    #[test]
    fn a_failure_takes_its_slice_back() {
        let mut manager = Manager::new().with_channel("lines");
        let mut running = manager.start::<Running<Counter>>().unwrap();
        for payload in [b"line", b"line", b"line", b"line", b"fail"] {
            manager.send("lines", payload);
        }
        manager.slice(&mut running).unwrap();
        assert_eq!((counted(&manager), manager.waiting("lines")), (3, 2));
        assert!(manager.slice(&mut running).unwrap_err().to_string().contains("told to"));
        assert_eq!((counted(&manager), manager.waiting("lines")), (3, 2));
    }

    /// Says each event, and takes two more slices to stop.
    struct Teller;

    impl Program for Teller {
        async fn main(daemon: Handle) -> Result<(), Failure> {
            daemon.set_timer("late", Duration::from_secs(3));
            daemon.set_timer("early", Duration::from_secs(1));
            daemon.set_timer("never", Duration::from_secs(2));
            assert!(daemon.cancel_timer("never") && !daemon.cancel_timer("never"));
            loop {
                let event = daemon.next().await?;
                let text = match &event {
                    Event::Messages { channel, messages } => {
                        format!("{channel} {}", messages.len())
                    }
                    Event::Stopping { .. } => "stopping".to_owned(),
                    other => format!("{other:?}"),
                };
                daemon.log(Level::Info, text).await;
                if let Event::Stopping { .. } = event {
                    daemon.sleep(Duration::from_secs(1)).await;
                    daemon.log(Level::Info, "done").await;
                    return Ok(());
                }
            }
        }
    }

    #[test]
    fn events_are_told_one_by_one_and_channels_take_turns() {
        let mut manager = Manager::new().with_channel("a").with_channel("b");
        for _ in 0..100 {
            manager.send("a", b"x");
        }
        manager.send("b", b"x");
        let mut running = manager.start::<Running<Teller>>().unwrap();
        for _ in 0..6 {
            manager.slice(&mut running).unwrap();
        }
        manager.reload(&mut running).unwrap();
        manager.shutdown(running, Duration::from_secs(10)).unwrap();
        let lines = manager.take_lines();
        let lines: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(
            lines,
            [
                "a 64",
                "b 1",
                "a 36",
                "Timer(\"early\")",
                "Timer(\"late\")",
                "Reload",
                "stopping",
                "done"
            ]
        );
    }

    /// Waits for two things at once, the second first, and so drops what came for the first.
    struct Careless;

    impl Program for Careless {
        async fn main(daemon: Handle) -> Result<(), Failure> {
            let mut receive = Box::pin(daemon.receive("lines", 1));
            let mut nothing = 0;
            poll_fn(|task| {
                // It is polled until it has its answer, which nobody takes out.
                nothing += 1;
                if nothing > 1 { Poll::Ready(()) } else { receive.as_mut().poll(task).map(|_| ()) }
            })
            .await;
            drop(receive);
            daemon.sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }

    #[test]
    fn an_answer_that_nobody_looked_at_fails_the_slice() {
        let mut manager = Manager::new().with_channel("lines");
        manager.send("lines", b"one");
        let failure = manager.start::<Running<Careless>>().err().unwrap();
        assert!(failure.to_string().contains("dropped before anybody looked"), "{failure}");
        assert_eq!(manager.waiting("lines"), 1);
    }
}
