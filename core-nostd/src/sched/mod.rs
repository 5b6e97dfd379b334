//! Who runs next.
//!
//! A [`Scheduler`] is asked to [`pick`](Scheduler::pick) a task whenever a processor is free, and told
//! when a task gets [`ready`](Scheduler::ready) and how long it [`ran`](Scheduler::ran). It never
//! interrupts: whoever runs a task ends its turn after [`Pick::run_for_ns`], or when the task
//! [is outranked](Scheduler::is_outranked).
//!
//! 1. **Eight levels**, 0 the most urgent. A task of a more urgent level goes first; within a level
//!    tasks take turns of a quantum: 1 ms at level 0, 8 ms at level 7.
//! 2. **Aging.** A task that waits catches up by one level for each 5 ms, until it has had a turn. So
//!    each task runs within a time that can be stated: [`waiting_ns_max`].
//! 3. **A deadline class** in front of the levels, for at most [`SERVERS_MAX`] tasks: each is given a
//!    budget per period, the earliest deadline goes first, and nobody gets more than its budget. They
//!    are admitted up to three quarters of the time, so the levels keep a quarter.
//! 4. **Inheritance.** A task that holds what a more urgent one waits for runs at that one's level:
//!    [`ipc::Channel::inherited_level`](crate::ipc::Channel::inherited_level) says who does, and
//!    [`Scheduler::inherit`] makes it so.
//! 5. **What a pick costs does not depend on the number of tasks**: it looks at the heads of eight
//!    lists, and at no more than [`SERVERS_MAX`] servers, without a division.
//!
//! # A task that would starve
//!
//! A busy task of level 0 keeps one of level 7 waiting, but not for ever.
//!
//! ```
//! use duende_core::sched::{Level, Outcome, Rules, Scheduler, Slot};
//! use duende_core::time::Instant;
//!
//! let mut scheduler = Scheduler::new([Slot::EMPTY; 2], Rules::default());
//! scheduler.add(0, Level::MOST_URGENT)?;
//! scheduler.add(1, Level::LEAST_URGENT)?;
//! let mut now_ns = 0;
//! scheduler.ready(0, Instant::ZERO)?;
//! scheduler.ready(1, Instant::ZERO)?;
//! loop {
//!     let pick = scheduler.pick(Instant::from_ns(now_ns)).ok_or("nothing to run")?;
//!     if pick.task == 1 {
//!         break;
//!     }
//!     now_ns += pick.run_for_ns;
//!     scheduler.ran(pick.task, Instant::from_ns(now_ns), pick.run_for_ns, Outcome::Again)?;
//! }
//! // 5 ms for each of the seven levels between them.
//! assert_eq!(now_ns, 36_000_000);
//! assert!(now_ns <= scheduler.waiting_ns_max(Level::LEAST_URGENT));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aging;
mod deadline;
mod invariants;
mod level;
mod message;
mod queue;
mod scheduler;
mod server;
mod view;

pub use aging::waiting_ns_max;
pub use deadline::{PERIOD_NS_MIN, SERVERS_MAX, Server};
pub use level::{LEVELS, Level, quantum_ms, quantum_ns};
pub use message::{
    AGING_NS, AddError, Class, NotPicked, Outcome, Pick, Rules, ServerView, Share, TaskState,
    TaskView, UnknownTask,
};
pub use queue::Slot;
pub use scheduler::Scheduler;
pub use server::CHARGE_NS_MIN;

#[cfg(test)]
mod tests;
