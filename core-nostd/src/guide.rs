//! A guide: from one daemon to a node, in six steps.
//!
//! This module has no code. Each step is a program that runs as a test of this crate.
//!
//! # 1. An owner and its loop
//!
//! A machine decides, its owner acts. Every owner has the same loop, whatever it owns: wait until
//! something happens or [`next_deadline`](crate::supervise::Supervisor::next_deadline) has come, tell
//! the machine, do what it answers, and tell it what came of that. This owner's processes are numbers,
//! and its clock is a variable; a manager on Linux has the same loop around `epoll`, and firmware has
//! it around `wfi`.
//!
//! ```
//! use duende_core::restart::Exit;
//! use duende_core::supervise::{Effect, Input, Slot, Spec, Supervisor};
//! use duende_core::time::Instant;
//!
//! let mut supervisor = Supervisor::new([Slot::EMPTY]);
//! let id = supervisor.add(Spec::default())?;
//! let mut inputs = std::collections::VecDeque::from([Input::Start(id)]);
//! let (mut now, mut starts) = (Instant::ZERO, 0);
//!
//! while starts < 4 {
//!     // Nothing has happened: let the time pass until something is due.
//!     let input = inputs.pop_front().unwrap_or_else(|| {
//!         now = supervisor.next_deadline().unwrap_or(now).max(now);
//!         Input::Tick
//!     });
//!     let entropy = u64::MAX; // a real owner draws a new one for each input
//!     supervisor.handle(now, entropy, input, &mut |effect| {
//!         if let Effect::Spawn { id, incarnation } = effect {
//!             starts += 1;
//!             // This program always comes up, and always crashes.
//!             inputs.push_back(Input::Ready { id, incarnation });
//!             inputs.push_back(Input::Exited { id, incarnation, exit: Exit::Signal(11) });
//!         }
//!     })?;
//! }
//! assert_eq!(now, Instant::from_ns(700_000_000)); // after 100, 200 and 400 ms of backoff
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Three things make that loop safe to get wrong. News carry the *incarnation* that they are about, so
//! what comes late is ignored. A tick that comes early does nothing. And a rule that is broken all the
//! same gives [`Effect::Halt`](crate::supervise::Effect::Halt) instead of a panic.
//!
//! # 2. Daemons that need each other
//!
//! `depends_on` gates a start on readiness, and reverses the order of a stop. A *group* says who falls
//! together: here a database and its cache, which are of no use alone. When either fails, the other is
//! stopped, and both start anew; when that happens too often, the group gives up, or its parent takes
//! over.
//!
//! ```
//! use duende_core::lifecycle::State;
//! use duende_core::restart::Exit;
//! use duende_core::supervise::{
//!     Effect, GroupSlot, GroupSpec, Input, Slot, Spec, Strategy, Supervisor,
//! };
//! use duende_core::time::Instant;
//!
//! let mut supervisor = Supervisor::with_groups([const { Slot::EMPTY }; 2], [GroupSlot::EMPTY]);
//! let spec = GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::default() };
//! let group = Some(supervisor.add_group(spec)?);
//! let database = supervisor.add(Spec { group, ..Spec::default() })?;
//! let mut cache = Spec { group, ..Spec::default() };
//! cache.depends_on.push(database).map_err(|_| "depends on too many")?;
//! let cache = supervisor.add(cache)?;
//!
//! let mut done = Vec::new();
//! let mut give = |input| supervisor.handle(Instant::ZERO, 0, input, &mut |effect| done.push(effect));
//! give(Input::StartWithDependencies(cache))?;
//! give(Input::Ready { id: database, incarnation: 1 })?;
//! give(Input::Ready { id: cache, incarnation: 1 })?;
//! give(Input::Exited { id: database, incarnation: 1, exit: Exit::Code(3) })?;
//! let asked = |effect: &Effect| matches!(effect, Effect::Terminate { id, .. } if *id == cache);
//! assert!(done.iter().any(asked));
//! assert!(matches!(supervisor.view(cache).map(|view| view.state), Some(State::Stopping(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What else a [`Spec`](crate::supervise::Spec) can say: which exits are failures
//! ([`restart`](crate::restart)), how long to wait ([`backoff`](crate::backoff)) and how often to try
//! ([`limiter`](crate::limiter)) in the manner of systemd, Kubernetes or OTP; whether it came up, works
//! and is ready ([`probe`](crate::probe)); and how long it may be silent
//! ([`watchdog`](crate::watchdog)).
//!
//! # 3. A year in a test
//!
//! Because time is an argument, a test need not wait for it. A program that crashes once a day for a
//! year is never quarantined, since each day is a stable run:
//!
//! ```
//! use core::time::Duration;
//! use duende_core::restart::Exit;
//! use duende_core::supervise::{Input, Slot, Spec, Supervisor};
//! use duende_core::time::Instant;
//!
//! const DAY: Duration = Duration::from_secs(86_400);
//! let mut supervisor = Supervisor::new([Slot::EMPTY]);
//! let id = supervisor.add(Spec::default())?;
//! let mut now = Instant::ZERO;
//! supervisor.handle(now, 0, Input::Start(id), &mut |_| {})?;
//! for incarnation in 1..=365 {
//!     supervisor.handle(now, 0, Input::Ready { id, incarnation }, &mut |_| {})?;
//!     now = now.saturating_add(DAY);
//!     let crash = Input::Exited { id, incarnation, exit: Exit::Trap };
//!     supervisor.handle(now, u64::MAX, crash, &mut |_| {})?;
//!     now = supervisor.view(id).and_then(|view| view.restart_at).ok_or("it stays down")?;
//!     supervisor.handle(now, 0, Input::Tick, &mut |_| {})?;
//!     assert_eq!(supervisor.check_invariants(), Ok(()));
//! }
//! assert_eq!(supervisor.view(id).map(|view| view.restarts), Some(365));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Call `check_invariants` after every step in your tests, as above: it looks at everything, and is
//! what this crate's own tests and its simulator do.
//!
//! # 4. Who runs, and who may send
//!
//! Inside a kernel, a daemon that is up is a *task* of the [scheduler](crate::sched), and reaches
//! others by [channels](crate::ipc), for which it needs a [capability](crate::caps). The three machines
//! know nothing of each other; their owner brings them together.
//!
//! ```
//! use duende_core::caps::{Grant, Holder, Label, LabelSlot, Lineage, Object, Refusal, Rights, Scope};
//! use duende_core::ipc::{Channel, Message, Place, Qos, Schema, Seat, Spec};
//! use duende_core::sched::{Level, Outcome, Rules, Scheduler};
//! use duende_core::time::Instant;
//! use duende_core::{caps, sched};
//!
//! let now = Instant::ZERO;
//! let mut tasks = Scheduler::new([sched::Slot::EMPTY; 2], Rules::default());
//! let (alarm, sensor) = (0, 1);
//! tasks.add(alarm, Level::MOST_URGENT)?;
//! tasks.add(sensor, Level::LEAST_URGENT)?;
//!
//! // The alarm receives, the sensor may send.
//! let schema = Schema { tag: 1, version: 1, length_bytes_max: 8 };
//! let spec = Spec { schema, overflow: Qos::LatencySensitive.overflow(), credits_max: 2 };
//! let places = [const { Place::EMPTY }; 2];
//! let mut readings = Channel::new(7, places, [const { Seat::EMPTY }; 2], spec)?;
//! let seat = readings.open(2)?;
//! let mut powers = caps::Table::new(1, [const { caps::Slot::EMPTY }; 4], [LabelSlot::EMPTY; 1]);
//! let parents = [Holder(u64::from(sensor))];
//! let holder = Lineage::new(&parents)?;
//! let may_send = powers.grant(Grant {
//!     object: Object(7),
//!     rights: Rights::WRITE,
//!     holder,
//!     expires_at: Instant::MAX,
//!     scope: Scope::Everywhere,
//!     label: Label(0),
//! })?;
//!
//! tasks.ready(sensor, now)?;
//! let pick = tasks.pick(now).ok_or("nothing to run")?;
//! assert_eq!(pick.task, sensor);
//! powers.check(now, holder, may_send, Rights::WRITE)?;
//! readings.send(now, seat, Message { tag: 1, version: 1, payload: b"21.5" })?;
//! tasks.ran(sensor, now, 1_000, Outcome::Waits)?;
//!
//! // A message wakes its receiver.
//! tasks.ready(alarm, now)?;
//! assert_eq!(tasks.pick(now).map(|pick| pick.task), Some(alarm));
//! let heard = readings.receive(now).map(|received| received.message.payload);
//! assert_eq!(heard, Some(b"21.5"));
//!
//! // What is revoked is refused from then on, whoever holds it.
//! powers.revoke(may_send)?;
//! assert_eq!(powers.check(now, holder, may_send, Rights::WRITE), Err(Refusal::Revoked));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # 5. Who is told, and what is known afterwards
//!
//! What happens is published on a [bus](crate::bus), counted in [metrics](crate::metrics), and kept in
//! a [flight recorder](crate::recorder) of which somebody reads only after an accident.
//!
//! ```
//! use duende_core::bus::{self, Bus, KernelEvent, Received};
//! use duende_core::metrics::Counter;
//! use duende_core::recorder::{self, Clip, Recorder};
//! use duende_core::time::Instant;
//!
//! let mut bus = Bus::new(0, [const { bus::Slot::EMPTY }; 8], [bus::Seat::EMPTY; 2])?;
//! let mut recorder = Recorder::new([recorder::Slot::EMPTY; 8]);
//! let mut crashes = Counter::default();
//! let console = bus.subscribe()?;
//!
//! crashes.add(1);
//! recorder.record(Instant::from_ns(42), "web crashed");
//! let told = bus.publish(KernelEvent::service_crashed("web", "signal 11")?);
//! assert_eq!(told, 1);
//! assert!(matches!(bus.receive(console)?, Some(Received::Event(KernelEvent::ServiceCrashed { .. }))));
//!
//! let mut memory = [0; 64];
//! let mut text = Clip::new(&mut memory);
//! recorder.dump(None, &mut text);
//! assert_eq!(text.as_str(), "#1 42 web crashed\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # 6. Into firmware
//!
//! Nothing above needs a heap: storage is arrays, whose size is yours. What a place costs can be asked:
//!
//! ```
//! use core::mem::size_of;
//!
//! assert!(size_of::<duende_core::supervise::Slot>() <= 1_392);
//! assert!(size_of::<duende_core::sched::Slot>() <= 32);
//! ```
//!
//! `guests/firmware` in the repository is a whole image for a Cortex-M4 with 64 KiB of flash and 16 KiB
//! of RAM: three tasks, one of which fails in four ways. It links only because no panic is reachable.
